"""Jobs, and a client's requests for them."""

from geartrain.compat.gearman.constants import JOB_COMPLETE, JOB_CREATED, JOB_FAILED, JOB_UNKNOWN, PRIORITY_NONE
from geartrain.compat.shared.job import GearmanJob, GearmanJobRequest

__all__ = [
    "JOB_COMPLETE",
    "JOB_CREATED",
    "JOB_FAILED",
    "JOB_UNKNOWN",
    "PRIORITY_NONE",
    "GearmanJob",
    "GearmanJobRequest",
]
