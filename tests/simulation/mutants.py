"""Faults that are added to the library on purpose, to check that the simulation finds them."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any, NamedTuple


class Mutant(NamedTuple):
    """
    One changed line.

    Attributes:
        seeds: How many seeds to try; a fault that few runs reach needs more.
        seed: A seed that finds the fault in a short run; it is tried first.
    """

    name: str
    module: str
    old: str
    new: str
    seeds: int = 60
    seed: int = 0


MUTANTS = (
    Mutant(
        "an abandoned submission loses its place in the queue of replies",
        "geartrain.protocol.client",
        "self._pending_replies[index] = self._results.discard_handler_for(handler)",
        "del self._pending_replies[index]",
        seed=40,
    ),
    Mutant(
        "the queue of replies is off by one",
        "geartrain.protocol.client",
        "index = ticket - self._next_ticket + len(self._pending_replies)",
        "index = ticket - self._next_ticket + len(self._pending_replies) - 1",
        seed=40,
    ),
    Mutant(
        "a merged submission replaces the previous one",
        "geartrain.protocol.results",
        "found.add(handler)",
        "found.replace(list(found)[-1], handler)",
        seed=46,
    ),
    Mutant(
        "jobs that have a handle are not notified of a lost connection",
        "geartrain.protocol.client",
        "        yield from self._results.pop_handlers()\n",
        "        yield from ()\n",
        seed=11,
    ),
    Mutant(
        "one retry too many",
        "geartrain.client.submission",
        "        if self.tries > self.spec.options.retry_count or",
        "        if self.tries > self.spec.options.retry_count + 1 or",
        seed=46,
    ),
    Mutant(
        "the end of a job is not counted",
        "geartrain.client.submission",
        "        server.counters.completed += 1\n",
        "        server.counters.completed += 0\n",
        seed=24,
    ),
    Mutant(
        "a job that waits for room is not sent when another job ends",
        "geartrain.client.submission",
        "in this turn of the loop\n        if server.needs_advance:\n",
        "in this turn of the loop\n        if False:\n",
        seed=66,
    ),
    Mutant(
        "a deadline is checked only once",
        "geartrain.client.deadlines",
        "                    heapq.heappush(self._heap, (deadline, duration))\n",
        "                    pass\n",
    ),
    Mutant(
        "the timeout of a try never starts",
        "geartrain.client.channel",
        "            self.scheduler.timeouts.start_try(submission, seconds)\n",
        "            pass\n",
        seed=13,
    ),
    Mutant(
        "connecting has no timeout",
        "geartrain.client.connector",
        "timeout=config.connect_timeout,",
        "timeout=None,",
        seed=2,
    ),
    Mutant(
        "a cancelled job is not forgotten",
        "geartrain.client.channel",
        "            protocol.forget(submission)\n",
        "            pass\n",
        seed=24,
    ),
    Mutant(
        "a job that has finally failed has a result",
        "geartrain.client.submission",
        "_set_exception(future, error)",
        "_set_result(future, b'')",
        seed=7,
    ),
    Mutant(
        "a batch of a map is acknowledged in another order",
        "geartrain.client.submission_batch",
        "zip(handles, range(begin, end), strict=True)",
        "zip(handles, reversed(range(begin, end)), strict=True)",
        seed=54,
    ),
    Mutant(
        "jobs of a batch lose their handles with the connection",
        "geartrain.protocol.results",
        "                    yield handler, handle\n",
        "                    yield handler, None\n",
        seeds=200,
        seed=162,
    ),
    Mutant(
        "a map retries the wrong workload",
        "geartrain.client.submission_batch",
        "self._workloads[place], self._scheduler)",
        "self._workloads[place - 1], self._scheduler)",
        seed=31,
    ),
    Mutant(
        "the jobs of a map that is left are not counted as cancelled",
        "geartrain.client.submission_batch",
        "        server.counters.cancelled += outstanding\n",
        "        server.counters.cancelled += 0\n",
        seed=89,
    ),
    Mutant(
        "drain does not return",
        "geartrain.client.dispatcher",
        "                if not drained.done():\n",
        "                if False:\n",
        seed=60,
    ),
    Mutant(
        "a removed server is never dropped",
        "geartrain.client.channel",
        "        if self.is_retiring and self.is_idle:\n            self.scheduler.on_channel_idle(self)\n",
        "        pass\n",
    ),
    Mutant(
        "a job that was sent is reported as never sent",
        "geartrain.client.submission",
        "        if details.failure is None:\n",
        "        if True:\n",
        seed=5,
    ),
    Mutant(
        "retries are counted from 0",
        "geartrain.client.submission",
        'self.callbacks.schedule("on_retry", details.tries)',
        'self.callbacks.schedule("on_retry", details.tries - 1)',
        seed=46,
    ),
    Mutant(
        "a response to another request is accepted",
        "geartrain.protocol.client",
        "if handler.expects != kind:",
        "if False:",
        seeds=200,
        seed=74,
    ),
    Mutant(
        "a dead connection is never detected",
        "geartrain.protocol.heartbeat",
        "return Verdict.LOST if now - self._pending_since >= self._interval else Verdict.ALIVE",
        "return Verdict.ALIVE",
        seed=13,
    ),
    Mutant(
        "a worker sleeps through its wake-up",
        "geartrain.protocol.worker",
        "        slept = self.state is WorkerState.SLEEPING\n        self._move_by_receiving(PacketType.NOOP)\n",
        "        slept = False\n",
        seed=46,
    ),
    Mutant(
        "the job of a lost worker is not queued again",
        "geartrain.protocol.server.job_queue",
        "        job.numerator = job.denominator = 0\n        self._enqueue(job)\n",
        "        job.numerator = job.denominator = 0\n",
        seed=3,
    ),
    Mutant(
        "the beginning of a packet is dropped",
        "geartrain.protocol.decoder",
        "                self._chunks.append(data)\n",
        "                self._chunks.append(data[1:])\n",
        seed=24,
    ),
    # Full queues.
    Mutant(
        "a refusal leaves its job in the queue of replies",
        "geartrain.protocol.client",
        "                self._advance()\n                first.on_refused(code, text)\n",
        "                first.on_refused(code, text)\n",
        seed=28,
    ),
    Mutant(
        "a refusal ends a job that has tries left",
        "geartrain.client.submission",
        "self._fail_try(job_errors.server_refused(",
        "self._fail_locally(job_errors.server_refused(",
        seed=60,
    ),
    Mutant(
        "a refusal is attributed to another job of the map",
        "geartrain.client.submission_batch",
        "            place = self._created\n            self._created += 1\n",
        "            self._created += 1\n            place = self._created % len(self._results)\n",
        seed=23,
    ),
    # Lost jobs.
    Mutant(
        "a lost job is not ended",
        "geartrain.protocol.job_liveness",
        "                handler.on_unknown(handle)\n",
        "                pass\n",
        seed=64,
    ),
    Mutant(
        "a job that its server knows is considered lost",
        "geartrain.protocol.job_liveness",
        'arguments[1] != b"0"',
        'arguments[1] == b"0"',
        seed=13,
    ),
    Mutant(
        "stale jobs are probed half as often",
        "geartrain.client.session",
        "elif self._heartbeat_count % (CHECKS_PER_INTERVAL // 2) == 0:",
        "elif self._heartbeat_count % CHECKS_PER_INTERVAL == 0:",
        seed=64,
    ),
    Mutant(
        "the reply to one probe does not lead to the next",
        "geartrain.protocol.job_liveness",
        "                handler.on_unknown(handle)\n        self._send_next()\n",
        "                handler.on_unknown(handle)\n",
        seed=2,
    ),
    Mutant(
        "more probes are open than allowed",
        "geartrain.protocol.job_liveness",
        "range(max_open - self._open)",
        "range(max_open)",
        seed=49,
    ),
    # Back-pressure.
    Mutant(
        "jobs are sent although the connection is not writable",
        "geartrain.client.channel",
        "if session is None or self._waiting or not session.connection.writable:",
        "if session is None or self._waiting:",
        seed=64,
    ),
    Mutant(
        "waiting jobs are not sent when the connection becomes writable",
        "geartrain.client.session",
        "        self._listener.advance()\n",
        "        pass\n",
        seed=64,
    ),
    Mutant(
        "a map reads further ahead than it may",
        "geartrain.client.map_results",
        "_pull(source, limit - len(window))",
        "_pull(source, limit)",
        seed=64,
    ),
    Mutant(
        "a slow consumer of updates does not pause reading",
        "geartrain.client.updates",
        "            connection.pause_reading()\n",
        "            pass\n",
        seed=0,
    ),
    Mutant(
        "a consumer of updates that has caught up does not resume reading",
        "geartrain.client.updates",
        "            self._paused.resume_reading()\n",
        "            pass\n",
        seed=0,
    ),
    Mutant(
        "a worker does not wait until its updates are sent",
        "geartrain.worker.session",
        "        if not self.connection.writable and not self.is_closed:\n            resumed",
        "        if False:\n            resumed",
        seed=0,
    ),
    Mutant(
        "a job server goes on reading although its responses are not read",
        "geartrain.server.peer_connections",
        "        elif not self.connection.writable:\n",
        "        elif False:\n",
        seed=1,
    ),
    Mutant(
        "a job server that has paused requests does not resume them",
        "geartrain.server.peer_connections",
        '        """Continue with the requests of a peer that reads again."""\n        self._continue_requests()\n',
        '        """Continue with the requests of a peer that reads again."""\n',
        seed=1,
    ),
    Mutant(
        "a job server lets unread responses pile up",
        "geartrain.server.peer_connections",
        "if not connection.writable and connection.unsent > max_backlog:",
        "if False:",
        seed=41,
    ),
    # Oversize bodies.
    Mutant(
        "a job with an oversize result has tries left",
        "geartrain.client.submission",
        "        self.fail(job_errors.job_too_large(",
        "        self._fail_try(job_errors.job_too_large(",
        seed=3,
    ),
    Mutant(
        "skipping an oversize packet also skips the beginning of the next",
        "geartrain.protocol.decoder",
        "self._long = SkippedPacket(length - position, end - length)",
        "self._long = SkippedPacket(length - position, end - length + 1)",
        seeds=200,
        seed=13,
    ),
    Mutant(
        "an oversize packet closes the connection",
        "geartrain.protocol.decoder",
        "if kind not in self._skipped or size > _MAX_SKIPPED * self._max_size:",
        "if True:",
        seed=0,
    ),
    Mutant(
        "an oversize update does not end its job",
        "geartrain.protocol.results",
        "self._replace(handle, handler, DiscardHandler(self._count_late, merges=True))",
        "pass",
        seed=50,
    ),
    Mutant(
        "a job with an oversize workload is not ended by the worker",
        "geartrain.protocol.worker",
        "            self.send_exception(job, _exception_text(error))\n",
        "            pass\n",
        seed=10,
    ),
    Mutant(
        "a worker sends an oversize result",
        "geartrain.protocol.worker",
        '            raise _too_large("result", len(data), self._max_size)\n',
        "            pass\n",
        seed=40,
    ),
    Mutant(
        "a job server does not answer an oversize submission",
        "geartrain.protocol.server.requests",
        "    _send_error(peer, _UNIQUE_TOO_LARGE if len(unique) > MAX_UNIQUE else _WORKLOAD_TOO_LARGE)\n",
        "",
        seed=93,
    ),
    Mutant(
        "a job server gives a job with an oversize result to another worker",
        "geartrain.protocol.server.requests",
        "    return broker.finish_job(job, PacketType.WORK_FAIL, job.handle)\n",
        "    return broker.reclaim_job(job)\n",
        seed=46,
    ),
    Mutant(
        "a job server sends packets that follow dropped ones",
        "geartrain.protocol.server.peer",
        "        self.take_outgoing()\n        self._max_backlog = 0\n",
        "        self.take_outgoing()\n",
        seeds=200,
        seed=28,
    ),
    # Generated uniques.
    Mutant(
        "each try of a background job has another unique",
        "geartrain.client.submission_sender",
        "if spec.is_anonymous and submission.unique is None:",
        "if spec.is_anonymous:",
        seed=29,
    ),
)


@contextlib.contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """Run the library with one line changed."""
    module = importlib.import_module(mutant.module)
    source = inspect.getsource(module)
    assert source.count(mutant.old) == 1, f"{mutant.name}: the line to change must occur exactly once: {mutant.old!r}"
    changed = ModuleType(mutant.module)
    # Dataclasses of the changed module look up their module by name while they are created.
    sys.modules[mutant.module] = changed
    try:
        exec(compile(source.replace(mutant.old, mutant.new), f"<{mutant.name}>", "exec"), vars(changed))
    finally:
        sys.modules[mutant.module] = module
    undo = _swap(vars(module), vars(changed))
    assert undo, f"{mutant.name}: nothing was changed"
    try:
        yield
    finally:
        for restore in reversed(undo):
            restore()


def _swap(namespace: dict[str, Any], changed: dict[str, Any]) -> list[Callable[[], None]]:
    """Put the changed code into the functions; return the callbacks that restore the old code."""
    undo: list[Callable[[], None]] = []
    for name, new in changed.items():
        old = namespace.get(name)
        if isinstance(old, property):
            old, new = old.fget, new.fget
        if isinstance(old, FunctionType) and isinstance(new, FunctionType):
            if old.__code__ != new.__code__:
                undo.append(functools.partial(setattr, old, "__code__", old.__code__))
                old.__code__ = new.__code__
        elif isinstance(old, type) and isinstance(new, type) and old.__module__ == new.__module__:
            undo += _swap(dict(vars(old)), dict(vars(new)))
    return undo
