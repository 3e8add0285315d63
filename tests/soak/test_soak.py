"""A short soak, and a check that it detects growth."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.soak.samples import MEASURES, Sample, growing
from tests.soak.soak import ROOT
from tests.support.environment import without_coverage

pytestmark = pytest.mark.untraced

STEADY = Sample(0, 30 * 2**20, 100_000, 2_000, 30, 40, 40)


def samples(**growth: int) -> list[Sample]:
    """Return a hundred samples in which the given measures grow steadily, and the number of tasks varies."""
    return [
        STEADY._replace(
            seconds=number,
            tasks=STEADY.tasks + number % 7,
            **{name: getattr(STEADY, name) + number * by for name, by in growth.items()},
        )
        for number in range(100)
    ]


def test_steady_samples_are_flat() -> None:
    assert growing(samples()) == []


def test_shrinking_samples_are_flat() -> None:
    assert growing(samples(resident=-10_000, blocks=-10)) == []


@pytest.mark.parametrize(
    ("name", "by", "sentence"),
    [
        ("resident", 2**18, "resident memory, MiB grew from 37.4 to 52.4; the limit is 47.2"),
        ("blocks", 200, "blocks allocated, thousands grew from 105.9 to 117.9; the limit is 116.2"),
        ("objects", 50, "objects of the garbage collector, thousands grew from 3.5 to 6.5; the limit is 6.1"),
        ("descriptors", 1, "file descriptors grew from 59.5 to 119.5; the limit is 84.5"),
        ("timers", 3, "timers grew from 128.5 to 308.5; the limit is 253.5"),
    ],
)
def test_a_growing_measure_is_reported(name: str, by: int, sentence: str) -> None:
    assert growing(samples(**{name: by})) == [sentence]


def test_every_field_of_a_sample_is_checked() -> None:
    assert {"seconds", *MEASURES} == set(Sample._fields)


def test_under_steady_load_with_faults_nothing_grows_and_nothing_is_left() -> None:
    """A short form of ``make soak``, which takes ten minutes."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.soak", "--seconds", "5"]
    run = subprocess.run(
        command, cwd=ROOT, env=without_coverage(), capture_output=True, text=True, timeout=55, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.endswith("all measures flat, all results right, nothing left\n")
