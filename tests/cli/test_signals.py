"""Signal handling of the command line as an ordinary process, as process 1 of a container, and as a subreaper."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.command import ROOT, make_environment
from tests.cli.workers import Process, find_children, run_worker, submit
from tests.support.eventually import wait_until
from tests.support.gearmand import Gearmand, ask
from tests.support.wire import Wire

SIGNALS = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]

SUBREAPER = (
    sys.executable,
    "-c",
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])",
)
UNSHARE = ("unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")
CAN_BE_PROCESS_1 = subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0

# Wrappers that make orphaned processes children of the command.
INITS = {"subreaper": SUBREAPER, **({"process 1": UNSHARE} if CAN_BE_PROCESS_1 else {})}
init = pytest.mark.parametrize("wrapper", INITS.values(), ids=INITS)


def find_init(process: Process, wrapper: Sequence[str]) -> int:
    """Return the process ID of the init process of a command that runs in this wrapper."""
    return find_children(process.pid)[0] if wrapper is UNSHARE else process.pid


def ignoring(*numbers: int) -> tuple[str, ...]:
    """Return a wrapper that runs a command with these signals ignored, like nohup."""
    code = "".join(f"signal.signal({int(number)}, signal.SIG_IGN); " for number in numbers)
    # Coverage sets a handler for SIGTERM before the program runs.
    clean = "[os.environ.pop(name) for name in list(os.environ) if name.startswith('COVERAGE')]; "
    return (sys.executable, "-c", f"import os, signal, sys; {code}{clean}os.execvp(sys.argv[1], sys.argv[1:])")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_was_ignored_at_startup_stays_ignored(gearmand: Gearmand, number: signal.Signals) -> None:
    others = [other for other in SIGNALS if other is not number]
    with run_worker(gearmand, "f", "--", "cat", wrapper=ignoring(number)) as worker:
        worker.send_signal(number)
        assert submit(gearmand, "f", b"x").stdout == b"x"
        worker.send_signal(others[0])
        assert worker.wait(20) == 0


MODULE = """
import subprocess
from geartrain import Worker

def make(job_servers):
    worker = Worker(job_servers)

    @worker.function("word")
    def word(job):
        return subprocess.run(["sh", "-c", "exit 7"]).returncode.to_bytes()

    return worker
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A directory with a module `app`."""
    (tmp_path / "app.py").write_text(MODULE)
    return tmp_path


def test_supervised_processes_inherit_ignored_signals(gearmand: Gearmand, app: Path) -> None:
    arguments = ("app:make", "--processes", "1")
    with run_worker(gearmand, *arguments, directory=app, wrapper=ignoring(signal.SIGHUP)) as supervisor:
        supervisor.send_signal(signal.SIGHUP)
        [process] = find_children(supervisor.pid)
        os.kill(process, signal.SIGHUP)
        assert submit(gearmand, "word").returncode == 0
        assert find_children(supervisor.pid) == [process]
        supervisor.terminate()
        assert supervisor.wait(20) == 0


@pytest.mark.parametrize("command", [["serve", "-p", "0"], ["demo", "--pause", "60", __file__]])
def test_each_long_running_command_keeps_ignored_signals_ignored(command: Sequence[str]) -> None:
    wrapper = ignoring(signal.SIGHUP, signal.SIGINT)
    environment = make_environment(PYTHONUNBUFFERED="1")
    with subprocess.Popen(
        [*wrapper, sys.executable, "-m", "geartrain", *command], stdout=subprocess.PIPE, env=environment, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert b"listens on" in process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        process.terminate()
        process.communicate(timeout=20)
        assert process.returncode == (0 if command[0] == "serve" else 128 + signal.SIGTERM)


@init
def test_an_init_process_reaps_adopted_processes(gearmand: Gearmand, tmp_path: Path, wrapper: Sequence[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    orphan = f"touch {tmp_path}/started; exec cat {tmp_path}/pipe"
    script = f"setsid sh -c '{orphan}' > /dev/null 2>&1 & while ! [ -e {tmp_path}/started ]; do sleep 0.01; done; cat"
    with run_worker(gearmand, "f", "--", "sh", "-c", script, wrapper=wrapper) as worker:
        parent = find_init(worker, wrapper)
        [child] = find_children(parent)
        assert submit(gearmand, "f", b"x").stdout == b"x"
        wait_until(lambda: len(find_children(parent)) == 2)
        (tmp_path / "pipe").write_bytes(b"")
        wait_until(lambda: find_children(parent) == [child])
        os.kill(parent, signal.SIGTERM)
        assert worker.wait(20) == 0


@init
def test_an_init_process_does_not_take_the_exit_statuses_of_a_functions_processes(
    gearmand: Gearmand, app: Path, wrapper: Sequence[str]
) -> None:
    with run_worker(gearmand, "app:make", directory=app, wrapper=wrapper):
        assert {submit(gearmand, "word").stdout for _ in range(3)} == {b"\7"}


@init
def test_an_init_process_forwards_signals_and_returns_the_exit_status(
    gearmand: Gearmand, tmp_path: Path, wrapper: Sequence[str]
) -> None:
    script = f"echo started > {tmp_path}/started; sleep 60"
    with run_worker(gearmand, "f", "--", "sh", "-c", script, wrapper=wrapper) as worker, Wire(gearmand.port) as client:
        client.submit(b"f")
        wait_until((tmp_path / "started").exists)
        parent = find_init(worker, wrapper)
        os.kill(parent, signal.SIGTERM)
        os.kill(parent, signal.SIGHUP)  # the second one ends it immediately
        assert worker.wait(20) in (128 + signal.SIGTERM, 128 + signal.SIGHUP)
        wait_until(lambda: ask(gearmand.port, "status") == "f\t1\t0\t0")


def test_nothing_outlives_a_subreaper_that_is_killed(gearmand: Gearmand) -> None:
    with run_worker(gearmand, "f", "--", "cat", wrapper=SUBREAPER) as worker:
        worker.kill()
        wait_until(lambda: ask(gearmand.port, "status") == "f\t0\t0\t0")


@init
@pytest.mark.parametrize("module", ["geartrain.cli.exit_status", "click", "geartrain.cli.commands.ping"])
def test_a_signal_is_not_lost_while_an_init_process_starts(wrapper: Sequence[str], module: str) -> None:
    process = "1" if wrapper is UNSHARE else "os.getppid()"
    program = f"""
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill({process}, signal.SIGTERM)
            signal.pause()  # until it is forwarded

sys.meta_path.insert(0, Finder())
sys.argv[1:] = ["ping"]
from geartrain.cli import main
main()
"""
    result = subprocess.run(
        [*wrapper, sys.executable, "-c", program], capture_output=True, cwd=ROOT, timeout=20, check=False
    )
    assert (result.returncode, result.stderr) == (128 + signal.SIGTERM, b"")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_during_startup_ends_a_command_without_a_traceback(number: signal.Signals) -> None:
    program = f"""
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            os.kill(os.getpid(), {int(number)})

sys.meta_path.insert(0, Finder())
from geartrain.cli import main
main()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT, timeout=20, check=False)
    assert result.returncode in (-number, 128 + number)
    assert result.stderr == b""
