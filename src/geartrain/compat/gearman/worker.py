"""The worker."""

from geartrain.compat.gearman.connection_manager import GearmanConnectionManager
from geartrain.compat.gearman.errors import ConnectionError
from geartrain.compat.shared.worker import POLL_TIMEOUT_IN_SECONDS, SharedWorker

__all__ = ["POLL_TIMEOUT_IN_SECONDS", "ConnectionError", "GearmanConnectionManager", "GearmanWorker"]


class GearmanWorker(GearmanConnectionManager, SharedWorker):
    __doc__ = SharedWorker.__doc__
