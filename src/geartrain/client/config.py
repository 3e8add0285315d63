"""The options of a client and their checked form."""

from __future__ import annotations

import inspect
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, TypedDict

from geartrain.client.routing import Balance, make_chooser
from geartrain.client.submit_prefixes import SubmitPrefixes
from geartrain.client.task import Task
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE
from geartrain.tls import check_tls
from geartrain.validation import (
    MAX_WORKLOAD,
    check_count,
    check_flag,
    check_logger,
    check_seconds,
    check_timeout,
    encode_name,
)

__all__ = ["ClientConfig", "ClientOptions", "OnSubmit"]

OnSubmit: TypeAlias = Callable[[Task], Task | None]


class ClientOptions(TypedDict, total=False):
    """The options of a :class:`Client`, as keywords."""

    prefix: str | bytes
    prefix_separator: str | bytes
    tls: ssl.SSLContext | None
    connect_timeout: float | None
    dead_time: float
    heartbeat: float | None
    on_connected: Callable[[str], Awaitable[None] | None] | None
    on_disconnected: Callable[[str, Exception | None], Awaitable[None] | None] | None
    on_submit: OnSubmit | None
    balance: Balance
    max_outstanding: int | None
    max_packet_size: int
    exceptions: bool
    logger: logging.Logger


class ClientConfig:
    """
    The options of a client, checked and converted.

    Raises:
        ValueError: If a value is out of its range.
        TypeError: If a value is of the wrong type, or there is no such option.
    """

    def __init__(self, options: ClientOptions) -> None:
        unknown = options.keys() - ClientOptions.__annotations__.keys()
        if unknown:
            known = ", ".join(("alias", *ClientOptions.__annotations__))
            raise TypeError(f"a Client has no option {', '.join(sorted(unknown))}; it has {known}")
        self.balance: Balance = options.get("balance", "random")
        make_chooser(self.balance)
        self.prefix: bytes = _make_prefix(options)
        self.tls: ssl.SSLContext | None = check_tls(options.get("tls"))
        self.connect_timeout: float | None = check_timeout("connect_timeout", options.get("connect_timeout", 5.0))
        self.dead_time: float = check_seconds("dead_time", options.get("dead_time", 10.0))
        self.heartbeat: float | None = check_timeout("heartbeat", options.get("heartbeat", 30.0))
        at_most = options.get("max_outstanding")
        self.max_outstanding: int | None = None if at_most is None else check_count("max_outstanding", at_most, 1)
        max_size = options.get("max_packet_size", DEFAULT_MAX_SIZE)
        self.max_packet_size: int = check_count("max_packet_size", max_size, 1024, MAX_WORKLOAD)
        self.exceptions: bool = check_flag("exceptions", options.get("exceptions", True))
        self.hooks: Mapping[str, Callable[..., object]] = _check_hooks(options)
        self.on_submit: OnSubmit | None = _check_on_submit(options.get("on_submit"))
        self.logger: logging.Logger = check_logger(options.get("logger"), "geartrain.client")

    def check_task(self, function: str, workload: bytes) -> None:
        """
        Check what depends on the client.

        Raises:
            ValueError: If the function is too long with the prefix, or the workload for ``max_packet_size``.
        """
        if len(workload) > self.max_packet_size:
            raise ValueError(f"a workload of {len(workload)} bytes exceeds max_packet_size {self.max_packet_size}")
        if self.prefix:
            SubmitPrefixes(self.prefix, b"")[function]  # raises if it is too long


def _make_prefix(options: ClientOptions) -> bytes:
    prefix = encode_name("a prefix", options.get("prefix", ""))
    # Perl's clients put a TAB between prefix and function, C's nothing.
    separator = encode_name("a prefix_separator", options.get("prefix_separator", "\t"))
    return prefix + separator if prefix else b""


def _check_hooks(options: ClientOptions) -> dict[str, Callable[..., object]]:
    hooks: dict[str, Callable[..., object]] = {}
    for name, hook in (
        ("on_connected", options.get("on_connected")),
        ("on_disconnected", options.get("on_disconnected")),
    ):
        if hook is not None:
            if not callable(hook):
                raise TypeError(f"{name} must be a function or a coroutine function, got {hook!r}")
            hooks[name] = hook
    return hooks


def _check_on_submit(hook: OnSubmit | None) -> OnSubmit | None:
    if hook is not None and (not callable(hook) or inspect.iscoroutinefunction(hook)):
        raise TypeError(f"on_submit must be a function, and not a coroutine function, got {hook!r}")
    return hook
