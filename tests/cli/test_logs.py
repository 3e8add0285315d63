"""What ``geartrain worker`` logs, and its options for that."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from geartrain.cli.logs import LogOptions, log_options
from geartrain.log_format import JsonFormatter, TextFormatter
from tests.cli.command import geartrain
from tests.cli.workers import run_worker, submit
from tests.support.gearmand import Gearmand, free_port
from tests.support.job_server import AnyJobServer

APP = """
from geartrain import Worker

def make(servers):
    worker = Worker(servers, concurrency=2, client_id="me")
    worker.function("plain", timeout=2.5)(lambda job: b"")
    return worker
"""


def parse(*arguments: str) -> LogOptions:
    found: list[LogOptions] = []

    @click.command()
    @log_options
    def command(logs: LogOptions) -> None:
        found.append(logs)

    command.main(arguments, standalone_mode=False)
    return found[0]


@contextmanager
def fresh_logging() -> Iterator[None]:
    """Hide how pytest has configured logging."""
    root, own = logging.getLogger(), logging.getLogger("geartrain")
    handlers, levels = root.handlers[:], (root.level, own.level)
    root.handlers[:] = []
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        own.setLevel(levels[1])


DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


@pytest.mark.parametrize(
    ("arguments", "levels"),
    [
        ([], (INFO, WARNING)),
        (["-q"], (WARNING, WARNING)),
        (["-v"], (INFO, INFO)),
        (["-vv"], (DEBUG, DEBUG)),
        (["-vvv"], (DEBUG, DEBUG)),
        (["--log-level", "ERROR"], (ERROR, ERROR)),
    ],
)
def test_the_options_set_the_levels_of_geartrain_and_of_others(arguments: list[str], levels: tuple[int, int]) -> None:
    options = parse(*arguments)
    assert (options.own_level, options.level) == levels
    assert parse(*options.arguments) == options, "the processes of a supervisor get the same"
    with fresh_logging():
        options.apply()
        assert (logging.getLogger("geartrain").level, logging.getLogger().level) == levels
        assert isinstance(logging.getLogger().handlers[0].formatter, TextFormatter)


def test_a_format_is_text_or_json() -> None:
    options = parse("--log-format", "json", "-v")
    assert parse(*options.arguments) == options
    with fresh_logging():
        options.apply()
        assert isinstance(logging.getLogger().handlers[0].formatter, JsonFormatter)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-v", "--log-level", "info"],
        ["-q", "-v"],
        ["-q", "--log-level", "info"],
        ["--log-config", "x.json", "-v"],
        ["--log-config", "x.json", "--log-format", "json"],
    ],
)
def test_options_that_contradict_each_other_are_an_error(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError, match="exclude each other"):
        parse(*arguments)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "log.json",
            '{"root": {"level": "ERROR", "handlers": ["h"]}, "handlers": {"h": {"class": "logging.NullHandler"}}}',
        ),
        ("log.toml", 'root = {level = "ERROR", handlers = ["h"]}\n[handlers.h]\nclass = "logging.NullHandler"\n'),
    ],
)
def test_a_file_configures_logging(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    options = parse("--log-config", str(tmp_path / name))
    assert parse(*options.arguments) == options
    with fresh_logging():
        options.apply()
        assert logging.getLogger().level == logging.ERROR
        assert isinstance(logging.getLogger().handlers[0], logging.NullHandler)
        assert not logging.getLogger("geartrain.worker").disabled


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("log.ini", "", "expected a file that ends in .json or .toml"),
        ("log.json", "{", "cannot read .*log.json: Expecting property name"),
        ("log.json", "[1]", "cannot read .*log.json: expected an object, got list"),
        ("log.toml", "=", "cannot read .*log.toml: Invalid statement"),
        ("log.json", '{"handlers": {"h": {"class": "no.Such"}}}', "invalid --log-config: .*No module named 'no'"),
        (".json", "", "cannot read"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    if text:
        path.write_text(text)
    with pytest.raises(click.UsageError, match=message), fresh_logging():
        parse("--log-config", str(path)).apply()


def test_a_record_in_json_has_its_fields_and_its_traceback() -> None:
    try:
        raise KeyError("x")
    except KeyError as error:
        exc_info = (KeyError, error, error.__traceback__)
        extra = {"handle": "H:1", "level": "shadowed"}
        record = logging.getLogger("app").makeRecord(
            "app", WARNING, __file__, 1, "%s\n", ("text",), exc_info, None, extra
        )
    line = JsonFormatter().format(record)
    entry = json.loads(line)
    assert "\n" not in line
    assert list(entry)[:5] == ["time", "level", "logger", "process", "message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"])
    assert (entry["level"], entry["logger"], entry["message"], entry["handle"]) == ("WARNING", "app", "text\n", "H:1")
    assert entry["exception"].endswith("KeyError: 'x'")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def messages(errors: bytes, server: AnyJobServer) -> Sequence[str]:
    text = re.sub(r"\d+\.\d s", "N s", errors.decode().replace(server.address, "SERVER"))
    return [line.partition("]: ")[2] for line in text.splitlines()]


def test_a_worker_says_what_it_is_and_each_step_until_its_end(job_server: AnyJobServer, app: Path) -> None:
    with run_worker(job_server, "app:make", "--log-level=info", directory=app) as worker:
        assert submit(job_server, "plain").returncode == 0
        worker.terminate()
        _, errors = worker.communicate(timeout=20)
    stop, about, *lines = messages(errors, job_server)
    assert stop == "Ctrl-C or SIGTERM stops this worker; its running jobs can end"
    assert about.endswith(": worker me, 2 jobs at a time, job servers SERVER")
    assert lines == [
        "function plain: in a thread, timeout N s",
        "connected to SERVER",
        "SIGTERM: no more jobs are taken; press Ctrl-C again to give the running ones back now",
        "stopping: no job is running",
        "closed the connection to SERVER",
        "stopped after N s; jobs: 1 completed, 0 failed, 0 raised an exception, 0 returned or lost",
    ]


def test_a_supervisor_and_its_processes_log_in_the_same_format(gearmand: Gearmand, app: Path) -> None:
    with run_worker(gearmand, "app:make", "--log-format=json", "-p", "1", directory=app) as worker:
        worker.terminate()
        _, errors = worker.communicate(timeout=20)
    records = [json.loads(line) for line in errors.splitlines()]
    assert {record["logger"] for record in records} == {"geartrain.worker", "geartrain.supervisor"}
    assert len({record["process"] for record in records}) == 2
    assert [record["message"] for record in records if "Ctrl-C" in record["message"]] == [
        "Ctrl-C or SIGTERM stops this worker; its running jobs can end",
        "SIGTERM: no more jobs are taken; press Ctrl-C again to give the running ones back now",
    ], "only the supervisor says how to stop"
    assert (records[-1]["status"], records[-1]["message"].split()[0]) == (0, "process")


def test_check_lists_the_functions_and_connects_once(gearmand: Gearmand, app: Path) -> None:
    result = geartrain("worker", "app:make", "--check", "-p", "4", "-s", gearmand.address, directory=app)
    assert (result.returncode, result.stderr) == (0, b"")
    about, function, server = result.stdout.decode().splitlines()
    assert about.endswith(f"worker me, 2 jobs at a time, job servers {gearmand.address}")
    assert function == "function plain: in a thread, timeout 2.5 s"
    assert re.fullmatch(rf"job server {gearmand.address}: answered within \d+\.\d ms", server)


def test_check_reports_each_job_server_that_does_not_answer(gearmand: Gearmand, app: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    result = geartrain("worker", "app:make", "--check", "-s", f"{gearmand.address},{nowhere}", directory=app)
    assert result.returncode == 3
    assert result.stderr.decode() == f"geartrain worker: {nowhere} could not be reached: Connection refused\n"
    assert f"job server {gearmand.address}: answered" in result.stdout.decode()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("from geartrain import Worker; make = Worker", "the worker has no functions"),
        ("1 / 0", "the module app raised ZeroDivisionError"),
    ],
)
def test_check_reports_a_worker_that_cannot_run(app: Path, code: str, sentence: str) -> None:
    (app / "app.py").write_text(code)
    result = geartrain("worker", "app:make", "--check", directory=app)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.decode().endswith(f"geartrain worker: {sentence}\n")
