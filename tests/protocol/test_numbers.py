from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.protocol.numbers import MAX_NUMBER, c_integer, c_uint32, parse_number


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
def test_a_number_is_parsed_as_the_worker_wrote_it(text: bytes, number: float) -> None:
    assert parse_number(text) == number
    assert type(parse_number(text)) is type(number)


@pytest.mark.parametrize(
    "text",
    [b"", b"x", b"1x", b"1.2.3", b".", b"-", b"1e", b"1e999", b" 1", b"1\n", b"nan", b"inf", b"1_000", b"\xd9\xa1"],
)
def test_anything_else_is_none(text: bytes) -> None:
    assert parse_number(text) is None


def test_text_longer_than_any_number_is_not_parsed() -> None:
    """A worker can send megabytes of digits, on which any parser of numbers would spend a long time."""
    assert parse_number(b"0" * MAX_NUMBER) == 0
    assert parse_number(b"0" * (MAX_NUMBER + 1)) is None


@given(st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-(10**17), 10**17))
def test_numbers_written_by_python_are_read_back(number: float) -> None:
    assert parse_number(str(number).encode()) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"", 0),
        (b"abc", 0),
        (b"-", 0),
        (b"7", 7),
        (b"007x", 7),
        (b" \t\n+5 6", 5),
        (b"50.5", 50),
        (b"-1", -1),
        (b"0", 0),
        (b"0" * 5000 + b"12", 12),
        (b"\xd9\xa3", 0),
    ],
)
def test_a_c_integer_is_the_number_that_a_text_starts_with(text: bytes, number: int) -> None:
    assert c_integer(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"-1", 4294967295),
        (b"4294967296", 0),
        (b"99999999999999", 276447231),
        (b"9" * 5000, 4294967295),
        (b"-" + b"9" * 5000, 0),
    ],
)
def test_status_numbers_are_truncated_to_32_bits(text: bytes, number: int) -> None:
    assert c_uint32(text) == number


@given(st.integers(-(2**63), 2**63 - 1))
def test_64_bit_integers_are_read_exactly(number: int) -> None:
    assert c_integer(b"%d" % number) == number
    assert c_uint32(b"%d" % number) == number % 2**32
