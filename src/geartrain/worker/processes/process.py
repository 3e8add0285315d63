"""One process of a worker that gets its jobs from the worker, as the worker sees it."""

from __future__ import annotations

import pickle

from geartrain.protocol.packets import PacketType
from geartrain.worker.processes.exception_transfer import rebuild_exception
from geartrain.worker.processes.interpreter import END_WITHIN, Interpreter
from geartrain.worker.processes.main import ProcessMain
from geartrain.worker.processes.messages import Completed, LostQuery, LostReply, Message, Raised, RunJob, Update
from geartrain.worker.processes.pipe import MessagePipe
from geartrain.worker.reporter import JobReporter

__all__ = ["WorkerProcess"]


class WorkerProcess:
    """
    Runs one function, one job at a time, in an :class:`~geartrain.worker.processes.interpreter.Interpreter`.

    All methods block and are for threads, except :meth:`kill`.

    Args:
        name: The name of the function.
        program: The :class:`~geartrain.worker.function.Function` and the
            :class:`~geartrain.worker.process_hooks.ProcessHooks`, pickled.
        stop_within: How long it may take to end without a job (seconds).

    Attributes:
        reusable: Whether it has no job, so that the next one can be given to it.
    """

    def __init__(self, name: str, program: bytes, stop_within: float = END_WITHIN) -> None:
        self._program = program
        self._stop_within = stop_within
        self._interpreter = Interpreter(name)
        self._pipe: MessagePipe | None = None
        self._number = 0  # of the current job
        self.reusable: bool = True

    @property
    def ended(self) -> bool:
        """Whether the process was started and has ended."""
        return self._interpreter.has_ended

    @property
    def is_killed(self) -> bool:
        """Whether :meth:`kill` was called; the process may take a while to end."""
        return self._interpreter.is_killed

    def run(self, job: JobReporter) -> object:
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
                case Completed(result, is_pickled):
                    self.reusable = True
                    if not is_pickled:
                        return result
                    assert isinstance(result, bytes)
                    return pickle.loads(result)  # noqa: S301  # from our own process
                case Raised() as raised:
                    self.reusable = True
                    raise rebuild_exception(raised)

    def kill(self) -> None:
        """Kill the process, now or as soon as it has been started. Never blocks."""
        self._interpreter.kill()

    def close_pipe(self) -> None:
        """Have the process end by itself when its function has returned."""
        if self._pipe is not None:
            self._pipe.close()

    def end(self) -> None:
        """End the process, and wait until it has ended."""
        self.close_pipe()
        self._interpreter.end(within=self._stop_within if self.reusable else 0)

    def _start(self) -> MessagePipe:
        connection = self._interpreter.start(lambda descriptor: ProcessMain(descriptor, self._program))
        return MessagePipe(connection, self._interpreter.exit_descriptor)

    def _send(self, message: Message) -> None:
        assert self._pipe is not None
        try:
            self._pipe.send(self._number, message)
        except EOFError:
            raise self._interpreter.make_death_error() from None

    def _receive(self) -> Message:
        assert self._pipe is not None
        try:
            while True:
                number, message = self._pipe.receive()
                if number == self._number:
                    return message
        except EOFError:
            raise self._interpreter.make_death_error() from None
