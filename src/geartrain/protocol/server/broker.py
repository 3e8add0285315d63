"""
The broker: the operations of a job server on its peers and its queue, without I/O.

It behaves like gearmand 1.1.20, except where gearmand crashes, hangs or loses jobs; see ``docs/job-server.md``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Final

from geartrain.protocol.decoder import DEFAULT_MAX_SIZE
from geartrain.protocol.packets import PacketType
from geartrain.protocol.server.job_queue import Function, JobQueue, QueuePeer, ServerJob
from geartrain.protocol.server.peer import Ability, Peer, Work
from geartrain.protocol.timer_queue import TimerQueue

__all__ = ["DEFAULT_MAX_BACKLOG", "DEFAULT_MAX_QUEUE_SIZE", "MAX_TURN_WORK", "STEP_WORK", "Broker"]

DEFAULT_MAX_BACKLOG: Final = 256 * 1024 * 1024
DEFAULT_MAX_QUEUE_SIZE: Final = 1024 * 1024 * 1024

# The limits of one turn. What exceeds them is done in later turns, so that other peers are served in between: a few
# bytes can request megabytes (GRAB_JOB, ``status``), or an operation on a million jobs.
MAX_TURN_WORK: Final = 20_000  # units of about 0.25 us
STEP_WORK: Final = 5  # units for each step of a long operation
_MAX_DUE: Final = MAX_TURN_WORK // STEP_WORK  # due jobs released in one turn
_MAX_COPIES_AT_ONCE: Final = 256  # identical packets sent to several peers in one step


class Broker:
    """
    The peers of a job server and their queue of jobs.

    Call :meth:`add_peer` and :meth:`remove_peer` for each connection, and :meth:`tick` at :attr:`next_deadline`.
    :mod:`~geartrain.protocol.server.dispatch` runs the requests of peers. Call :meth:`continue_work` while there is
    ``unfinished_work``. After each call, send the output of the peers that :meth:`take_ready` returns, and close the
    connections of those that have failed. ``now`` is Unix time in seconds, and must not go backward.

    Attributes:
        now: The time of the current turn.
        work_done: The work done in the current turn, in units of about 0.25 us.
        unfinished_work: Long operations for which no peer waits.

    Args:
        handle_prefix: The prefix of all handles, before ``:1``, ``:2`` ...
        job_retries: Fail a job after this many workers were lost while running it; 0 for no limit.
        exceptions: Forward WORK_EXCEPTION also to clients that did not ask for it.
        round_robin: Serve the functions of each worker in turn.
        max_packet_size: The maximum size of a workload, a result or an update, in bytes. A larger workload is refused
            with ERROR, a larger result or update fails its job.
        max_queue_size: The maximum size of all jobs and functions, in bytes. Beyond it, submissions are refused.
        max_backlog: The maximum size of a peer's unread output, in bytes. Beyond it, the peer is disconnected.
        version: The reply to ``version``.
        pid: The reply to ``getpid``.
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
        self.queue: JobQueue = JobQueue(handle_prefix, max_queue_size)
        self.peers: dict[Peer, None] = {}
        self.version = version
        self.pid = pid
        self.now: float = 0.0
        self.work_done: int = 0
        self._job_retries = job_retries
        self._exceptions = exceptions
        self._round_robin = round_robin
        self._max_packet_size = max_packet_size
        self._max_backlog = max_backlog
        self.unfinished_work: deque[Work] = deque()
        self._ready: dict[Peer, None] = {}
        self._job_timeouts: TimerQueue[ServerJob] = TimerQueue()

    # Connections and time.

    def add_peer(self, host: str, number: int) -> Peer:
        """Add a new connection from ``host``; ``number`` is its file descriptor in the reply to ``workers``."""
        peer = Peer(
            number,
            host,
            self._ready,
            max_packet_size=self._max_packet_size,
            max_backlog=self._max_backlog,
        )
        peer.wants_exceptions = self._exceptions
        self.peers[peer] = None
        return peer

    def remove_peer(self, peer: Peer, now: float) -> None:
        """Remove a peer: its running jobs are queued again, and it no longer waits for jobs."""
        self.now, self.work_done = now, 0
        del self.peers[peer]
        peer.disconnect()
        peer.asleep = False
        self._start_work(self._clean_up_after(peer))

    @property
    def next_deadline(self) -> float | None:
        """When :meth:`tick` must be called next; ``None`` if there is no deadline."""
        times = [time for time in (self.queue.delayed_jobs.next, self._job_timeouts.next) if time is not None]
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Make due jobs runnable, and take jobs that have timed out from their workers."""
        self.now, self.work_done = now, 0
        for function in self.queue.release_due(now, _MAX_DUE):
            self.wake_workers(function)
        for job in self._job_timeouts.take_due(now, _MAX_DUE):
            self.reclaim_job(job)

    def continue_work(self, now: float) -> None:
        """Continue with ``unfinished_work``, which must not be empty."""
        self.now, self.work_done = now, 0
        self._start_work(self.unfinished_work.popleft())

    def take_ready(self, limit: int | None = None) -> list[Peer]:
        """Return and clear the peers that have output or have failed, at most ``limit`` of them."""
        ready = list(islice(self._ready, limit))
        for peer in ready:
            del self._ready[peer]
        return ready

    # Operations of requests and commands.

    def accept_submission(self, peer: Peer, job: ServerJob, *, background: bool) -> None:
        """Reply to the submission of a job, and attach the client if it waits for the result."""
        if background:
            job.background = True
        else:
            self.queue.attach_client(job, peer)
        peer.send(PacketType.JOB_CREATED, job.handle)

    def register_ability(self, peer: Peer, name: bytes, timeout: float | None) -> None:
        """Register a function of a worker; this replaces an earlier registration."""
        function = self.queue.ensure_function(name)
        peer.abilities.pop(name, None)
        peer.abilities[function.name] = Ability(function, timeout)
        self.queue.add_worker(function, peer)
        if peer.asleep:
            function.sleepers[peer] = None
            if function.has_runnable_jobs:
                self.wake_workers(function)

    def remove_ability(self, peer: Peer, name: bytes) -> Work | None:
        """Unregister a function of a worker, and reclaim the jobs of that function from it."""
        ability = peer.abilities.pop(name, None)
        if ability is None:
            return None
        self.queue.remove_worker(ability.function, peer)
        return self._reclaim_jobs(peer, ability.function)

    def remove_all_abilities(self, peer: Peer) -> Work:
        """Unregister all functions of a worker, and reclaim its jobs."""
        while peer.abilities:
            _, ability = peer.abilities.popitem()
            self.queue.remove_worker(ability.function, peer)
            yield
        yield from self._reclaim_jobs(peer)

    def put_to_sleep(self, peer: Peer) -> None:
        """Put a worker to sleep, or wake it immediately if there is a job for it."""
        self.work_done += len(peer.abilities)
        if any(ability.function.has_runnable_jobs for ability in peer.abilities.values()):
            peer.asleep = False
            peer.send(PacketType.NOOP, b"")
            return
        if self._job_timeouts:
            # gearmand stops the job timers of a worker that goes to sleep; libgearman's worker relies on this.
            self.work_done += len(peer.running_jobs)
            for job in peer.running_jobs.values():
                self._job_timeouts.cancel(job)
        peer.asleep = True
        for ability in peer.abilities.values():
            ability.function.sleepers[peer] = None

    def wake_workers(self, function: Function) -> None:
        """Wake all sleeping workers of a function."""
        sleepers, function.sleepers = function.sleepers, {}
        waking = self._wake_all(sleepers)
        if len(sleepers) <= _MAX_COPIES_AT_ONCE:
            self._run_short_work(waking)
        else:
            self.unfinished_work.append(waking)

    def assign_job(self, peer: Peer) -> ServerJob | None:
        """
        Assign a worker its next job, and return it; ``None`` if there is none.

        The most recently registered function is tried first. With ``round_robin``, the function of the assigned job
        is tried last the next time.
        """
        peer.asleep = False
        self.work_done += len(peer.abilities)
        for ability in reversed(peer.abilities.values()):
            job = self.queue.assign_next_job(ability.function, peer)
            if job is not None:
                if self._round_robin:
                    peer.abilities.move_to_end(ability.function.name, last=False)
                if ability.timeout is not None:
                    self._job_timeouts.set(job, self.now + ability.timeout)
                return job
        return None

    def forward_update(self, job: ServerJob, kind: int, body: bytes) -> Work | None:
        """Send an update to all clients of a job, once for each of their submissions."""
        worker = job.worker
        return self._send_to_all(
            job, job.clients, kind, body, lambda client: client in job.clients and job.worker is worker
        )

    def finish_job(self, job: ServerJob, kind: int, body: bytes) -> Work | None:
        """End a job, and send its final packet to all of its clients."""
        clients = job.clients.copy()
        self._job_timeouts.cancel(job)
        self.queue.remove_job(job)
        return self._send_to_all(job, clients, kind, body, self.peers.__contains__)

    def cancel_job(self, job: ServerJob) -> Work | None:
        """Fail a job for its clients; a worker that runs it is left alone."""
        clients = job.clients.copy()
        self.queue.cancel_job(job)
        return self._send_to_all(job, clients, PacketType.WORK_FAIL, job.handle, self.peers.__contains__)

    def drop_function(self, function: Function) -> Work:
        """Drop a function without workers, and fail its jobs."""
        self.queue.drop_function(function)
        return self._fail_jobs(function)

    def reclaim_job(self, job: ServerJob) -> None:
        """Take a job from its worker, and queue it again if it is wanted and was not lost too often."""
        self._job_timeouts.cancel(job)
        job.losses += 1
        if not job.is_wanted:
            self.queue.remove_job(job)
        elif job.losses == self._job_retries:
            self.queue.requeue(job)
            if (work := self.cancel_job(job)) is not None:
                self.unfinished_work.append(work)
        else:
            self.queue.requeue(job)
            self.wake_workers(job.function)

    # Long operations.

    def _clean_up_after(self, peer: Peer) -> Work:
        """Complete the current request of a lost peer, then remove its abilities, running jobs and awaited jobs."""
        yield from peer.unfinished_request or ()
        yield from self.remove_all_abilities(peer)
        for job in list(peer.awaited_jobs):
            if job in peer.awaited_jobs:
                self.queue.detach_client(job, peer)
            yield

    def _reclaim_jobs(self, peer: Peer, function: Function | None = None) -> Work:
        """Reclaim the jobs of a worker: all, or those of one function."""
        for job in reversed(list(peer.running_jobs.values())):  # last one first, as in gearmand
            if job.worker is peer and (function is None or job.function is function):
                self.reclaim_job(job)
            yield

    def _fail_jobs(self, function: Function) -> Work:
        """Fail all jobs of a dropped function."""
        for job in list(function.delayed):
            if job in function.delayed:  # otherwise it has become due meanwhile
                yield from self.cancel_job(job) or ()
            yield
        for queue in function.queues:
            while queue:
                yield from self.cancel_job(next(iter(queue))) or ()
                yield

    def _wake_all(self, sleepers: Iterable[QueuePeer]) -> Work:
        for peer in sleepers:
            if peer.asleep:
                peer.asleep = False
                peer.send(PacketType.NOOP, b"")
            yield

    def _send_to_all(
        self,
        job: ServerJob,
        clients: Mapping[QueuePeer, int],
        kind: int,
        body: bytes,
        is_waiting: Callable[[QueuePeer], bool],
    ) -> Work | None:
        """Send a packet to clients, each the given number of times, unless ``is_waiting`` is false by then."""
        copies = sum(clients.values())
        if copies == 1 and kind != PacketType.WORK_EXCEPTION:  # the common case, without a generator
            next(iter(clients)).send(kind, b"", body)
            return None
        sending = self._send_copies(job, list(clients.items()), kind, body, is_waiting)
        if copies > _MAX_COPIES_AT_ONCE:
            return sending
        self._run_short_work(sending)
        return None

    def _send_copies(
        self,
        job: ServerJob,
        clients: Iterable[tuple[QueuePeer, int]],
        kind: int,
        body: bytes,
        is_waiting: Callable[[QueuePeer], bool],
    ) -> Work:
        for client, copies in clients:
            # gearmand sends WORK_FAIL with a NUL after the handle instead, which clients have learned to strip.
            as_failure = kind == PacketType.WORK_EXCEPTION and not client.wants_exceptions
            for _ in range(copies):
                if not is_waiting(client) or client.failure is not None:
                    break
                if as_failure:
                    client.send(PacketType.WORK_FAIL, job.handle + b"\0")
                else:
                    client.send(kind, b"", body)
                yield

    # Turns.

    def _start_work(self, work: Work) -> None:
        """Run an operation, and keep the rest for later turns."""
        if not self._run_work(work):
            self.unfinished_work.append(work)

    def _run_work(self, work: Work) -> bool:
        """Run an operation until it is complete or the turn is over; return whether it is complete."""
        for _ in work:
            self.work_done += STEP_WORK
            if self.work_done > MAX_TURN_WORK:
                return False
        return True

    def _run_short_work(self, work: Work) -> None:
        """Run a short operation to its end."""
        for _ in work:
            self.work_done += STEP_WORK
