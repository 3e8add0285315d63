"""Helpers that python-gearman exports."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

from geartrain.blocking import Client

__all__ = ["Stopwatch", "disambiguate_server_parameter", "unlist"]

T = TypeVar("T")


class Stopwatch:
    """
    The time that is left of a timeout.

    Args:
        time_remaining: Seconds, or ``None`` for no limit.
    """

    def __init__(self, time_remaining: float | None) -> None:
        self.stop_time: float | None = None if time_remaining is None else time.monotonic() + time_remaining

    def get_time_remaining(self) -> float | None:
        """Return the seconds left, 0.0 if there are none, or ``None`` for no limit."""
        return None if self.stop_time is None else max(self.stop_time - time.monotonic(), 0.0)

    def has_time_remaining(self) -> bool:
        """Whether time is left."""
        return self.get_time_remaining() != 0.0


def disambiguate_server_parameter(server: str | tuple[str, int]) -> tuple[str, int]:
    """
    Return host and port of ``("host", port)``, ``"host:port"``, ``"[IPv6 address]:port"`` or ``"host"``.

    Raises:
        ValueError: If it has another form.
        TypeError: If it is neither text nor a tuple.
    """
    if isinstance(server, tuple):
        host, port = server
        server = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if "://" in server:
        raise ValueError(f"invalid job server {server!r}: expected host:port")
    host, _, port_text = Client(server).job_servers[0].rpartition(":")
    return host.strip("[]"), int(port_text)


def unlist(given_list: Sequence[T]) -> T | None:
    """
    Return the only element of a list, or ``None`` if it is empty.

    Raises:
        ValueError: If there are several elements; its argument is their number.
    """
    if len(given_list) > 1:
        raise ValueError(len(given_list))
    return given_list[0] if given_list else None
