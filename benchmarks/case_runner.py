"""Run a case with one contestant and a fresh job server; everything but the contestant is the same for all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final

from benchmarks.contestants import DEFAULTS, ROLES, Contestant
from benchmarks.processes import (
    ask_status,
    cpu_time,
    job_server,
    on_one_core,
    run_client,
    scratch_folder,
    workers,
)
from benchmarks.workloads import Case

LIMIT: Final = 60.0  # seconds for one run of a client
WITHOUT_WORKER: Final = ("background", "hold")

Figures = dict[str, float]


def measure(case: Case, name: str, *, quick: bool, contestant: Contestant | None = None) -> Figures:
    """
    Run a case once with one contestant.

    Args:
        case: What is measured.
        name: The contestant's name.
        quick: Run only a tenth of the jobs.
        contestant: Run this contestant instead of the one with the name.

    Raises:
        FailedError: The contestant crashed, or did not end in time.
    """
    contestant = contestant or ROLES[case.role][name]
    contestants = {**DEFAULTS, case.role: contestant}
    jobs = case.jobs_for(slow=contestant.slow or name in case.slow, quick=quick)
    arguments = (case.kind, *map(str, (jobs, case.outstanding, case.size)))
    # The shared core is set for this process; the processes that it starts inherit it.
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        stack.enter_context(on_one_core(case.one_core))
        command = (*contestants["server"].command, *case.options)
        servers = [stack.enter_context(job_server(command, folder)) for _ in range(case.servers)]
        ports = [port for _, port in servers]
        pids = {"server": [process.pid for process, _ in servers], "worker": list[int]()}
        if case.kind not in WITHOUT_WORKER:
            command = (*contestants["worker"].command, *map(str, ports))
            pids["worker"] = [
                process.pid for process in stack.enter_context(workers(command, case.workers, ports, folder))
            ]
        marks: list[dict[str, float]] = []
        command = (*contestants["client"].command, *arguments, *map(str, ports))
        report = run_client(command, folder, LIMIT, lambda: marks.append(read_clocks(pids)))
        if case.kind in WITHOUT_WORKER:
            report["wrong"] += abs(jobs - sum(total for total, _, _ in ask_status(ports[0]).values()))
    used = {role: after - marks[0][role] for role, after in marks[1].items()}
    return dict(derive(case, report, used))


def read_clocks(pids: dict[str, list[int]]) -> dict[str, float]:
    return {role: sum(map(cpu_time, of_role)) for role, of_role in pids.items()}


def derive(case: Case, report: dict[str, Any], used: dict[str, float]) -> Iterator[tuple[str, float]]:
    """Compute the figures of tables and goals from a client's report."""
    jobs = report["jobs"]
    memory = report["memory"]
    microseconds = 1e6 / jobs
    yield "jobs", jobs
    yield "wrong", report["wrong"]
    yield "rate", jobs / report["wall"]
    yield "client_cpu", report["cpu"] * microseconds
    yield "server_cpu", used["server"] * microseconds
    yield "worker_cpu", used["worker"] * microseconds
    yield "megabytes", jobs * case.size / report["wall"] / 1e6
    yield "job_memory", (memory["after"] - memory["before"]) / jobs
    yield "peak", (memory["peak"] - memory["base"]) / case.size
    yield "first", report["wall"] * 1000
    if "import_time" in report:
        yield "import", report["import_time"] * 1000
    if report["latencies"]:
        yield "p50", percentile(report["latencies"], 0.50) * 1e6
        yield "p99", percentile(report["latencies"], 0.99) * 1e6


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that is at least as large as this share of all values."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
