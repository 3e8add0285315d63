"""Each of our components with each other implementation: gearmand, Perl, `gearman`, `gearadmin` and libgearman."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import pytest

from geartrain.protocol.packets import PacketType
from tests.support.environment import without_coverage
from tests.support.eventually import wait_until
from tests.support.interop_peers import ADMIN_TOOLS, CLIENTS, WORKERS, AdminTool, Answer, Request
from tests.support.job_server import KINDS, ROOT, AnyJobServer, JobServerHost, JobServerStarter
from tests.support.wire import Wire

# Larger than one read, with NULs, and with invalid UTF-8.
WORKLOAD = b"one\0two\xe9\n" * 2_000

Servers: TypeAlias = Mapping[str, AnyJobServer]

OURS = {"client", "worker", "command", "geartrain"}

# Commands run by `gearman -w` and `geartrain worker` can only return a result, and `gearman` and `geartrain submit`
# show progress only on a terminal.
WORKERS_THAT_SEND_UPDATES = ("worker", "perl", "libgearman")
CLIENTS_THAT_SHOW_PROGRESS = ("client", "perl", "libgearman")


def cells(clients: Iterable[str], workers: Iterable[str]) -> pytest.MarkDecorator:
    """Combine these clients, workers and both job servers, if at least one of the three is ours."""
    table = [cell for cell in itertools.product(KINDS, clients, workers) if OURS & {*cell}]
    return pytest.mark.parametrize(("kind", "client", "worker"), table)


class Processes:
    """A job server of each kind, with a worker of each kind."""

    def __init__(self, directory: Path, host: JobServerHost) -> None:
        self._starters = {kind: JobServerStarter(kind, directory, host) for kind in KINDS}
        self.servers = {kind: start() for kind, start in self._starters.items()}
        self._workers = [
            subprocess.Popen(
                command(server), cwd=ROOT, env=without_coverage(), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for server in self.servers.values()
            for command in WORKERS.values()
        ]

    def wait(self) -> None:
        """Wait until all workers have registered."""
        for server in self.servers.values():
            with Wire(server.port) as wire:
                wait_until(lambda: len({row.split(b".")[0] for row in wire.ask(b"status")}) == len(WORKERS))

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()
        for starter in self._starters.values():
            starter.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, job_server_host: JobServerHost) -> Iterator[Servers]:
    """The job servers by kind, with a worker of each kind."""
    processes = Processes(tmp_path_factory.mktemp("interop"), job_server_host)
    try:
        processes.wait()
        yield processes.servers
    finally:
        processes.close()


@cells(CLIENTS, WORKERS)
def test_a_job_is_completed(servers: Servers, kind: str, client: str, worker: str) -> None:
    answer = CLIENTS[client](Request(servers[kind], f"{worker}.upper", WORKLOAD))
    assert answer == Answer(True, WORKLOAD.upper())


@cells(["client"], WORKERS)
def test_a_failure_of_each_worker_is_reported(servers: Servers, kind: str, client: str, worker: str) -> None:
    assert not CLIENTS[client](Request(servers[kind], f"{worker}.upper", b"fail")).completed


@cells(CLIENTS, ["worker"])
def test_each_client_reports_a_failure(servers: Servers, kind: str, client: str, worker: str) -> None:
    assert not CLIENTS[client](Request(servers[kind], f"{worker}.upper", b"fail")).completed


@cells(CLIENTS_THAT_SHOW_PROGRESS, WORKERS_THAT_SEND_UPDATES)
def test_progress_arrives(servers: Servers, kind: str, client: str, worker: str) -> None:
    assert CLIENTS[client](Request(servers[kind], f"{worker}.progress")) == Answer(True, b"done", ("1/2",))


@cells(CLIENTS, WORKERS_THAT_SEND_UPDATES)
def test_a_result_arrives_in_parts(servers: Servers, kind: str, client: str, worker: str) -> None:
    assert CLIENTS[client](Request(servers[kind], f"{worker}.parts")) == Answer(True, b"one two")


def test_equal_jobs_of_all_clients_run_once(job_server: AnyJobServer) -> None:
    """All clients share one job, and each receives its result."""
    with ThreadPoolExecutor(len(CLIENTS)) as threads, Wire(job_server.port) as worker:
        request = Request(job_server, "f", b"work", unique="key")
        answers = [threads.submit(submit, request) for submit in CLIENTS.values()]

        def count_clients() -> int:
            worker.send(PacketType.GET_STATUS_UNIQUE, b"key")
            return int(worker.receive()[1].split(b"\0")[-1])

        wait_until(lambda: count_clients() == len(CLIENTS))
        worker.send(PacketType.CAN_DO, b"f")
        worker.send(PacketType.GRAB_JOB_UNIQ)
        handle, *rest = worker.receive()[1].split(b"\0")
        assert rest == [b"f", b"key", b"work"]
        worker.send(PacketType.WORK_COMPLETE, handle, b"done")
        assert [answer.result() for answer in answers] == [Answer(True, b"done")] * len(CLIENTS)
        worker.send(PacketType.GRAB_JOB_UNIQ)
        worker.expect(PacketType.NO_JOB)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tool", ADMIN_TOOLS.values(), ids=ADMIN_TOOLS)
def test_each_admin_tool_sees_each_worker(servers: Servers, kind: str, tool: AdminTool) -> None:
    rows = {function: workers for function, _, _, workers in tool.status(servers[kind])}
    assert [rows[f"{worker}.upper"] for worker in WORKERS] == [1] * len(WORKERS)


@pytest.mark.parametrize("tool", ADMIN_TOOLS.values(), ids=ADMIN_TOOLS)
def test_each_admin_tool_sees_and_cancels_the_jobs_of_each_client(job_server: AnyJobServer, tool: AdminTool) -> None:
    for client, submit in CLIENTS.items():
        assert submit(Request(job_server, client, b"work", unique=client, background=True)).completed
    assert sorted(tool.status(job_server)) == sorted((client, 1, 0, 0) for client in CLIENTS)
    handles = tool.jobs(job_server)
    assert len(handles) == len(CLIENTS)
    for handle in handles:
        tool.cancel(job_server, handle)
    with Wire(job_server.port) as worker:
        for client in CLIENTS:
            worker.send(PacketType.CAN_DO, client.encode())
        worker.send(PacketType.GRAB_JOB_UNIQ)
        worker.expect(PacketType.NO_JOB)
