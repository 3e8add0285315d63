"""The admin clients for programs without asyncio."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from geartrain import Admin as AsyncAdmin
from geartrain import AdminGroup as AsyncAdminGroup
from geartrain import (
    FunctionStatus,
    GearmanError,
    JobHandle,
    ListedJob,
    ListedUnique,
    PriorityStatus,
    WorkerStatus,
)
from geartrain.blocking.resident import Closeable, Resident

__all__ = ["Admin", "AdminGroup"]

T = TypeVar("T")

_MAX_ANSWER_SIZE = 64 * 1024 * 1024


class Admin(Closeable):
    """
    Queries and configures one job server, from any thread.

    Takes the arguments of :class:`geartrain.Admin`; its methods raise the same errors. Use it with ``with``, or close
    it with :meth:`close`.

    Attributes:
        timeout: As given; changing it affects later calls.
    """

    def __init__(
        self,
        job_server: str | None = None,
        *,
        timeout: float | None = 10.0,
        connect_timeout: float | None = 5.0,
        tls: ssl.SSLContext | None = None,
        max_answer_size: int = _MAX_ANSWER_SIZE,
        heartbeat: float | None = 30.0,
    ) -> None:
        make = partial(
            AsyncAdmin,
            timeout=timeout,
            connect_timeout=connect_timeout,
            tls=tls,
            max_answer_size=max_answer_size,
            heartbeat=heartbeat,
        )
        make = partial(make, make(job_server).job_server)  # raises for wrong arguments
        self._resident: Resident[AsyncAdmin] = Resident(make, AsyncAdmin.aclose)

    @property
    def timeout(self) -> float | None:
        """Maximum time to wait for an answer (seconds); changing it affects later calls."""
        return self._resident.instance.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._resident.instance.timeout = seconds

    @property
    def job_server(self) -> str:
        """The job server's address, as ``host:port``."""
        return self._resident.instance.job_server

    @property
    def connected(self) -> bool:
        """Whether a connection is open, as far as is known."""
        return self._resident.instance.connected

    def status(self) -> list[FunctionStatus]:
        """Return the job server's functions in no particular order, including those without workers and jobs."""
        return self._resident.call(AsyncAdmin.status)

    def priority_status(self) -> list[PriorityStatus]:
        """Return the number of queued jobs of each function, by priority. Not supported by Perl's job server."""
        return self._resident.call(AsyncAdmin.priority_status)

    def workers(self) -> list[WorkerStatus]:
        """Return the job server's connections: workers, clients, and this one."""
        return self._resident.call(AsyncAdmin.workers)

    def show_jobs(self) -> list[ListedJob]:
        """Return the jobs that are queued or running. Not supported by Perl's job server."""
        return self._resident.call(AsyncAdmin.show_jobs)

    def show_unique_jobs(self) -> list[ListedUnique]:
        """Return the uniques of the jobs that are queued or running. Not supported by Perl's job server."""
        return self._resident.call(AsyncAdmin.show_unique_jobs)

    def version(self) -> str:
        """Return the job server's version, such as ``"1.1.20+ds"``."""
        return self._resident.call(AsyncAdmin.version)

    def getpid(self) -> int:
        """Return the job server's process ID."""
        return self._resident.call(AsyncAdmin.getpid)

    def verbose(self) -> str:
        """Return the job server's log level, such as ``"ERROR"``."""
        return self._resident.call(AsyncAdmin.verbose)

    def set_max_queue(
        self,
        function: str,
        limit: int | None = None,
        *,
        high: int | None = None,
        normal: int | None = None,
        low: int | None = None,
    ) -> None:
        """
        Limit the number of jobs of a function; further submissions are refused with ERROR ``QUEUE_ERROR``.

        Running jobs count as well. gearmand answers OK for a function that it does not know yet, but sets no limit:
        create the function first.

        Args:
            function: The name of the function.
            limit: The limit for all priorities; 0 means no limit.
            high: The limit for submissions with priority HIGH. Pass ``high``, ``normal`` and ``low``, or ``limit``.
            normal: The limit for submissions with priority NORMAL.
            low: The limit for submissions with priority LOW.

        Raises:
            ValueError: If neither ``limit`` nor all of the other three are given, or a limit is out of range.
        """
        return self._resident.call(AsyncAdmin.set_max_queue, function, limit, high=high, normal=normal, low=low)

    def create_function(self, function: str) -> None:
        """Create a function on the job server, before a worker registers it or a job is submitted."""
        return self._resident.call(AsyncAdmin.create_function, function)

    def drop_function(self, function: str) -> None:
        """
        Remove a function from the job server.

        Do not drop a function that has queued jobs: gearmand removes it, and the jobs stay queued but are never
        assigned to a worker. gearmand also ignores the case of the name.

        Raises:
            ServerError: If there is no such function, or a worker has registered it.
        """
        return self._resident.call(AsyncAdmin.drop_function, function)

    def cancel_job(self, handle: JobHandle | str) -> bool:
        """
        Remove a queued job; the job server sends WORK_FAIL to the clients that wait for it.

        The clients of a running job receive WORK_FAIL, too, but gearmand does not stop it, and still forwards what its
        worker sends.

        Args:
            handle: The job server's own handle, a :class:`JobHandle`, or its text, which includes the job server, or
                a token.

        Returns:
            Whether the job server knew the job.

        Raises:
            ValueError: If the handle belongs to another job server.
        """
        return self._resident.call(AsyncAdmin.cancel_job, handle)

    def shutdown(self, *, graceful: bool = False) -> None:
        """
        Shut the job server down. Perl's job server supports this, gearmand since 1.1.15 does not.

        A job server may close the connection instead of answering.

        Args:
            graceful: Wait for the jobs in progress first.

        Raises:
            ServerError: If the job server does not support the command.
        """
        return self._resident.call(AsyncAdmin.shutdown, graceful=graceful)

    # Shutdown.

    def close(self) -> None:
        """Close the connection; unanswered calls end with :class:`ClientDisconnectedError`."""
        self._resident.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.job_server}>"


