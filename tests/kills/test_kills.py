"""A short form of `make kills`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kills.campaign import run_campaign

pytestmark = pytest.mark.untraced


@pytest.mark.timeout(120)
def test_wherever_a_process_is_killed_its_job_ends_as_promised(tmp_path: Path) -> None:
    ends, errors = asyncio.run(run_campaign(30, tmp_path, "short"))
    assert not errors
    assert sum(times for (point, _), times in ends.items() if point != "nowhere") >= 30
