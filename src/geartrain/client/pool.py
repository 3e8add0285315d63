"""All job servers of one client: which are alive, which gets a job, and what becomes of it when one fails."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import os
from collections.abc import Callable, Container, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextvars import Context
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from geartrain.checks import MAX_FUNCTION, brief
from geartrain.client.bulk import MAX_IN_BULK, Bulk
from geartrain.client.call import Call
from geartrain.client.callbacks import Callbacks, PendingCallbacks
from geartrain.client.census import Census
from geartrain.client.job import Job
from geartrain.client.link import Link
from geartrain.client.routing import hash_index, make_chooser, routing_key
from geartrain.client.slices import Slices
from geartrain.client.task import encode_workload, find_task
from geartrain.client.timeouts import Timeouts
from geartrain.client.uniques import generate_uniques
from geartrain.errors import LocalProtocolError, NoServersError, NoWorkersError
from geartrain.forks import check_process
from geartrain.outage import Outage

if TYPE_CHECKING:
    from geartrain.address import Address
    from geartrain.admin import Admin
    from geartrain.client.options import PoolOptions
    from geartrain.client.questions import Reply
    from geartrain.client.task import Task, TaskOptions
    from geartrain.connection import Connection

__all__ = ["Pool"]

T = TypeVar("T")

# Seconds that the coroutine callbacks of jobs which `disconnect` ended may take before they are cancelled.
CALLBACK_GRACE = 5.0


class Pool:
    """The job servers of one client in one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: PoolOptions, servers: Iterable[Address]) -> None:
        self.loop = loop
        self.thread: int = get_ident()  # in which the loop runs
        self.open_in: int | None = self.thread  # the thread from which jobs are accepted; none while it is closed
        self._process = os.getpid()
        self.options = options
        self.logger: logging.Logger = options.logger
        self.timeouts: Timeouts = Timeouts(loop, self._retry_now)
        self.slices: Slices = Slices(loop, self.check_drained)
        self.some_are_dead: bool = False
        self.unplaced: dict[Job, None] = {}  # jobs at no link: they wait for a retry, or for the count of workers
        self.callbacks: PendingCallbacks = PendingCallbacks()
        # Connections outlive those who use them, so their callbacks have a context of their own.
        self.hooks: Callbacks = Callbacks(options.hooks, loop, self.callbacks, Context())
        self.census: Census = Census(self)
        self._begun: set[asyncio.Task[Any]] = set()  # the client's own asyncio tasks, cancelled ones too until they end
        self._closing: dict[Connection, None] = {}  # connections that are no longer used, and not closed yet
        self._links: dict[Address, Link] = {}  # those configured, in their order
        self._only: Link | None = None  # where no choice is to be made
        self._leaving: dict[Address, Link] = {}
        self._choose_any: Callable[..., Link] = make_chooser(options.balance)
        self.heads: dict[str, bytes] = {}
        self._max_workload = options.max_packet_size
        self._max_in_bulk = min(MAX_IN_BULK, self._max_workload)
        self.short_heads: dict[str, bytes] = {}
        self.uniques: Iterator[bytes] = generate_uniques()
        self._uncounted: dict[Link, list[Job]] = {}  # jobs that require a worker, while the server is asked for its
        self._drainers: dict[asyncio.Future[None], None] = {}
        self.set_servers(servers)

    def check_place(self) -> None:
        """
        See that a job is used where its client is.

        Raises:
            LocalProtocolError: If it is another process, thread or event loop.
        """
        check_process(self._process, "this Job")
        # asyncio cancels what is left when its loop has stopped, so there need not be a running one.
        if asyncio._get_running_loop() not in (None, self.loop) or get_ident() != self.thread:
            raise LocalProtocolError(
                "this Job is in use in another event loop; from here use asyncio.run_coroutine_threadsafe "
                "or job.get_loop().call_soon_threadsafe"
            )

    # The list of job servers.

    @property
    def links(self) -> tuple[Link, ...]:
        """All links, those that are leaving last."""
        return (*self._links.values(), *self._leaving.values())

    @property
    def configured(self) -> tuple[Link, ...]:
        """The links to the servers of the list, in its order."""
        return tuple(self._links.values())

    def set_servers(self, servers: Iterable[Address]) -> None:
        """Replace the list; a server in both keeps its connection, one that is dropped ends what it has."""
        before, self._links = self._links, {}
        for address in servers:
            link = before.pop(address, None) or self._leaving.pop(address, None) or Link(address, self)
            link.leaving = False
            self._links[address] = link
        self._only = next(iter(self._links.values())) if len(self._links) == 1 else None
        for address, link in before.items():
            self._leaving[address] = link
            link.leave()

    def remove(self, link: Link) -> None:
        """Let go of a link that was leaving and has nothing more to do."""
        if self._leaving.pop(link.address, None) is not None:
            link.shut()

    def link_to(self, address: Address) -> Link:
        """Return the link to a job server; to one that is not configured, one that closes after use."""
        link = self._links.get(address) or self._leaving.get(address)
        if link is None:
            link = self._leaving[address] = Link(address, self)
            link.leaving = link.alert = True
        return link

    def make_admin(self, address: Address) -> Admin:
        """Return an admin client for a job server, which reports to the outage of the link to it."""
        from geartrain.admin.admin import make_admin  # few need it, and it takes a while to load

        link, options = self._links.get(address), self.options
        # A job server that is not in the list is not the operator's concern: only the caller's, who gets the error.
        outage = link.outage if link is not None else Outage(str(address), self.logger, level=logging.INFO)
        return make_admin(
            address, outage, connect_timeout=options.connect_timeout, tls=options.tls, heartbeat=options.heartbeat
        )

    def link_for_key(self, key: bytes) -> Link:
        """
        Return the link to the job server that a key hashes to, or to the next that is alive.

        Raises:
            NoServersError: If no job server is configured.
        """
        links = list(self._links.values())
        if not links:
            raise NoServersError("no job server is configured")
        start = hash_index(key, len(links))
        now = self.loop.time()
        in_order = links[start:] + links[:start]
        return next((link for link in in_order if link.dead_until <= now), in_order[0])

    # Jobs.

    def head(self, function: str) -> bytes:
        r"""
        Return a function's name with the prefix, and two NULs: how a submission without a unique begins.

        Raises:
            ValueError: If that is longer than Gearman carries.
        """
        head = self.heads.get(function)
        if head is None:
            name = self.options.prefix + function.encode("utf-8", "surrogateescape")
            if len(name) > MAX_FUNCTION:
                raise ValueError(
                    f"a function has at most {MAX_FUNCTION} bytes with its prefix, got {len(name)}: {brief(name)}"
                )
            if len(self.heads) >= 10_000:  # names that are made up for each task must not pile up
                self.heads.clear()
                self.short_heads.clear()
            self.short_heads[function] = name + b"\0"
            head = self.heads[function] = name + b"\0\0"
        return head

    def short_head(self, function: str) -> bytes:
        """
        Return a function's name with the prefix, and a NUL: how any submission begins.

        Raises:
            ValueError: If that is longer than Gearman carries.
        """
        if function not in self.short_heads:
            self.head(function)
        return self.short_heads[function]

    def function_name(self, function: str) -> str:
        """Return a function's name with the prefix, as job servers list it."""
        return self.head(function)[:-2].decode("utf-8", "surrogateescape")

    def submit(self, task: Task, workload: bytes, link: Link | None = None) -> Job:
        """
        Begin a job, at this link if that has been chosen already.

        Raises:
            ValueError: If the function is too long with the client's prefix, or the workload for ``max_packet_size``.
        """
        options = task._options
        if len(workload) > self._max_workload:
            raise ValueError(f"a workload of {len(workload)} bytes exceeds max_packet_size {self._max_workload}")
        if self.options.prefix:
            self.head(task._function)
        job = Job(task, workload, self)
        if options.timeout is not None:
            self.timeouts.begin(job, options.timeout)
        link = link or self._only
        if link is not None and not options.require_worker:
            link.submit(job)
        else:
            self.dispatch(job)
        return job

    def call(self, function: str | bytes, workload: bytes | str, options: TaskOptions) -> Call | Job:
        """
        Begin a job whose caller waits for it here and now; no more is made of it than it needs.

        Raises:
            ValueError: If Gearman cannot carry it.
            TypeError: If something is of the wrong type, or there is no such option.
            Exception: What the user's own function raised that chooses a job server.
        """
        task = find_task(function, options)
        if type(workload) is not bytes:
            workload = encode_workload(workload)
        if task._plain and len(workload) <= self._max_workload:  # `submit` says what is wrong with a longer one
            link = self._only or self._choose(task.with_workload(workload))
            if link is not None:
                return link.call(task, workload) or self.submit(task, workload, link)
        return self.submit(task, workload)

    def submit_many(self, task: Task, workloads: Sequence[bytes]) -> Bulk | None:
        """Begin plain jobs without timeouts together, if all of them can be sent now; else return ``None``."""
        if self._only is None or task._options.timed or not task._plain or max(map(len, workloads)) > self._max_in_bulk:
            return None
        return self._only.submit_many(task, workloads)

    def dispatch(self, job: Job) -> None:
        """Hand a job to a link; end it if there is none that it could be handed to."""
        try:
            link = self._choose(job.task, (job._extras.errors if job._extras is not None else None) or ())
        except Exception as error:  # noqa: BLE001  # raised by the user's own function; the job's owner is told
            job._fail(error)
            return
        if link is not None:
            if job._task._options.require_worker:
                self._require_worker(job, link)
            else:
                link.submit(job)
            return
        job._unreachable(self._why_nowhere(job))

    def _why_nowhere(self, job: Job) -> NoServersError | NoWorkersError:
        errors, function = job._get_extras().errors or {}, job._task.function
        if errors and all(isinstance(error, NoWorkersError) for error in errors.values()):
            return NoWorkersError(f"no worker is there for {function} at {', '.join(errors)}", function=function)
        reasons = "; ".join(f"{server}: {error}" for server, error in errors.items()) or "none is configured"
        return NoServersError(f"no job server could be reached for {function}: {reasons}", errors=errors)

    def _require_worker(self, job: Job, link: Link) -> None:
        """Submit a job where a worker is there for it, else look at the next job server."""
        known = self.census.known(link.address, self.function_name(job._task.function))
        if known is None:
            self.unplaced[job] = None
            if link not in self._uncounted:
                self._uncounted[link] = []
                counted = functools.partial(self._counted, link)
                self.census.ask(link.address).add_done_callback(counted, context=Context())
            self._uncounted[link].append(job)
        elif known:
            link.submit(job)
        else:
            function = job._task.function
            self.reroute(job, link, NoWorkersError(f"no worker is there for {function}", function=function))

    def _counted(self, link: Link, asking: asyncio.Task[Mapping[str, int]]) -> None:
        failed = asking.cancelled() or asking.exception() is not None
        self.slices.add(self._place_counted(self._uncounted.pop(link), link, failed=failed))

    def _place_counted(self, jobs: list[Job], link: Link, *, failed: bool) -> Iterator[None]:
        for job in jobs:
            if job not in self.unplaced:
                continue  # it has ended meanwhile
            del self.unplaced[job]
            if failed:
                link.submit(job)  # which will find out what is wrong there, and go on from that
            else:
                self._require_worker(job, link)
            yield

    def _choose(self, task: Task, tried: Container[str] = ()) -> Link | None:
        """Return the link that is to get a task, of those that it was not tried at."""
        links = list(self._links.values())
        alive = self._alive(links)
        key = routing_key(task)
        if key and links:
            start = hash_index(key, len(links))
            now = self.loop.time()
            for link in links[start:] + links[:start]:
                if link.dead_until <= now and link.name not in tried:
                    return link
        candidates = [link for link in alive if link.name not in tried] if tried else alive
        if candidates:
            return self._choose_any(task, candidates)
        # No one is alive: then the dead ones are tried too, the one that is due back soonest first.
        dead = [link for link in links if link.name not in tried]
        return min(dead, key=lambda link: link.dead_until, default=None)

    def _alive(self, links: list[Link]) -> list[Link]:
        if not self.some_are_dead:
            return links
        now = self.loop.time()
        alive = [link for link in links if link.dead_until <= now]
        self.some_are_dead = len(alive) < len(links)
        return alive

    def reroute(self, job: Job, link: Link, error: Exception) -> None:
        """Hand a job that was not sent to another link. That costs no retry."""
        job._get_extras().add_error(link.name, error)
        job._link = None
        self.dispatch(job)

    def retry_later(self, job: Job, seconds: float) -> None:
        """Hand a job to a link when the back-off is over."""
        seconds = math.ceil(seconds * 1000) / 1000  # so that many jobs have few different ones
        self.unplaced[job] = None
        job._get_extras().back_off = seconds
        self.timeouts.retries.add(job, seconds, self.loop.time() + seconds)

    def _retry_now(self, job: Job) -> None:
        self.unplaced.pop(job, None)
        job._get_extras().back_off = None
        self.dispatch(job)

    # The end.

    @property
    def unused(self) -> bool:
        """Whether it holds no connection and no job, so that nothing is lost by dropping it."""
        return self.idle and all(link.state in ("idle", "dead") for link in self.links)

    @property
    def idle(self) -> bool:
        """Whether no job is outstanding."""
        return (
            not self.unplaced and self.slices.idle and not any(link.outstanding or link.waiting for link in self.links)
        )

    @property
    def draining(self) -> bool:
        """Whether somebody waits until no job is outstanding."""
        return bool(self._drainers)

    async def drain(self) -> None:
        """Wait until no job is outstanding."""
        # A job that is handed from one link to another is in none for a moment, so that is looked at again.
        while not self.idle:
            drained: asyncio.Future[None] = self.loop.create_future()
            self._drainers[drained] = None
            for link in self.links:
                link.alert = True
            try:
                await drained
            finally:
                del self._drainers[drained]

    def check_drained(self) -> None:
        """Tell those who wait for it that no job is outstanding, if that is so."""
        if self._drainers and self.idle:
            for drained in self._drainers:
                if not drained.done():
                    drained.set_result(None)

    def disconnect(self) -> None:
        """Close every connection and end every job, now; :meth:`wait_closed` waits for what remains to be done."""
        links = self.links
        self._leaving.clear()
        # What ends a slice at a time must not be tried again meanwhile.
        unplaced, self.unplaced = self.unplaced, {}
        self.timeouts.end_all_tries()
        self.slices.add(self.end_jobs(unplaced))
        for link in links:
            link.close()
        for task in self._begun:
            task.cancel()
        for connection in self._closing:
            connection.abort()

    def end_jobs(self, jobs: Iterable[Job | Reply]) -> Iterator[None]:
        """Tell those that have not ended that the client was disconnected."""
        for job in jobs:
            if not job.done():
                job._disconnected()
                yield

    def begin(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Begin an asyncio task that ends with the connections, if not before. It runs in a context of its own."""
        task = self.loop.create_task(work, name=name, context=Context())
        self._begun.add(task)
        task.add_done_callback(self._begun.discard, context=Context())
        return task

    def keep_until_closed(self, connection: Connection) -> None:
        """Remember a connection that is no longer used, until its socket is closed."""
        self._closing[connection] = None
        connection.closed.add_done_callback(lambda _: self._closing.pop(connection, None), context=Context())

    async def wait_closed(self) -> None:
        """Wait until no socket and no asyncio task is left, and every callback has run but those that wait here."""
        await self.slices.wait()
        left: list[asyncio.Future[None]] = [*self._begun, *(connection.closed for connection in self._closing)]
        if left:
            await asyncio.wait(left)
        await self.callbacks.wait(CALLBACK_GRACE)
