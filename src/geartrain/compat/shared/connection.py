"""The connection of a client to one job server."""

from __future__ import annotations

import ssl
from typing import ClassVar

from geartrain import GearmanError
from geartrain.blocking import Client
from geartrain.compat.shared.constants import DEFAULT_GEARMAN_PORT
from geartrain.compat.shared.flavour import Flavour

__all__ = ["SharedConnection"]


class SharedConnection:
    """
    One job server, and a connection to it, which can be made again.

    The three files, if all are given, are for TLS: the connection is encrypted, the job server's certificate is
    verified, and a certificate is presented.

    Args:
        host: Its name, or an IPv4 or IPv6 address.
        port: Its port.
        keyfile: The private key in PEM.
        certfile: The certificate in PEM.
        ca_certs: The certificates of the authorities that the job server's certificate may be from, in PEM.

    Attributes:
        gearman_host: As given.
        gearman_port: As given.
        connected: Whether it is connected, as far as is known.

    Raises:
        ServerUnavailable: If there is no host.
    """

    flavour: ClassVar[Flavour]

    def __init__(
        self,
        host: str | None = None,
        port: int | None = DEFAULT_GEARMAN_PORT,
        keyfile: str | None = None,
        certfile: str | None = None,
        ca_certs: str | None = None,
    ) -> None:
        if host is None:
            raise self.flavour.errors.unavailable("a connection needs a host, got None")
        self.gearman_host: str = host
        self.gearman_port: int = int(port or DEFAULT_GEARMAN_PORT)
        self.keyfile = keyfile
        self.certfile = certfile
        self.ca_certs = ca_certs
        self.connected: bool = False
        self.__client: Client | None = None

    @property
    def use_ssl(self) -> bool:
        """Whether the connection is encrypted."""
        return all((self.keyfile, self.certfile, self.ca_certs))

    @property
    def address(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        host = f"[{self.gearman_host}]" if ":" in self.gearman_host else self.gearman_host
        return f"{host}:{self.gearman_port}"

    def get_address(self) -> tuple[str, int]:
        """Return host and port."""
        return self.gearman_host, self.gearman_port

    def make_tls(self) -> ssl.SSLContext | None:
        """
        Return the context for an encrypted connection, or ``None``.

        Raises:
            OSError: If one of the files cannot be read.
        """
        if self.keyfile is None or self.certfile is None or self.ca_certs is None:
            return None
        context = ssl.create_default_context(cafile=self.ca_certs)
        context.load_cert_chain(self.certfile, self.keyfile)
        return context

    @property
    def client(self) -> Client:
        """A client of this job server. It connects on first use, and again after the connection was lost."""
        if self.__client is None:
            self.__client = Client(self.address, tls=self.make_tls())
        return self.__client

    def connect(self) -> None:
        """
        Connect, unless it is connected.

        Raises:
            ConnectionError: If the job server cannot be reached.
        """
        if self.connected:
            return
        (outcome,) = self.client.ping().values()
        if isinstance(outcome, GearmanError):
            raise self.flavour.errors.connection(f"<{self.address}> {outcome}") from outcome
        if isinstance(outcome, Exception):
            raise outcome
        self.connected = True

    def close(self) -> None:
        """Close the connection. It can be made again."""
        self.connected = False
        client, self.__client = self.__client, None
        if client is not None:
            client.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address} connected={self.connected}>"
