/*
 * The ceiling: the throughput of a job server with a client that only copies bytes to and from a socket.
 *
 * All packets are made before the measured part, and have the same length, so one multiplication gives the position
 * up to which may be sent. Results are found by their number and compared with the workload, as in every other client.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measured.h"

enum { SUBMIT_JOB = 7, JOB_CREATED = 8, WORK_COMPLETE = 13, SUBMIT_JOB_BG = 18 };
enum { HEADER = 12, READ_AT_LEAST = 256 * 1024 };

/* A run of packets of equal length, and their progress. */
struct run {
    char *packets;
    size_t count, length, size; /* of a packet, of the workload at its end */
    size_t sent;                /* bytes */
    size_t created, completed, wrong;
    bool *seen;
};

static int sock;
static char *buffer;
static size_t capacity, head, tail;

static void connect_to(int port)
{
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sock = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(sock, (struct sockaddr *)&address, sizeof address) != 0) {
        die("cannot connect");
    }
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static struct run make_run(uint32_t type, size_t count, size_t size)
{
    static const char arguments[] = FUNCTION "\0"; /* function, NUL, an empty unique, NUL */
    struct run run = {.count = count, .size = size, .length = HEADER + sizeof arguments + size};
    run.packets = allocate(count * run.length);
    run.seen = calloc(count, sizeof *run.seen);
    for (size_t index = 0; index < count; index++) {
        char *packet = run.packets + index * run.length;
        uint32_t numbers[] = {htonl(type), htonl((uint32_t)(sizeof arguments + size))};
        memcpy(packet, "\0REQ", 4);
        memcpy(packet + 4, numbers, sizeof numbers);
        memcpy(packet + HEADER, arguments, sizeof arguments);
        write_workload(packet + HEADER + sizeof arguments, size, index);
    }
    return run;
}

static void free_run(struct run *run)
{
    free(run->packets);
    free(run->seen);
}

/* Send as much as may be outstanding and the socket accepts. */
static void fill(struct run *run, size_t allowed)
{
    size_t end = (allowed < run->count ? allowed : run->count) * run->length;
    while (run->sent < end) {
        ssize_t count = send(sock, run->packets + run->sent, end - run->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count < 0) {
            if (errno != EAGAIN) {
                die("cannot send");
            }
            return;
        }
        run->sent += (size_t)count;
    }
}

static void check(struct run *run, const char *body, size_t size)
{
    char digits[INDEX_DIGITS + 1] = "";
    const char *end = memchr(body, 0, size);
    const char *data = end == NULL ? body + size : end + 1;
    bool right = (size_t)(body + size - data) == run->size && run->size >= INDEX_DIGITS;
    if (right) {
        memcpy(digits, data, INDEX_DIGITS);
        size_t index = strtoul(digits, NULL, 10);
        const char *workload = run->packets + (index + 1) * run->length - run->size;
        right = index < run->count && !run->seen[index] && memcmp(data, workload, run->size) == 0;
        if (right) {
            run->seen[index] = true;
        }
    }
    run->wrong += !right;
    run->completed++;
}

/* Take all complete packets; return the number of bytes that the last, incomplete one still lacks. */
static size_t take(struct run *run)
{
    while (tail - head >= HEADER) {
        uint32_t numbers[2];
        memcpy(numbers, buffer + head + 4, sizeof numbers);
        size_t size = ntohl(numbers[1]);
        if (tail - head < HEADER + size) {
            return HEADER + size - (tail - head);
        }
        switch (ntohl(numbers[0])) {
        case JOB_CREATED:
            run->created++;
            break;
        case WORK_COMPLETE:
            check(run, buffer + head + HEADER, size);
            break;
        default:
            die("unexpected packet");
        }
        head += HEADER + size;
    }
    return HEADER;
}

/* Receive once. An incomplete packet keeps its place, unless there is no room for the rest of it. */
static void receive(size_t missing)
{
    if (head == tail) {
        head = tail = 0;
    } else if (capacity - tail < missing + READ_AT_LEAST / 2) {
        memmove(buffer, buffer + head, tail - head);
        tail -= head;
        head = 0;
    }
    ssize_t count = recv(sock, buffer + tail, capacity - tail, 0);
    if (count <= 0) {
        die("lost the connection");
    }
    tail += (size_t)count;
}

static void provide_buffer(size_t size)
{
    free(buffer);
    capacity = 2 * READ_AT_LEAST + 2 * size;
    buffer = allocate(capacity);
    head = tail = 0;
}

/* Keep this many jobs outstanding until `*ended` has counted all. */
static void work(struct run *run, const size_t *ended, size_t outstanding)
{
    size_t missing = HEADER;
    while (*ended < run->count) {
        fill(run, *ended + outstanding);
        size_t end = run->count * run->length;
        size_t allowed = (*ended + outstanding) * run->length;
        if (run->sent < (allowed < end ? allowed : end)) { /* the socket was full */
            struct pollfd waited = {.fd = sock, .events = POLLIN | POLLOUT};
            poll(&waited, 1, -1);
            if (!(waited.revents & POLLIN)) {
                continue;
            }
        }
        receive(missing);
        missing = take(run);
    }
}

static void warm_up(void)
{
    struct run run = make_run(SUBMIT_JOB, WARM_UP, WARM_UP_SIZE);
    provide_buffer(WARM_UP_SIZE);
    work(&run, &run.completed, WARM_UP);
    free_run(&run);
}

static void measure_latencies(struct run *run)
{
    measured.latencies = allocate(run->count * sizeof *measured.latencies);
    begin();
    while (run->completed < run->count) {
        double start = read_clock(CLOCK_MONOTONIC);
        fill(run, run->completed + 1);
        for (size_t before = run->completed; run->completed == before; take(run)) {
            receive(HEADER);
        }
        measured.latencies[run->completed - 1] = read_clock(CLOCK_MONOTONIC) - start;
    }
}

int main(int count, char **arguments)
{
    struct plan plan = read_plan(count, arguments);
    bool background = strcmp(plan.kind, "background") == 0;
    bool workers = !background && strcmp(plan.kind, "hold") != 0;
    if (strcmp(plan.kind, "first") == 0) { /* connecting is part of the measurement */
        begin();
        connect_to(plan.port);
    } else {
        connect_to(plan.port);
        if (workers) {
            warm_up();
        }
    }
    measured.base = read_memory("VmRSS");
    struct run run = make_run(background ? SUBMIT_JOB_BG : SUBMIT_JOB, plan.count, plan.size);
    provide_buffer(plan.size);
    if (strcmp(plan.kind, "latency") == 0) {
        measure_latencies(&run);
    } else {
        if (strcmp(plan.kind, "first") != 0) {
            begin();
        }
        work(&run, workers ? &run.completed : &run.created, plan.outstanding);
    }
    report(plan.count, run.wrong);
    return 0;
}
