"""Priorities and states."""

from __future__ import annotations

from typing import Final

__all__ = [
    "DEFAULT_GEARMAN_PORT",
    "JOB_COMPLETE",
    "JOB_CREATED",
    "JOB_FAILED",
    "JOB_PENDING",
    "JOB_UNKNOWN",
    "PRIORITY_HIGH",
    "PRIORITY_LOW",
    "PRIORITY_NONE",
]

DEFAULT_GEARMAN_PORT: Final = 4730

PRIORITY_NONE: Final = None
PRIORITY_LOW: Final = "LOW"
PRIORITY_HIGH: Final = "HIGH"

JOB_UNKNOWN: Final = "UNKNOWN"  # not submitted, or its connection was lost
JOB_PENDING: Final = "PENDING"  # sent, not accepted yet
JOB_CREATED: Final = "CREATED"  # accepted
JOB_FAILED: Final = "FAILED"
JOB_COMPLETE: Final = "COMPLETE"
