/*
 * A client of libgearman: HOST PORT FUNCTION UNIQUE foreground|background.
 *
 * The workload is standard input. What comes back is written to standard output, how far the job is to standard error.
 * Exit status 0: completed, or queued; 1: failed; 2: anything else.
 */

#include <libgearman/gearman.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMPLETED = 0, FAILED = 1, WRONG = 2 };

static char *read_all(size_t *size)
{
    size_t room = 1 << 20;
    char *data = malloc(room);
    *size = 0;
    for (size_t count; data && (count = fread(data + *size, 1, room - *size, stdin)) > 0;) {
        *size += count;
        if (*size == room) {
            data = realloc(data, room *= 2);
        }
    }
    return data;
}

static gearman_return_t write_data(gearman_task_st *task)
{
    fwrite(gearman_task_data(task), 1, gearman_task_data_size(task), stdout);
    return GEARMAN_SUCCESS;
}

static gearman_return_t write_status(gearman_task_st *task)
{
    fprintf(stderr, "%u/%u\n", gearman_task_numerator(task), gearman_task_denominator(task));
    return GEARMAN_SUCCESS;
}

static int run_in_foreground(gearman_client_st *client, const char *function, const char *unique, const char *workload,
                             size_t size)
{
    gearman_return_t state;
    gearman_client_set_data_fn(client, write_data);
    gearman_client_set_complete_fn(client, write_data);
    gearman_client_set_status_fn(client, write_status);
    gearman_task_st *task = gearman_client_add_task(client, NULL, NULL, function, unique, workload, size, &state);
    if (task == NULL || gearman_client_run_tasks(client) != GEARMAN_SUCCESS) {
        return WRONG;
    }
    switch (gearman_task_return(task)) {
    case GEARMAN_SUCCESS:
        return COMPLETED;
    case GEARMAN_WORK_FAIL:
        return FAILED;
    default:
        return WRONG;
    }
}

static int run_in_background(gearman_client_st *client, const char *function, const char *unique, const char *workload,
                             size_t size)
{
    gearman_job_handle_t handle;
    if (gearman_client_do_background(client, function, unique, workload, size, handle) != GEARMAN_SUCCESS) {
        return WRONG;
    }
    puts(handle);
    return COMPLETED;
}

int main(int count, char **arguments)
{
    if (count != 6) {
        return WRONG;
    }
    const char *function = arguments[3], *unique = arguments[4][0] ? arguments[4] : NULL;
    bool background = strcmp(arguments[5], "background") == 0;
    size_t size;
    char *workload = read_all(&size);
    gearman_client_st *client = gearman_client_create(NULL);
    int status = WRONG;
    if (workload && client && gearman_client_add_server(client, arguments[1], atoi(arguments[2])) == GEARMAN_SUCCESS) {
        const char *given = size ? workload : NULL; /* libgearman refuses the address of an empty workload */
        status = (background ? run_in_background : run_in_foreground)(client, function, unique, given, size);
        if (status == WRONG) {
            fprintf(stderr, "%s\n", gearman_client_error(client));
        }
    }
    gearman_client_free(client);
    free(workload);
    return status;
}
