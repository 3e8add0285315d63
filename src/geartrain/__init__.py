"""Gearman for asyncio: submit jobs without ever blocking, and be told of everything that happens to them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from geartrain.client import Client
from geartrain.client.job import Job
from geartrain.client.registry import get_client, post, spawn
from geartrain.client.task import Priority, Task, TaskOptions
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

if TYPE_CHECKING:
    from geartrain.admin import Admin, AdminGroup
    from geartrain.client.statistics import ServerStatistics, Statistics
    from geartrain.protocol.text_answers import FunctionStatus, ListedJob, ListedUnique, PriorityStatus, WorkerStatus
    from geartrain.server import JobServer
    from geartrain.worker import Worker, WorkerJob, WorkerServerStatistics, WorkerStatistics

__version__ = "0.1.0"

__all__ = [
    "Admin",
    "AdminGroup",
    "AliasInUseError",
    "Client",
    "ClientDisconnectedError",
    "ConnectionLostError",
    "FunctionStatus",
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
    "NoServersError",
    "NoWorkersError",
    "Priority",
    "PriorityStatus",
    "RemoteProtocolError",
    "ServerError",
    "ServerStatistics",
    "ServerTimeoutError",
    "Statistics",
    "Task",
    "TaskOptions",
    "UnknownAliasError",
    "Worker",
    "WorkerJob",
    "WorkerServerStatistics",
    "WorkerStatistics",
    "WorkerStatus",
    "get_client",
    "post",
    "spawn",
]

# Whoever submits jobs needs half of all this. The rest is loaded when it is first asked for.
_LATER: Final = {
    "geartrain.admin": ("Admin", "AdminGroup"),
    "geartrain.client.statistics": ("ServerStatistics", "Statistics"),
    "geartrain.protocol.text_answers": (
        "FunctionStatus",
        "ListedJob",
        "ListedUnique",
        "PriorityStatus",
        "WorkerStatus",
    ),
    "geartrain.server": ("JobServer",),
    "geartrain.worker": ("Worker", "WorkerJob", "WorkerServerStatistics", "WorkerStatistics"),
}


if not TYPE_CHECKING:  # a type checker would take any name for granted

    def __getattr__(name: str) -> object:
        for module, names in _LATER.items():
            if name in names:
                value = globals()[name] = getattr(importlib.import_module(module), name)
                return value
        raise AttributeError(f"module 'geartrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
