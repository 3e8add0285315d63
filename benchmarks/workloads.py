"""What is measured: the cases of each workload."""

from __future__ import annotations

from typing import Final, NamedTuple

from benchmarks.contestants import CLIENTS

MIB: Final = 1024 * 1024


class Case(NamedTuple):
    """
    One line of figures for each contestant.

    Attributes:
        name: The workload, and what tells this case from its others: ``w3/1000``.
        title: What it is called in the report.
        kind: What the client is to do, see README.md, "A client".
        jobs: How many; a slow contestant gets a twentieth of them.
        outstanding: How many of them at a time.
        contestants: Their names, in the table of their role.
        role: Who is compared: ``client``, ``worker`` or ``server``.
        size: Of each workload, in bytes.
        servers: How many job servers there are.
        one_core: All processes share one core.
        runs: How many times it is run in each repetition.
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
    one_core: bool = False
    runs: int = 1

    @property
    def workload(self) -> str:
        return self.name.split("/")[0]

    def jobs_for(self, *, slow: bool, quick: bool) -> int:
        """Return how many jobs a contestant is given: at least twice as many as are outstanding, if there are more."""
        least = min(self.jobs, 2 * self.outstanding)
        return max(least, self.jobs // (20 if slow else 1) // (10 if quick else 1))


TITLES: Final = {
    "w3": "Foreground jobs",
}

ALL_CLIENTS: Final = tuple(CLIENTS)
# The interfaces that matter most, where not all of them are compared.
CHOSEN: Final = tuple(
    name
    for name in CLIENTS
    if not name.startswith(("geartrain-", "libgearman-"))
    or name.removesuffix("-uvloop") in ("geartrain-do", "geartrain-map")
)

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

CASES: Final = tuple(
    Case(
        f"w3/{outstanding}",
        f"{outstanding:,} outstanding",
        "foreground",
        jobs,
        outstanding,
        ALL_CLIENTS if outstanding == 1000 else CHOSEN,
    )
    for outstanding, jobs in _FOREGROUND.items()
)
