"""The processes in which a function runs, as the worker sees them."""

from __future__ import annotations

import multiprocessing
import threading
from multiprocessing.connection import Connection

from geartrain.signals import name_signal
from geartrain.worker.child import AskLost, Completed, Order, Raised, Update, serve
from geartrain.worker.function import Function
from geartrain.worker.job import WorkerJob

__all__ = ["Processes"]

# A fresh interpreter: forking a process that has threads and an event loop would copy locks and sockets.
_CONTEXT = multiprocessing.get_context("spawn")
_END_WITHIN = 1.0  # seconds that an idle process has to end before it is killed


class Child:
    """One process. Its methods block, and are for threads."""

    def __init__(self, function: Function) -> None:
        self._function = function
        here, there = _CONTEXT.Pipe()
        self._pipe: Connection = here
        self._process = _CONTEXT.Process(
            target=serve, args=(there, function), name=f"geartrain {function.name}", daemon=True
        )
        self.usable: bool = True
        try:
            self._process.start()
        except BaseException:
            here.close()
            raise
        finally:
            there.close()

    def run(self, job: WorkerJob) -> bytes:
        """
        Run a job and return its result; pass on what the function sends.

        Raises:
            ChildProcessError: If the process died.
            Exception: What the function raised.
        """
        self.usable = False  # in the middle of a job; whatever ends it early leaves the pipe out of step
        self._send(Order(job._assignment, job.server))
        while True:
            message = self._receive()
            match message:
                case Update(kind, data):
                    job._send(kind, data)
                case AskLost():
                    self._send(job.lost)
                case Completed(data):
                    self.usable = True
                    return data
                case Raised():
                    self.usable = True
                    raise _rebuild(message)

    def kill(self) -> None:
        """End it at once."""
        self.usable = False
        self._process.kill()

    def end(self) -> None:
        """Let it end, and see that it does."""
        self._pipe.close()
        if not self.usable:
            self._process.kill()
        self._process.join(_END_WITHIN)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._process.close()

    def _send(self, message: object) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            raise self._death() from None

    def _receive(self) -> object:
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
            raise self._death() from None

    def _death(self) -> ChildProcessError:
        return ChildProcessError(f"the process that ran {self._function.name!r} {self._how_it_ended()}")

    def _how_it_ended(self) -> str:
        self._process.join(_END_WITHIN)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"was killed by {name_signal(-code)}"
        return "closed its pipe" if code is None else f"ended with status {code}"


class Processes:
    """
    The processes of one function, started when they are needed; one that dies is replaced at the next need.

    Args:
        function: What they run.
        count: How many there may be.
    """

    def __init__(self, function: Function, count: int) -> None:
        self._function = function
        self._count = count
        self._changed = threading.Condition()
        self._idle: list[Child] = []
        self._busy = 0
        self._jobs: dict[WorkerJob, Child | None] = {}  # None: waiting for a process
        self._closed = False

    def run(self, job: WorkerJob) -> bytes:
        """Run a job, in a thread: wait for a process and for the end of the job. Raises as :meth:`Child.run`."""
        try:
            child = self._take(job)
            try:
                return child.run(job)
            finally:
                self._give_back(job, child)
        finally:
            self._jobs.pop(job, None)

    def cancel(self, job: WorkerJob) -> None:
        """End a job at once, and the process that runs it."""
        with self._changed:
            child = self._jobs.pop(job, None)
            if child is not None:
                child.kill()
            self._changed.notify_all()

    def close(self) -> None:
        """End all processes, and wait for their end."""
        with self._changed:
            self._closed = True
            for child in filter(None, self._jobs.values()):
                child.kill()
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for child in idle:
            child.end()
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)

    def _take(self, job: WorkerJob) -> Child:
        with self._changed:
            self._jobs[job] = None
            self._changed.wait_for(
                lambda: self._closed or job not in self._jobs or self._idle or self._busy < self._count
            )
            if self._closed or job not in self._jobs:
                raise ChildProcessError("the job was cancelled before a process was free")
            child = self._idle.pop() if self._idle else Child(self._function)
            self._jobs[job] = child
            self._busy += 1
            return child

    def _give_back(self, job: WorkerJob, child: Child) -> None:
        with self._changed:
            self._jobs.pop(
                job, None
            )  # from here on the process may run another one, which is not to be killed for this
            keep = child.usable and not self._closed
            if keep:
                self._idle.append(child)
        if not keep:
            child.end()
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()


def _rebuild(raised: Raised) -> Exception:
    """Return an exception as it was, or one of the same name; the note says where it came from."""
    error = raised.error or type(raised.type_name, (Exception,), {})(raised.text)
    assert isinstance(error, Exception)
    error.add_note(f"It was raised in a process of the worker:\n\n{raised.trace}")
    return error
