"""Shared by the clients in Python: the command line, the workloads, the clocks and the report."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

C = TypeVar("C")

FUNCTION = "echo"
WARM_UP = 1000  # jobs before the measured part
WARM_UP_SIZE = 100
INDEX_DIGITS = 16


class Plan(NamedTuple):
    """The arguments that all clients share: see README.md, "A client"."""

    kind: str
    jobs: int
    outstanding: int
    size: int
    ports: tuple[int, ...]

    @property
    def warm_up(self) -> Plan:
        """The jobs before the measured part."""
        return self._replace(kind="foreground", jobs=WARM_UP, outstanding=WARM_UP, size=WARM_UP_SIZE)

    @property
    def has_worker(self) -> bool:
        """Whether the jobs get results."""
        return self.kind not in ("background", "hold")


def read_plan(arguments: list[str]) -> Plan:
    kind, jobs, outstanding, size, *ports = arguments
    return Plan(kind, int(jobs), int(outstanding), int(size), tuple(map(int, ports)))


def make_workloads(plan: Plan) -> list[bytes]:
    """Return the workloads. Each begins with its number, so that a result of the wrong job is detected."""
    filler = b"." * (plan.size - INDEX_DIGITS)
    return [b"%0*d%s" % (INDEX_DIGITS, index, filler) for index in range(plan.jobs)]


def read_memory() -> dict[str, int]:
    """Return the resident size (VmRSS) and its maximum so far (VmHWM) in bytes, by the kernel's names."""
    with open("/proc/self/status") as status:
        return {
            line.split(":")[0]: int(line.split()[1]) * 1024 for line in status if line.startswith(("VmRSS", "VmHWM"))
        }


class Measurement:
    """The measured part: from :meth:`begin` to :meth:`report`."""

    def __init__(self) -> None:
        self.base = read_memory()["VmRSS"]

    def begin(self) -> None:
        """Print ``ready``, wait for the harness, which reads the job server's clock first, and begin."""
        self.before = read_memory()["VmRSS"]
        print("ready", flush=True)
        if not sys.stdin.readline():
            raise SystemExit("standard input was closed")
        self.wall = time.perf_counter()
        self.cpu = time.process_time()

    def report(self, jobs: int, wrong: int, latencies: list[float] | None = None, **more: float) -> None:
        """Write what was measured; ``latencies`` are seconds, one for each job."""
        cpu = time.process_time() - self.cpu
        wall = time.perf_counter() - self.wall
        now = read_memory()
        memory = {"base": self.base, "before": self.before, "after": now["VmRSS"], "peak": now["VmHWM"]}
        figures = {"jobs": jobs, "wrong": wrong, "wall": wall, "cpu": cpu, "memory": memory}
        print(json.dumps({**figures, "latencies": latencies or [], **more}), flush=True)


def measure_blocking(
    plan: Plan,
    connect: Callable[[int], C],
    *,
    run: Callable[[C, list[bytes], int], int],
    run_in_background: Callable[[C, list[bytes], int], int],
    hold: Callable[[C, list[bytes]], int],
    import_time: float,
) -> None:
    """
    Measure a blocking client.

    Args:
        plan: The jobs to run.
        connect: Returns a client that is connected to this port.
        run: Runs the workloads with this many outstanding at a time, and returns the number of wrong results.
        run_in_background: The same for background jobs.
        hold: Submits workloads that get no result, and returns how many have ended nevertheless.
        import_time: In seconds, for w6.
    """
    [port] = plan.ports
    client = None if plan.kind == "first" else connect(port)
    if client is not None and plan.has_worker:
        run(client, make_workloads(plan.warm_up), plan.warm_up.outstanding)
    measurement = Measurement()
    workloads = make_workloads(plan)
    latencies: list[float] = []
    measurement.begin()
    if client is None:
        measurement.report(1, run(connect(port), workloads, 1), import_time=import_time)
        return
    if plan.kind == "latency":
        wrong = 0
        for workload in workloads:
            start = time.perf_counter()
            wrong += run(client, [workload], 1)
            latencies.append(time.perf_counter() - start)
    elif plan.kind == "background":
        wrong = run_in_background(client, workloads, plan.outstanding)
    elif plan.kind == "hold":
        wrong = hold(client, workloads)
    else:
        wrong = run(client, workloads, plan.outstanding)
    measurement.report(plan.jobs, wrong, latencies)
