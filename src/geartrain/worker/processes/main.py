"""The main program of a worker's process: runs one function, one job at a time."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from geartrain.fork_safety import check_process
from geartrain.protocol.packets import PacketType
from geartrain.protocol.worker import Assignment, check_size
from geartrain.worker.forked import ending_forked_copies
from geartrain.worker.function import Function, run_blocking
from geartrain.worker.job import WorkerJob, encode_result
from geartrain.worker.process_hooks import ProcessHooks
from geartrain.worker.processes.exception_transfer import describe_exception
from geartrain.worker.processes.messages import Completed, LostQuery, LostReply, Message, Raised, RunJob, Update
from geartrain.worker.processes.pipe import MessagePipe
from geartrain.worker.reporter import job_ended_error
from geartrain.worker.results import needs_loop, resolve_outcome

__all__ = ["GROUP_SIGNALS", "ProcessMain", "leave_signals_to_worker"]

# Ctrl-C in a terminal, a closed terminal and many supervisors signal a whole process group. The worker decides how
# its jobs end, and ends its processes when they are done.
GROUP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_forking: Final = threading.local()  # the signal mask of a thread that forks


class ProcessMain:
    """
    The main program of a process. The worker pickles it; ``multiprocessing.spawn.spawn_main`` unpickles and calls it.

    Args:
        descriptor: The socket to the worker.
        program: The :class:`Function` and the :class:`ProcessHooks`, pickled. They are unpickled late: importing their
            modules may fail, and each job then ends with that error.
    """

    def __init__(self, descriptor: int, program: bytes) -> None:
        self._descriptor = descriptor
        self._pickled = program
        self._program: tuple[Function, ProcessHooks] | None = None  # once the start hook has succeeded

    def _bootstrap(self, parent_sentinel: int) -> int:
        """Serve the worker until it closes the connection, and return the exit status."""
        os.close(parent_sentinel)
        leave_signals_to_worker()
        os.set_inheritable(self._descriptor, False)
        pipe = MessagePipe(socket.socket(fileno=self._descriptor))
        try:
            while True:
                number, order = pipe.receive()
                assert isinstance(order, RunJob)
                reporter = PipeReporter(pipe, number, order)
                reporter.end(self._run(reporter))
        except (EOFError, WorkerGoneError):
            self._stop()
            return 0

    def _start(self) -> Function:
        """Return the function; before the first job call the start hook, again if it has raised."""
        if self._program is None:
            function, hooks = pickle.loads(self._pickled)  # noqa: S301  # from the worker
            if hooks.start is not None:
                hooks.start()
            self._program = function, hooks
        return self._program[0]

    def _stop(self) -> None:
        if self._program is not None and (stop := self._program[1].stop) is not None:
            stop()

    def _run(self, reporter: PipeReporter) -> Completed | Raised:
        try:
            function = self._start()
            job = WorkerJob(reporter, function.name)
            try:
                with ending_forked_copies():
                    result = run_blocking(function, job)
                    if needs_loop(result):
                        result, error = asyncio.run(resolve_outcome(result, job))
                        if error is not None:
                            raise error
                return _pack_result(job.function, result)
            finally:
                reporter.has_ended = True
        except WorkerGoneError:
            raise
        except BaseException as error:  # noqa: BLE001  # it is raised again in the worker, SystemExit included
            return describe_exception(error)


def _pack_result(function: str, result: object) -> Completed:
    """Pack a result as it is: the worker's middleware may use what cannot be sent to a client."""
    if result is None or type(result) in (bytes, str):
        return Completed(result)  # type: ignore[arg-type]  # mypy does not narrow by this
    try:
        return Completed(pickle.dumps(result), is_pickled=True)
    except Exception:  # noqa: BLE001  # whatever the user's class does when it is pickled
        return Completed(encode_result(function, result))


class WorkerGoneError(SystemExit):
    """The worker has ended, and so does this process: an ordinary exception would look like one of the function's."""


class PipeReporter:
    """
    Reports about a job in this process through the pipe to the worker, which sends them to the job server.

    Args:
        pipe: The connection to the worker.
        number: The job's number.
        order: The worker's order to run the job.

    Attributes:
        has_ended: The function has returned or raised; no update may follow.
    """

    def __init__(self, pipe: MessagePipe, number: int, order: RunJob) -> None:
        self.assignment: Assignment = Assignment._make(order[:4])
        self.server: str = order.server
        self.max_packet_size: int = order.max_packet_size
        self.has_ended: bool = False
        self._pipe = pipe
        self._number = number
        self._process = os.getpid()
        self._lock = threading.Lock()  # a function may start threads

    @property
    def is_lost(self) -> bool:
        """Whether the job server has given the job away; true once the job has ended."""
        with self._exchange():
            if self.has_ended:  # only the main thread may receive now
                return True
            self._pipe.send(self._number, LostQuery())
            number, reply = self._pipe.receive()
            assert number == self._number
            assert isinstance(reply, LostReply)
            return reply.lost

    def send_update(self, kind: PacketType, data: bytes) -> None:
        """
        Send an update about the job.

        Raises:
            JobTooLargeError: If it is longer than ``max_packet_size``.
            LocalProtocolError: If the job has ended.
        """
        with self._exchange():
            if self.has_ended:
                raise job_ended_error(self.assignment)
            check_size("update", data, self.max_packet_size)  # in the worker it would be too late for the function
            self._pipe.send(self._number, Update(int(kind), data))

    def end(self, message: Message) -> None:
        """Send the outcome of the job; a thread that the function left behind can send nothing after it."""
        with self._exchange():
            self.has_ended = True
            self._pipe.send(self._number, message)

    async def drain(self) -> None:
        """Return immediately: sending blocks while the worker is slow to receive."""

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        check_process(self._process, "this WorkerJob")  # before the lock: in a forked process it may be held forever
        with self._lock:
            try:
                yield
            except EOFError as error:
                raise WorkerGoneError from error


def leave_signals_to_worker() -> None:
    """
    Do nothing at signals to the process group, unless they were ignored at start.

    They are not set to SIG_IGN, which programs that the function starts would inherit. What it forks gets the default
    handlers back, so that it can be terminated; a signal that comes too early for that waits.
    """
    for number in GROUP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _do_nothing)
    os.register_at_fork(
        before=_block_signals, after_in_parent=_unblock_signals, after_in_child=_restore_and_unblock_signals
    )
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)  # the worker has blocked them for our start


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


def _block_signals() -> None:
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _restore_and_unblock_signals() -> None:
    for number in GROUP_SIGNALS:
        if signal.getsignal(number) is _do_nothing:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _unblock_signals()
