"""The words of the project are plain English."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.untraced

ROOT = Path(__file__).parents[1]
FILES = [
    path
    for folder in ("src", "docs", "examples", "tests", "tools", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".md", ".sh"} and path != Path(__file__)
] + sorted(ROOT.glob("*.md"))

# Translated or archaic phrases that were in the project once, and what to write instead.
PHRASES = {
    r"\bhears? (of|that|from|about)\b": "is notified of, receives",
    r"\b(is|are|was|were|be|been) told\b": "is notified of, is called with, gets",
    r"\bfarms? (work )?out\b": "distributes",
    r"\bin earnest\b": "in production",
    r"\bfor ever\b": "forever",
    r"\bpassed over\b": "skipped, avoided",
    r"\bfor it may\b": "because it may",
    r"\bbe it\b": "whether",
    r"\bdoomed\b": "abandoned",
    r"\b(make|made) known\b": "create, register",
    r"\bwhat is wrong is said\b": "validate",
    r"\bcrew\b": "pool",
    r"\bcensus\b": "counter, cache",
    r"\bwhilst\b": "while",
    r"\bshall\b": "must",
    r"\bthereof\b|\btherein\b|\bhereby\b|\bheretofore\b": "write it out",
    r"\bthe wire tells\b|\bthe page tells\b": "the page describes",
}


FORBIDDEN = re.compile("|".join(PHRASES), re.IGNORECASE)


def test_phrases_that_read_as_translated_are_not_used() -> None:
    """The values of ``PHRASES`` say what to write instead."""
    assert len(FILES) > 400
    found = [
        f"{path.relative_to(ROOT)}: {match[0]!r} in {line.strip()!r}"
        for path in FILES
        for line in path.read_text().splitlines()
        if (match := FORBIDDEN.search(line))
    ]
    assert not found


@pytest.mark.parametrize("text", ["The client hears of it", "in earnest", "It is TOLD", "for ever"])
def test_such_a_phrase_is_found(text: str) -> None:
    assert FORBIDDEN.search(text)
