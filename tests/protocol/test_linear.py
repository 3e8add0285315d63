"""
Every parser of bytes from the network takes time linear in the size of its input, whatever the input.

The tests count steps instead of measuring time: see :mod:`tests.support.operation_count`.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import benchmarks.parsers
from tests.support.operation_count import Meter
from tests.support.regex import is_linear

pytestmark = pytest.mark.untraced

SIZES = [2**power for power in range(8, 11)]
FEW = 500  # steps allowed for constant costs

PATTERNS = [bytes((byte,)) for byte in b"\0\t\n\r 09+-.:/[]%aeE\x1b\xff"] + [
    b"\0\n",
    b"\n\0",
    b"\r\n",
    b" : ",
    b"7 1 - : f\n",
    b"f\t1\t1\t1\t1\n",
    b"a b ",
    b"1:",
    b"\xe6\x9d\xb1",
    b"\0REQ\0\0\0\x10\0\0\0\0",
    b"\0RES\0\0\0\x11\0\0\0\x01\0",
]


def is_proportional(steps: list[int]) -> bool:
    """Whether twice the input never takes much more than twice the steps."""
    return all(later <= 2.2 * earlier + FEW for earlier, later in itertools.pairwise(steps))


def count(meter: Meter, parse: Callable[[bytes], object], inputs: Iterable[bytes]) -> list[int]:
    """Return the steps that each input takes."""
    counts = []
    for data in inputs:
        before = meter.steps
        parse(data)
        counts.append(meter.steps - before)
    return counts


@pytest.fixture(scope="module")
def meter() -> Meter:
    return Meter()


@pytest.fixture(scope="module")
def parsers(meter: Meter) -> list[Any]:
    """The parsers of the benchmark, instrumented."""
    with meter.modules("benchmarks.parsers") as [module]:
        return list(module.PARSERS)


@pytest.mark.parametrize("group", list(dict.fromkeys(parser.group for parser in benchmarks.parsers.PARSERS)))
def test_a_parser_takes_linear_time(meter: Meter, parsers: list[Any], group: str) -> None:
    for parser in [parser for parser in parsers if parser.group == group]:
        patterns = [parser.pattern] if "pieces" in group else [parser.pattern, *PATTERNS]
        for pattern, head in itertools.product(patterns, {b"", parser.head}):
            repeated = parser._replace(pattern=pattern, head=head)
            steps = count(meter, parser.parse, map(repeated.input, SIZES))
            assert is_proportional(steps), f"{parser.detail}, {head!r} and {pattern!r} repeated: {steps} steps"


def patterns_of_modules() -> set[bytes]:
    """Return the regular expressions of all modules but the command line, which parses no bytes from the network."""
    modules = [m for name, m in sys.modules.items() if name.startswith("geartrain.") and ".cli" not in name]
    values = [value for module in modules for value in vars(module).values()]
    classes = [value for value in values if isinstance(value, type) and value.__module__.startswith("geartrain.")]
    values += [value for cls in classes for value in vars(cls).values()]
    return {value.pattern for value in values if isinstance(value, re.Pattern)}


def test_the_regular_expressions_that_parsers_use_take_linear_time(meter: Meter, parsers: list[Any]) -> None:
    for parser, pattern in itertools.product(parsers, PATTERNS):
        parser.parse(parser._replace(pattern=pattern).input(50))
    assert {pattern.pattern for pattern, _ in meter.patterns} >= patterns_of_modules()
    assert not [
        (pattern.pattern, search) for pattern, search in meter.patterns if not is_linear(pattern, search=search)
    ]


# Parsers that are not linear.


def slice_after_slice(data: bytes) -> object:
    lines = []
    while b"\n" in data:
        end = data.find(b"\n")
        lines.append(data[:end])
        data = data[end + 1 :]
    return lines


def piece_by_piece(data: bytes) -> object:
    buffer = b""
    for byte in data:
        buffer += bytes((byte,))
    return buffer


def search_from_the_beginning(data: bytes) -> object:
    buffer = bytearray()
    for byte in data:
        buffer.append(byte)
        if buffer.find(b"\r\n\r\n") >= 0:
            return buffer
    return None


def look_at_all_again(data: bytes) -> object:
    chunks: list[bytes] = []
    for byte in data:
        chunks.append(bytes((byte,)))
        if b"".join(chunks).endswith(b"\r\n"):
            return chunks
    return None


def from_the_front_of_a_list(data: bytes) -> object:
    words = data.split(b" ")
    while words:
        words.pop(0)
    return words


def from_the_front_by_del(data: bytes) -> object:
    words = data.split(b" ")
    while words:
        del words[:1]
    return words


def look_in_a_list(data: bytes) -> object:
    known: list[int] = []
    for number, _ in enumerate(data):
        if number not in known:
            known.append(number)
    return known


def longest_number(data: bytes) -> object:
    try:
        return int(data)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("parse", "pattern"),
    [
        (slice_after_slice, b"\n"),
        (piece_by_piece, b"a"),
        (search_from_the_beginning, b"a"),
        (look_at_all_again, b"a"),
        (from_the_front_of_a_list, b" "),
        (from_the_front_by_del, b" "),
        (look_in_a_list, b"a"),
        (longest_number, b"9"),
    ],
)
def test_a_quadratic_parser_is_detected(parse: Callable[[bytes], object], pattern: bytes) -> None:
    meter = Meter()
    assert not is_proportional(count(meter, meter.instrument(parse), (pattern * size for size in SIZES)))


def test_a_quadratic_decoder_is_detected(meter: Meter, parsers: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, one that searches a line from its beginning for each piece."""
    [parser] = [parser for parser in parsers if parser.detail == "no end"]
    decoder = parser.parse.__globals__["Decoder"]
    monkeypatch.setattr(decoder, "_is_within_line", lambda self, data: False)
    assert not is_proportional(count(meter, parser.parse, map(parser.input, SIZES)))


