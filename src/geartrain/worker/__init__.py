"""The worker: it asks job servers for jobs and runs functions on them."""

from geartrain.worker.job import WorkerJob
from geartrain.worker.statistics import WorkerServerStatistics, WorkerStatistics
from geartrain.worker.worker import Worker

__all__ = ["Worker", "WorkerJob", "WorkerServerStatistics", "WorkerStatistics"]
