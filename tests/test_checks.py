from __future__ import annotations

import pytest

from geartrain.checks import check_count, check_seconds, encode_name


def test_a_name_survives_even_if_it_is_no_utf_8() -> None:
    assert encode_name("x", b"caf\xe9".decode("utf-8", "surrogateescape")) == b"caf\xe9"
    assert encode_name("x", b"caf\xe9") == b"caf\xe9"


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("a\0b", ValueError, r"x cannot hold a NUL, got 'a\\x00b'"),
        ("\ud800", ValueError, "x is text that UTF-8 can encode"),
        (5, TypeError, "x is str or bytes, got 5"),
    ],
)
def test_a_name_that_no_packet_can_carry_is_refused(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        encode_name("x", name)


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), 10**400])
def test_seconds_are_finite_and_above_zero(value: float) -> None:
    with pytest.raises(ValueError, match=f"heartbeat is a number of seconds above 0, got {value!r}"):
        check_seconds("heartbeat", value)


@pytest.mark.parametrize("value", ["1", None, True])
def test_seconds_are_a_number(value: object) -> None:
    with pytest.raises(TypeError, match="heartbeat is a number of seconds"):
        check_seconds("heartbeat", value)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.0, TypeError), (True, TypeError), ("3", TypeError)])
def test_a_count_is_a_whole_number_and_large_enough(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"limit is .*, got"):
        check_count("limit", value, 1)


def test_what_is_right_is_returned() -> None:
    assert (check_seconds("x", 3), check_count("x", 0, 0)) == (3.0, 0)
