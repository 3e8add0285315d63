"""Counts the system calls of a worker: the number per job is most of what a plain function costs."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from geartrain import Client
from tests.support.environment import without_coverage
from tests.support.gearmand import Gearmand
from tests.support.processes import end_process

JOBS = 300
WORKER = """
import asyncio, sys
from geartrain import Worker
worker = Worker([sys.argv[1]])
@worker.function("echo")
def echo(job):
    return job.workload
asyncio.run(worker.run())
"""


def count_calls(table: str) -> int:
    """Return the total of what ``strace -c`` reports."""
    *_, last = table.splitlines()
    _, _, _, calls, *_ = last.split()
    return int(calls)


@pytest.mark.untraced
async def test_a_plain_function_takes_four_system_calls_per_job(gearmand: Gearmand, tmp_path: Path) -> None:
    """They wait, read, write, and check whether the function has forked."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, gearmand.address, env=without_coverage()
    )
    try:
        async with Client([gearmand.address]) as client:
            assert await client.do("echo", b"ready") == b"ready"
            table = tmp_path / "table"
            tracer = await asyncio.create_subprocess_exec(
                "strace", "-f", "-c", "-o", str(table), "-p", str(process.pid), stderr=asyncio.subprocess.PIPE
            )
            assert tracer.stderr is not None
            assert b"attached" in await tracer.stderr.readline()
            workloads = [b"%d" % number for number in range(JOBS)]
            assert await asyncio.gather(*(client.do("echo", workload) for workload in workloads)) == workloads
            tracer.send_signal(signal.SIGINT)
            await tracer.wait()
    finally:
        await end_process(process)
    assert 3 * JOBS <= count_calls(table.read_text()) <= 5 * JOBS
