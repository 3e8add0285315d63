"""The interface of PyPI ``python3-gearman``: tasks, handles and data are text."""

from geartrain.compat.python3_gearman import (
    admin_client,
    client,
    connection,
    connection_manager,
    constants,
    errors,
    job,
    util,
    version,
    worker,
)
from geartrain.compat.python3_gearman.admin_client import GearmanAdminClient
from geartrain.compat.python3_gearman.client import GearmanClient
from geartrain.compat.python3_gearman.connection_manager import DataEncoder
from geartrain.compat.python3_gearman.constants import (
    JOB_COMPLETE,
    JOB_CREATED,
    JOB_FAILED,
    JOB_PENDING,
    JOB_UNKNOWN,
    PRIORITY_HIGH,
    PRIORITY_LOW,
    PRIORITY_NONE,
)
from geartrain.compat.python3_gearman.version import __version__
from geartrain.compat.python3_gearman.worker import GearmanWorker

__all__ = [
    "JOB_COMPLETE",
    "JOB_CREATED",
    "JOB_FAILED",
    "JOB_PENDING",
    "JOB_UNKNOWN",
    "PRIORITY_HIGH",
    "PRIORITY_LOW",
    "PRIORITY_NONE",
    "DataEncoder",
    "GearmanAdminClient",
    "GearmanClient",
    "GearmanWorker",
    "__version__",
    "admin_client",
    "client",
    "connection",
    "connection_manager",
    "constants",
    "errors",
    "job",
    "util",
    "version",
    "worker",
]
