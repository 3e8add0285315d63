/*
 * Shared by the clients in C: the command line, the workloads, the clocks and the report.
 *
 * usage: CLIENT KIND JOBS OUTSTANDING SIZE PORT, see README.md, "A client".
 */

#ifndef MEASURED_H
#define MEASURED_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FUNCTION "echo"
#define WARM_UP 1000 /* jobs before the measured part */
#define WARM_UP_SIZE 100
#define INDEX_DIGITS 16

struct plan {
    const char *kind;
    size_t count, outstanding, size;
    int port;
};

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void *allocate(size_t size)
{
    void *memory = malloc(size ? size : 1);
    if (memory == NULL) {
        die("out of memory");
    }
    return memory;
}

static struct plan read_plan(int count, char **arguments)
{
    if (count != 6) {
        die("usage: CLIENT KIND JOBS OUTSTANDING SIZE PORT");
    }
    return (struct plan){arguments[1], strtoul(arguments[2], NULL, 10), strtoul(arguments[3], NULL, 10),
                         strtoul(arguments[4], NULL, 10), atoi(arguments[5])};
}

/* Each workload begins with its number, so that a result of the wrong job is detected. */
static void write_workload(char *workload, size_t size, size_t index)
{
    char digits[32];
    memset(workload, '.', size);
    snprintf(digits, sizeof digits, "%0*zu", INDEX_DIGITS, index);
    memcpy(workload, digits, size < INDEX_DIGITS ? size : INDEX_DIGITS);
}

static double read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Return a value of /proc/self/status in bytes: VmRSS is the resident size, VmHWM its maximum so far. */
static long read_memory(const char *name)
{
    char line[256];
    long kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            kib = strtol(line + strlen(name) + 1, NULL, 10);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return kib * 1024;
}

static struct {
    long base, before;
    double wall, cpu;
    double *latencies; /* seconds, one for each job, or NULL */
} measured;

/* Wait for the harness, which reads the job server's clock first, and begin the measured part. */
static void begin(void)
{
    char line[16];
    measured.before = read_memory("VmRSS");
    puts("ready");
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL) {
        die("standard input was closed");
    }
    measured.wall = read_clock(CLOCK_MONOTONIC);
    measured.cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

static void report(size_t jobs, size_t wrong)
{
    double cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID) - measured.cpu;
    double wall = read_clock(CLOCK_MONOTONIC) - measured.wall;
    printf("{\"jobs\": %zu, \"wrong\": %zu, \"wall\": %.9f, \"cpu\": %.9f, ", jobs, wrong, wall, cpu);
    printf("\"memory\": {\"base\": %ld, \"before\": %ld, \"after\": %ld, \"peak\": %ld}, \"latencies\": [", measured.base,
           measured.before, read_memory("VmRSS"), read_memory("VmHWM"));
    for (size_t index = 0; measured.latencies != NULL && index < jobs; index++) {
        printf("%s%.9f", index ? ", " : "", measured.latencies[index]);
    }
    puts("]}");
}

#endif
