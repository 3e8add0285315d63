"""The files of processes that have ended, in prometheus-client's multiprocess mode."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from geartrain.worker.monitoring.ended_processes import EndedProcessesCollector, merge_ended_processes
from tests.support.environment import without_coverage

COUNT = """
import os, sys
from prometheus_client import Counter, Gauge, Histogram
Counter("jobs", "Jobs.", ["function"]).labels("f").inc(int(sys.argv[1]))
Gauge("running", "Running.", multiprocess_mode="livesum").inc()
Gauge("last", "Last.", multiprocess_mode="max").set(int(sys.argv[1]))
Histogram("seconds", "Seconds.", buckets=(1, 2)).observe(1.5)
print(os.getpid())
"""


def count(directory: Path, number: int) -> None:
    """Count in a process that then ends."""
    environment = {**without_coverage(), "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    subprocess.run([sys.executable, "-c", COUNT, str(number)], env=environment, check=True, stdout=subprocess.DEVNULL)


def test_what_processes_have_counted_stays_in_one_file_of_each_kind(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    EndedProcessesCollector(registry, tmp_path)
    for number in (3, 4):
        count(tmp_path, number)
        merge_ended_processes(tmp_path)
        assert not list(tmp_path.glob("gauge_live*"))
        assert {path.name for path in tmp_path.glob("[ch]*.db")} == {"counter_ended.db", "histogram_ended.db"}
    assert registry.get_sample_value("jobs_total", {"function": "f"}) == 7
    assert registry.get_sample_value("seconds_bucket", {"le": "2.0"}) == 2
    assert registry.get_sample_value("seconds_sum") == 3
    assert registry.get_sample_value("running") is None
    assert registry.get_sample_value("last") == 4


def test_files_of_processes_that_run_are_left_as_they_are(tmp_path: Path) -> None:
    own = tmp_path / f"counter_{os.getpid()}.db"
    init = tmp_path / "gauge_livesum_1.db"
    for path in (own, init):
        path.write_bytes(b"")
    merge_ended_processes(tmp_path)
    assert own.exists()
    assert init.exists()


def test_an_incomplete_file_of_a_process_that_was_killed_is_removed(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    EndedProcessesCollector(registry, tmp_path)
    count(tmp_path, 3)
    gone = 4_194_304 + 1  # over the maximum process ID of Linux
    (tmp_path / f"counter_{gone}.db").write_bytes(b"")
    (tmp_path / f"histogram_{gone}.db").write_bytes(b"\x40\0\0\0\0\0\0\0\xff\xff\0\0")
    assert registry.get_sample_value("jobs_total", {"function": "f"}) == 3
    assert not list(tmp_path.glob(f"*{gone}*"))
