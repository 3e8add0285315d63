"""
gear, whose client has threads of its own: this one submits, another one takes the answers.

usage: with_gear.py KIND JOBS OUTSTANDING SIZE PORT, see README.md, "A client".
"""

from __future__ import annotations

import os
import sys
import threading
import time

asyncio_imported = time.perf_counter()
import gear  # noqa: E402  # the time that this takes is a figure of w6

IMPORT_TIME = time.perf_counter() - asyncio_imported

from measured import FUNCTION, Measurement, Plan, make_workloads, read_plan  # noqa: E402


class CountingClient(gear.Client):
    """Compares each answer, and lets the next job be submitted."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.free = threading.Semaphore(0)
        self.wrong = 0
        self.addServer("127.0.0.1", port)
        self.waitForServer()

    def handleWorkComplete(self, packet):  # noqa: N802
        job = super().handleWorkComplete(packet)
        self.wrong += b"".join(job.data) != job.arguments
        self.free.release()
        return job


def run(client: CountingClient, workloads: list[bytes], outstanding: int) -> int:
    client.wrong = 0
    for index, workload in enumerate(workloads):
        if index >= outstanding:
            client.free.acquire()
        client.submitJob(gear.Job(FUNCTION.encode(), workload))
    for _ in range(min(outstanding, len(workloads))):
        client.free.acquire()
    return client.wrong


def run_in_background(client: CountingClient, workloads: list[bytes]) -> int:
    for workload in workloads:
        client.submitJob(gear.Job(FUNCTION.encode(), workload), background=True)
    return 0


def measure_latencies(client: CountingClient, plan: Plan, measurement: Measurement) -> None:
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
        measurement.report(1, run(CountingClient(port), workloads, 1), import_time=IMPORT_TIME)
        return
    client = CountingClient(port)
    if plan.has_worker:
        run(client, make_workloads(plan.warm_up), plan.warm_up.outstanding)
    measurement = Measurement()
    if plan.kind == "latency":
        measure_latencies(client, plan, measurement)
        return
    workloads = make_workloads(plan)
    measurement.begin()
    if plan.kind == "background":
        wrong = run_in_background(client, workloads)
    elif plan.kind == "hold":
        jobs = [gear.Job(FUNCTION.encode(), workload) for workload in workloads]
        for job in jobs:
            client.submitJob(job)
        wrong = sum(job.complete for job in jobs)
    else:
        wrong = run(client, workloads, plan.outstanding)
    measurement.report(plan.jobs, wrong)


if __name__ == "__main__":
    main(read_plan(sys.argv[1:]))
    os._exit(0)  # its threads would go on
