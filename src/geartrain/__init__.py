"""Gearman for asyncio: submit jobs without ever blocking, and be told of everything that happens to them."""

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
    RemoteProtocolError,
    ServerError,
    UnknownAliasError,
)
from geartrain.handle import JobHandle, JobStatus
from geartrain.server import JobServer
from geartrain.worker import Worker, WorkerJob

__version__ = "0.1.0"

__all__ = [
    "AliasInUseError",
    "Client",
    "ClientDisconnectedError",
    "ConnectionLostError",
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
    "LocalProtocolError",
    "NoServersError",
    "Priority",
    "RemoteProtocolError",
    "ServerError",
    "ServerStatistics",
    "Statistics",
    "Task",
    "TaskOptions",
    "UnknownAliasError",
    "Worker",
    "WorkerJob",
    "get_client",
    "post",
    "spawn",
]
