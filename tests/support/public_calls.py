"""Every public call on a client and a job, for tests that check where each may be called."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from geartrain import Client, Job, Task

Call = Callable[[], Awaitable[object] | object]


def outcomes(calls: Mapping[str, Call]) -> str:
    """Make each call, a coroutine in a new event loop, and describe its outcome."""

    async def wait(call: Call) -> object:
        result = call()
        return await result if isinstance(result, Awaitable) else result

    lines = []
    for name, call in calls.items():
        try:
            lines.append(f"{name}: {asyncio.run(wait(call))!r}")
        except Exception as error:  # noqa: BLE001  # the outcome to report
            lines.append(f"{name}: {type(error).__name__}: {error}")
    return "\n".join(lines)


async def first(items: Any) -> object:
    return await anext(items)


def client_calls(client: Client) -> dict[str, Call]:
    """Return all calls that use a client; read-only ones such as ``statistics`` are allowed anywhere."""
    handle = "127.0.0.1:4730//H:x:1"
    return {
        "add_task": lambda: client.add_task(Task("f")),
        "submit": lambda: client.submit("f"),
        "do": lambda: client.do("f"),
        "do_background": lambda: client.do_background("f"),
        "map": lambda: first(client.map("f", [b""])),
        "get_status": lambda: client.get_status(handle),
        "get_status_unique": lambda: client.get_status_unique("u"),
        "cancel": lambda: client.cancel(handle),
        "workers_for": lambda: client.workers_for("f"),
        "ping": lambda: client.ping(),
        "set_job_servers": lambda: client.set_job_servers(["a"]),
        "drain": lambda: client.drain(),
        "disconnect_all": lambda: client.disconnect_all(),
        "aclose": lambda: client.aclose(),
        "__aenter__": lambda: client.__aenter__(),
        "bind": lambda: client.bind(),
    }


def job_calls(client: Client, job: Job) -> dict[str, Call]:
    """Return the calls on a job that must be made in the client's loop."""
    return {
        "cancel": lambda: job.cancel(),
        "created": lambda: job.created(),
        "aiter": lambda: aiter(job),
        "as_completed": lambda: first(client.as_completed([job])),
    }
