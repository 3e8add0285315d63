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

# What a job, a function, one client's interest in a job and one worker's ability are taken to need in memory, beside
# the bytes that they were given, when the queue is measured against its limit.
JOB_COST: Final = 1024
_FUNCTION_COST: Final = 1024
_CLIENT_COST: Final = 128
_WORKER_COST: Final = 512
_NUMBER_DIGITS: Final = 20  # room for the number in a handle


class JobState(enum.Enum):
    """Where a job is in its life."""

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
        """JobQueue a packet whose body is ``head`` followed by ``data``."""


class ServerJob:
    """
    A job as the job server knows it.

    Attributes:
        background: Somebody submitted it in the background: it is to be run although nobody waits for it.
        persisted: It was created by a background submission, which a persistent store would hold.
        ignored: Since it was queued or assigned, it was cancelled or its last client left, so that gearmand would not
            run it again; see :attr:`is_wanted` for whether this job server would.
        clients: Who waits for it, and by how many submissions each.
        losses: How often a worker was given it and did not finish it.
        cancelled: Its clients were told that it failed; a worker runs it still.
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
        """Whether anybody would miss it."""
        return not self.cancelled and (self.background or bool(self.clients))


class Function:
    """
    A function that was named by a worker, a client or an administrator.

    Attributes:
        queues: Its runnable jobs by priority, each in the order in which they are to be run.
        delayed: Its jobs that are not due yet.
        running_count: The number of its jobs that workers hold.
        limits: For each priority, the number of all its jobs from which on no more are taken; 0 for no limit.
        workers: Those able to do it.
        sleepers: Those of them to wake for a job, and perhaps some that are awake already.
    """

    __slots__ = ("delayed", "limits", "name", "queues", "running_count", "sleepers", "workers", "workloads")

    def __init__(self, name: bytes) -> None:
        self.name: bytes = name
        # Jobs leave from the middle as well (cancelled, or no longer wanted), so these are no deques.
        self.queues: tuple[OrderedDict[ServerJob, None], ...] = (OrderedDict(), OrderedDict(), OrderedDict())
        self.delayed: dict[ServerJob, None] = {}
        self.running_count: int = 0
        self.limits: list[int] = [0, 0, 0]
        self.workers: dict[QueuePeer, None] = {}
        self.sleepers: dict[QueuePeer, None] = {}
        self.workloads: dict[bytes, ServerJob] = {}  # the jobs whose unique is "-"

    @property
    def has_runnable_jobs(self) -> bool:
        """Whether a worker would get a job of it now."""
        return any(self.queues)

    @property
    def job_count(self) -> int:
        """All its jobs: waiting, delayed and running."""
        return self.running_count + len(self.delayed) + sum(map(len, self.queues))


class JobQueue:
    """
    All functions and jobs of one job server.

    Args:
        handle_prefix: What every handle begins with; cut where it would leave no room for the number.
        max_size: Bytes that everything in it may take (workloads, names, and an estimate for the rest).
    """

    __slots__ = ("_count", "_max_size", "_prefix", "_uniques", "delayed_jobs", "functions", "jobs", "size")

    def __init__(self, handle_prefix: bytes, max_size: int) -> None:
        self._prefix = handle_prefix[: MAX_HANDLE - _NUMBER_DIGITS - 1] + b":"
        self._max_size = max_size
        self._count = 0
        # By unique, then by function: a status query names no function, and the newest job answers it.
        self._uniques: dict[bytes, dict[Function, ServerJob]] = {}
        self.functions: dict[bytes, Function] = {}
        self.jobs: dict[bytes, ServerJob] = {}
        self.delayed_jobs: TimerQueue[ServerJob] = TimerQueue()
        self.size: int = 0

    # Functions.

    def ensure_function(self, name: bytes) -> Function:
        """Return the function of this name, which is new if nobody has named it before."""
        function = self.functions.get(name)
        if function is None:
            function = self.functions[name] = Function(name)
            self.size += _FUNCTION_COST + len(name)
        return function

    def drop_function(self, function: Function) -> None:
        """Forget a function that has no workers. Its jobs, if any, are still to be ended."""
        assert not function.workers, "a function with workers is not dropped"
        del self.functions[function.name]
        self.size -= _FUNCTION_COST + len(function.name)

    def add_worker(self, function: Function, worker: QueuePeer) -> None:
        """Note that a worker can do a function."""
        if worker not in function.workers:
            function.workers[worker] = None
            self.size += _WORKER_COST

    def remove_worker(self, function: Function, worker: QueuePeer) -> None:
        """Note that a worker can no longer do a function."""
        del function.workers[worker]
        function.sleepers.pop(worker, None)
        self.size -= _WORKER_COST

    @property
    def is_full(self) -> bool:
        """Whether everything together has reached the limit."""
        return self.size >= self._max_size

    def is_full_for(self, function: Function, priority: int) -> bool:
        """Whether a job of this function and priority would be one too many."""
        limit = function.limits[priority]
        return self.size >= self._max_size or (limit > 0 and function.job_count >= limit)

    # Jobs.

    def find_job(self, function: Function, unique: bytes, workload: bytes) -> ServerJob | None:
        """Return the job that a submission like this joins."""
        if not unique:
            return None
        if unique == b"-":
            return function.workloads.get(workload) if workload else None
        jobs = self._uniques.get(unique)
        return jobs.get(function) if jobs else None

    def find_by_unique(self, unique: bytes) -> ServerJob | None:
        """Return the newest job with this unique, of whatever function."""
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
        """Take a new job; with ``due``, one that :meth:`release_due` makes runnable at that time."""
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
        """Make delayed jobs that are due runnable, at most ``limit``, and return their functions."""
        due = self.delayed_jobs.take_due(now, limit)
        for job in due:
            del job.function.delayed[job]
            self._enqueue(job)
        return dict.fromkeys(job.function for job in due)

    def assign_next_job(self, function: Function, worker: QueuePeer) -> ServerJob | None:
        """Give the next runnable job of a function to a worker; ``None`` if there is none."""
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
        """Take a running job from its worker, and put it behind those that wait."""
        self._take_from_worker(job)
        job.numerator = job.denominator = 0
        self._enqueue(job)

    def remove_job(self, job: ServerJob) -> None:
        """Forget a job, whatever its state. Its clients must have been told."""
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
        """End a job, or, if it is running, let its worker finish it for nobody, and no submission join it."""
        if job.state is not JobState.RUNNING:
            self.remove_job(job)
        elif not job.cancelled:
            if job.unique:
                self._unindex(job)
            self.detach_all_clients(job)
            job.cancelled = job.ignored = True

    # Who waits for a job.

    def attach_client(self, job: ServerJob, client: QueuePeer) -> None:
        """Have a client wait for a job, once more if it does already."""
        job.clients[client] = job.clients.get(client, 0) + 1
        client.awaited_jobs[job] = None
        self.size += _CLIENT_COST

    def detach_client(self, job: ServerJob, client: QueuePeer) -> None:
        """Have a client wait for a job no longer; a job that nobody wants any more and no worker has is forgotten."""
        del client.awaited_jobs[job]
        self.size -= _CLIENT_COST * job.clients.pop(client)
        if not job.clients:
            job.ignored = True
        if job.state is not JobState.RUNNING and not job.is_wanted:
            self.remove_job(job)

    def detach_all_clients(self, job: ServerJob) -> None:
        """Have nobody wait for a job."""
        for client, copies in job.clients.items():
            del client.awaited_jobs[job]
            self.size -= _CLIENT_COST * copies
        job.clients.clear()

    # Where a job is noted.

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
