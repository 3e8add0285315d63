"""
pygearman, the fork of python-gearman that is kept up. Jobs are submitted together, so OUTSTANDING is the size of a set.

usage: with_pygearman.py KIND JOBS OUTSTANDING SIZE PORT, see README.md, "A client".
"""

from __future__ import annotations

import os
import sys
import time

asyncio_imported = time.perf_counter()
import gearman  # noqa: E402  # the time that this takes is a figure of w6

IMPORT_TIME = time.perf_counter() - asyncio_imported

from measured import FUNCTION, Measurement, Plan, make_workloads, read_plan  # noqa: E402

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


def measure_latencies(client: gearman.GearmanClient, plan: Plan, measurement: Measurement) -> None:
    latencies = []
    wrong = 0
    workloads = make_workloads(plan)
    measurement.begin()
    for workload in workloads:
        start = time.perf_counter()
        wrong += run(client, [workload], 1)
        latencies.append(time.perf_counter() - start)
    measurement.report(plan.jobs, wrong, latencies)


def main(plan: Plan) -> None:
    [port] = plan.ports
    if plan.kind == "first":
        measurement = Measurement()
        workloads = make_workloads(plan)
        measurement.begin()
        measurement.report(1, run(connect(port), workloads, 1), import_time=IMPORT_TIME)
        return
    client = connect(port)
    if plan.has_worker:
        run(client, make_workloads(plan.warm_up), plan.warm_up.outstanding)
    measurement = Measurement()
    if plan.kind == "latency":
        measure_latencies(client, plan, measurement)
        return
    workloads = make_workloads(plan)
    measurement.begin()
    if plan.kind == "background":
        wrong = run_in_background(client, workloads, plan.outstanding)
    elif plan.kind == "hold":
        held = submit(client, workloads, wait_until_complete=False)
        wrong = sum(request.complete for request in held)
    else:
        wrong = run(client, workloads, plan.outstanding)
    measurement.report(plan.jobs, wrong)


if __name__ == "__main__":
    main(read_plan(sys.argv[1:]))
    os._exit(0)