class AdminGroup(Closeable):
    """
    Queries and configures several job servers concurrently, from any thread.

    A failing job server does not affect the others: every call returns a dict that contains, for each address, the
    answer or the error. :meth:`ask` makes any call of ``Admin``, each in a thread of its own; the other methods are
    shortcuts for frequent calls. Takes the arguments of :class:`geartrain.AdminGroup`.
    """

    def __init__(
        self,
        job_servers: Iterable[str] | str | None = None,
        *,
        timeout: float | None = 10.0,
        connect_timeout: float | None = 5.0,
        tls: ssl.SSLContext | None = None,
        max_answer_size: int = _MAX_ANSWER_SIZE,
        heartbeat: float | None = 30.0,
    ) -> None:
        options = {
            "timeout": timeout,
            "connect_timeout": connect_timeout,
            "tls": tls,
            "max_answer_size": max_answer_size,
            "heartbeat": heartbeat,
        }
        servers = tuple(AsyncAdminGroup(job_servers, **options).admins)  # type: ignore[arg-type]
        make = partial(AsyncAdminGroup, servers, **options)  # type: ignore[arg-type]
        self._admins = {server: Admin(server, **options) for server in servers}  # type: ignore[arg-type]
        self._resident: Resident[AsyncAdminGroup] = Resident(make, AsyncAdminGroup.aclose)

    @property
    def admins(self) -> Mapping[str, Admin]:
        """Each job server's admin client, by address in the order given, for calls to a single job server."""
        return MappingProxyType(self._admins)

    def ask(self, call: Callable[[Admin], T]) -> dict[str, T | GearmanError]:
        """
        Make a call to every job server: ``group.ask(lambda admin: admin.create_function("resize"))``.

        Returns:
            What the call returned, or the ``GearmanError`` that it raised, by address in the order given.

        Raises:
            Exception: An error of the caller (``LocalProtocolError``, ``ValueError``, ...), raised when all calls have
                ended.
        """
        with ThreadPoolExecutor(len(self._admins) or 1) as threads:
            futures = {server: threads.submit(call, admin) for server, admin in self._admins.items()}

        async def get_outcome(admin: AsyncAdmin) -> T:
            return futures[admin.job_server].result()

        return self._resident.call(AsyncAdminGroup.ask, get_outcome)

    def status(self) -> dict[str, list[FunctionStatus] | GearmanError]:
        """Call :meth:`Admin.status` of every job server."""
        return self._resident.call(AsyncAdminGroup.status)

    def priority_status(self) -> dict[str, list[PriorityStatus] | GearmanError]:
        """Call :meth:`Admin.priority_status` of every job server."""
        return self._resident.call(AsyncAdminGroup.priority_status)

    def workers(self) -> dict[str, list[WorkerStatus] | GearmanError]:
        """Call :meth:`Admin.workers` of every job server."""
        return self._resident.call(AsyncAdminGroup.workers)

    def show_jobs(self) -> dict[str, list[ListedJob] | GearmanError]:
        """Call :meth:`Admin.show_jobs` of every job server."""
        return self._resident.call(AsyncAdminGroup.show_jobs)

    def show_unique_jobs(self) -> dict[str, list[ListedUnique] | GearmanError]:
        """Call :meth:`Admin.show_unique_jobs` of every job server."""
        return self._resident.call(AsyncAdminGroup.show_unique_jobs)

    def version(self) -> dict[str, str | GearmanError]:
        """Call :meth:`Admin.version` of every job server."""
        return self._resident.call(AsyncAdminGroup.version)

    # Shutdown.

    def close(self) -> None:
        """Close all connections, as :meth:`Admin.close` does."""
        for admin in self._admins.values():
            admin.close()
        self._resident.close()

    def __repr__(self) -> str:
        return f"<AdminGroup {', '.join(self._admins)}>"
