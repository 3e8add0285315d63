"""``geartrain worker``: commands and Python workers, with gearmand and geartrain's own job server."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

import pytest

from tests.cli.command import geartrain, is_alive, start
from tests.cli.workers import count_workers, find_children, run_worker, submit
from tests.support.eventually import wait_until
from tests.support.gearmand import Gearmand, ask
from tests.support.job_server import AnyJobServer
from tests.support.wire import Wire


def test_a_command_reads_the_workload_and_writes_the_result(job_server: AnyJobServer) -> None:
    data = bytes(range(256)) * 2000
    with run_worker(job_server, "rot", "--", "tr", "a-z", "b-za"):
        result = submit(job_server, "rot", data)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == data.translate(
        bytes.maketrans(b"abcdefghijklmnopqrstuvwxyz", b"bcdefghijklmnopqrstuvwxyza")
    )


def test_the_exit_status_of_a_command_decides_how_the_job_ends(gearmand: Gearmand) -> None:
    with run_worker(gearmand, "exit", "--", "sh", "-c", 'read -r status; echo "words" >&2; exit $status') as worker:
        assert submit(gearmand, "exit", b"0\n").returncode == 0
        failed = submit(gearmand, "exit", b"1\n")
        raised = submit(gearmand, "exit", b"7\n")
        worker.terminate()
        _, errors = worker.communicate(timeout=20)
    assert failed.returncode == 1
    assert failed.stderr.endswith(b"failed: words\n")
    assert raised.returncode == 1
    assert raised.stderr.endswith(b"raised an exception: words\n")
    assert errors.splitlines().count(b"words") == 3, "the standard error output of commands is forwarded"
    assert errors.rstrip().endswith(b"raised CommandError: words")
    assert b"Traceback" not in errors


def test_an_exception_without_error_output_describes_the_exit(gearmand: Gearmand) -> None:
    with run_worker(gearmand, "die", "--", "sh", "-c", "kill -TERM $$"):
        assert submit(gearmand, "die").stderr.endswith(b"raised an exception: sh ended with SIGTERM\n")


def test_a_command_need_not_read_its_input(gearmand: Gearmand) -> None:
    with run_worker(gearmand, "ignore", "--", "echo", "done"):
        assert submit(gearmand, "ignore", bytes(1_000_000)).stdout == b"done\n"


def test_the_environment_of_a_command_describes_the_job(gearmand: Gearmand) -> None:
    script = 'echo "$GEARMAN_FUNCTION $GEARMAN_HANDLE $GEARMAN_UNIQUE $GEARMAN_SERVER"'
    with run_worker(gearmand, "describe", "--also", "describe2", "--", "sh", "-c", script):
        result = geartrain("submit", "-s", gearmand.address, "describe2", "x", "--unique", "u1")
    assert result.stdout.decode() == f"describe2 H:{os.uname().nodename}:1 u1 {gearmand.address}\n"


def test_lines_of_output_are_sent_as_data(gearmand: Gearmand) -> None:
    with run_worker(gearmand, "lines", "--lines", "--", "printf", "a\\nb\\n"):
        assert submit(gearmand, "lines").stdout == b"ab"
    with run_worker(gearmand, "lines2", "--lines", "--keep-newline", "--", "printf", "a\\nb\\n", workers=1):
        assert submit(gearmand, "lines2").stdout == b"a\nb\n"


@pytest.mark.parametrize("options", [[], ["--lines"]])
def test_a_command_is_killed_when_its_output_is_too_long(gearmand: Gearmand, options: list[str]) -> None:
    """Whether it would ever end does not matter: its output must not fill the memory."""
    command = ["sh", "-c", f"exec head -c {80 << 20} /dev/zero; sleep 60"]
    with run_worker(gearmand, "long", *options, "--", *command):
        result = submit(gearmand, "long")
    what = b"a line of the output" if options else b"the output"
    assert result.returncode == 1
    assert result.stderr.endswith(b"raised an exception: JobTooLargeError: %b exceeds 67108864 bytes\n" % what)


@pytest.mark.parametrize("redirection", ["", ">&2"])
def test_a_command_that_never_stops_writing_delays_nothing(gearmand: Gearmand, redirection: str) -> None:
    arguments = ["--lines", "--timeout", "0.5", "--", "sh", "-c", f"yes {redirection}"]
    with run_worker(gearmand, "endless", *arguments) as worker:
        assert worker.stderr is not None
        reader = threading.Thread(target=worker.stderr.read)
        reader.start()
        result = submit(gearmand, "endless")
        worker.terminate()
        worker.wait(20)
        reader.join()
    assert result.stderr.endswith(b"raised an exception: TimeoutError: 'endless' took longer than 0.5 s\n")


def test_a_command_is_killed_with_its_process_group_after_the_timeout(gearmand: Gearmand, tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/pid; wait"
    with run_worker(gearmand, "slow", "--timeout", "0.5", "--", "sh", "-c", script):
        result = submit(gearmand, "slow")
        assert result.returncode == 1
        assert b"raised an exception: TimeoutError" in result.stderr
        sleeper = int((tmp_path / "pid").read_text())
        wait_until(lambda: not is_alive(sleeper))


@pytest.mark.parametrize("end", ["exit 0", "exit 1", "exit 7", "kill -9 $$", "wait"])
def test_processes_of_a_command_are_killed_however_it_ends(gearmand: Gearmand, tmp_path: Path, end: str) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/pid; echo result; {end}"
    with run_worker(gearmand, "f", "--timeout", "2", "--", "sh", "-c", script) as worker:
        result = submit(gearmand, "f")
        assert (result.returncode, result.stdout) == ((0, b"result\n") if end == "exit 0" else (1, b""))
        sleeper = int((tmp_path / "pid").read_text())
        wait_until(lambda: not is_alive(sleeper))
        worker.terminate()
        _, errors = worker.communicate(timeout=20)
    assert worker.returncode == 0
    assert b"Traceback" not in errors
    assert b"Exception ignored" not in errors


@pytest.mark.parametrize(
    "signals", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGINT], [signal.SIGHUP, signal.SIGTERM]]
)
def test_processes_of_a_command_are_killed_however_the_worker_ends(
    gearmand: Gearmand, tmp_path: Path, signals: list[signal.Signals]
) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; wait"
    with (
        run_worker(gearmand, "f", "--grace", "0.5", "--", "sh", "-c", script) as worker,
        Wire(gearmand.port) as client,
    ):
        client.submit(b"f")
        wait_until((tmp_path / "pid").exists)
        for number in signals:
            worker.send_signal(number)
        _, errors = worker.communicate(timeout=20)
    sleeper = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_alive(sleeper))
    assert b"Traceback" not in errors
    assert b"Exception ignored" not in errors


def test_a_pipeline_may_end_after_the_command(gearmand: Gearmand) -> None:
    with run_worker(gearmand, "f", "--", "bash", "-c", "tee >(tr a-z A-Z) > /dev/null"):
        assert submit(gearmand, "f", b"x" * 100_000).stdout == b"X" * 100_000


def test_a_daemon_that_inherits_a_commands_pipes_does_not_delay_the_job(gearmand: Gearmand, tmp_path: Path) -> None:
    daemon = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 60"
    script = f"setsid sh -c '{daemon}' <&0 & while ! [ -e {tmp_path}/pid ]; do sleep 0.01; done; echo result"
    with run_worker(gearmand, "f", "--timeout", "20", "--", "sh", "-c", script):
        result = submit(gearmand, "f", bytes(1_000_000))
        assert (result.returncode, result.stdout) == (0, b"result\n")
        daemon_pid = int((tmp_path / "pid").read_text())
        assert is_alive(daemon_pid), "it has its own session"
        os.kill(daemon_pid, signal.SIGKILL)


def test_an_outage_is_reported_once(tmp_path: Path) -> None:
    server = Gearmand(tmp_path)
    arguments = ["worker", "-s", server.address, "-v", "f", "--", "cat"]
    with start(*arguments) as worker:
        assert worker.stderr is not None
        while f"cannot connect to {server.address}".encode() not in (line := worker.stderr.readline()):
            assert line
        with server:
            wait_until(lambda: count_workers(server))
            worker.terminate()
            _, errors = worker.communicate(timeout=20)
    assert worker.returncode == 0
    assert b"connected to" in errors
    assert b"cannot connect" not in errors


def test_a_command_that_cannot_be_started_raises_an_exception_and_is_logged(gearmand: Gearmand, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\ncat\n")
    program.chmod(0o755)
    with run_worker(gearmand, "f", "--count", "1", "--", str(program)) as worker:
        program.unlink()
        result = submit(gearmand, "f", b"x")
        assert (result.returncode, result.stdout) == (1, b"")
        assert f"cannot start {program}: No such file or directory".encode() in result.stderr
        _, errors = worker.communicate(timeout=20)
    assert f"cannot start {program}: No such file or directory".encode() in errors
    assert b"Traceback" not in errors


def test_commands_run_concurrently(gearmand: Gearmand, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    # One job waits until the other one opens the other end of the pipe.
    script = f'if [ "$(cat)" = in ]; then cat {tmp_path}/pipe; else echo met > {tmp_path}/pipe; fi'
    with run_worker(gearmand, "meet", "--concurrency", "2", "--", "sh", "-c", script):
        result = geartrain("submit", "-s", gearmand.address, "-l", "meet", "-t", "20", standard_input=b"in\nout\n")
    assert (result.returncode, result.stdout) == (0, b"met\n\n")


def test_count_ends_the_worker_after_that_many_jobs(gearmand: Gearmand) -> None:
    with run_worker(gearmand, "once", "--count", "2", "--", "cat") as worker:
        assert submit(gearmand, "once", b"a").stdout == b"a"
        assert submit(gearmand, "once", b"b").stdout == b"b"
        assert worker.wait(20) == 0


def test_prefix_and_client_id_are_sent_to_the_job_server(gearmand: Gearmand) -> None:
    with (
        run_worker(gearmand, "f", "--prefix", "house", "--client-id", "painter", "--", "cat"),
        Wire(gearmand.port) as wire,
    ):
        lines = wire.ask(b"workers")
    assert any(re.fullmatch(rb"\d+ 127\.0\.0\.1 painter : house\tf\n", line) for line in lines)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_job_finish(gearmand: Gearmand, tmp_path: Path, sign: signal.Signals) -> None:
    os.mkfifo(tmp_path / "pipe")
    with run_worker(gearmand, "wait", "--", "cat", str(tmp_path / "pipe")) as worker, Wire(gearmand.port) as client:
        handle = client.submit(b"wait")
        wait_until(lambda: ask(gearmand.port, "status") == "wait\t1\t1\t1")
        worker.send_signal(sign)
        (tmp_path / "pipe").write_bytes(b"done")
        assert client.receive()[1] == handle + b"\0done"
        assert worker.wait(20) == 0
        assert worker.communicate() == (b"", b"")


def test_a_second_signal_returns_the_job_immediately(gearmand: Gearmand, tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; sleep 60"
    with run_worker(gearmand, "wait", "--", "sh", "-c", script) as worker, Wire(gearmand.port) as client:
        client.submit(b"wait")
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"))
        # Two different signals, because the kernel may merge two pending signals of the same number.
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGINT)
        assert worker.wait(20) in (128 + signal.SIGTERM, 128 + signal.SIGINT)
        wait_until(lambda: ask(gearmand.port, "status") == "wait\t1\t0\t0")
    assert not is_alive(int((tmp_path / "pid").read_text()))


MODULE = """
from geartrain.worker import Worker

