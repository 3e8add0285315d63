"""TLS: validation of contexts, the default context, and readable error messages."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping
from typing import Final

__all__ = ["check_tls", "default_tls", "explain_tls"]

_PLAINTEXT: Final = "{who} does not speak TLS on this port"
_NO_CERTIFICATE: Final = "{who} requires a client certificate, but got none"
_HUNG_UP: Final = "{who} hung up during the TLS handshake; it may not speak TLS on this port"

# Messages for OpenSSL's less obvious reasons. The reason for plaintext depends on the version of OpenSSL.
_REASONS: Final[Mapping[str, str]] = {
    "WRONG_VERSION_NUMBER": _PLAINTEXT,
    "PACKET_LENGTH_TOO_LONG": _PLAINTEXT,
    "RECORD_LAYER_FAILURE": _PLAINTEXT,
    "HTTP_REQUEST": _PLAINTEXT,
    "HTTPS_PROXY_REQUEST": _PLAINTEXT,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _NO_CERTIFICATE,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "{who} sent no certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "{who} does not trust our certificate (unknown CA)",
    "UNEXPECTED_EOF_WHILE_READING": _HUNG_UP,
}


def check_tls(context: object, *, server_side: bool = False) -> ssl.SSLContext | None:
    """
    Return the context, or ``None``, after checking that it is for this side.

    Raises:
        TypeError: If it is neither an ``SSLContext`` nor ``None``.
        ValueError: If it was created for the other side, so that every handshake would fail.
    """
    if context is None:
        return None
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"tls must be an ssl.SSLContext or None, got {context!r}")
    if context.protocol is (ssl.PROTOCOL_TLS_CLIENT if server_side else ssl.PROTOCOL_TLS_SERVER):
        purpose = "CLIENT_AUTH" if server_side else "SERVER_AUTH"
        side = "a server's" if server_side else "a client's"
        raise ValueError(
            f"tls must be a context for {side} side, as ssl.create_default_context(ssl.Purpose.{purpose}) returns"
        )
    return context


@functools.cache  # reading the system's certificates takes milliseconds
def default_tls() -> ssl.SSLContext:
    """Return Python's default context, for ``gearmans://`` addresses; it verifies the certificate and the host name."""
    return ssl.create_default_context()


def explain_tls(error: OSError, who: str) -> OSError:
    """
    Return a TLS error with a readable message in place of OpenSSL's; return any other error unchanged.

    It is the same object, with its type, ``reason`` and ``verify_code``.

    Args:
        error: Raised by the handshake, or the cause of a later connection loss.
        who: The peer, for the message.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        error.strerror = f"the certificate of {who} is not accepted: {error.verify_message.rstrip('.')}"
    elif isinstance(error, ssl.SSLError) and error.reason in _REASONS:
        error.strerror = _REASONS[error.reason].format(who=who)
    elif isinstance(error, ssl.SSLError) and "_ALERT_" in (error.reason or ""):
        reason = error.reason.partition("_ALERT_")[2].replace("_", " ").lower()
        error.strerror = f"{who} refused TLS: {reason}"
    elif isinstance(error, ConnectionError) and not str(
        error
    ):  # asyncio's error for a peer that hangs up in the handshake
        return type(error)(_HUNG_UP.format(who=who))
    return error
