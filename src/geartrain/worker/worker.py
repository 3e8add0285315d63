"""The worker: its options, its functions and its life cycle."""

from __future__ import annotations

import inspect
import logging
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, overload

from geartrain.address import Address, read_addresses
from geartrain.errors import LocalProtocolError
from geartrain.fork_safety import check_process
from geartrain.program import run_until_signals
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE
from geartrain.validation import check_logger, encode_name, warn_caller
from geartrain.worker.background_run import BackgroundRun
from geartrain.worker.config import FormatException, Hook, Middleware, WorkerConfig, make_client_id
from geartrain.worker.counters import WorkerCounters
from geartrain.worker.exceptions import format_exception
from geartrain.worker.function import AnyFunction, Function, FunctionOptions, OnTimeout
from geartrain.worker.function_thread import FunctionThread, threads_of
from geartrain.worker.run import WorkerRun
from geartrain.worker.run_log import RunLog, describe_worker
from geartrain.worker.statistics import RunState, WorkerStatistics, read_statistics

if TYPE_CHECKING:
    from geartrain.worker.job_metrics import JobMetrics
    from geartrain.worker.monitoring.loop_watch import LoopWatch
    from geartrain.worker.prefork.run import PreforkRun

__all__ = ["Worker", "set_metrics"]

F = TypeVar("F", bound=AnyFunction)


