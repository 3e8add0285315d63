"""The job queue without the rest of the job server."""

from __future__ import annotations

import pytest

from geartrain.protocol.server.job_queue import HIGH, JOB_COST, LOW, NORMAL, Function, JobQueue, JobState, ServerJob
from geartrain.protocol.server.peer import Peer


@pytest.fixture
def queue() -> JobQueue:
    return JobQueue(b"H:test", 10_000_000)


@pytest.fixture
def function(queue: JobQueue) -> Function:
    return queue.ensure_function(b"f")


def peer() -> Peer:
    return Peer(1, "127.0.0.1", {}, max_packet_size=1000, max_backlog=1000)


def take(queue: JobQueue, function: Function, worker: Peer | None = None) -> ServerJob:
    job = queue.assign_next_job(function, worker or peer())
    assert job is not None
    return job


def test_jobs_are_assigned_by_priority_and_then_by_age(queue: JobQueue, function: Function) -> None:
    jobs = [queue.add_job(function, b"", b"", priority) for priority in (LOW, NORMAL, HIGH) * 2]
    taken = [take(queue, function) for _ in jobs]
    assert taken == [jobs[n] for n in (2, 5, 1, 4, 0, 3)]
    assert queue.assign_next_job(function, peer()) is None


def test_handles_count_up(queue: JobQueue, function: Function) -> None:
    assert [queue.add_job(function, b"", b"").handle for _ in range(3)] == [b"H:test:1", b"H:test:2", b"H:test:3"]


def test_a_job_passes_through_its_states(queue: JobQueue, function: Function) -> None:
    job = queue.add_job(function, b"unique", b"", due=5)
    assert (job.state, len(function.delayed), function.has_runnable_jobs) == (JobState.DELAYED, 1, False)
    assert list(queue.release_due(4, 10)) == []
    assert list(queue.release_due(5, 10)) == [function]
    assert (job.state, len(function.delayed), function.has_runnable_jobs) == (JobState.QUEUED, 0, True)
    worker = peer()
    assert take(queue, function, worker) is job
    assert (job.state, function.running_count, job.worker, worker.running_jobs) == (
        JobState.RUNNING,
        1,
        worker,
        {job.handle: job},
    )
    queue.requeue(job)
    assert (job.state, function.running_count, job.worker, worker.running_jobs) == (JobState.QUEUED, 0, None, {})
    queue.remove_job(job)
    assert (job.state, function.job_count, queue.jobs) == (JobState.ENDED, 0, {})


def test_a_requeued_job_waits_behind_others_of_its_priority(queue: JobQueue, function: Function) -> None:
    first, second, low = (queue.add_job(function, b"", b"", priority) for priority in (NORMAL, NORMAL, LOW))
    assert take(queue, function) is first
    queue.requeue(first)
    assert [take(queue, function) for _ in range(3)] == [second, first, low]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((b"", b"w"), (b"", b"w"), False),
        ((b"u", b"w"), (b"u", b"x"), True),
        ((b"u", b"w"), (b"v", b"w"), False),
        ((b"-", b"w"), (b"-", b"w"), True),
        ((b"-", b"w"), (b"-", b"x"), False),
        ((b"-", b""), (b"-", b""), False),
        ((b"-", b"same"), (b"same", b""), False),
    ],
)
def test_submissions_are_the_same_by_unique_or_by_workload(
    queue: JobQueue, function: Function, first: tuple[bytes, bytes], second: tuple[bytes, bytes], same: bool
) -> None:
    job = queue.add_job(function, *first)
    assert (queue.find_job(function, *second) is job) is same
    assert queue.find_job(queue.ensure_function(b"other"), *first) is None
    queue.remove_job(job)
    assert queue.find_job(function, *first) is None


def test_the_newest_job_with_a_unique_is_found_whatever_its_function(queue: JobQueue, function: Function) -> None:
    queue.add_job(function, b"u", b"")
    newest = queue.add_job(queue.ensure_function(b"g"), b"u", b"")
    assert queue.find_by_unique(b"u") is newest
    queue.remove_job(newest)
    assert queue.find_by_unique(b"u") is not None


def test_a_limit_counts_all_jobs_of_a_function(queue: JobQueue, function: Function) -> None:
    function.limits[NORMAL] = 3
    queue.add_job(function, b"", b"", LOW)
    queue.add_job(function, b"", b"", due=5)
    take(queue, function)
    assert not queue.is_full_for(function, NORMAL)
    queue.add_job(function, b"", b"", HIGH)
    assert queue.is_full_for(function, NORMAL)
    assert not queue.is_full_for(function, HIGH)


def test_a_job_ends_with_its_last_client_unless_it_is_running(queue: JobQueue, function: Function) -> None:
    client, other = peer(), peer()
    job = queue.add_job(function, b"", b"")
    queue.attach_client(job, client)
    queue.attach_client(job, client)
    queue.attach_client(job, other)
    queue.detach_client(job, client)
    assert (job.state, client.awaited_jobs, list(job.clients)) == (JobState.QUEUED, {}, [other])
    take(queue, function)
    queue.detach_client(job, other)
    assert (job.state, job.is_wanted) == (JobState.RUNNING, False)
    queued = queue.add_job(function, b"", b"")
    queue.attach_client(queued, other)
    queue.detach_client(queued, other)
    assert queued.state is JobState.ENDED


def test_a_cancelled_running_job_is_left_to_its_worker(queue: JobQueue, function: Function) -> None:
    client = peer()
    job = queue.add_job(function, b"u", b"")
    queue.attach_client(job, client)
    take(queue, function)
    queue.cancel_job(job)
    queue.cancel_job(job)
    assert (job.state, job.is_wanted, client.awaited_jobs, queue.find_job(function, b"u", b"")) == (
        JobState.RUNNING,
        False,
        {},
        None,
    )
    other = queue.add_job(function, b"u", b"")
    queue.remove_job(job)
    assert queue.find_job(function, b"u", b"") is other
    assert list(queue.jobs.values()) == [other]


def test_a_full_queue_refuses_everything(function: Function) -> None:
    queue = JobQueue(b"H:test", 5000)
    function = queue.ensure_function(b"f")
    while not queue.is_full:
        job = queue.add_job(function, b"", bytes(100))
    assert queue.is_full_for(function, HIGH)
    queue.remove_job(job)
    assert not queue.is_full_for(function, HIGH)


def test_a_new_job_has_no_progress_and_is_persisted_if_it_is_in_the_background(
    queue: JobQueue, function: Function
) -> None:
    jobs = [queue.add_job(function, b"", b"", background=background) for background in (False, True)]
    assert [(job.background, job.persisted) for job in jobs] == [(False, False), (True, True)]
    assert {(job.numerator, job.denominator, job.losses) for job in jobs} == {(0, 0, 0)}


def test_the_queue_is_full_at_its_limit() -> None:
    queue = JobQueue(b"H:test", 10_000)
    function = queue.ensure_function(b"f")
    queue.add_job(function, b"", bytes(10_000 - queue.size - JOB_COST - 1))
    assert not queue.is_full
    assert not queue.is_full_for(function, NORMAL)
    queue.size += 1
    assert queue.is_full
    assert queue.is_full_for(function, NORMAL)
