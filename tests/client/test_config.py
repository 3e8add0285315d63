"""The options of a client are validated when it is created."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from geartrain import Client, JobHandle
from geartrain.client.config import ClientConfig
from tests.support.eventually import eventually
from tests.support.fake_server import fake_server
from tests.support.inside import dispatcher_of


def test_the_defaults_are_those_in_the_documentation() -> None:
    options = ClientConfig({})
    assert (options.connect_timeout, options.dead_time, options.heartbeat) == (5.0, 10.0, 30.0)
    assert (options.prefix, options.tls, options.balance, options.max_outstanding) == (b"", None, "random", None)
    assert (options.max_packet_size, options.exceptions, dict(options.hooks)) == (64 * 1024 * 1024, True, {})
    assert options.logger.name == "geartrain.client"
    assert Client().job_servers == ("127.0.0.1:4730",)


@pytest.mark.parametrize(
    ("options", "prefix"),
    [
        ({"prefix": "ns"}, b"ns\t"),
        ({"prefix": "ns", "prefix_separator": ""}, b"ns"),
        ({"prefix": b"\xff", "prefix_separator": ":"}, b"\xff:"),
        ({"prefix": "", "prefix_separator": ":"}, b""),
    ],
)
def test_a_prefix_is_separated_as_in_perl_or_c(options: Any, prefix: bytes) -> None:
    assert ClientConfig(options).prefix == prefix


@pytest.mark.parametrize(
    ("handle", "error", "message"),
    [
        ("H:lap:1", ValueError, "a handle must be written like"),
        ("127.0.0.1:4730//" + "H" * 64, ValueError, "a handle must have 1 to 63 bytes and no NUL, got 'HHH"),
        (JobHandle("127.0.0.1:4730", ""), ValueError, "a handle must have 1 to 63 bytes and no NUL, got ''"),
        (JobHandle("127.0.0.1:4730", "H:\0"), ValueError, "a handle must have 1 to 63 bytes and no NUL"),
        (JobHandle("127.0.0.1:port", "H:1"), ValueError, "a job server's port must be a number"),
        (7, TypeError, "a handle must be a JobHandle or a string"),
    ],
)
@pytest.mark.parametrize("method", ["get_status", "cancel"])
async def test_an_invalid_handle_is_rejected_before_connecting(
    method: str, handle: Any, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", opened.append, raising=False)
    async with Client() as client:
        with pytest.raises(error, match=message):
            await getattr(client, method)(handle)
    assert not opened


async def test_do_background_rejects_foreground_jobs() -> None:
    async with Client() as client:
        with pytest.raises(ValueError, match="do_background submits background jobs only, got background=False"):
            await client.do_background("f", background=False)
        with pytest.raises(TypeError, match="background must be True or False, got None"):
            await client.do_background("f", background=None)  # type: ignore[arg-type]  # what is tested
        assert dispatcher_of(client).is_idle


def test_none_disables_the_heartbeat_and_the_connect_timeout() -> None:
    options = ClientConfig({"heartbeat": None, "connect_timeout": None})
    assert (options.heartbeat, options.connect_timeout) == (None, None)


INVALID: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown option": ({"timeout": 1}, TypeError, "a Client has no option timeout; it has alias, prefix"),
    "unknown balance": ({"balance": "best"}, ValueError, "balance must be one of random"),
    "heartbeat of 0": ({"heartbeat": 0}, ValueError, "heartbeat must be a number of seconds above 0"),
    "connect_timeout below 0": (
        {"connect_timeout": -1},
        ValueError,
        "connect_timeout must be a number of seconds above 0",
    ),
    "dead_time as text": ({"dead_time": "1"}, TypeError, "dead_time must be a number of seconds, got '1'"),
    "max_outstanding of 0": ({"max_outstanding": 0}, ValueError, "max_outstanding must be at least 1, got 0"),
    "max_packet_size too small": (
        {"max_packet_size": 10},
        ValueError,
        "max_packet_size must be from 1024 to 4294959104, got 10",
    ),
    "tls of True": ({"tls": True}, TypeError, "tls must be an ssl.SSLContext or None, got True"),
    "balance that is neither a name nor a function": (
        {"balance": ["first"]},
        TypeError,
        "balance must be one of random",
    ),
    "exceptions as text": ({"exceptions": "no"}, TypeError, "exceptions must be True or False, got 'no'"),
    "logger by its name": ({"logger": "x"}, TypeError, "logger must be a logging.Logger, got 'x'"),
    "prefix with a NUL": ({"prefix": "a\0"}, ValueError, "a prefix must not contain a NUL"),
    "hook that is not callable": ({"on_connected": 1}, TypeError, "on_connected must be a function or a coroutine"),
    "invalid address": ({"job_servers": ["a:b"]}, ValueError, "a job server's port must be a number"),
    "address that is not a string": ({"job_servers": [7]}, TypeError, "a job server's address must be a string"),
    "empty alias": ({"alias": ""}, TypeError, "an alias is a string that is not empty, got ''"),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_option_is_rejected(name: str) -> None:
    options, error, message = INVALID[name]
    with pytest.raises(error) as caught:
        Client(**options)
    assert message in str(caught.value)


async def test_the_hooks_are_called_for_each_connection_and_disconnection() -> None:
    events: list[tuple[object, ...]] = []

    async def on_disconnected(server: str, error: Exception | None) -> None:
        await asyncio.sleep(0)
        events.append(("disconnected", server, error))

    async with fake_server() as server:
        async with Client(
            [server.address],
            exceptions=False,
            on_connected=lambda name: events.append(("connected", name)),
            on_disconnected=on_disconnected,
        ) as client:
            job = client.submit("f")
            peer = await server.accept()
            await peer.expect_job(b"H:1")
            await job.created()
            assert events == [("connected", server.address)]
            peer.close()
            with pytest.raises(Exception, match="was lost"):
                await job
            await eventually(lambda: len(events) == 2)
            assert events[1] == ("disconnected", server.address, None)
            again = client.submit("f")
            await (await server.accept()).expect_job(b"H:1")
            await again.created()
            again.cancel()
        assert events[2:] == [("connected", server.address), ("disconnected", server.address, None)]


async def test_without_exceptions_the_option_is_not_requested() -> None:
    async with fake_server() as server, Client([server.address], exceptions=False) as client:
        job = client.submit("f", "w")
        assert await (await server.accept()).expect_job(b"H:1") == [b"f", b"", b"w"]
        await job.created()
        job.cancel()


async def test_a_custom_logger_receives_every_packet_with_workloads_elided(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("own")
    caplog.set_level(logging.DEBUG, "own")
    async with fake_server() as server, Client([server.address], logger=logger) as client:
        job = client.submit("f", b"secret")
        peer = await server.accept()
        assert await peer.receive() == (26, [b"exceptions"])
        peer.send(27, b"exceptions")
        await peer.expect_job(b"H:1")
        peer.send(13, b"H:1", b"hidden")
        assert await job == b"hidden"
        lines = [record.getMessage() for record in caplog.records if record.name == "own"]
    name = server.address
    assert lines == [
        f"{name} > OPTION_REQ exceptions",
        f"connected to {name}",
        f"{name} > SUBMIT_JOB f  [6 bytes]",
        f"{name} < OPTION_RES exceptions",
        f"{name} < JOB_CREATED H:1",
        f"{name} < WORK_COMPLETE H:1 [6 bytes]",
    ]
