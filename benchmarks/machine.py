"""The conditions of a measurement: the machine, all versions, the commit and the time."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from benchmarks.contestants import BUILD, HERE, PEERS_PYTHON

PEERS: Final = ("gear", "aiogear", "pygearman")
# name -> the command that prints its version
PROGRAMS: Final = {
    "gearmand": ("gearmand", "--version"),
    "libgearman": (str(BUILD / "with_libgearman"), "version"),
    "perl": ("perl", "-e", "print $^V"),
    "Gearman::Client": ("perl", "-MGearman::Client", "-e", "print $Gearman::Client::VERSION"),
    "cc": ("cc", "-dumpfullversion"),
    "commit": ("git", "-C", str(HERE), "describe", "--always", "--dirty"),
    **{
        name: (str(PEERS_PYTHON), "-c", f"from importlib.metadata import version as v; print(v('{name}'))")
        for name in PEERS
    },
}


def describe() -> dict[str, Any]:
    """Return what a reader needs to know to judge the figures."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": os.getloadavg()[0],
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("geartrain", "uvloop")},
            **{name: version for name, command in PROGRAMS.items() if (version := _ask(command))},
        },
    }


def _processor() -> str:
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return names[0] if names else platform.machine()


def _ask(command: tuple[str, ...]) -> str:
    """Return the version that a program prints, or an empty string if the program is missing."""
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"}
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment)
    except OSError:
        return ""
    found = re.search(r"v?(\S*\d\S*)", ended.stdout)
    return found[1].rstrip(",") if ended.returncode == 0 and found else ""