class Worker:
    """
    Registers functions with job servers and runs their jobs.

    ::

        worker = Worker(["10.0.0.1", "10.0.0.2"], concurrency=10)

        @worker.function
        async def reverse(job: WorkerJob) -> bytes:
            return job.workload[::-1]

        if __name__ == "__main__":
            worker.main()

    A worker can be created outside a running event loop. ``async with worker:`` runs it in the background of the block.
    When the block ends, it waits until the running jobs have ended; if the block raises, they are returned to the
    job servers.

    Args:
        job_servers: Addresses like ``"host:port"``. The worker takes jobs from all of them in turn. Default to those in
            the environment variable ``GEARMAN_SERVERS``, separated by commas, or else to 127.0.0.1:4730.
        concurrency: The maximum number of jobs that run at the same time, over all job servers. Defaults to the largest
            ``processes`` of its functions when it runs, or else to 1.
        prefix: A namespace for all functions; they are registered as ``prefix``, separator, name.
        prefix_separator: Defaults to a tab, as in Perl's clients; ``""`` for the convention of the C library.
        client_id: The name of this worker in the ``workers`` list of a job server. Defaults to ``hostname:pid``, with
            the number of the process that has the connection.
        heartbeat: How long a reply may be pending before the connection is considered lost, and how long a job server
            may be silent before it is probed (seconds). ``None`` for no heartbeat.
        connect_timeout: The timeout of one attempt to connect in seconds, including name resolution and TLS. ``None``
            for no limit.
        tls: The SSL context for all connections. Without one, ``gearmans://`` servers get the default context.
        max_packet_size: The maximum size of a workload, a result or an update in bytes. A job that exceeds it ends with
            WORK_EXCEPTION and the text ``JobTooLargeError: ...``.
        regrab_interval: How often to request jobs while there is a free slot, at least (seconds). gearmand 1.1.20
            does not wake workers for a scheduled job that has become due.
        grace: How long running jobs may take to end after :meth:`stop` (seconds). Then they are cancelled, and the job
            servers give them to other workers. ``None`` for no limit.
        max_jobs: Stop after this many jobs, so that a supervisor can restart the process.
        max_memory: Stop when this process uses more than this many bytes of memory. Checked about once a second.
        on_start: Called without arguments when :meth:`run` begins, before the first job. May be a coroutine function,
            which :meth:`stop` cancels.
        on_stop: Called without arguments whenever :meth:`run` ends, if ``on_start`` has succeeded.
        on_process_start: Called without arguments in each process of a function with ``processes``, before its first
            job: open a database there. A plain function that a module has by name. If it raises, no job of that process
            runs; where the worker has the connections, the job that started the process ends with the exception.
        on_process_stop: Called in each of these processes when it ends, if ``on_process_start`` has succeeded; for at
            most 5 seconds. Not in a process that is killed or has died.
        middleware: Coroutine functions around each job, the outermost first. Each is called with the job and with what
            runs it, and returns the result for the client: ``async def timing(job, call): return await call(job)``.
        format_exception: Returns what the client receives for an exception, instead of ``Type: message`` with at most
            8,192 characters of the message. If it raises, the client receives the default.
        logger: Defaults to the logger ``geartrain.worker``.

    Raises:
        ValueError: If a value is out of range.
        TypeError: If a value is of the wrong type.
    """

    def __init__(
        self,
        job_servers: Iterable[str] | str | None = None,
        *,
        concurrency: int | None = None,
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
        on_process_start: Callable[[], object] | None = None,
        on_process_stop: Callable[[], object] | None = None,
        middleware: Iterable[Middleware] = (),
        format_exception: FormatException = format_exception,
        logger: logging.Logger | None = None,
    ) -> None:
        self._servers: dict[Address, WorkerCounters] = {
            address: WorkerCounters() for address in read_addresses(job_servers)
        }
        if not self._servers:
            raise ValueError("a worker needs at least one job server, got none")
        for name, value in (("prefix", prefix), ("prefix_separator", prefix_separator)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be text, got {value!r}")
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
            on_process_start=on_process_start,
            on_process_stop=on_process_stop,
            middleware=middleware,
            format_exception=format_exception,
            logger=check_logger(logger, "geartrain.worker"),
        )
        self._functions: dict[bytes, Function] = {}
        self._active_run: WorkerRun | PreforkRun | None = None
        self._stop_requested = False  # stop() was called before run()
        self._metrics: JobMetrics | None = None
        self._watch: LoopWatch | None = None
        self._background_run: BackgroundRun | None = None  # of `async with`
        self._run_log = RunLog(self._config.logger, lambda: self.describe().splitlines(), self.statistics)

    @property
    def job_servers(self) -> tuple[str, ...]:
        """The addresses of the job servers."""
        return tuple(str(server) for server in self._servers)

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of the functions, without the prefix, in the order in which they were registered."""
        return tuple(function.name for function in self._functions.values())

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The SSL context that the worker was given."""
        return self._config.tls

    @property
    def concurrency(self) -> int:
        """The maximum number of jobs that run at the same time, as it is for a run that begins now."""
        if self._config.concurrency is not None:
            return self._config.concurrency
        return max((function.processes or 1 for function in self._functions.values()), default=1)

    @overload
    def function(self, name: F) -> F: ...
    @overload
    def function(
        self,
        name: str,
        *,
        timeout: float | None = None,
        on_timeout: OnTimeout = "exception",
        can_do_timeout: float | None = None,
        processes: int | None = None,
    ) -> Callable[[F], F]: ...

    def function(
        self,
        name: str | F,
        *,
        timeout: float | None = None,
        on_timeout: OnTimeout = "exception",
        can_do_timeout: float | None = None,
        processes: int | None = None,
    ) -> Callable[[F], F] | F:
        """
        Register the decorated function as ``name``; without parentheses, by its own name.

        It is called with a :class:`WorkerJob` and returns bytes, text or ``None``. An ``async def`` runs in the event
        loop, a plain ``def`` in a thread. Each chunk that a generator yields is sent as WORK_DATA. Any callable is
        accepted; if a plain ``def`` returns an awaitable or a generator, that is awaited or sent as well.

        If it raises :class:`~geartrain.JobFailedError`, the job fails (WORK_FAIL). Any other exception is logged and
        sent to the client as WORK_EXCEPTION with the text ``Type: message``. A function that is added while the worker
        runs is registered immediately.

        Args:
            name: The name under which clients submit jobs.
            timeout: Seconds after which the worker cancels the function and ends the job; middleware then gets a
                TimeoutError, and is cancelled 1 s later. A thread cannot be stopped: its job ends nevertheless, but its
                slot stays in use until the function returns.
            on_timeout: How such a job ends: ``"exception"`` for WORK_EXCEPTION with a ``TimeoutError``, ``"fail"`` for
                WORK_FAIL.
            can_do_timeout: The timeout for CAN_DO_TIMEOUT in seconds, which the job server enforces. Prefer
                ``timeout``: gearmand gives a job that takes longer to another worker, notifies neither this one nor the
                client, and refuses the late result. It has one timer per connection, so only one of several jobs is
                timed. It does not stop the timer when the job ends; if it then expires, the number of running jobs in
                ``status`` stays wrong. Perl's job server reads the number, which is in milliseconds, as seconds.
            processes: Run a plain function in up to this many processes instead of threads. It must be
                importable by name, since each process imports its module; a script must start its worker under ``if
                __name__ == "__main__":``. A job whose process dies ends with WORK_EXCEPTION and a
                ``ChildProcessError``. If a job is cancelled or times out, its process is killed.

        Raises:
            LocalProtocolError: If the worker is running in another event loop or process.
            ValueError: If the name is not valid in Gearman or already in use, or another value is out of range.
            TypeError: If the name is not a string, the decorated object is not callable, or a time is not a number.

        Warns:
            RuntimeWarning: If there are more ``processes`` than the worker's ``concurrency`` can ever use.
        """
        if not isinstance(name, str) and callable(name):
            return self.function(_name_of(name))(name)
        options = FunctionOptions.make(
            name,
            self._prefix,
            timeout=timeout,
            on_timeout=on_timeout,
            can_do_timeout=can_do_timeout,
            processes=processes,
        )
        self._check_unused(options)
        concurrency = self._config.concurrency
        if processes is not None and concurrency is not None and processes > concurrency:
            warn_caller(
                f"{name!r} has processes={processes}, but the worker runs at most {concurrency} at a time "
                f"(concurrency={concurrency})"
            )

        def register(call: F) -> F:
            active_run = self._get_active_run()
            function = Function.bind(options, call)
            self._check_unused(options)
            if active_run is not None:
                function.check_picklable()
            self._functions[function.ability] = function
            self._show_functions([function])
            if active_run is not None:
                active_run.register(function)
            return call

        return register

    def check(self) -> None:
        """
        Check that the worker can run, without connecting to any job server.

        Raises:
            LocalProtocolError: If it has no functions.
            TypeError: If something that runs in processes cannot be pickled.
        """
        if not self._functions:
            raise LocalProtocolError("the worker has no functions")
        for function in self._functions.values():
            function.check_picklable()
        self._config.process_hooks.check_picklable()

    def _check_unused(self, options: FunctionOptions) -> None:
        if options.ability in self._functions:
            raise ValueError(f"the worker already has a function {options.name!r}")

    @contextmanager
    def serve_http(self, address: str) -> Iterator[str]:
        """
        Serve ``/livez``, ``/readyz`` and ``/metrics`` over HTTP for the duration of a ``with`` block.

        ``/livez`` responds with 503 if the event loop has been stuck for 5 seconds, ``/readyz`` unless the worker takes
        jobs and a job server has replied, ``/metrics`` with 501 without the extra ``metrics``. A thread of its own does
        it. Register functions with ``processes=`` before: their processes record metrics only then.

        Args:
            address: ``host:port`` or a port, which is then one of the loopback interface; port 0 picks a free one.

        Returns:
            The address, with the port.

        Raises:
            ValueError: If the address is invalid.
            OSError: If the port is in use, or it cannot listen there for another reason.
            LocalProtocolError: If functions run in processes, and the program has imported prometheus-client without
                its multiprocess mode.
        """
        from geartrain.http_service import HttpAddress  # few need these
        from geartrain.worker.monitoring.loop_watch import LoopWatch
        from geartrain.worker.monitoring.service import recording_metrics, serving_health

        parsed, watch = HttpAddress.parse(address), LoopWatch()
        several_processes = any(function.processes is not None for function in self._functions.values())
        with recording_metrics(several_processes=several_processes) as metrics:
            self._watch = watch
            set_metrics(self, metrics)
            try:
                with serving_health(parsed, watch.find_problem, self._why_not_ready) as served:
                    yield str(served)
            finally:
                self._watch = None
                set_metrics(self, None)

    def _show_functions(self, functions: Iterable[Function]) -> None:
        if self._metrics is not None:
            for function in functions:
                self._metrics.add_function(function.name)

    def _why_not_ready(self) -> str | None:
        if self.ready():
            return None
        return "no job server has replied" if self.state == "running" else f"the worker is {self.state}"

    def main(self, *, http: str | None = None) -> None:
        """
        Run the worker as a program: until SIGTERM, SIGINT (Ctrl-C) or SIGHUP, which let the running jobs end.

        A second signal gives the running jobs back to the job servers and ends the program. A signal that is ignored
        when this is called stays ignored. Logs go to standard error, unless the program has configured logging.

        Args:
            http: Serve probes and metrics at this address meanwhile, as :meth:`serve_http` does.

        Raises:
            OSError: If it cannot listen at ``http``.
            ValueError: If ``http`` is invalid.
            SystemExit: With status 128 plus the number of the signal, after a second one.
            LocalProtocolError: If the worker has no functions, or this is not the main thread.
            TypeError: If something that runs in processes cannot be pickled.
        """
        run_until_signals(partial(self._run_and_serve, http), self.stop)

    async def _run_and_serve(self, http: str | None) -> None:
        with nullcontext() if http is None else self.serve_http(http):
            await self.run()

    async def __aenter__(self) -> Self:
        if self._background_run is not None or self._get_active_run() is not None:
            raise LocalProtocolError("the worker is already running")
        self._background_run = BackgroundRun(self.run(), self.stop)
        await self._background_run.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        background_run, self._background_run = self._background_run, None
        assert background_run is not None
        await background_run.end(error)

    async def run(self, *, thread: FunctionThread | None = None, wait_for_servers: bool = True) -> None:
        """
        Serve the job servers until :meth:`stop`, reconnecting whenever a connection is lost.

        If it is cancelled, it ends immediately: running functions are cancelled, and the job servers give their jobs
        to other workers.

        Args:
            thread: Runs the plain functions; by default the worker starts threads for them.
            wait_for_servers: Keep trying to connect while no job server can be reached. If false, that ends the run.

        Raises:
            NoServersError: If ``wait_for_servers`` is false, and no job server could be reached.
            ValueError: If ``concurrency`` is greater than that of ``thread``.
            LocalProtocolError: If the worker is already running, in this or another event loop or process, or has no
                functions.
            TypeError: If something that runs in processes cannot be pickled.
        """
        if self._get_active_run() is not None:
            raise LocalProtocolError("the worker is already running")
        if thread is not None and self.concurrency > thread.concurrency:
            raise ValueError(
                f"concurrency must be at most {thread.concurrency} with this thread, got {self.concurrency}"
            )
        self.check()
        if self._stop_requested:
            self._stop_requested = False
            return
        with self._run_log:
            await self._serve(thread, wait_for_servers=wait_for_servers)

    async def _serve(self, thread: FunctionThread | None, *, wait_for_servers: bool) -> None:
        self._active_run = self._make_run(thread, waits_for_servers=wait_for_servers)
        with nullcontext() if self._watch is None else self._watch.watching():
            await self._complete_run(thread, wait_for_servers=wait_for_servers)

    async def _complete_run(self, thread: FunctionThread | None, *, wait_for_servers: bool) -> None:
        assert self._active_run is not None
        try:
            if not await self._active_run.start(_call_hook(self._config.on_start)):
                return
            try:
                await self._active_run.run()
                if self._active_run.is_superseded:
                    self._active_run = self._make_run(thread, waits_for_servers=wait_for_servers)
                    await self._active_run.run()
            finally:
                await _call_hook(self._config.on_stop)
        finally:
            self._active_run = None

    def _make_run(self, thread: FunctionThread | None, *, waits_for_servers: bool) -> WorkerRun | PreforkRun:
        config = replace(self._config, concurrency=self.concurrency, metrics=self._metrics)
        if waits_for_servers and all(function.processes is not None for function in self._functions.values()):
            from geartrain.worker.prefork.eligibility import can_prefork  # rarely needed, and slow to import

            if can_prefork(self._servers, config, self._functions):
                from geartrain.worker.prefork.run import PreforkRun

                return PreforkRun(self._servers, config, self._functions)
        return WorkerRun(
            self._servers, config, self._functions, threads_of(thread), waits_for_servers=waits_for_servers
        )

    def stop(self) -> None:
        """
        Take no more jobs; :meth:`run` returns when the running ones have ended and their results have arrived.

        It may be called from anywhere: a function of the worker, a callback, a signal handler, another thread. If it is
        called before :meth:`run`, the next run returns immediately.

        Raises:
            LocalProtocolError: If this process was forked from the one in which the worker runs.
        """
        if (active_run := self._active_run) is not None:
            check_process(active_run.binding.process, "this Worker")
            active_run.loop.call_soon_threadsafe(self._stop_run, active_run)
        else:
            self._stop_requested = True

    def _stop_run(self, active_run: WorkerRun | PreforkRun) -> None:
        if active_run.is_taking_jobs:
            self._run_log.stopping(self._config.grace)
        active_run.stop()

    def describe(self) -> str:
        """Return lines for people about the worker: version and limits, job servers, each function. Logged at start."""
        return "\n".join(
            describe_worker(
                self._config.client_id or make_client_id(), self.job_servers, self.concurrency, self._functions.values()
            )
        )

    def __repr__(self) -> str:
        names = f"functions {', '.join(self.functions)}" if self._functions else "no functions"
        return f"<Worker {', '.join(self.job_servers)}, {names}, {self.state}>"

    def _get_active_run(self) -> WorkerRun | PreforkRun | None:
        """Return the active run, if any; raise LocalProtocolError outside its event loop or process."""
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
        """Whether the worker takes jobs and at least one job server has replied. For health checks."""
        return self._active_run is not None and self._active_run.is_ready

    def statistics(self) -> WorkerStatistics:
        """Return what the worker has done since it was created."""
        connected_since = {} if self._active_run is None else self._active_run.connected_since()
        return WorkerStatistics(
            state=self.state,
            servers={
                str(address): read_statistics(counters, connected_since.get(address))
                for address, counters in self._servers.items()
            },
        )


def set_metrics(worker: Worker, metrics: JobMetrics | None) -> None:
    """Have the runs of a worker that begin from now on record metrics, or none."""
    worker._metrics = metrics
    worker._show_functions(worker._functions.values())


def _name_of(call: AnyFunction) -> str:
    name = getattr(call, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise TypeError(f'{call!r} has no name of its own; register it with @worker.function("name")')
    return name


async def _call_hook(hook: Hook | None) -> None:
    result = hook() if hook is not None else None
    if inspect.isawaitable(result):
        await result
