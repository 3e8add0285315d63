/* libgearman's worker, which returns each job's workload. usage: with_libgearman_worker PORT */

#include <libgearman/gearman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *echo(gearman_job_st *job, void *context, size_t *size, gearman_return_t *state)
{
    (void)context;
    *size = gearman_job_workload_size(job);
    *state = GEARMAN_SUCCESS;
    void *result = malloc(*size ? *size : 1);
    return result ? memcpy(result, gearman_job_workload(job), *size) : NULL;
}

int main(int count, char **arguments)
{
    gearman_worker_st *worker = gearman_worker_create(NULL);
    if (count != 2 || worker == NULL) {
        return 2;
    }
    gearman_worker_add_server(worker, "127.0.0.1", (in_port_t)atoi(arguments[1]));
    gearman_worker_add_function(worker, "echo", 0, echo, NULL);
    while (gearman_worker_work(worker) == GEARMAN_SUCCESS) {
    }
    fprintf(stderr, "%s\n", gearman_worker_error(worker));
    return 1;
}
