"""Proves that a regular expression takes linear time for any text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from re import _constants as constants  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

__all__ = ["is_linear"]

_ALL: Final = frozenset(range(256))
_UNBOUNDED: Final = 1000  # repetitions

_CATEGORIES: Final = {
    constants.CATEGORY_DIGIT: rb"\d",
    constants.CATEGORY_NOT_DIGIT: rb"\D",
    constants.CATEGORY_SPACE: rb"\s",
    constants.CATEGORY_NOT_SPACE: rb"\S",
    constants.CATEGORY_WORD: rb"\w",
    constants.CATEGORY_NOT_WORD: rb"\W",
}


class _UnprovenError(Exception):
    pass


def is_linear(pattern: re.Pattern[bytes], *, search: bool = False) -> bool:
    r"""
    Whether a bytes pattern is proven to be linear. Not every linear pattern can be proven.

    The matcher backtracks to wherever a repetition could have ended earlier. That is linear for one repetition, and for
    several if no two of them match the same character, or if something between them determines where the first ends,
    such as the dot in ``\d+\.\d*``. A ``search`` starts anywhere, as if the pattern began with ``.*?``.
    """
    try:
        _walk(parser.parse(pattern.pattern, pattern.flags), _ALL if search else frozenset())
    except _UnprovenError:
        return False
    return True


def _walk(items: Iterable[tuple[Any, Any]], open_: frozenset[int]) -> frozenset[int]:
    """Return the characters that the repetitions so far may give back when backtracking."""
    for operation, argument in items:
        open_ = _step(operation, argument, open_)
    return open_


def _step(operation: Any, argument: Any, open_: frozenset[int]) -> frozenset[int]:
    if operation is constants.AT:
        return open_
    if operation is constants.SUBPATTERN:
        return _walk(argument[-1], open_)
    if operation is constants.BRANCH:
        return frozenset().union(*(_walk(branch, open_) for branch in argument[1]))
    if operation in (constants.ASSERT, constants.ASSERT_NOT):
        _walk(argument[1], open_)
        return open_
    if operation in (constants.MAX_REPEAT, constants.MIN_REPEAT):
        least, most, body = argument
        return _repeat(least, most, body, open_)
    # One character: earlier repetitions cannot extend past a character that they do not match.
    return open_ if open_ & _characters(operation, argument) else frozenset()


def _repeat(least: int, most: int, body: Any, open_: frozenset[int]) -> frozenset[int]:
    if most < _UNBOUNDED:
        after = _walk(body, open_)
        if most > 1 and _has_repetition(body):
            raise _UnprovenError
        return after if least else after | open_
    if len(body) != 1:
        raise _UnprovenError
    characters = _characters(*body[0])
    if characters & open_:
        raise _UnprovenError
    return open_ | characters


def _has_repetition(body: Any) -> bool:
    return "REPEAT" in repr(body)


def _characters(operation: Any, argument: Any) -> frozenset[int]:
    """Return the characters that a single item matches."""
    if operation is constants.SUBPATTERN and len(argument[-1]) == 1:
        return _characters(*argument[-1][0])
    if operation is constants.LITERAL:
        return frozenset((argument,))
    if operation is constants.NOT_LITERAL:
        return _ALL - {argument}
    if operation is constants.ANY:
        return _ALL
    if operation is constants.RANGE:
        return frozenset(range(argument[0], argument[1] + 1))
    if operation is constants.CATEGORY:
        return frozenset(byte for byte in _ALL if re.fullmatch(_CATEGORIES[argument], bytes((byte,))))
    if operation is constants.IN:
        found = frozenset().union(*(_characters(*item) for item in argument if item[0] is not constants.NEGATE))
        return _ALL - found if argument[0][0] is constants.NEGATE else found
    raise _UnprovenError
