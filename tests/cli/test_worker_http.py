"""``geartrain worker --http``: probes and metrics, also of several processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from geartrain import blocking
from geartrain.cli.exit_status import SUCCESS
from geartrain.cli.worker import supervisor as module
from geartrain.cli.worker.serving import serve_supervisor
from geartrain.cli.worker.supervisor import Supervisor
from geartrain.http_service import HttpAddress
from tests.cli.command import geartrain, start
from tests.cli.workers import find_children
from tests.support.eventually import eventually, wait_until
from tests.support.gearmand import Gearmand, free_port
from tests.support.http import get
from tests.support.job_server import AnyJobServer
from tests.support.worker_metrics import metrics_of, outcomes_of


def is_ready(address: str) -> bool:
    try:
        return get(address, "/readyz") == (200, "ok\n")
    except OSError:  # it does not listen yet
        return False


def test_the_processes_of_a_supervisor_are_served_together(
    gearmand: Gearmand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIRECTORY", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    address = f"127.0.0.1:{free_port()}"
    arguments = ["-s", gearmand.address, "--processes", "2", "--http", address]
    with start("worker", "tests.support.process_worker:make", *arguments) as command:
        try:
            wait_until(lambda: is_ready(address), within=20.0)
            assert get(address, "/livez") == (200, "ok\n")
            connections = f'geartrain_connections{{server="{gearmand.address}"}} 2.0'
            wait_until(lambda: connections in get(address, "/metrics")[1])
            with blocking.Client(gearmand.address) as client:
                assert len(list(client.map("note", [b""] * 20))) == 20
                wait_until(lambda: outcomes_of(address, "note")["completed"] == 20)
                os.kill(find_children(command.pid)[0], signal.SIGKILL)
                wait_until(lambda: "\ngeartrain_restarts_total 1.0\n" in get(address, "/metrics")[1], within=20.0)
                wait_until(lambda: connections in get(address, "/metrics")[1], within=20.0)
                assert outcomes_of(address, "note") == {"completed": 20, "failed": 0, "raised": 0, "lost": 0}
                job = client.submit("hold")
                wait_until(lambda: metrics_of(address, "hold")["geartrain_jobs_running"] == 1)
                command.terminate()
                wait_until(lambda: get(address, "/readyz") == (503, "the worker is stopping\n"))
                assert get(address, "/livez") == (200, "ok\n")
                (tmp_path / "go").touch()
                job.result(10)
            assert command.wait(20) == SUCCESS
            assert not list(tmp_path.glob("geartrain-metrics-*"))
        finally:
            command.terminate()
            (tmp_path / "go").touch()


async def test_a_process_that_does_not_answer_the_supervisor_is_not_alive(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)  # it is not in its multiprocess mode in this process
    monkeypatch.setattr(module, "_ASK_INTERVAL", 0.01)
    monkeypatch.setattr(module, "_STUCK_AFTER", 0.3)
    caplog.set_level("INFO", "geartrain")
    script = f"while test ! -e {tmp_path}/stuck && head -c 1 > /dev/null; do printf r >&0; done; exec sleep 60"
    supervisor = Supervisor(["sh", "-c", script], 1, None)
    running = asyncio.create_task(serve_supervisor(supervisor, HttpAddress("127.0.0.1", 0)))
    await eventually(lambda: "serving" in caplog.text)
    address = caplog.text.split("http://")[1].split()[0]

    async def wait_for(path: str, status: int) -> str:
        async with asyncio.timeout(10):
            while True:
                response = await asyncio.to_thread(get, address, path)
                if response[0] == status:
                    return response[1]

    await wait_for("/readyz", 200)
    await wait_for("/livez", 200)
    (tmp_path / "stuck").touch()
    [process] = [worker.process for worker in supervisor._processes]
    problem = await wait_for("/livez", 503)
    assert problem.startswith(f"process {process.pid} has not answered for ")
    supervisor.stop()
    assert await running == SUCCESS


@pytest.mark.parametrize("arguments", [["reverse", "--", "rev"], ["tests.cli.some_worker:make_worker", "--reload"]])
def test_a_port_in_use_is_an_error_at_start(job_server: AnyJobServer, arguments: list[str]) -> None:
    options = ["-s", job_server.address, "--http", job_server.address]
    result = geartrain("worker", *options, *arguments)
    expected = f"geartrain worker: cannot listen on {job_server.address}: Address already in use\n"
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode().endswith(expected)


def test_an_invalid_address_is_an_error() -> None:
    result = geartrain("worker", "--http", "nowhere", "reverse", "--", "rev")
    assert result.returncode == 2
    assert b"invalid HTTP address 'nowhere': expected HOST:PORT" in result.stderr


def test_a_command_is_served_as_a_function(job_server: AnyJobServer) -> None:
    address = f"127.0.0.1:{free_port()}"
    with start("worker", "-s", job_server.address, "--http", address, "reverse", "--", "rev") as command:
        try:
            wait_until(lambda: is_ready(address), within=20.0)
            with blocking.Client(job_server.address) as client:
                assert client.do("reverse", b"abc") == b"cba"
            wait_until(lambda: outcomes_of(address, "reverse")["completed"] == 1)
        finally:
            command.terminate()
