"""Each way in which a query ends without a reply is its own error, which names the job server and the request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from geartrain.client.query import Query
from geartrain.errors import (
    ConnectionLostError,
    GearmanError,
    NoServersError,
    ServerError,
    ServerTimeoutError,
)
from geartrain.protocol.packets import PacketType

SERVER = "127.0.0.1:4730"


def make_query() -> Query:
    return Query(SERVER, PacketType.GET_STATUS, b"H:1")


async def test_a_reply_is_its_result() -> None:
    query = make_query()
    query.on_reply([b"H:1", b"1", b"0", b"0", b"0"])
    assert await query == [b"H:1", b"1", b"0", b"0", b"0"]


@pytest.mark.parametrize(
    ("end", "kind", "message"),
    [
        (
            lambda query: query.on_refused(b"UNKNOWN\x1b", b"no such\xff"),
            ServerError,
            r"127.0.0.1:4730 answered GET_STATUS by ERROR UNKNOWN\x1b no such\xff",
        ),
        (lambda query: query.on_ignored(), ServerTimeoutError, "127.0.0.1:4730 did not answer GET_STATUS in "),
        (
            lambda query: query.on_unreachable(ConnectionRefusedError("refused")),
            NoServersError,
            "127.0.0.1:4730 could not be reached to ask GET_STATUS: refused",
        ),
        (
            lambda query: query.on_connection_lost(b"H:1", None),
            ConnectionLostError,
            "the connection to 127.0.0.1:4730 was lost (closed by the job server) before it answered GET_STATUS",
        ),
        (
            lambda query: query.on_connection_lost(None, OSError("reset")),
            ConnectionLostError,
            "the connection to 127.0.0.1:4730 was lost (reset) before it answered GET_STATUS",
        ),
        (lambda query: query.on_disconnected(), GearmanError, "GET_STATUS"),
    ],
    ids=["refused", "ignored", "unreachable", "lost", "reset", "disconnected"],
)
async def test_a_query_without_a_reply_fails(
    end: Callable[[Query], None], kind: type[GearmanError], message: str
) -> None:
    query = make_query()
    end(query)
    with pytest.raises(kind) as raised:
        await query
    assert message in str(raised.value)


async def test_what_happens_after_the_end_of_a_query_changes_nothing() -> None:
    query = make_query()
    query.cancel()
    query.on_reply([b"H:1"])
    query.on_refused(b"code", b"text")
    query.on_unreachable(OSError())
    with pytest.raises(asyncio.CancelledError):
        await query
