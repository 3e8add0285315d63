"""One process of a worker, as the worker sees it."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
from collections.abc import Iterator
from multiprocessing.spawn import get_command_line, get_preparation_data
from subprocess import DEVNULL, Popen
from typing import Final

from geartrain.protocol.packets import PacketType
from geartrain.signals import name_signal
from geartrain.worker.processes.exception_transfer import rebuild_exception
from geartrain.worker.processes.exit_descriptor import is_readable, open_exit_descriptor
from geartrain.worker.processes.main import GROUP_SIGNALS, ProcessMain
from geartrain.worker.processes.messages import Completed, LostQuery, LostReply, Message, Raised, RunJob, Update
from geartrain.worker.processes.pipe import MessagePipe
from geartrain.worker.reporter import JobReporter

__all__ = ["WorkerProcess"]

_END_WITHIN: Final = 1.0  # seconds that a process has to end by itself before it is killed


class WorkerProcess:
    """
    A fresh interpreter that runs one function. Forking would copy the locks and sockets of a process that has threads.

    It leads a process group, which is killed when it ends: so does what the function has started, unless that has
    started its own session, as a daemon does.

    All methods block and are for threads, except :meth:`kill`.

    multiprocessing prepares it (``sys.path``, the main module), but it is a plain subprocess. A
    ``multiprocessing.Process`` either must not have children or keeps this process from ending, its methods are not
    thread-safe, and its start may wait forever for a process that has died.

    Args:
        name: The name of the function.
        function: The :class:`~geartrain.worker.function.Function`, pickled.

    Attributes:
        reusable: Whether it has no job, so that the next one can be given to it.
        is_killed: :meth:`kill` was called; the process may take a while to end.
    """

    def __init__(self, name: str, function: bytes) -> None:
        self._name = name
        self._function = function
        self._popen: Popen[bytes] | None = None
        self._pipe: MessagePipe | None = None
        self._exit_descriptor: int | None = None
        self._number = 0  # of the current job
        self.reusable: bool = True
        self.is_killed: bool = False

    @property
    def ended(self) -> bool:
        """Whether the process was started and has ended."""
        return self._exit_descriptor is not None and is_readable(self._exit_descriptor, 0)

    def run(self, job: JobReporter) -> bytes:
        """
        Run a job and return its result; pass on what the function sends.

        Raises:
            OSError: If the process could not be started.
            ChildProcessError: If the process died.
            BaseException: What the function raised.
        """
        self.reusable = False
        if self._pipe is None:
            self._pipe = self._start()
        self._number += 1
        self._send(RunJob(*job.assignment, job.server, job.max_packet_size))
        while True:
            match self._receive():
                case Update(kind, data):
                    job.send_update(PacketType(kind), data)
                case LostQuery():
                    self._send(LostReply(job.is_lost))
                case Completed(data):
                    self.reusable = True
                    return data
                case Raised() as raised:
                    self.reusable = True
                    raise rebuild_exception(raised)

    def kill(self) -> None:
        """Kill the process, now or as soon as it has been started. Never blocks."""
        self.is_killed = True
        self._kill_group()

    def close_pipe(self) -> None:
        """Have the process end by itself when its function has returned."""
        if self._pipe is not None:
            self._pipe.close()

    def end(self) -> None:
        """End the process, and wait until it has ended."""
        self.close_pipe()
        if self._popen is None:
            return
        if self.reusable and self._exit_descriptor is not None:
            is_readable(self._exit_descriptor, _END_WITHIN)
        self._reap()
        if self._exit_descriptor is not None:
            os.close(self._exit_descriptor)
            self._exit_descriptor = None

    def _reap(self) -> int:
        """Kill what is left of the process group, wait until the process has ended, and return its status."""
        assert self._popen is not None
        self._kill_group()
        return self._popen.wait()

    def _kill_group(self) -> None:
        # Until it is waited for, its process ID, which is that of the group, is given to no other process.
        if self._popen is not None and self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def _start(self) -> MessagePipe:
        preparation = get_preparation_data(f"geartrain {self._name}")
        preparation["authkey"] = bytes(preparation["authkey"])  # its own type refuses to be pickled outside of a start
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            here, there = socket.socketpair()
            ours.enter_context(here)
            theirs.enter_context(there)
            reading, writing = os.pipe()
            theirs.callback(os.close, reading)
            start = ours.enter_context(open(writing, "wb"))
            with _group_signals_blocked():
                self._popen = Popen(  # noqa: S603  # our own command line
                    get_command_line(pipe_handle=reading),
                    stdin=DEVNULL,
                    pass_fds=(reading, there.fileno()),
                    process_group=0,
                )
            main = ProcessMain(there.fileno(), self._function)
            theirs.close()
            if self.is_killed:
                self._kill_group()
            self._exit_descriptor = open_exit_descriptor(self._popen)
            with contextlib.suppress(BrokenPipeError), start:  # it has died; the first message will fail
                start.write(pickle.dumps(preparation) + pickle.dumps(main))
            ours.pop_all()
            return MessagePipe(here, self._exit_descriptor)

    def _send(self, message: Message) -> None:
        assert self._pipe is not None
        try:
            self._pipe.send(self._number, message)
        except EOFError:
            raise self._death_error() from None

    def _receive(self) -> Message:
        assert self._pipe is not None
        try:
            while True:
                number, message = self._pipe.receive()
                if number == self._number:
                    return message
        except EOFError:
            raise self._death_error() from None

    def _death_error(self) -> ChildProcessError:
        return ChildProcessError(f"the process that ran {self._name!r} {self._how_it_ended()}")

    def _how_it_ended(self) -> str:
        assert self._popen is not None
        assert self._exit_descriptor is not None
        if not is_readable(self._exit_descriptor, _END_WITHIN):
            return "closed its pipe"
        status = self._reap()
        return f"was killed by {name_signal(-status)}" if status < 0 else f"ended with status {status}"


@contextlib.contextmanager
def _group_signals_blocked() -> Iterator[None]:
    """Block the signals in this thread: a process inherits that, so that none ends it before it has its handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
