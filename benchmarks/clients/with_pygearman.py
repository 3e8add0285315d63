"""
pygearman, the maintained fork of python-gearman. Jobs are submitted together, so OUTSTANDING is the size of a set.

usage: with_pygearman.py KIND JOBS OUTSTANDING SIZE PORT, see README.md, "A client".
"""

from __future__ import annotations

import os
import sys
import time

asyncio_imported = time.perf_counter()
import gearman  # noqa: E402  # the time that this takes is a figure of w6

IMPORT_TIME = time.perf_counter() - asyncio_imported

from measured import FUNCTION, measure_blocking, read_plan  # noqa: E402

PATIENCE = 600.0  # without a poll_timeout it returns before the jobs are complete


def connect(port: int) -> gearman.GearmanClient:
    return gearman.GearmanClient([f"127.0.0.1:{port}"])


def submit(client: gearman.GearmanClient, workloads: list[bytes], **options: object) -> list:
    jobs = [{"task": FUNCTION.encode(), "data": workload} for workload in workloads]
    return client.submit_multiple_jobs(jobs, poll_timeout=PATIENCE, **options)


def run(client: gearman.GearmanClient, workloads: list[bytes], outstanding: int) -> int:
    wrong = 0
    for first in range(0, len(workloads), outstanding):
        requests = submit(client, workloads[first : first + outstanding])
        wrong += sum(request.result != request.job.data for request in requests)
    return wrong


def run_in_background(client: gearman.GearmanClient, workloads: list[bytes], outstanding: int) -> int:
    handles = set()
    for first in range(0, len(workloads), outstanding):
        requests = submit(client, workloads[first : first + outstanding], background=True, wait_until_complete=False)
        handles.update(request.job.handle for request in requests)
    return len(workloads) - len(handles)


def hold(client: gearman.GearmanClient, workloads: list[bytes]) -> int:
    held = submit(client, workloads, wait_until_complete=False)
    return sum(request.complete for request in held)


if __name__ == "__main__":
    plan = read_plan(sys.argv[1:])
    ways = {"run": run, "run_in_background": run_in_background, "hold": hold}
    measure_blocking(plan, connect, **ways, import_time=IMPORT_TIME)
    os._exit(0)
