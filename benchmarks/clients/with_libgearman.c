/*
 * libgearman, used as in its manual: tasks are added, then run together, so OUTSTANDING is the size of a set.
 *
 * usage: with_libgearman numbers|uuid KIND JOBS OUTSTANDING SIZE PORT
 *
 * It sends a unique with every job. By default it generates a UUID (`uuid`), for which libuuid looks for a daemon each
 * time; with a number for each job (`numbers`) it is as fast as possible.
 */

#include <libgearman/gearman.h>

#include "measured.h"

static struct plan plan;
static gearman_client_st *client;
static char *workloads; /* one after the other */
static size_t created, completed, wrong;
static bool numbers;

static void make_workloads(size_t count, size_t size)
{
    free(workloads);
    workloads = allocate(count * size);
    for (size_t index = 0; index < count; index++) {
        write_workload(workloads + index * size, size, index);
    }
}

static void check(const void *result, size_t size, const char *workload, size_t wanted)
{
    wrong += size != wanted || memcmp(result, workload, size) != 0;
    completed++;
}

static gearman_return_t on_complete(gearman_task_st *task)
{
    const char *workload = gearman_task_context(task);
    size_t size = completed < WARM_UP && measured.wall == 0 ? WARM_UP_SIZE : plan.size;
    check(gearman_task_data(task), gearman_task_data_size(task), workload, size);
    return GEARMAN_SUCCESS;
}

/* There is no worker for `hold`, so run_tasks never returns; the report is written when the last job has its handle. */
static gearman_return_t on_created(gearman_task_st *task)
{
    (void)task;
    if (++created == plan.count && strcmp(plan.kind, "hold") == 0) {
        report(plan.count, 0);
        exit(0);
    }
    return GEARMAN_SUCCESS;
}

/* Return the unique for a workload: the number at its start, or none. */
static const char *make_unique(char *unique, const char *workload)
{
    memcpy(unique, workload, INDEX_DIGITS);
    unique[INDEX_DIGITS] = '\0';
    return numbers ? unique : NULL;
}

static void run_set(size_t first, size_t count, size_t size, bool background)
{
    gearman_return_t state;
    char unique[INDEX_DIGITS + 1];
    for (size_t index = first; index < first + count; index++) {
        char *workload = workloads + index * size;
        gearman_task_st *task =
            (background ? gearman_client_add_task_background : gearman_client_add_task)(
                client, NULL, workload, FUNCTION, make_unique(unique, workload), workload, size, &state);
        if (task == NULL) {
            die(gearman_client_error(client));
        }
    }
    if (gearman_client_run_tasks(client) != GEARMAN_SUCCESS) {
        die(gearman_client_error(client));
    }
    gearman_client_task_free_all(client);
}

static void run(size_t count, size_t outstanding, size_t size, bool background)
{
    for (size_t first = 0; first < count; first += outstanding) {
        run_set(first, count - first < outstanding ? count - first : outstanding, size, background);
    }
}

static void run_one(size_t index)
{
    size_t size;
    gearman_return_t state;
    char unique[INDEX_DIGITS + 1];
    const char *workload = workloads + index * plan.size;
    void *result = gearman_client_do(client, FUNCTION, make_unique(unique, workload), workload, plan.size, &size, &state);
    if (state != GEARMAN_SUCCESS) {
        die(gearman_client_error(client));
    }
    check(result, size, workload, plan.size);
    free(result);
}

static void measure_latencies(void)
{
    measured.latencies = allocate(plan.count * sizeof *measured.latencies);
    begin();
    for (size_t index = 0; index < plan.count; index++) {
        double start = read_clock(CLOCK_MONOTONIC);
        run_one(index);
        measured.latencies[index] = read_clock(CLOCK_MONOTONIC) - start;
    }
}

static void connect_to(int port)
{
    client = gearman_client_create(NULL);
    if (client == NULL || gearman_client_add_server(client, "127.0.0.1", (in_port_t)port) != GEARMAN_SUCCESS) {
        die("cannot create a client");
    }
    gearman_client_set_created_fn(client, on_created);
    gearman_client_set_complete_fn(client, on_complete);
}

int main(int count, char **arguments)
{
    if (count == 2 && strcmp(arguments[1], "version") == 0) {
        puts(gearman_version());
        return 0;
    }
    numbers = count > 1 && strcmp(arguments[1], "numbers") == 0;
    plan = read_plan(count - 1, arguments + 1);
    bool background = strcmp(plan.kind, "background") == 0;
    if (strcmp(plan.kind, "first") == 0) {
        make_workloads(1, plan.size);
        begin();
        connect_to(plan.port);
        run_one(0);
        report(1, wrong);
        return 0;
    }
    connect_to(plan.port);
    if (!background && strcmp(plan.kind, "hold") != 0) {
        make_workloads(WARM_UP, WARM_UP_SIZE);
        run(WARM_UP, WARM_UP, WARM_UP_SIZE, false);
    }
    measured.base = read_memory("VmRSS");
    make_workloads(plan.count, plan.size);
    completed = created = 0;
    if (strcmp(plan.kind, "latency") == 0) {
        measure_latencies();
    } else {
        begin();
        run(plan.count, strcmp(plan.kind, "hold") == 0 ? plan.count : plan.outstanding, plan.size, background);
    }
    report(plan.count, wrong + (background ? plan.count - created : plan.count - completed));
    return 0;
}
