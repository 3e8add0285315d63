from __future__ import annotations

import logging

import pytest

from geartrain.validation import check_count, check_flag, check_logger, check_seconds, encode_name


def test_a_name_need_not_be_valid_utf_8() -> None:
    assert encode_name("x", b"caf\xe9".decode("utf-8", "surrogateescape")) == b"caf\xe9"
    assert encode_name("x", b"caf\xe9") == b"caf\xe9"


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("a\0b", ValueError, r"x must not contain a NUL, got 'a\\x00b'"),
        ("\ud800", ValueError, "x must be text that UTF-8 can encode"),
        (5, TypeError, "x must be str or bytes, got 5"),
    ],
)
def test_a_name_that_no_packet_can_carry_is_rejected(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        encode_name("x", name)


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), 10**400])
def test_seconds_must_be_finite_and_positive(value: float) -> None:
    with pytest.raises(ValueError, match=f"heartbeat must be a number of seconds above 0, got {value!r}"):
        check_seconds("heartbeat", value)


@pytest.mark.parametrize("value", ["1", None, True])
def test_seconds_must_be_a_number(value: object) -> None:
    with pytest.raises(TypeError, match="heartbeat must be a number of seconds"):
        check_seconds("heartbeat", value)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.0, TypeError), (True, TypeError), ("3", TypeError)])
def test_a_count_must_be_an_integer_and_at_least_the_minimum(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"limit must be .*, got"):
        check_count("limit", value, 1)


@pytest.mark.parametrize("value", [-1, 65536])
def test_a_count_may_have_a_maximum(value: int) -> None:
    with pytest.raises(ValueError, match=f"port must be from 0 to 65535, got {value}"):
        check_count("port", value, 0, 65535)
    assert [check_count("port", good, 0, 65535) for good in (0, 65535)] == [0, 65535]


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_a_flag_must_be_true_or_false(value: object) -> None:
    with pytest.raises(TypeError, match=f"background must be True or False, got {value!r}"):
        check_flag("background", value)
    assert [check_flag("background", good) for good in (True, False)] == [True, False]


def test_a_logger_has_a_default() -> None:
    own = logging.getLogger("own")
    assert check_logger(own, "geartrain.server") is own
    assert check_logger(None, "geartrain.server").name == "geartrain.server"
    with pytest.raises(TypeError, match=r"logger must be a logging\.Logger, got 'own'"):
        check_logger("own", "geartrain.server")  # type: ignore[arg-type]  # the wrong type is the point


def test_valid_values_are_returned() -> None:
    assert (check_seconds("x", 3), check_count("x", 0, 0)) == (3.0, 0)
