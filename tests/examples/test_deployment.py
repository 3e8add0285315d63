"""
The files in ``examples/deployment``: each is checked by its own tool, and runs the worker.

A container engine is not required: what a container runs as process 1 is started in a process namespace.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_signals import CAN_BE_PROCESS_1, SUBREAPER, UNSHARE, find_init
from tests.cli.workers import count_workers, find_children
from tests.support.eventually import wait_until
from tests.support.gearmand import Gearmand, ask, free_port
from tests.support.http import get
from tests.support.wire import Wire

FOLDER = Path(__file__).parents[2] / "examples" / "deployment"
BIN = Path(sys.executable).parent
WITHIN = 30.0  # seconds
PORT = "9100"  # of the probes

# Runs a command as if in a container.
CONTAINER = UNSHARE if CAN_BE_PROCESS_1 else SUBREAPER


def make_environment() -> dict[str, str]:
    """Return an environment in which the programs of this interpreter and daemons are found."""
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}:/usr/sbin"}


def run_tool(*command: str | Path) -> str:
    """Run a checker in the folder, which must succeed, and return its output."""
    found = BIN / str(command[0])
    program = found if found.exists() else command[0]
    result = subprocess.run([program, *command[1:]], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@functools.cache
def read_yaml(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


@functools.cache
def pod() -> Any:
    """The pod of the Kubernetes manifest."""
    return read_yaml("kubernetes.yaml")["spec"]["template"]["spec"]


def read_ini(name: str, section: str) -> Mapping[str, str]:
    parser = ConfigParser(interpolation=None, comment_prefixes=(";", "#"), inline_comment_prefixes=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to set it
    parser.read_string((FOLDER / name).read_text())
    return dict(parser[section])


def unit_commands() -> Sequence[str]:
    return shlex.split(read_ini("geartrain-worker.service", "Service")["ExecStart"])


@pytest.mark.parametrize(
    "command",
    [
        # The threshold is in tenths: an exposure of at most 2.
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "geartrain-worker.service"],
        ["hadolint", "Dockerfile", "gearmand.Dockerfile"],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
        ["kubernetes-validate", "--strict", "kubernetes.yaml"],
        ["honcho", "check"],
    ],
    ids=lambda command: command[0],
)
def test_the_tool_of_each_file_accepts_it(command: Sequence[str]) -> None:
    run_tool(*command)


def test_systemd_finds_no_mistake_in_the_unit(tmp_path: Path) -> None:
    unit = (FOLDER / "geartrain-worker.service").read_text().replace("/srv/app/.venv/bin/geartrain", "/bin/true")
    (tmp_path / "geartrain-worker.service").write_text(unit)
    run_tool("systemd-analyze", "verify", "--man=no", tmp_path / "geartrain-worker.service")


def test_every_file_waits_longer_than_the_grace_period() -> None:
    grace = runpy.run_path(str(FOLDER / "app.py"))["worker"]._config.grace
    compose = read_yaml("compose.yaml")["services"]["worker"]["stop_grace_period"]
    waits = {
        "compose.yaml": float(compose.removesuffix("s")),
        "kubernetes.yaml": float(pod()["terminationGracePeriodSeconds"]),
        "supervisord.conf": float(read_ini("supervisord.conf", "program:geartrain-worker")["stopwaitsecs"]),
    }
    assert all(seconds > grace for seconds in waits.values()), waits


@pytest.fixture
def gearmand(tmp_path: Path) -> Iterator[Gearmand]:
    """A gearmand without the worker that the other examples call."""
    with Gearmand(tmp_path) as server:
        yield server


@contextmanager
def run_worker(gearmand: Gearmand, workers: int, command: Sequence[str | Path]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that starts the worker, and wait until it has registered."""
    environment = {**make_environment(), "GEARMAN_SERVERS": gearmand.address}
    with subprocess.Popen(command, cwd=FOLDER, env=environment, stdin=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: process.poll() is not None or count_workers(gearmand) >= workers, within=WITHIN)
            assert process.poll() is None
            yield process
        finally:
            process.kill()


def stop_during_a_job(gearmand: Gearmand, folder: Path, stop: Callable[[], None]) -> None:
    """Check that a running job ends after a request to stop."""
    slow = folder / "slow"
    os.mkfifo(slow)  # reading it blocks until the test writes
    with Wire(gearmand.port) as client:
        handle = client.submit(b"sha256", b"", bytes(slow))
        wait_until(lambda: "sha256\t1\t1\t" in ask(gearmand.port, "status"))
        stop()
        # The idle workers leave; the one with the job does not.
        wait_until(lambda: "sha256\t1\t1\t1" in ask(gearmand.port, "status"))
        slow.write_bytes(b"data")
        assert client.receive()[1] == handle + b"\0" + hashlib.sha256(b"data").hexdigest().encode()


def read_health_check() -> Sequence[str]:
    """Return the health check of the Dockerfile."""
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", "")
    line = next(line for line in text.splitlines() if line.startswith("HEALTHCHECK "))
    command: list[str] = json.loads(line.partition(" CMD ")[2])
    return command


