"""gearmand and our own job server under one interface, for tests that run on both."""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from tests.support.gearmand import Gearmand

KINDS = ("gearmand", "geartrain")
ROOT = Path(__file__).parents[2]


class AnyJobServer(Protocol):
    """A job server in another process."""

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""

    @property
    def address(self) -> str:
        """``host:port``."""

    def kill(self) -> None:
        """Stop it immediately: all connections are closed, all jobs are lost."""

    def restart(self) -> None:
        """Kill it if it is running, and start it again on the same port; handles start at 1 again."""


class JobServerHost:
    """
    The process that runs our own job servers.

    Args:
        options: For the Python interpreter.
    """

    def __init__(self, options: Sequence[str] = ("-X", "dev", "-W", "error")) -> None:
        self._numbers = itertools.count()
        self._process = subprocess.Popen(
            [sys.executable, *options, "-m", "tests.support.job_server_host"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def memory(self) -> int:
        """The memory that the process currently uses, in bytes."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    def server(self, **options: Any) -> OwnJobServer:
        """Start a new server with these options of JobServer."""
        return OwnJobServer(self, next(self._numbers), options)

    def order(self, do: str, **arguments: Any) -> Any:
        """Send the process a command, and return its response."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process of the job servers died; see its standard error"
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=10)
        assert self._process.returncode == 0


class OwnJobServer:
    """A :class:`geartrain.JobServer` in the host process."""

    def __init__(self, host: JobServerHost, number: int, options: dict[str, Any]) -> None:
        self._host = host
        self._number = number
        self._options = options
        self._running = False
        self.address = ""

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def start(self) -> None:
        self.address = self._host.order("start", number=self._number, options=self._options)
        self._running = True

    def kill(self) -> None:
        if self._running:
            self._running = False
            faults = self._host.order("stop", number=self._number)
            assert not faults, f"the job server reported errors: {faults}"

    def restart(self) -> None:
        self.kill()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()


class JobServerStarter:
    """
    Starts job servers of one kind for the duration of a test.

    Both kinds accept the options ``job_retries``, ``exceptions`` and ``round_robin``.
    """

    def __init__(self, kind: str, directory: Path, host: JobServerHost) -> None:
        self.kind = kind
        self._directory = directory
        self._host = host
        self._servers: list[Gearmand | OwnJobServer] = []

    def __call__(self, *, job_retries: int = 0, exceptions: bool = False, round_robin: bool = False) -> AnyJobServer:
        """Start one more."""
        server: Gearmand | OwnJobServer
        if self.kind == "gearmand":
            options = ["-j", str(job_retries)] if job_retries else []
            options += ["--exceptions"] * exceptions + ["--round-robin"] * round_robin
            server = Gearmand(self._directory, options)
        else:
            server = self._host.server(job_retries=job_retries, exceptions=exceptions, round_robin=round_robin)
        server.start()
        self._servers.append(server)
        return server

    def close(self) -> None:
        """Kill all job servers that were started."""
        for server in self._servers:
            server.kill()
