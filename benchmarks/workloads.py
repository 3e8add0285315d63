"""The cases of each workload."""

from __future__ import annotations

from typing import Final, NamedTuple

from benchmarks.contestants import CLIENTS, INTERFACES, SERVERS

MIB: Final = 1024 * 1024
SLOW_DIVISOR: Final = 20  # slow contestants get this many times fewer jobs
QUICK_DIVISOR: Final = 10  # quick runs have this many times fewer jobs


class Case(NamedTuple):
    """
    One table of figures, with a row for each contestant.

    Attributes:
        name: The workload and the variant: ``w3/1000``.
        title: Its title in the report.
        kind: What the client does, see README.md, "A client".
        jobs: The number of jobs.
        outstanding: The number of outstanding jobs.
        contestants: The names of the contestants, in the table of their role.
        role: What is compared: ``client``, ``worker`` or ``server``.
        size: The size of each workload in bytes.
        servers: The number of job servers.
        options: More arguments for each job server.
        workers: The number of worker processes; with several, results arrive in a different order.
        one_core: Whether all processes share one core.
        same_for_all: Whether all get the same number of jobs, even in quick runs: it is part of the workload.
        slow: The names of further contestants that get fewer jobs.
        runs: The number of runs in each repetition.
    """

    name: str
    title: str
    kind: str
    jobs: int
    outstanding: int
    contestants: tuple[str, ...]
    role: str = "client"
    size: int = 100
    servers: int = 1
    options: tuple[str, ...] = ()
    workers: int = 1
    one_core: bool = False
    same_for_all: bool = False
    slow: tuple[str, ...] = ()
    runs: int = 1

    @property
    def workload(self) -> str:
        return self.name.split("/")[0]

    def jobs_for(self, *, slow: bool, quick: bool) -> int:
        """Return the number of jobs for a contestant: at least twice as many as are outstanding, if possible."""
        if self.same_for_all:
            return self.jobs
        least = min(self.jobs, 2 * self.outstanding)
        return max(least, self.jobs // (SLOW_DIVISOR if slow else 1) // (QUICK_DIVISOR if quick else 1))


def clients(*ours: str, peers: bool = True) -> tuple[str, ...]:
    """Return the names of all peers, and of our contestants with these interfaces, each on both event loops."""
    own = (f"geartrain-{interface}{suffix}" for suffix in ("", "-uvloop") for interface in ours)
    return (*(PEERS if peers else ()), *own)


BLOCKING_WORKERS: Final = (
    *("libgearman", "perl", "pygearman"),
    *("geartrain-thread-1", "geartrain-process-1", "geartrain-coroutine-1"),
)
PEERS: Final = tuple(name for name in CLIENTS if not name.startswith(("geartrain", "libgearman-")))

TITLES: Final = {
    "w1": "Background submissions",
    "w2": "Closed loop",
    "w3": "Foreground jobs",
    "w4": "Large workloads",
    "w5": "Memory",
    "w6": "Start",
    "w7": "Workers",
    "w8": "Job servers",
    "w9": "Growth",
    "w10": "Programs without asyncio",
}

# outstanding -> jobs
_FOREGROUND: Final = {
    1: 10_000,
    16: 50_000,
    64: 100_000,
    256: 200_000,
    1_000: 200_000,
    4_000: 200_000,
    20_000: 200_000,
}
# With the default of 991, gearmand compares about a thousand handles for each result if a million jobs are queued.
BUCKETS: Final = ("--hashtable-buckets", "1000003")
_GROWTH: Final = {1_000: 200_000, 10_000: 200_000, 100_000: 300_000, 1_000_000: 2_000_000}

CASES: Final = (
    Case(
        "w1/1000",
        "100,000 background jobs, 1,000 unacknowledged at a time, no worker",
        "background",
        100_000,
        1000,
        (*clients("do", "map"), "libgearman-uuid"),
        same_for_all=True,
    ),
    Case(
        "w2/1",
        "One job at a time, all processes on one core",
        "latency",
        5_000,
        1,
        (*clients("do"), "libgearman-uuid"),
        one_core=True,
        same_for_all=True,
    ),
    *(
        Case(
            f"w3/{outstanding}",
            f"{outstanding:,} outstanding",
            "foreground",
            jobs,
            outstanding,
            (*clients(*INTERFACES), "libgearman-uuid") if outstanding == 1000 else clients("do", "map"),
            slow=("libgearman",) if outstanding > 1000 else (),  # its cost grows with the set
        )
        for outstanding, jobs in _FOREGROUND.items()
    ),
    Case(
        "w3/disorder",
        "1,000 outstanding, four workers: results arrive in a different order",
        "foreground",
        100_000,
        1000,
        clients("do", "map"),
        workers=4,
    ),
    Case(
        "w4/1MiB",
        "1 MiB there and back, 4 outstanding",
        "foreground",
        200,
        4,
        clients("do", "map"),
        size=MIB,
        slow=("libgearman",),
    ),
    Case(
        "w4/64MiB",
        "64 MiB there and back, once; peak memory above that of the idle client",
        "foreground",
        1,
        1,
        clients("do"),
        size=64 * MIB,
    ),
    Case(
        "w5/100000",
        "100,000 jobs without a result; 5,000 for slow clients",
        "hold",
        100_000,
        1,
        clients("submit")[1:],
        slow=("libgearman",),
    ),
    Case("w6/first", "From start to the first result", "first", 1, 1, clients("do"), runs=4),
    Case(
        "w7/1000",
        "1,000 jobs outstanding; geartrain with a concurrency of 100",
        "foreground",
        200_000,
        1000,
        ("echo", "libgearman", "perl", "geartrain", "geartrain-uvloop"),
        role="worker",
    ),
    Case(
        "w7/plain",
        "Plain functions, 200 jobs outstanding; one at a time, but for the rows that give a number",
        "foreground",
        200_000,
        200,
        (*BLOCKING_WORKERS, "geartrain-thread-8", "geartrain-process-2"),
        role="worker",
    ),
    Case(
        "w7/large",
        "Plain functions, 100,000 bytes there and back, 20 outstanding",
        "foreground",
        20_000,
        20,
        BLOCKING_WORKERS,
        role="worker",
        size=100_000,
    ),
    Case(
        "w7/lone",
        "Plain functions, one job outstanding",
        "latency",
        5_000,
        1,
        BLOCKING_WORKERS,
        role="worker",
        same_for_all=True,
    ),
    Case(
        "w7/busy",
        "A millisecond of CPU, 200 jobs outstanding",
        "foreground",
        40_000,
        200,
        ("geartrain-thread-1-busy", "geartrain-process-1-busy", "geartrain-process-2-busy"),
        role="worker",
    ),
    Case(
        "w7/busy-2",
        "A millisecond of CPU, 200 jobs outstanding, two workers",
        "foreground",
        40_000,
        200,
        ("geartrain-thread-1-busy",),
        role="worker",
        workers=2,
    ),
    Case(
        "w8/1000",
        "1,000 jobs outstanding",
        "foreground",
        200_000,
        1000,
        tuple(SERVERS),
        role="server",
    ),
    *(
        Case(
            f"w9/{outstanding}-outstanding",
            f"{outstanding:,} outstanding, gearmand with 1,000,003 hash buckets",
            "foreground",
            jobs,
            outstanding,
            ("ceiling", *clients("submit", "map", peers=False)),
            options=BUCKETS,
        )
        for outstanding, jobs in _GROWTH.items()
    ),
    Case(
        "w9/few-buckets",
        "100,000 outstanding, gearmand with its default of 991 hash buckets",
        "foreground",
        200_000,
        100_000,
        ("ceiling", "geartrain-map"),
    ),
    *(
        Case(
            f"w9/{servers}-servers",
            f"{servers} job servers, 1,000 outstanding in total",
            "foreground",
            100_000,
            1000,
            clients("do", "map", peers=False),
            servers=servers,
        )
        for servers in (1, 4, 16, 64)
    ),
    Case(
        "w9/clients",
        "Many clients in one process, 1,000 outstanding in total",
        "foreground",
        100_000,
        1000,
        tuple(name for name in CLIENTS if name.startswith("geartrain-do")),
        # gearmand has a backlog of 32 connections, and resets those beyond that.
        options=("--backlog", "1024"),
    ),
    Case(
        "w10/lone",
        "One job at a time",
        "latency",
        5_000,
        1,
        ("perl", "gear", "pygearman", "geartrain-blocking-do", "geartrain-do"),
        same_for_all=True,
    ),
    *(
        Case(
            f"w10/{threads}-threads",
            f"{threads} threads share a client; the others have as many jobs outstanding in one thread",
            "foreground",
            100_000,
            threads,
            ("perl", "gear", "pygearman", "geartrain-blocking-do", "geartrain-do"),
        )
        for threads in (8, 32)
    ),
    Case(
        "w10/map",
        "1,000 jobs outstanding by `map`",
        "foreground",
        200_000,
        1000,
        ("geartrain-blocking-map", "geartrain-map"),
    ),
)
