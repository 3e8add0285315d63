"""What clients, workers and admin clients have in common."""

from collections.abc import Callable
from typing import Any

from geartrain.compat.python3_gearman.connection import GearmanConnection
from geartrain.compat.python3_gearman.errors import ConnectionError, GearmanError, ServerUnavailable
from geartrain.compat.python3_gearman.flavour import FLAVOUR
from geartrain.compat.python3_gearman.job import GearmanJob, GearmanJobRequest
from geartrain.compat.shared.encoder import DataEncoder, Encoder, SharedNoopEncoder
from geartrain.compat.shared.manager import SharedManager

__all__ = [
    "ConnectionError",
    "DataEncoder",
    "GearmanConnection",
    "GearmanConnectionManager",
    "GearmanError",
    "GearmanJob",
    "GearmanJobRequest",
    "NoopEncoder",
    "ServerUnavailable",
]


class NoopEncoder(SharedNoopEncoder):
    __doc__ = SharedNoopEncoder.__doc__

    flavour = FLAVOUR


class GearmanConnectionManager(SharedManager):
    __doc__ = SharedManager.__doc__

    flavour = FLAVOUR
    connection_class: Callable[..., Any] = GearmanConnection
    data_encoder: Encoder = NoopEncoder
