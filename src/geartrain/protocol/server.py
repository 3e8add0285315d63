"""
A job server without IO: it is told what each of its peers sent and when, and says what is to be sent to whom.

It behaves as gearmand 1.1.20 does, and where that crashes, hangs or loses jobs, it does not: ``docs/job-server.md``.
"""

from __future__ import annotations

from typing import Final

from geartrain.errors import RemoteProtocolError
from geartrain.protocol.alarms import Alarms
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE
from geartrain.protocol.packets import PacketType
from geartrain.protocol.peer import Ability, Peer
from geartrain.protocol.queue import Function, Queue, ServerJob
from geartrain.protocol.requests import REQUESTS, unknown

__all__ = ["DEFAULT_MAX_BACKLOG", "DEFAULT_MAX_QUEUE_SIZE", "Broker"]

DEFAULT_MAX_BACKLOG: Final = 256 * 1024 * 1024
DEFAULT_MAX_QUEUE_SIZE: Final = 1024 * 1024 * 1024

# A peer's requests are worked off until their answers are so long, or so much has been looked at for them; then others
# have their turn. A few bytes can ask for megabytes (GRAB_JOB, ``status``), or have thousands of functions or clients
# gone through, again and again.
_TURN: Final = 1024 * 1024
_MAX_STEPS: Final = 20_000  # about 5 ms
_REQUEST_COST: Final = 64  # bytes that a request which waits for its turn takes beside its own