def make(job_servers):
    worker = Worker(job_servers)

    @worker.function("word")
    async def word(job):
        return "WORD"

    return worker
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A directory with a module `app`."""
    (tmp_path / "app.py").write_text(MODULE.replace("WORD", "old"))
    return tmp_path


def test_a_python_worker_is_found_in_the_current_directory(job_server: AnyJobServer, app: Path) -> None:
    with run_worker(job_server, "app:make", directory=app) as worker:
        assert submit(job_server, "word").stdout == b"old"
        worker.terminate()
        assert worker.wait(20) == 0


def test_a_python_worker_can_have_its_own_job_servers(gearmand: Gearmand, app: Path) -> None:
    with (app / "app.py").open("a") as file:
        file.write(f"\nworker = make([{gearmand.address!r}])\n")
    with start("worker", "app:worker", directory=app) as worker:
        assert submit(gearmand, "word").stdout == b"old"
        worker.terminate()
        assert worker.wait(20) == 0
    refused = geartrain("worker", "app:worker", "-s", "x", directory=app)
    assert refused.returncode == 2
    assert refused.stderr.startswith(b"geartrain worker: app:worker has its own job servers")


def test_dead_processes_are_replaced_and_all_end_with_the_supervisor(gearmand: Gearmand, app: Path) -> None:
    with run_worker(gearmand, "app:make", "--processes", "2", directory=app, workers=2) as supervisor:
        before = find_children(supervisor.pid)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: before[0] not in (now := find_children(supervisor.pid)) and len(now) == 2)
        after = find_children(supervisor.pid)
        assert before[1] in after
        supervisor.terminate()
        _, errors = supervisor.communicate(timeout=20)
        assert supervisor.returncode == 0
    (line,) = errors.decode().splitlines()
    name = re.escape(f"geartrain.supervisor[{supervisor.pid}]: process {before[0]} ended with SIGKILL")
    assert re.fullmatch(rf"\S+ \S+ WARNING {name} after \S+ s", line)
    assert not any(is_alive(pid) for pid in after)


@pytest.mark.parametrize("arguments", [[], ["--processes", "1"], ["--reload"]])
def test_standard_input_of_functions_is_empty(gearmand: Gearmand, app: Path, arguments: list[str]) -> None:
    (app / "app.py").write_text(MODULE.replace('"WORD"', "subprocess.check_output(['wc', '-c'])"))
    with (app / "app.py").open("a") as file:
        file.write("\nimport subprocess\n")
    with run_worker(gearmand, "app:make", *arguments, directory=app):
        assert submit(gearmand, "word").stdout == b"0\n"


def test_a_supervisor_restarts_processes_that_exit_after_some_jobs(gearmand: Gearmand, app: Path) -> None:
    (app / "app.py").write_text(MODULE.replace("Worker(job_servers)", "Worker(job_servers, max_jobs=1)"))
    with run_worker(gearmand, "app:make", "--processes", "1", directory=app) as supervisor:
        for _ in range(6):
            assert submit(gearmand, "word").stdout == b"WORD"
        supervisor.terminate()
        assert supervisor.communicate(timeout=20)[1] == b""


def test_a_supervisor_gives_up_if_its_process_keeps_failing(gearmand: Gearmand, app: Path) -> None:
    (app / "app.py").write_text(MODULE + "\nimport sys; sys.exit(4)\n")
    result = geartrain("worker", "app:make", "--processes", "1", "--max-failures", "2", "-q", directory=app)
    assert result.returncode == 1
    lines = [re.sub(r"[\d.]+", "N", line.partition("]: ")[2]) for line in result.stderr.decode().splitlines()]
    assert lines == [
        "process N ended with exit status N after N s",
        "process N ended with exit status N after N s",
        "giving up after N failures in a row",
    ]


def test_reload_skips_unreadable_files(gearmand: Gearmand, app: Path) -> None:
    (app / "itself.py").symlink_to("itself.py")
    with run_worker(gearmand, "app:make", "--reload", directory=app) as worker:
        worker.terminate()
        assert worker.communicate(timeout=20) == (b"", b"")


def test_no_process_outlives_a_supervisor_that_is_killed(gearmand: Gearmand, app: Path) -> None:
    with run_worker(gearmand, "app:make", "--processes", "2", directory=app, workers=2) as supervisor:
        children = find_children(supervisor.pid)
        supervisor.kill()
    assert len(children) == 2
    wait_until(lambda: not any(is_alive(pid) for pid in children))


def test_reload_restarts_the_worker_when_a_source_file_changes(gearmand: Gearmand, app: Path) -> None:
    with run_worker(gearmand, "app:make", "--reload", directory=app):
        assert submit(gearmand, "word").stdout == b"old"
        (app / "app.py").write_text("syntax error")
        (app / "app.py").write_text(MODULE.replace("WORD", "brand new"))
        wait_until(lambda: submit(gearmand, "word").stdout == b"brand new")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["f"], "expected a command, as in `geartrain worker f -- cat`, or MODULE:WORKER"),
        (["f", "--", "no_such_program"], "command not found: no_such_program"),
        (["f", "--reload", "--", "cat"], "--reload applies only to MODULE:WORKER"),
        (["os:sep", "--count", "1"], "--count applies only to COMMAND; set it in the Worker"),
        (["os:sep"], "os:sep must be a Worker or a factory that returns one, got a str"),
        (["os:nothing"], "module 'os' has no attribute 'nothing'"),
        (["os:path.nothing"], "module 'os' has no attribute 'path.nothing'"),
        ([""], "expected a command, as in `geartrain worker FUNCTION -- cat`, or MODULE:WORKER"),
        *(
            ([target], f"invalid worker {target!r}: expected MODULE:WORKER, such as app:worker")
            for target in (":", ":w", ".app:w", "..:w", "app..x:w", "app.:w", "os:", "os:path.")
        ),
        (["json:dumps"], "json:dumps must return a Worker, got a str"),
        (["asyncio:sleep"], "asyncio:sleep must return a Worker, got a coroutine"),
        (["no.such.module:x"], "cannot load no.such.module:x: no module named 'no'"),
        (
            ["tests.cli.blocking_worker:worker"],
            "tests.cli.blocking_worker:worker is a geartrain.blocking.Worker: call its",
        ),
        (["f" * 513, "--", "cat"], "the name of a function must have 1 to 512 bytes with its prefix, got 513 in"),
    ],
)
def test_usage_errors_are_reported_in_one_sentence(arguments: list[str], sentence: str) -> None:
    result = geartrain("worker", *arguments)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.decode().startswith(f"geartrain worker: {sentence}")
    assert result.stderr.count(b"\n") == 1


def test_an_exception_of_a_hook_is_reported_with_its_traceback_and_one_sentence(tmp_path: Path) -> None:
    """It may be gone at the next start, unlike one in the module: the exit status is 1."""
    (tmp_path / "app.py").write_text(
        "from geartrain import Worker\n"
        "def connect(): raise KeyError from ValueError('no database')\n"
        "w = Worker(on_start=connect)\n"
        "w.function('f')(lambda job: b'')\n"
    )
    result = geartrain("worker", "--quiet", "app:w", directory=tmp_path)
    assert (result.returncode, result.stdout) == (1, b"")
    *lines, sentence = result.stderr.decode().splitlines()
    assert sentence == "geartrain worker: the worker raised KeyError"
    files = [line.split('"')[1] for line in lines if line.startswith("  File ")]
    assert files == [str(tmp_path / "app.py")]
    assert "ValueError: no database" in lines


@pytest.mark.parametrize("more", [(), ("--processes", "2")])
@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import no_such_module", "the module app raised ModuleNotFoundError"),
        ("1 / 0", "the module app raised ZeroDivisionError"),
        ("syntax error", "the module app raised SyntaxError"),
        ("def w(servers): 1 / 0", "app:w raised ZeroDivisionError"),
        ("def w(): pass", "app:w raised TypeError"),
        ("def __getattr__(name): 1 / 0", "app:w raised ZeroDivisionError"),
        ("import geartrain; w = geartrain.Worker(concurrency=0)", "the module app raised ValueError"),
    ],
)
def test_an_exception_in_user_code_is_reported_with_its_traceback_and_one_sentence(
    tmp_path: Path, code: str, sentence: str, more: tuple[str, ...]
) -> None:
    (tmp_path / "app.py").write_text(code)
    result = geartrain("worker", "app:w", *more, directory=tmp_path)
    assert (result.returncode, result.stdout) == (2, b"")
    lines = result.stderr.decode().splitlines()
    assert f"geartrain worker: {sentence}" in lines
    for own in ("geartrain/cli", "geartrain/worker", "importlib", "click"):
        assert not any(own in line for line in lines), "only frames of the user's code"
    assert code == "def w(): pass" or any(f"{tmp_path}/app.py" in line for line in lines)
