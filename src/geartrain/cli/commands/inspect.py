"""What only looks: ``workers``, ``jobs``, ``version``, ``ping``; ``status`` has a module of its own."""

from __future__ import annotations

from collections.abc import Sequence

import click

from geartrain.admin import Admin
from geartrain.cli.event_loop import run_async
from geartrain.cli.fan_out import query_servers, report_errors
from geartrain.cli.handles import format_handle
from geartrain.cli.options import json_option, server_option
from geartrain.cli.tables import Row, print_rows
from geartrain.client import Client
from geartrain.handle import JobHandle
from geartrain.protocol.text_answers import ListedJob

__all__ = ["jobs", "ping", "version", "workers"]


@click.command(short_help="Show the workers and other connections.")
@server_option
@json_option
@click.option("-a", "--all", "everybody", is_flag=True, help="Show also connections that offer no function.")
def workers(servers: list[str], as_json: bool, everybody: bool) -> int:
    """Show who is connected to the job servers, and which functions they offer."""

    async def show() -> int:
        answers, status = await query_servers(servers, Admin.workers)
        rows: list[Row] = [
            {"server": server, **worker._asdict()}
            for server, answer in answers.items()
            for worker in answer
            if everybody or worker.functions
        ]
        print_rows(rows, ("server", "fd", "ip", "client_id", "functions"), as_json=as_json)
        return status

    return run_async(show())


@click.command(short_help="Show the jobs that are queued or running.")
@server_option
@json_option
@click.option("-u", "--unique", is_flag=True, help="Show their uniques, in place of their handles.")
def jobs(servers: list[str], as_json: bool, unique: bool) -> int:
    """
    Show the jobs that the job servers have, queued and running.

    gearmand does not tell which handle goes with which unique, nor the function of either.
    """
    return run_async(_show_uniques(servers, as_json) if unique else _show_jobs(servers, as_json))


async def _show_jobs(servers: Sequence[str], as_json: bool) -> int:
    answers, status = await query_servers(servers, Admin.show_jobs)
    rows = [_make_job_row(server, job) for server, answer in answers.items() for job in answer]
    print_rows(rows, ("job", "retries", "ignored", "persisted"), as_json=as_json)
    return status


def _make_job_row(server: str, job: ListedJob) -> Row:
    # In a form that `geartrain job` and `geartrain cancel` accept.
    return {**job._asdict(), "job": format_handle(JobHandle(server, job.handle))}


async def _show_uniques(servers: Sequence[str], as_json: bool) -> int:
    answers, status = await query_servers(servers, Admin.show_unique_jobs)
    rows: list[Row] = [{"server": server, "unique": job.unique} for server, answer in answers.items() for job in answer]
    print_rows(rows, ("server", "unique"), as_json=as_json)
    return status


@click.command(short_help="Show the versions of the job servers.")
@server_option
@json_option
@click.option("--process", is_flag=True, help="Show also the number of its process, and how much it logs.")
def version(servers: list[str], as_json: bool, process: bool) -> int:
    """Show which version each job server has."""

    async def ask(admin: Admin) -> Row:
        facts: dict[str, object] = {"version": await admin.version()}
        if process:
            facts |= {"pid": await admin.getpid(), "logs": await admin.verbose()}
        return facts

    async def show() -> int:
        answers, status = await query_servers(servers, ask)
        columns = ("server", "version", "pid", "logs") if process else ("server", "version")
        print_rows([{"server": server, **facts} for server, facts in answers.items()], columns, as_json=as_json)
        return status

    return run_async(show())


@click.command(short_help="Measure how long the job servers take to answer.")
@server_option
@json_option
def ping(servers: list[str], as_json: bool) -> int:
    """Have each job server echo some bytes, and show how many milliseconds that takes."""

    async def show() -> int:
        async with Client(servers) as client:
            answers, status = report_errors(await client.ping())
        rows: list[Row] = [{"server": server, "ms": seconds * 1000} for server, seconds in answers.items()]
        print_rows(rows, ("server", "ms"), as_json=as_json)
        return status

    return run_async(show())
