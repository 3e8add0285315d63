"""Gearman for asyncio: submit jobs without ever blocking, and be told of everything that happens to them."""

from geartrain.admin import Admin, AdminGroup
from geartrain.client import Client
from geartrain.client.job import Job
from geartrain.client.registry import get_client, post, spawn
from geartrain.client.statistics import ServerStatistics, Statistics
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
    LocalProtocolError,
    NoServersError,
    NoWorkersError,
    RemoteProtocolError,
    ServerError,
    ServerTimeoutError,
    UnknownAliasError,
)
from geartrain.handle import JobHandle, JobStatus
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
