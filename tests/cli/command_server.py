"""
Runs commands in forked children of one process, so that Python imports geartrain only once.

``python -m tests.cli.command_server DESCRIPTOR`` reads requests from a socket until it is closed. A request is the
pickled arguments and environment of a command, with four descriptors: standard input, output and error of the command,
and a socket on which its exit status is sent.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

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
        self, arguments: Sequence[str], standard_input: bytes, environment: Mapping[str, str], limit: float
    ) -> subprocess.CompletedProcess[bytes]:
        """
        Run a command and wait until it has exited.

        Raises:
            TimeoutError: If that takes longer than ``limit`` seconds.
        """
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            ours, theirs = map(stack.enter_context, socket.socketpair())
            files[0].write(standard_input)
            files[0].seek(0)
            request = pickle.dumps((list(map(os.fsencode, arguments)), dict(environment)))
            socket.send_fds(self._socket, [request], [*(file.fileno() for file in files), theirs.fileno()])
            theirs.close()
            ours.settimeout(limit)
            status = int(ours.recv(20))
            for file in files[1:]:
                file.seek(0)
            return subprocess.CompletedProcess(list(arguments), status, files[1].read(), files[2].read())

    def close(self) -> None:
        """End the server."""
        self._socket.close()
        self._process.wait()


def serve(descriptor: int) -> None:
    """Handle requests until the socket is closed. Returns only in the child that runs a command."""
    with socket.socket(fileno=descriptor) as requests:
        while True:
            request, descriptors, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 4)
            if not request:
                sys.exit()
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the intermediate processes need no waiting
            if not os.fork():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                requests.close()
                break
            for each in descriptors:
                os.close(each)
    *streams, reply = descriptors
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        os.write(reply, b"%d" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(reply)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    arguments, environment = pickle.loads(request)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["geartrain", *map(os.fsdecode, arguments)]


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
    serve(int(sys.argv[1]))
    geartrain.cli.main()
