"""
Gearman for Python: a non-blocking client, a worker, an admin client and a job server.

The public names below are resolved on first use (PEP 562), so that ``import geartrain`` loads nothing else.
"""

from __future__ import annotations

from geartrain.version import __version__

TYPE_CHECKING = False  # as type checkers understand it, without the import of typing
if TYPE_CHECKING:
    from geartrain.admin import Admin, AdminGroup
    from geartrain.client import Client
    from geartrain.client.config import ClientOptions
    from geartrain.client.job import Job
    from geartrain.client.named import get_client, post, spawn
    from geartrain.client.statistics import ServerStatistics, Statistics
    from geartrain.client.task import Priority, Task, TaskOptions
    from geartrain.client.task_options import MapOptions
    from geartrain.client.updates import JobData, JobProgress, JobUpdate, JobWarning
    from geartrain.errors import (
        AliasInUseError,
        ClientDisconnectedError,
        ConnectionLostError,
        GearmanError,
        JobError,
        JobExceptionError,
        JobFailedError,
        JobLostError,
        JobTimeoutError,
        JobTooLargeError,
        LocalProtocolError,
        NoServersError,
        NoWorkersError,
        RemoteProtocolError,
        ServerError,
        ServerTimeoutError,
        UnknownAliasError,
    )
    from geartrain.handle import JobHandle, JobStatus
    from geartrain.mailbox import Mailbox
    from geartrain.program import StopSignals
    from geartrain.protocol.text_replies import FunctionStatus, ListedJob, ListedUnique, PriorityStatus, WorkerStatus
    from geartrain.server import JobServer
    from geartrain.worker import Worker, WorkerJob, WorkerServerStatistics, WorkerStatistics
    from geartrain.worker.function_thread import FunctionThread

__all__ = [
    "Admin",
    "AdminGroup",
    "AliasInUseError",
    "Client",
    "ClientDisconnectedError",
    "ClientOptions",
    "ConnectionLostError",
    "FunctionStatus",
    "FunctionThread",
    "GearmanError",
    "Job",
    "JobData",
    "JobError",
    "JobExceptionError",
    "JobFailedError",
    "JobHandle",
    "JobLostError",
    "JobProgress",
    "JobServer",
    "JobStatus",
    "JobTimeoutError",
    "JobTooLargeError",
    "JobUpdate",
    "JobWarning",
    "ListedJob",
    "ListedUnique",
    "LocalProtocolError",
    "Mailbox",
    "MapOptions",
    "NoServersError",
    "NoWorkersError",
    "Priority",
    "PriorityStatus",
    "RemoteProtocolError",
    "ServerError",
    "ServerStatistics",
    "ServerTimeoutError",
    "Statistics",
    "StopSignals",
    "Task",
    "TaskOptions",
    "UnknownAliasError",
    "Worker",
    "WorkerJob",
    "WorkerServerStatistics",
    "WorkerStatistics",
    "WorkerStatus",
    "__version__",
    "get_client",
    "post",
    "spawn",
]

# Where each public name is defined.
_NAMES = {
    "geartrain.admin": ("Admin", "AdminGroup"),
    "geartrain.client": ("Client",),
    "geartrain.client.config": ("ClientOptions",),
    "geartrain.client.job": ("Job",),
    "geartrain.client.named": ("get_client", "post", "spawn"),
    "geartrain.client.statistics": ("ServerStatistics", "Statistics"),
    "geartrain.client.task": ("Priority", "Task", "TaskOptions"),
    "geartrain.client.task_options": ("MapOptions",),
    "geartrain.client.updates": ("JobData", "JobProgress", "JobUpdate", "JobWarning"),
    "geartrain.errors": (
        "AliasInUseError",
        "ClientDisconnectedError",
        "ConnectionLostError",
        "GearmanError",
        "JobError",
        "JobExceptionError",
        "JobFailedError",
        "JobLostError",
        "JobTimeoutError",
        "JobTooLargeError",
        "LocalProtocolError",
        "NoServersError",
        "NoWorkersError",
        "RemoteProtocolError",
        "ServerError",
        "ServerTimeoutError",
        "UnknownAliasError",
    ),
    "geartrain.handle": ("JobHandle", "JobStatus"),
    "geartrain.mailbox": ("Mailbox",),
    "geartrain.program": ("StopSignals",),
    "geartrain.protocol.text_replies": (
        "FunctionStatus",
        "ListedJob",
        "ListedUnique",
        "PriorityStatus",
        "WorkerStatus",
    ),
    "geartrain.server": ("JobServer",),
    "geartrain.worker": ("Worker", "WorkerJob", "WorkerServerStatistics", "WorkerStatistics"),
    "geartrain.worker.function_thread": ("FunctionThread",),
}


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        from importlib import import_module

        for module, names in _NAMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(module), name)
                return value
        raise AttributeError(f"module 'geartrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