class Broker:
    """
    All peers of a job server, over one queue.

    Call :meth:`connected`, :meth:`receive`, :meth:`lost` as these happen, :meth:`tick` at :attr:`next_deadline`, and
    after each of them send what the peers of :meth:`take_ready` have to send, and close those that have failed.
    ``now`` is the present time everywhere: Unix time in seconds, which must not go backward.

    Attributes:
        steps: Things looked at for one peer in this turn, where a request may have many gone through.

    Args:
        handle_prefix: What every handle begins with, in front of ``:1``, ``:2`` ...
        job_retries: How many workers a job is given to, one after the other, before it fails; 0 for any number.
        exceptions: Forward WORK_EXCEPTION to clients that did not ask for it, too.
        round_robin: Serve the functions of each worker in turn.
        max_packet_size: The longest body in bytes that a peer may send.
        max_queue_size: Bytes that all jobs and functions may take; over it submissions are refused.
        max_backlog: Bytes that a peer may leave unread before it is cut off.
        version: The answer to ``version``.
        pid: The answer to ``getpid``.
    """

    def __init__(
        self,
        *,
        handle_prefix: bytes = b"H:localhost",
        job_retries: int = 0,
        exceptions: bool = False,
        round_robin: bool = False,
        max_packet_size: int = DEFAULT_MAX_SIZE,
        max_queue_size: int = DEFAULT_MAX_QUEUE_SIZE,
        max_backlog: int = DEFAULT_MAX_BACKLOG,
        version: bytes = b"geartrain",
        pid: int = 0,
    ) -> None:
        self.queue: Queue = Queue(handle_prefix, max_queue_size)
        self.peers: dict[Peer, None] = {}
        self.version = version
        self.pid = pid
        self.now: float = 0.0
        self.steps: int = 0
        self._job_retries = job_retries
        self._exceptions = exceptions
        self._round_robin = round_robin
        self._max_packet_size = max_packet_size
        self._max_backlog = max_backlog
        self._ready: dict[Peer, None] = {}
        self._timeouts: Alarms[ServerJob] = Alarms()

    # What the layer above calls.

    def connected(self, host: str, number: int) -> Peer:
        """Take a new connection, from ``host``; ``number`` is what ``workers`` shows in its first column."""
        peer = Peer(number, host, self._ready, max_packet_size=self._max_packet_size, max_backlog=self._max_backlog)
        peer.exceptions = self._exceptions
        self.peers[peer] = None
        return peer

    def receive(self, peer: Peer, data: bytes, now: float) -> None:
        """Take bytes that a peer sent. It never raises on them; a fault of the peer ends up in ``peer.failure``."""
        if peer.failure is not None:
            return
        self.now = now
        waiting = bool(peer.pending)
        held = peer.decoder.held
        runs = peer.decoder.feed(data)
        peer.pending.extend([(kind, iter(bodies)) for kind, bodies in runs])
        peer.pending_size += held + len(data) - peer.decoder.held + _REQUEST_COST * sum([len(run[1]) for run in runs])
        if not waiting:
            self._work_off(peer)

    def resume(self, peer: Peer, now: float) -> None:
        """Go on with the requests in ``peer.pending``."""
        self.now = now
        self._work_off(peer)

    def lost(self, peer: Peer, now: float) -> None:
        """Forget a peer: its jobs go back into the queue, and it waits for nothing any more."""
        self.now = now
        del self.peers[peer]
        self._ready.pop(peer, None)
        peer.pending.clear()
        self.reset(peer)
        for job in list(peer.waiting):
            self.queue.detach(job, peer)

    @property
    def next_deadline(self) -> float | None:
        """When :meth:`tick` is to be called next; ``None`` if not before something else happens."""
        times = [time for time in (self.queue.alarms.next, self._timeouts.next) if time is not None]
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Do what is due: jobs with a time become runnable, jobs that took too long are taken from their workers."""
        self.now = now
        for function in self.queue.release_due(now):
            self.wake(function)
        for job in self._timeouts.take_due(now):
            self.lose(job)

    def take_ready(self) -> list[Peer]:
        """Return the peers that have something to send, or have failed."""
        ready = list(self._ready)
        self._ready.clear()
        return ready

    # What requests and commands call.

    def accept(self, peer: Peer, job: ServerJob, *, background: bool) -> None:
        """Answer a submission of a job, and attach a client that waits for its result."""
        if background:
            job.background = True
        else:
            self.queue.attach(job, peer)
        peer.send(PacketType.JOB_CREATED, job.handle)

    def able(self, peer: Peer, name: bytes, timeout: float | None) -> None:
        """Note that a worker can do a function; what it said of it before no longer counts."""
        function = self.queue.function(name)
        peer.abilities.pop(name, None)
        peer.abilities[function.name] = Ability(function, timeout)
        self.queue.add_worker(function, peer)
        if peer.asleep:
            function.sleepers[peer] = None
            if function.runnable:
                self.wake(function)

    def unable(self, peer: Peer, name: bytes) -> None:
        """Note that a worker can no longer do a function; the jobs of it that it holds are taken from it."""
        ability = peer.abilities.pop(name, None)
        if ability is None:
            return
        function = ability.function
        self.queue.remove_worker(function, peer)
        self.steps += len(peer.holding)
        self._give_up([job for job in peer.holding.values() if job.function is function])

    def reset(self, peer: Peer) -> None:
        """Note that a worker can do nothing any more; the jobs that it holds are taken from it."""
        # All at once: looking for the jobs of each function by itself would take of many as much time as their square.
        for ability in peer.abilities.values():
            self.queue.remove_worker(ability.function, peer)
        self.steps += len(peer.abilities) + len(peer.holding)
        peer.abilities.clear()
        self._give_up(list(peer.holding.values()))

    def sleep(self, peer: Peer) -> None:
        """Put a worker to sleep, or wake it at once if there is a job for it."""
        self.steps += len(peer.abilities)
        if any(ability.function.runnable for ability in peer.abilities.values()):
            self.rouse(peer)
            peer.send(PacketType.NOOP, b"")
            return
        if self._timeouts:
            # gearmand stops the timer of a worker that goes to sleep, and libgearman's worker relies on that.
            self.steps += len(peer.holding)
            for job in peer.holding.values():
                self._timeouts.cancel(job)
        peer.asleep = True
        for ability in peer.abilities.values():
            ability.function.sleepers[peer] = None

    def rouse(self, peer: Peer) -> None:
        """Note that a worker is awake."""
        if peer.asleep:
            peer.asleep = False
            self.steps += len(peer.abilities)
            for ability in peer.abilities.values():
                ability.function.sleepers.pop(peer, None)

    def wake(self, function: Function) -> None:
        """Wake all who sleep and can do a function."""
        for peer in list(function.sleepers):
            self.rouse(peer)
            peer.send(PacketType.NOOP, b"")

    def grab(self, peer: Peer) -> ServerJob | None:
        """
        Give a worker its next job.

        Its functions are tried from the last registered one on; with ``round_robin``, the one that has just given a
        job comes last the next time.
        """
        self.rouse(peer)
        self.steps += len(peer.abilities)
        for ability in reversed(peer.abilities.values()):
            job = self.queue.take(ability.function, peer)
            if job is not None:
                if self._round_robin:
                    peer.abilities.move_to_end(ability.function.name, last=False)
                if ability.timeout is not None:
                    self._timeouts.set(job, self.now + ability.timeout)
                return job
        return None

    def end(self, job: ServerJob) -> None:
        """Forget a job whose clients have been told how it ended."""
        self._timeouts.cancel(job)
        self.queue.end(job)

    def cancel(self, job: ServerJob) -> None:
        """Tell the clients of a job that it failed; a worker that runs it is let be."""
        self.forward(job, PacketType.WORK_FAIL, job.handle)
        self.queue.cancel(job)

    def forward(self, job: ServerJob, kind: int, body: bytes) -> None:
        """Send a packet to all clients that wait for a job, once for each of their submissions."""
        for client, copies in job.clients.items():
            self.steps += copies
            for _ in range(copies):
                client.send(kind, b"", body)

    def drop(self, function: Function) -> None:
        """Forget a function that no worker does; its jobs fail."""
        self.steps += len(self.queue.jobs)
        for job in [job for job in self.queue.jobs.values() if job.function is function]:
            self.cancel(job)
        self.queue.drop_function(function)

    def lose(self, job: ServerJob) -> None:
        """Take a job from its worker: another one gets it, unless nobody wants it or it was lost too often."""
        self._timeouts.cancel(job)
        job.losses += 1
        if not job.wanted:
            self.queue.end(job)
        elif job.losses == self._job_retries:
            self.queue.requeue(job)
            self.cancel(job)
        else:
            self.queue.requeue(job)
            self.wake(job.function)

    # Inside.

    def _give_up(self, jobs: list[ServerJob]) -> None:
        # The last one first, as in gearmand.
        for job in reversed(jobs):
            self.lose(job)

    def _work_off(self, peer: Peer) -> None:
        """Do what a peer asks for, until it is done, or the peer has failed, or its turn is over."""
        self.steps = 0
        pending = peer.pending
        while pending:
            kind, bodies = pending[0]
            request = REQUESTS.get(kind, unknown)
            for body in bodies:  # an iterator, which the next turn finds where this one leaves it
                if peer.trace is not None:
                    peer.trace(peer, "<", kind, body)
                try:
                    request(self, peer, kind, body)
                except RemoteProtocolError as error:
                    peer.fail(str(error))
                if peer.failure is not None:
                    return
                if peer.outgoing_size > _TURN or self.steps > _MAX_STEPS:
                    return
            pending.popleft()
        peer.pending_size = 0
        if peer.decoder.failure is not None:
            peer.fail(str(peer.decoder.failure))
