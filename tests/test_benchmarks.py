"""The benchmarks run, check every result, and report errors instead of figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.case_runner import percentile
from benchmarks.compare import Row, describe_row
from benchmarks.goals import Figure, at_most, ratio
from benchmarks.report import write_report
from benchmarks.results import Results
from tests.support.environment import without_coverage

ROOT = Path(__file__).parent.parent
CASE = "w3/1000"


def run_figures(wrong: int = 0, **figures: float) -> dict[str, float]:
    """Return the figures of one run."""
    return {"jobs": 100, "wrong": wrong, "rate": 1000.0, "client_cpu": 2.0, "server_cpu": 1.0, **figures}


@pytest.fixture
def results() -> Results:
    return Results({})


def test_a_run_measures_the_ceiling_and_us_side_by_side(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--repetitions", "2", "--only", "w3/16"]
    chosen = ["--clients", "ceiling,geartrain-do", "--no-peers", "--no-plots", "--output", str(tmp_path)]
    ended = subprocess.run(
        [*command, *chosen], cwd=ROOT, env=without_coverage(), capture_output=True, text=True, check=True, timeout=50
    )
    [row] = json.loads((tmp_path / "w3.json").read_text())["figures"].values()
    assert list(row) == ["ceiling", "geartrain-do"]
    for runs in row.values():
        assert len(runs) == 2
        assert all(run["wrong"] == 0 and run["jobs"] == 5000 for run in runs)
        assert all(run["client_cpu"] > 0 and run["server_cpu"] > 0 and run["worker_cpu"] > 0 for run in runs)
    assert "| geartrain `do` |" in ended.stdout
    assert ended.stdout == (tmp_path / "README.md").read_text()


def test_wrong_results_are_reported_beside_the_figures(results: Results) -> None:
    results.add(CASE, "aiogear", lambda: run_figures(wrong=7))
    results.add(CASE, "aiogear", run_figures)
    assert "| Python aiogear | 1,000 | 2.00 | 1.00 | 2 | **7 of 200 answers wrong** |" in write_report(results)


def test_a_contestant_that_failed_has_no_figures(results: Results) -> None:
    results.add(CASE, "gear", run_figures)
    results.failures[CASE]["gear"] = "crashed: a|b"
    assert "| Python gear |  |  |  | 0 | crashed: a\\|b |" in write_report(results)


def test_ratios_are_taken_within_each_repetition() -> None:
    results = Results({})
    for slow_machine in (1.0, 1.0, 9.0):
        results.add(CASE, "geartrain-do", lambda factor=slow_machine: run_figures(client_cpu=2 * factor))  # type: ignore[misc]
        results.add(CASE, "libgearman", lambda factor=slow_machine: run_figures(client_cpu=4 * factor))  # type: ignore[misc]
    bound = at_most(0.5, ratio(Figure(CASE, "geartrain-do", "client_cpu"), Figure(CASE, "libgearman", "client_cpu")))
    value = bound.measure(results)
    assert value == 0.5
    assert bound.is_met(value)


@pytest.mark.parametrize(("cpu", "met"), [(2.0, "yes"), (3.9, "**no**")])
def test_the_report_says_whether_a_goal_is_met(results: Results, cpu: float, met: str) -> None:
    results.add(CASE, "geartrain-do", lambda: run_figures(client_cpu=cpu))
    results.add(CASE, "libgearman", lambda: run_figures(client_cpu=4.0))
    assert f"with uniques from the caller | <= 0.5 | {cpu / 4:.2f} | {met} |" in write_report(results)


def test_two_source_trees_are_compared_in_alternating_runs() -> None:
    command = [sys.executable, "-m", "benchmarks", "compare", ".", ".", "--quick", "--runs", "2"]
    chosen = ["--only", "do, asyncio*; python -c 'import geartrain'*"]
    ended = subprocess.run(
        [*command, *chosen], cwd=ROOT, env=without_coverage(), capture_output=True, text=True, check=True, timeout=50
    )
    head, _, *rows = ended.stdout.strip().splitlines()
    assert head == "| figure | . | . | ratio |"
    assert [row.split(":")[0] for row in rows] == ["| do, asyncio", "| python -c 'import geartrain'"]
    assert all(float(cell) > 0 for row in rows for cell in row.strip("| ").split(" | ")[1:])


def test_a_comparison_takes_ratios_within_each_pair_of_runs() -> None:
    row = Row("do", lambda source: 0.0)
    assert describe_row(row, [(1.0, 1.1), (2.0, 2.2), (9.0, 9.9)]) == ("do", "2.00", "2.20", "1.100")


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([5.0], 0.5) == 5.0


def test_results_are_the_same_after_being_written_and_read(results: Results, tmp_path: Path) -> None:
    results.about["w3"] = {"cores": 2}
    results.add(CASE, "ceiling", run_figures)
    results.failures[CASE]["gear"] = "did not end in 60 s"
    results.write(tmp_path)
    again = Results.read([tmp_path / "w3.json"])
    assert (again.about, again.figures, again.failures) == (results.about, results.figures, results.failures)
