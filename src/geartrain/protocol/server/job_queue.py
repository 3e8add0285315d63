"""
The job server's data: functions, their jobs in three priorities, and the clients that wait for the jobs.

Nothing here sends anything, and the time is an argument.

A job is in exactly one state:

- DELAYED: in ``JobQueue.delayed_jobs`` until it is due.
- QUEUED: in a queue of its function.
- RUNNING: in ``running_jobs`` of ``job.worker``.
- ENDED: removed from the queue.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, Protocol

from geartrain.errors import RemoteProtocolError
from geartrain.protocol.packets import MAX_HANDLE
from geartrain.protocol.timer_queue import TimerQueue

__all__ = [
    "HIGH",
    "JOB_COST",
    "LOW",
    "NORMAL",
    "Function",
    "JobQueue",
    "JobState",
    "QueuePeer",
    "ServerJob",
]

HIGH, NORMAL, LOW = range(3)

# Estimated memory in bytes, in addition to names and workloads; counted against the size limit of the queue.
JOB_COST: Final = 1024
_FUNCTION_COST: Final = 1024
_CLIENT_COST: Final = 128  # for each submission that waits for a job
_WORKER_COST: Final = 512  # for each ability of a worker
_NUMBER_DIGITS: Final = 20  # of the number in a handle


class JobState(enum.Enum):
    """The state of a job."""

    DELAYED = "delayed"
    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"


class QueuePeer(Protocol):
    """
    A connected client or worker, as jobs and functions refer to it.

    Attributes:
        awaited_jobs: The jobs whose result it waits for.
        running_jobs: The jobs that it runs, by handle.
        asleep: Whether it has sent PRE_SLEEP and not been woken since.
        wants_exceptions: Whether it wants WORK_EXCEPTION.
        failure: Why its connection is being closed.
    """

    awaited_jobs: dict[ServerJob, None]
    running_jobs: dict[bytes, ServerJob]
    asleep: bool
    wants_exceptions: bool
    failure: RemoteProtocolError | None

    def send(self, kind: int, head: bytes, data: bytes = b"") -> None:
        """Queue a packet whose body is ``head`` followed by ``data``."""


class ServerJob:
    """
    A job on the job server.

    Attributes:
        background: Whether it was submitted in the background, so that it runs even if no client waits for it.
        persisted: Whether it was created by a background submission, which a persistent queue would store.
        ignored: Whether it was cancelled or its last client left since it was queued or assigned. gearmand would not
            run it again; :attr:`is_wanted` says whether this job server would.
        clients: The clients that wait for it, with the number of their submissions.
        losses: How many workers were assigned the job and did not finish it.
        cancelled: Whether it has failed for its clients while a worker still runs it.
    """

    __slots__ = (
        "background",
        "cancelled",
        "clients",
        "denominator",
        "function",
        "handle",
        "ignored",
        "losses",
        "numerator",
        "persisted",
        "priority",
        "reducer",
        "state",
        "unique",
        "worker",
        "workload",
    )

    def __init__(
        self, handle: bytes, function: Function, unique: bytes, workload: bytes, priority: int, reducer: bytes
    ) -> None:
        self.handle: bytes = handle
        self.function: Function = function
        self.unique: bytes = unique
        self.workload: bytes = workload
        self.priority: int = priority
        self.reducer: bytes = reducer
        self.background: bool = False
        self.persisted: bool = False
        self.ignored: bool = False
        self.clients: dict[QueuePeer, int] = {}
        self.worker: QueuePeer | None = None
        self.state: JobState = JobState.DELAYED
        self.numerator: int = 0
        self.denominator: int = 0
        self.losses: int = 0
        self.cancelled: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether the job still has a client or was submitted in the background."""
        return not self.cancelled and (self.background or bool(self.clients))


