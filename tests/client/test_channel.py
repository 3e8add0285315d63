from __future__ import annotations

import asyncio
from typing import Any

import pytest

from geartrain import Client, ClientDisconnectedError, NoServersError, RemoteProtocolError, session
from geartrain.connection import Connection
from tests.support.fake_server import fake_server


async def test_a_protocol_violation_during_connecting_is_in_the_error_of_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first bytes may arrive in the same turn of the loop as the connection."""

    async def connect(address: object, receiver_factory: object, **options: object) -> Connection:
        connection = Connection(receiver_factory)  # type: ignore[arg-type]
        connection.receiver.data_received(b"HTTP/1.1 400 Bad Request\r\n")
        connection.connection_lost(None)
        return connection

    monkeypatch.setattr(session, "connect", connect)
    async with Client(["10.0.0.1"]) as client:
        with pytest.raises(NoServersError, match=r"a packet must begin with \\0REQ or \\0RES, got b'HTTP'") as caught:
            await client.do("f")
    assert isinstance(caught.value.errors["10.0.0.1:4730"], RemoteProtocolError)


@pytest.mark.parametrize("turns", range(10))
async def test_closing_a_client_that_connects_reports_nothing(turns: int) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with fake_server() as server:
        client = Client([server.address])
        job = client.submit("f")
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(ClientDisconnectedError):
            await job
        for _ in range(3):
            await asyncio.sleep(0)
    assert not reported
