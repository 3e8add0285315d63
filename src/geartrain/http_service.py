"""An HTTP server in threads of its own, for monitoring. It needs nothing but the standard library."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from geartrain.address import Address
from geartrain.fork_safety import protect_on_fork

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["HttpAddress", "HttpService", "plain_response", "route"]

_LOGGER: Final = logging.getLogger("geartrain.http")
_LOOPBACK: Final = "127.0.0.1"
_MAX_REQUESTS: Final = 32  # at once; each has a thread
_CLOSE_TIMEOUT: Final = 1.0  # seconds
_CLIENT_TIMEOUT: Final = 10.0  # seconds that a client may take to send a request or to read the response


class HttpAddress(NamedTuple):
    """
    Where to listen.

    Attributes:
        host: A name or an IP address, without brackets.
        port: The TCP port; 0 picks a free one.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Parse ``HOST:PORT``, ``[IPV6]:PORT``, ``:PORT`` or ``PORT``; without a host it is the loopback interface.

        Raises:
            ValueError: If it has another form.
            TypeError: If it is not a string.
        """
        if not isinstance(text, str):
            raise TypeError(f"an HTTP address must be a string like '127.0.0.1:9100', got {text!r}")
        host, _, port = text.rpartition(":")
        if not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536) or "/" in host:
            raise ValueError(f"invalid HTTP address {text!r}: expected HOST:PORT, with a port from 0 to 65535")
        try:
            return cls(Address.parse(f"{host}:1").host if host else _LOOPBACK, int(port))
        except ValueError as error:
            raise ValueError(f"invalid HTTP address {text!r}: {error}") from error

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class HttpService:
    """
    Serves a WSGI application, each request in a thread.

    The threads are daemons and have no part in the event loop, so it responds while the loop is stuck. Further requests
    are refused while 32 are being handled, and slow clients are disconnected. A forked process does not inherit it.

    Args:
        address: Where to listen.
        application: The WSGI application.
    """

    def __init__(self, address: HttpAddress, application: WSGIApplication) -> None:
        self._requested = address
        self._application = application
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> HttpAddress:
        """Where it listens; before :meth:`start`, the address as requested."""
        return self._requested if self._server is None else self._server.get_address()

    def start(self) -> None:
        """
        Listen, and serve until :meth:`close`.

        Raises:
            OSError: If it cannot listen on the address, for example because the port is in use.
        """
        self._server = _make_server(self._requested)
        self._server.set_app(self._application)
        protect_on_fork(self._server, _Server.list_descriptors)
        # The thread must not keep the context of the caller alive.
        self._thread = threading.Thread(
            target=Context().run, args=(self._server.serve_until_closed,), name="geartrain-http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and wait up to a second for the responses that are being sent."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.stop_serving()
            self._thread.join()
            server.server_close()
            server.wait_for_responses()


def route(applications: Mapping[str, WSGIApplication]) -> WSGIApplication:
    """Return an application that calls the one for the path of the request, and lists the paths for any other path."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        chosen = applications.get(environ["PATH_INFO"])
        if chosen is None:
            return plain_response(HTTPStatus.NOT_FOUND, f"try {', '.join(applications)}")(environ, start_response)
        return chosen(environ, start_response)

    return application


def plain_response(status: HTTPStatus, text: str) -> WSGIApplication:
    """Return an application that responds with a line of text."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = f"{text}\n".encode("utf-8", "backslashreplace")
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        start_response(f"{status.value} {status.phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return application


def _make_server(address: HttpAddress) -> _Server:
    information = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, sockaddr = information[0]

    class Server(_Server):
        address_family = family

    return Server((str(sockaddr[0]), address.port), _Handler)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_port = False  # a port in use is an error
    request_queue_size = 64
    timeout = 0.5  # seconds between looks whether it was closed, where shutting the socket down does not end the wait

    def __init__(self, address: tuple[str, int], handler: Callable[..., _Handler]) -> None:
        self._slots = threading.Semaphore(_MAX_REQUESTS)
        self._stopping = False
        super().__init__(address, handler)

    def get_address(self) -> HttpAddress:
        """Return where it listens."""
        return HttpAddress(self.server_name, self.server_port)

    def list_descriptors(self) -> list[int]:
        """Return the descriptor of the listening socket while it is open."""
        return [self.fileno()] if self.fileno() >= 0 else []

    def serve_until_closed(self) -> None:
        """Handle requests until :meth:`stop_serving`."""
        while not self._stopping:
            self.handle_request()

    def stop_serving(self) -> None:
        """End :meth:`serve_until_closed`; may be called from any thread."""
        self._stopping = True
        with contextlib.suppress(OSError):  # not supported for listening sockets by every system
            self.socket.shutdown(socket.SHUT_RDWR)

    def wait_for_responses(self) -> None:
        """Wait until no request is being handled."""
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        for _ in range(_MAX_REQUESTS):
            self._slots.acquire(timeout=max(deadline - time.monotonic(), 0))

    def server_bind(self) -> None:
        # HTTPServer.server_bind would look up the name of the host, which can take long.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._slots.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _LOGGER.debug("lost the HTTP client %s", client_address, exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = _CLIENT_TIMEOUT
    server_version = "geartrain"
    sys_version = ""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name that it has there
        _LOGGER.debug("%s", format % args)
