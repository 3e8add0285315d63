"""Addresses of job servers: ``host``, ``host:port`` or ``[IPv6]:port``, optionally prefixed with ``gearmans://``."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["DEFAULT_PORT", "ENVIRONMENT", "SCHEMES", "Address", "parse_addresses", "read_addresses"]

DEFAULT_PORT = 4730  # assigned by IANA
SCHEMES = ("gearman", "gearmans")
ENVIRONMENT = "GEARMAN_SERVERS"  # also used by libgearman


class Address(NamedTuple):
    """
    The address of one job server; ``str()`` returns the form that users read and write.

    :meth:`parse` normalizes: names are in lower case, internationalized names in Unicode, and IPv6 addresses in their
    short form. Equal addresses therefore compare equal.

    Attributes:
        host: A name, an IPv4 address, or an IPv6 address without brackets but with its scope.
        port: The TCP port.
        tls: Whether to use TLS (``gearmans://``).
    """

    host: str
    port: int = DEFAULT_PORT
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Address:
        """
        Parse ``host``, ``host:port``, ``[::1]:port`` or ``::1``, optionally with ``gearman://`` or ``gearmans://``.

        Raises:
            ValueError: If it is none of these, or the host is a name that cannot be looked up.
            TypeError: If it is not a string.
        """
        if not isinstance(text, str):
            raise TypeError(f"a job server's address must be a string like 'localhost:4730', got {text!r}")
        if "@" in text:  # The part before it may be a password, so no message shows it.
            raise ValueError(
                f"a job server's address must not contain a user or password, got ...@{text.rpartition('@')[2]}"
            )
        scheme, separator, rest = text.rpartition("://")
        if separator and scheme.lower() not in SCHEMES:
            raise ValueError(f"the scheme of a job server's address must be gearman:// or gearmans://, got {text!r}")
        host, port = _split_port(rest)
        host = _normalize(host)
        if not host or not host.isprintable() or any(c.isspace() or c in "/,[]" for c in host):
            raise ValueError(f"a job server's address must be host or host:port, got {text!r}")
        if ":" in host and not _is_ipv6(host):
            raise ValueError(f"a job server's address must be host or host:port, got {text!r}")
        if ":" not in host and not _can_be_looked_up(host):
            raise ValueError(f"a job server's host must be a name with labels of 1 to 63 characters, got {text!r}")
        if port is not None and not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
            raise ValueError(f"a job server's port must be a number from 1 to 65535, got {port!r} in {text!r}")
        return cls(host, DEFAULT_PORT if port is None else int(port), scheme.lower() == "gearmans")

    @property
    def tls_name(self) -> str:
        """The host as a certificate spells it: without the scope of an IPv6 address or the final dot of a name."""
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
    if text.count(":") > 1:  # an IPv6 address without brackets, which cannot have a port
        return text, None
    host, separator, port = text.partition(":")
    return host, port if separator else None


def _is_ipv6(host: str) -> bool:
    address, percent, scope = host.partition("%")
    return _shorten_ipv6(address) is not None and bool(scope) == bool(percent)


def _shorten_ipv6(address: str) -> str | None:
    """Return the short form of an IPv6 address, or ``None`` if the text is not an IPv6 address."""
    try:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address))
    except (OSError, ValueError):  # ValueError: a NUL or a surrogate
        return None


def _normalize(host: str) -> str:
    """Return the canonical spelling of a host."""
    if (short := _normalize_ipv6(host)) is not None:
        return short
    host = host.lower()
    if host.isascii() and "xn--" not in host:
        return host
    try:
        host = host.encode("idna").decode("idna").lower()
    except UnicodeError:
        return host  # some names that can be looked up cannot be decoded, such as xn--a
    short = _normalize_ipv6(host)  # it may have been written with full-width digits
    return host if short is None else short


def _normalize_ipv6(host: str) -> str | None:
    """Return the canonical spelling of an IPv6 address, or ``None`` if it is another kind of host."""
    address, percent, scope = host.partition("%")
    short = _shorten_ipv6(address)
    return None if short is None else f"{short}{percent}{scope}"  # names of network interfaces differ by case


def _can_be_looked_up(host: str) -> bool:
    """Return whether ``socket.getaddrinfo`` accepts a name or an IPv4 address."""
    if host.isascii():  # the same rule without the import of the codec, which takes a while
        return all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def parse_addresses(job_servers: Iterable[str] | str) -> tuple[Address, ...]:
    """
    Parse a list of job servers, in order and without duplicates; a single string is a list of one.

    Raises:
        ValueError: If an address is invalid.
        TypeError: If an address is not a string, or ``job_servers`` is not iterable.
    """
    if isinstance(job_servers, str):
        job_servers = (job_servers,)
    if isinstance(job_servers, bytes) or not isinstance(job_servers, Iterable):
        raise TypeError(f"job servers must be strings like 'localhost:4730', got {job_servers!r}")
    return tuple(dict.fromkeys(Address.parse(server) for server in job_servers))


def read_addresses(job_servers: Iterable[str] | str | None) -> tuple[Address, ...]:
    """
    Do the same; without job servers return those in the environment variable ``GEARMAN_SERVERS``, or else the default.

    Raises:
        ValueError: If an address is invalid.
        TypeError: If an address is not a string, or ``job_servers`` is not iterable.
    """
    if job_servers is not None:
        return parse_addresses(job_servers)
    text = os.environ.get(ENVIRONMENT, "")
    try:
        servers = parse_addresses([server.strip() for server in text.split(",") if server.strip()])
    except ValueError as error:
        raise ValueError(f"{ENVIRONMENT}={text!r}: {error}") from error
    return servers or (Address("127.0.0.1"),)
