"""``geartrain demo`` in real processes, with its own job server and with others."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from geartrain.admin import Admin
from geartrain.cli.demo.run import _drop_function
from tests.cli.command import geartrain, is_alive, read_until, start
from tests.cli.terminal import run_in_terminal
from tests.support.eventually import wait_until
from tests.support.gearmand import Gearmand, ask
from tests.support.job_server import AnyJobServer
from tests.support.raw_worker import raw_worker

LINES = 64 * 30  # lines of the long file: 30 blocks, with a pause after each
REFUSED = os.strerror(errno.ECONNREFUSED)
PAUSE = "0.03"  # seconds; the long file takes about a second


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A directory with seven files; the long one is in the middle."""
    directory = tmp_path / "texts"
    directory.mkdir()
    for number in range(7):
        lines = LINES if number == 3 else 3
        (directory / f"file{number}.txt").write_text("Cogwheel turns cogwheel\n" * lines + f"once{'abcdefg'[number]}\n")
    (directory / "picture.bin").write_bytes(b"\0\1\2")
    (directory / ".hidden").write_text("hidden\n")
    return directory


def find_processes(output: bytes) -> list[int]:
    return [int(pid) for pid in re.findall(rb"started \(process (\d+)\)", output)]


def count_words(directory: Path) -> Counter[str]:
    words = Counter[str]()
    for file in directory.glob("*.txt"):
        words.update(file.read_text().lower().split())
    return words


def check_counted(output: str, directory: Path) -> None:
    for word, times in count_words(directory).items():
        assert re.search(rf"^{word} +{times:,} +█+ *$", output, re.MULTILINE), (word, times, output)
    assert "\x1b" not in output
    assert not any(is_alive(pid) for pid in find_processes(output.encode()))


def test_all_words_are_counted_although_a_worker_is_killed(texts: Path) -> None:
    result = geartrain("demo", "--pause", PAUSE, str(texts))
    assert (result.returncode, result.stderr) == (0, b"")
    output = result.stdout.decode()
    killed = re.search(r"(worker \d) was killed in the middle of texts/file3.txt, \d+% done", output)
    assert killed
    begun = re.search(r"file3.txt is restarted by (worker \d): the job server queued it again", output)
    assert begun
    assert begun[1] != killed[1]
    assert re.search(r"7 jobs in \d+\.\d s, 1 retry by the job server, [\d,]+ jobs? per second", output)
    check_counted(output, texts)


def test_the_demo_can_use_an_existing_job_server(texts: Path, job_server: AnyJobServer) -> None:
    result = geartrain("demo", "--pause", PAUSE, "--job-servers", job_server.address, str(texts))
    assert (result.returncode, result.stderr) == (0, b"")
    output = result.stdout.decode()
    assert "7 jobs in" in output
    assert "1 retry by the job server" in output
    check_counted(output, texts)


def test_the_demo_drops_its_function_at_the_end(texts: Path, gearmand: Gearmand) -> None:
    assert geartrain("demo", "--job-servers", gearmand.address, str(texts)).returncode == 0
    assert ask(gearmand.port, "status") == "."


async def test_a_function_is_dropped_once_the_job_server_has_noticed_that_its_workers_are_gone(
    job_server: AnyJobServer,
) -> None:
    async with Admin(job_server.address) as admin, Admin(job_server.address) as other:
        async with raw_worker(job_server.address, "f"):
            dropping = asyncio.create_task(_drop_function(admin, "f"))
            for _ in range(3):
                assert [row.workers for row in await other.status()] == [1]
            assert not dropping.done()
        await dropping
        assert await other.status() == []


def test_the_client_resubmits_a_file_that_the_job_server_gives_up_on(texts: Path, tmp_path: Path) -> None:
    with Gearmand(tmp_path, ["-j", "1"]) as server:
        result = geartrain("demo", "--pause", PAUSE, "--job-servers", server.address, str(texts))
    assert (result.returncode, result.stderr) == (0, b"")
    output = result.stdout.decode()
    assert "file3.txt ended without a result; the client submits it again (1)" in output
    assert "the client submitted it again" in output
    assert "1 retry by the client" in output
    check_counted(output, texts)


