"""Where a job server listens: ``host``, ``host:port``, ``[IPv6]:port``, or any of these behind ``gearmans://``."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["DEFAULT_PORT", "SCHEMES", "Address", "parse_addresses"]

DEFAULT_PORT = 4730  # assigned by IANA
SCHEMES = ("gearman", "gearmans")


class Address(NamedTuple):
    """
    The address of one job server; ``str()`` of it is the form in which users read and write it.

    :meth:`parse` spells equal addresses alike: names in lower case, internationalized ones in Unicode, IPv6 addresses
    in their short form. So they can be compared, and be keys.

    Attributes:
        host: A name, an IPv4 or an IPv6 address (without brackets, but with its scope).
        port: A TCP port.
        tls: Whether the port is to be spoken to in TLS (``gearmans://``).
    """

    host: str
    port: int = DEFAULT_PORT
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Address:
        """
        Read ``host``, ``host:port``, ``[::1]:port`` or ``::1``, optionally behind ``gearman://`` or ``gearmans://``.

        Raises:
            ValueError: If it is none of these.
            TypeError: If it is not a string.
        """
        if not isinstance(text, str):
            raise TypeError(f"a job server's address is a string like 'localhost:4730', got {text!r}")
        if "@" in text:  # what stands before it may be a password, and goes into no message
            raise ValueError(f"a job server's address has no user and no password, got ...@{text.rpartition('@')[2]}")
        scheme, separator, rest = text.rpartition("://")
        if separator and scheme.lower() not in SCHEMES:
            raise ValueError(f"a job server's address begins with gearman:// or gearmans://, if with any, got {text!r}")
        host, port = _split_port(rest)
        host = _normalize(host)
        if not host or not host.isprintable() or any(c.isspace() or c in "/,[]" for c in host):
            raise ValueError(f"a job server's address is host or host:port, got {text!r}")
        if ":" in host and not _is_ipv6(host):
            raise ValueError(f"a job server's address is host or host:port, got {text!r}")
        if port is not None and not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
            raise ValueError(f"a job server's port is a number from 1 to 65535, got {port!r} in {text!r}")
        return cls(host, DEFAULT_PORT if port is None else int(port), scheme.lower() == "gearmans")

    @property
    def tls_name(self) -> str:
        """The host as a certificate names it: without the scope of an IPv6 address and the final dot of a name."""
        return self.host.partition("%")[0].removesuffix(".")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'gearmans://' if self.tls else ''}{host}:{self.port}"


def _split_port(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, after = text[1:].partition("]")
        if not bracket or not _is_ipv6(host) or (after and not after.startswith(":")):
            return "", None
        return host, after[1:] if after else None
    if text.count(":") > 1:  # an IPv6 address that nobody put in brackets can have no port
        return text, None
    host, separator, port = text.partition(":")
    return host, port if separator else None


def _is_ipv6(host: str) -> bool:
    address, percent, scope = host.partition("%")
    return _shorten_ipv6(address) is not None and bool(scope) == bool(percent)


def _shorten_ipv6(address: str) -> str | None:
    """Return the short form of an IPv6 address, ``None`` if it is none."""
    try:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address))
    except (OSError, ValueError):  # ValueError: a NUL or a surrogate
        return None


def _normalize(host: str) -> str:
    """Return the one spelling of a host that stands for all others."""
    address, percent, scope = host.partition("%")
    if (short := _shorten_ipv6(address)) is not None:
        return f"{short}{percent}{scope}"  # names of network interfaces differ by case
    host = host.lower()
    if host.isascii() and "xn--" not in host:
        return host
    try:
        return host.encode("idna").decode("idna").lower()
    except UnicodeError:
        return host  # not a valid name; connecting raises the error


def parse_addresses(job_servers: Iterable[str] | str) -> tuple[Address, ...]:
    """
    Read a list of job servers, keep its order, and drop repetitions; a lone string is a list of one.

    Raises:
        ValueError: If one of them is no address.
        TypeError: If one of them is no string, or they are no iterable.
    """
    if isinstance(job_servers, str):
        job_servers = (job_servers,)
    if isinstance(job_servers, bytes) or not isinstance(job_servers, Iterable):
        raise TypeError(f"job servers are strings like 'localhost:4730', got {job_servers!r}")
    return tuple(dict.fromkeys(Address.parse(server) for server in job_servers))