class Function:
    """
    A function that a worker, a client or an administrator has named.

    Attributes:
        queues: Its runnable jobs by priority, each in the order in which they will run.
        delayed: Its jobs that are not due yet.
        running_count: The number of its jobs that are running.
        limits: For each priority, the total number of jobs at which new jobs are refused; 0 for no limit.
        workers: The workers that have registered it.
        sleepers: The workers to wake for a new job; some of them may be awake already.
    """

    __slots__ = ("delayed", "limits", "name", "queues", "running_count", "sleepers", "workers", "workloads")

    def __init__(self, name: bytes) -> None:
        self.name: bytes = name
        # Cancelled jobs are removed from the middle, so these are not deques.
        self.queues: tuple[OrderedDict[ServerJob, None], ...] = (OrderedDict(), OrderedDict(), OrderedDict())
        self.delayed: dict[ServerJob, None] = {}
        self.running_count: int = 0
        self.limits: list[int] = [0, 0, 0]
        self.workers: dict[QueuePeer, None] = {}
        self.sleepers: dict[QueuePeer, None] = {}
        self.workloads: dict[bytes, ServerJob] = {}  # the jobs whose unique is "-"

    @property
    def has_runnable_jobs(self) -> bool:
        """Whether it has a job that a worker could run now."""
        return any(self.queues)

    @property
    def job_count(self) -> int:
        """The number of its jobs: queued, delayed and running."""
        return self.running_count + len(self.delayed) + sum(map(len, self.queues))