def test_the_demo_continues_if_one_of_two_job_servers_is_dead(texts: Path, gearmand: Gearmand) -> None:
    result = geartrain("demo", "--job-servers", f"{gearmand.address},127.0.0.1:1", str(texts))
    assert (result.returncode, result.stderr) == (0, b"")
    assert f"The job server 127.0.0.1:1 does not answer: {REFUSED}" in result.stdout.decode()
    check_counted(result.stdout.decode(), texts)


def test_a_worker_that_dies_unexpectedly_is_replaced(texts: Path) -> None:
    with start("demo", "--pause", PAUSE, str(texts)) as demo:
        begin = read_until(demo, b"worker 2 started")
        for pid in find_processes(begin):
            os.kill(pid, signal.SIGKILL)
        rest, errors = demo.communicate(timeout=50)
    assert (demo.returncode, errors) == (0, b"")
    output = (begin + rest).decode()
    assert len(re.findall(r"worker \d died \(SIGKILL\)", output)) == 2
    check_counted(output, texts)


def test_the_demo_gives_up_if_workers_keep_crashing(texts: Path) -> None:
    result = geartrain("demo", str(texts), environment={"PYTHONPATH": "tests/cli/broken_worker"})
    assert result.returncode == 1
    assert result.stderr.decode().endswith(  # in debug mode, asyncio also logs a process that it closes
        "geartrain: worker processes keep crashing; last error: RuntimeError: no work today\n"
    )


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_demo_and_its_workers_immediately(texts: Path, sign: signal.Signals) -> None:
    with start("demo", "--pause", "20", str(texts)) as demo:
        begin = read_until(demo, b"worker 2 started")
        demo.send_signal(sign)
        _, errors = demo.communicate(timeout=15)
    assert (demo.returncode, errors) == (128 + sign, b"")
    assert not any(is_alive(pid) for pid in find_processes(begin))


def test_no_worker_outlives_a_demo_that_is_killed(texts: Path) -> None:
    with start("demo", "--pause", PAUSE, str(texts)) as demo:
        begin = read_until(demo, b"worker 2 started")
        demo.kill()
        demo.communicate()
    pids = find_processes(begin)
    assert len(pids) == 2
    wait_until(lambda: not any(is_alive(pid) for pid in pids), within=20.0)


def test_a_broken_output_pipe_ends_the_demo(texts: Path) -> None:
    with start("demo", "--pause", PAUSE, str(texts)) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        begin = read_until(demo, b"worker 2 started")
        demo.stdout.close()
        assert demo.stderr.read() == b""
        assert demo.wait(20) == 128 + signal.SIGPIPE
    assert not any(is_alive(pid) for pid in find_processes(begin))


def test_progress_bars_are_shown_on_a_terminal(texts: Path) -> None:
    status, screen = run_in_terminal("demo", "--pause", PAUSE, str(texts))
    assert status == 0
    assert "\x1b[?25l" in screen, "the cursor is hidden while the bars are shown"
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l"), "and shown again afterwards"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    assert re.search(r"worker \d +[━╸╺]+ +\d+% ", plain)
    assert re.search(r"all files +━+ +100% 7 of 7", plain)
    assert "cogwheel" in plain


def test_paths_default_to_the_standard_library_and_geartrain() -> None:
    with start("demo") as demo:
        output = read_until(demo, b"worker 2 started")
        demo.terminate()
        demo.communicate()
    counted = re.search(rb"the words of ([\d,]+) files", output)
    assert counted
    assert int(counted[1].replace(b",", b"")) > 200


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["no/such/path"], 2, "geartrain demo: no such file or directory: no/such/path\n"),
        (["/dev/null"], 2, "geartrain demo: no text files in /dev/null\n"),
        (
            ["--job-servers", "127.0.0.1:1,127.0.0.1:2"],
            3,
            f"geartrain: no job server could be reached: 127.0.0.1:1 ({REFUSED}), 127.0.0.1:2 ({REFUSED})\n",
        ),
        (
            ["--job-servers", "a b"],
            2,
            "geartrain demo: a job server's address must be host or host:port, got 'a b'\n",
        ),
    ],
)
def test_usage_errors_are_reported_in_one_sentence(arguments: list[str], status: int, sentence: str) -> None:
    result = geartrain("demo", *arguments)
    assert (result.returncode, result.stdout, result.stderr.decode()) == (status, b"", sentence)
