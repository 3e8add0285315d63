"""Both interfaces have the same names, arguments, results, descriptions and errors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import geartrain
from geartrain import blocking

CLASSES = ("Client", "Admin", "AdminGroup", "JobServer", "Worker")
# Names of asyncio alone: an event loop, and what `with` and `close` replace.
ONLY_ASYNC = {"Client": {"loop", "bind", "aclose"}, "Worker": set()}
ONLY_BLOCKING = {"close", "timeout"}
# Methods whose arguments differ, because one side has a thread of the caller's.
OWN_ARGUMENTS = {("Worker", "run")}
# What both sides call the same thing.
WORDS = {
    r"AsyncGenerator\[(.*), None\]": r"Iterator[\1]",
    r"Workloads": "Iterable[bytes | str]",
    r"Awaitable\[T\]": "T",
    r"``async with``": "``with``",
    r"\baclose\b": "close",
    r"await group": "group",
    r"\b(OnTimeout)\b": "Literal['exception', 'fail']",
    r"\bRunState\b": "Literal['idle', 'running', 'stopping']",
}


def public_names(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def unify(text: str) -> str:
    for pattern, word in WORDS.items():
        text = re.sub(pattern, word, text)
    return re.sub(r"\s+", " ", text).replace('"', "'")


def signature(member: object) -> str:
    if isinstance(member, property):
        assert member.fget is not None
        member = member.fget
    assert callable(member)
    return unify(str(inspect.signature(member)))


METHODS = [
    (kind, name)
    for kind in CLASSES
    for name in sorted(public_names(getattr(geartrain, kind)) - ONLY_ASYNC.get(kind, {"aclose"}))
]


@pytest.mark.parametrize("kind", CLASSES)
def test_both_sides_have_the_same_names(kind: str) -> None:
    ours, theirs = public_names(getattr(blocking, kind)), public_names(getattr(geartrain, kind))
    assert ours - ONLY_BLOCKING == theirs - ONLY_ASYNC.get(kind, {"aclose"})


@pytest.mark.parametrize("kind", ["Client", "Admin", "AdminGroup", "JobServer"])
def test_the_constructors_take_the_same_arguments_with_the_same_defaults(kind: str) -> None:
    """Where the core names a constant, its value counts."""
    ours = inspect.signature(getattr(blocking, kind))
    theirs = inspect.signature(getattr(geartrain, kind))
    assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
        (p.name, p.kind, p.default) for p in theirs.parameters.values()
    ]


def test_the_workers_take_the_same_arguments() -> None:
    ours, theirs = inspect.signature(blocking.Worker), inspect.signature(geartrain.Worker)
    assert list(ours.parameters) == list(theirs.parameters)
    differing = [name for name in ours.parameters if ours.parameters[name].default != theirs.parameters[name].default]
    assert differing == ["format_exception"], "its default is a function of the core"


@pytest.mark.parametrize(("kind", "name"), [method for method in METHODS if method not in OWN_ARGUMENTS])
def test_a_method_has_the_same_signature(kind: str, name: str) -> None:
    ours, theirs = getattr(getattr(blocking, kind), name), getattr(getattr(geartrain, kind), name)
    assert signature(ours) == signature(theirs)


@pytest.mark.parametrize(("kind", "name"), [method for method in METHODS if method not in OWN_ARGUMENTS])
def test_a_method_has_the_same_description(kind: str, name: str) -> None:
    ours, theirs = getattr(getattr(blocking, kind), name), getattr(getattr(geartrain, kind), name)
    assert unify(inspect.getdoc(ours) or "") == unify(inspect.getdoc(theirs) or "")


@pytest.mark.parametrize("kind", CLASSES)
def test_no_method_is_a_coroutine(kind: str) -> None:
    for name in public_names(getattr(blocking, kind)):
        member = getattr(getattr(blocking, kind), name)
        assert not inspect.iscoroutinefunction(member)
        assert not inspect.isasyncgenfunction(member)


WRONG: dict[str, Callable[[Any], object]] = {
    "an address without a port number": lambda package: package.Client("a:b:c"),
    "an unknown option": lambda package: package.Client(colour="red"),
    "a negative timeout": lambda package: package.Client(connect_timeout=-1),
    "an option of the wrong type": lambda package: package.Client(prefix=5),
    "an admin's address": lambda package: package.Admin("a:b:c"),
    "a port out of range": lambda package: package.JobServer(port=99999),
    "a concurrency of 0": lambda package: package.Worker(concurrency=0),
    "no job server for a worker": lambda package: package.Worker([]),
    "a function that cannot be called": lambda package: package.Worker().function("a")("no function"),
    "a function with a NUL": lambda package: package.Worker().function("a\0b")(print),
    "a name in use": lambda package: register_twice(package),
    "a map with a limit of 0": lambda package: package.Client().map("f", [], limit=0),
    "a map with an unknown option": lambda package: package.Client().map("f", [], colour="red"),
    "a task without a function": lambda package: package.Client().check_task("f"),
}


def register_twice(package: Any) -> None:
    worker = package.Worker()
    worker.function("a")(print)
    worker.function("a")(print)


def error_of(call: Callable[[Any], object], package: Any) -> tuple[type[BaseException], str]:
    with pytest.raises(Exception) as caught:  # compared with that of the other side
        call(package)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_wrong_arguments_get_the_same_error(call: Callable[[Any], object]) -> None:
    assert error_of(call, blocking) == error_of(call, geartrain)
