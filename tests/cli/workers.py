"""Runs ``geartrain worker`` at a job server, and gives it jobs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cli.command import COMMAND, geartrain, make_environment
from tests.support.job_server import AnyJobServer
from tests.support.wire import Wire, wait_until


@contextmanager
def working(
    server: AnyJobServer,
    *arguments: str,
    directory: Path | None = None,
    workers: int = 1,
    wrapper: Sequence[str] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a worker, and wait until it has registered; it is killed at the end if it still runs.

    Args:
        server: Where it registers.
        arguments: Of ``geartrain worker``.
        directory: Where it runs.
        workers: How many connections register.
        wrapper: A program that runs the command.
    """
    with subprocess.Popen(
        [*wrapper, *COMMAND, "worker", "-s", server.address, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=make_environment(),
        cwd=directory,
    ) as process:
        try:
            wait_until(lambda: process.poll() is not None or count_workers(server) >= workers)
            assert process.poll() is None, process.communicate()
            yield process
        finally:
            process.kill()


def count_workers(server: AnyJobServer) -> int:
    """Count the connections that offer a function."""
    with Wire(server.port) as wire:
        return sum(b" : " in line for line in wire.ask(b"workers"))


def do(server: AnyJobServer, function: str, workload: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Submit a job and wait for its end."""
    return geartrain("submit", "-s", server.address, function, "-t", "20", standard_input=workload)


def find_children(pid: int) -> list[int]:
    """Return the numbers of the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
