"""One run of a worker whose processes have connections of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from geartrain.loop_binding import LoopBinding
from geartrain.worker.lifecycle import Lifecycle
from geartrain.worker.memory import resident_memory
from geartrain.worker.outcomes import Outcomes
from geartrain.worker.prefork.eligibility import can_prefork
from geartrain.worker.prefork.left_connections import LeftConnections
from geartrain.worker.prefork.process import PreforkProcess
from geartrain.worker.prefork.seat import Seat
from geartrain.worker.prefork.settings import ProcessSettings

if TYPE_CHECKING:
    from datetime import datetime

    from geartrain.address import Address
    from geartrain.worker.config import WorkerConfig
    from geartrain.worker.counters import WorkerCounters
    from geartrain.worker.function import Function

__all__ = ["PreforkRun"]

_TICK: Final = 1.0  # seconds between two checks of the memory


class PreforkRun:
    """
    Everything that lives for one ``Worker.run()`` whose functions all run in processes.

    Each process is a worker of its own, with one function. This process starts and watches them.

    Args:
        servers: The job servers, with their counters.
        config: The worker's options.
        functions: Its functions, by ability. Call :meth:`register` for one that is added later.

    Attributes:
        is_superseded: The run has ended, or will end, only because a function was registered that it cannot run.
    """

    def __init__(
        self, servers: Mapping[Address, WorkerCounters], config: WorkerConfig, functions: Mapping[bytes, Function]
    ) -> None:
        self.binding: LoopBinding = LoopBinding()
        self.loop: asyncio.AbstractEventLoop = self.binding.loop
        self._servers = servers
        self._config = config
        self._functions = functions
        self._lifecycle = Lifecycle()
        self._outcomes = Outcomes(config)
        self._left = LeftConnections()
        self._seats: list[Seat] = []
        self._ended: list[asyncio.Future[None]] = []  # of each seat
        self._is_running = False
        self._tick_timer: asyncio.TimerHandle | None = None
        self._is_stopped = False
        self.is_superseded: bool = False
        for function in functions.values():
            self._add_seats(function)

    @property
    def is_taking_jobs(self) -> bool:
        """Whether :meth:`stop` has not been called."""
        return not self._is_stopped

    @property
    def is_ready(self) -> bool:
        """Whether jobs are requested and at least one job server has replied."""
        return self.is_taking_jobs and any(
            connection.has_replied for process in self._processes() for connection in list(process.connections.values())
        )

    def connected_since(self) -> dict[Address, datetime]:
        """Return since when each connected job server has been connected, in UTC. Updates the counters as well."""
        addresses = list(self._servers)
        since: dict[Address, datetime] = {}
        for process in self._processes():
            process.transfer_counters()
            for connection in list(process.connections.values()):
                address = addresses[connection.server]
                since[address] = min(connection.connected_since, since.get(address, connection.connected_since))
        return since

    async def start(self, hook: Awaitable[None]) -> bool:
        """Wait for the ``on_start`` hook; return ``False`` if :meth:`stop` has cancelled it."""
        return await self._lifecycle.start(hook)

    async def run(self) -> None:
        """Serve the job servers until :meth:`stop`; when cancelled, give the running jobs back."""
        self._is_running = True
        for seat in self._seats:
            seat.start()
        self._on_tick()
        try:
            await self._lifecycle.stopped
            await self._drain()
        except BaseException:
            self._left.abort()
            raise
        finally:
            await self._close()

    def stop(self) -> None:
        """Request no more jobs; :meth:`run` ends when the running ones have ended."""
        self._is_stopped = True
        self.is_superseded = False
        self._end()

    def register(self, function: Function) -> None:
        """Start processes for one more function, or end the run if it cannot run in processes like these."""
        if can_prefork(self._servers, self._config, self._functions):
            seats = self._add_seats(function)
            if self._is_running:
                for seat in seats:
                    seat.start()
        elif not self._is_stopped:
            self.is_superseded = True
            self._end()

    def _end(self) -> None:
        self._lifecycle.stop()
        for seat in self._seats:
            seat.stop()

    def _add_seats(self, function: Function) -> list[Seat]:
        assert function.processes is not None
        settings = ProcessSettings.make(tuple(self._servers), self._config, function)
        create = partial(
            PreforkProcess,
            settings,
            list(self._servers.values()),
            self._outcomes,
            self._config.logger,
            self._config.metrics,
            self._leave_connection,
        )
        seats = []
        for _ in range(function.processes):
            ended: asyncio.Future[None] = self.loop.create_future()
            on_ended = partial(self._call_soon, self._on_seat_ended, ended)
            seats.append(Seat(create, partial(self._on_failed_start, function.name), on_ended, self._config.on_restart))
            self._ended.append(ended)
        self._seats += seats
        return seats

    def _processes(self) -> list[PreforkProcess]:
        return [process for seat in self._seats if (process := seat.process) is not None]

    # Called in the threads of seats.

    def _leave_connection(self, connection: socket.socket, packets: bytes) -> None:
        self._call_soon(self._left.add, connection, packets)

    def _on_failed_start(self, name: str, error: Exception) -> None:
        self._call_soon(
            self._config.logger.warning, "a process for %r could not be started, or has died: %s", name, error
        )

    def _call_soon(self, call: Callable[..., object], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            self.loop.call_soon_threadsafe(call, *arguments, context=Context())

    # In the event loop.

    def _on_seat_ended(self, ended: asyncio.Future[None], error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result(None)
        if error is not None:
            self._lifecycle.fail(error)

    def _on_tick(self) -> None:
        self._tick_timer = self.loop.call_later(_TICK, self._on_tick, context=Context())
        config = self._config
        if config.max_memory is not None and self.is_taking_jobs and (memory := resident_memory()) > config.max_memory:
            config.logger.info("stopping: the process uses %d bytes of memory (max_memory)", memory)
            self.stop()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._config.grace):
                await asyncio.wait(self._ended)
        except TimeoutError:
            self._config.logger.warning(
                "returning the jobs of %d processes that did not end within the grace period of %g s",
                sum(not ended.done() for ended in self._ended),
                self._config.grace,
            )

    async def _close(self) -> None:
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        for seat in self._seats:
            seat.return_job()
        await asyncio.wait(self._ended)
        await self._left.wait_closed()
