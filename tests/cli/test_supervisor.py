"""The supervisor of ``geartrain worker --processes``: restarts and giving up."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from pathlib import Path

import pytest

from geartrain.cli.exit_status import FAILED, SUCCESS, USAGE_ERROR
from geartrain.cli.worker import supervisor as module
from geartrain.cli.worker.source_watcher import SourceWatcher
from geartrain.cli.worker.supervisor import Supervisor
from tests.support.eventually import eventually


class RecordingSupervisor(Supervisor):
    """Records the delays before restarts instead of waiting."""

    def __init__(
        self, script: str, count: int = 1, source_directory: Path | None = None, max_failures: int = 5
    ) -> None:
        super().__init__(["sh", "-c", script], count, source_directory, max_failures=max_failures)
        self.delays: list[float | None] = []

    async def _wait_for_change(self, seconds: float | None) -> None:
        self.delays.append(seconds)
        if seconds is None:
            await super()._wait_for_change(seconds)


@pytest.mark.parametrize("script", ["exit 0", "exit 1", "exit 7", "kill -9 $$", "kill -TERM $$"])
async def test_early_exits_are_restarted_with_increasing_delays_until_giving_up(
    script: str, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = RecordingSupervisor(script, max_failures=8)
    assert await supervisor.run() == FAILED
    assert supervisor.delays == [1, 2, 4, 8, 16, 30, 30]
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(errors) == 9
    assert errors[-1] == "giving up after 8 failures in a row"


async def test_exits_and_restarts_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert await RecordingSupervisor("kill -9 $$", max_failures=2).run() == FAILED
    messages = [re.sub(r"process \d+|\d\.\d s", "N", record.getMessage()) for record in caplog.records]
    assert messages == [
        "started N",
        "N ended with SIGKILL after N",
        "starting a process again in 1 s",
        "started N, 1 restart so far",
        "N ended with SIGKILL after N",
        "giving up after 2 failures in a row",
        "stopping: waiting for 0 processes",
    ]
    assert (vars(caplog.records[1])["status"], vars(caplog.records[3])["restarts"]) == (-signal.SIGKILL, 1)


async def test_giving_up_stops_all_processes(tmp_path: Path) -> None:
    # One process runs until it is stopped; the other one keeps failing.
    script = f"if mkdir {tmp_path}/first 2> /dev/null; then exec sleep 60; else exit 1; fi"
    assert await RecordingSupervisor(script, 2, max_failures=2).run() == FAILED


async def test_a_process_that_has_done_jobs_is_restarted_immediately(tmp_path: Path) -> None:
    supervisor = RecordingSupervisor(f"echo >> {tmp_path}/starts; printf . >&0")
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: (tmp_path / "starts").exists() and len((tmp_path / "starts").read_bytes()) > 5)
    supervisor.stop()
    assert await running == SUCCESS
    assert not supervisor.delays


async def test_a_process_that_did_a_job_and_crashed_has_failed() -> None:
    supervisor = RecordingSupervisor("printf . >&0; exit 1", max_failures=2)
    assert await supervisor.run() == FAILED


async def test_a_process_that_ran_for_a_while_has_not_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_MIN_UPTIME", 0.0)
    supervisor = RecordingSupervisor(f"echo >> {tmp_path}/starts; exit 1", max_failures=2)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: (tmp_path / "starts").exists() and len((tmp_path / "starts").read_bytes()) > 5)
    supervisor.stop()
    assert await running == SUCCESS


async def test_a_usage_error_ends_the_supervisor_unless_a_process_has_worked_before(tmp_path: Path) -> None:
    assert await RecordingSupervisor("exit 2").run() == USAGE_ERROR
    supervisor = RecordingSupervisor(f"if mkdir {tmp_path}/second; then printf . >&0; exit 0; else exit 2; fi")
    assert await supervisor.run() == FAILED
    assert len(supervisor.delays) == 4


async def test_without_a_limit_the_supervisor_never_gives_up() -> None:
    supervisor = RecordingSupervisor("exit 1", max_failures=0)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: len(supervisor.delays) > 7)
    supervisor.stop()
    assert await running == SUCCESS


async def test_the_delay_stays_at_its_limit_however_often_a_process_fails() -> None:
    """Without a limit for failures, a worker that is broken overnight fails more than a thousand times in a row."""

    class FailingSupervisor(RecordingSupervisor):
        async def _run_process(self) -> bool:
            if len(self.delays) == 2000:
                self.stop()
            return True

    supervisor = FailingSupervisor("", max_failures=0)
    assert await supervisor.run() == SUCCESS
    assert len(supervisor.delays) == 2000
    assert set(supervisor.delays[5:]) == {30}


async def test_a_process_that_cannot_be_started_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = RecordingSupervisor("", max_failures=2)
    supervisor._command = ["/nowhere/to/be/found"]
    assert await supervisor.run() == FAILED
    assert "cannot start a process: No such file or directory" in caplog.text


async def test_with_reload_a_failed_process_is_restarted_when_a_source_file_changes(tmp_path: Path) -> None:
    supervisor = RecordingSupervisor(f"echo >> {tmp_path}/starts; exit 1", source_directory=tmp_path, max_failures=1)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: supervisor.delays == [None])
    (tmp_path / "app.py").touch()
    await eventually(lambda: supervisor.delays == [None, None])
    supervisor.stop()
    assert await running == SUCCESS


@pytest.mark.parametrize("script", ["exit 0", "exit 1", "sleep 60", "trap 'exit 0' TERM; sleep 60 & wait"])
async def test_the_supervisor_can_be_stopped_at_any_time(script: str) -> None:
    for turns in range(12):
        supervisor = Supervisor(["sh", "-c", script], 2, None)
        running = asyncio.create_task(supervisor.run())
        for _ in range(turns):
            await asyncio.sleep(0.001)
        supervisor.stop()
        supervisor.stop()
        assert await running == SUCCESS


async def test_a_process_is_replaced_even_if_a_descendant_holds_its_standard_input(tmp_path: Path) -> None:
    # It is not killed with its parent, because it has its own session.
    holder = f"setsid sh -c 'echo $$ >> {tmp_path}/sleepers; kill -9 $PPID; exec sleep 60' <&0"
    supervisor = RecordingSupervisor(f"{holder} & wait", max_failures=3)
    assert await supervisor.run() == FAILED
    sleepers = [int(line) for line in (tmp_path / "sleepers").read_text().splitlines()]
    assert len(sleepers) == 3
    for sleeper in sleepers:
        os.kill(sleeper, signal.SIGKILL)


def test_unreadable_source_files_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "itself.py").symlink_to("itself.py")
    (tmp_path / "nowhere.py").symlink_to("/nowhere/to/be/found")
    (tmp_path / ("x" * 250 + ".py")).symlink_to("x" * 4000)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "directory.py").mkdir()
    (tmp_path / "directory.py" / "loop").symlink_to("..")
    watcher = SourceWatcher(tmp_path)
    assert watcher.find_changed() is None
    (tmp_path / "app.py").touch()
    assert watcher.find_changed() == tmp_path / "app.py"
    assert watcher.find_changed() is None