def read_probes() -> set[str]:
    """Return the paths that Kubernetes requests."""
    container = pod()["containers"][0]
    probes = [container[kind] for kind in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert {probe["httpGet"]["port"] for probe in probes} == {container["ports"][0]["name"]}
    assert str(container["ports"][0]["containerPort"]) == PORT
    return {probe["httpGet"]["path"] for probe in probes}


def succeeds(address: str, path: str) -> bool:
    status, _ = get(address, path)
    return status == 200


def read_container_commands() -> dict[str, tuple[Sequence[str], int]]:
    """Return the command of each kind of container, and how many workers it starts."""
    line = next(line for line in (FOLDER / "Dockerfile").read_text().splitlines() if line.startswith("CMD "))
    container = pod()["containers"][0]
    return {
        "Dockerfile": (json.loads(line.removeprefix("CMD ")), 4),
        "kubernetes.yaml": (container["args"], 1),
    }


@pytest.mark.parametrize("file", ["Dockerfile", "kubernetes.yaml"])
def test_process_1_of_a_container_answers_probes_and_lets_a_running_job_end(
    gearmand: Gearmand, tmp_path: Path, file: str
) -> None:
    command, workers = read_container_commands()[file]
    port = str(free_port())
    command = [word.replace(PORT, port) for word in command]
    with run_worker(gearmand, workers, [*CONTAINER, *command]) as process:
        for path in read_probes():
            wait_until(functools.partial(succeeds, f"127.0.0.1:{port}", path), within=WITHIN)
        health_check = [word.replace(PORT, port) for word in read_health_check()]
        subprocess.run([BIN / health_check[0], *health_check[1:]], check=True)
        init = find_init(process, CONTAINER)
        stop_during_a_job(gearmand, tmp_path, lambda: os.kill(init, signal.SIGTERM))
        assert process.wait(WITHIN) == 0


def test_gearmand_starts_without_privileges_and_passes_its_health_check() -> None:
    text = (FOLDER / "gearmand.Dockerfile").read_text()
    lines = {
        line.partition(" ")[0]: json.loads(line[line.index("[") :]) for line in text.splitlines() if "CMD [" in line
    }
    unprivileged = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
    port = f"--port={free_port()}"
    with subprocess.Popen([*unprivileged, *lines["CMD"], port], cwd="/", env=make_environment()) as gearmand:
        try:
            check = functools.partial(subprocess.run, [*lines["HEALTHCHECK"], port], capture_output=True, check=False)
            wait_until(lambda: check().returncode == 0, within=WITHIN)
        finally:
            gearmand.terminate()


def test_honcho_runs_the_procfile_and_lets_a_running_job_end(gearmand: Gearmand, tmp_path: Path) -> None:
    with run_worker(gearmand, 2, ["honcho", "start", "--concurrency", "worker=2"]) as process:
        stop_during_a_job(gearmand, tmp_path, process.terminate)
        process.wait(WITHIN)


def test_supervisord_runs_its_program_and_lets_a_running_job_end(gearmand: Gearmand, tmp_path: Path) -> None:
    program = (FOLDER / "supervisord.conf").read_text()
    for old, new in (
        ("/srv/app/.venv/bin/geartrain", str(BIN / "geartrain")),
        ("/srv/app", str(FOLDER)),
        ('GEARMAN_SERVERS="127.0.0.1:4730"', f'GEARMAN_SERVERS="{gearmand.address}"'),
        ("user=nobody\n", ""),
        ("/var/log/supervisor", str(tmp_path)),
    ):
        assert old in program
        program = program.replace(old, new)
    daemon = f"[supervisord]\nnodaemon=true\nlogfile={tmp_path}/log\npidfile={tmp_path}/pid\nchildlogdir={tmp_path}\n"
    (tmp_path / "supervisord.conf").write_text(daemon + program)
    with run_worker(gearmand, 4, ["supervisord", "-c", tmp_path / "supervisord.conf"]) as process:
        stop_during_a_job(gearmand, tmp_path, process.terminate)
        assert process.wait(WITHIN) == 0
    assert "stopped: geartrain-worker (exit status 0)" in (tmp_path / "log").read_text()


def read_system_calls(group: str) -> set[str]:
    """Return the system calls of a group of systemd's, with those of the groups in it."""
    lines = [line.strip() for line in run_tool("systemd-analyze", "syscall-filter", group).splitlines()[1:]]
    names = {line for line in lines if line and not line.startswith(("#", "@"))}
    return names.union(*(read_system_calls(line) for line in lines if line.startswith("@")))


def test_the_unit_permits_every_system_call_of_the_worker(gearmand: Gearmand, tmp_path: Path) -> None:
    allowed, *filters = [
        line.partition("=")[2]
        for line in (FOLDER / "geartrain-worker.service").read_text().splitlines()
        if line.startswith("SystemCallFilter=")
    ]
    permitted = read_system_calls(allowed)
    for names in filters:
        permitted -= set().union(*map(read_system_calls, names.removeprefix("~").split()))
    command = [str(BIN / "geartrain"), *unit_commands()[1:]]
    trace = tmp_path / "trace"
    with run_worker(gearmand, 4, ["strace", "--follow-forks", "-qq", "-o", str(trace), *command]) as process:
        stop_during_a_job(gearmand, tmp_path, lambda: os.kill(find_children(process.pid)[0], signal.SIGTERM))
        assert process.wait(WITHIN) == 0
    calls = {line.split(maxsplit=1)[1].partition("(")[0] for line in trace.read_text().splitlines() if "(" in line}
    calls = {call for call in calls if call.isidentifier()}
    assert {"execve", "connect", "sendto"} <= calls
    assert calls <= permitted
