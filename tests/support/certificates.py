"""TLS certificates for tests, issued by a private authority."""

from __future__ import annotations

import datetime as dt
import functools
import ssl
from pathlib import Path

import trustme

__all__ = ["AUTHORITY", "STRANGER", "expired", "files", "for_client", "for_server", "leaf"]

AUTHORITY = trustme.CA()
STRANGER = trustme.CA()  # not trusted


@functools.cache
def leaf(*names: str, authority: trustme.CA = AUTHORITY) -> trustme.LeafCert:
    """Return a certificate for these names."""
    return authority.issue_cert(*names)


@functools.cache
def expired(*names: str) -> trustme.LeafCert:
    """Return a certificate that expired last year."""
    now = dt.datetime.now(dt.UTC)
    return AUTHORITY.issue_cert(*names, not_before=now - dt.timedelta(days=400), not_after=now - dt.timedelta(days=35))


def for_server(certificate: trustme.LeafCert | None = None, *, mutual: bool = False) -> ssl.SSLContext:
    """Return a server's context; with ``mutual`` it rejects clients without a certificate of the authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    (certificate or leaf("127.0.0.1", "localhost")).configure_cert(context)
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        AUTHORITY.configure_trust(context)
    return context


def for_client(certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """Return a client's context that trusts the authority, with a client certificate if given."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


def files(directory: Path) -> tuple[Path, Path]:
    """Write the authority's certificate, and one for 127.0.0.1 with its key; return the paths."""
    authority, server = directory / "ca.pem", directory / "server.pem"
    AUTHORITY.cert_pem.write_to_path(str(authority))
    leaf("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(str(server))
    return authority, server
