"""An ``asyncio.timeout`` that does not keep the context of its caller alive."""

from __future__ import annotations

import asyncio
from contextvars import Context

__all__ = ["timeout"]


class _Timeout(asyncio.Timeout):  # type: ignore[misc]  # final for type checkers only
    """
    A timeout whose timer has an empty ``contextvars`` context.

    asyncio's event loop keeps a cancelled timer, and its context, until it is due.
    """

    def reschedule(self, when: float | None) -> None:
        Context().run(super().reschedule, when)


def timeout(seconds: float | None) -> asyncio.Timeout:
    """Return a timeout, to be used like that of ``asyncio.timeout``."""
    return _Timeout(None if seconds is None else asyncio.get_running_loop().time() + seconds)
