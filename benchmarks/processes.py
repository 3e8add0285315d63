"""The processes of a measurement: job servers, workers and clients; and the CPU time of each."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

READY_WITHIN: Final = 20.0  # seconds for a job server or a worker
TICKS: Final = os.sysconf("SC_CLK_TCK")


class FailedError(Exception):
    """A contestant crashed or did not end in time; the message is for the report."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ask_status(port: int) -> dict[str, tuple[int, int, int]]:
    """Return, for each function, the number of queued or running jobs, of running jobs, and of workers."""
    with socket.create_connection(("127.0.0.1", port), timeout=READY_WITHIN) as sock:
        sock.sendall(b"status\n")
        lines = iter(sock.makefile("r"))
        rows = (line.rstrip("\n").split("\t") for line in iter(lambda: next(lines), ".\n"))
        return {name: (int(total), int(running), int(workers)) for name, total, running, workers in rows}


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes], what: str) -> None:
    """
    Wait for a condition that raises OSError, or is false, until the process is ready.

    Raises:
        FailedError: The process has ended, or was not ready in time.
    """
    deadline = time.monotonic() + READY_WITHIN
    while True:
        with contextlib.suppress(OSError, StopIteration):
            if condition():
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise FailedError(f"{what} did not become ready")
        time.sleep(0.005)


@contextlib.contextmanager
def running(command: Sequence[str], errors: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process, with pipes for standard input and output, until the end of the block."""
    with errors.open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def job_server(command: Sequence[str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a job server on a free port, with a command that takes ``-p PORT``, and wait until it replies."""
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    executable = shutil.which(command[0], path=path)
    assert executable, f"{command[0]} is missing: make bench installs it"
    port = free_port()
    extra = ("-P", str(folder / "pid")) if command[0] == "gearmand" else ()
    with running((executable, *command[1:], *extra, "-p", str(port)), folder / "server.log") as process:
        wait_until(lambda: ask_status(port) is not None, process, command[0])
        yield process, port


@contextlib.contextmanager
def workers(
    command: Sequence[str], number: int, ports: Sequence[int], folder: Path
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """
    Run workers, each with the same command, and wait until they have registered with all job servers.

    A worker may have several processes, each of which registers.
    """
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(running(command, folder / "worker.log")) for _ in range(number)]
        for port in ports:
            wait_until(lambda port=port: count_workers(port) >= number, processes[0], "a worker")  # type: ignore[misc]
        yield processes


def count_workers(port: int) -> int:
    return ask_status(port).get("echo", (0, 0, 0))[2]


def run_client(command: Sequence[str], folder: Path, limit: float, on_mark: Callable[[], None]) -> dict[str, Any]:
    """
    Run a client, and return its report.

    Args:
        command: The command with all arguments.
        folder: Where its standard error is written.
        limit: Seconds that it may take.
        on_mark: Called right before and right after the measured part.

    Raises:
        FailedError: It crashed, or did not end in time.
    """
    errors = folder / "client.log"
    with running(command, errors) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(limit, end)
        timer.start()
        try:
            if process.stdout.readline() == b"ready\n":
                on_mark()
                process.stdin.write(b"go\n")
                process.stdin.flush()
            line = process.stdout.readline()
            on_mark()
        finally:
            timer.cancel()
        if late.is_set():
            raise FailedError(f"did not end in {limit:.0f} s")
        if not line.startswith(b"{"):
            raise FailedError(f"crashed: {last_line(errors)}")
        report: dict[str, Any] = json.loads(line)
        return report


def last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no error output"


def cpu_time(pid: int) -> float:
    """Return the CPU time of a process and its children in seconds, from the scheduler's statistics if available."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            total += cpu_time(int(child))
        try:
            total += int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


@contextlib.contextmanager
def on_one_core(yes: bool) -> Iterator[None]:
    """Run all processes that are started in this block on one core."""
    cores = os.sched_getaffinity(0)
    if yes:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="geartrain-benchmark-") as name:
        yield Path(name)
