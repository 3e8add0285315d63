"""Runs the demo from start to finish."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from rich.console import Console

from geartrain.admin import Admin, AdminGroup
from geartrain.cli.demo.report import print_report
from geartrain.cli.demo.screen import make_screen
from geartrain.cli.demo.text_files import TextFile
from geartrain.cli.demo.word_count_client import WordCountClient, WordCountResult
from geartrain.cli.demo.worker_processes import WorkerProcesses
from geartrain.cli.messages import error_reason, first_error, pluralize
from geartrain.client import Client
from geartrain.errors import NoServersError
from geartrain.server import JobServer

__all__ = ["run_demo"]

_WORKERS = 2
_MAX_POLLS = 100  # of a job server that still lists the workers
_POLL_INTERVAL = 0.01  # seconds


async def run_demo(
    files: Sequence[TextFile], job_servers: Sequence[str], pause: float, console: Console
) -> WordCountResult:
    """
    Count the words in files and show the progress and the result.

    Args:
        files: At least one file.
        job_servers: Addresses; if there are none, a job server is started in this process.
        pause: As for :func:`~geartrain.cli.demo.word_count_worker.make_worker`.
        console: Where to print.

    Raises:
        NoServersError: If no job server can be reached.
        WorkerProcessError: If a worker process cannot be started, or they keep crashing.
    """
    if job_servers:
        await _check_servers(job_servers, console)
        result = await _count_words(files, job_servers, pause, console)
    else:
        async with JobServer(port=0) as server:
            console.print(f"A job server in this process listens on {server.address}")
            result = await _count_words(files, [server.address], pause, console)
    print_report(console, result)
    return result


async def _count_words(
    files: Sequence[TextFile], job_servers: Sequence[str], pause: float, console: Console
) -> WordCountResult:
    console.print(f"[bold]Counting the words of {pluralize(len(files), 'file')}[/], a job for each")
    function = f"geartrain-demo-{os.getpid()}"  # unique, so that no other worker gets these jobs
    async with Client(job_servers) as client, AdminGroup(job_servers) as admins:
        try:
            async with asyncio.TaskGroup() as group, make_screen(console, len(files)) as screen:
                arguments = ["-m", "geartrain.cli.demo.word_count_worker", function, str(pause), *job_servers]
                workers = WorkerProcesses(group, arguments, screen)
                word_count = WordCountClient(client, function, workers, screen)
                try:
                    for _ in range(_WORKERS):
                        workers.start()
                    await word_count.run(files)
                finally:
                    await workers.kill_all()
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        # Clean up the job servers' lists. If one refuses, it only keeps an unused name.
        await admins.ask(lambda admin: _drop_function(admin, function))
    return word_count.result


async def _drop_function(admin: Admin, function: str) -> None:
    """Drop a function once the job server has noticed that its workers are gone; before that it would refuse."""
    for _ in range(_MAX_POLLS):
        if not any(row.workers for row in await admin.status() if row.function == function):
            break
        await asyncio.sleep(_POLL_INTERVAL)
    await admin.drop_function(function)


async def _check_servers(job_servers: Sequence[str], console: Console) -> None:
    async with Client(job_servers) as client:
        answers = await client.ping()
    errors = {server: error for server, error in answers.items() if isinstance(error, Exception)}
    if len(errors) == len(answers):
        raise NoServersError("no job server could be reached: " + "; ".join(map(str, errors.values())), errors=errors)
    for server, answer in answers.items():
        if isinstance(answer, Exception):
            console.print(
                f"The job server {server} does not answer: {error_reason(answer)}", markup=False, soft_wrap=True
            )
        else:
            console.print(f"The job server {server} answers in {answer * 1000:.1f} ms", markup=False)
