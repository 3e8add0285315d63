"""Forks, the end of the interpreter and interrupts, each in a process of its own. See ``programs.py``."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings

import pytest

from geartrain.blocking import Admin, Client, Worker
from tests.blocking import programs
from tests.support.eventually import wait_until
from tests.support.job_server import AnyJobServer
from tests.support.processes import run_program

EXIT = ("exit_with_jobs_pending", "exit_right_after_submitting")
THREADS = ("a_thread_outlives_the_main_thread", "a_thread_of_a_process_of_multiprocessing_waits_at_its_end")

ON_BOTH = ("fork_after_use", "interrupts_cancel_the_job", "an_exception_thrown_into_a_generator_ends_it")

pytestmark = pytest.mark.usefixtures("worker")


def on(*job_servers_and_arguments: tuple[str, str], name: str) -> pytest.MarkDecorator:
    """Run a test with these job servers and arguments: a process takes half a second, so not with all of both."""
    return pytest.mark.parametrize(("start_job_server", name), job_servers_and_arguments, indirect=["start_job_server"])


on_gearmand = pytest.mark.parametrize("start_job_server", ["gearmand"], indirect=True)


def run(name: str, job_server: AnyJobServer) -> subprocess.CompletedProcess[str]:
    """Run a program, with warnings as errors except Python's own about forks."""
    options = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")
    return run_program([sys.executable, *options, "-m", "tests.blocking.programs", name, job_server.address])


@pytest.mark.traced_processes
@on(
    *(("gearmand", name) for name in programs.programs() if name not in EXIT),
    *(("geartrain", name) for name in ON_BOTH),
    name="name",
)
def test_a_program_ends_by_itself_and_without_an_error(job_server: AnyJobServer, name: str) -> None:
    ended = run(name, job_server)
    if name == "a_callback_that_exits_ends_nothing_else":
        assert "SystemExit: 5" in ended.stderr, "the callback's exception is reported"
    else:
        assert ended.stderr == ""
    assert ended.returncode == 0
    assert ended.stdout == ("right\n" if name in THREADS else "")


@on(
    ("geartrain", "before the import"),
    ("gearmand", "after the import"),
    ("gearmand", "after the first call"),
    name="patched",
)
def test_greenlets_wait_without_stopping_others(job_server: AnyJobServer, patched: str) -> None:
    command = [sys.executable, "-m", "tests.blocking.greenlets", job_server.address, patched]
    ended = run_program(command)
    assert (ended.returncode, ended.stderr) == (0, "")


@on(("gearmand", "before the import"), ("geartrain", "after the import"), name="patched")
def test_workers_run_functions_in_greenlets(job_server: AnyJobServer, patched: str) -> None:
    command = [sys.executable, "-m", "tests.blocking.greenlet_workers", job_server.address, patched]
    ended = run_program(command)
    assert (ended.returncode, ended.stderr) == (0, "")


@on_gearmand
def test_an_exit_with_jobs_pending_keeps_its_status(job_server: AnyJobServer) -> None:
    ended = run("exit_with_jobs_pending", job_server)
    assert (ended.returncode, ended.stderr) == (3, "")


def test_what_was_submitted_before_the_exit_arrives(job_server: AnyJobServer) -> None:
    ended = run("exit_right_after_submitting", job_server)
    assert (ended.returncode, ended.stderr) == (0, "")
    with Admin(job_server.address) as admin:
        assert [function.total for function in admin.status() if function.function == "never"] == [100]


@on_gearmand
def test_a_forgotten_client_is_closed_with_a_warning(job_server: AnyJobServer, worker: Worker) -> None:
    client = Client(job_server.address)
    client.ping()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del client
        gc.collect()
    assert [str(warning.message) for warning in caught if "Client" in str(warning.message)] == [
        f"unclosed <Client {job_server.address}>"
    ]
    with Admin(job_server.address) as admin:
        wait_until(lambda: len(admin.workers()) == 2, within=10)  # the worker, and the admin client
