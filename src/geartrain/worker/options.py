"""A worker's options, checked."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass

from geartrain.address import Address

__all__ = ["WorkerOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """The options of a worker that its parts need."""

    concurrency: int
    client_id: bytes | None
    heartbeat: float | None
    connect_timeout: float | None
    tls: ssl.SSLContext | None
    max_packet_size: int
    regrab_interval: float
    logger: logging.Logger

    def tls_for(self, address: Address) -> ssl.SSLContext | None:
        """Return the context to speak TLS with, or ``None`` for a server that is spoken to in the clear."""
        if self.tls is not None or not address.tls:
            return self.tls
        return ssl.create_default_context()
