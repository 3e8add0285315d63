"""The interface of PyPI ``gearman`` 2, ``pygearman`` and ``gearman3``: tasks, handles and data are bytes."""

from geartrain.compat.gearman import (
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
from geartrain.compat.gearman.admin_client import GearmanAdminClient
from geartrain.compat.gearman.client import GearmanClient
from geartrain.compat.gearman.connection_manager import DataEncoder
from geartrain.compat.gearman.constants import (
    JOB_COMPLETE,
    JOB_CREATED,
    JOB_FAILED,
    JOB_PENDING,
    JOB_UNKNOWN,
    PRIORITY_HIGH,
    PRIORITY_LOW,
    PRIORITY_NONE,
)
from geartrain.compat.gearman.version import __version__
from geartrain.compat.gearman.worker import GearmanWorker

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
