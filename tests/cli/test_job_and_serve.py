"""``geartrain job`` and ``geartrain serve``."""

from __future__ import annotations

import json
import signal

import pytest

from geartrain.handle import JobHandle
from geartrain.protocol.packets import PacketType
from tests.cli.command import geartrain, read_until, start
from tests.cli.terminal import Terminal
from tests.support.eventually import wait_until
from tests.support.gearmand import Gearmand, ask
from tests.support.job_server import AnyJobServer
from tests.support.wire import Wire

UNKNOWN = b"unknown: the job has ended or never existed\n"


class ManualWorker:
    """A worker controlled by the test, and the job that it has."""

    def __init__(self, server: AnyJobServer) -> None:
        self.wire = Wire(server.port)
        self.handle = self.wire.submit(b"paint", b"wall 1", b"", PacketType.SUBMIT_JOB_BG)

    def grab(self) -> None:
        self.wire.send(PacketType.CAN_DO, b"paint")
        self.wire.send(PacketType.GRAB_JOB)
        assert self.wire.receive()[0] is PacketType.JOB_ASSIGN

    def send_update(self, kind: PacketType, *arguments: bytes) -> None:
        self.wire.send(kind, self.handle, *arguments)
        self.wire.send(PacketType.ECHO_REQ, b"")
        assert self.wire.receive()[0] is PacketType.ECHO_RES


def test_job_shows_status_and_progress(job_server: AnyJobServer) -> None:
    worker = ManualWorker(job_server)
    handle = f"{job_server.address}//{worker.handle.decode()}"
    with worker.wire:
        assert geartrain("job", handle).stdout == b"queued\n"
        assert geartrain("job", JobHandle.parse(handle).token()).stdout == b"queued\n"
        worker.grab()
        worker.send_update(PacketType.WORK_STATUS, b"3", b"4")
        assert geartrain("job", "-s", job_server.address, worker.handle.decode()).stdout == b"running, 3 of 4\n"
        by_unique = geartrain("job", "-s", job_server.address, "--unique", "wall 1")
        assert by_unique.stdout == b"running, 3 of 4, 0 clients wait\n"
        token = JobHandle(job_server.address, worker.handle.decode(), "paint", "wall 1").token()
        assert geartrain("job", token).stdout == b"running, 3 of 4\n"
        worker.send_update(PacketType.WORK_COMPLETE, b"")
    result = geartrain("job", handle)
    assert (result.returncode, result.stdout, result.stderr) == (1, UNKNOWN, b"")


def test_job_shows_a_queued_job_that_was_cancelled(gearmand: Gearmand) -> None:
    """Our job server forgets it immediately."""
    with Wire(gearmand.port) as wire:
        wire.submit(b"paint", b"", b"wall 1", PacketType.SUBMIT_JOB_BG)
        handle = f"{gearmand.address}//{wire.submit(b'paint', b'', b'wall 2', PacketType.SUBMIT_JOB_BG).decode()}"
    assert json.loads(geartrain("job", "--json", handle).stdout)["cancelled"] is False
    assert geartrain("cancel", handle).returncode == 0
    result = geartrain("job", "--watch", handle)
    assert (result.returncode, result.stdout) == (0, b"cancelled: no worker will get it\n")
    assert json.loads(geartrain("job", "--json", handle).stdout)["cancelled"] is True


def test_watch_prints_each_change_until_the_job_has_ended(job_server: AnyJobServer) -> None:
    worker = ManualWorker(job_server)
    with (
        worker.wire,
        start("job", "--watch", "--json", f"{job_server.address}//{worker.handle.decode()}") as command,
    ):
        assert json.loads(read_until(command, b"\n"))["running"] is False
        worker.grab()
        worker.send_update(PacketType.WORK_STATUS, b"3", b"4")
        assert json.loads(read_until(command, b"\n").splitlines()[-1])["numerator"] == 3
        worker.send_update(PacketType.WORK_COMPLETE, b"")
        rest, errors = command.communicate(timeout=20)
        assert json.loads(rest)["known"] is False
        assert (command.returncode, errors) == (0, b"")


