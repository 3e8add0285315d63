"""The commands that inspect and change job servers, with gearmand and ``geartrain serve``'s server."""

from __future__ import annotations

import errno
import json
import os
import re

import pytest

from geartrain.handle import JobHandle
from geartrain.protocol.packets import PacketType
from tests.cli.command import geartrain, read_until, start
from tests.cli.terminal import Terminal, run_in_terminal
from tests.support.gearmand import Gearmand, ask
from tests.support.job_server import AnyJobServer
from tests.support.wire import Wire

REFUSED = os.strerror(errno.ECONNREFUSED)
UNREACHABLE = "127.0.0.1:1"  # nothing listens on this port


def run(server: AnyJobServer, *arguments: str) -> str:
    """Run a command that must succeed and return its output."""
    result = geartrain(*arguments, "-s", server.address)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout.decode()


@pytest.fixture
def queued(job_server: AnyJobServer) -> AnyJobServer:
    """A job server with three jobs for `paint`, one of them urgent, and one for `sand`."""
    fill(job_server)
    return job_server


@pytest.fixture
def filled(gearmand: Gearmand) -> Gearmand:
    """The same on gearmand, for tests that do not depend on the kind of job server."""
    fill(gearmand)
    return gearmand


def fill(server: AnyJobServer) -> None:
    queue(server, b"paint", b"urgent", PacketType.SUBMIT_JOB_HIGH_BG)
    queue(server, b"paint")
    queue(server, b"paint")
    queue(server, b"sand")


def queue(
    server: AnyJobServer, function: bytes, unique: bytes = b"", kind: PacketType = PacketType.SUBMIT_JOB_BG
) -> str:
    """Submit a background job and return its handle."""
    with Wire(server.port) as wire:
        return wire.submit(function, unique, b"wall", kind).decode()


def test_status_prints_one_line_per_function(queued: AnyJobServer) -> None:
    address = queued.address
    assert run(queued, "status") == f"{address}\tpaint\t3\t0\t0\n{address}\tsand\t1\t0\t0\n"


def test_status_as_json(filled: Gearmand) -> None:
    paint = {"server": filled.address, "function": "paint", "queued": 3, "running": 0, "workers": 0}
    assert json.loads(run(filled, "status", "--json")) == [paint, {**paint, "function": "sand", "queued": 1}]


def test_status_by_priority(queued: AnyJobServer) -> None:
    address = queued.address
    assert run(queued, "status", "--priority") == f"{address}\tpaint\t1\t2\t0\t0\n{address}\tsand\t0\t1\t0\t0\n"


def test_status_can_be_filtered_and_sorted(filled: Gearmand) -> None:
    address = filled.address
    queue(filled, b"polish")
    assert run(filled, "status", "--filter", "p*", "--sort", "function").split() == [
        *(address, "paint", "3", "0", "0"),
        *(address, "polish", "1", "0", "0"),
    ]
    by_priority = run(filled, "status", "--priority", "--sort", "queued").splitlines()
    assert [line.split("\t")[1] for line in by_priority] == ["paint", "polish", "sand"]


def test_status_by_priority_cannot_be_sorted_by_running_jobs() -> None:
    result = geartrain("status", "--priority", "--sort", "running", "-s", UNREACHABLE)
    assert result.returncode == 2
    assert result.stderr == b"geartrain status: --sort running cannot be combined with --priority\n"


def test_status_on_a_terminal_is_a_table(filled: Gearmand) -> None:
    status, screen = run_in_terminal("status", "-s", filled.address)
    assert status == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", screen)
    assert re.search(r"^server +function +queued +running +workers", plain)
    assert re.search(rf"^{filled.address} +paint +3 +0 +0", plain, re.MULTILINE)


def test_status_of_several_servers_reports_which_cannot_be_reached(filled: Gearmand) -> None:
    result = geartrain("status", "-s", f"{UNREACHABLE},{filled.address}")
    assert result.returncode == 3
    assert result.stderr.decode() == f"geartrain: {UNREACHABLE} could not be reached: {REFUSED}\n"
    assert len(result.stdout.splitlines()) == 2


def test_status_watch_redraws_with_a_chart_until_interrupted(filled: Gearmand) -> None:
    with Terminal("status", "--watch", "-s", filled.address) as terminal:
        terminal.read_until(r"paint +3 +0 +0 +\+0 +█")
        queue(filled, b"paint")
        terminal.read_until(r"paint +4 +0 +0 +\+1 +▇█")
        terminal.press("\x03")
        assert terminal.wait() == 130
        assert terminal.is_restored
    assert terminal.written.endswith("\x1b[?1049l\x1b[?25h")


def test_status_watch_scrolls_fills_a_resized_terminal_and_restores_it_when_q_is_pressed(gearmand: Gearmand) -> None:
    for number in range(30):
        ask(gearmand.port, f"create function f{number:02}")
    with Terminal("status", "--watch", "-s", gearmand.address, lines=10) as terminal:
        terminal.read_until("1-7 of 30 functions")
        assert not terminal.is_restored
        terminal.press("\x1b[B\x1b[6~")
        terminal.read_until("9-15 of 30 functions")
        terminal.press("\x1b[F")
        terminal.read_until(r"24-30 of 30 functions[^\0]*f29")
        terminal.resize(columns=100, lines=20)
        terminal.read_until("14-30 of 30 functions")
        terminal.press("\x1a")  # no shell could continue the command, so it is not stopped
        terminal.read_until_count("\x1b[?1049h", 2)
        terminal.press("q")
        assert terminal.wait() == 0
        assert terminal.is_restored
    assert terminal.written.count("\x1b[?1049l") == 2


