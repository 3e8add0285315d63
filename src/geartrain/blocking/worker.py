"""The worker for programs without asyncio."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from geartrain import LocalProtocolError, StopSignals, WorkerJob, WorkerStatistics
from geartrain import Worker as AsyncWorker
from geartrain.blocking.resident import Owner, Resident
from geartrain.blocking.worker_run import WorkerRun, create_function_thread
from geartrain.unpatched import is_patched

__all__ = ["Worker"]

F = TypeVar("F", bound=Callable[..., Any])


class Worker(Owner):
    """
    Registers functions with job servers and runs their jobs.

    ::

        worker = Worker("10.0.0.1")

        @worker.function
        def reverse(job: WorkerJob) -> bytes:
            return job.workload[::-1]

        if __name__ == "__main__":
            worker.main()

    :meth:`main` and :meth:`run` block; ``with worker:`` runs the worker in the background of the block, and ends it
    when its jobs have ended. Coroutine functions, hooks and middleware run in geartrain's thread. Takes the arguments
    of :class:`geartrain.Worker`, and raises the same errors.
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
        max_packet_size: int = 64 * 1024 * 1024,
        regrab_interval: float = 1.0,
        grace: float | None = None,
        max_jobs: int | None = None,
        max_memory: int | None = None,
        on_start: Callable[[], Awaitable[None] | None] | None = None,
        on_stop: Callable[[], Awaitable[None] | None] | None = None,
        on_process_start: Callable[[], object] | None = None,
        on_process_stop: Callable[[], object] | None = None,
        middleware: Iterable[Callable[[WorkerJob, Callable[[WorkerJob], Awaitable[Any]]], Awaitable[Any]]] = (),
        format_exception: Callable[[BaseException], bytes | str] | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        registrations: list[Callable[[AsyncWorker], object]] = []
        formats = {} if format_exception is None else {"format_exception": format_exception}

        def make() -> AsyncWorker:
            worker = AsyncWorker(
                job_servers,
                concurrency=concurrency,
                prefix=prefix,
                prefix_separator=prefix_separator,
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
                logger=logger,
                **formats,
            )
            for register in registrations:
                register(worker)
            return worker

        job_servers = make().job_servers  # raises for wrong arguments
        self._registrations = registrations
        self._resident: Resident[AsyncWorker] = Resident(make, close=_stop_at_once)
        self._uses_processes = False
        self._background: WorkerRun | None = None

    @property
    def job_servers(self) -> tuple[str, ...]:
        """The addresses of the job servers."""
        return self._resident.instance.job_servers

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of the functions, without the prefix, in the order in which they were registered."""
        return self._resident.instance.functions

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The SSL context that the worker was given."""
        return self._resident.instance.tls

    @property
    def concurrency(self) -> int:
        """The maximum number of jobs that run at the same time, as it is for a run that begins now."""
        return self._resident.instance.concurrency

    @overload
    def function(self, name: F) -> F: ...
    @overload
    def function(
        self,
        name: str,
        *,
        timeout: float | None = None,
        on_timeout: Literal["exception", "fail"] = "exception",
        can_do_timeout: float | None = None,
        processes: int | None = None,
    ) -> Callable[[F], F]: ...

    def function(
        self,
        name: str | F,
        *,
        timeout: float | None = None,
        on_timeout: Literal["exception", "fail"] = "exception",
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
        if isinstance(name, str) or not callable(name):
            # Only what is registered counts; this raises for wrong arguments.
            self._resident.instance.function(
                name, timeout=timeout, on_timeout=on_timeout, can_do_timeout=can_do_timeout, processes=processes
            )

        def register_at(worker: AsyncWorker, call: F) -> None:
            if isinstance(name, str):
                worker.function(
                    name, timeout=timeout, on_timeout=on_timeout, can_do_timeout=can_do_timeout, processes=processes
                )(call)
            else:
                worker.function(call)

        def register(call: F) -> F:
            if self._resident.instance.state == "idle":
                register_at(self._resident.instance, call)
            else:
                if processes is not None:
                    _check_not_patched()
                self._resident.run(register_at, call)
            self._uses_processes |= processes is not None
            self._registrations.append(partial(register_at, call=call))
            return call

        return register if isinstance(name, str) or not callable(name) else register(name)

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
        with self._resident.instance.serve_http(address) as served:
            yield served

    def check(self) -> None:
        """
        Check that the worker can run, without connecting to any job server.

        Raises:
            LocalProtocolError: If it has no functions.
            TypeError: If something that runs in processes cannot be pickled.
        """
        self._resident.instance.check()

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
        with StopSignals(self.stop), nullcontext() if http is None else self.serve_http(http):
            self.run()

    def run(
        self,
        *,
        on_idle: Callable[[], object] | None = None,
        interval: float = 60.0,
        wait_for_servers: bool = True,
    ) -> None:
        """
        Serve the job servers until :meth:`stop`, reconnecting whenever a connection is lost.

        Plain functions run in the calling thread if ``concurrency`` is 1, otherwise in threads. Ctrl-C, also in a
        function, ends it immediately: the job servers give the running jobs to other workers. Under gevent's monkey
        patching the threads are greenlets of the calling thread.

        Args:
            on_idle: Called in the calling thread every ``interval`` seconds, between jobs, if ``concurrency`` is 1.
                What it raises ends the run in the same way, and is raised here.
            interval: Seconds.
            wait_for_servers: Keep trying to connect while no job server can be reached. If false, that ends the run.

        Raises:
            NoServersError: If ``wait_for_servers`` is false, and no job server could be reached.
            ValueError: If there is an ``on_idle``, and ``concurrency`` is not 1.
            LocalProtocolError: If the worker is already running or has no functions, this is called in a callback, or
                a function is to run in processes under gevent's monkey patching.
            TypeError: If something that runs in processes cannot be pickled.
        """
        if on_idle is not None and self.concurrency != 1:
            raise ValueError(f"on_idle runs between jobs, so concurrency must be 1, got {self.concurrency}")
        if self._uses_processes:
            _check_not_patched()
        self._resident.get_thread().check_may_wait()
        thread = create_function_thread(self.concurrency)
        run = WorkerRun(self._resident, thread, on_idle, interval, wait_for_servers=wait_for_servers)
        try:
            run.serve()
            run.result()
        finally:
            self._resident.close()

    def stop(self) -> None:
        """
        Take no more jobs; :meth:`run` returns when the running ones have ended and their results have arrived.

        It may be called from anywhere: a function of the worker, a callback, a signal handler, another thread. If it is
        called before :meth:`run`, the next run returns immediately.

        Raises:
            LocalProtocolError: If this process was forked from the one in which the worker runs.
        """
        self._resident.instance.stop()

    def describe(self) -> str:
        """Return lines for people about the worker: version and limits, job servers, each function. Logged at start."""
        return self._resident.instance.describe()

    @property
    def state(self) -> Literal["idle", "running", "stopping"]:
        """``"running"``, ``"stopping"`` between :meth:`stop` and the end of :meth:`run`, else ``"idle"``."""
        return self._resident.instance.state

    def ready(self) -> bool:
        """Whether the worker takes jobs and at least one job server has replied. For health checks."""
        return self._resident.instance.ready()

    def statistics(self) -> WorkerStatistics:
        """Return what the worker has done since it was created."""
        return self._resident.instance.statistics()

    def __enter__(self) -> Self:
        if self._uses_processes:
            _check_not_patched()
        run = WorkerRun(self._resident, create_function_thread(self.concurrency, in_background=True))
        self._resident.call(_do_nothing)
        if run.has_ended:  # it raised in its first step
            self._resident.close()
            run.result()
        run.serve_in_background()
        self._background = run
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run, self._background = self._background, None
        if run is None:
            return
        try:
            if not run.has_ended:
                self.stop()
            run.result()
        finally:
            self._resident.close()

    def __repr__(self) -> str:
        return repr(self._resident.instance)


def _check_not_patched() -> None:
    # Processes are started and watched in threads of the operating system, where gevent's replacements fail or block.
    if is_patched():
        raise LocalProtocolError("functions cannot run in processes under gevent's monkey patching")


async def _do_nothing(_: AsyncWorker) -> None:
    pass


async def _stop_at_once(worker: AsyncWorker) -> None:
    """Do nothing: the run is cancelled with the event loop, which gives its jobs back."""