def test_watch_draws_a_bar_on_a_terminal(gearmand: Gearmand) -> None:
    worker = ManualWorker(gearmand)
    with worker.wire, Terminal("job", "-w", f"{gearmand.address}//{worker.handle.decode()}") as terminal:
        terminal.read_until("queued")
        worker.grab()
        worker.send_update(PacketType.WORK_STATUS, b"3", b"4")
        terminal.read_until("━╺━+ running, 3 of 4")
        worker.send_update(PacketType.WORK_COMPLETE, b"")
        assert terminal.wait() == 0
    assert terminal.plain.endswith("the job has ended\r\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["H:x:1", "-s", "a,b"], "the handle must name one of the job servers, as in a:4730//H:x:1\n"),
        (["-u", "-"], "a status can be requested only for a non-empty unique other than '-', got '-'\n"),
        (["a//" + "x" * 64], f"a handle must have 1 to 63 bytes and no NUL, got '{'x' * 64}'\n"),
    ],
)
def test_usage_errors_of_job_are_reported_in_one_sentence(arguments: list[str], sentence: str) -> None:
    result = geartrain("job", *arguments)
    assert (result.returncode, result.stdout, result.stderr.decode()) == (2, b"", f"geartrain job: {sentence}")


def test_serve_runs_a_job_server_until_a_signal() -> None:
    with start("serve", "--port", "0") as server:
        line = read_until(server, b"\n").decode()
        assert line.startswith("A job server for development listens on 127.0.0.1:")
        address = line.split()[7].rstrip(";")
        port = int(address.rpartition(":")[2])
        wait_until(lambda: ask(port, "version").startswith("OK geartrain-"))
        submitted = geartrain("submit", "-b", "-s", address, "f", "x")
        assert submitted.stdout.startswith(address.encode())
        server.send_signal(signal.SIGINT)
        assert server.communicate(timeout=20) == (b"", b"")
        assert server.returncode == 0


def test_serve_reports_a_port_that_is_in_use(gearmand: Gearmand) -> None:
    result = geartrain("serve", "--port", str(gearmand.port))
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode() == f"geartrain serve: cannot listen on {gearmand.address}: Address already in use\n"


def test_serve_logs_packets_if_verbose() -> None:
    with start("serve", "-p", "0", "-vv") as server:
        address = read_until(server, b"\n").decode().split()[7].rstrip(";")
        assert geartrain("submit", "-b", "-s", address, "f", "x").returncode == 0
        server.terminate()
        _, errors = server.communicate(timeout=20)
    assert b"SUBMIT_JOB_BG f " in errors


@pytest.mark.parametrize(("options", "forwarded"), [([], False), (["--exceptions"], True)])
def test_serve_exceptions_forwards_exceptions_to_all_clients(options: list[str], forwarded: bool) -> None:
    with start("serve", "-p", "0", *options) as server:
        port = int(read_until(server, b"\n").decode().split()[7].rstrip(";").rpartition(":")[2])
        with Wire(port) as worker, Wire(port) as client:
            worker.send(PacketType.CAN_DO, b"f")
            handle = client.submit(b"f")
            worker.send(PacketType.GRAB_JOB)
            worker.expect(PacketType.JOB_ASSIGN, handle, b"f", b"")
            worker.send(PacketType.WORK_EXCEPTION, handle, b"no")
            kind, _ = client.receive()
            assert kind is (PacketType.WORK_EXCEPTION if forwarded else PacketType.WORK_FAIL)
        server.terminate()
        server.communicate(timeout=20)


@pytest.mark.parametrize(("options", "order"), [([], [b"b", b"b", b"a"]), (["--round-robin"], [b"b", b"a", b"b"])])
def test_serve_round_robin_serves_functions_in_turn(options: list[str], order: list[bytes]) -> None:
    with start("serve", "-p", "0", *options) as server:
        port = int(read_until(server, b"\n").decode().split()[7].rstrip(";").rpartition(":")[2])
        with Wire(port) as worker, Wire(port) as client:
            for function in (b"a", b"b"):
                worker.send(PacketType.CAN_DO, function)
                client.submit(function)
                client.submit(function)
            given = []
            for _ in order:
                worker.send(PacketType.GRAB_JOB)
                _, body = worker.receive()
                given.append(body.split(b"\0")[1])
            assert given == order
        server.terminate()
        server.communicate(timeout=20)
