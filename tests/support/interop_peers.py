"""Every available client, worker and admin tool, each behind the same interface."""

from __future__ import annotations

import asyncio
import atexit
import functools
import re
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from geartrain import Admin, Client, JobData, JobFailedError, JobProgress
from tests.cli.command import geartrain
from tests.support.environment import without_coverage
from tests.support.job_server import ROOT, AnyJobServer

T = TypeVar("T")

WITHIN: Final = 30.0  # seconds that a program may take before the test fails

OURS: Final = (sys.executable, "-m", "geartrain")

# `upper` returns the workload in upper case; a workload that starts with "fail" fails.
UPPER: Final = ("perl", "-0777", "-ne", "exit 1 if /^fail/; print uc")

PERL_WORKER: Final = """
use strict; use warnings;
use Gearman::Worker;
my ($address, $upper, $progress, $parts) = @ARGV;
my $worker = Gearman::Worker->new(job_servers => [$address]);
$worker->register_function($upper => sub { my $data = $_[0]->arg; $data =~ /^fail/ ? undef : uc $data });
$worker->register_function($progress => sub { $_[0]->set_status(1, 2); "done" });
$worker->register_function($parts => sub { $worker->send_work_data($_[0], "one "); "two" });
$worker->work while 1;
"""

PERL_CLIENT: Final = r"""
use strict; use warnings;
use Gearman::Client;
my ($address, $function, $unique, $mode) = @ARGV;
my $client = Gearman::Client->new(job_servers => [$address]);
binmode STDIN; binmode STDOUT; local $/;
my $workload = <STDIN>;
my %options = (
    uniq => $unique,
    on_data => sub { print ${$_[0]} },
    on_status => sub { print STDERR "$_[0]/$_[1]\n" },
);
if ($mode eq "background") {
    my $handle = $client->dispatch_background($function, \$workload, \%options) or exit 2;
    print $handle;
} else {
    my $result = $client->do_task($function, \$workload, \%options) or exit 1;
    print $$result;
}
"""


class Request(NamedTuple):
    """A job for a client to submit."""

    server: AnyJobServer
    function: str
    workload: bytes = b""
    unique: str = ""
    background: bool = False

    @property
    def mode(self) -> str:
        return "background" if self.background else "foreground"

    @property
    def host_and_port(self) -> tuple[str, str]:
        return "127.0.0.1", str(self.server.port)


class Answer(NamedTuple):
    """The outcome of a job as the client reports it."""

    completed: bool
    result: bytes = b""
    progress: tuple[str, ...] = ()


def run(command: Sequence[str], workload: bytes = b"") -> Answer:
    """Run a program whose exit status says whether the job was completed."""
    ended = subprocess.run(
        command, input=workload, capture_output=True, timeout=WITHIN, cwd=ROOT, env=without_coverage(), check=False
    )
    return read_answer(ended)


def read_answer(ended: subprocess.CompletedProcess[bytes]) -> Answer:
    """Read the outcome of a program that has exited."""
    assert ended.returncode in (0, 1), ended
    progress = re.findall(r"^\d+/\d+$", ended.stderr.decode(), re.MULTILINE)
    return Answer(ended.returncode == 0, ended.stdout, tuple(progress))


@functools.cache
def compile_c(name: str) -> str:
    """Compile a C program of this directory, and return its path; it is deleted when this process exits."""
    directory = tempfile.TemporaryDirectory(prefix="geartrain-")
    atexit.register(directory.cleanup)
    program = f"{directory.name}/{name}"
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run(
        ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", str(source), "-o", program, "-lgearman"], check=True
    )
    return program


# Clients.


async def submit(request: Request) -> Answer:
    server, function, workload, unique, background = request
    async with Client([server.address]) as client:
        job = client.submit(function, workload, unique=unique or None, background=background)
        updates = [update async for update in job]
        try:
            result = await job
        except JobFailedError:
            return Answer(completed=False)
    data = b"".join(update.data for update in updates if isinstance(update, JobData))
    progress = [f"{u.numerator}/{u.denominator}" for u in updates if isinstance(u, JobProgress)]
    return Answer(True, data + result, tuple(progress))


def submit_by_client(request: Request) -> Answer:
    return asyncio.run(submit(request))


def submit_by_command(request: Request) -> Answer:
    options = [*(["--unique", request.unique] if request.unique else []), *(["-b"] if request.background else [])]
    arguments = ("submit", "-s", request.server.address, *options, request.function)
    return read_answer(geartrain(*arguments, standard_input=request.workload))


