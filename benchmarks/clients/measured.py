"""What the clients in Python have in common: the command line, the workloads, the clocks and the report."""

from __future__ import annotations

import json
import sys
import time
from typing import NamedTuple

FUNCTION = "echo"
WARM_UP = 1000  # jobs before the measured part
WARM_UP_SIZE = 100
INDEX_DIGITS = 16


class Plan(NamedTuple):
    """The end of the command line, which all clients share: see README.md, "A client"."""

    kind: str
    jobs: int
    outstanding: int
    size: int
    ports: tuple[int, ...]

    @property
    def warm_up(self) -> Plan:
        """What is done before the measured part."""
        return self._replace(kind="foreground", jobs=WARM_UP, outstanding=WARM_UP, size=WARM_UP_SIZE)

    @property
    def has_worker(self) -> bool:
        """Whether anybody answers."""
        return self.kind not in ("background", "hold")


def read_plan(arguments: list[str]) -> Plan:
    kind, jobs, outstanding, size, *ports = arguments
    return Plan(kind, int(jobs), int(outstanding), int(size), tuple(map(int, ports)))


def make_workloads(plan: Plan) -> list[bytes]:
    """Each begins with its own number, so that an answer given to the wrong job is found out."""
    filler = b"." * (plan.size - INDEX_DIGITS)
    return [b"%0*d%s" % (INDEX_DIGITS, index, filler) for index in range(plan.jobs)]


def read_memory() -> dict[str, int]:
    """Return bytes by the names that the kernel has for what is occupied now (VmRSS) and was at most (VmHWM)."""
    with open("/proc/self/status") as status:
        return {
            line.split(":")[0]: int(line.split()[1]) * 1024 for line in status if line.startswith(("VmRSS", "VmHWM"))
        }


class Measurement:
    """The measured part: from :meth:`begin` to :meth:`report`."""

    def __init__(self) -> None:
        self.base = read_memory()["VmRSS"]

    def begin(self) -> None:
        """Say that all is prepared, and begin when the harness says so: it reads the job server's clock first."""
        self.before = read_memory()["VmRSS"]
        print("ready", flush=True)
        if not sys.stdin.readline():
            raise SystemExit("nobody said go")
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
