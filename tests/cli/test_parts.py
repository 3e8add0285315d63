"""The small parts of the command line that need no process."""

from __future__ import annotations

import pytest

from geartrain.cli.moment import read_moment
from geartrain.cli.watch import Curve

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
def test_a_time_may_be_written_in_several_ways(text: str, seconds: float) -> None:
    assert read_moment(text, NOW) == seconds


@pytest.mark.parametrize("text", ["", "tomorrow", "+", "+5y", "-90", "2030-13-01", "99", "+1 h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a time is like"):
        read_moment(text, NOW)


def test_a_curve_is_as_high_as_its_values_and_only_zero_is_at_the_bottom() -> None:
    curve = Curve()
    for second, value in enumerate([0, 1, 400, 800]):
        curve.add(second, value)
    assert curve.draw() == "▁▂▅█"
    assert curve.draw(ascii_only=True) == "_.=#"
    assert curve.rate == 400


def test_a_curve_forgets_what_is_long_ago() -> None:
    curve = Curve(3)
    for second in range(5):
        curve.add(second, 9 - second)
    assert len(curve.draw()) == 3
    assert curve.rate == -1


def test_a_curve_without_values_is_empty_and_one_of_zeros_flat() -> None:
    curve = Curve()
    assert (curve.draw(), curve.rate) == ("", 0.0)
    curve.add(0, 0)
    assert (curve.draw(), curve.rate) == ("▁", 0.0)
