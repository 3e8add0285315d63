from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.protocol.numbers import MAX_NUMBER, parse_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"7", 7),
        (b"-1", -1),
        (b"+20", 20),
        (b"50.5", 50.5),
        (b"50.", 50.0),
        (b".5", 0.5),
        (b"-.5", -0.5),
        (b"1e3", 1000.0),
        (b"2.5E-1", 0.25),
        (b"9" * 18, 10**18 - 1),
        (b"1" + b"0" * 300, 1e300),
    ],
)
def test_a_number_is_read_as_the_worker_wrote_it(text: bytes, number: float) -> None:
    assert parse_number(text) == number
    assert type(parse_number(text)) is type(number)


@pytest.mark.parametrize(
    "text",
    [b"", b"x", b"1x", b"1.2.3", b".", b"-", b"1e", b"1e999", b" 1", b"1\n", b"nan", b"inf", b"1_000", b"\xd9\xa1"],
)
def test_what_is_no_number_is_none(text: bytes) -> None:
    assert parse_number(text) is None


def test_text_over_the_longest_number_is_not_looked_at() -> None:
    """A worker can send megabytes of digits, which would take any parser of numbers long."""
    assert parse_number(b"0" * MAX_NUMBER) == 0
    assert parse_number(b"0" * (MAX_NUMBER + 1)) is None


@given(st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-(10**17), 10**17))
def test_what_python_writes_is_read_back(number: float) -> None:
    assert parse_number(str(number).encode()) == number
