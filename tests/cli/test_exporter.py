"""``geartrain exporter``."""

from __future__ import annotations

import asyncio
import re
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping

import pytest
from click.testing import CliRunner
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from geartrain.admin import AdminGroup
from geartrain.cli.app import app
from geartrain.cli.exporter.collector import JobServerCollector
from geartrain.cli.exporter.readings import Reading, SharedReader
from geartrain.errors import GearmanError, NoServersError, RemoteProtocolError, ServerTimeoutError
from geartrain.protocol.packets import PacketType
from geartrain.protocol.text_replies import FunctionStatus, PriorityStatus
from tests.cli.command import geartrain, read_until, start
from tests.support.eventually import eventually
from tests.support.gearmand import free_port
from tests.support.job_server import AnyJobServer
from tests.support.scripted import scripted_server
from tests.support.wire import Wire, packet

MARK = packet(PacketType.GET_STATUS, b"geartrain:end")  # precedes and follows a command whose answer has rows


Values = dict[str, dict[tuple[str, ...], float]]  # the values of each metric by the values of its labels


def values_in(families: Iterable[Metric]) -> Values:
    order = ("server", "function", "priority", "version")
    return {
        family.name: {
            tuple(sample.labels[name] for name in order if name in sample.labels): sample.value
            for sample in family.samples
        }
        for family in families
    }


def scrape(url: str) -> Values:
    with urllib.request.urlopen(url, timeout=20) as response:
        return values_in(text_string_to_metric_families(response.read().decode()))


def values_of(readings: Mapping[str, Reading | GearmanError]) -> Values:
    return values_in(JobServerCollector(lambda: readings).collect())


class TextServer:
    """A job server that answers text commands from a table and counts them."""

    def __init__(self, answers: Mapping[bytes, bytes]) -> None:
        self.answers = answers
        self.received: Counter[bytes] = Counter()
        self.proceed = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        while received := await reader.read(1000):
            *lines, data = (data + received).replace(MARK, b"").split(b"\r\n")
            self.received.update(lines)
            await self.proceed.wait()
            for line in lines:
                writer.write(self.answers.get(line, b"ERR unknown_command Unknown+server+command\r\n"))


GEARMAND = {
    b"status": b"f\t1\t0\t0\n.\n",
    b"prioritystatus": b"f\t0\t1\t0\t0\n.\n",
    b"version": b"OK 1.1\r\n",
}


def test_a_scrape_shows_jobs_workers_and_servers_that_are_down(job_server: AnyJobServer) -> None:
    down = f"127.0.0.1:{free_port()}"
    with (
        Wire(job_server.port) as client,
        Wire(job_server.port) as worker,
        start("exporter", "-s", f"{job_server.address},{down}", "--listen", ":0") as command,
    ):
        banner = read_until(command, b"\n").decode()
        found = re.fullmatch(r"The metrics of (.*) are at (http://127\.0\.0\.1:\d+/metrics)\n", banner)
        assert found
        assert found[1] == f"{job_server.address}, {down}"
        for kind in (PacketType.SUBMIT_JOB_HIGH_BG, PacketType.SUBMIT_JOB_BG, PacketType.SUBMIT_JOB_LOW_BG):
            client.submit(b"shop\tpaint", kind.name.encode(), kind=kind)
        client.send(PacketType.SUBMIT_JOB_EPOCH, b"shop\tpaint", b"later", b"4000000000", b"")
        assert client.receive()[0] is PacketType.JOB_CREATED
        worker.send(PacketType.CAN_DO, b"shop\tpaint")
        worker.send(PacketType.GRAB_JOB)
        assert worker.receive()[0] is PacketType.JOB_ASSIGN
        values = scrape(found[2])
        server, function = job_server.address, r"shop\tpaint"
        assert values["gearman_up"] == {(server,): 1, (down,): 0}
        assert list(values["gearman_version_info"].values()) == [1]
        assert values["gearman_jobs"] == {(server, function): 4}
        assert values["gearman_jobs_running"] == {(server, function): 1}
        assert values["gearman_workers"] == {(server, function): 1}
        assert values["gearman_jobs_waiting"] == {
            (server, function, "high"): 0,
            (server, function, "normal"): 2,
            (server, function, "low"): 1,
        }
        command.terminate()
        output, errors = command.communicate(timeout=20)
        assert (command.returncode, output) == (0, b"")
        assert errors.count(down.encode()) == errors.count(b"\n") == 1


