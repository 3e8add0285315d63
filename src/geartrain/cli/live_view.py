"""Repeatedly redraws a view in place, for ``--watch`` on a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rich.console import Console, RenderableType
from rich.live import Live

from geartrain.cli.watch import REFRESH_INTERVAL

__all__ = ["redraw"]


async def redraw(console: Console, render: Callable[[], Awaitable[RenderableType | None]]) -> None:
    """Draw what ``render`` returns on a terminal once a second, until it returns ``None``."""
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while (drawing := await render()) is not None:
            live.update(drawing, refresh=True)
            await asyncio.sleep(REFRESH_INTERVAL)
