"""An event loop whose time advances only when all tasks wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.network import Network


home: ContextVar[str] = ContextVar("home", default="client")  # the host from which connections are made


class DeadlockError(Exception):
    """All tasks wait, and no timer is set."""


class _Clock:
    """Stands in for the selector: waiting for events advances the time."""

    def __init__(self) -> None:
        self.now = 0.0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise DeadlockError("all tasks wait, and no timer is set")
        self.now += timeout
        return []

    def close(self) -> None:
        pass


class SimulatedLoop(asyncio.BaseEventLoop):
    """asyncio's own scheduling, with a virtual clock and a network in memory; nothing in it depends on the machine."""

    network: Network

    def __init__(self) -> None:
        super().__init__()
        self._clock = _Clock()
        self._selector = self._clock
        self._clock_resolution = 1e-6
        self.unhandled: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.unhandled.append(context))

    def time(self) -> float:
        return self._clock.now

    def _process_events(self, event_list: Sequence[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        pass

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        # A task with its own context still belongs to the host that created it.
        context: Context | None = options.get("context")
        if context is not None and home not in context:
            context.run(home.set, home.get())
        return super().create_task(coro, **options)

    def left(self) -> list[asyncio.TimerHandle]:
        """Return the timers that are set and were not cancelled."""
        return [timer for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]

    async def create_connection(self, protocol_factory: Callable[[], Any], *, sock: Any, **_: Any) -> Any:  # type: ignore[override]
        return await self.network.connect(protocol_factory, *sock)

    async def create_server(self, protocol_factory: Callable[[], Any], host: Any, port: Any, **_: Any) -> Any:  # type: ignore[override]
        return self.network.listen(protocol_factory, host, port)
