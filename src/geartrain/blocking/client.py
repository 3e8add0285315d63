"""The client for programs without asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, Literal, Unpack, overload

from geartrain import Client as AsyncClient
from geartrain import ClientOptions, JobHandle, JobStatus, MapOptions, Statistics, Task, TaskOptions
from geartrain.blocking import aliases
from geartrain.blocking.job import Job, iterate_as_completed, start_job
from geartrain.blocking.map_results import iterate_results
from geartrain.blocking.resident import Closeable, Resident

__all__ = ["Client", "post_event"]


class Client(Closeable):
    """
    A client for any thread, over one connection per job server.

    Nothing starts before the first call; then one thread of the process runs the event loop of everything in
    ``geartrain.blocking``, until all of it is closed. Use it with ``with``, or close it with :meth:`close`; a client at
    module level may stay open until the interpreter exits. After a fork, parent and child each have their own
    connections, and a job of the parent is an error in the child.

    Callbacks run in geartrain's thread, in the context of whoever submitted the job. They may submit jobs, but a call
    that would wait raises :class:`LocalProtocolError` there. If Ctrl-C interrupts a wait, the job is cancelled.

    Takes the arguments of :class:`geartrain.Client`, and raises the same errors. Aliases are not shared with it.
    """

    def __init__(
        self,
        job_servers: Iterable[str] | str | None = None,
        *,
        alias: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        make = partial(AsyncClient, job_servers, **options)
        self._options = options
        self._alias = alias
        instance = make()  # raises for wrong arguments
        if alias is not None:
            aliases.register(alias, self)
        self._resident: Resident[AsyncClient] = Resident(make, AsyncClient.aclose, _flush)
        self._resident.make = partial(AsyncClient, instance.job_servers, **options)

    @property
    def job_servers(self) -> tuple[str, ...]:
        """The addresses that are configured now, as ``host:port``."""
        return self._resident.instance.job_servers

    def set_job_servers(self, servers: Iterable[str] | str) -> None:
        """
        Replace the list of job servers.

        A job server in both lists keeps its connection. One that is removed gets no new task, finishes its jobs, and is
        closed when the last of them has ended.

        Raises:
            ValueError: If an address is invalid; nothing is changed then.
            LocalProtocolError: If the client is closed, or used outside its loop.
        """
        self._resident.check_open()
        if self._resident.is_open:
            self._resident.run(AsyncClient.set_job_servers, servers)
        else:
            self._resident.instance.set_job_servers(servers)
        self._resident.make = partial(AsyncClient, self.job_servers, **self._options)

    def add_task(self, task: Task) -> Job:
        """
        Submit a task and return its job immediately.

        Never blocks, and never raises because of the network: an error there ends the job.

        Raises:
            TypeError: If it is not a Task.
            ValueError: If the function is too long with the client's prefix, or the workload for ``max_packet_size``.
            LocalProtocolError: If the client is used outside its loop, or is closed.
        """
        return start_job(task, self._resident)

    def check_task(self, task: Task) -> None:
        """
        Raise what :meth:`add_task` would raise for this task, without submitting it. May be called from any thread.

        Raises:
            TypeError: If it is not a Task.
            ValueError: If the function is too long with the client's prefix, or the workload for ``max_packet_size``.
        """
        self._resident.instance.check_task(task)

    def submit(self, function: str | bytes, workload: bytes | str = b"", **options: Unpack[TaskOptions]) -> Job:
        """Submit a task created from the arguments, which are those of :class:`Task`; see :meth:`add_task`."""
        return self.add_task(Task(function, workload, **options))

    def do(self, function: str | bytes, workload: bytes | str = b"", **options: Unpack[TaskOptions]) -> bytes:
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
            ClientDisconnectedError: ``disconnect_all`` or ``close`` was called.
        """
        return self._resident.wait_for(AsyncClient.submit, function, workload, **options)

    def do_background(
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
        return self._resident.call(AsyncClient.do_background, function, workload, **options)

    @overload
    def map(
        self,
        function: str | bytes,
        workloads: Iterable[bytes | str],
        *,
        limit: int = 1000,
        background: Literal[False] = False,
        return_exceptions: Literal[False] = False,
        **options: Unpack[MapOptions],
    ) -> Iterator[bytes]: ...

    @overload
    def map(
        self,
        function: str | bytes,
        workloads: Iterable[bytes | str],
        *,
        limit: int = 1000,
        background: Literal[False] = False,
        return_exceptions: bool,
        **options: Unpack[MapOptions],
    ) -> Iterator[bytes | Exception]: ...

    @overload
    def map(
        self,
        function: str | bytes,
        workloads: Iterable[bytes | str],
        *,
        limit: int = 1000,
        background: Literal[True],
        return_exceptions: Literal[False] = False,
        **options: Unpack[MapOptions],
    ) -> Iterator[JobHandle]: ...

    @overload
    def map(
        self,
        function: str | bytes,
        workloads: Iterable[bytes | str],
        *,
        limit: int = 1000,
        background: Literal[True],
        return_exceptions: bool,
        **options: Unpack[MapOptions],
    ) -> Iterator[JobHandle | Exception]: ...

    def map(
        self,
        function: str | bytes,
        workloads: Iterable[bytes | str],
        *,
        limit: int = 1000,
        background: bool = False,
        return_exceptions: bool = False,
        **options: Unpack[MapOptions],
    ) -> Iterator[bytes | JobHandle | Exception]:
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
        if isinstance(workloads, AsyncIterable):
            raise TypeError(f"workloads must be an ordinary iterable, got {workloads!r}")
        client = self._resident.instance
        map_all: Callable[..., AsyncGenerator[bytes | JobHandle | Exception, None]] = partial(
            client.map, function, background=background, return_exceptions=True, **options
        )
        map_all((), limit=limit)  # raises for wrong arguments

        def map_chunk(chunk: list[bytes | str]) -> AsyncGenerator[bytes | JobHandle | Exception, None]:
            return map_all(chunk, limit=len(chunk))

        return iterate_results(self._resident.get_thread(), map_chunk, workloads, limit, return_exceptions)

    def as_completed(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Yield jobs in the order in which they end. Leaving the iteration early does not cancel them."""
        return iterate_as_completed(jobs)

    def get_status(self, handle: JobHandle | str) -> JobStatus:
        """
        Ask a job server for the status of a foreground or background job of any client.

        Raises:
            ValueError: If the handle does not include its job server.
            NoServersError: The job server could not be reached.
            ConnectionLostError: The connection was lost before the reply.
            ServerError: The job server refused the request.
        """
        return self._resident.call(AsyncClient.get_status, handle)

    def get_status_unique(self, unique: str | bytes) -> JobStatus:
        """
        Ask for the status of a job by its unique, at the job server to which a job with it would be sent now.

        gearmand ignores the function: if two jobs share a unique it reports the newer one.

        Raises:
            ValueError: If the unique is invalid, empty or ``"-"``, which identifies no job.
            NoServersError: The job server could not be reached.
            ConnectionLostError: The connection was lost before the reply.
            ServerError: The job server does not support this request.
        """
        return self._resident.call(AsyncClient.get_status_unique, unique)

    def cancel(self, handle: JobHandle | str) -> bool:
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
        return self._resident.call(AsyncClient.cancel, handle)

    def workers_for(self, function: str | bytes) -> int:
        """
        Return the number of workers for a function at all job servers together.

        Each job server is asked at most once a second. One that cannot be reached counts as having none.

        Raises:
            ValueError: If the name of the function is invalid.
            NoServersError: If no job server could be reached.
        """
        return self._resident.call(AsyncClient.workers_for, function)

    def ping(self) -> dict[str, float | Exception]:
        """
        Measure the round trip to each job server: by address, the seconds or the error.

        For a job server that answers other requests but no ECHO_REQ the error is a ``ServerTimeoutError``.
        """
        return self._resident.call(AsyncClient.ping)

    def statistics(self) -> Statistics:
        """Return the counters of each job server."""
        if not self._resident.is_open:
            return self._resident.instance.statistics()
        return self._resident.run(AsyncClient.statistics)

    def drain(self, timeout: float | None = None) -> None:
        """
        Wait until no job is outstanding, including those submitted meanwhile.

        Raises:
            TimeoutError: If that takes longer than ``timeout`` seconds. The jobs are not affected.
        """
        return self._resident.call(AsyncClient.drain, timeout)

    def disconnect_all(self) -> None:
        """
        Close every connection now, and end every job with ``ClientDisconnectedError``, without a retry.

        When it returns, no socket, timer or asyncio task is left, and every callback has run. Coroutine callbacks that
        do not end within 5 seconds are cancelled. A callback may call this method; then it does not wait for that
        callback and the later ones of the same job. The client can be used again, also by callbacks: what they submit
        is not disconnected.
        """
        return self._resident.call(AsyncClient.disconnect_all)

    # Shutdown.

    def close(self) -> None:
        """
        Do the same as :meth:`disconnect_all`, free the alias, and end geartrain's thread if nothing else uses it.

        From then on any use of the client raises ``LocalProtocolError``. A call of another thread that has not returned
        ends with :class:`ClientDisconnectedError`.
        """
        if self._alias is not None:
            aliases.unregister(self._alias, self)
        self._resident.close(for_good="this Client is closed; make another one")

    def __repr__(self) -> str:
        return f"<Client {', '.join(self.job_servers) or 'without job servers'}>"


def post_event(client: Client, event: str, *arguments: Any) -> None:
    """Have a client handle an event of :func:`geartrain.blocking.post`, without waiting."""
    resident = client._resident
    if event == "add_task":
        client.add_task(*arguments)
    elif event == "disconnect_all":
        if resident.is_open:
            resident.get_thread().spawn(resident.instance.disconnect_all, lambda _, __: None)
    else:
        make = partial(AsyncClient, *arguments, **client._options)
        make()  # raises for an invalid address
        resident.make = make
        resident.get_thread().post(partial(resident.instance.set_job_servers, *arguments))


async def _flush(client: AsyncClient) -> None:
    """Wait until every job server with outstanding jobs has replied to what was sent after them."""
    servers = client.statistics().servers.values()
    if any(server.waiting or server.outstanding for server in servers):
        await client.ping()