class JobQueue:
    """
    All functions and jobs of one job server.

    Args:
        handle_prefix: The prefix of all handles; truncated to leave room for the number.
        max_size: The maximum size of workloads and names plus an estimate of the overhead, in bytes.
    """

    __slots__ = ("_count", "_max_size", "_prefix", "_uniques", "delayed_jobs", "functions", "jobs", "size")

    def __init__(self, handle_prefix: bytes, max_size: int) -> None:
        self._prefix = handle_prefix[: MAX_HANDLE - _NUMBER_DIGITS - 1] + b":"
        self._max_size = max_size
        self._count = 0
        # By unique, then by function. A status query names no function; its reply is about the newest job.
        self._uniques: dict[bytes, dict[Function, ServerJob]] = {}
        self.functions: dict[bytes, Function] = {}
        self.jobs: dict[bytes, ServerJob] = {}
        self.delayed_jobs: TimerQueue[ServerJob] = TimerQueue()
        self.size: int = 0

    # Functions.

    def ensure_function(self, name: bytes) -> Function:
        """Return the function with this name, and create it if it does not exist."""
        function = self.functions.get(name)
        if function is None:
            function = self.functions[name] = Function(name)
            self.size += _FUNCTION_COST + len(name)
        return function

    def drop_function(self, function: Function) -> None:
        """Remove a function that has no workers. The caller must end its jobs."""
        assert not function.workers, "a function with workers cannot be dropped"
        del self.functions[function.name]
        self.size -= _FUNCTION_COST + len(function.name)

    def add_worker(self, function: Function, worker: QueuePeer) -> None:
        """Register a worker for a function."""
        if worker not in function.workers:
            function.workers[worker] = None
            self.size += _WORKER_COST

    def remove_worker(self, function: Function, worker: QueuePeer) -> None:
        """Unregister a worker from a function."""
        del function.workers[worker]
        function.sleepers.pop(worker, None)
        self.size -= _WORKER_COST

    @property
    def is_full(self) -> bool:
        """Whether the queue has reached its maximum size."""
        return self.size >= self._max_size

    def is_full_for(self, function: Function, priority: int) -> bool:
        """Whether a new job of this function and priority must be refused."""
        limit = function.limits[priority]
        return self.size >= self._max_size or (limit > 0 and function.job_count >= limit)

    # Jobs.

    def find_job(self, function: Function, unique: bytes, workload: bytes) -> ServerJob | None:
        """Return the existing job that such a submission would join."""
        if not unique:
            return None
        if unique == b"-":
            return function.workloads.get(workload) if workload else None
        jobs = self._uniques.get(unique)
        return jobs.get(function) if jobs else None

    def find_by_unique(self, unique: bytes) -> ServerJob | None:
        """Return the newest job with this unique, regardless of its function."""
        jobs = self._uniques.get(unique)
        return next(reversed(jobs.values())) if jobs else None

    def add_job(
        self,
        function: Function,
        unique: bytes,
        workload: bytes,
        priority: int = NORMAL,
        *,
        background: bool = False,
        reducer: bytes = b"",
        due: float | None = None,
    ) -> ServerJob:
        """Add a new job; with ``due``, :meth:`release_due` makes it runnable at that time."""
        self._count += 1
        handle = self._prefix + b"%d" % self._count
        job = self.jobs[handle] = ServerJob(handle, function, unique, workload, priority, reducer)
        job.background = job.persisted = background
        if unique:
            self._index(job)
        if due is None:
            job.state = JobState.QUEUED
            function.queues[priority][job] = None
        else:
            function.delayed[job] = None
            self.delayed_jobs.set(job, due)
        self.size += JOB_COST + len(workload)
        return job

    def release_due(self, now: float, limit: int) -> Iterable[Function]:
        """Make at most ``limit`` due jobs runnable, and return their functions."""
        due = self.delayed_jobs.take_due(now, limit)
        for job in due:
            del job.function.delayed[job]
            self._enqueue(job)
        return dict.fromkeys(job.function for job in due)

    def assign_next_job(self, function: Function, worker: QueuePeer) -> ServerJob | None:
        """Assign the next runnable job of a function to a worker and return it; ``None`` if there is none."""
        for queue in function.queues:
            if queue:
                job, _ = queue.popitem(last=False)
                job.state = JobState.RUNNING
                job.worker = worker
                job.ignored = False
                worker.running_jobs[job.handle] = job
                function.running_count += 1
                return job
        return None

    def requeue(self, job: ServerJob) -> None:
        """Take a running job from its worker, and put it at the end of its queue."""
        self._take_from_worker(job)
        job.numerator = job.denominator = 0
        self._enqueue(job)

    def remove_job(self, job: ServerJob) -> None:
        """Remove a job in any state. The caller must have notified its clients."""
        if job.state is JobState.RUNNING:
            self._take_from_worker(job)
        elif job.state is JobState.QUEUED:
            del job.function.queues[job.priority][job]
        elif job.state is JobState.DELAYED:
            del job.function.delayed[job]
            self.delayed_jobs.cancel(job)
        job.state = JobState.ENDED
        if job.unique and not job.cancelled:
            self._unindex(job)
        self.detach_all_clients(job)
        del self.jobs[job.handle]
        self.size -= JOB_COST + len(job.workload)

    def cancel_job(self, job: ServerJob) -> None:
        """Remove a job. A running job loses its clients and its unique, and its worker finishes it."""
        if job.state is not JobState.RUNNING:
            self.remove_job(job)
        elif not job.cancelled:
            if job.unique:
                self._unindex(job)
            self.detach_all_clients(job)
            job.cancelled = job.ignored = True

    # Clients that wait for jobs.

    def attach_client(self, job: ServerJob, client: QueuePeer) -> None:
        """Add a submission of a client to those that wait for a job."""
        job.clients[client] = job.clients.get(client, 0) + 1
        client.awaited_jobs[job] = None
        self.size += _CLIENT_COST

    def detach_client(self, job: ServerJob, client: QueuePeer) -> None:
        """Remove a client from a job; a job that is neither wanted nor running is removed."""
        del client.awaited_jobs[job]
        self.size -= _CLIENT_COST * job.clients.pop(client)
        if not job.clients:
            job.ignored = True
        if job.state is not JobState.RUNNING and not job.is_wanted:
            self.remove_job(job)

    def detach_all_clients(self, job: ServerJob) -> None:
        """Remove all clients from a job."""
        for client, copies in job.clients.items():
            del client.awaited_jobs[job]
            self.size -= _CLIENT_COST * copies
        job.clients.clear()

    # Internals.

    def _enqueue(self, job: ServerJob) -> None:
        job.state = JobState.QUEUED
        job.function.queues[job.priority][job] = None

    def _take_from_worker(self, job: ServerJob) -> None:
        assert job.worker is not None, "a running job has a worker"
        del job.worker.running_jobs[job.handle]
        job.worker = None
        job.function.running_count -= 1

    def _index(self, job: ServerJob) -> None:
        if job.unique != b"-":
            self._uniques.setdefault(job.unique, {})[job.function] = job
        elif job.workload:
            job.function.workloads[job.workload] = job

    def _unindex(self, job: ServerJob) -> None:
        if job.unique != b"-":
            jobs = self._uniques[job.unique]
            del jobs[job.function]
            if not jobs:
                del self._uniques[job.unique]
        elif job.workload:
            del job.function.workloads[job.workload]
