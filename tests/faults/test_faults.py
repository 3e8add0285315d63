"""A short form of `make faults`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from geartrain.client.submission import Submission
from geartrain.client.submission_batch import SubmissionBatch
from tests.conftest import LOOPS
from tests.faults.judge import Judge
from tests.faults.run import Outcome, Run

pytestmark = pytest.mark.untraced

SECONDS = 4.0
JOBS = 1800


async def run(seed: str, directory: Path) -> Outcome:
    outcome = await Run(seed, jobs=JOBS, seconds=SECONDS, directory=directory).run()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"asyncio tasks are left: {left}"
    return outcome


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("loop_name", "seed"), [("asyncio", "two"), ("uvloop", "four")])
def test_the_workers_ledgers_agree_with_the_clients_reports(
    loop_name: str, seed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted: list[Submission] = []
    promote = SubmissionBatch._promote

    def record_promoted(batch: SubmissionBatch, handle: bytes | None) -> Submission:
        promoted.append(promote(batch, handle))
        return promoted[-1]

    monkeypatch.setattr(SubmissionBatch, "_promote", record_promoted)
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        outcome = runner.run(run(seed, tmp_path))
    assert Judge(outcome).judge() == [], f"make faults SECONDS={SECONDS:.0f} JOBS={JOBS} SEED={seed}"
    assert len({fault.name for fault in outcome.faults}) >= 8
    errors = [record.job.exception() for record in outcome.jobs if record.job and not record.job.cancelled()]
    assert errors.count(None) > JOBS / 10, "hardly any job was completed"
    assert len({type(error) for error in errors}) >= 4, "the faults caused fewer types of errors than expected"
    assert promoted, "no job of a batch was promoted to a submission"
