"""Helpers that run ``geartrain worker`` and submit jobs to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from tests.cli.command import COMMAND, geartrain, make_environment, start
from tests.cli.running_command import RunningCommand
from tests.support.eventually import wait_until
from tests.support.job_server import AnyJobServer
from tests.support.wire import Wire

Process: TypeAlias = subprocess.Popen[bytes] | RunningCommand


@contextmanager
def run_worker(
    server: AnyJobServer,
    *arguments: str,
    directory: Path | None = None,
    workers: int = 1,
    wrapper: Sequence[str] = (),
) -> Iterator[Process]:
    """
    Run a worker and wait until it has registered; kill it at the end if it is still running.

    It logs only warnings, unless an argument says otherwise.

    Args:
        server: The job server that it registers with.
        arguments: Arguments of ``geartrain worker``.
        directory: Its working directory.
        workers: The number of connections that register.
        wrapper: A program, with arguments, that runs the command.
    """
    is_quiet = not any(argument.startswith(("-v", "--log", "--quiet")) for argument in arguments)
    command = ["worker", "-s", server.address, *["--quiet"] * is_quiet, *arguments]
    with (
        _run_in(wrapper, command, directory)
        if wrapper
        else start(*command, directory=directory, has_input=False) as process
    ):
        try:
            wait_until(lambda: process.poll() is not None or count_workers(server) >= workers)
            assert process.poll() is None, process.communicate()
            yield process
        finally:
            process.kill()


def _run_in(wrapper: Sequence[str], command: Sequence[str], directory: Path | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*wrapper, *COMMAND, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=make_environment(),
        cwd=directory,
    )


def count_workers(server: AnyJobServer) -> int:
    """Return the number of connections that have registered a function."""
    with Wire(server.port) as wire:
        return sum(b" : " in line for line in wire.ask(b"workers"))


def submit(server: AnyJobServer, function: str, workload: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Submit a job and wait until it has ended."""
    return geartrain("submit", "-s", server.address, function, "-t", "20", standard_input=workload)


def find_children(pid: int) -> list[int]:
    """Return the IDs of the child processes of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
