"""Every command in hostile environments: correct exit status, no traceback."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from geartrain.protocol.packets import PacketType
from tests.cli.command import COMMAND, ROOT, TIMEOUT, make_environment
from tests.cli.forked_commands import Outcome, Request
from tests.cli.workers import count_workers
from tests.support.eventually import wait_until
from tests.support.gearmand import Gearmand
from tests.support.wire import Wire

pytestmark = pytest.mark.untraced

NAME = "fünction-\N{SNOWMAN}".encode()
UNREACHABLE = "127.0.0.1:1"


@dataclass(frozen=True)
class Environment:
    """
    The environment of a command.

    Attributes:
        shell: The shell script that runs it, with redirections.
        output_status: The exit status of a command that produces output and would otherwise succeed.
        is_output_visible: Whether the test can read standard output.
        are_errors_visible: Whether the test can read standard error.
        changes: Changed environment variables; ``None`` removes one.
    """

    shell: str = 'exec "$@"'
    output_status: int = 0
    is_output_visible: bool = True
    are_errors_visible: bool = True
    changes: Mapping[str, str | None] = field(default_factory=dict)

    def make_environment(self) -> dict[str, str]:
        """Return the environment variables."""
        changed = {**make_environment(PYTHONPATH=str(ROOT)), **self.changes}
        return {name: value for name, value in changed.items() if value is not None}


ENVIRONMENTS = {
    "standard output closed": Environment('exec "$@" >&-', is_output_visible=False),
    "standard output full": Environment('exec "$@" >/dev/full', output_status=1, is_output_visible=False),
    "standard output broken": Environment(
        '"$@" | true; exit ${PIPESTATUS[0]}', output_status=141, is_output_visible=False
    ),
    "standard error closed": Environment('exec "$@" 2>&-', are_errors_visible=False),
    "standard error full": Environment('exec "$@" 2>/dev/full', are_errors_visible=False),
    "standard error broken": Environment('"$@" 2> >(true)', are_errors_visible=False),
    "standard input closed": Environment('exec "$@" <&-'),
    "all closed": Environment('exec "$@" <&- >&- 2>&-', is_output_visible=False, are_errors_visible=False),
    "all full": Environment(
        'exec "$@" >/dev/full 2>&1', output_status=1, is_output_visible=False, are_errors_visible=False
    ),
    "current directory deleted": Environment('cd $(mktemp -d) && rmdir $PWD && exec "$@"'),
    "locale C": Environment(changes={"LC_ALL": "C", "PYTHONUTF8": None}),
    "locale POSIX": Environment(changes={"LC_ALL": "POSIX", "PYTHONUTF8": None}),
    "ASCII only": Environment(changes={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "no environment": Environment('exec env -i PYTHONPATH="$PYTHONPATH" "$@"'),
    "no buffer": Environment(changes={"PYTHONUNBUFFERED": "1"}),
}

# Every command runs in these. The others only affect names, startup, or the order of output.
FOR_ALL = [
    name
    for name in ENVIRONMENTS
    if name
    not in ("standard error closed", "standard input closed", "all full", "locale C", "locale POSIX", "no buffer")
]

# The arguments, the exit status in a normal environment, and whether the command writes to standard output.
COMMANDS: dict[str, tuple[Sequence[bytes | str], int, bool]] = {
    "help": (["submit", "--help"], 0, True),
    "no command": ([], 2, False),
    "usage error": (["submit"], 2, False),
    "submit": (["submit", "-s", "SERVER", "reverse", b"\xff\xc3\xbcx"], 0, True),
    "submit in background": (["submit", "-b", "-s", "SERVER", NAME + b"\xff", "x"], 0, True),
    "submit a failing job": (["submit", "-s", "SERVER", "raise", "x"], 1, False),
    "submit to an unreachable server": (["submit", "-s", UNREACHABLE, "f", "x"], 3, False),
    "status": (["status", "-s", "SERVER"], 0, True),
    "status of an unreachable server": (["status", "-s", UNREACHABLE], 3, False),
    "workers": (["workers", "-s", "SERVER", "--all"], 0, True),
    "jobs": (["jobs", "-s", "SERVER"], 0, True),
    "job": (["job", "-s", "SERVER", "H:unknown:1"], 1, True),
    "cancel": (["cancel", "-s", "SERVER", "H:unknown:1"], 1, False),
    "create": (["create", "-s", "SERVER", NAME], 0, False),
    "maxqueue": (["maxqueue", "-s", "SERVER", NAME, "9"], 0, False),
    "drop": (["drop", "-s", "SERVER", "no_such_function"], 1, False),
    "ping": (["ping", "-s", "SERVER"], 0, True),
    "version": (["version", "-s", "SERVER"], 0, True),
    "demo": (["demo", "--pause", "0", __file__], 0, True),
    "worker of a missing module": (["worker", "no_such_module:w"], 2, False),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gearmand]:
    """A gearmand with a worker, and with a job for a function whose name is not ASCII."""
    with Gearmand(tmp_path_factory.mktemp("gearmand")) as gearmand:
        command = [sys.executable, "-m", "tests.cli.some_worker", gearmand.address]
        with subprocess.Popen(command, cwd=ROOT) as worker:
            wait_until(lambda: count_workers(gearmand))
            with Wire(gearmand.port) as wire:
                wire.submit(NAME, workload=b"x", kind=PacketType.SUBMIT_JOB_BG)
            yield gearmand
            worker.kill()


def run_program(environment: Environment, program: Sequence[bytes | str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", environment.shell, "bash", *program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT,
        env=environment.make_environment(),
        cwd=ROOT,
        check=False,
    )


def run_forked(
    environment: Environment, commands: Sequence[Sequence[bytes | str]], directory: Path
) -> Sequence[Outcome]:
    """Run commands one after the other in the same environment."""
    path = directory / "request"
    captured = [
        fd for fd, is_visible in ((1, environment.is_output_visible), (2, environment.are_errors_visible)) if is_visible
    ]
    path.write_bytes(pickle.dumps(Request([list(map(os.fsencode, command)) for command in commands], captured)))
    driver = [sys.executable, "-W", "error", "-m", "tests.cli.forked_commands", str(path)]
    result = run_program(environment, driver)
    assert result.returncode == 0, result
    outcomes: Sequence[Outcome] = pickle.loads(Path(f"{path}.done").read_bytes())
    return outcomes


@pytest.mark.parametrize("name", FOR_ALL)
def test_the_exit_status_is_correct_and_there_is_no_traceback(server: Gearmand, tmp_path: Path, name: str) -> None:
    environment = ENVIRONMENTS[name]
    commands = [
        [server.address if argument == "SERVER" else argument for argument in arguments]
        for arguments, _, _ in COMMANDS.values()
    ]
    outcomes = run_forked(environment, commands, tmp_path)
    for command, result in zip(COMMANDS, outcomes, strict=True):
        _, status, has_output = COMMANDS[command]
        expected = environment.output_status if has_output and environment.output_status else status
        assert result.status == expected, (command, result)
        assert b"Traceback" not in result.errors, (command, result)
        assert b"Exception ignored" not in result.errors, (command, result)
        if environment.is_output_visible:
            assert bool(result.output) == has_output, (command, result)
        if environment.are_errors_visible and expected not in (0, 141) and not has_output:
            assert result.errors, (command, result)


@pytest.mark.parametrize("name", ["locale C", "locale POSIX", "ASCII only", "no environment", "no buffer"])
def test_bytes_are_passed_through_unchanged(server: Gearmand, tmp_path: Path, name: str) -> None:
    commands: list[list[bytes | str]] = [
        ["submit", "-s", server.address, "reverse", b"\xff\xc3\xbcx"],
        ["submit", "-s", server.address, "-u", NAME, "describe", "x"],
        ["status", "-s", server.address],
    ]
    workload, unique, status = run_forked(ENVIRONMENTS[name], commands, tmp_path)
    assert workload.output == b"x\xbc\xc3\xff"
    assert unique.output == NAME + b"|b'x'"
    assert NAME in status.output


LONG_RUNNING = {
    "command": ["worker", "NAME", "--", "sh", "-c", 'echo noise >&2; printf "%s|" "$GEARMAN_FUNCTION"; cat'],
    "processes": ["worker", "tests.cli.some_worker:make_worker", "--processes", "1"],
}


# In the others a shell waits for another process and does not forward signals.
@pytest.mark.parametrize("name", [name for name in ENVIRONMENTS if "broken" not in name])
@pytest.mark.parametrize("kind", LONG_RUNNING)
def test_a_worker_runs_its_jobs_and_shuts_down_gracefully(gearmand: Gearmand, kind: str, name: str) -> None:
    environment = ENVIRONMENTS[name]
    arguments = [NAME if argument == "NAME" else argument for argument in LONG_RUNNING[kind]]
    head, tail = arguments[:2], arguments[2:]
    with subprocess.Popen(
        ["bash", "-c", environment.shell, "bash", *COMMAND, *head, "-s", gearmand.address, *tail],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment.make_environment(),
        cwd=ROOT,
    ) as worker:
        wait_until(lambda: worker.poll() is not None or count_workers(gearmand))
        assert worker.poll() is None, worker.communicate()
        with Wire(gearmand.port) as wire:
            handle = wire.submit(NAME if kind == "command" else b"reverse", workload=b"abc")
            wire.expect(PacketType.WORK_COMPLETE, handle, NAME + b"|abc" if kind == "command" else b"cba")
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate(timeout=20)
        assert worker.returncode == 0
        assert b"Traceback" not in errors
        assert b"Exception ignored" not in errors
