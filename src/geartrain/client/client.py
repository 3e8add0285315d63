"""The public client: submits tasks to job servers and reports their outcomes."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import AsyncGenerator, Iterable
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from geartrain.address import Address, parse_addresses, read_addresses
from geartrain.client import registry
from geartrain.client.config import ClientConfig, ClientOptions
from geartrain.client.dispatcher import Dispatcher
from geartrain.client.job import Job
from geartrain.client.map_results import Workloads, iterate_as_completed, iterate_results
from geartrain.client.submission import Submission
from geartrain.client.task import Task, spec_of
from geartrain.client.task_options import MapOptions, TaskOptions, check_unique
from geartrain.client.task_spec import TaskSpec, encode_workload, find_spec
from geartrain.client.window import SubmissionWindow
from geartrain.errors import GearmanError, LocalProtocolError
from geartrain.handle import JobHandle, JobStatus
from geartrain.loop_binding import LoopBinding
from geartrain.protocol.packets import PacketType
from geartrain.timeout import timeout as limited
from geartrain.validation import check_count, check_timeout

if TYPE_CHECKING:
    from geartrain.client.channel import ServerChannel
    from geartrain.client.statistics import Statistics

__all__ = ["Client"]

_ECHO = b"geartrain ping"
_FROM_ELSEWHERE = "geartrain.post or asyncio.run_coroutine_threadsafe"


class Client:
    """
    A non-blocking client that multiplexes all jobs over one connection per job server.

    It can be created outside a running event loop, connects when the first task needs it, and then belongs to the loop
    in which it is used. Use it with ``async with``, or close it with :meth:`aclose`.

    Args:
        job_servers: Addresses, ``host``, ``host:port`` or ``gearmans://host:port``; the port defaults to 4730. Without
            them, those in the environment variable ``GEARMAN_SERVERS``, separated by commas, or else 127.0.0.1:4730.
        alias: A name with which ``geartrain.post`` and ``geartrain.get_client`` find the client.

    Keyword Args:
        prefix: A namespace. The function is sent as ``prefix TAB function``, as Perl's clients do.
        prefix_separator: The separator between the two; ``""`` matches the C clients.
        tls: Use TLS with all job servers. By default it is used only with addresses written ``gearmans://``, with
            Python's default context, which verifies certificate and host name.
        connect_timeout: Seconds for one attempt to connect, including name resolution and TLS. Default 5.
        dead_time: How long to avoid a failed job server while others are available, and how long a retry waits for a
            job server if there is none at all, in seconds. Default 10.
        heartbeat: Seconds. A connection whose reply is overdue by this long is dropped; a connection or job that has
            been silent for this long is probed. Default 30. With ``None`` a job may wait forever.
        on_connected: Called with the address of a job server.
        on_disconnected: Called with the address of a job server and the error; ``None`` after an orderly close.
        on_submit: Called with each task before it is sent, in the context of whoever submitted it, and again for each
            retry. It may return another task, to be sent in place of this one for this try: see :meth:`Task.replace`.
            It must not change ``background``, and a retry keeps the other options of the first try except unique and
            callbacks. The job server is chosen by the task as it was submitted, so a unique that is added does not
            choose it. What it raises ends the job. It must not block.
        balance: Which job server gets a task without a unique: ``"random"``, ``"round-robin"``,
            ``"least-outstanding"``, ``"first"``, or a function of the task and the addresses of the live servers.
        max_outstanding: The number of jobs that may be outstanding at each job server; others wait in the client.
            Default: no limit.
        max_packet_size: The maximum size in bytes of a workload, a result or an update. A larger workload is a
            ``ValueError``; a larger result or update ends its job with :class:`JobTooLargeError`. Default 64 MiB.
        exceptions: Ask each job server to forward WORK_EXCEPTION; otherwise it arrives as WORK_FAIL. Default true.
        logger: Default ``geartrain.client``.

    Raises:
        ValueError: If an address is invalid, or an option is out of range.
        TypeError: If an option has the wrong type, or does not exist.
        AliasInUseError: If an open client has the alias.
    """

    def __init__(
        self,
        job_servers: Iterable[str] | str | None = None,
        *,
        alias: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._dispatcher: Dispatcher | None = None
        self._is_closed = False
        self._inherited: LoopBinding | None = None  # of the parent process, if the client was in use when it forked
        self._servers: tuple[Address, ...] = read_addresses(job_servers)
        self._config = ClientConfig(options)
        self._alias = alias
        if alias is not None:
            registry.register(alias, self, self._handle_event)
        registry.track(self, self._detach_after_fork)

    # Event-loop binding.

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop in which it is used, or ``None`` before its first use."""
        return self._dispatcher.runtime.loop if self._dispatcher is not None else None

    def bind(self) -> asyncio.AbstractEventLoop:
        """
        Bind the client to the running event loop, as its first use does.

        Raises:
            LocalProtocolError: If no loop is running, it is in use in another one, or it is closed.
        """
        return self._get_dispatcher().runtime.loop

    def _check_open(self) -> None:
        if self._is_closed:
            raise LocalProtocolError("this Client is closed; make another one")

    def _get_dispatcher(self) -> Dispatcher:
        self._check_open()
        return self._get_dispatcher_in_any_state()

    def _get_dispatcher_in_any_state(self) -> Dispatcher:
        """Return the dispatcher, also while the client is being closed."""
        if self._inherited is not None:
            self._inherited.check("this Client")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as error:
            raise LocalProtocolError(
                f"a Client must be used inside a running event loop; from elsewhere use {_FROM_ELSEWHERE}"
            ) from error
        dispatcher = self._dispatcher
        if dispatcher is None or dispatcher.runtime.loop is not loop:
            if dispatcher is not None and not dispatcher.is_unused and not dispatcher.runtime.loop.is_closed():
                dispatcher.runtime.binding.check("this Client", _FROM_ELSEWHERE)
            dispatcher = self._dispatcher = Dispatcher(LoopBinding(), self._config, self._servers)
        return dispatcher

    def _get_dispatcher_fast(self) -> Dispatcher:
        """Return the same as :meth:`_get_dispatcher` at less cost: a thread runs one loop at a time."""
        dispatcher = self._dispatcher
        if dispatcher is not None:
            runtime = dispatcher.runtime
            if runtime.open_in == get_ident() and runtime.loop.is_running():
                return dispatcher
        return self._get_dispatcher()

    @property
    def _is_used(self) -> bool:
        """Whether it was used, here or in the process that this one was forked from."""
        return self._dispatcher is not None or self._inherited is not None

    def _detach_after_fork(self) -> Dispatcher | None:
        """Called in a forked child: detach the parent's connections, and return what must be kept and never used."""
        dispatcher, self._dispatcher = self._dispatcher, None
        if dispatcher is not None and not dispatcher.is_unused:
            self._inherited = dispatcher.runtime.binding
        return dispatcher

    # The job servers.

    @property
    def job_servers(self) -> tuple[str, ...]:
        """The addresses that are configured now, as ``host:port``."""
        return tuple(str(address) for address in self._servers)

    def set_job_servers(self, servers: Iterable[str] | str) -> None:
        """
        Replace the list of job servers.

        A job server in both lists keeps its connection. One that is removed gets no new task, finishes its jobs, and is
        closed when the last of them has ended.

        Raises:
            ValueError: If an address is invalid; nothing is changed then.
            LocalProtocolError: If the client is closed, or used outside its loop.
        """
        addresses = parse_addresses(servers)
        self._check_open()
        if self._is_used:
            self._get_dispatcher().pool.set_servers(addresses)
        self._servers = addresses

    # Jobs.

    def add_task(self, task: Task) -> Job:
        """
        Submit a task and return its job immediately.

        Never blocks, and never raises because of the network: an error there ends the job.

        Raises:
            TypeError: If it is not a Task.
            ValueError: If the function is too long with the client's prefix, or the workload for ``max_packet_size``.
            LocalProtocolError: If the client is used outside its loop, or is closed.
        """
        if not isinstance(task, Task):
            raise TypeError(f"add_task takes a Task, got {task!r}")
        return self._get_dispatcher_fast().submit_job(spec_of(task), task.workload, task)

    def check_task(self, task: Task) -> None:
        """
        Raise what :meth:`add_task` would raise for this task, without submitting it. May be called from any thread.

        Raises:
            TypeError: If it is not a Task.
            ValueError: If the function is too long with the client's prefix, or the workload for ``max_packet_size``.
        """
        if not isinstance(task, Task):
            raise TypeError(f"add_task takes a Task, got {task!r}")
        self._config.check_task(task.function, task.workload)

    def submit(self, function: str | bytes, workload: bytes | str = b"", **options: Unpack[TaskOptions]) -> Job:
        """Submit a task created from the arguments, which are those of :class:`Task`; see :meth:`add_task`."""
        spec = find_spec(function, options)
        if type(workload) is not bytes:
            workload = encode_workload(workload)
        return self._get_dispatcher_fast().submit_job(spec, workload)

    async def do(self, function: str | bytes, workload: bytes | str = b"", **options: Unpack[TaskOptions]) -> bytes:
        """
        Submit a job, wait for it, and return its result (the body of WORK_COMPLETE).

        If the wait is cancelled the client discards the job. The worker is not notified: Gearman has no packet for it.

        Raises:
            JobFailedError: The worker sent WORK_FAIL.
            JobExceptionError: The worker sent WORK_EXCEPTION; its body is in ``exc.data``.
            ServerError: The job server refused the job, for example because its queue is full.
            JobTimeoutError: ``timeout`` or ``try_timeout`` has passed.
            JobTooLargeError: The result, or an update, is longer than the client's ``max_packet_size``.
            ConnectionLostError: The connection was lost. The job may still run; see ``exc.outcome``.
            JobLostError: The job server no longer knows the job that it had accepted.
            NoServersError: No job server could be reached; nothing was sent.
            NoWorkersError: ``require_worker`` is set and no worker offers the function; nothing was sent.
            ClientDisconnectedError: ``disconnect_all`` or ``aclose`` was called.
        """
        # The hot path of submitting takes about 0.8 us here, so `_get_dispatcher_fast` is inlined.
        dispatcher = self._dispatcher
        if dispatcher is None or dispatcher.runtime.open_in != get_ident() or not dispatcher.runtime.loop.is_running():
            dispatcher = self._get_dispatcher()
        spec = find_spec(function, options)
        if type(workload) is not bytes:
            workload = encode_workload(workload)
        # A plain future: a subclass in Python costs 0.35 us more per job.
        future: asyncio.Future[bytes] = dispatcher.runtime.loop.create_future()
        submission = Submission(future, spec, workload, dispatcher)
        dispatcher.start(submission)
        try:
            return await future
        except asyncio.CancelledError:
            submission.cancel()
            raise

    async def do_background(
        self, function: str | bytes, workload: bytes | str = b"", **options: Unpack[TaskOptions]
    ) -> JobHandle:
        """
        Submit a background job and return its handle once the job server has accepted it.

        Takes the options of :class:`Task`, including ``run_at``.

        Raises:
            ValueError: ``background=False`` was given, or Gearman cannot carry the options.
            ServerError: The job server refused the job.
            ConnectionLostError: The connection was lost before the reply; the job server may have the job anyway.
            NoServersError: No job server could be reached; nothing was sent.
        """
        if options.setdefault("background", True) is False:
            raise ValueError("do_background submits background jobs only, got background=False; use do instead")
        dispatcher = self._get_dispatcher_fast()
        spec = find_spec(function, options)
        if type(workload) is not bytes:
            workload = encode_workload(workload)
        future = dispatcher.runtime.loop.create_future()
        submission = Submission(future, spec, workload, dispatcher)
        dispatcher.start(submission)
        try:
            await future
        except asyncio.CancelledError:
            submission.cancel()
            raise
        handle = submission.handle
        assert handle is not None, "a background job is done when it has its handle"
        return handle

    @overload
    def map(
        self,
        function: str | bytes,
        workloads: Workloads,
        *,
        limit: int = 1000,
        background: Literal[False] = False,
        return_exceptions: Literal[False] = False,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[bytes, None]: ...
    @overload
    def map(
        self,
        function: str | bytes,
        workloads: Workloads,
        *,
        limit: int = 1000,
        background: Literal[False] = False,
        return_exceptions: bool,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[bytes | Exception, None]: ...
    @overload
    def map(
        self,
        function: str | bytes,
        workloads: Workloads,
        *,
        limit: int = 1000,
        background: Literal[True],
        return_exceptions: Literal[False] = False,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[JobHandle, None]: ...
    @overload
    def map(
        self,
        function: str | bytes,
        workloads: Workloads,
        *,
        limit: int = 1000,
        background: Literal[True],
        return_exceptions: bool,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[JobHandle | Exception, None]: ...

    def map(
        self,
        function: str | bytes,
        workloads: Workloads,
        *,
        limit: int = 1000,
        background: bool = False,
        return_exceptions: bool = False,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[bytes | JobHandle | Exception, None]:
        """
        Submit a job for each workload, and yield the results in the order of the workloads.

        Leaving the iteration early cancels the outstanding jobs.

        Args:
            function: As for :class:`Task`.
            workloads: Any iterable, also an endless or asynchronous one; it is read at most ``limit`` ahead.
            limit: The maximum number of outstanding jobs.
            background: Submit background jobs, and yield their handles.
            return_exceptions: Yield the error of a job that failed in its place, instead of raising the first one.
            options: As for :class:`Task`.

        Raises:
            ValueError: If ``limit`` is below 1, or Gearman cannot carry an option.
            GearmanError: The error of the first job that failed.
            Exception: What ``workloads`` raised, after the results of the workloads before; also with
                ``return_exceptions``, because it is not the error of a job.
        """
        check_count("limit", limit, 1)
        task_options: TaskOptions = {**options, "background": background}
        spec = TaskSpec(function, task_options)  # raises now rather than when the first result is awaited
        return iterate_results(SubmissionWindow(self._get_dispatcher_fast, spec), workloads, limit, return_exceptions)

    def as_completed(self, jobs: Iterable[Job]) -> AsyncGenerator[Job, None]:
        """Yield jobs in the order in which they end. Leaving the iteration early does not cancel them."""
        return iterate_as_completed(jobs)

    # Queries.

    async def get_status(self, handle: JobHandle | str) -> JobStatus:
        """
        Ask a job server for the status of a foreground or background job of any client.

        Raises:
            ValueError: If the handle does not include its job server.
            NoServersError: The job server could not be reached.
            ConnectionLostError: The connection was lost before the reply.
            ServerError: The job server refused the request.
        """
        address, wire_handle = _read_handle(handle)
        channel = self._get_dispatcher().pool.channel_to(address)
        return JobStatus.read(await channel.query(PacketType.GET_STATUS, wire_handle))

    async def get_status_unique(self, unique: str | bytes) -> JobStatus:
        """
        Ask for the status of a job by its unique, at the job server to which a job with it would be sent now.

        gearmand ignores the function: if two jobs share a unique it reports the newer one.

        Raises:
            ValueError: If the unique is invalid, empty or ``"-"``, which identifies no job.
            NoServersError: The job server could not be reached.
            ConnectionLostError: The connection was lost before the reply.
            ServerError: The job server does not support this request.
        """
        key = check_unique(unique)
        if key in (b"", b"-"):
            raise ValueError(f"a status can be requested only for a non-empty unique other than '-', got {unique!r}")
        channel = self._get_dispatcher().pool.channel_for_key(key)
        return JobStatus.read(await channel.query(PacketType.GET_STATUS_UNIQUE, key))

    async def cancel(self, handle: JobHandle | str) -> bool:
        """
        Remove a queued job from its job server, by the text command ``cancel job``.

        A foreground job fails immediately. A running job is not stopped: its clients get WORK_FAIL, and the worker is
        not notified.

        Returns:
            Whether the job server knew the job.

        Raises:
            ValueError: If the handle does not include its job server.
            ServerError: The job server does not support the command.
            NoServersError: The job server could not be reached.
            ServerTimeoutError: The job server did not answer.
        """
        address, wire_handle = _read_handle(handle)
        async with self._get_dispatcher().pool.create_admin(address) as admin:
            return await admin.cancel_job(wire_handle.decode("utf-8", "surrogateescape"))

    async def workers_for(self, function: str | bytes) -> int:
        """
        Return the number of workers for a function at all job servers together.

        Each job server is asked at most once a second. One that cannot be reached counts as having none.

        Raises:
            ValueError: If the name of the function is invalid.
            NoServersError: If no job server could be reached.
        """
        dispatcher = self._get_dispatcher()
        name = dispatcher.runtime.function_name(Task(function).function)
        return await dispatcher.worker_counts.total(name, (each.address for each in dispatcher.pool.configured))

    async def ping(self) -> dict[str, float | Exception]:
        """
        Measure the round trip to each job server: by address, the seconds or the error.

        For a job server that answers other requests but no ECHO_REQ the error is a ``ServerTimeoutError``.
        """
        channels = self._get_dispatcher().pool.configured
        answers = await asyncio.gather(*map(_ping, channels))
        return {channel.name: answer for channel, answer in zip(channels, answers, strict=True)}

    def statistics(self) -> Statistics:
        """Return the counters of each job server."""
        from geartrain.client.statistics import Statistics, read_statistics  # few need it

        channels = self._dispatcher.pool.channels if self._dispatcher is not None else ()
        return Statistics({channel.name: read_statistics(channel) for channel in channels})

    # Shutdown.

    async def drain(self, timeout: float | None = None) -> None:
        """
        Wait until no job is outstanding, including those submitted meanwhile.

        Raises:
            TimeoutError: If that takes longer than ``timeout`` seconds. The jobs are not affected.
        """
        check_timeout("timeout", timeout)
        if self._is_used:
            async with limited(timeout):
                await self._get_dispatcher().drain()

    async def disconnect_all(self) -> None:
        """
        Close every connection now, and end every job with ``ClientDisconnectedError``, without a retry.

        When it returns, no socket, timer or asyncio task is left, and every callback has run. Coroutine callbacks that
        do not end within 5 seconds are cancelled. A callback may call this method; then it does not wait for that
        callback and the later ones of the same job. The client can be used again, also by callbacks: what they submit
        is not disconnected.
        """
        if self._is_used:
            await self._disconnect_and_wait(self._get_dispatcher())

    async def aclose(self) -> None:
        """
        Do the same as :meth:`disconnect_all`, and free the alias.

        From then on any use of the client raises ``LocalProtocolError``, also in callbacks, so that nothing is left
        behind. Closing it again does nothing.
        """
        if self._alias is not None:
            registry.unregister(self._alias, self)
        if not self._is_used:
            self._is_closed = True
            return
        dispatcher = self._get_dispatcher_in_any_state()
        self._is_closed = True
        dispatcher.runtime.open_in = None
        await self._disconnect_and_wait(dispatcher)

    async def _disconnect_and_wait(self, dispatcher: Dispatcher) -> None:
        dispatcher.disconnect()
        await dispatcher.runtime.wait_closed()

    def _handle_event(self, event: str, *arguments: Any) -> None:
        """Handle an event that was posted by alias; the client may have been closed in between."""
        dispatcher = self._get_dispatcher_in_any_state()
        if event == "disconnect_all":  # nobody waits for it; aclose still waits for what remains to be done
            dispatcher.disconnect()
        elif self._alias is not None and registry.is_registered(self._alias, self):
            getattr(self, event)(*arguments)
        elif event == "add_task":  # it ends like those that were outstanding when the client was closed
            [task] = arguments
            dispatcher.submit_job(spec_of(task), task.workload, task)
            dispatcher.disconnect()

    async def __aenter__(self) -> Self:
        self.bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        dispatcher = getattr(self, "_dispatcher", None)  # not there if the arguments were wrong
        if dispatcher is not None and not dispatcher.is_unused and not dispatcher.runtime.loop.is_closed():
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            dispatcher.runtime.loop.call_soon_threadsafe(dispatcher.disconnect)

    def __repr__(self) -> str:
        return f"<Client {', '.join(self.job_servers) or 'without job servers'}>"


def _read_handle(handle: JobHandle | str) -> tuple[Address, bytes]:
    """Return the job server of a handle, and the handle as the job server knows it."""
    if isinstance(handle, str):
        handle = JobHandle.parse(handle)
    if not isinstance(handle, JobHandle):
        raise TypeError(f"a handle must be a JobHandle or a string like 127.0.0.1:4730//H:host:1, got {handle!r}")
    return Address.parse(handle.server), handle.wire


async def _ping(channel: ServerChannel) -> float | Exception:
    try:
        # A first echo, so that connecting and what is queued before it is not measured.
        await channel.query(PacketType.ECHO_REQ, _ECHO)
        begin = time.perf_counter()  # uvloop's clock counts milliseconds
        await channel.query(PacketType.ECHO_REQ, _ECHO)
    except GearmanError as error:
        return error
    return time.perf_counter() - begin
