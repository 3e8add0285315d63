"""The HTTP server for monitoring."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from threading import Event
from typing import TYPE_CHECKING

import pytest

from geartrain.http_service import HttpAddress, HttpService, plain_response, route
from tests.support.forked_process import finish, fork
from tests.support.http import get
from tests.support.listening_ports import listens

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

LIVE = plain_response(HTTPStatus.OK, "live")


@contextmanager
def serving(application: WSGIApplication, host: str = "127.0.0.1") -> Iterator[HttpAddress]:
    service = HttpService(HttpAddress(host, 0), application)
    service.start()
    try:
        yield service.address
    finally:
        service.close()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9100", "127.0.0.1", 9100),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("LocalHost:80", "localhost", 80),
        (":9100", "127.0.0.1", 9100),
        ("9100", "127.0.0.1", 9100),
        ("[::1]:9100", "::1", 9100),
    ],
)
def test_an_address_without_a_host_is_on_the_loopback_interface(text: str, host: str, port: int) -> None:
    assert HttpAddress.parse(text) == (host, port)
    assert HttpAddress.parse(str(HttpAddress.parse(text))) == (host, port)


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:x", "host:65536", "host:-1", "::1:1:", "a b:1", "http://h:1"]
)
def test_an_invalid_address_is_reported_with_its_value(text: str) -> None:
    with pytest.raises(ValueError, match="invalid HTTP address '"):
        HttpAddress.parse(text)


def test_an_address_must_be_a_string() -> None:
    with pytest.raises(TypeError, match="must be a string like"):
        HttpAddress.parse(9100)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_each_path_has_its_application_and_others_are_not_found(host: str) -> None:
    with serving(route({"/livez": LIVE, "/readyz": plain_response(HTTPStatus.SERVICE_UNAVAILABLE, "no")}), host) as at:
        assert get(at, "/livez?verbose") == (200, "live\n")
        assert get(at, "/readyz") == (503, "no\n")
        assert get(at) == (404, "try /livez, /readyz\n")


def test_a_head_request_gets_the_headers_alone() -> None:
    with serving(LIVE) as address, socket.create_connection(address) as client:
        client.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200 OK\r\n")
        assert b"\r\nContent-Length: 5\r\n" in head
        assert body == b""


def test_a_port_in_use_is_an_error_at_start() -> None:
    with serving(LIVE) as address, pytest.raises(OSError, match="in use"):
        HttpService(address, LIVE).start()


def test_closing_frees_the_port_and_can_be_repeated() -> None:
    service = HttpService(HttpAddress("127.0.0.1", 0), LIVE)
    service.close()
    service.start()
    address = service.address
    service.close()
    service.close()
    with socket.socket() as other:
        other.bind(address)


def test_requests_beyond_the_limit_are_refused_and_the_others_are_answered() -> None:
    proceed = Event()

    def wait(environ: object, start_response: object) -> list[bytes]:
        assert proceed.wait(10)
        return LIVE(environ, start_response)  # type: ignore[arg-type,return-value]

    with serving(wait) as address, ExitStack() as stack:
        clients = [HTTPConnection(*address, timeout=10) for _ in range(33)]
        for client in clients:
            stack.callback(client.close)
            client.request("GET", "/")
        # The connections are accepted in the order in which they were made.
        with pytest.raises(ConnectionError):
            clients.pop().getresponse()
        proceed.set()
        assert {client.getresponse().status for client in clients} == {200}
        assert get(address) == (200, "live\n")


def test_a_client_that_disconnects_affects_no_other(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(LIVE) as address:
        for request in (b"", b"GET", b"GET / HTTP/1.0\r\n", b"\0\xff\r\n\r\n"):
            with socket.create_connection(address) as client:
                client.sendall(request)
        assert get(address) == (200, "live\n")
    assert capfd.readouterr().err == ""


def test_a_forked_process_does_not_listen() -> None:
    with serving(LIVE) as address:
        assert listens(os.getpid(), address.port)
        assert finish(*fork(lambda: str(listens(os.getpid(), address.port)))) == "False"
