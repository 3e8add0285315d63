"""What all parts of one client share: event loop, options, logger, background tasks, closing connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from geartrain.client.callbacks import CallbackRunner, PendingCallbacks
from geartrain.client.slices import Slices
from geartrain.client.submit_prefixes import SubmitPrefixes
from geartrain.client.uniques import generate_uniques
from geartrain.loop_binding import LoopBinding

if TYPE_CHECKING:
    import logging

    from geartrain.client.config import ClientConfig
    from geartrain.connection import Connection

__all__ = ["ClientRuntime"]

T = TypeVar("T")

# Seconds that coroutine callbacks of jobs that were disconnected may take before they are cancelled.
CALLBACK_GRACE: Final = 5.0


class Disconnectable(Protocol):
    """What ends when the client is disconnected."""

    def on_disconnected(self) -> None:
        """End, unless it has ended."""


class ClientRuntime:
    """
    What the parts of one client have in common in one event loop.

    Args:
        binding: The event loop, its thread and its process.
        config: The client's options.
        on_idle: Called when the last work that was divided into slices is done.

    Attributes:
        loop: The event loop.
        open_in: The thread from which jobs are accepted; ``None`` while the client is closed.
        slices: Work that is divided, so that it does not hold up the loop.
        callbacks: Those that were scheduled and have not ended.
        hooks: ``on_connected`` and ``on_disconnected``.
        submit_prefixes: How submissions with an empty unique begin, by function.
        name_prefixes: How submissions with a unique begin, by function.
        uniques: Generates uniques.
    """

    def __init__(self, binding: LoopBinding, config: ClientConfig, on_idle: Callable[[], None]) -> None:
        self.binding = binding
        self.loop: asyncio.AbstractEventLoop = binding.loop
        self.config = config
        self.logger: logging.Logger = config.logger
        self.open_in: int | None = binding.thread
        self.slices: Slices = Slices(self.loop, on_idle)
        self.callbacks: PendingCallbacks = PendingCallbacks()
        # Connections outlive those who use them, so their callbacks have their own context.
        self.hooks: CallbackRunner = CallbackRunner(config.hooks, self.loop, self.callbacks, Context())
        self.submit_prefixes: SubmitPrefixes = SubmitPrefixes(config.prefix, b"\0\0")
        self.name_prefixes: SubmitPrefixes = SubmitPrefixes(config.prefix, b"\0")
        self.uniques: Iterator[bytes] = generate_uniques()
        self._tasks: set[asyncio.Task[Any]] = set()  # cancelled ones too until they end
        self._closing: dict[Connection, None] = {}  # connections that are no longer used, and not closed yet

    def check_job_access(self) -> None:
        """
        Check that a job is used in the client's process, thread and event loop.

        Raises:
            LocalProtocolError: If it does not.
        """
        self.binding.check_thread("this Job", "asyncio.run_coroutine_threadsafe or job.get_loop().call_soon_threadsafe")

    def function_name(self, function: str) -> str:
        """Return a function's name with the prefix, as job servers list it."""
        return self.name_prefixes[function][:-1].decode("utf-8", "surrogateescape")

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start an asyncio task that ends with the connections, if not before. It runs in its own context."""
        task = self.loop.create_task(work, name=name, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard, context=Context())
        return task

    def keep_until_closed(self, connection: Connection) -> None:
        """Keep a connection that is no longer used, until its socket is closed."""
        self._closing[connection] = None
        connection.closed.add_done_callback(lambda _: self._closing.pop(connection, None), context=Context())

    def disconnect(self, jobs: Iterable[Disconnectable]) -> None:
        """End jobs because the client was disconnected, in slices."""
        self.slices.add(_disconnect_each(jobs))

    def abort(self) -> None:
        """Cancel the tasks, and close the sockets that are still open."""
        for task in self._tasks:
            task.cancel()
        for connection in self._closing:
            connection.abort()

    async def wait_closed(self) -> None:
        """Wait until no socket and no asyncio task is left, and every callback has run except those that wait here."""
        await self.slices.wait()
        left: list[asyncio.Future[None]] = [*self._tasks, *(connection.closed for connection in self._closing)]
        if left:
            await asyncio.wait(left)
        await self.callbacks.wait(CALLBACK_GRACE)


def _disconnect_each(jobs: Iterable[Disconnectable]) -> Iterator[None]:
    for job in jobs:
        job.on_disconnected()
        yield
