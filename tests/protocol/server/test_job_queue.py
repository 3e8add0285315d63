"""The job server's data, on its own."""

from __future__ import annotations

import pytest

from geartrain.protocol.server.job_queue import HIGH, JOB_COST, LOW, NORMAL, Function, JobState, Queue, ServerJob
from geartrain.protocol.server.peer import Peer


@pytest.fixture
def queue() -> Queue:
    return Queue(b"H:test", 10_000_000)


@pytest.fixture
def function(queue: Queue) -> Function:
    return queue.function(b"f")


def peer() -> Peer:
    return Peer(1, "127.0.0.1", {}, max_packet_size=1000, max_backlog=1000)


def take(queue: Queue, function: Function, worker: Peer | None = None) -> ServerJob:
    job = queue.take(function, worker or peer())
    assert job is not None
    return job


def test_jobs_are_taken_by_priority_and_then_by_age(queue: Queue, function: Function) -> None:
    jobs = [queue.add(function, b"", b"", priority) for priority in (LOW, NORMAL, HIGH) * 2]
    taken = [take(queue, function) for _ in jobs]
    assert taken == [jobs[n] for n in (2, 5, 1, 4, 0, 3)]
    assert queue.take(function, peer()) is None


def test_handles_count_up(queue: Queue, function: Function) -> None:
    assert [queue.add(function, b"", b"").handle for _ in range(3)] == [b"H:test:1", b"H:test:2", b"H:test:3"]


def test_a_job_is_in_one_state_after_the_other(queue: Queue, function: Function) -> None:
    job = queue.add(function, b"unique", b"", due=5)
    assert (job.state, len(function.delayed), function.runnable) == (JobState.DELAYED, 1, False)
    assert list(queue.release_due(4, 10)) == []
    assert list(queue.release_due(5, 10)) == [function]
    assert (job.state, len(function.delayed), function.runnable) == (JobState.QUEUED, 0, True)
    worker = peer()
    assert take(queue, function, worker) is job
    assert (job.state, function.running, job.worker, worker.holding) == (
        JobState.RUNNING,
        1,
        worker,
        {job.handle: job},
    )
    queue.requeue(job)
    assert (job.state, function.running, job.worker, worker.holding) == (JobState.QUEUED, 0, None, {})
    queue.end(job)
    assert (job.state, function.total, queue.jobs) == (JobState.ENDED, 0, {})


def test_a_requeued_job_waits_behind_those_of_its_priority(queue: Queue, function: Function) -> None:
    first, second, low = (queue.add(function, b"", b"", priority) for priority in (NORMAL, NORMAL, LOW))
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
    queue: Queue, function: Function, first: tuple[bytes, bytes], second: tuple[bytes, bytes], same: bool
) -> None:
    job = queue.add(function, *first)
    assert (queue.find(function, *second) is job) is same
    assert queue.find(queue.function(b"other"), *first) is None
    queue.end(job)
    assert queue.find(function, *first) is None


def test_the_newest_job_with_a_unique_is_found_whatever_its_function(queue: Queue, function: Function) -> None:
    queue.add(function, b"u", b"")
    newest = queue.add(queue.function(b"g"), b"u", b"")
    assert queue.find_unique(b"u") is newest
    queue.end(newest)
    assert queue.find_unique(b"u") is not None


def test_a_limit_counts_all_jobs_of_a_function(queue: Queue, function: Function) -> None:
    function.limits[NORMAL] = 3
    queue.add(function, b"", b"", LOW)
    queue.add(function, b"", b"", due=5)
    take(queue, function)
    assert not queue.refuses(function, NORMAL)
    queue.add(function, b"", b"", HIGH)
    assert queue.refuses(function, NORMAL)
    assert not queue.refuses(function, HIGH)


def test_a_job_goes_with_the_last_who_waits_for_it_unless_it_runs(queue: Queue, function: Function) -> None:
    client, other = peer(), peer()
    job = queue.add(function, b"", b"")
    queue.attach(job, client)
    queue.attach(job, client)
    queue.attach(job, other)
    queue.detach(job, client)
    assert (job.state, client.waiting, list(job.clients)) == (JobState.QUEUED, {}, [other])
    take(queue, function)
    queue.detach(job, other)
    assert (job.state, job.wanted) == (JobState.RUNNING, False)
    queued = queue.add(function, b"", b"")
    queue.attach(queued, other)
    queue.detach(queued, other)
    assert queued.state is JobState.ENDED


def test_a_running_job_that_is_cancelled_is_left_to_its_worker(queue: Queue, function: Function) -> None:
    client = peer()
    job = queue.add(function, b"u", b"")
    queue.attach(job, client)
    take(queue, function)
    queue.cancel(job)
    queue.cancel(job)
    assert (job.state, job.wanted, client.waiting, queue.find(function, b"u", b"")) == (
        JobState.RUNNING,
        False,
        {},
        None,
    )
    other = queue.add(function, b"u", b"")
    queue.end(job)
    assert queue.find(function, b"u", b"") is other
    assert list(queue.jobs.values()) == [other]


def test_a_full_queue_refuses_everything(function: Function) -> None:
    queue = Queue(b"H:test", 5000)
    function = queue.function(b"f")
    while not queue.full:
        job = queue.add(function, b"", bytes(100))
    assert queue.refuses(function, HIGH)
    queue.end(job)
    assert not queue.refuses(function, HIGH)


def test_a_new_job_has_no_progress_and_is_persisted_if_it_is_in_the_background(
    queue: Queue, function: Function
) -> None:
    jobs = [queue.add(function, b"", b"", background=background) for background in (False, True)]
    assert [(job.background, job.persisted) for job in jobs] == [(False, False), (True, True)]
    assert {(job.numerator, job.denominator, job.losses) for job in jobs} == {(0, 0, 0)}


def test_the_queue_is_full_from_its_limit_on() -> None:
    queue = Queue(b"H:test", 10_000)
    function = queue.function(b"f")
    queue.add(function, b"", bytes(10_000 - queue.size - JOB_COST - 1))
    assert not queue.full
    assert not queue.refuses(function, NORMAL)
    queue.size += 1
    assert queue.full
    assert queue.refuses(function, NORMAL)
