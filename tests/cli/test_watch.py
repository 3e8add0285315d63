from __future__ import annotations

from geartrain.cli.watch import Sparkline


def test_levels_are_proportional_and_only_zero_is_at_the_bottom() -> None:
    curve = Sparkline()
    for second, value in enumerate([0, 1, 400, 800]):
        curve.add(second, value)
    assert curve.draw() == "▁▂▅█"
    assert curve.draw(ascii_only=True) == "_.=#"
    assert curve.rate == 400


def test_old_values_are_dropped() -> None:
    curve = Sparkline(3)
    for second in range(5):
        curve.add(second, 9 - second)
    assert len(curve.draw()) == 3
    assert curve.rate == -1


def test_a_sparkline_without_values_is_empty_and_one_of_zeros_is_flat() -> None:
    curve = Sparkline()
    assert (curve.draw(), curve.rate) == ("", 0.0)
    curve.add(0, 0)
    assert (curve.draw(), curve.rate) == ("▁", 0.0)
