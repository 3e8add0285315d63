"""The client."""

from geartrain.compat.python3_gearman.connection_manager import GearmanConnectionManager
from geartrain.compat.python3_gearman.constants import JOB_PENDING, JOB_UNKNOWN, PRIORITY_NONE
from geartrain.compat.python3_gearman.errors import (
    ConnectionError,
    ExceededConnectionAttempts,
    ServerUnavailable,
)
from geartrain.compat.python3_gearman.job import GearmanJobRequest
from geartrain.compat.shared.client import RANDOM_UNIQUE_BYTES, SharedClient

__all__ = [
    "JOB_PENDING",
    "JOB_UNKNOWN",
    "PRIORITY_NONE",
    "RANDOM_UNIQUE_BYTES",
    "ConnectionError",
    "ExceededConnectionAttempts",
    "GearmanClient",
    "GearmanConnectionManager",
    "GearmanJobRequest",
    "ServerUnavailable",
]


class GearmanClient(GearmanConnectionManager, SharedClient):
    __doc__ = SharedClient.__doc__
