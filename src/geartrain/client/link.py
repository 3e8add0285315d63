"""One job server, as a client sees it: its connection, what waits for it, whether it is alive."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextvars import Context
from itertools import islice
from typing import TYPE_CHECKING, Final

from geartrain.client.bulk import Bulk
from geartrain.client.call import Call
from geartrain.client.job import Job
from geartrain.client.plain import Plain
from geartrain.client.questions import Reply
from geartrain.client.session import Session
from geartrain.client.slices import SLICE
from geartrain.connection import connect
from geartrain.outage import Outage
from geartrain.protocol.client import LONGEST_PUT_OFF

if TYPE_CHECKING:
    from geartrain.address import Address
    from geartrain.client.pool import Pool
    from geartrain.client.task import Task
    from geartrain.protocol.client import ClientProtocol

__all__ = ["Link"]

# Of many jobs so many are sent at a time, and the job server is at work on them while the next ones are made.
_TOGETHER: Final = 1000
_WORTH_A_WRITE: Final = 250  # jobs; with fewer, client and job server wake each other up too often


class Link:
    """
    The way to one job server; it connects when something is to be sent.

    Attributes:
        name: The job server's address, as users read it.
        session: The present connection, or ``None``.
        submitted: Tries that were sent; each is then completed, failed, cancelled, or still outstanding.
        dead_until: The loop time until which the job server is passed over, or 0.
        leaving: It takes no new job, and closes when the last one has ended.
        alert: :meth:`attend` is to be called when a job ends. It keeps the way of a plain job short.
        outage: Reports that the job server cannot be reached.
    """

    def __init__(self, address: Address, pool: Pool) -> None:
        self.address = address
        self.name: str = str(address)
        self.pool = pool
        self.session: Session | None = None
        self.dead_until: float = 0.0
        self.leaving: bool = False
        self.alert: bool = False
        self.submitted: int = 0
        self.completed = self.failed = self.cancelled = self.retried = 0
        self.outage: Outage = Outage(self.name, pool.logger)
        self._max_outstanding = pool.options.max_outstanding
        self._past_bytes = (0, 0)  # received and sent by connections that are closed
        # In the order in which they are to be sent; a plain dict would look for its first one longer and longer.
        self._waiting: OrderedDict[Job, None] = OrderedDict()
        # On their way to other servers, with the error by which this one could not be reached if that is why.
        self._moving: OrderedDict[Job, Exception | None] = OrderedDict()
        self._ended: Session | None = None  # a lost session whose jobs have not all been ended yet
        self._goes_on = False  # with what waits, in the next turn
        self._questions: deque[Reply] = deque()  # to be asked once there is a connection
        self._asked = 0  # questions without an answer
        self._connecting: asyncio.Task[None] | None = None

    # Jobs.

    def submit(self, job: Job) -> None:
        """Send a job, now if that is possible."""
        job._link = self
        session = self._ready_for(1)
        if session is None:
            self._waiting[job] = None
            self.alert = True
            self._connect()
        else:
            self._send(job, session)

    def call(self, task: Task, workload: bytes) -> Call | None:
        """Send a plain job whose caller waits for it, if that can be done now; else return ``None``."""
        session = self._ready_for(1)
        if session is None:
            return None
        pool, options = self.pool, task._options
        head = pool.heads.get(task._function) or pool.head(task._function)  # which may be too long
        call = Call(self, task, workload)
        self.submitted += 1
        if task._is_anonymous:
            call._unique = next(pool.uniques)
            self._send_anonymous(call, session)
        else:
            session.protocol.submit_soon(call, options.kind, head, workload)
        if options.timeout is not None:
            pool.timeouts.calls.add(call, options.timeout, pool.loop.time() + options.timeout)
        return call

    def submit_many(self, task: Task, workloads: Sequence[bytes]) -> Bulk | None:
        """Send plain jobs that differ in their workloads only, if they can be sent now; else return ``None``."""
        session = self._ready_for(len(workloads))
        if session is None:
            return None
        head = self.pool.head(task.function)  # which may be too long, and then nothing is submitted
        bulk = Bulk(self, task, workloads)
        if task._is_anonymous:
            bulk._uniques = list(islice(self.pool.uniques, len(workloads)))
            head = self.pool.short_head(task.function)
            workloads = list(map(b"\0".join, zip(bulk._uniques, workloads, strict=True)))
        self.submitted += len(workloads)
        for begin in range(0, len(workloads), _TOGETHER):
            some = workloads[begin : begin + _TOGETHER]
            session.protocol.send_many(bulk, task._options.kind, head, some)
            if len(some) >= _WORTH_A_WRITE:
                session.connection.flush()
        return bulk

    def _ready_for(self, count: int) -> Session | None:
        """Return the session over which so many jobs can be sent now."""
        session = self.session
        if session is None or self._waiting or not session.connection.writable:
            return None
        if self._max_outstanding is not None and self.outstanding + count > self._max_outstanding:
            return None
        return session

    def forget(self, job: Job) -> bool:
        """Take a job back; return whether it had been sent already."""
        if job._ticket is None:
            self._waiting.pop(job, None)
            self._moving.pop(job, None)
            return False
        if self.protocol is not None:
            self.protocol.forget(job)
        return True

    @property
    def protocol(self) -> ClientProtocol | None:
        """The core that knows what was sent and has not ended."""
        session = self.session or self._ended
        return session.protocol if session is not None else None

    def ask(self, reply: Reply) -> None:
        """Ask a question, now if that is possible."""
        self._asked += 1
        reply.add_done_callback(self._answered)
        if self.session is not None and not self._questions:
            self.session.ask(reply)
        else:
            self._questions.append(reply)
            self._connect()

    def _answered(self, _: Reply) -> None:
        self._asked -= 1
        if self.alert:
            self.attend()

    def attend(self) -> None:
        """See to what waits for a job's end, for room, or for a connection."""
        if self.session is not None and (self._waiting or self._questions) and not self._goes_on:
            self._send_waiting(self.session)
        if self.leaving and self.idle:
            self.pool.remove(self)
        self.pool.check_drained()
        self.alert = bool(self._waiting) or self.leaving or self.pool.draining

    def _send_waiting(self, session: Session) -> None:
        """Send a slice of what waits."""
        for _ in range(SLICE):
            if self._questions:
                session.ask(self._questions.popleft())
            elif self._waiting and session.connection.writable and not self._full:
                self._send(self._waiting.popitem(last=False)[0], session)
            else:
                return
        self._goes_on = True
        self.pool.loop.call_soon(self._go_on, context=Context())

    def _go_on(self) -> None:
        self._goes_on = False
        self.attend()

    @property
    def outstanding(self) -> int:
        """Jobs that were sent and have not ended."""
        return self.submitted - self.completed - self.failed - self.cancelled

    @property
    def _full(self) -> bool:
        return self._max_outstanding is not None and self.outstanding >= self._max_outstanding

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done here."""
        return not self.waiting and not self.outstanding and not self._asked

    @property
    def waiting(self) -> int:
        """Jobs that are yet to be sent."""
        return len(self._waiting) + len(self._moving)

    def _send(self, job: Job, session: Session) -> None:
        task = job._task
        options = task._options
        self.submitted += 1
        head = self.pool.heads.get(task._function) or self.pool.head(task._function)
        if task._is_anonymous and job._unique is None:
            job._unique = next(self.pool.uniques)
        if task._unique or options.epoch:
            unique = job._unique or task._unique or b""
            head = b"\0".join((head[:-2], unique, *((options.epoch,) if options.epoch else ()), b""))
            session.protocol.send_submit(job, options.kind, head, job._workload)
        elif task._is_anonymous:
            self._send_anonymous(job, session)
        else:
            session.protocol.submit_soon(job, options.kind, head, job._workload)
        if options.try_timeout is not None:
            self.pool.timeouts.begin_try(job, options.try_timeout)

    def _send_anonymous(self, job: Job | Call, session: Session) -> None:
        """Send a job with its generated unique, which stands with the workload: so many in a row share their head."""
        kind, head = job._task._options.kind, self.pool.short_head(job._task._function)
        unique, workload = job._unique, job._workload
        assert unique is not None, "it has just been generated, or was for the first try"
        if len(unique) + 1 + len(workload) <= LONGEST_PUT_OFF:
            session.protocol.submit_soon(job, kind, head, b"%b\0%b" % (unique, workload))
        else:
            session.protocol.send_submit(job, kind, b"%b%b\0" % (head, unique), workload)

    # The connection.

    @property
    def state(self) -> str:
        """For users to read: ``"connected"``, ``"connecting"``, ``"dead"`` or ``"idle"`` (not needed yet)."""
        if self.session is not None:
            return "connected"
        if self._connecting is not None:
            return "connecting"
        return "dead" if self.dead_until > self.pool.loop.time() else "idle"

    @property
    def bytes_received(self) -> int:
        """Over all connections to this job server."""
        return self._past_bytes[0] + (self.session.connection.bytes_received if self.session is not None else 0)

    @property
    def bytes_sent(self) -> int:
        """Over all connections to this job server."""
        return self._past_bytes[1] + (self.session.connection.bytes_sent if self.session is not None else 0)

    def _connect(self) -> None:
        # As long as a session is ended, what it knows jobs by would be taken for what the next one knows them by.
        if self._connecting is None and self.session is None and self._ended is None:
            connecting = self.pool.begin(self._open(), f"geartrain connects to {self.name}")
            if not connecting.done():  # an eager task (Python 3.12) may have failed by now
                self._connecting = connecting

    async def _open(self) -> None:
        options = self.pool.options
        try:
            connection = await connect(
                self.address,
                lambda c: Session(c, self),
                timeout=options.connect_timeout,
                tls=options.tls,
                heartbeat=options.heartbeat,
            )
            session = connection.receiver
            assert isinstance(session, Session)
            if session.closed:
                self.pool.keep_until_closed(connection)
                raise session.error or ConnectionResetError(f"{self.name} closed the connection at once")
        except asyncio.CancelledError:
            # An application that ends may cancel all tasks, this one too; then nobody else tells those who wait here.
            if self._connecting is asyncio.current_task():
                self._connecting = None
                self._unreachable(ConnectionAbortedError(f"the attempt to connect to {self.name} was cancelled"))
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, those who wait here must hear of it
            self._connecting = None
            if self.leaving:  # a job server that is not in the list any more, or never was
                self.pool.logger.info("cannot connect to %s: %s", self.name, error)
            else:
                self.outage.connect_failed(error, self.pool.loop.time())
            self._unreachable(error)
            return
        self._connecting = None
        self.dead_until = 0.0
        self.session = session
        session.watch()
        self.outage.connected()
        if session.heard:
            self.heard(session)
        self.pool.hooks.call("on_connected", self.name)
        self.attend()

    def heard(self, session: Session) -> None:
        """Take note that the job server has sent something over a connection for the first time."""
        if session is self.session:
            self.outage.end(self.pool.loop.time())

    def _unreachable(self, error: Exception) -> None:
        self.mark_dead()
        questions, self._questions = self._questions, deque()
        self.pool.slices.add(self._refuse(questions, error))
        self._move_waiting(error)

    def mark_dead(self) -> None:
        """Pass it over for the dead time, as long as another one is alive."""
        self.dead_until = self.pool.loop.time() + self.pool.options.dead_time
        self.pool.some_are_dead = True

    def session_lost(self, session: Session, error: Exception | None) -> None:
        """Hear from a session that its connection is gone."""
        if session is not self.session:
            return  # lost before it was used; whoever connects looks for that
        # An idle connection that a server or a firewall closes, or that a NAT forgets, says nothing about the server;
        # nor does one on which the server ignores ECHO_REQ.
        idle = not self.outstanding and not self._asked
        if self.leaving or (idle and isinstance(error, TimeoutError)):
            self.pool.logger.info("lost the connection to %s: %s", self.name, error or "closed by the job server")
        else:
            self.outage.connection_lost(error, self.pool.loop.time())
        if not idle or not (error is None or isinstance(error, TimeoutError)):
            self.mark_dead()
        self.pool.hooks.call("on_disconnected", self.name, error)
        self._drop_session(session)
        self._move_waiting(None)

    def _move_waiting(self, error: Exception | None) -> None:
        """
        Hand what was not sent yet to live servers.

        Args:
            error: By which this one could not be reached. Without one this may be the server that gets it.
        """
        self._moving.update(dict.fromkeys(self._waiting, error))
        self._waiting = OrderedDict()
        self.pool.slices.add(self._move_each())

    def _move_each(self) -> Iterator[None]:
        while self._moving:
            job, error = self._moving.popitem(last=False)
            if error is not None:
                self.pool.reroute(job, self, error)
            else:
                job._link = None
                self.pool.dispatch(job)
            yield
        self.attend()

    def _refuse(self, questions: Iterable[Reply], error: Exception) -> Iterator[None]:
        for reply in questions:
            reply._unreachable(error)
            yield

    def _drop_session(self, session: Session) -> None:
        """Let go of a session, and end what it is still owed."""
        self.session, self._ended = None, session
        self.pool.keep_until_closed(session.connection)
        self._past_bytes = (
            self._past_bytes[0] + session.connection.bytes_received,
            self._past_bytes[1] + session.connection.bytes_sent,
        )
        self.pool.slices.add(self._end_each(session))

    def _end_each(self, session: Session) -> Iterator[None]:
        for owner, handle in session.protocol.close():
            if isinstance(owner, Job | Plain | Reply):
                if session.disconnected:
                    owner._disconnected(handle)
                else:
                    owner._connection_lost(handle, session.error)
                yield
        self._ended = None
        if self._waiting or self._questions:
            self._connect()

    def leave(self) -> None:
        """Take no new job; what was not sent yet goes to another job server, what was sent is waited for."""
        self.leaving = True
        self._move_waiting(None)

    def shut(self) -> None:
        """Close the connection of a job server that has nothing more to do, when what was sent is delivered."""
        self._stop_connecting()
        if (session := self.session) is not None:
            session.close()
            session.connection.close()
            self.pool.hooks.call("on_disconnected", self.name, None)
            self._drop_session(session)

    def _stop_connecting(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None

    def close(self) -> None:
        """Close now, and tell all who wait here that the client was disconnected."""
        waiting: list[Job | Reply] = [*self._moving, *self._waiting, *self._questions]
        self._waiting, self._moving, self._questions = OrderedDict(), OrderedDict(), deque()
        self._stop_connecting()
        if self._ended is not None:
            self._ended.disconnected = True
        elif (session := self.session) is not None:
            session.disconnected = True
            session.close()
            session.connection.abort()
            self.pool.hooks.call("on_disconnected", self.name, None)
            self._drop_session(session)
        self.pool.slices.add(self.pool.end_jobs(waiting))
