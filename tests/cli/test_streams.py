"""Every command in a hostile environment: it leaves no traceback, and its exit status says what happened."""

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
from tests.cli.command import COMMAND, ROOT, WITHIN, make_environment
from tests.cli.forked_commands import Outcome, Request
from tests.cli.workers import count_workers
from tests.support.gearmand import Gearmand
from tests.support.wire import Wire, wait_until

NAME = "fünction-\N{SNOWMAN}".encode()
NOBODY = "127.0.0.1:1"


@dataclass(frozen=True)
class Surroundings:
    """
    Where a command runs.

    Attributes:
        shell: Redirections, and what is done before.
        output: The exit status of a command that prints something and would have succeeded.
        visible: Whether standard output can be seen.
        errors_visible: Whether standard error can be seen.
        changes: Environment variables; ``None`` takes one away.
    """

    shell: str = 'exec "$@"'
    output: int = 0
    visible: bool = True
    errors_visible: bool = True
    changes: Mapping[str, str | None] = field(default_factory=dict)

    def make_environment(self) -> dict[str, str]:
        """Return the environment variables."""
        changed = {**make_environment(PYTHONPATH=str(ROOT)), **self.changes}
        return {name: value for name, value in changed.items() if value is not None}


SURROUNDINGS = {
    "standard output closed": Surroundings('exec "$@" >&-', visible=False),
    "standard output full": Surroundings('exec "$@" >/dev/full', output=1, visible=False),
    "standard output broken": Surroundings('"$@" | true; exit ${PIPESTATUS[0]}', output=141, visible=False),
    "standard error closed": Surroundings('exec "$@" 2>&-', errors_visible=False),
    "standard error full": Surroundings('exec "$@" 2>/dev/full', errors_visible=False),
    "standard error broken": Surroundings('"$@" 2> >(true)', errors_visible=False),
    "standard input closed": Surroundings('exec "$@" <&-'),
    "all closed": Surroundings('exec "$@" <&- >&- 2>&-', visible=False, errors_visible=False),
    "all full": Surroundings('exec "$@" >/dev/full 2>&1', output=1, visible=False, errors_visible=False),
    "current directory deleted": Surroundings('cd $(mktemp -d) && rmdir $PWD && exec "$@"'),
    "locale C": Surroundings(changes={"LC_ALL": "C", "PYTHONUTF8": None}),
    "locale POSIX": Surroundings(changes={"LC_ALL": "POSIX", "PYTHONUTF8": None}),
    "ASCII only": Surroundings(changes={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "no environment": Surroundings('exec env -i PYTHONPATH="$PYTHONPATH" "$@"'),
    "no buffer": Surroundings(changes={"PYTHONUNBUFFERED": "1"}),
}

# Where every command is run. The others concern only names, the start, or what is written when.
FOR_ALL = [
    name
    for name in SURROUNDINGS
    if name
    not in ("standard error closed", "standard input closed", "all full", "locale C", "locale POSIX", "no buffer")
]

# The arguments, the exit status where all is well, and whether something is printed on standard output.
COMMANDS: dict[str, tuple[Sequence[bytes | str], int, bool]] = {
    "help": (["submit", "--help"], 0, True),
    "no command": ([], 2, False),
    "wrong use": (["submit"], 2, False),
    "submit": (["submit", "-s", "SERVER", "reverse", b"\xff\xc3\xbcx"], 0, True),
    "submit in background": (["submit", "-b", "-s", "SERVER", NAME + b"\xff", "x"], 0, True),
    "submit what fails": (["submit", "-s", "SERVER", "raise", "x"], 1, False),
    "submit to nobody": (["submit", "-s", NOBODY, "f", "x"], 3, False),
    "status": (["status", "-s", "SERVER"], 0, True),
    "status of nobody": (["status", "-s", NOBODY], 3, False),
    "workers": (["workers", "-s", "SERVER", "--all"], 0, True),
    "jobs": (["jobs", "-s", "SERVER"], 0, True),
    "job": (["job", "-s", "SERVER", "H:nobody:1"], 1, True),
    "cancel": (["cancel", "-s", "SERVER", "H:nobody:1"], 1, False),
    "create": (["create", "-s", "SERVER", NAME], 0, False),
    "maxqueue": (["maxqueue", "-s", "SERVER", NAME, "9"], 0, False),
    "drop": (["drop", "-s", "SERVER", "nobody_knows_it"], 1, False),
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


def run(surroundings: Surroundings, arguments: Sequence[bytes | str]) -> subprocess.CompletedProcess[bytes]:
    """Run a command as a user would, in a process of its own."""
    return run_program(surroundings, [*COMMAND, *arguments])


def run_program(surroundings: Surroundings, program: Sequence[bytes | str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", surroundings.shell, "bash", *program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=WITHIN,
        env=surroundings.make_environment(),
        cwd=ROOT,
        check=False,
    )


def run_forked(
    surroundings: Surroundings, commands: Sequence[Sequence[bytes | str]], directory: Path
) -> Sequence[Outcome]:
    """Run commands one after the other in one environment."""
    path = directory / "request"
    captured = [fd for fd, is_visible in ((1, surroundings.visible), (2, surroundings.errors_visible)) if is_visible]
    path.write_bytes(pickle.dumps(Request([list(map(os.fsencode, command)) for command in commands], captured)))
    driver = [sys.executable, "-W", "error", "-m", "tests.cli.forked_commands", str(path)]
    ended = run_program(surroundings, driver)
    assert ended.returncode == 0, ended
    outcomes: Sequence[Outcome] = pickle.loads(Path(f"{path}.done").read_bytes())
    return outcomes


@pytest.mark.parametrize("name", FOR_ALL)
def test_the_exit_status_is_correct_and_there_is_no_traceback(server: Gearmand, tmp_path: Path, name: str) -> None:
    surroundings = SURROUNDINGS[name]
    commands = [
        [server.address if argument == "SERVER" else argument for argument in arguments]
        for arguments, _, _ in COMMANDS.values()
    ]
    outcomes = run_forked(surroundings, commands, tmp_path)
    for command, ended in zip(COMMANDS, outcomes, strict=True):
        _, status, prints = COMMANDS[command]
        expected = surroundings.output if prints and surroundings.output else status
        assert ended.status == expected, (command, ended)
        assert b"Traceback" not in ended.errors, (command, ended)
        assert b"Exception ignored" not in ended.errors, (command, ended)
        if surroundings.visible:
            assert bool(ended.output) == prints, (command, ended)
        if surroundings.errors_visible and expected not in (0, 141) and not prints:
            assert ended.errors, (command, ended)


@pytest.mark.parametrize("name", ["locale C", "locale POSIX", "ASCII only", "no environment", "no buffer"])
def test_bytes_are_passed_through_unchanged(server: Gearmand, name: str) -> None:
    surroundings = SURROUNDINGS[name]
    ended = run(surroundings, ["submit", "-s", server.address, "reverse", b"\xff\xc3\xbcx"])
    assert ended.stdout == b"x\xbc\xc3\xff"
    ended = run(surroundings, ["submit", "-s", server.address, "-u", NAME, "describe", "x"])
    assert ended.stdout == NAME + b"|b'x'"
    ended = run(surroundings, ["status", "-s", server.address])
    assert NAME in ended.stdout


LONG_RUNNING = {
    "command": ["worker", "NAME", "--", "sh", "-c", 'echo noise >&2; printf "%s|" "$GEARMAN_FUNCTION"; cat'],
    "processes": ["worker", "tests.cli.some_worker:make_worker", "--processes", "1"],
}


# A shell that waits for another process would be in the way of signals.
@pytest.mark.parametrize("name", [name for name in SURROUNDINGS if "broken" not in name])
@pytest.mark.parametrize("kind", LONG_RUNNING)
def test_a_worker_runs_its_jobs_and_shuts_down_gracefully(gearmand: Gearmand, kind: str, name: str) -> None:
    surroundings = SURROUNDINGS[name]
    arguments = [NAME if argument == "NAME" else argument for argument in LONG_RUNNING[kind]]
    head, tail = arguments[:2], arguments[2:]
    with subprocess.Popen(
        ["bash", "-c", surroundings.shell, "bash", *COMMAND, *head, "-s", gearmand.address, *tail],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=surroundings.make_environment(),
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
