"""The contestants: clients, workers and job servers, and the commands that start them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
BUILD: Final = HERE.parent / "build" / "benchmarks"
PEERS_PYTHON: Final = BUILD / "peers" / "bin" / "python"


class Contestant(NamedTuple):
    """
    A client, worker or job server that is compared with others.

    Attributes:
        label: Its name in tables and plots.
        command: The command that starts it; its arguments follow, see README.md.
        slow: Whether it takes tens of microseconds for a job, and so gets fewer jobs where that makes no difference.
    """

    label: str
    command: tuple[str, ...]
    slow: bool = False


def program(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command of a C program, which the setup compiles."""
    return str(BUILD / name), *arguments


def perl(name: str) -> tuple[str, ...]:
    return "perl", str(HERE / f"{name}.pl")


def peer(name: str) -> tuple[str, ...]:
    """Return the command of a script in the environment of the other Python clients."""
    return str(PEERS_PYTHON), str(HERE / f"{name}.py")


def ours(name: str, *arguments: str) -> tuple[str, ...]:
    return sys.executable, str(HERE / f"{name}.py"), *arguments


def from_source(contestant: Contestant, source: Path) -> Contestant:
    """Return one of our contestants with the package from another source folder, which need not be installed."""
    return contestant._replace(command=("env", f"PYTHONPATH={source}", *contestant.command))


def gearmand(threads: int) -> tuple[str, ...]:
    return "gearmand", "-t", str(threads), "-L", "127.0.0.1", "-l", "stderr"


# Event loop -> the suffixes of our names and labels.
LOOPS: Final = {"asyncio": ("", ""), "uvloop": ("-uvloop", ", uvloop")}
INTERFACES: Final = ("do", "submit", "callback", "map", "timeout")
NUMBERS_OF_CLIENTS: Final = (10, 100, 1000)

CLIENTS: Final[dict[str, Contestant]] = {
    "ceiling": Contestant("raw sockets in C", program("ceiling")),
    "libgearman": Contestant("C libgearman", program("with_libgearman", "numbers")),
    "libgearman-uuid": Contestant("C libgearman, its own UUIDs", program("with_libgearman", "uuid")),
    "perl": Contestant("Perl Gearman::Client", perl("clients/with_perl"), slow=True),
    "gear": Contestant("Python gear", peer("clients/with_gear"), slow=True),
    "aiogear": Contestant("Python aiogear", peer("clients/with_aiogear"), slow=True),
    "pygearman": Contestant("Python pygearman", peer("clients/with_pygearman"), slow=True),
    **{
        f"geartrain-{interface}{suffix}": Contestant(
            f"geartrain `{interface}`{shown}", ours("clients/with_geartrain", interface, loop)
        )
        for loop, (suffix, shown) in LOOPS.items()
        for interface in INTERFACES
    },
    **{
        f"geartrain-blocking-{interface}": Contestant(
            f"geartrain.blocking `{interface}`", ours("clients/with_blocking", interface), slow=interface == "do"
        )
        for interface in ("do", "map")
    },
    **{
        f"geartrain-do-{number}-clients{suffix}": Contestant(
            f"geartrain `do`{shown}, {number:,} clients", ours("clients/with_geartrain", f"do:{number}", loop)
        )
        for loop, (suffix, shown) in LOOPS.items()
        for number in NUMBERS_OF_CLIENTS
    },
}

WORKERS: Final[dict[str, Contestant]] = {
    "echo": Contestant("raw sockets in C", program("echo")),
    "libgearman": Contestant("C libgearman", program("with_libgearman_worker")),
    "perl": Contestant("Perl Gearman::Worker", perl("workers/with_perl_worker"), slow=True),
    "pygearman": Contestant("Python pygearman", peer("workers/with_pygearman_worker"), slow=True),
    **{
        f"geartrain{suffix}": Contestant(f"geartrain{shown}", ours("workers/with_geartrain_worker", loop))
        for loop, (suffix, shown) in LOOPS.items()
    },
    **{
        f"geartrain-{kind}-{number}": Contestant(
            f"geartrain, {number} {name if number == 1 else plural}",
            ours("workers/with_geartrain_plain_worker", kind, str(number)),
            slow=True,
        )
        for kind, number, name, plural in (
            ("thread", 1, "thread", ""),
            ("thread", 8, "", "threads"),
            ("process", 1, "process", ""),
            ("process", 2, "", "processes"),
            ("coroutine", 1, "coroutine", ""),
        )
    },
    **{
        f"geartrain-{kind}-{number}-busy": Contestant(
            f"geartrain, {name}", ours("workers/with_geartrain_plain_worker", kind, str(number), "--busy"), slow=True
        )
        for kind, number, name in (
            ("thread", 1, "1 thread in each worker"),
            ("process", 1, "1 process"),
            ("process", 2, "2 processes"),
        )
    },
}

SERVERS: Final[dict[str, Contestant]] = {
    "gearmand": Contestant("gearmand", gearmand(threads=0)),
    "gearmand-threads": Contestant("gearmand, 4 threads", gearmand(threads=4)),
    "gear": Contestant("Python gear", peer("servers/with_gear_server"), slow=True),
    **{
        f"geartrain{suffix}": Contestant(f"geartrain{shown}", ours("servers/with_geartrain_server", loop))
        for loop, (suffix, shown) in LOOPS.items()
    },
}

ROLES: Final = {"client": CLIENTS, "worker": WORKERS, "server": SERVERS}
# The contestants for the roles that a case does not compare.
DEFAULT_NAMES: Final = ("ceiling", "echo", "gearmand")
DEFAULTS: Final = {role: ROLES[role][name] for role, name in zip(ROLES, DEFAULT_NAMES, strict=True)}
