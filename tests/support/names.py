"""Names of hosts, as a test wants them."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest


def names(monkeypatch: pytest.MonkeyPatch, *hosts: str, family: int = socket.AF_INET) -> list[str]:
    """Have every name mean these addresses, and return the list of the names that were looked up."""
    looked_up: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        looked_up.append(host)
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for address in hosts]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
    return looked_up
