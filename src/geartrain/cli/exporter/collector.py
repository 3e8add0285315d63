"""Converts readings of job servers to Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client.core import GaugeMetricFamily

from geartrain.cli.exporter.readings import Reading
from geartrain.errors import GearmanError
from geartrain.printable import printable
from geartrain.protocol.text_replies import PriorityStatus

__all__ = ["JobServerCollector"]

_PRIORITIES: Final = ("high", "normal", "low")


class JobServerCollector:
    """
    The metrics of job servers, a collector of prometheus-client.

    Args:
        read: Reads the job servers; called once for each scrape, in the thread that serves it.
    """

    def __init__(self, read: Callable[[], Mapping[str, Reading | GearmanError]]) -> None:
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Read the job servers and return their metrics."""
        return _make_families(self._read())

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the metrics without values, so that registering the collector reads nothing."""
        return _make_families({})


def _make_families(readings: Mapping[str, Reading | GearmanError]) -> list[GaugeMetricFamily]:
    up = GaugeMetricFamily("gearman_up", "Whether the job server answers (1) or not (0).", labels=["server"])
    version = GaugeMetricFamily(
        "gearman_version_info", "The version of the job server; always 1.", labels=["server", "version"]
    )
    labels = ["server", "function"]
    jobs = GaugeMetricFamily("gearman_jobs", "Jobs that are queued or running.", labels=labels)
    running = GaugeMetricFamily("gearman_jobs_running", "Jobs that are assigned to a worker.", labels=labels)
    waiting = GaugeMetricFamily(
        "gearman_jobs_waiting",
        "Jobs that are queued, including those for a later time. The priority is empty if it is not reported.",
        labels=[*labels, "priority"],
    )
    workers = GaugeMetricFamily("gearman_workers", "Connections that have registered the function.", labels=labels)
    for server, reading in readings.items():
        if isinstance(reading, GearmanError):
            up.add_metric([server], 0)
            continue
        up.add_metric([server], 1)
        if reading.version is not None:
            version.add_metric([server, _make_label(reading.version)], 1)
        for status in reading.functions:
            function = [server, _make_label(status.function)]
            jobs.add_metric(function, status.total)
            running.add_metric(function, status.running)
            workers.add_metric(function, status.workers)
            if reading.priorities is None:
                waiting.add_metric([*function, ""], status.queued)
        for queue in reading.priorities or ():
            _add_priorities(waiting, server, queue)
    return [up, version, jobs, running, waiting, workers]


def _add_priorities(waiting: GaugeMetricFamily, server: str, queue: PriorityStatus) -> None:
    function = _make_label(queue.function)
    for priority, count in zip(_PRIORITIES, (queue.high, queue.normal, queue.low), strict=True):
        waiting.add_metric([server, function, priority], count)


def _make_label(name: str) -> str:
    r"""Return a name as a label: bytes that are not UTF-8 become ``\xff``."""
    return printable(name, None)
