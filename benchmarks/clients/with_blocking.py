"""
``geartrain.blocking``: OUTSTANDING threads that each wait for one job after the other, or ``map``.

usage: with_blocking.py do|map KIND JOBS OUTSTANDING SIZE PORT, see README.md, "A client".
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from measured import FUNCTION, Measurement, Plan, make_workloads, read_plan

from geartrain.blocking import Client


def by_do(client: Client, workloads: list[bytes], outstanding: int) -> int:
    source = iter(workloads)  # a list iterator can be shared by threads

    def run_jobs() -> int:
        return sum(client.do(FUNCTION, workload) != workload for workload in source)

    with ThreadPoolExecutor(outstanding) as threads:
        return sum(future.result() for future in [threads.submit(run_jobs) for _ in range(outstanding)])


def by_map(client: Client, workloads: list[bytes], outstanding: int) -> int:
    results = client.map(FUNCTION, workloads, limit=outstanding)
    return sum(result != workload for result, workload in zip(results, workloads, strict=True))


def measure_latencies(client: Client, plan: Plan, measurement: Measurement) -> None:
    wrong = 0
    latencies = []
    workloads = make_workloads(plan)
    measurement.begin()
    for workload in workloads:
        start = time.perf_counter()
        wrong += client.do(FUNCTION, workload) != workload
        latencies.append(time.perf_counter() - start)
    measurement.report(plan.jobs, wrong, latencies)


def main(interface: str, plan: Plan) -> None:
    run = {"do": by_do, "map": by_map}[interface]
    with Client(f"127.0.0.1:{plan.ports[0]}") as client:
        run(client, make_workloads(plan.warm_up), plan.warm_up.outstanding)
        measurement = Measurement()
        if plan.kind == "latency":
            measure_latencies(client, plan, measurement)
            return
        workloads = make_workloads(plan)
        measurement.begin()
        wrong = run(client, workloads, plan.outstanding)
        measurement.report(plan.jobs, wrong)


if __name__ == "__main__":
    main(sys.argv[1], read_plan(sys.argv[2:]))
