"""An attempt to connect that several calls share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Generic, TypeVar

__all__ = ["SharedAttempt"]

T = TypeVar("T")


class SharedAttempt(Generic[T]):
    """
    One attempt, for which all calls that need its outcome wait. It is cancelled with the last of them.

    Args:
        attempt: Returns the outcome. It does not raise.

    Attributes:
        is_over: The attempt has ended or was cancelled; another call must start its own.
    """

    def __init__(self, attempt: Coroutine[Any, Any, T]) -> None:
        self._task = asyncio.get_running_loop().create_task(attempt, context=Context())
        self._waiting = 0
        self.is_over: bool = False

    async def wait(self) -> T | None:
        """Wait for the outcome and return it, or ``None`` if the attempt was cancelled."""
        self._waiting += 1
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            if self._waiting == 1:
                await self.cancel()
            raise
        finally:
            self._waiting -= 1
        self.is_over = True
        return None if self._task.cancelled() else self._task.result()

    async def cancel(self) -> None:
        """Cancel the attempt and wait until it has ended."""
        self.is_over = True
        self._task.cancel()
        await asyncio.wait([self._task])
