"""``geartrain submit`` with gearmand and a geartrain worker."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from geartrain.protocol.packets import PacketType
from tests.cli.command import COMMAND, ROOT, TIMEOUT, geartrain, make_environment, read_until, start
from tests.cli.terminal import Terminal
from tests.support.gearmand import Gearmand, ask
from tests.support.wire import Wire


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gearmand]:
    """A gearmand with a worker, shared by tests because its jobs do not affect each other."""
    with Gearmand(tmp_path_factory.mktemp("gearmand")) as gearmand:
        command = [sys.executable, "-m", "tests.cli.some_worker", gearmand.address]
        with subprocess.Popen(command, cwd=ROOT) as worker:
            yield gearmand
            worker.kill()


def submit(server: Gearmand, *arguments: str, standard_input: bytes = b"") -> bytes:
    """Submit jobs that must succeed and return the output."""
    result = geartrain("submit", "-s", server.address, *arguments, standard_input=standard_input)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


def test_the_workload_can_be_an_argument(server: Gearmand) -> None:
    assert submit(server, "reverse", "abc") == b"cba"


def test_the_workload_can_be_any_bytes_on_standard_input(server: Gearmand) -> None:
    data = bytes(range(256)) * 4096 + b"end"
    assert submit(server, "reverse", standard_input=data) == data[::-1]


def test_the_workload_can_be_a_file(server: Gearmand, tmp_path: Path) -> None:
    (tmp_path / "wall").write_bytes(b"paint\n")
    assert submit(server, "reverse", "--file", str(tmp_path / "wall")) == b"\ntniap"


def test_lines_submits_a_job_per_line_and_keeps_their_order(server: Gearmand) -> None:
    assert submit(server, "reverse", "--lines", standard_input=b"ab\n\ncd\xff\nef") == b"ba\n\n\xffdc\nfe\n"


def test_keep_newline_keeps_newlines_in_workloads(server: Gearmand) -> None:
    assert submit(server, "describe", "--lines", "--keep-newline", standard_input=b"ab\ncd") == b"|b'ab\\n'\n|b'cd'\n"


def test_null_submits_a_job_per_nul_terminated_part(server: Gearmand) -> None:
    assert submit(server, "reverse", "-0", standard_input=b"a\nb\0cd\0") == b"b\na\0dc\0"


def test_many_lines_can_be_submitted_with_a_small_limit(server: Gearmand) -> None:
    lines = b"".join(b"%05d\n" % number for number in range(3000))
    expected = b"".join((b"%05d" % number)[::-1] + b"\n" for number in range(3000))
    assert submit(server, "reverse", "--lines", "--limit", "7", standard_input=lines) == expected


def test_results_are_printed_while_waiting_for_input(server: Gearmand) -> None:
    with start("submit", "-s", server.address, "-l", "reverse") as command:
        assert command.stdin is not None
        for word in (b"abc", b"def"):
            command.stdin.write(word + b"\n")
            command.stdin.flush()
            assert read_until(command, b"\n") == word[::-1] + b"\n"
        assert command.communicate() == (b"", b"")
        assert command.returncode == 0


def test_data_and_results_are_printed_in_the_order_of_the_workloads(server: Gearmand) -> None:
    assert submit(server, "-l", "second_first", standard_input=b"first\nsecond\n") == b"the first\nsecond\n"


def test_data_is_part_of_the_output_and_warnings_go_to_standard_error(server: Gearmand) -> None:
    result = geartrain("submit", "-s", server.address, "stream", "x")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"one two three", b"careful\n")


def test_also_submits_each_workload_to_several_functions(server: Gearmand) -> None:
    output = submit(server, "-l", "--label", "reverse", "--also", "describe", standard_input=b"ab\ncd")
    assert output == b"reverse: ba\ndescribe: |b'ab'\nreverse: dc\ndescribe: |b'cd'\n"


def test_unique_is_sent_to_the_worker(server: Gearmand) -> None:
    assert submit(server, "describe", "x", "--unique", "wall 1") == b"wall 1|b'x'"


def test_a_failed_job_is_reported_and_the_others_continue(server: Gearmand) -> None:
    result = geartrain("submit", "-s", server.address, "-l", "fail_odd", standard_input=b"2\n3\n4\n")
    assert (result.returncode, result.stdout) == (1, b"2\n4\n")
    warning, error = result.stderr.splitlines()
    assert warning == b"line 2: odd"
    assert re.fullmatch(rb"geartrain: line 2: the job fail_odd \(.*\) failed: odd", error)


def test_a_workload_over_the_size_limit_is_reported_and_the_others_continue(server: Gearmand) -> None:
    data = b"ab\n" + b"x" * (64 * 1024 * 1024 + 1) + b"\ncd\n"
    result = geartrain("submit", "-s", server.address, "-l", "reverse", standard_input=data)
    assert (result.returncode, result.stdout) == (1, b"ba\ndc\n")
    assert (
        result.stderr == b"geartrain: line 2: the job reverse was not submitted: the workload exceeds 67108864 bytes\n"
    )


def test_the_line_of_a_job_that_failed_after_a_part_of_its_result_is_ended(server: Gearmand) -> None:
    result = geartrain("submit", "-s", server.address, "-l", "fail_late", "--also", "reverse", standard_input=b"ab")
    assert (result.returncode, result.stdout) == (1, b"part\nba\n")


def test_json_prints_an_object_for_each_job(server: Gearmand) -> None:
    arguments = ("submit", "-s", server.address, "--json", "-0", "stream", "--also", "fail_odd")
    result = geartrain(*arguments, standard_input=b"1\0")
    assert (result.returncode, result.stderr) == (1, b"")
    streamed, failed = map(json.loads, result.stdout.split(b"\0")[:-1])
    assert streamed.pop("handle").startswith(f"{server.address}//H:")
    assert streamed == {"part": 1, "function": "stream", "result": "one two three", "warnings": ["careful"]}
    assert failed.pop("handle") in failed.pop("error")
    assert failed == {"part": 1, "function": "fail_odd", "error_type": "JobFailedError", "warnings": ["odd"]}


def test_json_prints_a_result_that_is_not_utf_8_in_base64(server: Gearmand) -> None:
    job = json.loads(submit(server, "--json", "reverse", standard_input=b"\0\xff"))
    assert base64.b64decode(job["result_base64"]) == b"\xff\0"


def test_json_prints_the_handle_of_a_background_job(gearmand: Gearmand) -> None:
    job = json.loads(submit(gearmand, "--json", "-b", "paint", "wall"))
    assert job == {"function": "paint", "handle": f"{gearmand.address}//H:{os.uname().nodename}:1"}


def test_a_hint_explains_why_a_job_without_a_worker_waits(gearmand: Gearmand) -> None:
    with start("submit", "-s", gearmand.address, "paint", "wall") as command:
        assert command.stderr is not None
        hint = command.stderr.readline()
        assert hint == b"geartrain: no worker is registered for paint; its jobs wait until one is\n"
        with Wire(gearmand.port) as worker:
            worker.send(PacketType.CAN_DO, b"paint")
            worker.send(PacketType.GRAB_JOB)
            kind, body = worker.receive()
            assert kind is PacketType.JOB_ASSIGN
            worker.send(PacketType.WORK_COMPLETE, body.partition(b"\0")[0], b"painted")
            assert command.communicate(timeout=20) == (b"painted", b"")


@pytest.mark.parametrize("mode", [[], ["--background"]])
def test_require_worker_fails_immediately_without_a_worker(gearmand: Gearmand, mode: list[str]) -> None:
    result = geartrain("submit", "-s", gearmand.address, "--require-worker", *mode, "paint", "wall")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode() == f"geartrain: no worker is registered for paint at {gearmand.address}\n"


def test_an_endless_workload_is_not_read_to_its_end(server: Gearmand) -> None:
    with open("/dev/zero", "rb") as zeros:
        result = subprocess.run(
            [*COMMAND, "submit", "-s", server.address, "reverse"],
            stdin=zeros,
            capture_output=True,
            timeout=TIMEOUT,
            env=make_environment(),
            cwd=ROOT,
            check=False,
        )
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr == b"geartrain: the job reverse was not submitted: the workload exceeds 67108864 bytes\n"


def test_an_exception_is_reported(server: Gearmand) -> None:
    result = geartrain("submit", "-s", server.address, "raise", "x")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.endswith(b"raised an exception: ValueError: no such wall\n")


def test_a_job_fails_after_its_timeout(server: Gearmand) -> None:
    result = geartrain("submit", "-s", server.address, "nobody_does_it", "x", "--timeout", "0.1")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.endswith(b"did not end in 0.1 s\n")


def test_background_prints_handles_and_respects_the_priority(gearmand: Gearmand) -> None:
    first = submit(gearmand, "-b", "-l", "paint", "-p", "low", standard_input=b"a\nb\n").decode().splitlines()
    last = submit(gearmand, "--background", "paint", "c", "--priority", "high").decode()
    assert [handle.rpartition(":")[0] for handle in first] == [f"{gearmand.address}//H:{os.uname().nodename}"] * 2
    assert last.endswith(":3\n")
    with Wire(gearmand.port) as wire:
        assert wire.ask(b"prioritystatus") == [b"paint\t1\t0\t2\t0\n"]


def test_at_submits_a_background_job(gearmand: Gearmand) -> None:
    handle = submit(gearmand, "--at", "+1d", "paint", "wall").decode().strip()
    assert handle.endswith(":1")
    assert ask(gearmand.port, "status") == "paint\t1\t0\t0"


def test_the_prefix_is_separated_from_the_function_by_a_tab(gearmand: Gearmand) -> None:
    submit(gearmand, "-b", "--prefix", "house", "paint", "wall")
    assert ask(gearmand.port, "status") == "house\tpaint\t1\t0\t0"


def test_retry_submits_a_failed_job_again(gearmand: Gearmand) -> None:
    with (
        start("submit", "-s", gearmand.address, "--retry", "1", "paint", "wall") as command,
        Wire(gearmand.port) as worker,
    ):
        worker.send(PacketType.CAN_DO, b"paint")
        handles = []
        for _ in range(2):
            worker.send(PacketType.PRE_SLEEP)
            worker.expect(PacketType.NOOP)
            worker.send(PacketType.GRAB_JOB)
            kind, body = worker.receive()
            assert kind is PacketType.JOB_ASSIGN
            handles.append(body.partition(b"\0")[0])
            worker.send(PacketType.WORK_FAIL, handles[-1])
        assert command.communicate(timeout=20)[0] == b""
        assert command.returncode == 1
    assert len(set(handles)) == 2


def test_the_progress_bar_on_a_terminal_is_cleared_before_the_result(server: Gearmand) -> None:
    with Terminal("submit", "-s", server.address, "half", "x") as terminal:
        terminal.read_until(r"━+ 1 of 2")
        submit(server, "seen", "x")
        assert terminal.wait() == 0
    assert re.search(r"\x1b\[1A\x1b\[2K.*whole\r\n$", terminal.written, re.DOTALL), (
        "the bar is cleared before the result is printed"
    )


def test_a_terminal_shows_how_many_jobs_have_ended_and_then_the_outcomes_in_order(
    server: Gearmand, tmp_path: Path
) -> None:
    (tmp_path / "lines").write_bytes(b"1\n2")
    arguments = ("submit", "-s", server.address, "-l", "-f", str(tmp_path / "lines"), "half", "--also", "fail_odd")
    with Terminal(*arguments) as terminal:
        terminal.read_until("━ 2 of 4 jobs, 1 failed")
        submit(server, "seen", "x")
        assert terminal.wait() == 1
    shown = terminal.plain.partition("whole\r\n")[2].replace("\r", "\n").splitlines()
    outcomes = [line for line in shown if line and "━" not in line]
    assert re.fullmatch(r"geartrain: line 1: the job fail_odd \(.*\) failed: odd", outcomes.pop(1))
    assert outcomes == ["line 1: odd", "whole", "2"]


def test_ctrl_c_ends_submit_while_it_waits_for_input(server: Gearmand) -> None:
    with Terminal("submit", "-s", server.address, "-l", "reverse") as terminal:
        terminal.press("abc\n")
        terminal.read_until("cba")
        terminal.press("\x03")
        assert terminal.wait() == 130
    assert "Traceback" not in terminal.written


def test_a_broken_output_pipe_ends_submit(server: Gearmand) -> None:
    with start("submit", "-s", server.address, "-l", "reverse") as command:
        assert command.stdin is not None
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.close()
        command.stdin.write(b"abc\n")
        command.stdin.flush()
        assert command.stderr.read() == b""
        assert command.wait(20) == 141


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["f", "x", "--unique", "u" * 64], "a unique must have at most 63 bytes"),
        (["f" * 513, "x"], "a function must have 1 to 512 bytes"),
        (["f", "x", "--timeout", "-1"], "timeout must be "),
        (["f", "--at", "tomorrow", "x"], "invalid time 'tomorrow': expected 2027-01-31T12:00, "),
        (["f", "--at", "+1h", "--priority", "high", "x"], "a job with run_at must have normal priority"),
        (["f", "x", "--lines"], "use only one of WORKLOAD and --file"),
        (["f", "--lines", "--null"], "use only one of WORKLOAD and --file"),
        (
            ["f", "--file", "no/such/file"],
            "Invalid value for '-f' / '--file': 'no/such/file': No such file",
        ),
        (["f", "-s", "\udcff:1", "x"], "a job server's address must be host or host:port, got '\\udcff:1'"),
        (["f", "-s", "a..b", "x"], "a job server's host must be a name with labels of 1 to 63 characters, got 'a..b'"),
        (["f", "-s", "a b", "x"], "a job server's address must be host or host:port, got 'a b'"),
    ],
)
def test_usage_errors_are_reported_in_one_sentence(arguments: list[str], message: str) -> None:
    result = geartrain("submit", *arguments, environment={"GEARMAN_SERVERS": "127.0.0.1:1"})
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.decode().startswith(f"geartrain submit: {message}")
    assert result.stderr.count(b"\n") == 1


def test_unreadable_input_is_reported_in_one_sentence() -> None:
    result = geartrain("submit", "f", "--file", "/proc/self/mem", "-s", "127.0.0.1:1")
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr == b"geartrain submit: cannot read the workload: Input/output error\n"


def test_closed_standard_input_is_reported_in_one_sentence() -> None:
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "submit", "f", "-s", "127.0.0.1:1"]
    result = subprocess.run(command, capture_output=True, cwd=ROOT, check=False)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr == b"geartrain submit: standard input is closed: use WORKLOAD or --file\n"


def test_an_unreachable_job_server_is_exit_status_3_and_ends_all_lines() -> None:
    result = geartrain("submit", "-l", "f", "-s", "127.0.0.1:1", standard_input=b"a\nb\nc\n")
    assert (result.returncode, result.stdout) == (3, b"")
    assert result.stderr.startswith(b"geartrain: no job server could be reached: 127.0.0.1:1 (")
    assert result.stderr.count(b"\n") == 1
