"""The systemd unit, tested as systemd would use it."""

from __future__ import annotations

import hashlib
import os
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.cli.command import is_alive
from tests.support.eventually import wait_until
from tests.support.gearmand import Gearmand
from tests.support.wire import Wire

EXAMPLES = Path(__file__).parents[1] / "examples" / "deployment"
WITHIN = 30.0  # seconds


@pytest.fixture(scope="module")
def service() -> Mapping[str, str]:
    """The section `Service` of the unit."""
    parser = ConfigParser(interpolation=None, strict=False)  # some settings have several lines
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to set it
    parser.read_string((EXAMPLES / "geartrain-worker.service").read_text())
    assert parser.sections() == ["Unit", "Service", "Install"]
    return dict(parser["Service"])


def adapt(command: str) -> Sequence[str]:
    """Return a command of the unit with this interpreter's `geartrain`."""
    program, *arguments = shlex.split(command)
    assert program.endswith("/bin/geartrain")
    return [sys.executable, "-W", "error", "-m", "geartrain", *arguments]


def find_children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def stop(service: Mapping[str, str], pid: int) -> None:
    """Send the same signals to the same processes as `systemctl stop` (systemd.kill(5))."""
    receivers = {"mixed": [pid], "process": [pid], "control-group": [pid, *find_children(pid)]}
    for receiver in receivers[service["KillMode"]]:
        os.kill(receiver, signal.Signals[service["KillSignal"]])


def test_four_processes_run_and_stop_after_their_jobs(
    service: Mapping[str, str], gearmand: Gearmand, tmp_path: Path
) -> None:
    name, _, _ = service["Environment"].partition("=")
    slow = tmp_path / "slow"
    os.mkfifo(slow)  # reading it blocks until the test writes
    with (
        subprocess.Popen(
            adapt(service["ExecStart"]),
            cwd=EXAMPLES,
            env={**os.environ, name: gearmand.address},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process,
        Wire(gearmand.port) as client,
        Wire(gearmand.port) as admin,
    ):
        try:
            wait_until(lambda: sum(b" : " in line for line in admin.ask(b"workers")) == 4)
            workers = find_children(process.pid)
            assert len(workers) == 4
            handle = client.submit(b"sha256", b"", bytes(slow))
            wait_until(lambda: b"sha256\t1\t1\t4\n" in admin.ask(b"status"))
            stop(service, process.pid)
            # The three idle processes end, the fourth does not.
            wait_until(lambda: b"sha256\t1\t1\t1\n" in admin.ask(b"status"))
            slow.write_bytes(b"data")
            digest = hashlib.sha256(b"data").hexdigest().encode()
            assert client.receive()[1] == handle + b"\0" + digest
            assert process.wait(WITHIN) == 0
            assert not any(is_alive(worker) for worker in workers)
            _, errors = process.communicate()
            assert b"WARNING" not in errors
            assert b"ERROR" not in errors
        finally:
            process.kill()


def test_systemd_waits_longer_than_the_grace_period(service: Mapping[str, str]) -> None:
    worker = runpy.run_path(str(EXAMPLES / "app.py"))["worker"]
    assert float(service["TimeoutStopSec"]) > worker._config.grace


def test_a_broken_configuration_is_not_restarted(service: Mapping[str, str], tmp_path: Path) -> None:
    ended = subprocess.run(adapt(service["ExecStart"]), cwd=tmp_path, capture_output=True, timeout=WITHIN, check=False)
    assert ended.returncode == int(service["RestartPreventExitStatus"])
    assert b"no module named 'app'" in ended.stderr


def test_paths_and_servers_of_the_unit_are_consistent(service: Mapping[str, str]) -> None:
    assert service["ExecStart"].startswith(f"{service['WorkingDirectory']}/")
    assert service["Environment"].startswith("GEARMAN_SERVERS=")