async def test_simultaneous_scrapes_read_each_job_server_once() -> None:
    server = TextServer(GEARMAND)
    async with scripted_server(server) as listening, AdminGroup([listening.address], timeout=20.0) as group:
        reader = SharedReader(group)
        scrapes = [asyncio.create_task(reader.read()) for _ in range(5)]
        await eventually(lambda: server.received.total() == 3)
        scrapes += [asyncio.create_task(reader.read()) for _ in range(5)]
        scrapes.pop(0).cancel()
        server.proceed.set()
        answers = await asyncio.gather(*scrapes[1:])
        reading = Reading([FunctionStatus("f", 1, 0, 0)], [PriorityStatus("f", 0, 1, 0, 0)], "1.1")
        assert answers == [{listening.address: reading}] * 8
        await asyncio.gather(*scrapes)
        assert set(server.received.values()) == {1}
        assert await reader.read() == {listening.address: reading}
        assert set(server.received.values()) == {2}


async def test_a_job_server_that_hangs_is_down_and_its_connection_is_closed() -> None:
    """Otherwise each scrape would add requests to those that it has not answered."""
    server = TextServer(GEARMAND)
    async with scripted_server(server) as listening, AdminGroup([listening.address], timeout=0.05) as group:
        reader = SharedReader(group)
        for _ in range(2):
            answers = await reader.read()
            assert isinstance(answers[listening.address], ServerTimeoutError)
            assert not group.admins[listening.address].connected
        server.proceed.set()
        async with asyncio.timeout(10):  # a busy machine may exceed the timeout of the group
            while not isinstance((await reader.read())[listening.address], Reading):
                pass


async def test_a_job_server_that_answers_nonsense_is_down() -> None:
    server = TextServer({**GEARMAND, b"version": b"hello\r\n"})
    server.proceed.set()
    async with scripted_server(server) as listening, AdminGroup([listening.address]) as group:
        answers = await SharedReader(group).read()
        assert isinstance(answers[listening.address], RemoteProtocolError)
        assert values_of(answers)["gearman_up"] == {(listening.address,): 0}


async def test_the_priority_is_empty_where_the_job_server_does_not_report_it() -> None:
    """As Perl's job server."""
    server = TextServer({b"status": b"f\t5\t2\t3\n.\n"})
    server.proceed.set()
    async with scripted_server(server) as listening, AdminGroup([listening.address]) as group:
        values = values_of(await SharedReader(group).read())
        assert values["gearman_jobs_waiting"] == {(listening.address, "f", ""): 3}
        assert values["gearman_up"] == {(listening.address,): 1}
        assert values["gearman_version_info"] == {}


def test_names_that_are_not_utf8_are_escaped() -> None:
    reading = Reading([FunctionStatus("a\udcff\n", 1, 0, 0)], [PriorityStatus("a\udcff\n", 1, 0, 0, 0)], "\udc80")
    values = values_of({"s": reading, "down": NoServersError("")})
    assert values["gearman_jobs"] == {("s", r"a\xff\n"): 1}
    assert values["gearman_jobs_waiting"]["s", r"a\xff\n", "high"] == 1
    assert values["gearman_version_info"] == {("s", r"\x80"): 1}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--listen", "nowhere"], 2, "geartrain exporter: invalid HTTP address 'nowhere': expected HOST:PORT"),
        (
            ["--timeout", "0"],
            2,
            "geartrain exporter: Invalid value for '-t' / '--timeout': 0.0 is not in the range x>0",
        ),
    ],
)
def test_an_invalid_option_is_reported(arguments: list[str], status: int, message: str) -> None:
    result = geartrain("exporter", *arguments)
    assert (result.returncode, result.stdout) == (status, b"")
    assert result.stderr.decode().startswith(message)


def test_a_port_in_use_is_an_error_at_start(job_server: AnyJobServer) -> None:
    result = geartrain("exporter", "-s", job_server.address, "--listen", job_server.address)
    assert result.returncode == 1
    expected = f"geartrain exporter: cannot listen on {job_server.address}: Address already in use\n"
    assert result.stderr.decode() == expected


def test_a_missing_extra_is_reported_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    result = CliRunner().invoke(app, ["exporter"])
    assert result.exit_code == 2
    assert "it requires prometheus-client: pip install 'geartrain[cli,metrics]'" in result.stderr
