"""Name resolution under the test's control."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from geartrain.resolver import parse_numeric


def names(monkeypatch: pytest.MonkeyPatch, *hosts: str, family: int = socket.AF_INET) -> list[str]:
    """Resolve every name to these addresses, and return the list that records the names looked up."""
    looked_up: list[str] = []

    def find(host: str, port: int, *rest: Any, **options: Any) -> list[Any]:
        if parse_numeric(host, port):
            return getaddrinfo(host, port, *rest, **options)
        looked_up.append(host)
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for address in hosts]

    getaddrinfo = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", find)
    return looked_up


@contextlib.contextmanager
def hanging_names(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> Iterator[list[str]]:
    """Make look-ups of these names (or all) hang until the end of the block; yields the names that hang."""
    hanging: list[str] = []
    go_on = threading.Event()
    getaddrinfo = socket.getaddrinfo

    def hang(host: str, port: int, *rest: Any, **options: Any) -> list[Any]:
        if parse_numeric(host, port) or (hosts and host not in hosts):
            return getaddrinfo(host, port, *rest, **options)
        hanging.append(host)
        go_on.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        yield hanging
    finally:
        go_on.set()
