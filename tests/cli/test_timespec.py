from __future__ import annotations

import pytest

from geartrain.cli.timespec import parse_time

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("+90", NOW + 90),
        ("+15m", NOW + 900),
        ("+2h", NOW + 7200),
        ("+1d", NOW + 86400),
        ("1900000000", 1_900_000_000),
        ("2030-01-01T00:00:00+00:00", 1_893_456_000),
        ("2030-01-01T01:30:00+01:30", 1_893_456_000),
    ],
)
def test_times_can_be_written_in_several_ways(text: str, seconds: float) -> None:
    assert parse_time(text, NOW) == seconds


@pytest.mark.parametrize("text", ["", "tomorrow", "+", "+5y", "-90", "2030-13-01", "99", "+1 h"])
def test_an_invalid_time_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="invalid time "):
        parse_time(text, NOW)
