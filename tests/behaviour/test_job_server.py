"""What job servers do, on the wire: gearmand's and ours are held to the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from geartrain.protocol.packets import PacketType
from tests.support.job_server import AnyJobServer
from tests.support.wire import Wire

Connect = Callable[[], Wire]


@pytest.fixture
def connect(job_server: AnyJobServer) -> Iterator[Connect]:
    """Connects to the job server; what was connected is closed after the test."""
    wires: list[Wire] = []

    def connect() -> Wire:
        wires.append(Wire(job_server.port))
        return wires[-1]

    yield connect
    for wire in wires:
        wire.close()


def test_a_job_goes_to_a_worker_and_its_result_to_the_client(connect: Connect) -> None:
    client, worker = connect(), connect()
    handle = client.submit(b"reverse", b"", b"hello")
    worker.send(PacketType.CAN_DO, b"reverse")
    worker.send(PacketType.GRAB_JOB)
    worker.expect(PacketType.JOB_ASSIGN, handle, b"reverse", b"hello")
    worker.send(PacketType.WORK_COMPLETE, handle, b"olleh")
    client.expect(PacketType.WORK_COMPLETE, handle, b"olleh")
    client.nothing_more()
    worker.nothing_more()


def test_a_restarted_server_counts_its_handles_from_one(job_server: AnyJobServer) -> None:
    with Wire(job_server.port) as before:
        handle = before.submit(b"f")
        assert handle.endswith(b":1")
        job_server.restart()
        assert before.at_end()
    with Wire(job_server.port) as after:
        assert after.submit(b"f") == handle
