"""Our client with other workers: Perl's ``Gearman::Worker`` and the tool ``gearman -w``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from geartrain import Client, JobData, JobExceptionError, JobFailedError, JobProgress
from tests.support.eventually import eventually
from tests.support.job_server import AnyJobServer
from tests.support.processes import end_process
from tests.support.wire import Wire

PERL = r"""
use strict; use warnings;
use Gearman::Worker;
my $worker = Gearman::Worker->new(job_servers => [$ARGV[0]], @ARGV > 1 ? (prefix => $ARGV[1]) : ());
$worker->register_function(reverse => sub { scalar reverse $_[0]->arg });
$worker->register_function(progress => sub { $_[0]->set_status(1, 2); $_[0]->set_status(2, 2); "done" });
$worker->register_function(fail => sub { return });
$worker->register_function(length => sub { length $_[0]->arg });
$worker->work while 1;
"""


@asynccontextmanager
async def running(job_server: AnyJobServer, function: str, *command: str) -> AsyncIterator[None]:
    """Run a worker process until the end of the block; the block starts once the function is registered."""
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        with Wire(job_server.port) as wire:
            await eventually(lambda: function.encode() in [line.rsplit(b"\t", 3)[0] for line in wire.ask(b"status")])
        yield
    finally:
        await end_process(process)


@pytest.mark.parametrize("prefix", ["", "ns"])
async def test_the_perl_worker_runs_our_jobs(job_server: AnyJobServer, prefix: str) -> None:
    name = f"{prefix}\tlength" if prefix else "length"  # the last one it registers
    command = ("perl", "-e", PERL, job_server.address, *([prefix] if prefix else []))
    async with running(job_server, name, *command), Client([job_server.address], prefix=prefix) as client:
        assert await client.do("reverse", b"a\0bc") == b"cb\0a"
        assert await client.do("length", b"x" * 100_000) == b"100000"
        assert [r async for r in client.map("reverse", [b"%02d" % n for n in range(30)])] == [
            (b"%02d" % n)[::-1] for n in range(30)
        ]
        job = client.submit("progress")
        assert [update async for update in job] == [JobProgress(1, 2), JobProgress(2, 2)]
        assert await job == b"done"
        with pytest.raises((JobFailedError, JobExceptionError)):
            await client.do("fail")


async def test_the_gearman_tool_runs_our_jobs(job_server: AnyJobServer) -> None:
    command = ("gearman", "-h", "127.0.0.1", "-p", str(job_server.port), "-w", "-f", "count", "--", "wc", "-c")
    async with running(job_server, "count", *command), Client([job_server.address]) as client:
        assert (await client.do("count", b"12345")).strip() == b"5"
        assert [int(r) async for r in client.map("count", [b"x" * n for n in range(1, 10)])] == list(range(1, 10))


async def test_the_gearman_tool_sends_lines_as_data(job_server: AnyJobServer) -> None:
    command = ("gearman", "-h", "127.0.0.1", "-p", str(job_server.port), "-w", "-n", "-f", "lines", "--", "cat")
    async with running(job_server, "lines", *command), Client([job_server.address]) as client:
        job = client.submit("lines", b"one\ntwo\n")
        parts = [update.data async for update in job if isinstance(update, JobData)]
        assert parts[0] == b"one\n"
        assert parts[-1].endswith(b"two\n")
        assert await job == b""
