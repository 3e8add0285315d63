"""One job server's admin client."""

from __future__ import annotations

import asyncio
import os
import ssl
import warnings
from types import TracebackType
from typing import Final, Self, TypeVar

from geartrain.address import Address
from geartrain.admin.link import AdminLink, Attempt, log
from geartrain.errors import (
    ClientDisconnectedError,
    ConnectionLostError,
    LocalProtocolError,
    NoServersError,
    ServerError,
    ServerTimeoutError,
)
from geartrain.fork_safety import check_process
from geartrain.handle import JobHandle, names_server
from geartrain.outage import Outage
from geartrain.protocol import text
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE
from geartrain.protocol.text_replies import FunctionStatus, ListedJob, ListedUnique, PriorityStatus, WorkerStatus
from geartrain.timeout import timeout as limited
from geartrain.tls import check_tls
from geartrain.validation import check_timeout

__all__ = ["Admin", "make_admin"]

T = TypeVar("T")

_MAX_LIMIT: Final = 2**31 - 1  # gearmand reads a limit by atoi(3)


class Admin:
    """
    Asks one job server, and sets it.

    It connects at the first call and, after a loss, at the next one. Several calls may be under way at once: they
    share the connection and are answered in order. Cancelling a call harms no other.

    Every call raises :class:`NoServersError` if the job server cannot be reached, :class:`ConnectionLostError` if the
    connection is lost before the answer (whether the job server did as it was told is then not known),
    :class:`ServerTimeoutError` if there is no answer in time, :class:`ServerError` if the answer is ``ERR``, and
    :class:`RemoteProtocolError` if it is none that Gearman knows; and :class:`LocalProtocolError` for a name that the
    text protocol cannot address, because it is empty or holds a space, a newline or a NUL.

    Args:
        job_server: ``host``, ``host:port``, or either behind ``gearmans://`` for TLS.
        timeout: Seconds that an answer may take. Then the connection is closed, since the answers that follow would
            be out of step; other calls on it end with :class:`ConnectionLostError`. ``None`` waits for ever.
        connect_timeout: Seconds for one attempt to connect, name look-up and TLS included.
        tls: Speaks TLS. Default: only with a job server written ``gearmans://``, by Python's defaults, which verify its
            certificate and its name.
        max_answer_size: The most bytes that one answer may have, 64 added for each line. A longer one closes the
            connection with :class:`RemoteProtocolError`. The default has room for some 700,000 jobs.
        heartbeat: Seconds of silence after which an idle connection is probed. If nothing is received for another
            interval, it is closed, and the next call opens a new one. TCP keep-alive uses the same interval. ``None``
            turns both off.

    Attributes:
        timeout: As given; it may be changed for the calls that follow.
    """

    _link: AdminLink | None = None  # here, so that a failed __init__ can be finalized

    def __init__(
        self,
        job_server: str = "127.0.0.1",
        *,
        timeout: float | None = 10.0,
        connect_timeout: float | None = 5.0,
        tls: ssl.SSLContext | None = None,
        max_answer_size: int = DEFAULT_MAX_SIZE,
        heartbeat: float | None = 30.0,
    ) -> None:
        self._address = Address.parse(job_server)
        self.timeout = timeout
        self._connect_timeout = connect_timeout
        self._tls = check_tls(tls)
        self._max_answer_size = max_answer_size
        self._heartbeat = check_timeout("heartbeat", heartbeat)
        self._outage = Outage(self.job_server, log)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._attempt: Attempt | None = None

    @property
    def job_server(self) -> str:
        """The job server's address, as ``host:port``."""
        return str(self._address)

    @property
    def connected(self) -> bool:
        """Whether a connection is open now, as far as is known."""
        return self._link is not None and self._link.usable

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.job_server}>"

    # Looking.

    async def status(self) -> list[FunctionStatus]:
        """Return the functions that the job server knows, in no order; those without worker and job are among them."""
        return await self._ask(text.STATUS)

    async def priority_status(self) -> list[PriorityStatus]:
        """Return how many jobs are queued for each function, by priority. Perl's server does not know the command."""
        return await self._ask(text.PRIORITY_STATUS)

    async def workers(self) -> list[WorkerStatus]:
        """Return the job server's connections: workers, clients, and this very one."""
        return await self._ask(text.WORKERS)

    async def show_jobs(self) -> list[ListedJob]:
        """Return the jobs that are queued or running. Perl's server does not know the command."""
        return await self._ask(text.SHOW_JOBS)

    async def show_unique_jobs(self) -> list[ListedUnique]:
        """Return the uniques of the jobs that are queued or running. Perl's server does not know the command."""
        return await self._ask(text.SHOW_UNIQUE_JOBS)

    async def version(self) -> str:
        """Return the job server's version, such as ``"1.1.20+ds"``."""
        return await self._ask(text.VERSION)

    async def getpid(self) -> int:
        """Return the number of the job server's process."""
        return await self._ask(text.GETPID)

    async def verbose(self) -> str:
        """Return how much the job server logs, such as ``"ERROR"``."""
        return await self._ask(text.VERBOSE)

    # Setting.

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
        Have a submission refused with ERROR ``QUEUE_ERROR`` while the function has as many jobs, running ones included.

        gearmand takes no notice of a function that it does not know yet, and answers the same: create it first.

        Args:
            function: Which.
            limit: For all priorities; 0 is no limit.
            high: The limit for submissions of priority HIGH. Give this and the next two in place of ``limit``.
            normal: The limit for those of priority NORMAL.
            low: The limit for those of priority LOW.

        Raises:
            ValueError: If it is neither ``limit`` nor all the three others, or one is negative or over 2**31 - 1.
        """
        limits = (high, normal, low) if limit is None else (limit,)
        given = [value for value in (limit, high, normal, low) if value is not None]
        if len(given) != len(limits):
            raise ValueError("set_max_queue takes limit, or all of high, normal and low")
        if not all(0 <= value <= _MAX_LIMIT for value in given):
            raise ValueError(f"a limit is a number from 0 (none) to {_MAX_LIMIT}, got {given}")
        await self._ask(text.MAXQUEUE, function, *map(str, given))

    async def create_function(self, function: str) -> None:
        """Have the job server know a function before a worker or a job names it."""
        await self._ask(text.CREATE_FUNCTION, function)

    async def drop_function(self, function: str) -> None:
        """
        Have the job server forget a function.

        Do not drop one that has queued jobs: gearmand forgets it all the same, and its jobs stay without a worker ever
        getting them. gearmand also takes capitals and small letters for the same.

        Raises:
            ServerError: If there is no such function, or a worker can do it.
        """
        await self._ask(text.DROP_FUNCTION, function)

    async def cancel_job(self, handle: JobHandle | str) -> bool:
        """
        Have the job server drop a job that is queued, and send WORK_FAIL to those who wait for it.

        A running job's clients are told so as well, but gearmand does not stop it, and what comes of it follows.

        Args:
            handle: The job server's own handle, a :class:`JobHandle`, or its text: one with the job server in front, or
                a token.

        Returns:
            Whether the job server knew the job.

        Raises:
            ValueError: If it is the handle of another job server.
        """
        try:
            await self._ask(text.CANCEL_JOB, self._own_handle(handle))
        except ServerError as error:
            if error.code != "UNKNOWN_JOB":
                raise
            return False
        return True

    async def shutdown(self, *, graceful: bool = False) -> None:
        """
        End the job server, where it knows the command: Perl's does, gearmand since 1.1.15 does not.

        One that closes the connection in place of an answer has done so too.

        Args:
            graceful: Let what is under way end before.

        Raises:
            ServerError: If the job server does not know the command.
        """
        try:
            await self._ask(text.SHUTDOWN, *(["graceful"] if graceful else []))
        except ConnectionLostError as error:
            if error.__cause__ is not None:
                raise

    # Living and dying.

    async def aclose(self) -> None:
        """
        Close the connection; calls under way end with :class:`ClientDisconnectedError`.

        Nothing is left then, and the object may be used again, in another event loop too.
        """
        self._bind_loop()
        attempt, self._attempt = self._attempt, None
        link, self._link = self._link, None
        if link is not None:
            link.close(self._closed())
        if attempt is not None:
            await attempt.cancel()
        if link is not None:
            await link.wait_closed()
        if self._attempt is None:  # nobody has begun anew meanwhile
            self._loop = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._link is not None and self._link.usable and self._process == os.getpid():
            warnings.warn(f"{self!r} was not closed; await its aclose()", ResourceWarning, source=self, stacklevel=2)
            self._link.drop_from_any_thread()

    async def _ask(self, command: text.Command[T], *arguments: str) -> T:
        text.encode_command(command.words, *arguments)  # a name that cannot be sent costs no connection
        self._bind_loop()
        link = self._link if self._link is not None and self._link.usable else await self._connect()
        answer = link.ask(command, *arguments)
        try:
            async with limited(self.timeout):
                return await answer
        except TimeoutError:
            raise self._timed_out(link, command) from None

    def _timed_out(self, link: AdminLink, command: text.Command[T]) -> ServerTimeoutError:
        came = f"{link.unfinished} bytes" if link.unfinished else "nothing"
        error = ServerTimeoutError(
            f"{self.job_server} did not answer {command.words!r} in {self.timeout} s; {came} came",
            server=self.job_server,
            seconds=self.timeout or 0.0,
        )
        link.drop(error)
        return error

    async def _connect(self) -> AdminLink:
        """Connect, together with all calls that need it now: one attempt, and one failure, is for all of them."""
        if self._attempt is None or self._attempt.over:
            self._attempt = Attempt(self._try_to_connect())
        outcome = await self._attempt.wait()
        if outcome is None:
            raise self._closed()
        if isinstance(outcome, AdminLink):
            return outcome
        raise NoServersError(
            f"{self.job_server} could not be reached: {outcome}", errors={self.job_server: outcome}
        ) from outcome

    async def _try_to_connect(self) -> AdminLink | Exception:
        try:
            link = await AdminLink.open(
                self._address,
                self._outage,
                timeout=self._connect_timeout,
                tls=self._tls,
                max_size=self._max_answer_size,
                heartbeat=self._heartbeat,
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that cannot even be looked up
            return error
        self._link = link
        return link

    def _own_handle(self, handle: JobHandle | str) -> str:
        """Return a handle as this job server wrote it."""
        if not isinstance(handle, JobHandle):
            if not names_server(handle):
                return handle
            handle = JobHandle.parse(handle)
        # Job servers on one machine give the same handles: this one's might be quite another job.
        if Address.parse(handle.server)[:2] != self._address[:2]:
            raise ValueError(f"{handle} is a job of another job server than {self.job_server}")
        return handle.handle

    def _closed(self) -> ClientDisconnectedError:
        return ClientDisconnectedError(f"the admin client of {self.job_server} was closed")

    def _bind_loop(self) -> None:
        """Belong to the running event loop, and its process, until that is closed or :meth:`aclose` is called."""
        loop = asyncio.get_running_loop()
        if self._loop is not None:
            check_process(self._process, repr(self))
            if self._loop.is_closed():
                self._link = self._attempt = None  # nobody can use them any more, nor close them
            elif self._loop is not loop:
                raise LocalProtocolError(
                    f"{self!r} is in use by another event loop; from here use asyncio.run_coroutine_threadsafe, "
                    "or make one for each loop"
                )
        self._loop = loop
        self._process = os.getpid()


def make_admin(
    address: Address,
    outage: Outage,
    *,
    connect_timeout: float | None,
    tls: ssl.SSLContext | None,
    heartbeat: float | None,
) -> Admin:
    """Return an admin client that reports to the outage of whoever uses it, instead of one of its own."""
    admin = Admin(str(address), connect_timeout=connect_timeout, tls=tls, heartbeat=heartbeat)
    admin._outage = outage
    return admin
