"""One run of a worker, from start to stop."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Awaitable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Final

from geartrain.errors import NoServersError
from geartrain.loop_binding import LoopBinding
from geartrain.protocol.heartbeat import CHECKS_PER_INTERVAL
from geartrain.worker.channel import ServerChannel
from geartrain.worker.executors import Executors
from geartrain.worker.guard import Guard
from geartrain.worker.job_runner import JobRunner
from geartrain.worker.lifecycle import Lifecycle
from geartrain.worker.memory import resident_memory
from geartrain.worker.slots import Slots

if TYPE_CHECKING:
    from datetime import datetime

    from geartrain.address import Address
    from geartrain.protocol.worker import Assignment
    from geartrain.worker.config import WorkerConfig
    from geartrain.worker.counters import WorkerCounters
    from geartrain.worker.function import Function
    from geartrain.worker.observer import RunObserver
    from geartrain.worker.session import WorkerSession
    from geartrain.worker.thread_pool import Threads

__all__ = ["WorkerRun"]

_DELIVERY_TIMEOUT: Final = 5.0  # seconds that job servers have, after the last job, to receive the last results


class WorkerRun:
    """
    Everything that lives for one ``Worker.run()``: channels, slots, the job runner and its executors.

    Args:
        servers: The job servers, with their counters.
        config: The worker's options.
        functions: Its functions, by ability. Call :meth:`register` for one that is added later.
        threads: Run what may block, if threads exist already for that. Closed when the run ends.
        waits_for_servers: Whether to keep trying if no job server can be reached.
        observer: Notified of connections, and of jobs in threads.
    """

    is_superseded: Final = False  # it can run any function

    def __init__(
        self,
        servers: Mapping[Address, WorkerCounters],
        config: WorkerConfig,
        functions: Mapping[bytes, Function],
        threads: Threads | None = None,
        *,
        waits_for_servers: bool = True,
        observer: RunObserver | None = None,
    ) -> None:
        self.binding: LoopBinding = LoopBinding()
        self.loop: asyncio.AbstractEventLoop = self.binding.loop
        self._lifecycle = Lifecycle()
        self._config = config
        self._observer = observer
        self._waits_for_servers = waits_for_servers
        self._executors = Executors(config.job_limit, threads, config.process_hooks, config.on_restart)
        self._guard = Guard()
        self._job_runner = JobRunner(config, functions, self._executors, self._guard, self._release_slot, observer)
        self._slots: Slots[WorkerSession, Assignment] = Slots(
            config.job_limit, self._start_job, math.inf if config.max_jobs is None else config.max_jobs
        )
        # uvloop's connections can only be read by the loop, and Windows has no poll().
        can_read = isinstance(self.loop, asyncio.BaseEventLoop) and os.name == "posix"
        reads_in_threads = can_read and self._job_runner.prefers_threads
        reader = self._executors.read_in_threads(self._on_reader_failed) if reads_in_threads else None
        self.channels: list[ServerChannel] = [
            ServerChannel(
                server, config, functions, self._slots, self._guard, counters, self._on_channel_failed, reader, observer
            )
            for server, counters in servers.items()
        ]
        self._drained: asyncio.Future[None] = self.loop.create_future()
        self._tick_timer: asyncio.TimerHandle | None = None

    @property
    def is_taking_jobs(self) -> bool:
        """Whether :meth:`stop` has not been called."""
        return self._slots.is_open

    @property
    def is_ready(self) -> bool:
        """Whether jobs are requested and at least one job server has replied."""
        return self.is_taking_jobs and any(channel.has_replied for channel in self.channels)

    def connected_since(self) -> dict[Address, datetime]:
        """Return since when each connected job server has been connected, in UTC."""
        return {
            channel.address: channel.session.connected_since for channel in self.channels if channel.session is not None
        }

    async def start(self, hook: Awaitable[None]) -> bool:
        """Wait for the ``on_start`` hook; return ``False`` if :meth:`stop` has cancelled it."""
        has_started = False
        try:
            has_started = await self._lifecycle.start(hook)
        finally:
            if not has_started:
                await self._executors.close()  # a thread that reads has been started
        return has_started

    async def run(self) -> None:
        """Serve the job servers until :meth:`stop`; when cancelled, give the running jobs back."""
        tasks = [
            self.loop.create_task(channel.keep_connected(), name=f"geartrain {channel.name}", context=Context())
            for channel in self.channels
        ]
        for task in tasks:
            task.add_done_callback(self._on_channel_ended, context=Context())
        self._on_tick()
        try:
            await self._lifecycle.stopped
            await self._drain()
            await self._finish()
        finally:
            await self._close(tasks)

    def stop(self) -> None:
        """Request no more jobs; :meth:`run` ends when the running ones have ended."""
        self._lifecycle.stop()
        with self._guard:
            self._slots.close(self._on_drained)

    def register(self, function: Function) -> None:
        """Register one more function with all job servers."""
        for channel in self.channels:
            channel.register(function)

    # Jobs.

    def _start_job(self, session: WorkerSession, assignment: Assignment) -> None:
        self._job_runner.start(session, assignment)
        if self._slots.remaining <= 0 and self._slots.is_open:
            self._guard.deferred.append(self._on_limit_reached)

    def _on_limit_reached(self) -> None:
        if self._slots.is_open:
            self._config.logger.info("stopping after %d jobs (max_jobs)", self._config.max_jobs)
            self.stop()

    def _release_slot(self) -> None:
        self._slots.release()

    # Periodic work.

    def _on_tick(self) -> None:
        config = self._config
        interval = config.regrab_interval
        if config.heartbeat is not None:
            interval = min(interval, config.heartbeat / CHECKS_PER_INTERVAL)
        # One timer for the whole worker, so that jobs need none.
        self._tick_timer = self.loop.call_later(interval, self._on_tick, context=Context())
        now = self.loop.time()
        for channel in self.channels:
            channel.on_tick(now)
        if self._observer is not None:
            self._observer.on_tick()
        if config.max_memory is not None and self._slots.is_open and (memory := resident_memory()) > config.max_memory:
            config.logger.info("stopping: the process uses %d bytes of memory (max_memory)", memory)
            self.stop()

    def _on_reader_failed(self, error: BaseException) -> None:
        """End the run if a bug has ended the reading of connections. Called in a thread."""
        self.loop.call_soon_threadsafe(self._lifecycle.fail, error)

    def _on_channel_failed(self) -> None:
        """End the run if no job server can be reached, unless it waits for one."""
        if self._waits_for_servers:
            return
        errors = {channel.name: channel.failure for channel in self.channels if channel.failure is not None}
        if len(errors) == len(self.channels):
            reasons = "; ".join(f"{name}: {error}" for name, error in errors.items())
            self._lifecycle.fail(NoServersError(f"no job server could be reached: {reasons}", errors=errors))

    # Shutdown.

    def _on_channel_ended(self, task: asyncio.Task[None]) -> None:
        """End the run if a bug has ended the task of a channel, instead of leaving its job server unserved."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._lifecycle.fail(error)

    def _on_drained(self) -> None:
        self._guard.deferred.append(self._end_drain)

    def _end_drain(self) -> None:
        if not self._drained.done():
            self._drained.set_result(None)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._config.grace):
                await self._drained
        except TimeoutError:
            self._config.logger.warning(
                "returning %d jobs that did not end within the grace period of %g s",
                self._job_runner.running,
                self._config.grace,
            )

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(_DELIVERY_TIMEOUT):
                await asyncio.gather(*(channel.finish() for channel in self.channels))
        except TimeoutError:
            self._config.logger.warning("a job server did not receive the last results within %g s", _DELIVERY_TIMEOUT)

    async def _close(self, tasks: list[asyncio.Task[None]]) -> None:
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        for task in tasks:
            task.cancel()
        # Give the jobs back first: what functions do when they are cancelled may take long, and a caller who does not
        # want to wait for it cancels this as well.
        closing = [closed for channel in self.channels if (closed := channel.abort()) is not None]
        try:
            await asyncio.wait([*tasks, *self._job_runner.abort(), *closing])
            self._job_runner.close()
        finally:
            await self._executors.close()
