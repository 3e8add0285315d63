"""A real gearmand in its own process, on a free port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.processes import send_signal

READY_WITHIN = 20.0  # seconds


def free_port() -> int:
    """Return a port that was free a moment ago; the caller must check that the right process listens on it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ask(port: int, line: str, *, host: str = "127.0.0.1", timeout: float = 5.0) -> str:
    """Send one line of the text protocol and return the one-line response."""
    with socket.create_connection((host, port), timeout=timeout) as sock:
        sock.sendall(line.encode() + b"\r\n")
        return sock.makefile("rb").readline().decode().strip()


class Gearmand:
    """A gearmand 1.1.20 process that can be killed and restarted on the same port."""

    def __init__(
        self, directory: Path, options: Sequence[str] = (), port: int | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.port = port or free_port()
        self.host = host
        self.directory = directory
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start the process, and wait until it is the one that responds on the port."""
        executable = shutil.which("gearmand", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        assert executable, "gearmand is missing: make test installs it"
        pid_file = self.directory / f"gearmand-{self.host}-{self.port}.pid"
        command = [
            executable,
            "-p",
            str(self.port),
            "-L",
            self.host,
            "-l",
            "stderr",
            "-P",
            str(pid_file),
            *self.options,
        ]
        with (self.directory / "gearmand.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.directory, stdout=subprocess.DEVNULL, stderr=log)
        deadline = time.monotonic() + READY_WITHIN
        while True:
            try:
                answer = ask(self.port, "getpid", host=self.host)
            except OSError:
                answer = ""
            if answer == f"OK {self.process.pid}":
                return
            assert self.process.poll() is None, f"gearmand ended with {self.process.returncode}"
            assert time.monotonic() < deadline, f"another process responds on port {self.port}: {answer!r}"
            time.sleep(0.005)

    def kill(self, sign: int = signal.SIGKILL) -> None:
        """Send a signal, and wait until the process has exited."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(sign)
            self.process.wait(10)
        self.process = None

    def pause(self) -> None:
        """Stop the process (SIGSTOP), and wait until all its threads are stopped."""
        send_signal(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """Continue the process (SIGCONT)."""
        send_signal(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Kill the process and start another on the same port; handles start at 1 again."""
        self.kill()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
