"""
gear, whose client starts threads: the main thread submits, another one receives the results.

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

from measured import FUNCTION, measure_blocking, read_plan  # noqa: E402


class CountingClient(gear.Client):
    """Compares each result with its workload, and allows the next submission."""

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


def run_in_background(client: CountingClient, workloads: list[bytes], _: int) -> int:
    for workload in workloads:
        client.submitJob(gear.Job(FUNCTION.encode(), workload), background=True)
    return 0


def hold(client: CountingClient, workloads: list[bytes]) -> int:
    jobs = [gear.Job(FUNCTION.encode(), workload) for workload in workloads]
    for job in jobs:
        client.submitJob(job)
    return sum(job.complete for job in jobs)


if __name__ == "__main__":
    plan = read_plan(sys.argv[1:])
    ways = {"run": run, "run_in_background": run_in_background, "hold": hold}
    measure_blocking(plan, CountingClient, **ways, import_time=IMPORT_TIME)
    os._exit(0)  # its threads would keep running
