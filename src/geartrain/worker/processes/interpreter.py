"""A fresh Python interpreter that runs a given main program in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.spawn import get_command_line, get_preparation_data
from subprocess import DEVNULL, Popen
from typing import Final

from geartrain.signals import name_signal
from geartrain.worker.processes.exit_descriptor import is_readable, open_exit_descriptor
from geartrain.worker.processes.main import GROUP_SIGNALS

__all__ = ["END_WITHIN", "Interpreter"]

END_WITHIN: Final = 1.0  # seconds that a process has to end by itself before it is killed


class Interpreter:
    """
    A fresh interpreter. Forking would copy the locks and sockets of a process that has threads.

    It leads a process group, which is killed when it ends: so does what the function has started, unless that has
    started its own session, as a daemon does.

    All methods block and are for threads, except :meth:`kill`.

    multiprocessing prepares it (``sys.path``, the main module), but it is a plain subprocess. A
    ``multiprocessing.Process`` either must not have children or keeps this process from ending, its methods are not
    thread-safe, and its start may wait forever for a process that has died.

    Args:
        name: The name of the function that it runs.

    Attributes:
        exit_descriptor: Becomes readable when it ends; ``None`` unless it is running or has just ended.
        is_killed: :meth:`kill` was called; it may take a while to end.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._popen: Popen[bytes] | None = None
        self.exit_descriptor: int | None = None
        self.is_killed: bool = False

    @property
    def pid(self) -> int:
        """The process ID of a started interpreter."""
        assert self._popen is not None
        return self._popen.pid

    @property
    def has_ended(self) -> bool:
        """Whether it was started and has ended."""
        return self.exit_descriptor is not None and is_readable(self.exit_descriptor, 0)

    def start(self, make_main: Callable[[int], object], descriptors: Iterable[int] = ()) -> socket.socket:
        """
        Start it, and return a socket that is connected to it.

        Args:
            make_main: Called with the descriptor of its socket; returns its main program, which is pickled.
            descriptors: More descriptors that it inherits.

        Raises:
            OSError: If it could not be started.
        """
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
                    pass_fds=(reading, there.fileno(), *descriptors),
                    process_group=0,
                )
            main = make_main(there.fileno())
            theirs.close()
            if self.is_killed:
                self._kill_group()
            self.exit_descriptor = open_exit_descriptor(self._popen)
            with contextlib.suppress(BrokenPipeError), start:  # it has died; the first message will fail
                start.write(pickle.dumps(preparation) + pickle.dumps(main))
            ours.pop_all()
            return here

    def kill(self) -> None:
        """Kill it, now or as soon as it has been started. Never blocks."""
        self.is_killed = True
        self._kill_group()

    def end(self, *, within: float) -> None:
        """Kill what is left of its process group, and wait until it has ended; before, give it this many seconds."""
        if self._popen is None:
            return
        if self.exit_descriptor is not None:
            is_readable(self.exit_descriptor, within)
        self._reap()
        if self.exit_descriptor is not None:
            os.close(self.exit_descriptor)
            self.exit_descriptor = None

    def make_death_error(self) -> ChildProcessError:
        """Return the error of a job whose process has ended, or has closed its socket and is going to be killed."""
        return ChildProcessError(f"the process that ran {self._name!r} {self._how_it_ended()}")

    def _how_it_ended(self) -> str:
        assert self.exit_descriptor is not None
        if not is_readable(self.exit_descriptor, END_WITHIN):
            return "closed its pipe"
        status = self._reap()
        return f"was killed by {name_signal(-status)}" if status < 0 else f"ended with status {status}"

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


@contextlib.contextmanager
def _group_signals_blocked() -> Iterator[None]:
    """Block the signals in this thread: a process inherits that, so that none ends it before it has its handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
