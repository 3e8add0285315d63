"""The connection of a client to one job server."""

from geartrain.compat.python3_gearman.constants import DEFAULT_GEARMAN_PORT
from geartrain.compat.python3_gearman.errors import ConnectionError, ProtocolError, ServerUnavailable
from geartrain.compat.python3_gearman.flavour import FLAVOUR
from geartrain.compat.shared.connection import SharedConnection

__all__ = ["DEFAULT_GEARMAN_PORT", "ConnectionError", "GearmanConnection", "ProtocolError", "ServerUnavailable"]


class GearmanConnection(SharedConnection):
    __doc__ = SharedConnection.__doc__

    flavour = FLAVOUR
