"""One run of a worker, from start to stop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING

from geartrain.loop_binding import LoopBinding
from geartrain.protocol.heartbeat import CHECKS_PER_INTERVAL
from geartrain.worker.calls import make_call
from geartrain.worker.helpers import Helpers
from geartrain.worker.link import Link
from geartrain.worker.memory import resident_memory
from geartrain.worker.runner import Runner
from geartrain.worker.slots import Slots

if TYPE_CHECKING:
    from geartrain.address import Address
    from geartrain.protocol.worker import Assignment
    from geartrain.worker.function import Call, Function
    from geartrain.worker.options import WorkerOptions
    from geartrain.worker.session import Session
    from geartrain.worker.statistics import Counts

__all__ = ["Shift"]

# Seconds that job servers have, after the last job, to take the last results.
_FINISH_WITHIN = 5.0


class Shift:
    """
    All that exists only while a worker runs: links to its job servers, its slots, what runs its jobs.

    Args:
        servers: The job servers, with what became of their jobs.
        options: The worker's options.
        functions: Its functions, by ability; one that is added later is to be told by :meth:`register`.
    """

    def __init__(
        self, servers: Mapping[Address, Counts], options: WorkerOptions, functions: Mapping[bytes, Function]
    ) -> None:
        self.binding: LoopBinding = LoopBinding()
        self.loop: asyncio.AbstractEventLoop = self.binding.loop
        self._options = options
        self._helpers = Helpers(options.concurrency)
        self._runner = Runner(self.loop, options, functions, self._make_call, self._job_ended)
        self.slots: Slots[Session, Assignment] = Slots(
            options.concurrency, self._start, math.inf if options.max_jobs is None else options.max_jobs
        )
        self.links: list[Link] = [
            Link(server, options, functions, self.slots, counts) for server, counts in servers.items()
        ]
        self._stopped: asyncio.Future[None] = self.loop.create_future()
        self._drained: asyncio.Future[None] = self.loop.create_future()
        self._ticker: asyncio.TimerHandle | None = None
        self._starting: asyncio.Timeout | None = None  # around the hook on_start

    async def start(self, hook: Awaitable[None]) -> bool:
        """Wait for the hook ``on_start``; return ``False`` if :meth:`stop` has cancelled it."""
        try:
            async with asyncio.timeout(None) as self._starting:
                await hook
        except TimeoutError:
            if self._starting is None or not self._starting.expired():
                raise  # the hook's own
            return False
        finally:
            self._starting = None
        return True

    async def run(self) -> None:
        """Serve the job servers until :meth:`stop`; when cancelled, give the jobs in hand back."""
        tasks = [
            self.loop.create_task(link.keep_connected(), name=f"geartrain {link.name}", context=Context())
            for link in self.links
        ]
        for task in tasks:
            task.add_done_callback(self._link_ended, context=Context())
        self._tick()
        try:
            await self._stopped
            await self._drain()
            await self._finish()
        finally:
            await self._end(tasks)

    def stop(self) -> None:
        """Ask for no more jobs; :meth:`run` ends when those in hand have ended."""
        if not self._stopped.done():
            self._stopped.set_result(None)
            if self._starting is not None:
                self._starting.reschedule(self.loop.time())
        self.slots.close(self._all_ended)

    @property
    def ready(self) -> bool:
        """Whether a job server has been asked for jobs and has answered."""
        return any(link.session is not None and link.session.protocol.answers for link in self.links)

    def register(self, function: Function) -> None:
        """Offer one more function to all job servers."""
        for link in self.links:
            if link.session is not None:
                link.session.register(function)

    # Jobs.

    def _make_call(self, function: Function) -> Call:
        return make_call(function, self._options.middleware, self._helpers)

    def _start(self, session: Session, assignment: Assignment) -> None:
        self._runner.start(session, assignment)
        if self.slots.left <= 0 and self.slots.open:
            self._options.logger.info("took %d jobs, and will take no more", self._options.max_jobs)
            self.stop()

    def _job_ended(self) -> None:
        self.slots.release()

    # Time.

    def _tick(self) -> None:
        options = self._options
        interval = options.regrab_interval
        if options.heartbeat is not None:
            interval = min(interval, options.heartbeat / CHECKS_PER_INTERVAL)
        # One timer for the whole worker: a job never needs one.
        self._ticker = self.loop.call_later(interval, self._tick, context=Context())
        now = self.loop.time()
        for link in self.links:
            link.tick(now)
        if options.max_memory is not None and self.slots.open and (memory := resident_memory()) > options.max_memory:
            options.logger.info("occupies %d bytes of memory, and will take no more jobs", memory)
            self.stop()

    # The end.

    def _link_ended(self, task: asyncio.Task[None]) -> None:
        """Let a fault of ours in a link's task end the run, instead of leaving a job server unserved."""
        if not task.cancelled() and (error := task.exception()) is not None and not self._stopped.done():
            self._stopped.set_exception(error)

    def _all_ended(self) -> None:
        if not self._drained.done():
            self._drained.set_result(None)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._options.grace):
                await self._drained
        except TimeoutError:
            self._options.logger.warning(
                "gives %d jobs back that did not end within %g s", self._runner.running, self._options.grace
            )

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(_FINISH_WITHIN):
                await asyncio.gather(*(link.finish() for link in self.links))
        except TimeoutError:
            self._options.logger.warning("a job server did not take the last results within %g s", _FINISH_WITHIN)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        for task in tasks:
            task.cancel()
        # Before anything else the jobs are given back: what functions do about their end may take long, and who does
        # not want to wait for it cancels this, too.
        closing = [closed for link in self.links if (closed := link.abort()) is not None]
        try:
            await asyncio.wait([*tasks, *self._runner.abort(), *closing])
            self._runner.close()
        finally:
            await self._helpers.close()
