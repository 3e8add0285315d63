"""The client's job servers: the configured and the retiring ones, their health, and the choice among them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING

from geartrain.client.channel import ChannelListener, ServerChannel
from geartrain.client.routing import hash_index, make_chooser, routing_key
from geartrain.errors import NoServersError
from geartrain.outage import Outage

if TYPE_CHECKING:
    from geartrain.address import Address
    from geartrain.admin import Admin
    from geartrain.client.runtime import ClientRuntime
    from geartrain.client.task import Task

__all__ = ["ServerPool"]


class ServerPool:
    """
    The channels of one client.

    Args:
        servers: The configured job servers.
        runtime: What the parts of the client share.
        listener: Notified by the channels.

    Attributes:
        single: The channel to the only job server, or ``None`` if there is a choice.
        any_dead: Whether a job server may have to be avoided.
    """

    def __init__(self, servers: Iterable[Address], runtime: ClientRuntime, listener: ChannelListener) -> None:
        self.single: ServerChannel | None = None
        self.any_dead: bool = False
        self._runtime = runtime
        self._listener = listener
        self._configured: dict[Address, ServerChannel] = {}  # in their order
        self._retiring: dict[Address, ServerChannel] = {}
        self._balance: Callable[..., ServerChannel] = make_chooser(runtime.config.balance)
        self.set_servers(servers)

    @property
    def channels(self) -> tuple[ServerChannel, ...]:
        """All channels, the retiring ones last."""
        return (*self._configured.values(), *self._retiring.values())

    @property
    def configured(self) -> tuple[ServerChannel, ...]:
        """The channels to the configured job servers, in their order."""
        return tuple(self._configured.values())

    def set_servers(self, servers: Iterable[Address]) -> None:
        """Replace the list; a server in both keeps its connection, one that is removed finishes what it has."""
        before, self._configured = self._configured, {}
        for address in servers:
            channel = before.pop(address, None) or self._retiring.pop(address, None) or self._create(address)
            channel.reinstate()
            self._configured[address] = channel
        self.single = next(iter(self._configured.values())) if len(self._configured) == 1 else None
        for address, channel in before.items():
            self._retiring[address] = channel
            channel.retire()

    def _create(self, address: Address) -> ServerChannel:
        return ServerChannel(address, self._runtime, self._listener)

    def remove(self, channel: ServerChannel) -> None:
        """Close a retiring channel that has nothing left to do."""
        if self._retiring.pop(channel.address, None) is not None:
            channel.close_gracefully()

    def on_server_failed(self) -> None:
        """Look for dead job servers from now on, until none is left."""
        self.any_dead = True

    def disconnect(self) -> None:
        """Close every channel now, and drop the retiring ones."""
        channels = self.channels
        self._retiring.clear()
        for channel in channels:
            channel.disconnect()

    def channel_to(self, address: Address) -> ServerChannel:
        """Return the channel to a job server; to one that is not configured, a channel that closes after use."""
        channel = self._configured.get(address) or self._retiring.get(address)
        if channel is None:
            channel = self._retiring[address] = self._create(address)
            channel.close_after_use()
        return channel

    def create_admin(self, address: Address) -> Admin:
        """Return an admin client for a job server, which reports to the outage of the channel to it."""
        from geartrain.admin.admin import ReportingAdmin  # few need it, and it takes a while to load

        channel, config = self._configured.get(address), self._runtime.config
        # A job server that is not in the list is not the operator's concern: only the caller's, who gets the error.
        outage = (
            channel.outage if channel is not None else Outage(str(address), self._runtime.logger, level=logging.INFO)
        )
        return ReportingAdmin(
            address, outage, connect_timeout=config.connect_timeout, tls=config.tls, heartbeat=config.heartbeat
        )

    def channel_for_key(self, key: bytes) -> ServerChannel:
        """
        Return the channel that a job with this key would get.

        Raises:
            NoServersError: If no job server is configured.
        """
        channel = self._choose_for_key(key, ())
        if channel is None:
            raise NoServersError("no job server is configured")
        return channel

    def choose(self, task: Task, tried: Container[str] = ()) -> ServerChannel | None:
        """Return the channel that gets a task, among those not tried yet; ``None`` if there is none."""
        channels = list(self._configured.values())
        alive = self._alive(channels)
        if key := routing_key(task):
            return self._choose_for_key(key, tried)
        candidates = [channel for channel in alive if channel.name not in tried] if tried else alive
        return self._balance(task, candidates) if candidates else _first_to_recover(channels, tried)

    def _choose_for_key(self, key: bytes, tried: Container[str]) -> ServerChannel | None:
        """Return the channel that a key hashes to, or the next one that is alive, among those not tried yet."""
        channels, now = self._rotate_to_key(key), self._runtime.loop.time()
        for channel in channels:
            if channel.dead_until <= now and channel.name not in tried:
                return channel
        return _first_to_recover(channels, tried)

    def _rotate_to_key(self, key: bytes) -> list[ServerChannel]:
        """Return the configured channels, beginning with the one that a key hashes to."""
        channels = list(self._configured.values())
        start = hash_index(key, len(channels)) if channels else 0
        return channels[start:] + channels[:start]

    def _alive(self, channels: list[ServerChannel]) -> list[ServerChannel]:
        if not self.any_dead:
            return channels
        now = self._runtime.loop.time()
        alive = [channel for channel in channels if channel.dead_until <= now]
        self.any_dead = len(alive) < len(channels)
        return alive


def _first_to_recover(channels: Iterable[ServerChannel], tried: Container[str]) -> ServerChannel | None:
    """Return the channel to try when none is alive; ``None`` if all have been tried."""
    return min(
        (channel for channel in channels if channel.name not in tried),
        key=lambda channel: channel.dead_until,
        default=None,
    )
