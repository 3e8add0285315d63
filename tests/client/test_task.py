"""A task validates its arguments when it is created; the error names the invalid value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from geartrain import Priority, Task
from geartrain.client.task import spec_of
from geartrain.protocol.packets import PacketType


def nothing(*_: object) -> None:
    """A callback."""


def test_a_task_has_its_arguments_as_attributes() -> None:
    task = Task(
        "resize",
        "größe",
        unique="key",
        priority=Priority.HIGH,
        retry_count=2,
        timeout=30,
        try_timeout=1.5,
        on_complete=nothing,
        on_fail=None,
    )
    assert (task.function, task.workload, task.unique) == ("resize", "größe".encode(), "key")
    assert (task.priority, task.background, task.run_at) == (Priority.HIGH, False, None)
    assert (task.retry_count, task.timeout, task.try_timeout) == (2, 30, 1.5)
    assert task.callbacks == {"on_complete": nothing}
    assert repr(task) == "<Task resize [7 bytes]>"


def test_without_options_a_task_has_normal_priority_and_tries_once() -> None:
    task = Task("f")
    assert (task.workload, task.unique, task.priority) == (b"", None, Priority.NORMAL)
    assert (task.background, task.run_at, task.retry_count) == (False, None, 0)
    assert (task.timeout, task.try_timeout, dict(task.callbacks)) == (None, None, {})


@pytest.mark.parametrize(
    "name", ["function", "workload", "unique", "priority", "background", "retry_count", "timeout", "callbacks"]
)
def test_a_task_is_immutable(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Task("f"), name, "x")


def test_the_callbacks_of_a_task_cannot_be_changed() -> None:
    for task in (Task("f"), Task("f", on_complete=nothing)):
        callbacks: Any = task.callbacks
        with pytest.raises(TypeError):
            callbacks["on_fail"] = nothing
        assert "on_fail" not in task.callbacks
    assert not Task("f").callbacks


@pytest.mark.parametrize("workload", [b"a\0b", bytearray(b"a\0b"), memoryview(b"a\0b"), "a\0b"])
def test_a_workload_is_text_or_any_bytes_like_object(workload: Any) -> None:
    assert Task("f", workload).workload == b"a\0b"


def test_a_later_change_of_a_mutable_workload_has_no_effect() -> None:
    workload = bytearray(b"before")
    task = Task("f", workload)  # type: ignore[arg-type]  # wider than is promised
    workload[:] = b"after."
    assert task.workload == b"before"


def test_a_name_that_is_not_utf8_is_preserved() -> None:
    task = Task(b"f\xff", unique=b"u\xfe")
    assert task.function.encode("utf-8", "surrogateescape") == b"f\xff"
    assert Task(task.function, unique=task.unique).unique == task.unique == "u\udcfe"


@pytest.mark.parametrize(
    ("priority", "background", "kind"),
    [
        (Priority.HIGH, False, PacketType.SUBMIT_JOB_HIGH),
        (Priority.NORMAL, False, PacketType.SUBMIT_JOB),
        (Priority.LOW, False, PacketType.SUBMIT_JOB_LOW),
        (Priority.HIGH, True, PacketType.SUBMIT_JOB_HIGH_BG),
        (Priority.NORMAL, True, PacketType.SUBMIT_JOB_BG),
        (Priority.LOW, True, PacketType.SUBMIT_JOB_LOW_BG),
    ],
)
def test_priority_and_background_decide_the_packet(priority: Priority, background: bool, kind: PacketType) -> None:
    assert spec_of(Task("f", priority=priority, background=background)).options.packet_type is kind


@pytest.mark.parametrize(
    ("run_at", "seconds"),
    [
        (1_700_000_000, 1_700_000_000),
        (1_700_000_000.25, 1_700_000_001),
        (0, 0),
        (datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), 1_700_000_000),
        (datetime(2023, 11, 15, 0, 13, 20, tzinfo=timezone(timedelta(hours=2))), 1_700_000_000),
    ],
)
def test_run_at_is_a_whole_second_and_never_too_early(run_at: Any, seconds: int) -> None:
    task = Task("f", background=True, run_at=run_at)
    assert task.run_at == seconds
    assert spec_of(task).options.packet_type is PacketType.SUBMIT_JOB_EPOCH


@pytest.mark.parametrize("length", [1, 512])
def test_a_function_of_1_to_512_bytes_is_accepted(length: int) -> None:
    assert Task("f" * length).function == "f" * length


@pytest.mark.parametrize("length", [0, 1, 63])
def test_a_unique_of_up_to_63_bytes_is_accepted(length: int) -> None:
    assert Task("f", unique="u" * length).unique == "u" * length


INVALID: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "function without a byte": (("",), {}, ValueError, "a function must have 1 to 512 bytes, got 0 in ''"),
    "function too long": (("ü" * 257,), {}, ValueError, "a function must have 1 to 512 bytes, got 514 in 'üü"),
    "function with a NUL": (("a\0b",), {}, ValueError, r"a function must not contain a NUL, got 'a\x00b'"),
    "function that is a number": ((7,), {}, TypeError, "a function must be str or bytes, got 7"),
    "function that is not text": (("\ud800",), {}, ValueError, "text that UTF-8 can encode"),
    "workload that is a number": (("f", 7), {}, TypeError, "a workload must be bytes or str, got 7 of int"),
    "workload that is a list": (("f", [1]), {}, TypeError, "a workload must be bytes or str, got [1] of list"),
    "unique too long": (("f",), {"unique": "u" * 64}, ValueError, "a unique must have at most 63 bytes, got 64"),
    "unique with a NUL": (("f",), {"unique": b"a\0"}, ValueError, "a unique must not contain a NUL"),
    "unique that is a number": (("f",), {"unique": 7}, TypeError, "a unique must be str or bytes, got 7"),
    "unknown option": (("f",), {"uniq": "x"}, TypeError, "a Task has no option uniq; it has unique, priority"),
    "priority by its name": (("f",), {"priority": "high"}, ValueError, "priority must be one of Priority.HIGH"),
    "background of 1": (("f",), {"background": 1}, TypeError, "background must be True or False, got 1"),
    "run_at alone": (("f",), {"run_at": 7}, ValueError, "run_at requires background=True"),
    "run_at with a priority": (
        ("f",),
        {"run_at": 7, "background": True, "priority": Priority.HIGH},
        ValueError,
        "a job with run_at must have normal priority",
    ),
    "run_at without a zone": (
        ("f",),
        {"run_at": datetime(2030, 1, 1), "background": True},
        ValueError,
        "run_at must be an aware datetime",
    ),
    "run_at too late": (("f",), {"run_at": 2**63, "background": True}, ValueError, "since 1970, got 92233"),
    "run_at before 1970": (("f",), {"run_at": -1, "background": True}, ValueError, "run_at must be between 0 and"),
    "run_at as text": (
        ("f",),
        {"run_at": "now", "background": True},
        TypeError,
        "run_at must be an aware datetime or seconds",
    ),
    "retry_count below 0": (("f",), {"retry_count": -1}, ValueError, "retry_count must be at least 0, got -1"),
    "retry_count of True": (("f",), {"retry_count": True}, TypeError, "retry_count must be a whole number, got True"),
    "retry_count of 1.0": (("f",), {"retry_count": 1.0}, TypeError, "retry_count must be a whole number, got 1.0"),
    "timeout of 0": (("f",), {"timeout": 0}, ValueError, "timeout must be a number of seconds above 0, got 0"),
    "timeout below 0": (("f",), {"timeout": -0.1}, ValueError, "timeout must be a number of seconds above 0"),
    "timeout without end": (
        ("f",),
        {"timeout": float("inf")},
        ValueError,
        "seconds above 0, got inf",
    ),
    "timeout of no number": (
        ("f",),
        {"timeout": float("nan")},
        ValueError,
        "seconds above 0, got nan",
    ),
    "timeout as text": (("f",), {"timeout": "1"}, TypeError, "timeout must be a number of seconds, got '1'"),
    "timeout of True": (("f",), {"timeout": True}, TypeError, "timeout must be a number of seconds, got True"),
    "try_timeout of 0": (("f",), {"try_timeout": 0}, ValueError, "try_timeout must be a number of seconds above 0"),
    "a list as timeout": (("f",), {"timeout": [1]}, TypeError, "timeout must be a number of seconds, got [1]"),
    "callback that cannot be called": (("f",), {"on_data": 7}, TypeError, "on_data must be a function or a coroutine"),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_argument_is_rejected(name: str) -> None:
    arguments, options, error, message = INVALID[name]
    for _ in range(2):  # validation results are cached; rejected values must not be
        with pytest.raises(error) as caught:
            Task(*arguments, **options)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_replaced_task_differs_in_what_is_given_only() -> None:
    options: Any = {
        "unique": "u",
        "priority": Priority.NORMAL,
        "background": True,
        "run_at": 7,
        "retry_count": 1,
        "timeout": 2.0,
        "try_timeout": 1.0,
        "require_worker": True,
        "on_complete": print,
    }

    def on_fail(error: BaseException) -> None:
        pass

    task = Task("f", "w", **options)
    for replaced, change in (
        (task.replace(), {}),
        (task.replace(function="g"), {"function": "g"}),
        (task.replace(workload="x"), {"workload": b"x"}),
        (task.replace(unique=None, timeout=None), {"unique": None, "timeout": None}),
        (task.replace(on_complete=None, on_fail=on_fail), {"callbacks": {"on_fail": on_fail}}),
        (task.replace(run_at=None, background=False), {"run_at": None, "background": False}),
    ):
        for name in ("function", "workload", *(options.keys() - {"on_complete"}), "callbacks"):
            assert getattr(replaced, name) == change.get(name, getattr(task, name)), (name, change)


def test_a_replaced_task_is_checked() -> None:
    with pytest.raises(ValueError, match="a unique must have at most 63 bytes"):
        Task("f").replace(unique="u" * 64)
    with pytest.raises(ValueError, match="run_at requires background=True"):
        Task("f", background=True, run_at=7).replace(background=False)
    with pytest.raises(TypeError, match="a Task has no option colour"):
        Task("f").replace(colour="red")  # type: ignore[call-arg]


def test_equal_plain_options_are_validated_once() -> None:
    assert spec_of(Task("f", timeout=1.0)).options is spec_of(Task("g", timeout=1.0)).options
    assert spec_of(Task("f", unique="a", timeout=1.0)).options is spec_of(Task("f", timeout=1.0, on_fail=print)).options
    assert spec_of(Task("f", unique="a")).options is spec_of(Task("f")).options


def test_an_equal_option_of_another_type_is_validated_separately() -> None:
    assert Task("f", background=True).background is True
    with pytest.raises(TypeError):
        Task("f", background=1)  # type: ignore[arg-type]
