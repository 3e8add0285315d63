"""Commands that query job servers: ``workers``, ``jobs`` and ``version``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from geartrain.admin import Admin
from geartrain.cli.event_loop import run_async
from geartrain.cli.example_command import ExampleCommand
from geartrain.cli.fan_out import query_servers
from geartrain.cli.handles import format_handle
from geartrain.cli.options import json_option, server_option
from geartrain.cli.tables import Row, print_rows
from geartrain.handle import JobHandle
from geartrain.protocol.text_replies import ListedJob

__all__ = ["jobs", "version", "workers"]


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain workers",
        "geartrain workers --all --json",
    ],
)
@server_option
@json_option
@click.option("-a", "--all", "show_all", is_flag=True, help="Also show connections that have registered no functions.")
def workers(servers: list[str], as_json: bool, show_all: bool) -> int:
    """List the connections of each job server and the functions they have registered."""

    async def show() -> int:
        answers, status = await query_servers(servers, Admin.workers)
        rows: list[Row] = [
            {"server": server, **worker._asdict()}
            for server, answer in answers.items()
            for worker in answer
            if show_all or worker.functions
        ]
        print_rows(rows, ("server", "fd", "ip", "client_id", "functions"), as_json=as_json)
        return status

    return run_async(show())


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain jobs -s 10.0.0.1",
        "geartrain jobs --unique",
    ],
)
@server_option
@json_option
@click.option("-u", "--unique", is_flag=True, help="Show uniques instead of handles.")
def jobs(servers: list[str], as_json: bool, unique: bool) -> int:
    """
    List the queued and running jobs of the job servers.

    gearmand reports handles and uniques separately, and neither with the function.
    """
    return run_async(_show_uniques(servers, as_json) if unique else _show_jobs(servers, as_json))


async def _show_jobs(servers: Sequence[str], as_json: bool) -> int:
    answers, status = await query_servers(servers, Admin.show_jobs)
    rows = [_make_job_row(server, job) for server, answer in answers.items() for job in answer]
    print_rows(rows, ("job", "retries", "ignored", "persisted"), as_json=as_json)
    return status


def _make_job_row(server: str, job: ListedJob) -> Row:
    # Format the handle so that `geartrain job` and `geartrain cancel` accept it.
    return {**job._asdict(), "job": format_handle(JobHandle(server, job.handle))}


async def _show_uniques(servers: Sequence[str], as_json: bool) -> int:
    answers, status = await query_servers(servers, Admin.show_unique_jobs)
    rows: list[Row] = [{"server": server, "unique": job.unique} for server, answer in answers.items() for job in answer]
    print_rows(rows, ("server", "unique"), as_json=as_json)
    return status


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain version",
        "geartrain version --process -s 10.0.0.1",
    ],
)
@server_option
@json_option
@click.option("--process", is_flag=True, help="Also show the process ID and the log level.")
def version(servers: list[str], as_json: bool, process: bool) -> int:
    """Show the version of each job server."""

    async def query(admin: Admin) -> Row:
        row: dict[str, object] = {"version": await admin.version()}
        if process:
            row |= {"pid": await admin.getpid(), "logs": await admin.verbose()}
        return row

    async def show() -> int:
        answers, status = await query_servers(servers, query)
        columns = ("server", "version", "pid", "logs") if process else ("server", "version")
        print_rows([{"server": server, **row} for server, row in answers.items()], columns, as_json=as_json)
        return status

    return run_async(show())
