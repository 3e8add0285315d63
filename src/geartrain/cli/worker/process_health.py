"""What a supervised process answers when the supervisor asks how it is, through the socket between them."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Final

from geartrain.worker import Worker

__all__ = ["JOB_DONE", "ProcessHealth", "answer"]

JOB_DONE: Final = b"."  # sent by a process before it exits if it has done a job
_QUESTION: Final = b"?"
_READY: Final = b"r"
_NOT_READY: Final = b"n"
_READ_SIZE: Final = 4096


class ProcessHealth:
    """
    The supervisor's side.

    Args:
        control_socket: The socket, which does not block.

    Attributes:
        answered_at: When the process last answered, by the monotonic clock; ``None`` until it has loaded its worker.
        is_ready: Whether it took jobs then.
    """

    def __init__(self, control_socket: socket.socket) -> None:
        self._socket = control_socket
        self._has_done_job = False
        self.answered_at: float | None = None
        self.is_ready: bool = False

    def ask(self) -> None:
        """Ask once more, and read the answers to what was asked before."""
        self._receive()
        with contextlib.suppress(OSError):  # the process has exited, or has not read so many questions
            self._socket.send(_QUESTION)

    def has_done_job(self) -> bool:
        """Return whether the process has done a job, which is known only once it has exited."""
        self._receive()
        return self._has_done_job

    def _receive(self) -> None:
        try:
            answers = self._socket.recv(_READ_SIZE)
        except OSError:  # nothing was sent
            return
        self._has_done_job = self._has_done_job or JOB_DONE in answers
        if states := answers.replace(JOB_DONE, b""):
            self.answered_at = time.monotonic()
            self.is_ready = states.endswith(_READY)


def answer(control_socket: socket.socket, worker: Worker) -> bool:
    """
    Answer the questions that have arrived, in the event loop of the worker: only if that turns, it is alive.

    Returns:
        Whether the supervisor still exists.
    """
    try:
        if not control_socket.recv(_READ_SIZE):
            return False
        control_socket.send(_READY if worker.ready() else _NOT_READY)
    except BlockingIOError:  # the supervisor has not read the answers before
        pass
    except OSError:
        return False
    return True
