"""The promises, and whether they were kept."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from geartrain import (
    ClientDisconnectedError,
    ConnectionLostError,
    GearmanError,
    Job,
    JobExceptionError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    NoServersError,
    ServerError,
)
from geartrain.client.link import Link
from geartrain.client.plain import Plain
from tests.simulation.asking import Asked, OopsError
from tests.simulation.faults import HEARTBEAT
from tests.support.owners import owners

if TYPE_CHECKING:
    from tests.simulation.world import World

CONNECT_TIMEOUT = 2.0
TICK = 0.5  # seconds between two looks


class Judge:
    """Looks at a world from time to time, and at its end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._connecting: dict[asyncio.Task[None], float] = {}  # since when it was seen

    # All along.

    async def audit(self) -> None:
        """See again and again that nothing waits in vain."""
        while True:
            await asyncio.sleep(TICK)
            for user in self.world.users:
                if user.client._pool is not None:
                    for link in user.client._pool.links:
                        self._audit_link(link)
            for asked in self.world.asked:
                if asked.job is not None and not asked.job.done():
                    self._audit_job(asked, asked.job)

    def _audit_link(self, link: Link) -> None:
        session = link.session
        has_room = session is not None and session.connection.writable and not link._full
        assert not (link.waiting and has_room), f"{link.waiting} jobs wait at {link.name} although there is room"
        owed = (
            sum(isinstance(owner, Job | Plain) for owner in owners(link.protocol)) if link.protocol is not None else 0
        )
        assert link.outstanding == owed, f"{link.name} has {link.outstanding} jobs outstanding, and owes {owed}"
        bound = link.pool.options.max_outstanding
        assert bound is None or owed <= bound, f"{owed} jobs are outstanding at {link.name}, and may be {bound}"
        assert not (link.leaving and link.idle), f"{link.name} was dropped, has nothing to do, and is still there"
        if link._connecting is not None:
            taken = self.world.loop.time() - self._connecting.setdefault(link._connecting, self.world.loop.time())
            assert taken <= CONNECT_TIMEOUT, f"to connect to {link.name} has taken {taken} s"

    def _audit_job(self, asked: Asked, job: Job) -> None:
        """See that it does not wait on a wire that has been dead for long, nor for longer than its try may take."""
        link = job._link
        if link is None or link.session is None or job._ticket is None:
            return
        now, traffic = self.world.loop.time(), self.world.traffic
        submitted_at = traffic.submitted_at.get(asked.name, math.inf)
        wire: Any = link.session.connection._transport
        silent_since = self.world.silent_since.get(wire)
        if silent_since is not None:
            waited = now - max(silent_since, submitted_at, asked.told_at)
            assert waited < 3.5 * HEARTBEAT, f"{asked.name} has waited {waited} s on a dead wire to {link.name}"
        alone = self.world.allowed[asked.name] == asked.task.retry_count + 1  # else which submission was whose?
        if alone and asked.task.try_timeout is not None and traffic.submitted[asked.name] == job.tries:
            waited = now - submitted_at
            assert waited <= asked.task.try_timeout + 0.01, f"a try of {asked.name} has taken {waited} s"

    # At the end.

    def judge(self) -> None:
        """See that every job came to a right end, and that nothing is left."""
        world = self.world
        unhandled = [context for context in world.loop.unhandled if not isinstance(context.get("exception"), OopsError)]
        assert not unhandled, f"unhandled: {unhandled}"
        assert not world.loop.left(), f"timers are left: {world.loop.left()}"
        assert not world.network.wires, f"connections are left: {[str(wire) for wire in world.network.wires]}"
        for name, count in world.traffic.submitted.items():
            assert count <= world.allowed[name], f"{name} was submitted {count} times, not {world.allowed[name]}"
        for asked in world.asked:
            self._judge_job(asked)
        if not world.faults:
            self._judge_calm()

    def _judge_job(self, asked: Asked) -> None:
        job, name = asked.job, asked.name
        assert job is not None
        assert job.done(), f"{name} has not ended"
        self._judge_told(asked)
        if job.cancelled():
            assert asked.cancelled, f"{name} was cancelled by nobody"
            return
        error = job.exception()
        assert (error is None) == (asked.told[-1] == "complete")
        if isinstance(error, NoServersError):
            merged = sum(other.name == name for other in self.world.asked) > 1
            sent = self.world.traffic.submitted[name] or self.world.ran[name]
            assert merged or not sent, f"{name} was said not to have been sent, and was"
        if error is not None:
            self._judge_error(asked, error)

    def _judge_told(self, asked: Asked) -> None:
        """See that its callbacks ran in order: each try in turn, and one end, last."""
        retries, created = 0, False
        for what in asked.told[:-1]:
            if what.startswith("retry"):
                retries, created = retries + 1, False
                assert what == f"retry {retries}", f"{asked.name} was told of its retries out of order: {asked.told}"
            else:
                assert created == (what != "created"), f"{asked.name} was told things out of order: {asked.told}"
                created = True
        assert asked.told[-1] in ("complete", "fail"), f"the end of {asked.name} was not told last: {asked.told}"
        assert created or asked.told[-1] == "fail", f"{asked.name} was complete before it had a handle: {asked.told}"

    def _judge_error(self, asked: Asked, error: BaseException) -> None:
        assert isinstance(error, GearmanError), f"{asked.name} ended with {error!r}"
        if isinstance(error, JobFailedError):
            assert asked.outcome == "fail"
        elif isinstance(error, JobExceptionError):
            assert asked.outcome == "raise"
        elif isinstance(error, JobTimeoutError):
            assert asked.task.timeout is not None or asked.task.try_timeout is not None
        elif isinstance(error, ClientDisconnectedError):
            assert self.world.disconnects
        else:
            assert isinstance(error, ConnectionLostError | JobLostError | NoServersError | ServerError)
            assert self.world.faults, f"without a fault {asked.name} ended with {error!r}"

    def _judge_calm(self) -> None:
        names = Counter(asked.name for asked in self.world.asked)
        for asked in self.world.asked:
            if asked.cancelled or asked.task.timeout or asked.task.try_timeout or names[asked.name] > 1:
                continue
            tries = 1 if asked.outcome in ("complete", "talk") else asked.task.retry_count + 1
            if asked.task.background:
                tries = 1
            ran = self.world.ran[asked.name]
            assert ran == tries, f"{asked.name} ran {ran} times"
