"""When ``geartrain submit`` hints at missing workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from geartrain.cli.submit.output import TextOutput
from geartrain.cli.submit.printer import ResultPrinter
from geartrain.cli.submit.progress import ProgressDisplay
from geartrain.cli.submit.submitter import Submitter
from geartrain.client import Client
from geartrain.protocol.packets import PacketType
from tests.support.gearmand import Gearmand
from tests.support.wire import Wire


class CountingClient(Client):
    """Signals that it has counted the workers."""

    async def workers_for(self, function: str | bytes) -> int:
        workers = await super().workers_for(function)
        self.has_counted.set()
        return workers

    has_counted: asyncio.Event


async def test_there_is_no_hint_if_a_worker_is_busy(
    gearmand: Gearmand, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    progress = ProgressDisplay()
    printer = ResultPrinter(b"\n", progress)
    async with CountingClient([gearmand.address]) as client:
        client.has_counted = asyncio.Event()
        submitter = Submitter(
            client,
            ["paint"],
            {},
            limit=1,
            unit=None,
            make_output=lambda title: TextOutput(printer, title),
            printer=printer,
            progress=progress,
            hint_delay=0,
        )
        with Wire(gearmand.port) as worker:
            worker.send(PacketType.CAN_DO, b"paint")
            worker.send(PacketType.ECHO_REQ, b"registered")
            assert worker.receive()[0] is PacketType.ECHO_RES
            running = asyncio.create_task(submitter.run(yield_wall()))
            await client.has_counted.wait()
            worker.send(PacketType.GRAB_JOB)
            _, body = await asyncio.to_thread(worker.receive)
            worker.send(PacketType.WORK_COMPLETE, body.partition(b"\0")[0], b"painted")
            assert await running == 0
    assert capfdbinary.readouterr() == (b"painted\n", b"")


async def yield_wall() -> AsyncIterator[bytes]:
    yield b"wall"
