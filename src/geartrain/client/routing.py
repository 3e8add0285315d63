"""Chooses the job server for a task."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol, TypeAlias, TypeVar, cast

from geartrain.client.task import Task, spec_of

__all__ = ["BALANCES", "Balance", "Chooser", "hash_index", "make_chooser", "routing_key"]

Balance: TypeAlias = (
    Literal["random", "round-robin", "least-outstanding", "first"] | Callable[[Task, Sequence[str]], str]
)


class Server(Protocol):
    """What the choice of a job server depends on."""

    name: str

    @property
    def outstanding(self) -> int:
        """The number of jobs that were sent to it and have not ended."""

    @property
    def waiting(self) -> int:
        """The number of jobs that are yet to be sent to it."""


S = TypeVar("S", bound=Server)
Chooser: TypeAlias = Callable[[Task, Sequence[S]], S]


def routing_key(task: Task) -> bytes:
    """Return the key that decides where a task goes, so that equal work is merged; empty if any server will do."""
    unique = spec_of(task).unique
    return task.workload if unique == b"-" else unique or b""


def hash_index(key: bytes, count: int) -> int:
    """
    Return the index of a key's job server among ``count`` configured ones.

    Source: ``Gearman::Task::hash`` and ``Gearman::Taskset`` of Perl's client, so that a mixed fleet agrees.
    """
    from zlib import crc32  # most programs do not need it

    return ((crc32(key) >> 16) & 0x7FFF) % count


def _at_random(task: Task, servers: Sequence[S]) -> S:
    import random  # most programs do not need it, and loading it takes time

    return servers[int(random.random() * len(servers))]


def _least_outstanding(task: Task, servers: Sequence[S]) -> S:
    # Waiting jobs count as well; otherwise all jobs submitted before there is a connection would go to one server.
    return min(servers, key=lambda server: server.outstanding + server.waiting)


def _first(task: Task, servers: Sequence[S]) -> S:
    return servers[0]


def _round_robin() -> Callable[[Task, Sequence[S]], S]:
    counter = itertools.count()

    def choose(task: Task, servers: Sequence[S]) -> S:
        return servers[next(counter) % len(servers)]

    return choose


def _by_function(choose: Callable[[Task, Sequence[str]], str]) -> Callable[[Task, Sequence[S]], S]:
    def chosen(task: Task, servers: Sequence[S]) -> S:
        names = tuple(server.name for server in servers)
        try:
            name = choose(task, names)
        except StopIteration as error:  # from a next() without a result; a future does not accept it
            raise RuntimeError(f"balance raised {error!r}") from error
        if name not in names:
            raise ValueError(f"balance returned {name!r}, which is not one of the live job servers {', '.join(names)}")
        return servers[names.index(name)]

    return chosen


BALANCES: Final = ("random", "round-robin", "least-outstanding", "first")


def make_chooser(balance: Balance) -> Callable[[Task, Sequence[S]], S]:
    """
    Return the function that chooses among live job servers for a task that may go to any of them.

    Raises:
        ValueError: If the name is unknown.
        TypeError: If it is neither a string nor a function.
    """
    if callable(balance):
        return _by_function(balance)
    if not isinstance(balance, str):
        raise TypeError(f"balance must be one of {', '.join(BALANCES)} or a function, got {balance!r}")
    if balance == "round-robin":
        return _round_robin()
    choosers = {"random": _at_random, "least-outstanding": _least_outstanding, "first": _first}
    if balance not in choosers:
        raise ValueError(f"balance must be one of {', '.join(BALANCES)} or a function, got {balance!r}")
    return cast("Callable[[Task, Sequence[S]], S]", choosers[balance])
