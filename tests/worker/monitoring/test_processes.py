"""Metrics of a worker whose functions run in processes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from geartrain import JobExceptionError, blocking
from tests.support.environment import without_coverage
from tests.support.eventually import wait_until
from tests.support.gearmand import Gearmand
from tests.support.http import get
from tests.support.worker_metrics import metrics_of, outcomes_of

ROOT = Path(__file__).parents[3]


def test_the_processes_of_a_function_count_together_also_those_that_have_died(
    gearmand: Gearmand, tmp_path: Path
) -> None:
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.worker.monitoring.program", gearmand.address],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**without_coverage(), "TMPDIR": str(tmp_path)},
    )
    assert program.stderr is not None
    try:
        serving = re.compile(r"serving .* at http://(\S+)")
        address = next(found[1] for line in program.stderr if (found := serving.search(line)))
        assert outcomes_of(address, "work")["completed"] == 0
        with blocking.Client(gearmand.address) as client:
            assert len(list(client.map("work", [b""] * 20))) == 20
            with pytest.raises(JobExceptionError, match="ChildProcessError"):
                client.do("die")
        wait_until(lambda: outcomes_of(address, "work")["completed"] == 20)
        wait_until(lambda: "\ngeartrain_restarts_total 1.0\n" in get(address, "/metrics")[1])
        assert outcomes_of(address, "die") == {"completed": 0, "failed": 0, "raised": 1, "lost": 0}
        assert metrics_of(address, "die")["geartrain_jobs_running"] == 0
        assert metrics_of(address, "work")["geartrain_job_seconds_count"] == 20
        connections = f'geartrain_connections{{server="{gearmand.address}"}} 3.0'
        wait_until(lambda: connections in get(address, "/metrics")[1])
        assert get(address, "/readyz") == (200, "ok\n")
        assert list(tmp_path.glob("geartrain-metrics-*"))
        program.send_signal(signal.SIGTERM)
        _, errors = program.communicate(timeout=20)
        assert program.returncode == 0, errors
        assert not list(tmp_path.glob("geartrain-metrics-*"))
    finally:
        program.kill()
        program.wait()
