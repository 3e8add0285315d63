"""What a process with connections of its own needs to know."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from geartrain.address import Address
from geartrain.worker.config import WorkerConfig
from geartrain.worker.function import Function
from geartrain.worker.job_metrics import JobMetrics
from geartrain.worker.process_hooks import ProcessHooks

__all__ = ["LateCall", "ProcessSettings"]


class LateCall:
    """
    A callable that is unpickled when it is first called: importing its module may fail or end the process.

    In a process this then ends a job, as anything else that a function does.

    Args:
        call: The callable.

    Raises:
        Exception: If it cannot be pickled; of any kind.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._pickled = pickle.dumps(call)
        self._call: Callable[..., Any] | None = None

    def __getstate__(self) -> bytes:
        return self._pickled

    def __setstate__(self, pickled: bytes) -> None:
        self._pickled = pickled
        self._call = None

    def __call__(self, *arguments: Any) -> Any:
        """Call it; raises what its module raises, and what it raises itself."""
        if self._call is None:
            self._call = pickle.loads(self._pickled)  # noqa: S301  # from the worker
        return self._call(*arguments)


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """
    The options of one process, which can be pickled.

    Attributes:
        servers: The job servers, in the order of the board.
        function: The function.
        options: Those of the :class:`~geartrain.worker.config.WorkerConfig` without its logger.
        hooks: Called in the process.
        logger_name: The name of the worker's logger.
        level: The level of the worker's logger.
        records_metrics: Whether the process records metrics, like the worker.
    """

    servers: tuple[Address, ...]
    function: Function
    options: dict[str, Any]
    hooks: ProcessHooks
    logger_name: str
    level: int
    records_metrics: bool

    @classmethod
    def make(cls, servers: tuple[Address, ...], config: WorkerConfig, function: Function) -> ProcessSettings:
        """
        Return the settings of the processes of a function.

        Raises:
            Exception: If the function, ``format_exception`` or a hook cannot be pickled; of any kind.
        """
        options = {
            "concurrency": 1,
            "client_id": config.client_id,
            "heartbeat": config.heartbeat,
            "connect_timeout": config.connect_timeout,
            "tls": None,
            "max_packet_size": config.max_packet_size,
            "regrab_interval": config.regrab_interval,
            "grace": None,  # the worker kills processes that take longer
            "max_jobs": None,
            "max_memory": None,
            "on_start": None,
            "on_stop": None,
            "on_process_start": None,
            "on_process_stop": None,
            "middleware": (),
            "format_exception": LateCall(config.format_exception),
        }
        inner = replace(function, target=LateCall(function.target), processes=None)
        return cls(
            servers,
            inner,
            options,
            config.process_hooks.map(LateCall),
            config.logger.name,
            config.logger.getEffectiveLevel(),
            config.metrics is not None,
        )

    def make_config(self, logger: logging.Logger) -> WorkerConfig:
        """Return the options of a run in the process."""
        return WorkerConfig(logger=logger, metrics=self._find_metrics(), **self.options)

    def _find_metrics(self) -> JobMetrics | None:
        if not self.records_metrics:
            return None
        # Before the function's module is imported, so that the process is in the worker's mode, too.
        from geartrain.worker.monitoring.prometheus import find_metrics

        return find_metrics()
