"""What users hold: a worker, its options and its functions."""

from __future__ import annotations

import inspect
import logging
import ssl
from collections.abc import Callable, Iterable
from typing import TypeVar

from geartrain.address import Address, parse_addresses
from geartrain.errors import LocalProtocolError
from geartrain.fork_safety import check_process
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE
from geartrain.validation import encode_name
from geartrain.worker.config import FormatException, Hook, Middleware, WorkerConfig
from geartrain.worker.counters import WorkerCounters
from geartrain.worker.exceptions import format_exception
from geartrain.worker.function import AnyFunction, Function, OnTimeout
from geartrain.worker.run import WorkerRun
from geartrain.worker.statistics import RunState, WorkerStatistics, read_statistics

__all__ = ["Worker"]

F = TypeVar("F", bound=AnyFunction)


class Worker:
    """
    Offers functions to job servers and runs them on the jobs that come.

    ::

        worker = Worker(["10.0.0.1", "10.0.0.2"], concurrency=10)

        @worker.function("reverse")
        async def reverse(job: WorkerJob) -> bytes:
            return job.workload[::-1]

        asyncio.run(worker.run())

    It can be made outside a running loop.

    Args:
        job_servers: Addresses like ``"host:port"``. All are served at once and in turn, whichever are up.
        concurrency: How many jobs may run at a time, over all job servers.
        prefix: A namespace for all functions; they are registered as ``prefix``, separator, name.
        prefix_separator: A tab, as Perl's clients write it; ``""`` is C's way.
        client_id: The name under which the ``workers`` list of a job server shows this worker.
        heartbeat: Seconds after which a job server that owes an answer is taken for dead, and one that has said nothing
            is asked whether it is there. ``None``: never.
        connect_timeout: Seconds for one attempt to connect, name look-up and TLS included; ``None``: no limit.
        tls: An SSL context to speak TLS with; without one, servers written ``gearmans://`` get the default context.
        max_packet_size: The most bytes that a workload, a result or an update may have; a job with a longer one ends by
            WORK_EXCEPTION with the text ``JobTooLargeError: ...``.
        regrab_interval: A job server is asked for jobs at least so often in seconds, if there is a free slot. gearmand
            1.1.20 tells nobody of a job whose time has come.
        grace: Seconds that the jobs in hand have to end after :meth:`stop`; then they are cancelled, and the job
            servers give them to other workers. ``None``: as long as they take.
        max_jobs: Stop after so many jobs, for a supervisor to start the process anew.
        max_memory: Stop when this process occupies more bytes of memory than that; it is looked at once a second.
        on_start: Called without arguments when :meth:`run` begins, before the first job. May be a coroutine function,
            which :meth:`stop` cancels.
        on_stop: Called without arguments when :meth:`run` ends, however it ends, if ``on_start`` has succeeded.
        middleware: Coroutine functions around each job, the outermost first. Each is called with the job and with what
            runs it, and returns what the client is to get: ``async def timing(job, call): return await call(job)``.
        format_exception: Returns what the client receives for an exception, instead of ``Type: message`` with at most
            8,192 characters of the message. If it raises, the client receives the default.
        logger: Instead of ``geartrain.worker``.

    Raises:
        ValueError: If a value is out of its range.
        TypeError: If a value is of the wrong type.
    """

    def __init__(
        self,
        job_servers: Iterable[str] | str = ("127.0.0.1:4730",),
        *,
        concurrency: int = 1,
        prefix: str = "",
        prefix_separator: str = "\t",
        client_id: str | None = None,
        heartbeat: float | None = 30.0,
        connect_timeout: float | None = 5.0,
        tls: ssl.SSLContext | None = None,
        max_packet_size: int = DEFAULT_MAX_SIZE,
        regrab_interval: float = 1.0,
        grace: float | None = None,
        max_jobs: int | None = None,
        max_memory: int | None = None,
        on_start: Hook | None = None,
        on_stop: Hook | None = None,
        middleware: Iterable[Middleware] = (),
        format_exception: FormatException = format_exception,
        logger: logging.Logger | None = None,
    ) -> None:
        self._servers: dict[Address, WorkerCounters] = {
            address: WorkerCounters() for address in parse_addresses(job_servers)
        }
        if not self._servers:
            raise ValueError("a worker needs at least one job server, got none")
        self._prefix = encode_name("the prefix", prefix + prefix_separator if prefix else "")
        self._config = WorkerConfig(
            concurrency=concurrency,
            client_id=client_id,
            heartbeat=heartbeat,
            connect_timeout=connect_timeout,
            tls=tls,
            max_packet_size=max_packet_size,
            regrab_interval=regrab_interval,
            grace=grace,
            max_jobs=max_jobs,
            max_memory=max_memory,
            on_start=on_start,
            on_stop=on_stop,
            middleware=middleware,
            format_exception=format_exception,
            logger=logger or logging.getLogger("geartrain.worker"),
        )
        self._functions: dict[bytes, Function] = {}
        self._active_run: WorkerRun | None = None
        self._stop_requested = False  # stop() was called before run()

    @property
    def job_servers(self) -> tuple[str, ...]:
        """The addresses of its job servers."""
        return tuple(str(server) for server in self._servers)

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of its functions, without the prefix, in the order in which they were registered."""
        return tuple(function.name for function in self._functions.values())

    def function(
        self,
        name: str,
        *,
        timeout: float | None = None,
        on_timeout: OnTimeout = "exception",
        can_do_timeout: float | None = None,
        processes: int | None = None,
    ) -> Callable[[F], F]:
        """
        Offer the decorated function under ``name``.

        It is called with a :class:`WorkerJob` and returns bytes, text or ``None``. An ``async def`` runs in the loop, a
        plain ``def`` in a thread. What yields chunks sends each as WORK_DATA. Any callable will do: an awaitable or a
        generator that a plain ``def`` returns is awaited or sent, too.

        If it raises :class:`~geartrain.JobFailedError` the job fails (WORK_FAIL); any other exception goes to the
        client as WORK_EXCEPTION, as ``Type: message``, and to the log. A function that is added while the worker runs
        is offered at once.

        Args:
            name: What clients ask for.
            timeout: Seconds after which the worker cancels the function and ends the job; middleware then gets a
                TimeoutError, and is cancelled 1 s later. A thread cannot be stopped: its job ends all the same, but its
                slot is in use until the function returns.
            on_timeout: How such a job ends: ``"exception"`` is WORK_EXCEPTION with a ``TimeoutError``, ``"fail"`` is
                WORK_FAIL.
            can_do_timeout: Seconds for CAN_DO_TIMEOUT, by which the job server watches the job. Better use ``timeout``:
                gearmand gives a job that takes longer to another worker, tells neither this one nor the client, and
                refuses the late result. It has one timer a connection, so only one of several jobs is watched; it does
                not stop it when the job ends, and when it runs out then, the running jobs of ``status`` are wrong for
                good. Perl's job server takes the number, which is in milliseconds, for seconds.

            processes: Run a plain function in so many processes instead of threads. It has to be a function that a
                module has by name, for each process imports it anew; a program that is run as a script needs ``if
                __name__ == "__main__":`` around what starts the worker. A job whose process dies ends by WORK_EXCEPTION
                with a ``ChildProcessError``; one that is cancelled or takes too long has its process killed.

        Raises:
            LocalProtocolError: If the worker runs, and in another event loop or process than this one.
            ValueError: If Gearman cannot carry the name, the worker has a function of this name, or another value is
                out of its range.
            TypeError: If the name is no text, or what is decorated cannot be called, or a time is no number.
        """

        def register(call: F) -> F:
            active_run = self._get_active_run()
            function = Function.make(
                name,
                call,
                self._prefix,
                timeout=timeout,
                on_timeout=on_timeout,
                can_do_timeout=can_do_timeout,
                processes=processes,
            )
            if function.ability in self._functions:
                raise ValueError(f"this worker has a function {name!r} already")
            if active_run is not None:
                function.check_picklable()
            self._functions[function.ability] = function
            if active_run is not None:
                active_run.register(function)
            return call

        return register

    async def run(self) -> None:
        """
        Serve the job servers, for ever or until :meth:`stop`; a lost connection is made anew.

        Cancelling it ends it at once: the functions that run are cancelled, and the job servers give their jobs to
        other workers.

        Raises:
            LocalProtocolError: If it is running already, be it in another loop or process, or has no function.
            TypeError: If a function for processes cannot be sent there.
        """
        if self._get_active_run() is not None:
            raise LocalProtocolError("this worker is running already")
        if not self._functions:
            raise LocalProtocolError("this worker has no function to offer")
        for function in self._functions.values():
            function.check_picklable()
        if self._stop_requested:
            self._stop_requested = False
            return
        self._active_run = WorkerRun(self._servers, self._config, self._functions)
        try:
            if not await self._active_run.start(_call_hook(self._config.on_start)):
                return
            try:
                await self._active_run.run()
            finally:
                await _call_hook(self._config.on_stop)
        finally:
            self._active_run = None

    def stop(self) -> None:
        """
        Take no more jobs; :meth:`run` returns when those in hand have ended and their results have arrived.

        It may be called from anywhere: a function of the worker, a callback, a signal handler, another thread. Before
        :meth:`run` it makes the next one return at once.

        Raises:
            LocalProtocolError: If this process was forked from the one in which the worker runs.
        """
        if (active_run := self._active_run) is not None:
            check_process(active_run.binding.process, "this Worker")
            active_run.loop.call_soon_threadsafe(active_run.stop)
        else:
            self._stop_requested = True

    def _get_active_run(self) -> WorkerRun | None:
        """Return what there is while it runs, to be touched in its event loop only."""
        active_run = self._active_run
        if active_run is not None:
            active_run.binding.check(
                "this Worker", "asyncio.run_coroutine_threadsafe or that loop's call_soon_threadsafe"
            )
        return active_run

    @property
    def state(self) -> RunState:
        """``"running"``, ``"stopping"`` between :meth:`stop` and the end of :meth:`run`, else ``"idle"``."""
        if self._active_run is None:
            return "idle"
        return "running" if self._active_run.is_taking_jobs else "stopping"

    def ready(self) -> bool:
        """Whether it takes jobs and at least one job server has replied: for health checks."""
        return self._active_run is not None and self._active_run.is_ready

    def statistics(self) -> WorkerStatistics:
        """Return what the worker has done since it was created."""
        channels = [] if self._active_run is None else self._active_run.channels
        connected_since = {
            channel.address: channel.session.connected_since for channel in channels if channel.session is not None
        }
        return WorkerStatistics(
            state=self.state,
            servers={
                str(address): read_statistics(counters, connected_since.get(address))
                for address, counters in self._servers.items()
            },
        )


async def _call_hook(hook: Hook | None) -> None:
    result = hook() if hook is not None else None
    if inspect.isawaitable(result):
        await result
