"""The worker."""

from geartrain.compat.gearman.connection_manager import GearmanConnectionManager
from geartrain.compat.gearman.errors import ConnectionError
from geartrain.compat.shared.worker import SharedWorker

__all__ = ["ConnectionError", "GearmanConnectionManager", "GearmanWorker"]


class GearmanWorker(GearmanConnectionManager, SharedWorker):
    __doc__ = SharedWorker.__doc__
