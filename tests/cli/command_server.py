"""
Runs commands in forked children of one process, so that Python imports geartrain only once.

``python -m tests.cli.command_server DESCRIPTOR`` reads requests from a socket until it is closed. A request is the
pickled arguments, environment and directory of a command, and whether its standard input is its controlling terminal.
It comes with four descriptors: its standard input, output and error, and a socket on which its process ID and then its
exit status are sent.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import os
import pickle
import pkgutil
import socket
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cli.running_command import NUMBER, RunningCommand
from tests.support.forked_coverage import save_before_forks

__all__ = ["CommandServer"]

_MAX_REQUEST = 1024 * 1024
_ROOT = Path(__file__).parents[2]


class CommandServer:
    """
    The tests' side of the server.

    Args:
        options: The options of the interpreter.
        environment: The environment of the server; each command has its own.
    """

    def __init__(self, options: Sequence[str], environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _MAX_REQUEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *options, "-m", "tests.cli.command_server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd=_ROOT,
            )

    def run(
        self,
        arguments: Sequence[str],
        standard_input: bytes,
        environment: Mapping[str, str],
        directory: Path,
        limit: float,
    ) -> subprocess.CompletedProcess[bytes]:
        """
        Run a command and wait until it has exited.

        Raises:
            TimeoutError: If that takes longer than ``limit`` seconds.
        """
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            files[0].write(standard_input)
            files[0].seek(0)
            streams = [file.fileno() for file in files]
            connection = stack.enter_context(self._fork(arguments, streams, environment, directory))
            status = RunningCommand(connection).wait(limit)
            for file in files[1:]:
                file.seek(0)
            return subprocess.CompletedProcess(list(arguments), status, files[1].read(), files[2].read())

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], directory: Path, *, has_input: bool
    ) -> RunningCommand:
        """Start a command with pipes for its output, and for its input if it has any."""
        with contextlib.ExitStack() as stack:
            ends = [os.pipe() for _ in range(3)]
            stdin, stdout, stderr = (
                os.fdopen(ends[0][1], "wb"),
                os.fdopen(ends[1][0], "rb"),
                os.fdopen(ends[2][0], "rb"),
            )
            theirs = [stack.enter_context(os.fdopen(end, "rb")) for end in (ends[0][0], ends[1][1], ends[2][1])]
            if not has_input:
                stdin.close()
            connection = self._fork(arguments, [end.fileno() for end in theirs], environment, directory)
        return RunningCommand(connection, stdin if has_input else None, stdout, stderr)

    def start_in_terminal(
        self, arguments: Sequence[str], environment: Mapping[str, str], directory: Path, terminal: int
    ) -> RunningCommand:
        """Start a command in a session of its own, with this controlling terminal."""
        return RunningCommand(self._fork(arguments, [terminal] * 3, environment, directory, in_terminal=True))

    def _fork(
        self,
        arguments: Sequence[str],
        streams: Sequence[int],
        environment: Mapping[str, str],
        directory: Path,
        *,
        in_terminal: bool = False,
    ) -> socket.socket:
        """Request a fork; return the socket on which the server sends the process ID and the exit status."""
        ours, theirs = socket.socketpair()
        with theirs:
            request = pickle.dumps((list(map(os.fsencode, arguments)), dict(environment), directory, in_terminal))
            socket.send_fds(self._socket, [request], [*streams, theirs.fileno()])
        return ours

    def close(self) -> None:
        """End the server."""
        self._socket.close()
        self._process.wait()


def serve(descriptor: int) -> None:
    """Handle requests until the socket is closed. Returns only in the child that runs a command."""
    with socket.socket(fileno=descriptor) as requests:
        while True:
            request, descriptors, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 4)
            reap_children()
            if not request:
                sys.exit()
            if not os.fork():
                requests.close()
                break
            for each in descriptors:
                os.close(each)
    *streams, reply = descriptors
    if child := os.fork():
        for stream in streams:
            os.close(stream)
        os.write(reply, NUMBER.pack(child))
        _, status = os.waitpid(child, 0)
        os.write(reply, NUMBER.pack(os.waitstatus_to_exitcode(status)))
        os._exit(0)
    os.close(reply)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    arguments, environment, directory, in_terminal = pickle.loads(request)
    if in_terminal:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["geartrain", *map(os.fsdecode, arguments)]


def reap_children() -> None:
    """Reap the intermediate processes that have exited, so that the CPU time of all tests includes that of commands."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def import_commands() -> None:
    """Import what commands import when they run."""
    import geartrain.cli.app
    import geartrain.cli.commands

    for module in pkgutil.iter_modules(geartrain.cli.commands.__path__, "geartrain.cli.commands."):
        importlib.import_module(module.name)
    gc.freeze()  # so that children do not collect objects shared with the parent when they exit


if __name__ == "__main__":
    import geartrain.cli

    import_commands()
    save_before_forks()
    serve(int(sys.argv[1]))
    geartrain.cli.main()
