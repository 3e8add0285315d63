"""Who is measured: clients, workers and job servers, and the commands that start them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
BUILD: Final = HERE.parent / "build" / "benchmarks"
PEERS_PYTHON: Final = BUILD / "peers" / "bin" / "python"

OURS: Final = (sys.executable, str(HERE / "clients" / "with_geartrain.py"))


class Contestant(NamedTuple):
    """
    One of those who are compared.

    Attributes:
        label: Its name in tables and plots.
        command: What starts it; its arguments follow, see README.md.
        slow: It takes tens of microseconds for a job, and so is given fewer of them.
    """

    label: str
    command: tuple[str, ...]
    slow: bool = False

    @property
    def is_ours(self) -> bool:
        return self.label.startswith("geartrain")


def ours(interface: str, loop: str = "asyncio", clients: int = 1) -> Contestant:
    loop_shown = "" if loop == "asyncio" else f", {loop}"
    return Contestant(f"geartrain `{interface}`{loop_shown}", (*OURS, interface, loop, str(clients)))


def program(name: str) -> str:
    """Return the path of a program in C, which the set-up compiles."""
    return str(BUILD / name)


INTERFACES: Final = ("do", "submit", "callback", "map", "timeout")

CLIENTS: Final[dict[str, Contestant]] = {
    "ceiling": Contestant("raw sockets in C", (program("ceiling"),)),
    "libgearman": Contestant("C libgearman", (program("with_libgearman"), "numbers")),
    "libgearman-uuid": Contestant("C libgearman, its own UUIDs", (program("with_libgearman"), "uuid")),
    **{f"geartrain-{name}": ours(name) for name in INTERFACES},
    **{f"geartrain-{name}-uvloop": ours(name, "uvloop") for name in INTERFACES},
}

WORKERS: Final[dict[str, Contestant]] = {
    "echo": Contestant("raw sockets in C", (program("echo"),)),
}

SERVERS: Final[dict[str, Contestant]] = {
    "gearmand": Contestant("gearmand", ("gearmand", "-t", "0", "-L", "127.0.0.1", "-l", "stderr")),
}

ROLES: Final = {"client": CLIENTS, "worker": WORKERS, "server": SERVERS}
