"""A command that runs in a process forked by the command server."""

from __future__ import annotations

import signal
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import IO, Self

from tests.support.processes import send_signal

__all__ = ["NUMBER", "RunningCommand"]

NUMBER = struct.Struct("i")  # how the server sends the process ID and then the exit status


class RunningCommand:
    """
    A running command, used like a :class:`subprocess.Popen`.

    Args:
        connection: The socket on which the server sends the process ID and the exit status.
        stdin: The other end of the command's standard input, if it is a pipe; ``stdout`` and ``stderr`` likewise.

    Attributes:
        returncode: The exit status, or the negative number of the signal that ended the command; ``None`` until then.
    """

    def __init__(
        self,
        connection: socket.socket,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
    ) -> None:
        self._connection = connection
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.pid: int = NUMBER.unpack(connection.recv(NUMBER.size))[0]
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or ``None`` if the command is running."""
        try:
            return self.wait(0)
        except BlockingIOError:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """
        Wait for the exit status.

        Raises:
            TimeoutError: If that takes longer than ``timeout`` seconds; BlockingIOError if that is 0.
        """
        if self.returncode is None:
            self._connection.settimeout(timeout)
            status: int = NUMBER.unpack(self._connection.recv(NUMBER.size))[0]
            self.returncode = status
        return self.returncode

    def send_signal(self, number: int) -> None:
        """
        Send a signal to the process if it is running.

        The server reaps the process before it sends the exit status, so the process may be gone although :meth:`poll`
        returns ``None``.
        """
        if self.poll() is None:
            send_signal(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Close standard input, and return the rest of standard output and error when the command has exited."""
        if self.stdin is not None:
            self.stdin.close()
        with ThreadPoolExecutor(2) as threads:
            reading = [threads.submit(_read, stream) for stream in (self.stdout, self.stderr)]
            try:
                output, errors = [each.result(timeout) for each in reading]
                self.wait(timeout)
            except TimeoutError:
                self.kill()
                raise
        return output, errors

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the pipes, and wait until the command has exited."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()
        self._connection.close()


def _read(stream: IO[bytes] | None) -> bytes:
    return b"" if stream is None or stream.closed else stream.read()
