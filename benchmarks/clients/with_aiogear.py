"""
aiogear, on asyncio: OUTSTANDING coroutines, each of which awaits one job after the other.

usage: with_aiogear.py KIND JOBS OUTSTANDING SIZE PORT, see README.md, "A client".
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

asyncio_imported = time.perf_counter()
import aiogear  # noqa: E402  # the time that this takes is a figure of w6

IMPORT_TIME = time.perf_counter() - asyncio_imported

from measured import FUNCTION, Measurement, Plan, make_workloads, read_plan  # noqa: E402


async def connect(port: int) -> aiogear.Client:
    _, client = await asyncio.get_running_loop().create_connection(aiogear.Client, "127.0.0.1", port)
    return client


async def do(client: aiogear.Client, workload: bytes) -> int:
    """Return 1 if the result is wrong. aiogear decodes results as UTF-8."""
    created = await client.submit_job(FUNCTION, workload)
    completed = await client.wait_job(created.handle)
    return int(completed.handle != created.handle or completed.result.encode() != workload)


async def run(client: aiogear.Client, workloads: list[bytes], outstanding: int) -> int:
    source = iter(workloads)

    async def run_jobs() -> int:
        return sum([await do(client, workload) for workload in source])

    return sum(await asyncio.gather(*(run_jobs() for _ in range(outstanding))))


async def run_in_background(client: aiogear.Client, workloads: list[bytes], outstanding: int) -> int:
    source = iter(workloads)

    async def submit_jobs() -> list[str]:
        return [(await client.submit_job_bg(FUNCTION, workload)).handle for workload in source]

    found = await asyncio.gather(*(submit_jobs() for _ in range(outstanding)))
    return len(workloads) - len({handle for handles in found for handle in handles})


async def measure_latencies(client: aiogear.Client, plan: Plan, measurement: Measurement) -> None:
    latencies = []
    wrong = 0
    workloads = make_workloads(plan)
    measurement.begin()
    for workload in workloads:
        start = time.perf_counter()
        wrong += await do(client, workload)
        latencies.append(time.perf_counter() - start)
    measurement.report(plan.jobs, wrong, latencies)


async def main(plan: Plan) -> None:
    [port] = plan.ports
    if plan.kind == "first":
        measurement = Measurement()
        [workload] = make_workloads(plan)
        measurement.begin()
        measurement.report(1, await do(await connect(port), workload), import_time=IMPORT_TIME)
        return
    client = await connect(port)
    if plan.has_worker:
        await run(client, make_workloads(plan.warm_up), plan.warm_up.outstanding)
    measurement = Measurement()
    if plan.kind == "latency":
        await measure_latencies(client, plan, measurement)
        return
    workloads = make_workloads(plan)
    measurement.begin()
    if plan.kind == "background":
        wrong = await run_in_background(client, workloads, plan.outstanding)
    elif plan.kind == "hold":
        await asyncio.gather(*(client.submit_job(FUNCTION, workload) for workload in workloads))
        wrong = plan.jobs - len(client.handles)
    else:
        wrong = await run(client, workloads, plan.outstanding)
    measurement.report(plan.jobs, wrong)


async def main_and_exit(plan: Plan) -> None:
    await main(plan)
    os._exit(0)  # its connection_lost raises if nothing awaits close()


if __name__ == "__main__":
    asyncio.run(main_and_exit(read_plan(sys.argv[1:])))
