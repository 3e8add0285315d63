"""Exceptions of the text flavour. None is a subclass of another one, except of GearmanError."""

__all__ = [
    "ConnectionError",
    "ExceededConnectionAttempts",
    "GearmanError",
    "InvalidAdminClientState",
    "InvalidClientState",
    "InvalidWorkerState",
    "ProtocolError",
    "ServerUnavailable",
    "UnknownCommandError",
]


class GearmanError(Exception):
    """The base class. Also raised for an invalid job server."""


class ConnectionError(GearmanError):
    """One job server cannot be reached."""


class ServerUnavailable(GearmanError):
    """No job server can be reached."""


class ProtocolError(GearmanError):
    """The job server refused a request, or answered with something else."""


class UnknownCommandError(GearmanError):
    """Never raised; for programs that catch it."""


class ExceededConnectionAttempts(GearmanError):
    """A request was sent as often as allowed, and its connection was lost each time before it was accepted."""


class InvalidClientState(GearmanError):
    """A request is not in the state that a call requires."""


class InvalidWorkerState(GearmanError):
    """A job is not in the state that a call requires."""


class InvalidAdminClientState(GearmanError):
    """The job server did not answer in time."""
