"""
A program under gevent's monkey patching.

usage: python -m tests.blocking.greenlets ADDRESS "before the import"|"after the import"|"after the first call"
"""

from __future__ import annotations

import sys

import gevent
from gevent import monkey

address, patched = sys.argv[1:]
if patched == "before the import":
    monkey.patch_all()

from geartrain import JobData, JobTimeoutError  # noqa: E402  # patched or not
from geartrain.blocking import Client  # noqa: E402

client = Client(address)


def reverse(text: bytes) -> bytes:
    return client.do("reverse", text, timeout=20)


def alone() -> None:
    """Wait while no other greenlet waits for anything."""
    assert reverse(b"abc") == b"cba"
    job = client.submit("stream", b"2")
    job.created(10)
    assert job.result(10) == b"end"
    assert list(job.updates())[:2] == [JobData(b"0"), JobData(b"1")]
    assert list(client.map("reverse", [b"ab"] * 3)) == [b"ba"] * 3
    assert {job.result() for job in client.as_completed([client.submit("reverse", b"ab")])} == {b"ba"}
    try:
        client.submit("never").result(0.05)
    except TimeoutError:
        return
    raise AssertionError("nobody runs it")


def together() -> None:
    """Wait in many greenlets; the others run on."""
    ticks: list[int] = []

    def tick() -> None:
        while True:
            ticks.append(1)
            gevent.sleep(0.001)

    ticking = gevent.spawn(tick)
    waiting = [gevent.spawn(reverse, b"%d" % number) for number in range(50)]
    gevent.joinall(waiting)
    assert [greenlet.value for greenlet in waiting] == [(b"%d" % number)[::-1] for number in range(50)]
    before = len(ticks)
    try:
        client.do("never", timeout=0.2)
    except JobTimeoutError:
        assert len(ticks) > before + 5
    try:
        with gevent.Timeout(0.05):
            client.do("never")
    except gevent.Timeout:
        pass
    else:
        raise AssertionError("it was not interrupted")
    ticking.kill()


if patched == "after the first call":
    reverse(b"early")
if patched != "before the import":
    monkey.patch_all()
alone()
together()
