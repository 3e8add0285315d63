/* A worker of libgearman: HOST PORT UPPER PROGRESS PARTS, the last three being names for its functions. */

#include <ctype.h>
#include <libgearman/gearman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *upper(gearman_job_st *job, void *context, size_t *size, gearman_return_t *state)
{
    (void)context;
    const unsigned char *workload = gearman_job_workload(job);
    *size = gearman_job_workload_size(job);
    if (*size >= 4 && memcmp(workload, "fail", 4) == 0) {
        *state = GEARMAN_WORK_FAIL;
        return NULL;
    }
    unsigned char *result = malloc(*size ? *size : 1);
    for (size_t index = 0; index < *size; index++) {
        result[index] = (unsigned char)toupper(workload[index]); /* in the C locale: of letters of ASCII only */
    }
    *state = GEARMAN_SUCCESS;
    return result;
}

static void *progress(gearman_job_st *job, void *context, size_t *size, gearman_return_t *state)
{
    (void)context;
    *state = gearman_job_send_status(job, 1, 2);
    *size = strlen("done");
    return strdup("done");
}

static void *parts(gearman_job_st *job, void *context, size_t *size, gearman_return_t *state)
{
    (void)context;
    *state = gearman_job_send_data(job, "one ", strlen("one "));
    *size = strlen("two");
    return strdup("two");
}

int main(int count, char **arguments)
{
    gearman_worker_st *worker = gearman_worker_create(NULL);
    if (count != 6 || worker == NULL) {
        return 2;
    }
    gearman_worker_add_server(worker, arguments[1], atoi(arguments[2]));
    gearman_worker_add_function(worker, arguments[3], 0, upper, NULL);
    gearman_worker_add_function(worker, arguments[4], 0, progress, NULL);
    gearman_worker_add_function(worker, arguments[5], 0, parts, NULL);
    gearman_return_t state;
    do {
        state = gearman_worker_work(worker);
    } while (state == GEARMAN_SUCCESS || state == GEARMAN_WORK_FAIL);
    fprintf(stderr, "%s\n", gearman_worker_error(worker));
    return 1;
}
