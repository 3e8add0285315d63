"""Logs when a job server becomes unreachable, and when it is back."""

from __future__ import annotations

import logging

__all__ = ["Outage"]


class Outage:
    """
    A period in which one job server cannot be reached.

    It begins with a failed attempt to connect or a lost connection, and ends when the job server has sent something:
    one that accepts connections and closes them is not back. A WARNING is logged when it begins and an INFO when it
    ends; what fails in between is logged at DEBUG.

    Args:
        server: The job server's address.
        logger: Where to log.
        level: The level at which the beginning of the outage is logged.
    """

    def __init__(self, server: str, logger: logging.Logger, *, level: int = logging.WARNING) -> None:
        self._server = server
        self._fields = {"server": server}
        self._logger = logger
        self._level = level
        self._began_at: float | None = None

    @property
    def is_active(self) -> bool:
        """Whether the job server cannot be reached, as far as is known."""
        return self._began_at is not None

    def connect_failed(self, error: Exception, now: float) -> None:
        """Note that an attempt to connect has failed."""
        self._log(now, "cannot connect to %s: %s", error)

    def connection_lost(self, error: Exception | None, now: float) -> None:
        """Note that a connection was lost unexpectedly."""
        self._log(now, "lost the connection to %s: %s", error)

    def connected(self) -> None:
        """Note that a connection was established, which may be closed again immediately."""
        self._logger.log(
            logging.DEBUG if self.is_active else logging.INFO, "connected to %s", self._server, extra=self._fields
        )

    def end(self, now: float) -> None:
        """Note that the job server has sent something."""
        if self._began_at is not None:
            seconds, self._began_at = now - self._began_at, None
            fields = {**self._fields, "seconds": seconds}
            self._logger.info("connected to %s again after %.1f s", self._server, seconds, extra=fields)

    def _log(self, now: float, message: str, error: Exception | None) -> None:
        reason = "closed by the job server" if error is None else str(error) or type(error).__name__
        level = logging.DEBUG if self.is_active else self._level
        self._logger.log(level, message, self._server, reason, extra=self._fields)
        if self._began_at is None:
            self._began_at = now
