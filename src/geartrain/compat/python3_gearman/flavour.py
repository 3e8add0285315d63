"""Text, and the exceptions of this package."""

from typing import Final

from geartrain.compat.python3_gearman import errors
from geartrain.compat.shared.flavour import Errors, Flavour

__all__ = ["FLAVOUR"]

FLAVOUR: Final = Flavour(
    is_text=True,
    errors=Errors(
        base=errors.GearmanError,
        connection=errors.ConnectionError,
        unavailable=errors.ServerUnavailable,
        protocol=errors.ProtocolError,
        attempts=errors.ExceededConnectionAttempts,
        client_state=errors.InvalidClientState,
        worker_state=errors.InvalidWorkerState,
        admin_state=errors.InvalidAdminClientState,
    ),
)
