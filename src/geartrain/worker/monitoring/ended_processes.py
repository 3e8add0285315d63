"""
Cleans up after processes that have ended, in prometheus-client's multiprocess mode.

Their files would stay until the last process ends: a worker that is restarted after every thousand jobs would have more
of them each day, and read all of them at each scrape.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["EndedProcessesCollector", "merge_ended_processes"]

_ADDED: Final = ("counter", "histogram", "summary")  # kinds whose values are added up over all processes
_LOCK: Final = "geartrain.lock"
_MERGED: Final = "ended"  # in place of a process ID


class EndedProcessesCollector:
    """
    Collects the metrics of all processes, after the files of those that have ended were merged.

    Args:
        registry: Where it is registered.
        directory: PROMETHEUS_MULTIPROC_DIR.
    """

    def __init__(self, registry: CollectorRegistry, directory: Path) -> None:
        self._directory = directory
        self._collector = MultiProcessCollector(None, path=str(directory))  # type: ignore[no-untyped-call]
        registry.register(self)

    def collect(self) -> list[Metric]:
        """Return the sums over all processes."""
        with _locked(self._directory):
            _merge(self._directory)
            return list(self._collector.collect())  # type: ignore[no-untyped-call]

    def describe(self) -> list[Metric]:
        """Return nothing: what there is changes with the processes."""
        return []


def merge_ended_processes(directory: Path) -> None:
    """
    Add the values of processes that have ended to one file of each kind, and remove their files.

    Their live gauges, such as the number of running jobs, are dropped. Several processes may call it.
    """
    with _locked(directory):
        _merge(directory)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / _LOCK).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _merge(directory: Path) -> None:
    for path in directory.glob("*_*.db"):
        kind, _, rest = path.stem.partition("_")
        pid = rest.rpartition("_")[2]
        if not pid.isdigit() or _is_alive(int(pid)):
            continue
        if kind in _ADDED:
            _add_values(path, directory / f"{kind}_{_MERGED}.db")
        elif not rest.startswith("live"):
            continue  # a gauge whose last value stays
        path.unlink()


def _add_values(source: Path, target: Path) -> None:
    # A process that was killed while it created its file has not counted anything.
    with suppress(struct.error, RuntimeError):
        values = list(MmapedDict.read_all_values_from_file(str(source)))  # type: ignore[no-untyped-call]
        merged = MmapedDict(str(target))  # type: ignore[no-untyped-call]
        for key, value, _, _ in values:
            before, _ = merged.read_value(key)  # type: ignore[no-untyped-call]
            merged.write_value(key, before + value, 0.0)  # type: ignore[no-untyped-call]
        merged.close()  # type: ignore[no-untyped-call]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
