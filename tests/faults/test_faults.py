"""A short form of `make faults`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from geartrain import Job
from geartrain.client.bulk import Bulk
from tests.conftest import LOOPS
from tests.faults.judge import Judge
from tests.faults.run import Outcome, Run

SECONDS = 4.0
JOBS = 1800


async def run(seed: str, directory: Path) -> Outcome:
    outcome = await Run(seed, jobs=JOBS, seconds=SECONDS, directory=directory).run()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"asyncio tasks are left: {left}"
    return outcome


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("loop_name", "seed"), [("asyncio", "two"), ("uvloop", "four")])
def test_the_ledgers_of_the_workers_agree_with_what_the_client_said(
    loop_name: str, seed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopted: list[Job] = []
    adopt = Bulk._adopt

    def note_adopted(bulk: Bulk, place: int, handle: bytes | None) -> Job:
        adopted.append(adopt(bulk, place, handle))
        return adopted[-1]

    monkeypatch.setattr(Bulk, "_adopt", note_adopted)
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        outcome = runner.run(run(seed, tmp_path))
    assert Judge(outcome).judge() == [], f"make faults SECONDS={SECONDS:.0f} JOBS={JOBS} SEED={seed}"
    assert len({fault.name for fault in outcome.faults}) >= 8
    errors = [asked.job.exception() for asked in outcome.jobs if asked.job and not asked.job.cancelled()]
    assert errors.count(None) > JOBS / 2
    assert len({type(error) for error in errors}) >= 4, "with so many faults there are errors of several sorts"
    assert adopted, "of the jobs that a map has sent together some had trouble"