def test_status_watch_repeats_its_lines_in_a_pipe(filled: Gearmand) -> None:
    with start("status", "--watch", "--json", "-s", filled.address) as watch:
        first = json.loads(read_until(watch, b"\n"))
        assert [row["queued"] for row in first] == [3, 1]
        queue(filled, b"paint")
        read_until(watch, b'"queued": 4')
        watch.terminate()
        assert watch.communicate() == (b"", b"")
        assert watch.returncode == 128 + 15


def test_workers_lists_connections_with_functions(job_server: AnyJobServer) -> None:
    assert run(job_server, "workers") == ""
    all_workers = run(job_server, "workers", "--all")
    assert re.fullmatch(rf"{job_server.address}\t\d+\t127\.0\.0\.1\t-\t\n", all_workers)


def test_jobs_lists_handles_that_cancel_accepts(queued: AnyJobServer) -> None:
    lines = run(queued, "jobs").splitlines()
    assert len(lines) == 4
    handle, *columns = lines[0].split("\t")
    assert columns[:2] == ["0", "no"]
    assert run(queued, "cancel", handle) == ""


def test_jobs_lists_uniques(queued: AnyJobServer) -> None:
    assert f"{queued.address}\turgent\n" in run(queued, "jobs", "--unique")


def test_cancel_accepts_a_token(job_server: AnyJobServer) -> None:
    handle = queue(job_server, b"paint")
    assert run(job_server, "cancel", JobHandle(job_server.address, handle, "paint", "").token()) == ""


def test_cancel_accepts_a_bare_handle_with_a_single_job_server(job_server: AnyJobServer) -> None:
    assert run(job_server, "cancel", queue(job_server, b"paint")) == ""


def test_cancel_reports_an_unknown_job(job_server: AnyJobServer) -> None:
    result = geartrain("cancel", "-s", job_server.address, "H:nowhere:1")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode() == f"geartrain: no job H:nowhere:1 on {job_server.address}\n"


def test_cancel_rejects_a_bare_handle_with_two_job_servers() -> None:
    result = geartrain("cancel", "-s", "a,b", "H:x:1")
    assert result.returncode == 2
    assert result.stderr.decode() == (
        "geartrain cancel: the handle must name one of the job servers, as in a:4730//H:x:1\n"
    )


def test_create_and_drop_a_function(job_server: AnyJobServer) -> None:
    run(job_server, "create", "paint")
    assert run(job_server, "status") == f"{job_server.address}\tpaint\t0\t0\t0\n"
    run(job_server, "drop", "paint")
    assert run(job_server, "status") == ""


def test_drop_of_an_unknown_function_fails(job_server: AnyJobServer) -> None:
    result = geartrain("drop", "paint", "-s", job_server.address)
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode() == (
        f"geartrain: {job_server.address} answered 'drop function' with 'ERR function not found'\n"
    )


@pytest.mark.parametrize("limits", [("1",), ("9", "1", "9")])
def test_maxqueue_limits_a_function(job_server: AnyJobServer, limits: tuple[str, ...]) -> None:
    run(job_server, "create", "paint")
    run(job_server, "maxqueue", "paint", *limits)
    queue(job_server, b"paint")
    refused = geartrain("submit", "-b", "paint", "wall", "-s", job_server.address)
    assert refused.returncode == 1
    assert b"QUEUE_ERROR" in refused.stderr


def test_maxqueue_accepts_one_limit_or_three(gearmand: Gearmand) -> None:
    result = geartrain("maxqueue", "paint", "1", "2", "-s", gearmand.address)
    assert result.returncode == 2
    assert result.stderr == b"geartrain maxqueue: expected one limit, or three (high, normal, low), got 2\n"


def test_a_function_that_a_text_command_cannot_contain_is_a_usage_error(gearmand: Gearmand) -> None:
    result = geartrain("create", "two words", "-s", gearmand.address)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"geartrain: a text command cannot contain 'two words'")


def test_version_and_process(job_server: AnyJobServer) -> None:
    pid = ask(job_server.port, "getpid").split()[1]
    name = ask(job_server.port, "version").split()[1]
    assert run(job_server, "version") == f"{job_server.address}\t{name}\n"
    assert run(job_server, "version", "--process") == f"{job_server.address}\t{name}\t{pid}\tERROR\n"


def test_ping_measures_each_server(job_server: AnyJobServer) -> None:
    assert re.fullmatch(rf"{job_server.address}\t\d+\.\d{{3}}\n", run(job_server, "ping"))


def test_servers_default_to_the_environment_variable(gearmand: Gearmand) -> None:
    result = geartrain("ping", environment={"GEARMAN_SERVERS": f"{gearmand.address},{UNREACHABLE}"})
    assert result.returncode == 3
    assert result.stdout.decode().startswith(gearmand.address)
    assert result.stderr.decode() == f"geartrain: {UNREACHABLE} could not be reached: {REFUSED}\n"


def test_control_characters_in_names_are_escaped(gearmand: Gearmand) -> None:
    queue(gearmand, b"a\x1b[31mb\tc\xff")
    assert run(gearmand, "status") == f"{gearmand.address}\ta\\x1b[31mb\\tc\\xff\t1\t0\t0\n"


def test_an_unreachable_server_is_exit_status_3() -> None:
    for command in (["status"], ["ping"], ["create", "f"], ["cancel", "H:x:1"]):
        result = geartrain(*command, "-s", UNREACHABLE)
        assert (result.returncode, result.stdout) == (3, b""), command
        assert result.stderr.decode().endswith(f"({REFUSED})\n") or result.stderr.decode().endswith(f": {REFUSED}\n")
