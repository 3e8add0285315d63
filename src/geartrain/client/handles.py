"""Makes the handles that users see of what the protocol core knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geartrain.handle import JobHandle

if TYPE_CHECKING:
    from geartrain.client.task import Task

__all__ = ["make_handle"]


def make_handle(server: str, handle: bytes, task: Task, unique: bytes | None) -> JobHandle:
    """
    Return the handle of a job.

    Args:
        server: The job server's address.
        handle: As the job server sent it.
        task: What was submitted.
        unique: That was generated for it, or ``None``: then the task's own counts, or it was sent without one.
    """
    sent = unique or task._unique or b""
    return JobHandle(
        server, handle.decode("utf-8", "surrogateescape"), task._function, sent.decode("utf-8", "surrogateescape")
    )
