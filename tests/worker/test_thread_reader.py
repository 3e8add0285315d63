from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from geartrain.worker import Worker
from geartrain.worker.session import WorkerSession
from geartrain.worker.thread_reader import ThreadReader
from tests.support.async_wire import connected
from tests.support.gearmand import Gearmand
from tests.support.working import working


class Reading:
    """A connection that counts how often it is read, and raises on request."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.reads = 0
        self.error: Exception | None = None

    def read(self) -> None:
        self.reads += 1
        self.socket.recv(100)
        if self.error is not None:
            raise self.error


def test_only_connections_with_something_to_read_are_read() -> None:
    reader = ThreadReader(lambda error: None)
    here, there = socket.socketpair()
    here2, there2 = socket.socketpair()
    with here, there, here2, there2:
        ready, idle = Reading(here), Reading(here2)
        reader.add(ready, here.fileno())
        reader.add(idle, here2.fileno())
        there.send(b"x")
        reader.read()
        reader.remove(ready)
        there.send(b"x")
        reader.read()  # it has been woken
        assert (ready.reads, idle.reads) == (1, 0)
    reader.close()


def test_wake_ends_a_read_and_does_nothing_after_close() -> None:
    reader = ThreadReader(lambda error: None)
    thread = threading.Thread(target=reader.read)
    thread.start()
    reader.wake()
    thread.join(5)
    assert not thread.is_alive()
    for _ in range(100_000):  # the pipe is full long before
        reader.wake()
    reader.close()
    reader.wake()


def test_an_error_is_reported() -> None:
    errors: list[BaseException] = []
    reader = ThreadReader(errors.append)
    here, there = socket.socketpair()
    with here, there:
        reading = Reading(here)
        reading.error = KeyError("a bug")
        reader.add(reading, here.fileno())
        there.send(b"x")
        with pytest.raises(KeyError):
            reader.read()
    assert errors == [reading.error]
    reader.close()


def test_a_bug_in_reading_ends_the_run(gearmand: Gearmand, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(session: WorkerSession, data: bytes, now: float) -> None:
        raise KeyError("a bug")

    async def run_with_bug() -> None:
        worker = Worker(gearmand.address)
        worker.function("f")(lambda job: b"")
        async with working(worker) as run, connected(gearmand.address) as client:
            await client.do("f")
            monkeypatch.setattr(WorkerSession, "_receive", fail)
            await client.submit("f")
            with pytest.raises(KeyError, match="a bug"):
                await run

    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    asyncio.run(run_with_bug())  # not on uvloop, on which threads do not read
