"""The admin client of one job server."""

from __future__ import annotations

import ssl
import warnings
from types import TracebackType
from typing import Final, Self, TypeVar

from geartrain.address import Address, read_addresses
from geartrain.admin.session import ADMIN_LOGGER, AdminSession
from geartrain.admin.shared_attempt import SharedAttempt
from geartrain.errors import (
    ClientDisconnectedError,
    ConnectionLostError,
    NoServersError,
    ServerError,
    ServerTimeoutError,
)
from geartrain.handle import JobHandle, names_server
from geartrain.loop_binding import LoopBinding
from geartrain.outage import Outage
from geartrain.protocol import text
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE
from geartrain.protocol.text_replies import FunctionStatus, ListedJob, ListedUnique, PriorityStatus, WorkerStatus
from geartrain.timeout import timeout as limited
from geartrain.tls import check_tls
from geartrain.validation import check_timeout

__all__ = ["Admin", "ReportingAdmin"]

T = TypeVar("T")

_MAX_LIMIT: Final = 2**31 - 1  # gearmand reads a limit by atoi(3)


class Admin:
    """
    Queries and configures one job server.

    It connects on the first call and, after a lost connection, on the next one. Calls may run concurrently: they share
    the connection and are answered in order. Cancelling a call does not affect the others.

    Every call raises :class:`NoServersError` if the job server cannot be reached, :class:`ConnectionLostError` if the
    connection is lost before the answer (the job server may or may not have executed the command),
    :class:`ServerTimeoutError` if there is no answer in time, :class:`ServerError` if the answer is ``ERR``,
    :class:`RemoteProtocolError` if the answer is invalid, and :class:`LocalProtocolError` for a name that a text
    command cannot contain because it is empty or has a space, a newline or a NUL.

    Args:
        job_server: ``host`` or ``host:port``, either prefixed with ``gearmans://`` for TLS. Defaults to the first
            address in the environment variable ``GEARMAN_SERVERS``, or else to 127.0.0.1:4730.
        timeout: Maximum time to wait for an answer (seconds). After that the connection is closed, since the answers
            that follow could not be matched; other calls on it end with :class:`ConnectionLostError`. ``None`` waits
            forever.
        connect_timeout: Maximum time for one attempt to connect, including name lookup and TLS (seconds).
        tls: Use TLS with this context. By default TLS is used only for a ``gearmans://`` address, with Python's default
            context, which verifies the certificate and the host name.
        max_answer_size: Maximum size of one answer in bytes, counting 64 more for each line. A larger answer closes the
            connection with :class:`RemoteProtocolError`. The default has room for some 700,000 jobs.
        heartbeat: How long an idle connection may be silent before it is probed (seconds). If nothing is received for
            another interval, it is closed, and the next call opens a new one. TCP keep-alive uses the same interval.
            ``None`` disables both.

    Attributes:
        timeout: As given; changing it affects later calls.
    """

    _session: AdminSession | None = None  # on the class, so that __del__ works if __init__ has failed

    def __init__(
        self,
        job_server: str | None = None,
        *,
        timeout: float | None = 10.0,
        connect_timeout: float | None = 5.0,
        tls: ssl.SSLContext | None = None,
        max_answer_size: int = DEFAULT_MAX_SIZE,
        heartbeat: float | None = 30.0,
    ) -> None:
        self._address = read_addresses(None)[0] if job_server is None else Address.parse(job_server)
        self.timeout = timeout
        self._connect_timeout = connect_timeout
        self._tls = check_tls(tls)
        self._max_answer_size = max_answer_size
        self._heartbeat = check_timeout("heartbeat", heartbeat)
        self._outage = Outage(self.job_server, ADMIN_LOGGER)
        self._binding: LoopBinding | None = None
        self._attempt: SharedAttempt[AdminSession | Exception] | None = None

    @property
    def job_server(self) -> str:
        """The job server's address, as ``host:port``."""
        return str(self._address)

    @property
    def connected(self) -> bool:
        """Whether a connection is open, as far as is known."""
        return self._session is not None and not self._session.is_closed

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.job_server}>"

    # Queries.

    async def status(self) -> list[FunctionStatus]:
        """Return the job server's functions in no particular order, including those without workers and jobs."""
        return await self._run_command(text.STATUS)

    async def priority_status(self) -> list[PriorityStatus]:
        """Return the number of queued jobs of each function, by priority. Not supported by Perl's job server."""
        return await self._run_command(text.PRIORITY_STATUS)

    async def workers(self) -> list[WorkerStatus]:
        """Return the job server's connections: workers, clients, and this one."""
        return await self._run_command(text.WORKERS)

    async def show_jobs(self) -> list[ListedJob]:
        """Return the jobs that are queued or running. Not supported by Perl's job server."""
        return await self._run_command(text.SHOW_JOBS)

    async def show_unique_jobs(self) -> list[ListedUnique]:
        """Return the uniques of the jobs that are queued or running. Not supported by Perl's job server."""
        return await self._run_command(text.SHOW_UNIQUE_JOBS)

    async def version(self) -> str:
        """Return the job server's version, such as ``"1.1.20+ds"``."""
        return await self._run_command(text.VERSION)

    async def getpid(self) -> int:
        """Return the job server's process ID."""
        return await self._run_command(text.GETPID)

    async def verbose(self) -> str:
        """Return the job server's log level, such as ``"ERROR"``."""
        return await self._run_command(text.VERBOSE)

    # Changes.

    async def set_max_queue(
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
        limits = (high, normal, low) if limit is None else (limit,)
        given = [value for value in (limit, high, normal, low) if value is not None]
        if len(given) != len(limits):
            raise ValueError("set_max_queue takes limit, or all of high, normal and low")
        if not all(0 <= value <= _MAX_LIMIT for value in given):
            raise ValueError(f"a limit must be from 0 (no limit) to {_MAX_LIMIT}, got {given}")
        await self._run_command(text.MAXQUEUE, function, *map(str, given))

    async def create_function(self, function: str) -> None:
        """Create a function on the job server, before a worker registers it or a job is submitted."""
        await self._run_command(text.CREATE_FUNCTION, function)

    async def drop_function(self, function: str) -> None:
        """
        Remove a function from the job server.

        Do not drop a function that has queued jobs: gearmand removes it, and the jobs stay queued but are never
        assigned to a worker. gearmand also ignores the case of the name.

        Raises:
            ServerError: If there is no such function, or a worker has registered it.
        """
        await self._run_command(text.DROP_FUNCTION, function)

    async def cancel_job(self, handle: JobHandle | str) -> bool:
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
        try:
            await self._run_command(text.CANCEL_JOB, self._own_handle(handle))
        except ServerError as error:
            if error.code != "UNKNOWN_JOB":
                raise
            return False
        return True

    async def shutdown(self, *, graceful: bool = False) -> None:
        """
        Shut the job server down. Perl's job server supports this, gearmand since 1.1.15 does not.

        A job server may close the connection instead of answering.

        Args:
            graceful: Wait for the jobs in progress first.

        Raises:
            ServerError: If the job server does not support the command.
        """
        try:
            await self._run_command(text.SHUTDOWN, *(["graceful"] if graceful else []))
        except ConnectionLostError as error:
            if error.__cause__ is not None:
                raise

    # Lifecycle.

    async def aclose(self) -> None:
        """
        Close the connection; unanswered calls end with :class:`ClientDisconnectedError`.

        The object can be used again afterwards, also in another event loop.
        """
        self._bind_to_loop()
        attempt, self._attempt = self._attempt, None
        session, self._session = self._session, None
        if session is not None:
            session.disconnect(self._disconnected())
        if attempt is not None:
            await attempt.cancel()
        if session is not None:
            await session.connection.wait_closed()
        if self._attempt is None:  # otherwise another call has begun to connect
            self._binding = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        session = self._session
        if session is not None and not session.is_closed and self._binding and not self._binding.is_inherited:
            warnings.warn(f"{self!r} was not closed; await its aclose()", ResourceWarning, source=self, stacklevel=2)
            session.disconnect_threadsafe()

    async def _run_command(self, command: text.Command[T], *arguments: str) -> T:
        text.encode_command(command.name, *arguments)  # raises for an invalid name before anything is connected
        self._bind_to_loop()
        session = self._session
        if session is None or session.is_closed:
            session = await self._connect()
        answer = session.request(command, *arguments)
        try:
            async with limited(self.timeout):
                return await answer
        except TimeoutError:
            raise self._timed_out(session, command) from None

    def _timed_out(self, session: AdminSession, command: text.Command[T]) -> ServerTimeoutError:
        received = f"{session.unfinished} bytes" if session.unfinished else "nothing"
        error = ServerTimeoutError(
            f"{self.job_server} did not answer {command.name!r} in {self.timeout} s; {received} was received",
            server=self.job_server,
            seconds=self.timeout or 0.0,
        )
        session.fail(error)
        return error

    async def _connect(self) -> AdminSession:
        """Connect; all calls that need the connection share one attempt and its failure."""
        if self._attempt is None or self._attempt.is_over:
            self._attempt = SharedAttempt(self._try_to_connect())
        outcome = await self._attempt.wait()
        if outcome is None:
            raise self._disconnected()
        if isinstance(outcome, AdminSession):
            return outcome
        raise NoServersError(
            f"{self.job_server} could not be reached: {outcome}", errors={self.job_server: outcome}
        ) from outcome

    async def _try_to_connect(self) -> AdminSession | Exception:
        try:
            session = await AdminSession.open(
                self._address,
                self._outage,
                timeout=self._connect_timeout,
                tls=self._tls,
                max_size=self._max_answer_size,
                heartbeat=self._heartbeat,
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: the host is not a valid name
            return error
        self._session = session
        return session

    def _own_handle(self, handle: JobHandle | str) -> str:
        """Return a handle in the form that the job server itself uses."""
        if not isinstance(handle, JobHandle):
            if not names_server(handle):
                return handle
            handle = JobHandle.parse(handle)
        # Job servers on the same machine assign the same handles, so here it may be the handle of a different job.
        if Address.parse(handle.server)[:2] != self._address[:2]:
            raise ValueError(f"{handle} belongs to another job server, not to {self.job_server}")
        return handle.handle

    def _disconnected(self) -> ClientDisconnectedError:
        return ClientDisconnectedError(f"the admin client of {self.job_server} was closed")

    def _bind_to_loop(self) -> None:
        """Bind the admin client to the running event loop until that is closed or :meth:`aclose` is called."""
        binding = self._binding
        if binding is None:
            self._binding = LoopBinding()
        elif binding.loop.is_closed() and not binding.is_inherited:
            # The event loop of the connection is closed, so the connection can no longer be used or closed.
            self._session = self._attempt = None
            self._binding = LoopBinding()
        else:
            binding.check(repr(self), "asyncio.run_coroutine_threadsafe, or create one for each event loop")


class ReportingAdmin(Admin):
    """
    An admin client that reports to an existing outage instead of its own, so that one outage is logged once.

    Args:
        address: The job server.
        outage: The outage of its user.
        connect_timeout: As for :class:`Admin`, like the rest.
        tls: Use TLS with this context.
        heartbeat: How long an idle connection may be silent before it is probed (seconds), or ``None``.
    """

    def __init__(
        self,
        address: Address,
        outage: Outage,
        *,
        connect_timeout: float | None,
        tls: ssl.SSLContext | None,
        heartbeat: float | None,
    ) -> None:
        super().__init__(str(address), connect_timeout=connect_timeout, tls=tls, heartbeat=heartbeat)
        self._outage = outage
