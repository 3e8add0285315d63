"""Integers by C's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.protocol.integers import c_integer, c_uint32


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
def test_the_number_that_a_text_begins_with_counts(text: bytes, number: int) -> None:
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
def test_status_numbers_are_cut_to_32_bits(text: bytes, number: int) -> None:
    assert c_uint32(text) == number


@given(st.integers(-(2**63), 2**63 - 1))
def test_whatever_64_bits_hold_is_read_as_it_is(number: int) -> None:
    assert c_integer(b"%d" % number) == number
    assert c_uint32(b"%d" % number) == number % 2**32
