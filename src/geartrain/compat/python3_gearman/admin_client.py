"""The admin client."""

from geartrain.compat.python3_gearman.connection_manager import GearmanConnectionManager
from geartrain.compat.python3_gearman.errors import (
    ConnectionError,
    GearmanError,
    InvalidAdminClientState,
    ServerUnavailable,
)
from geartrain.compat.shared.admin_client import DEFAULT_ADMIN_CLIENT_TIMEOUT, SharedAdminClient

__all__ = [
    "DEFAULT_ADMIN_CLIENT_TIMEOUT",
    "ConnectionError",
    "GearmanAdminClient",
    "GearmanConnectionManager",
    "GearmanError",
    "InvalidAdminClientState",
    "ServerUnavailable",
]


class GearmanAdminClient(GearmanConnectionManager, SharedAdminClient):
    __doc__ = SharedAdminClient.__doc__
