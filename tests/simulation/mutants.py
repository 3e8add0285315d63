"""Faults put into the library on purpose, to see that the simulation finds such ones."""

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
        seed: One that finds the fault in a short run; it is tried first.
    """

    name: str
    module: str
    old: str
    new: str
    seeds: int = 60
    seed: int = 0


MUTANTS = (
    Mutant(
        "an abandoned submission loses its place in the line",
        "geartrain.protocol.client",
        "self._pending_replies[index] = self._results.discard_handler_for(handler)",
        "del self._pending_replies[index]",
        seed=40,
    ),
    Mutant(
        "the line of replies is off by one",
        "geartrain.protocol.client",
        "index = ticket - self._next_ticket + len(self._pending_replies)",
        "index = ticket - self._next_ticket + len(self._pending_replies) - 1",
        seed=40,
    ),
    Mutant(
        "a merged submission takes the place of the one before",
        "geartrain.protocol.results",
        "found.add(handler)",
        "found.replace(list(found)[-1], handler)",
        seed=46,
    ),
    Mutant(
        "jobs that have a handle are not told of a lost connection",
        "geartrain.protocol.client",
        "        yield from self._results.pop_handlers()\n",
        "        yield from ()\n",
        seed=11,
    ),
    Mutant(
        "a retry too many",
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
        "what waits for room is not sent when a job ends",
        "geartrain.client.submission",
        "in this turn of the loop\n        if server.needs_advance:\n",
        "in this turn of the loop\n        if False:\n",
        seed=66,
    ),
    Mutant(
        "a deadline is swept once only",
        "geartrain.client.deadlines",
        "                    heapq.heappush(self._heap, (deadline, duration))\n",
        "                    pass\n",
        seed=24,
    ),
    Mutant(
        "the time for a try never begins",
        "geartrain.client.channel",
        "            self.scheduler.timeouts.start_try(submission, seconds)\n",
        "            pass\n",
        seed=13,
    ),
    Mutant(
        "to connect may take for ever",
        "geartrain.client.connector",
        "timeout=config.connect_timeout,",
        "timeout=None,",
        seed=96,
    ),
    Mutant(
        "a job that is cancelled is not forgotten",
        "geartrain.client.channel",
        "            protocol.forget(submission)\n",
        "            pass\n",
        seed=24,
    ),
    Mutant(
        "a job that has failed for good has a result",
        "geartrain.client.submission",
        "_set_exception(future, error)",
        "_set_result(future, b'')",
        seed=7,
    ),
    Mutant(
        "what a map sends together is told in another order",
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
        seed=134,
    ),
    Mutant(
        "what a map tries again is another workload",
        "geartrain.client.submission_batch",
        "self._workloads[place], self._scheduler)",
        "self._workloads[place - 1], self._scheduler)",
        seed=54,
    ),
    Mutant(
        "a map that is left leaves its jobs behind",
        "geartrain.client.submission_batch",
        "        server.counters.cancelled += outstanding\n",
        "        server.counters.cancelled += 0\n",
        seed=5,
    ),
    Mutant(
        "nobody who drains is told of the end",
        "geartrain.client.dispatcher",
        "                if not drained.done():\n",
        "                if False:\n",
        seed=60,
    ),
    Mutant(
        "a server that was dropped is never let go of",
        "geartrain.client.channel",
        "        if self.is_retiring and self.is_idle:\n            self.scheduler.on_channel_idle(self)\n",
        "        pass\n",
        seed=64,
    ),
    Mutant(
        "a job that was sent is said not to have been",
        "geartrain.client.submission",
        "        if details.failure is None:\n",
        "        if True:\n",
        seed=93,
    ),
    Mutant(
        "retries are counted from 0",
        "geartrain.client.submission",
        'self.callbacks.schedule("on_retry", details.tries)',
        'self.callbacks.schedule("on_retry", details.tries - 1)',
        seed=46,
    ),
    Mutant(
        "an answer to something else is believed",
        "geartrain.protocol.client",
        "if handler.expects != kind:",
        "if False:",
        seeds=200,
        seed=88,
    ),
    Mutant(
        "a dead connection is never noticed",
        "geartrain.protocol.heartbeat",
        "return Verdict.LOST if now - self._pending_since >= self._interval else Verdict.ALIVE",
        "return Verdict.ALIVE",
        seed=92,
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
        seed=24,
    ),
    Mutant(
        "the beginning of a packet is forgotten",
        "geartrain.protocol.decoder",
        "                self._chunks.append(data)\n",
        "                self._chunks.append(data[1:])\n",
        seed=24,
    ),
    # Full queues.
    Mutant(
        "a refusal leaves its job in the line of replies",
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
        "a refusal is taken for that of another job of the map",
        "geartrain.client.submission_batch",
        "            place = self._created\n            self._created += 1\n",
        "            self._created += 1\n            place = self._created % len(self._results)\n",
        seed=45,
    ),
    # Lost jobs.
    Mutant(
        "a job that was lost is not ended",
        "geartrain.protocol.job_liveness",
        "                handler.on_unknown(handle)\n",
        "                pass\n",
        seed=64,
    ),
    Mutant(
        "a job that its server knows is taken for lost",
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
        seed=39,
    ),
    Mutant(
        "more probes are open than allowed",
        "geartrain.protocol.job_liveness",
        "range(max_open - self._open)",
        "range(max_open)",
        seed=8,
    ),
    # Back-pressure.
    Mutant(
        "jobs are sent although the connection takes no more",
        "geartrain.client.channel",
        "if session is None or self._waiting or not session.connection.writable:",
        "if session is None or self._waiting:",
        seed=64,
    ),
    Mutant(
        "jobs that wait are not sent when the connection takes more",
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
        "a slow consumer of updates holds nothing back",
        "geartrain.client.updates",
        "            connection.pause_reading()\n",
        "            pass\n",
        seed=21,
    ),
    Mutant(
        "a consumer of updates that has caught up holds the connection back",
        "geartrain.client.updates",
        "            self._paused.resume_reading()\n",
        "            pass\n",
        seed=21,
    ),
    Mutant(
        "a worker does not wait until its updates are taken",
        "geartrain.worker.session",
        "        if not self.connection.writable and not self.is_closed:\n            resumed",
        "        if False:\n            resumed",
        seed=21,
    ),
    Mutant(
        "a job server reads on although its answers are not read",
        "geartrain.server.peer_connections",
        "        elif not self.connection.writable:\n",
        "        elif False:\n",
        seed=21,
    ),
    Mutant(
        "a job server that has stopped reading does not go on",
        "geartrain.server.peer_connections",
        '        """Continue with the requests of a peer that reads again."""\n        self._continue_requests()\n',
        '        """Continue with the requests of a peer that reads again."""\n',
        seed=93,
    ),
    Mutant(
        "a job server lets answers pile up unread",
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
        seed=66,
    ),
    Mutant(
        "an oversize packet takes the beginning of the next one with it",
        "geartrain.protocol.decoder",
        "self._long = SkippedPacket(length - position, end - length)",
        "self._long = SkippedPacket(length - position, end - length + 1)",
        seeds=200,
        seed=39,
    ),
    Mutant(
        "an oversize packet costs the connection",
        "geartrain.protocol.decoder",
        "if kind not in self._skipped or size > _MAX_SKIPPED * self._max_size:",
        "if True:",
        seed=66,
    ),
    Mutant(
        "an oversize update lets its job go on",
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
        seed=6,
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
        "a job server sends what comes after a gap",
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
    """Have the library run with one line changed."""
    module = importlib.import_module(mutant.module)
    source = inspect.getsource(module)
    assert source.count(mutant.old) == 1, f"{mutant.name}: the line to change is not there once: {mutant.old!r}"
    changed = ModuleType(mutant.module)
    # Classes of the changed module look themselves up by their module's name while they are made.
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
        for take_back in reversed(undo):
            take_back()


def _swap(namespace: dict[str, Any], changed: dict[str, Any]) -> list[Callable[[], None]]:
    """Put the changed code into the functions; return what puts the old code back."""
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
