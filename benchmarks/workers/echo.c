/*
 * The worker for all clients: it returns the workload of each job of the function `echo`.
 *
 * usage: echo PORT...; it grabs several jobs at once if there are many, so that it does not slow down the contestant, and
 * one at a time otherwise.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FUNCTION "echo"

enum { CAN_DO = 1, PRE_SLEEP = 4, NOOP = 6, NO_JOB = 10, WORK_COMPLETE = 13 };
/* gear's server does not support GRAB_JOB. */
enum { GRAB_JOB_UNIQ = 30, JOB_ASSIGN_UNIQ = 31 };
enum { HEADER = 12, READ_AT_LEAST = 256 * 1024, MOST_GRABS = 256, PATIENCE = 2 };

struct bytes {
    char *start;
    size_t head, tail, capacity;
};

struct link {
    int sock;
    struct bytes in, out;
    int grabs;    /* without a reply yet */
    int window;   /* the maximum of grabs */
    int streak;   /* times in a row that jobs arrived without a NO_JOB */
    bool refused; /* NO_JOB has arrived: grab no more, and sleep when all grabs have a reply */
    bool asleep;
};

static void die(const char *what)
{
    fprintf(stderr, "echo worker: %s\n", what);
    exit(1);
}

/* Make room after the bytes, by moving them to the start or enlarging the buffer. */
static void reserve(struct bytes *bytes, size_t room)
{
    if (bytes->head == bytes->tail) {
        bytes->head = bytes->tail = 0;
    }
    if (bytes->capacity - bytes->tail >= room) {
        return;
    }
    memmove(bytes->start, bytes->start + bytes->head, bytes->tail - bytes->head);
    bytes->tail -= bytes->head;
    bytes->head = 0;
    if (bytes->capacity - bytes->tail < room) {
        bytes->capacity = bytes->tail + room + READ_AT_LEAST;
        bytes->start = realloc(bytes->start, bytes->capacity);
        if (bytes->start == NULL) {
            die("out of memory");
        }
    }
}

static void put(struct link *link, uint32_t type, const char *body, size_t size)
{
    uint32_t numbers[] = {htonl(type), htonl((uint32_t)size)};
    reserve(&link->out, HEADER + size);
    char *packet = link->out.start + link->out.tail;
    memcpy(packet, "\0REQ", 4);
    memcpy(packet + 4, numbers, sizeof numbers);
    if (size > 0) {
        memcpy(packet + HEADER, body, size);
    }
    link->out.tail += HEADER + size;
}

/* JOB_ASSIGN_UNIQ is handle NUL function NUL unique NUL workload. */
static void run_job(struct link *link, char *body, size_t size)
{
    size_t handle = strlen(body) + 1;
    size_t skipped = sizeof FUNCTION + strlen(body + handle + sizeof FUNCTION) + 1;
    char *result = body + skipped;
    memmove(result, body, handle); /* directly before the workload, so that both are one body, copied once */
    put(link, WORK_COMPLETE, result, size - skipped);
}

static void handle(struct link *link, uint32_t type, char *body, size_t size)
{
    switch (type) {
    case JOB_ASSIGN_UNIQ:
        run_job(link, body, size);
        link->grabs--;
        break;
    case NO_JOB:
        link->refused = true;
        link->grabs--;
        break;
    case NOOP:
        link->asleep = false;
        break;
    default:
        die("unexpected packet");
    }
}

static void grab_or_sleep(struct link *link)
{
    if (link->asleep) {
        return;
    }
    if (link->refused) {
        link->window = 1;
        link->streak = 0;
        if (link->grabs == 0) {
            put(link, PRE_SLEEP, NULL, 0);
            link->asleep = true;
            link->refused = false;
        }
        return;
    }
    if (++link->streak > PATIENCE && link->window < MOST_GRABS) {
        link->window *= 2;
    }
    for (; link->grabs < link->window; link->grabs++) {
        put(link, GRAB_JOB_UNIQ, NULL, 0);
    }
}

static void take(struct link *link)
{
    struct bytes *in = &link->in;
    bool any = false;
    while (in->tail - in->head >= HEADER) {
        uint32_t numbers[2];
        memcpy(numbers, in->start + in->head + 4, sizeof numbers);
        size_t size = ntohl(numbers[1]);
        if (in->tail - in->head < HEADER + size) {
            reserve(in, HEADER + size - (in->tail - in->head));
            break;
        }
        handle(link, ntohl(numbers[0]), in->start + in->head + HEADER, size);
        in->head += HEADER + size;
        any = true;
    }
    if (any) {
        grab_or_sleep(link);
    }
}

static void receive(struct link *link)
{
    reserve(&link->in, READ_AT_LEAST);
    ssize_t count = recv(link->sock, link->in.start + link->in.tail, link->in.capacity - link->in.tail, MSG_DONTWAIT);
    if (count == 0) {
        exit(0); /* the job server has closed the connection */
    }
    if (count < 0 && errno != EAGAIN) {
        die("cannot receive");
    }
    if (count > 0) {
        link->in.tail += (size_t)count;
        take(link);
    }
}

static void flush(struct link *link)
{
    struct bytes *out = &link->out;
    while (out->head < out->tail) {
        ssize_t count = send(link->sock, out->start + out->head, out->tail - out->head, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count < 0) {
            if (errno != EAGAIN) {
                die("cannot send");
            }
            return;
        }
        out->head += (size_t)count;
    }
}

static struct link connect_to(int port)
{
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct link link = {.sock = socket(AF_INET, SOCK_STREAM, 0), .window = 1};
    if (connect(link.sock, (struct sockaddr *)&address, sizeof address) != 0) {
        die("cannot connect");
    }
    setsockopt(link.sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    put(&link, CAN_DO, FUNCTION, strlen(FUNCTION));
    grab_or_sleep(&link);
    flush(&link);
    return link;
}

int main(int count, char **arguments)
{
    nfds_t servers = (nfds_t)(count - 1);
    struct link *links = calloc(servers, sizeof *links);
    struct pollfd *waited = calloc(servers, sizeof *waited);
    if (servers == 0 || links == NULL || waited == NULL) {
        die("usage: echo PORT...");
    }
    for (nfds_t index = 0; index < servers; index++) {
        links[index] = connect_to(atoi(arguments[index + 1]));
    }
    for (;;) {
        for (nfds_t index = 0; index < servers; index++) {
            bool full = links[index].out.head < links[index].out.tail;
            waited[index] = (struct pollfd){.fd = links[index].sock, .events = full ? POLLIN | POLLOUT : POLLIN};
        }
        poll(waited, servers, -1);
        for (nfds_t index = 0; index < servers; index++) {
            if (waited[index].revents & ~POLLOUT) {
                receive(&links[index]);
            }
            flush(&links[index]);
        }
    }
}
