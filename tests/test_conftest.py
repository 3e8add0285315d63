import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LOOPS
from tests.support.environment import without_coverage
from tests.support.gearmand import Gearmand, ask

ROOT = Path(__file__).parent.parent

HANGING = """
import asyncio
import subprocess

async def test_waits():
    await asyncio.get_running_loop().create_future()

async def test_polls():
    while True:
        await asyncio.sleep(0.001)

def test_waits_for_a_process():
    subprocess.run(["sleep", "1000"])
"""

IGNORES_CANCELLATION = """
import asyncio

async def test_ignores_cancellation():
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass
"""


def run_pytest(directory: Path, tests: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run tests with our conftest and a time limit of a third of a second."""
    path = directory / "test_it.py"
    path.write_text(tests)
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "--timeout", "0.3"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *more, str(path)],
        cwd=ROOT,
        env={name: value for name, value in without_coverage().items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=50,
    )


async def test_coroutine_tests_run_on_every_loop(event_loop_name: str) -> None:
    library, _, eager = event_loop_name.partition("-")
    assert type(asyncio.get_running_loop()).__module__.startswith(library)
    ran: list[bool] = []

    async def run() -> None:
        ran.append(True)

    task = asyncio.create_task(run())
    assert bool(ran) == bool(eager)
    await task


@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=pytest.mark.loops(name)) for name in ("asyncio", "uvloop")]
)
async def test_a_mark_selects_the_event_loops(event_loop_name: str, library: str) -> None:
    assert event_loop_name.partition("-")[0] == library


def test_a_hanging_test_is_cancelled_and_the_traceback_shows_where(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, HANGING)
    assert f"{2 * len(LOOPS) + 1} failed" in run.stdout, run.stdout + run.stderr
    for line in ("await asyncio.get_running_loop().create_future()", "await asyncio.sleep(0.001)", "subprocess.run("):
        assert f">       {line}" in run.stdout or f">           {line}" in run.stdout


@pytest.mark.parametrize("loop", LOOPS)
def test_a_test_that_ignores_cancellation_is_ended_with_its_process(tmp_path: Path, loop: str) -> None:
    run = run_pytest(tmp_path, IGNORES_CANCELLATION, "-k", loop, "-o", "timeout_grace=0.3")
    assert run.returncode != 0
    assert "+++ Timeout +++" in run.stdout


def test_gearmand_is_restarted_on_its_port(gearmand: Gearmand) -> None:
    before = gearmand.pid
    gearmand.restart()
    assert ask(gearmand.port, "getpid") == f"OK {gearmand.pid}"
    assert gearmand.pid != before
