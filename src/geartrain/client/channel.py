"""A reconnecting channel to one job server: its connection, send queue and health."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Protocol

from geartrain.client.connector import Connector
from geartrain.client.query import Query
from geartrain.client.server_counters import ServerCounters
from geartrain.client.session import ClientSession
from geartrain.client.slices import SLICE
from geartrain.client.submission import Submission, SubmissionScheduler
from geartrain.client.submission_batch import SubmissionBatch
from geartrain.client.submission_sender import generate_uniques_for, send_batch, send_submission
from geartrain.outage import Outage

if TYPE_CHECKING:
    from geartrain.address import Address
    from geartrain.client.runtime import ClientRuntime
    from geartrain.client.task_spec import TaskSpec
    from geartrain.protocol.client import ClientProtocol
    from geartrain.protocol.packets import PacketType

__all__ = ["ChannelListener", "ServerChannel"]


class ChannelListener(SubmissionScheduler, Protocol):
    """Holds the channels of a client, and is notified of what concerns the other channels."""

    @property
    def is_draining(self) -> bool:
        """Whether anyone waits until no job is outstanding."""

    def reroute(self, submission: Submission, server: str, error: Exception) -> None:
        """Assign a submission that was not sent to another job server than this one."""

    def on_server_failed(self) -> None:
        """Called when this job server is to be avoided for the dead time."""

    def on_channel_idle(self, channel: ServerChannel) -> None:
        """Called when a retiring channel has nothing left to do."""


class ServerChannel:
    """
    The client's channel to one job server. It connects when something is to be sent.

    Args:
        address: The job server.
        runtime: What the parts of the client share.
        listener: Assigns what this server cannot take.

    Attributes:
        name: The job server's address, as users read it.
        scheduler: The listener.
        session: The present connection, or ``None``.
        counters: The tries that were sent.
        dead_until: The loop time until which the job server is avoided, or 0.
        is_retiring: It takes no new job, and closes when the last one has ended.
        outage: Reports that the job server cannot be reached.
        needs_advance: :meth:`advance` must be called when a job ends. It keeps the common case short.
    """

    def __init__(self, address: Address, runtime: ClientRuntime, listener: ChannelListener) -> None:
        self.address = address
        self.name: str = str(address)
        self.session: ClientSession | None = None
        self.counters: ServerCounters = ServerCounters()
        self.dead_until: float = 0.0
        self.is_retiring: bool = False
        self.needs_advance: bool = False
        self._runtime = runtime
        self.scheduler: ChannelListener = listener
        self.outage: Outage = Outage(self.name, runtime.logger)
        self._max_outstanding = runtime.config.max_outstanding
        self._closed_bytes = (0, 0)  # received and sent by connections that are closed
        # In the order in which they are to be sent; a plain dict would look for its first one longer and longer.
        self._waiting: OrderedDict[Submission, None] = OrderedDict()
        # To be assigned to other servers, each with the error if this server could not be reached.
        self._moving: OrderedDict[Submission, Exception | None] = OrderedDict()
        self._lost_session: ClientSession | None = None  # whose jobs have not all been ended yet
        self._advance_scheduled = False
        self._queries: deque[Query] = deque()  # to be sent once there is a connection
        self._open_queries = 0  # without a reply
        self._connector = Connector(address, runtime, self)

    # Submissions.

    def submit(self, submission: Submission) -> None:
        """Send a submission, now if possible."""
        submission.holder = self
        session = self._session_with_room(1)
        if session is None:
            self._waiting[submission] = None
            self.needs_advance = True
            self._connect()
            return
        spec = submission.spec
        if not spec.is_simple:
            self._send(submission, session)
            return
        # `_send` for most jobs, inlined: a method call costs 2% of a job.
        self.counters.submitted += 1
        prefix = self._runtime.submit_prefixes[spec.function]
        session.protocol.submit_deferred(submission, spec.options.packet_type, prefix, submission.workload)

    def submit_batch(self, spec: TaskSpec, workloads: Sequence[bytes]) -> SubmissionBatch | None:
        """
        Send jobs that differ in their workloads only, if they can be sent now; else return ``None``.

        Raises:
            ValueError: If the function is too long with the client's prefix; nothing is sent then.
        """
        session = self._session_with_room(len(workloads))
        if session is None:
            return None
        uniques = generate_uniques_for(spec, len(workloads), self._runtime)
        batch = SubmissionBatch(self, spec, workloads, self.scheduler, uniques)
        send_batch(batch, spec, workloads, uniques, session, self._runtime)
        self.counters.submitted += len(workloads)
        return batch

    def forget(self, submission: Submission) -> bool:
        """Take a submission back; return whether it had been sent."""
        if submission.ticket is None:
            self._waiting.pop(submission, None)
            self._moving.pop(submission, None)
            return False
        if (protocol := self._protocol) is not None:
            protocol.forget(submission)
        return True

    def forget_batch(self, batch: SubmissionBatch, handles: Sequence[bytes]) -> None:
        """Drop what still arrives for the jobs of a batch: those with these handles, and those without one yet."""
        if (protocol := self._protocol) is not None:
            protocol.forget_batch(batch, handles)

    @property
    def _protocol(self) -> ClientProtocol | None:
        """The core that knows what was sent and has not ended."""
        session = self.session or self._lost_session
        return session.protocol if session is not None else None

    @property
    def read_control(self) -> ClientSession | None:
        """Pauses reading from the present connection."""
        return self.session

    def _session_with_room(self, count: int) -> ClientSession | None:
        """Return the session over which this many jobs can be sent now."""
        session = self.session
        if session is None or self._waiting or not session.connection.writable:
            return None
        if self._max_outstanding is not None and self.outstanding + count > self._max_outstanding:
            return None
        return session

    def _send(self, submission: Submission, session: ClientSession) -> None:
        self.counters.submitted += 1
        send_submission(submission, session, self._runtime)
        if (seconds := submission.spec.options.try_timeout) is not None:
            self.scheduler.timeouts.start_try(submission, seconds)

    # Queries.

    def query(self, kind: PacketType, argument: bytes) -> Query:
        """
        Send a request with a direct reply, now if possible. It is safe to cancel the future that is returned.

        The future raises:
            NoServersError: The job server could not be reached.
            ConnectionLostError: The connection was lost before the reply.
            ServerError: The job server answered ERROR.
            ServerTimeoutError: The job server does not reply to this kind of query.
            ClientDisconnectedError: The client was disconnected before the reply.
        """
        query = Query(self.name, kind, argument)
        self._open_queries += 1
        query.add_done_callback(self._on_reply)
        if self.session is not None and not self._queries:
            self.session.send_query(query)
        else:
            self._queries.append(query)
            self._connect()
        return query

    def _on_reply(self, _: Query) -> None:
        self._open_queries -= 1
        if self.needs_advance:
            self.advance()

    # State.

    @property
    def state(self) -> str:
        """For users to read: ``"connected"``, ``"connecting"``, ``"dead"`` or ``"idle"`` (not needed yet)."""
        if self.session is not None:
            return "connected"
        if self._connector.attempt is not None:
            return "connecting"
        return "dead" if self.dead_until > self._runtime.loop.time() else "idle"

    @property
    def outstanding(self) -> int:
        """The number of jobs that were sent and have not ended."""
        return self.counters.outstanding

    @property
    def waiting(self) -> int:
        """The number of jobs that are yet to be sent."""
        return len(self._waiting) + len(self._moving)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.waiting and not self.outstanding and not self._open_queries

    @property
    def _is_full(self) -> bool:
        return self._max_outstanding is not None and self.outstanding >= self._max_outstanding

    @property
    def bytes_received(self) -> int:
        """Over all connections to this job server."""
        return self._closed_bytes[0] + (self.session.connection.bytes_received if self.session is not None else 0)

    @property
    def bytes_sent(self) -> int:
        """Over all connections to this job server."""
        return self._closed_bytes[1] + (self.session.connection.bytes_sent if self.session is not None else 0)

    def advance(self) -> None:
        """Send what waits if there is room, retire if there is nothing left to do, and check for the end of a drain."""
        if self.session is not None and (self._waiting or self._queries) and not self._advance_scheduled:
            self._send_waiting(self.session)
        if self.is_retiring and self.is_idle:
            self.scheduler.on_channel_idle(self)
        self.scheduler.check_drained()
        self.needs_advance = bool(self._waiting) or self.is_retiring or self.scheduler.is_draining

    def _send_waiting(self, session: ClientSession) -> None:
        """Send a slice of what waits."""
        for _ in range(SLICE):
            if self._queries:
                session.send_query(self._queries.popleft())
            elif self._waiting and session.connection.writable and not self._is_full:
                self._send(self._waiting.popitem(last=False)[0], session)
            else:
                return
        self._advance_scheduled = True
        self._runtime.loop.call_soon(self._advance_later, context=Context())

    def request_advance(self) -> None:
        """Call :meth:`advance` when the next job ends."""
        self.needs_advance = True

    def _advance_later(self) -> None:
        self._advance_scheduled = False
        self.advance()

    # Connecting (ConnectorListener).

    def _connect(self) -> None:
        # While a lost session is being ended, its handles would be taken for those of the next one.
        if self.session is None and self._lost_session is None:
            self._connector.start()

    def on_connected(self, session: ClientSession) -> None:
        """Use a new connection."""
        self.dead_until = 0.0
        self.session = session
        session.start_heartbeat()
        self.outage.connected()
        if session.has_received:
            self.on_first_bytes(session)
        self._runtime.hooks.schedule("on_connected", self.name)
        self.advance()

    def on_unreachable(self, error: Exception, *, is_outage: bool = True) -> None:
        """Avoid the job server, and end or reroute what waits for a connection."""
        if self.is_retiring:  # a job server that is not in the list any more, or never was
            self._runtime.logger.info("cannot connect to %s: %s", self.name, error, extra={"server": self.name})
        elif is_outage:
            self.outage.connect_failed(error, self._runtime.loop.time())
        self._mark_dead()
        queries, self._queries = self._queries, deque()
        self._runtime.slices.add(_refuse_each(queries, error))
        self._reroute_waiting(error)

    def _mark_dead(self) -> None:
        """Avoid the job server for the dead time, while another one is alive."""
        self.dead_until = self._runtime.loop.time() + self._runtime.config.dead_time
        self.scheduler.on_server_failed()

    def _reroute_waiting(self, error: Exception | None) -> None:
        """
        Assign what was not sent yet to live servers.

        Args:
            error: Why this server could not be reached. Without one, they may be assigned to this server again.
        """
        self._moving.update(dict.fromkeys(self._waiting, error))
        self._waiting = OrderedDict()
        self._runtime.slices.add(self._reroute_each())

    def _reroute_each(self) -> Iterator[None]:
        while self._moving:
            submission, error = self._moving.popitem(last=False)
            submission.holder = self.scheduler
            if error is not None:
                self.scheduler.reroute(submission, self.name, error)
            else:
                self.scheduler.dispatch(submission)
            yield
        self.advance()

    # Session callbacks (SessionListener).

    def on_first_bytes(self, session: ClientSession) -> None:
        """Note that the job server has sent something over a connection for the first time."""
        if session is self.session:
            self.outage.end(self._runtime.loop.time())

    def on_session_lost(self, session: ClientSession, error: Exception | None) -> None:
        """Handle the loss of the connection."""
        if session is not self.session:
            return  # lost before it was used: the attempt to connect fails
        # An idle connection that a server or a firewall closes, or that a NAT forgets, says nothing about the server;
        # nor does one on which the server ignores ECHO_REQ.
        idle = not self.outstanding and not self._open_queries
        if self.is_retiring or (idle and isinstance(error, TimeoutError)):
            reason = error or "closed by the job server"
            self._runtime.logger.info("lost the connection to %s: %s", self.name, reason, extra={"server": self.name})
        else:
            self.outage.connection_lost(error, self._runtime.loop.time())
        if not idle or not (error is None or isinstance(error, TimeoutError)):
            self._mark_dead()
        self._runtime.hooks.schedule("on_disconnected", self.name, error)
        self._drop_session(session)
        self._reroute_waiting(None)

    # Closing.

    def _drop_session(self, session: ClientSession) -> None:
        """Release a session, and end its outstanding jobs and queries."""
        self.session, self._lost_session = None, session
        self._runtime.keep_until_closed(session.connection)
        self._closed_bytes = (
            self._closed_bytes[0] + session.connection.bytes_received,
            self._closed_bytes[1] + session.connection.bytes_sent,
        )
        self._runtime.slices.add(self._end_each(session))

    def _end_each(self, session: ClientSession) -> Iterator[None]:
        for handler, handle in session.protocol.close():
            if isinstance(handler, Submission | SubmissionBatch | Query):
                if session.is_disconnected:
                    handler.on_disconnected(handle)
                else:
                    handler.on_connection_lost(handle, session.error)
                yield
        self._lost_session = None
        if self._waiting or self._queries:
            self._connect()

    def retire(self) -> None:
        """Take no new job; what was not sent yet goes to another job server, what was sent is waited for."""
        self.is_retiring = True
        self._reroute_waiting(None)

    def reinstate(self) -> None:
        """Take new jobs again, if it was retiring."""
        self.is_retiring = False

    def close_after_use(self) -> None:
        """Retire when the first query has ended: the job server is not in the list."""
        self.is_retiring = self.needs_advance = True

    def close_gracefully(self) -> None:
        """Close the connection when what was sent is delivered. Nothing is outstanding."""
        self._connector.cancel()
        if (session := self.session) is not None:
            session.close()
            session.connection.close()
            self._runtime.hooks.schedule("on_disconnected", self.name, None)
            self._drop_session(session)

    def disconnect(self) -> None:
        """Close now, and end all that waits here because the client was disconnected."""
        waiting: list[Submission | Query] = [*self._moving, *self._waiting, *self._queries]
        self._waiting, self._moving, self._queries = OrderedDict(), OrderedDict(), deque()
        self._connector.cancel()
        if self._lost_session is not None:
            self._lost_session.mark_disconnected()
        elif (session := self.session) is not None:
            session.mark_disconnected()
            session.close()
            session.connection.abort()
            self._runtime.hooks.schedule("on_disconnected", self.name, None)
            self._drop_session(session)
        self._runtime.disconnect(waiting)


def _refuse_each(queries: Iterable[Query], error: Exception) -> Iterator[None]:
    for query in queries:
        query.on_unreachable(error)
        yield
