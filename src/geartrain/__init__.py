"""Gearman for asyncio: submit jobs without ever blocking, and be told of everything that happens to them."""

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
from geartrain.server import JobServer

__version__ = "0.1.0"

__all__ = [
    "AliasInUseError",
    "ClientDisconnectedError",
    "ConnectionLostError",
    "GearmanError",
    "JobError",
    "JobExceptionError",
    "JobFailedError",
    "JobLostError",
    "JobServer",
    "JobTimeoutError",
    "LocalProtocolError",
    "NoServersError",
    "RemoteProtocolError",
    "ServerError",
    "UnknownAliasError",
]
