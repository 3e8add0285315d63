"""The validated options of a worker."""

from __future__ import annotations

import inspect
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from geartrain.tls import check_tls
from geartrain.validation import MAX_WORKLOAD, check_count, check_seconds, check_timeout, encode_name
from geartrain.worker.function import FunctionKind, Invoker, check_has_name
from geartrain.worker.job import WorkerJob
from geartrain.worker.job_metrics import JobMetrics
from geartrain.worker.process_hooks import ProcessHook, ProcessHooks

__all__ = ["FormatException", "Hook", "Middleware", "WorkerConfig", "make_client_id"]

Hook: TypeAlias = Callable[[], Awaitable[None] | None]
Middleware: TypeAlias = Callable[[WorkerJob, Invoker], Awaitable[Any]]
FormatException: TypeAlias = Callable[[BaseException], bytes | str]

_MAX_CLIENT_ID: Final = 127  # bytes; gearmand truncates a longer one


def make_client_id() -> str:
    """Return the default ``client_id``, which identifies this process: ``hostname:pid``."""
    process = f":{os.getpid()}"
    return socket.gethostname()[: _MAX_CLIENT_ID - len(process)] + process


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """
    The validated options of a worker.

    Raises:
        ValueError: If a value is out of range.
        TypeError: If a value is of the wrong type.
    """

    concurrency: int | None
    client_id: str | None
    heartbeat: float | None
    connect_timeout: float | None
    tls: ssl.SSLContext | None
    max_packet_size: int
    regrab_interval: float
    grace: float | None
    max_jobs: int | None
    max_memory: int | None
    on_start: Hook | None
    on_stop: Hook | None
    on_process_start: ProcessHook | None
    on_process_stop: ProcessHook | None
    middleware: Iterable[Middleware]
    format_exception: FormatException
    logger: logging.Logger
    metrics: JobMetrics | None = None

    @property
    def process_hooks(self) -> ProcessHooks:
        """The hooks of each process."""
        return ProcessHooks(self.on_process_start, self.on_process_stop)

    def on_restart(self) -> None:
        """Record that a process is started in place of one that has ended."""
        if self.metrics is not None:
            self.metrics.on_restart()

    @property
    def job_limit(self) -> int:
        """The maximum number of jobs that run at the same time."""
        return self.concurrency or 1

    def __post_init__(self) -> None:
        check_count("max_packet_size", self.max_packet_size, 1024, MAX_WORKLOAD)
        check_seconds("regrab_interval", self.regrab_interval)
        for name in ("heartbeat", "connect_timeout", "grace"):
            check_timeout(name, getattr(self, name))
        for name in ("concurrency", "max_jobs", "max_memory"):
            if (count := getattr(self, name)) is not None:
                check_count(name, count, 1)
        for name in ("on_start", "on_stop", "on_process_start", "on_process_stop", "format_exception"):
            if (hook := getattr(self, name)) is not None and not callable(hook):
                raise TypeError(f"{name} is a function, got {hook!r}")
        for name in ("on_process_start", "on_process_stop"):
            hook = getattr(self, name)
            if hook is not None and FunctionKind.of(hook).in_loop:
                raise TypeError(f"{name} is a plain function, because functions in processes are, got {hook!r}")
            check_has_name(name, hook)
        object.__setattr__(self, "middleware", tuple(self.middleware))
        for layer in self.middleware:
            if not inspect.iscoroutinefunction(layer) and not inspect.iscoroutinefunction(type(layer).__call__):
                raise TypeError(f"middleware is a coroutine function (async def), got {layer!r}")
        if self.client_id is not None and not 1 <= len(encode_name("client_id", self.client_id)) <= _MAX_CLIENT_ID:
            raise ValueError(f"client_id must have 1 to {_MAX_CLIENT_ID} bytes, got {self.client_id!r}")
        check_tls(self.tls)