def submit_by_perl(request: Request) -> Answer:
    command = ("perl", "-e", PERL_CLIENT, request.server.address, request.function, request.unique, request.mode)
    return run(command, request.workload)


def submit_by_gearman(request: Request) -> Answer:
    host, port = request.host_and_port
    options = [*(["-u", request.unique] if request.unique else []), *(["-b"] if request.background else [])]
    return run(("gearman", "-h", host, "-p", port, "-f", request.function, *options), request.workload)


def submit_by_libgearman(request: Request) -> Answer:
    command = (compile_c("libgearman_client"), *request.host_and_port, request.function, request.unique, request.mode)
    return run(command, request.workload)


CLIENTS: Final[Mapping[str, Callable[[Request], Answer]]] = {
    "client": submit_by_client,
    "command": submit_by_command,
    "perl": submit_by_perl,
    "gearman": submit_by_gearman,
    "libgearman": submit_by_libgearman,
}


# Workers.


def _name(worker: str, *functions: str) -> tuple[str, ...]:
    return tuple(f"{worker}.{function}" for function in functions)


WORKERS: Final[Mapping[str, Callable[[AnyJobServer], Sequence[str]]]] = {
    "worker": lambda server: (
        *(sys.executable, "-m", "tests.support.interop_worker", server.address),
        *_name("worker", "upper", "progress", "parts"),
    ),
    "command": lambda server: (*OURS, "worker", *_name("command", "upper"), "-s", server.address, "--", *UPPER),
    "perl": lambda server: ("perl", "-e", PERL_WORKER, server.address, *_name("perl", "upper", "progress", "parts")),
    "gearman": lambda server: (
        *("gearman", "-w", "-h", "127.0.0.1", "-p", str(server.port)),
        *("-f", *_name("gearman", "upper"), "--", *UPPER),
    ),
    "libgearman": lambda server: (
        *(compile_c("libgearman_worker"), "127.0.0.1", str(server.port)),
        *_name("libgearman", "upper", "progress", "parts"),
    ),
}
"""Starts each worker. Its functions are prefixed with its name: `perl.upper`."""


# Admin tools.


class AdminTool(NamedTuple):
    """
    An admin tool.

    Attributes:
        status: Returns (function, jobs, running jobs, workers) for each function.
        jobs: Returns the handle of each job.
        cancel: Cancels a job by its handle.
    """

    status: Callable[[AnyJobServer], list[tuple[str, int, int, int]]]
    jobs: Callable[[AnyJobServer], list[str]]
    cancel: Callable[[AnyJobServer, str], object]


def _ask(server: AnyJobServer, command: Callable[[Admin], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with Admin(server.address) as admin:
            return await command(admin)

    return asyncio.run(ask())


def _read_lines(answer: Answer) -> list[list[str]]:
    assert answer.completed, answer
    return [line.split("\t") for line in answer.result.decode().splitlines() if line != "."]


def _run_ours(server: AnyJobServer, *arguments: str) -> list[list[str]]:
    return _read_lines(read_answer(geartrain(*arguments, "-s", server.address)))


def _run_gearadmin(server: AnyJobServer, *options: str) -> list[list[str]]:
    return _read_lines(run(["gearadmin", "-h", "127.0.0.1", "-p", str(server.port), *options]))


ADMIN_TOOLS: Final[Mapping[str, AdminTool]] = {
    "admin": AdminTool(
        status=lambda server: list(_ask(server, Admin.status)),
        jobs=lambda server: [job.handle for job in _ask(server, Admin.show_jobs)],
        cancel=lambda server, handle: _ask(server, lambda admin: admin.cancel_job(handle)),
    ),
    "command": AdminTool(
        # Its first column is the server, its second number the queued jobs.
        status=lambda server: [
            (row[1], int(row[2]) + int(row[3]), int(row[3]), int(row[4])) for row in _run_ours(server, "status")
        ],
        jobs=lambda server: [row[0].partition("//")[2] for row in _run_ours(server, "jobs")],
        cancel=lambda server, handle: _run_ours(server, "cancel", handle),
    ),
    "gearadmin": AdminTool(
        status=lambda server: [
            (row[0], int(row[1]), int(row[2]), int(row[3])) for row in _run_gearadmin(server, "--status")
        ],
        jobs=lambda server: [row[0] for row in _run_gearadmin(server, "--show-jobs")],
        cancel=lambda server, handle: _run_gearadmin(server, f"--cancel-job={handle}"),
    ),
}
