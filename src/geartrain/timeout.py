"""``asyncio.timeout`` that does not outlive its use."""

from __future__ import annotations

import asyncio
from contextvars import Context

__all__ = ["timeout"]


class _Timeout(asyncio.Timeout):  # type: ignore[misc]  # final for type checkers only
    """
    A timeout whose timer has an empty ``contextvars`` context.

    asyncio's loop holds a cancelled timer, and the context in which it was set, until its time has come.
    """

    def reschedule(self, when: float | None) -> None:
        Context().run(super().reschedule, when)


def timeout(seconds: float | None) -> asyncio.Timeout:
    """Return what ``asyncio.timeout`` does, to be used in the same way."""
    return _Timeout(None if seconds is None else asyncio.get_running_loop().time() + seconds)
