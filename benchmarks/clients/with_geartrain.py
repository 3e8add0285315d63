"""
geartrain, with each of its interfaces and on both event loops.

usage: with_geartrain.py INTERFACE[:CLIENTS] asyncio|uvloop KIND JOBS OUTSTANDING SIZE PORT...

CLIENTS is the number of clients among which the jobs are divided.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import cycle
from typing import Final

asyncio_imported = time.perf_counter()
from geartrain import Client, Job, Task  # noqa: E402  # the time that this takes is a figure of w6

IMPORT_TIME: Final = time.perf_counter() - asyncio_imported

from measured import FUNCTION, Measurement, Plan, make_workloads, read_plan  # noqa: E402

DEFAULT_LIMIT: Final = 64 * 1024 * 1024  # the client's default for max_packet_size

Clients = list[Client]


async def by_do(clients: Clients, workloads: list[bytes], outstanding: int) -> int:
    """Run ``outstanding`` coroutines, each of which awaits one job after the other."""
    pairs = zip(workloads, cycle(clients), strict=False)

    async def run_jobs() -> int:
        wrong = 0
        for workload, client in pairs:
            wrong += await client.do(FUNCTION, workload) != workload
        return wrong

    return sum(await asyncio.gather(*(run_jobs() for _ in range(outstanding))))


async def by_do_with_timeout(clients: Clients, workloads: list[bytes], outstanding: int) -> int:
    """Do the same with a timeout for each job."""
    pairs = zip(workloads, cycle(clients), strict=False)

    async def run_jobs() -> int:
        wrong = 0
        for workload, client in pairs:
            wrong += await client.do(FUNCTION, workload, timeout=30) != workload
        return wrong

    return sum(await asyncio.gather(*(run_jobs() for _ in range(outstanding))))


async def by_submit(clients: Clients, workloads: list[bytes], outstanding: int) -> int:
    """Keep the jobs in a queue and await them in order."""
    wrong = 0
    jobs: deque[tuple[bytes, Job]] = deque()
    for workload, client in zip(workloads, cycle(clients), strict=False):
        if len(jobs) == outstanding:
            first, job = jobs.popleft()
            wrong += await job != first
        jobs.append((workload, client.submit(FUNCTION, workload)))
    for workload, job in jobs:
        wrong += await job != workload
    return wrong


async def by_callback(clients: Clients, workloads: list[bytes], outstanding: int) -> int:
    """Submit the next job in ``on_complete``, which does not know its job: all results are compared later."""
    results: list[bytes] = []
    ended = asyncio.get_running_loop().create_future()
    pairs = zip(workloads, cycle(clients), strict=False)

    def submit() -> None:
        for workload, client in pairs:
            client.add_task(Task(FUNCTION, workload, on_complete=on_complete, on_fail=ended.set_exception))
            return

    def on_complete(result: bytes) -> None:
        results.append(result)
        if len(results) == len(workloads):
            ended.set_result(None)
        else:
            submit()

    for _ in range(outstanding):
        submit()
    await ended
    return sum(result != workload for result, workload in zip(sorted(results), workloads, strict=True))


async def by_map(clients: Clients, workloads: list[bytes], outstanding: int) -> int:
    wrong = 0
    expected = iter(workloads)
    async for result in clients[0].map(FUNCTION, workloads, limit=outstanding):
        wrong += result != next(expected)
    return wrong


async def by_background_do(clients: Clients, workloads: list[bytes], outstanding: int) -> int:
    """Submit background jobs; the harness checks their number with the job server's status."""
    source = iter(workloads)

    async def submit_jobs() -> None:
        for workload in source:
            await clients[0].do_background(FUNCTION, workload)

    await asyncio.gather(*(submit_jobs() for _ in range(outstanding)))
    return 0


async def by_background_map(clients: Clients, workloads: list[bytes], outstanding: int) -> int:
    async for _ in clients[0].map(FUNCTION, workloads, limit=outstanding, background=True):
        pass
    return 0


Run = Callable[[Clients, list[bytes], int], Awaitable[int]]

# (interface, whether in the background) -> the function that runs the jobs and returns the number of wrong results.
INTERFACES: Final[dict[tuple[str, bool], Run]] = {
    ("do", False): by_do,
    ("timeout", False): by_do_with_timeout,
    ("submit", False): by_submit,
    ("callback", False): by_callback,
    ("map", False): by_map,
    ("do", True): by_background_do,
    ("map", True): by_background_map,
}


async def measure_run(clients: Clients, plan: Plan, run: Run, measurement: Measurement) -> None:
    workloads = make_workloads(plan)
    measurement.begin()
    wrong = await run(clients, workloads, plan.outstanding)
    measurement.report(plan.jobs, wrong)


async def measure_latencies(client: Client, plan: Plan, measurement: Measurement) -> None:
    wrong = 0
    latencies = []
    workloads = make_workloads(plan)
    measurement.begin()
    for workload in workloads:
        start = time.perf_counter()
        wrong += await client.do(FUNCTION, workload) != workload
        latencies.append(time.perf_counter() - start)
    measurement.report(plan.jobs, wrong, latencies)


async def measure_first(plan: Plan) -> None:
    measurement = Measurement()
    [workload] = make_workloads(plan)
    measurement.begin()
    async with Client([f"127.0.0.1:{plan.ports[0]}"]) as client:
        wrong = int(await client.do(FUNCTION, workload) != workload)
        measurement.report(1, wrong, import_time=IMPORT_TIME)


async def measure_held(client: Client, plan: Plan) -> None:
    """Submit jobs that get no result. The process exits without closing, which would only take time."""
    await client.ping()
    measurement = Measurement()
    workloads = make_workloads(plan)
    measurement.begin()
    jobs = [client.submit(FUNCTION, workload) for workload in workloads]
    for job in jobs:
        await job.created()
    measurement.report(plan.jobs, sum(job.done() for job in jobs))
    os._exit(0)


async def main(interface: str, number: int, plan: Plan) -> None:
    if plan.kind == "first":
        await measure_first(plan)
        return
    addresses = [f"127.0.0.1:{port}" for port in plan.ports]
    # The limit must also leave room for the handle of a result.
    clients = [Client(addresses, max_packet_size=max(DEFAULT_LIMIT, 2 * plan.size)) for _ in range(number)]
    if plan.kind == "hold":
        await measure_held(clients[0], plan)
    run = INTERFACES[interface, plan.kind == "background"]
    if plan.has_worker:
        warm_up = max(plan.warm_up.jobs, number)
        await run(clients, make_workloads(plan.warm_up._replace(jobs=warm_up)), warm_up)
    else:
        await clients[0].ping()
    measurement = Measurement()
    if plan.kind == "latency":
        await measure_latencies(clients[0], plan, measurement)
    else:
        await measure_run(clients, plan, run, measurement)
    for client in clients:
        await client.aclose()


if __name__ == "__main__":
    shape, loop, *rest = sys.argv[1:]
    interface, _, number = shape.partition(":")
    if loop == "uvloop":
        import uvloop

        uvloop.run(main(interface, int(number or 1), read_plan(rest)))
    else:
        asyncio.run(main(interface, int(number or 1), read_plan(rest)))
