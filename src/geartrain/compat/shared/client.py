"""The client: submits jobs, and waits for them."""

from __future__ import annotations

import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from geartrain import GearmanError, JobHandle, JobStatus
from geartrain.compat.shared.constants import JOB_FAILED, JOB_PENDING, JOB_UNKNOWN, PRIORITY_NONE
from geartrain.compat.shared.flavour import to_bytes, to_text
from geartrain.compat.shared.manager import Host, SharedManager
from geartrain.compat.shared.submission import Submission, logger, make_status
from geartrain.compat.shared.submissions import Submissions
from geartrain.compat.shared.util import unlist

__all__ = ["RANDOM_UNIQUE_BYTES", "SharedClient"]

Requests = TypeVar("Requests", bound="list[Any] | tuple[Any, ...] | set[Any]")

RANDOM_UNIQUE_BYTES = 16


class SharedClient(SharedManager):
    """
    Submits jobs, and waits for them.

    Several threads may use it. Requests change while one of its methods waits.

    Args:
        host_list: See :class:`GearmanConnectionManager`.
        random_unique_bytes: The number of random bytes in the unique of a job that has none of its own; at most 31.
    """

    def __init__(self, host_list: Iterable[Host] | None = None, random_unique_bytes: int = RANDOM_UNIQUE_BYTES) -> None:
        super().__init__(host_list)
        self.random_unique_bytes: int = random_unique_bytes
        # The job servers that were not tried yet in vain, the next one first.
        self.request_to_rotating_connection_queue: WeakKeyDictionary[Any, deque[Any]] = WeakKeyDictionary()
        self.__submissions = Submissions(self._event_queue, self.request_to_rotating_connection_queue)
        self.__awaiting_status: set[Any] = set()

    # Submission.

    def submit_job(
        self,
        task: Any,
        data: Any,
        unique: Any = None,
        priority: str | None = PRIORITY_NONE,
        background: bool = False,
        wait_until_complete: bool = True,
        max_retries: int = 0,
        poll_timeout: float | None = None,
    ) -> Any:
        """
        Submit a job, wait, and return its request.

        Args:
            task: The name of the function.
            data: What ``data_encoder`` encodes.
            unique: A key by which job servers merge equal jobs; by default a random one.
            priority: ``PRIORITY_NONE``, ``PRIORITY_LOW`` or ``PRIORITY_HIGH``.
            background: Nobody waits for the result: the request is complete once the job server has accepted it.
            wait_until_complete: Wait for the end of the job. Otherwise only until a job server has accepted it.
            max_retries: How often to submit the job again if a connection is lost before the job was accepted.
            poll_timeout: Seconds to wait at most. Then ``timed_out`` of the request is true, nothing is raised, and one
                can wait again.

        Raises:
            ServerUnavailable: If no job server can be reached.
            ExceededConnectionAttempts: If ``max_retries`` was not enough.
            TypeError: If the data is neither bytes nor text, and there is no encoder.
            ValueError: If Gearman cannot carry an argument.
        """
        request = self.__make_request(
            {"task": task, "data": data, "unique": unique, "priority": priority}, background, max_retries
        )
        self.submit_multiple_requests([request], wait_until_complete, poll_timeout)
        return request

    def submit_multiple_jobs(
        self,
        jobs_to_submit: Iterable[Mapping[str, Any]],
        background: bool = False,
        wait_until_complete: bool = True,
        max_retries: int = 0,
        poll_timeout: float | None = None,
    ) -> list[Any]:
        """
        Submit jobs, and return their requests. Raises as :meth:`submit_job`.

        Args:
            jobs_to_submit: A list, tuple or set of dicts with ``task``, ``data`` and optionally ``unique`` and
                ``priority``.
            background: As for :meth:`submit_job`, like all other arguments.
            wait_until_complete: Wait for the end of all jobs.
            max_retries: For each job.
            poll_timeout: Seconds for all of them.
        """
        _check_collection(jobs_to_submit)
        requests = [self.__make_request(job_info, background, max_retries) for job_info in jobs_to_submit]
        return self.submit_multiple_requests(requests, wait_until_complete, poll_timeout)

    def submit_multiple_requests(
        self, job_requests: Requests, wait_until_complete: bool = True, poll_timeout: float | None = None
    ) -> Requests:
        """
        Submit those requests that are not submitted, and wait for all. Returns them; raises as :meth:`submit_job`.

        Args:
            job_requests: A list, tuple or set.
            wait_until_complete: Wait for the end of all jobs. Otherwise only until they are accepted.
            poll_timeout: Seconds to wait at most.
        """
        if not wait_until_complete:
            return self.wait_until_jobs_accepted(job_requests, poll_timeout)
        self.__submit_and_poll(job_requests, _has_ended, poll_timeout, acceptances=False)
        self.__end_wait(job_requests)
        return job_requests

    def wait_until_jobs_accepted(self, job_requests: Requests, poll_timeout: float | None = None) -> Requests:
        """Submit those requests that are not submitted, and wait until all are accepted; see :meth:`submit_job`."""
        self.__submit_and_poll(
            job_requests, lambda request: request.state != JOB_PENDING, poll_timeout, acceptances=True
        )
        for request in job_requests:
            request.timed_out = request.state == JOB_PENDING
        return job_requests

    def __submit_and_poll(
        self,
        job_requests: Requests,
        has_settled: Callable[[Any], bool],
        poll_timeout: float | None,
        *,
        acceptances: bool,
    ) -> None:
        """Submit those requests that are not submitted, some of them repeatedly, and poll until all have settled."""
        _check_collection(job_requests)
        self._event_queue.handle()
        for request in job_requests:
            if request.state == JOB_UNKNOWN:
                self.send_job_request(request)
        self.__check_outstanding(job_requests, has_settled)
        requests = set(job_requests)
        remaining = list(job_requests)

        def has_settled_for_good(request: Any) -> bool:
            # Another thread may handle the loss of a connection now: first it is noted, and then the state is changed.
            return has_settled(request) and not self.__submissions.is_unaccepted(request)

        def is_any_left(_: bool) -> bool:
            for request in self.__submissions.take_unaccepted(requests):
                self.send_job_request(request)
            return _is_any_left(remaining, has_settled_for_good)

        self._poll(self.connection_list, is_any_left, poll_timeout, acceptances=acceptances)

    def wait_until_jobs_completed(self, job_requests: Requests, poll_timeout: float | None = None) -> Requests:
        """
        Wait until all requests are complete, or lost; submit nothing.

        Raises:
            InvalidClientState: If another client has submitted a request, or this one before :meth:`shutdown`.
            ServerUnavailable: If a request is lost, and no job server is connected.
        """
        _check_collection(job_requests)
        self.__check_outstanding(job_requests, _has_ended)
        remaining = list(job_requests)
        self._poll(self.connection_list, lambda _: _is_any_left(remaining, _has_ended), poll_timeout, acceptances=False)
        self.__end_wait(job_requests)
        return job_requests

    def __check_outstanding(self, job_requests: Requests, has_settled: Callable[[Any], bool]) -> None:
        for request in job_requests:
            # In this order, because another thread may handle its end now.
            if not self.__submissions.is_outstanding(request) and not has_settled(request):
                self._check_connected(self.connection_list)
                raise self.flavour.errors.client_state(
                    f"{request!r} cannot be waited for: another client, or this one before shutdown(), has submitted it"
                )

    def __end_wait(self, job_requests: Requests) -> None:
        self._event_queue.handle()  # acceptances
        for request in job_requests:
            request.timed_out = not _has_ended(request)
            if not request.timed_out:
                self.request_to_rotating_connection_queue.pop(request, None)
        if any(request.state == JOB_UNKNOWN for request in job_requests):
            self._check_connected(self.connection_list)

    def __make_request(self, job_info: Mapping[str, Any], background: bool, max_retries: int) -> Any:
        unique = job_info.get("unique") or os.urandom(self.random_unique_bytes).hex()
        job = self.job_class(connection=None, handle=None, task=job_info["task"], unique=unique, data=job_info["data"])
        return self.job_request_class(
            job,
            initial_priority=job_info.get("priority", PRIORITY_NONE),
            background=background,
            max_attempts=max_retries + 1,
        )

    def establish_request_connection(self, current_request: Any) -> Any:
        """
        Return the connection by which a request is sent next.

        Equal uniques go to the same job server while it can be reached, so that it can merge the jobs.

        Raises:
            ServerUnavailable: If each job server was tried in vain.
        """
        queue = self.request_to_rotating_connection_queue.get(current_request)
        if queue is None:
            queue = deque(self.connection_list)
            queue.rotate(-zlib.crc32(to_bytes(current_request.job.unique)) % max(len(queue), 1))
            self.request_to_rotating_connection_queue[current_request] = queue
        if not queue:
            del self.request_to_rotating_connection_queue[current_request]
            raise self._make_unavailable()
        return queue[0]

    def send_job_request(self, current_request: Any) -> Any:
        """
        Submit a request, and return it. Raises as :meth:`submit_job`.

        A request that was not sent, because its job server could not be reached, gets another one while this client
        waits; that is not counted as an attempt.
        """
        if current_request.connection_attempts >= current_request.max_connection_attempts:
            raise self.flavour.errors.attempts(
                f"Exceeded {current_request.max_connection_attempts} connection attempt(s) :: {current_request!r}"
            )
        connection = self.establish_request_connection(current_request)
        data = self.data_encoder.encode(current_request.job.data)
        submission = Submission(current_request, connection, self.__submissions, self.flavour, self.__decode)
        self.__submissions.start(submission, data)
        return current_request

    def __decode(self, data: bytes) -> Any:
        return self.data_encoder.decode(self.flavour.from_bytes(data))

    # Status.

    def get_job_status(self, current_request: Any, poll_timeout: float | None = None) -> Any:
        """Ask the job server of a request for its ``status``; see :meth:`get_job_statuses`."""
        return unlist(self.get_job_statuses([current_request], poll_timeout))

    def get_job_statuses(self, job_requests: Requests, poll_timeout: float | None = None) -> Requests:
        """
        Ask the job servers of requests for their ``status``, and return the requests.

        If the time is over before the answer has arrived, ``timed_out`` is true, and ``status`` is unchanged.

        Raises:
            InvalidClientState: If one has not been accepted.
            ServerUnavailable: If a job server did not answer, and none is connected.
        """
        _check_collection(job_requests)
        requests_of: dict[Any, list[Any]] = {}
        for request in job_requests:
            connection = request.job.connection
            if connection is None or request.job.handle is None:
                raise self.flavour.errors.client_state(f"{request!r} has no status: no job server has accepted it")
            request.status["last_time_received"] = request.status.get("time_received")
            requests_of.setdefault(connection, []).append(request)
        self.__awaiting_status.update(job_requests)
        for connection, requests in requests_of.items():
            connection.connected = True  # or about to be
            # Only another thread can stop to wait in time.
            threading.Thread(target=self.__ask, args=(connection, requests), daemon=True).start()
        return self.wait_until_job_statuses_received(job_requests, poll_timeout)

    def wait_until_job_statuses_received(self, job_requests: Requests, poll_timeout: float | None = None) -> Requests:
        """Wait for the answers to :meth:`get_job_statuses`; raises the same."""
        _check_collection(job_requests)

        def is_awaited(_: bool) -> bool:
            return any(request in self.__awaiting_status for request in job_requests)

        self.poll_connections_until_stopped(self.connection_list, is_awaited, poll_timeout)
        for request in job_requests:
            request.timed_out = request.status.get("time_received") == request.status.get("last_time_received")
        if any(request.timed_out and request not in self.__awaiting_status for request in job_requests):
            self._check_connected(self.connection_list)
        return job_requests

    def __ask(self, connection: Any, requests: list[Any]) -> None:
        for request in requests:
            try:
                status = connection.client.get_status(JobHandle(connection.address, to_text(request.job.handle)))
            except (GearmanError, ValueError) as error:
                self._event_queue.put(partial(self.__on_no_status, request, error))
            else:
                self._event_queue.put(partial(self.__on_status, request, status))

    def __on_status(self, request: Any, status: JobStatus) -> None:
        self.__awaiting_status.discard(request)
        request.job.connection.connected = True
        request.status = make_status(request, status)

    def __on_no_status(self, request: Any, error: Exception) -> None:
        self.__awaiting_status.discard(request)
        request.job.connection.connected = False
        logger.warning("no status of %r: %s", request, error)

    def shutdown(self) -> None:
        """Close all connections. Requests remain as they are; the next call connects again."""
        self.__submissions.clear()
        self.__awaiting_status.clear()
        super().shutdown()


def _has_ended(request: Any) -> bool:
    return bool(request.complete) or request.state in (JOB_FAILED, JOB_UNKNOWN)


def _is_any_left(remaining: list[Any], has_settled: Callable[[Any], bool]) -> bool:
    """Drop what has settled from the end, so that many calls together take no longer than one that looks at each."""
    while remaining and has_settled(remaining[-1]):
        remaining.pop()
    return bool(remaining)


def _check_collection(items: object) -> None:
    if not isinstance(items, list | tuple | set):
        raise AssertionError(f"expected a list, tuple or set, got {items!r}")
