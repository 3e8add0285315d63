"""Shows a view on the whole terminal, which is restored at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.screen import Screen

from geartrain.cli.keyboard import Keyboard
from geartrain.cli.watch import REFRESH_INTERVAL

__all__ = ["LiveScreen", "LiveView"]


class LiveView(Protocol):
    """What a screen shows."""

    async def update(self) -> None:
        """Get the current data."""

    def draw(self, width: int, height: int) -> RenderableType:
        """Return a drawing of this size in characters."""

    def press(self, key: str) -> None:
        """Handle a key press, such as ``down``."""


class LiveScreen:
    """
    A view on the alternate screen of a terminal, until ``q`` is pressed.

    It is updated once a second, and redrawn after each key press and when the size of the terminal changes. Ctrl-Z
    restores the terminal while the command is suspended.

    Args:
        console: The terminal.
        view: What to show.
    """

    def __init__(self, console: Console, view: LiveView) -> None:
        self._console = console
        self._view = view
        self._terminal = contextlib.ExitStack()
        self._quit = asyncio.Event()

    async def run(self) -> None:
        """Show the view; return when ``q`` is pressed."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._update_forever()), loop.create_task(self._quit.wait())]
        with contextlib.ExitStack() as stack:
            for number, handler in ((signal.SIGWINCH, self._draw), (signal.SIGTSTP, self._suspend)):
                loop.add_signal_handler(number, handler)
                stack.callback(loop.remove_signal_handler, number)
            stack.callback(self._leave)
            self._enter()
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            for task in done:
                task.result()

    async def _update_forever(self) -> None:
        while True:
            await self._view.update()
            self._draw()
            await asyncio.sleep(REFRESH_INTERVAL)

    def _enter(self) -> None:
        self._terminal.enter_context(self._console.screen(hide_cursor=True))
        self._terminal.enter_context(Keyboard(self._on_key))
        self._draw()

    def _leave(self) -> None:
        self._terminal.close()

    def _draw(self) -> None:
        width, height = self._console.size
        self._console.print(Group(Control.home(), Screen(self._view.draw(width, height))), end="")

    def _on_key(self, key: str) -> None:
        if key in ("q", "Q"):
            self._quit.set()
        else:
            self._view.press(key)
            self._draw()

    def _suspend(self) -> None:
        loop = asyncio.get_running_loop()
        self._leave()
        loop.remove_signal_handler(signal.SIGTSTP)
        os.kill(0, signal.SIGTSTP)  # the default action; it is not SIGSTOP, for there may be no shell to continue us
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        self._enter()
