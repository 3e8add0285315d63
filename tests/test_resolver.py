"""Names are resolved in separate threads, whose number is bounded and which do not wait for each other."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from geartrain.resolver import Resolver, parse_numeric, resolve
from tests.support.eventually import eventually
from tests.support.host_names import hanging_names


async def test_a_full_default_executor_does_not_delay_a_name() -> None:
    loop = asyncio.get_running_loop()
    release = threading.Event()
    busy = [loop.run_in_executor(None, release.wait) for _ in range(64)]
    try:
        assert (socket.AF_INET, ("127.0.0.1", 1)) in await resolve("localhost", 1)
    finally:
        release.set()
        await asyncio.gather(*busy)


async def test_a_name_that_hangs_takes_one_thread_and_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver()
    with hanging_names(monkeypatch, "hangs.example") as hanging:
        for _ in range(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await resolver.resolve("hangs.example", 1)
        assert await resolver.resolve("localhost", 1)
        assert hanging == ["hangs.example"]
    await eventually(lambda: resolver.threads == 0)


async def test_names_beyond_the_limit_of_threads_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver(max_threads=2)
    with hanging_names(monkeypatch, "a.example", "b.example"):
        stuck = [asyncio.create_task(resolver.resolve(name, 1)) for name in ("a.example", "b.example")]
        abandoned, waiting = (asyncio.create_task(resolver.resolve("localhost", port)) for port in (1, 2))
        await asyncio.sleep(0)
        assert resolver.threads == 2
        abandoned.cancel()
        await asyncio.wait([abandoned])
    assert await waiting
    for error in await asyncio.gather(*stuck, return_exceptions=True):
        assert isinstance(error, socket.gaierror)
    await eventually(lambda: resolver.threads == 0 and not resolver._lookups)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", (socket.AF_INET, ("10.0.0.1", 1))),
        ("::1", (socket.AF_INET6, ("::1", 1, 0, 0))),
        ("::ffff:127.0.0.1", (socket.AF_INET6, ("::ffff:127.0.0.1", 1, 0, 0))),
        ("fe80::1%7", (socket.AF_INET6, ("fe80::1", 1, 0, 7))),
        ("fe80::1%lo", (socket.AF_INET6, ("fe80::1", 1, 0, socket.if_nametoindex("lo")))),
        ("localhost", None),
    ],
)
def test_a_numeric_address_needs_no_thread(host: str, address: object) -> None:
    assert parse_numeric(host, 1) == address


@pytest.mark.parametrize("scope", ["nosuchinterface", str(2**32), "9" * 50])
def test_an_unknown_scope_is_one_clear_error(scope: str) -> None:
    with pytest.raises(OSError, match=f"the scope of fe80::1%{scope} is not a network interface"):
        parse_numeric(f"fe80::1%{scope}", 1)