@pytest.mark.parametrize(
    ("pattern", "search"),
    [
        (rb"(a*)*", False),
        (rb"(?:a|b*)+c", False),
        (rb" *(.*?)\r?", False),
        (rb"[0-9]*[0-9]*x", False),
        (rb"[0-9]+(?:\.?[0-9]*)x", False),
        (rb"(?:a*b?){1,3}c", False),
        (rb"(?:a*|b)a*c", False),
        (rb"a*(?:b*)?a*c", False),
        (rb"a*(?=x)a*c", False),
        (rb"\d+[^x]\d+x", False),
        (rb"(?:ab)*c", False),  # linear, but the check cannot prove it
        (rb" +\Z", True),
    ],
)
def test_a_regular_expression_that_may_backtrack_is_detected(pattern: bytes, search: bool) -> None:
    assert not is_linear(re.compile(pattern), search=search)


@pytest.mark.parametrize(
    ("pattern", "search"),
    [
        (rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)", False),
        (rb"\d{1,20} \S+ ", False),
        (rb"a*b*c", False),
        (rb"(x|[^\t]*?(?=\r))\r?", False),
        (rb"(?i:A)\w*[^\w]\w*", False),
        (rb" :(?: |\r?\Z)", True),
    ],
)
def test_a_regular_expression_that_cannot_backtrack_is_proven_linear(pattern: bytes, search: bool) -> None:
    assert is_linear(re.compile(pattern), search=search)


def test_instrumented_code_behaves_like_the_original(parsers: list[Any]) -> None:
    """The original is not changed."""
    for parser, plain in zip(parsers, benchmarks.parsers.PARSERS, strict=True):
        data = parser.input(1000)
        assert str(parser.parse(data)) == str(plain.parse(data))
    assert sys.modules["geartrain.errors"].__dict__.get("__meter__") is None
