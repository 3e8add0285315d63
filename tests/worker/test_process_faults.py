"""Functions in processes that fork, die, start programs or receive signals end only their own job."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from geartrain import JobServer
from geartrain.errors import LocalProtocolError
from geartrain.protocol.packets import PacketType
from geartrain.protocol.worker import Assignment
from geartrain.worker import Worker, WorkerJob
from geartrain.worker.processes import exit_descriptor, interpreter, main, process
from geartrain.worker.processes.messages import (
    Completed,
    LostQuery,
    LostReply,
    Message,
    MessageDecoder,
    Raised,
    RunJob,
    Update,
    encode_message,
)
from geartrain.worker.processes.pipe import MessagePipe
from tests.support.async_wire import AsyncWire, connected
from tests.support.eventually import eventually
from tests.support.processes import send_signal
from tests.support.working import working
from tests.worker import forking_functions, process_functions
from tests.worker.forking_functions import COPIES, HELPERS, Unloadable
from tests.worker.test_executors import pass_through
from tests.worker.test_processes import is_alive

# What happens in a process does not depend on the worker's loop; test_executors.py runs processes on all loops.
pytestmark = pytest.mark.loops("asyncio")

DIED = b"ChildProcessError: the process that ran 'f' "

ASSIGNMENT = Assignment(b"H:1", b"f", b"", b"workload")


@contextlib.asynccontextmanager
async def serving(call: Any, **options: Any) -> AsyncIterator[AsyncWire]:
    """Run a worker with a function ``f`` in one process; yield a client."""
    async with JobServer(port=0) as server:
        worker = Worker(
            server.address,
            concurrency=2,
            grace=options.pop("grace", None),
            middleware=options.pop("middleware", ()),
        )
        worker.function("f", **{"processes": 1, **options})(call)
        async with working(worker), connected(server.address) as client:
            yield client


def watch_by(watcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose how the end of a process is detected."""
    if watcher == "thread":
        monkeypatch.setattr(os, "pidfd_open", Mock(side_effect=OSError))


@pytest.fixture
def helpers() -> Iterator[list[int]]:
    """Kill the processes that the functions have left behind."""
    numbers = list[int]()
    yield numbers
    for number in numbers:
        send_signal(number, signal.SIGKILL)


async def passing(job: WorkerJob, call: Any) -> Any:
    """With middleware the worker has the connections, so its processes have one thread each."""
    return await call(job)


FORKS = [
    (forking_functions.fork_copy, {"processes": 1}, "in Python"),
    # Not beside other threads: in a copy that was forked in C, not even Python's own locks work then.
    (forking_functions.fork_copy, {"processes": 1, "middleware": [passing]}, "in C"),
    (forking_functions.fork_copy, {"processes": None}, "in Python"),
    (forking_functions.fork_copy_in_loop, {"processes": None}, "in Python"),
]


@pytest.mark.traced_processes
@pytest.mark.parametrize(("function", "options", "kind"), FORKS, ids=["process", "process, C", "thread", "loop"])
async def test_a_forked_copy_of_the_process_sends_no_result(function: Any, options: Any, kind: str) -> None:
    statuses = {"returns": b"0", "raises": b"1", "exits": b"3", "execv": b"1"}
    assert statuses.keys() == COPIES.keys()
    async with serving(function, **options) as client:
        for how, status in statuses.items():
            assert await client.do("f", f"{how} {kind}".encode()) == ("WORK_COMPLETE", status)
            for unique in (b"a", b"b"):
                await client.submit("f", unique=unique)
                assert await client.updates() == [("WORK_COMPLETE", unique)]


@pytest.mark.parametrize("executor", [{"processes": 1}, {"processes": None}], ids=["process", "thread"])
async def test_a_forked_copy_cannot_send_updates_of_the_job(executor: dict[str, Any]) -> None:
    async with serving(forking_functions.send_from_copy, **executor) as client:
        assert await client.do("f") == ("WORK_COMPLETE", b"LocalProtocolError")


@pytest.mark.parametrize(
    ("what", "end", "watcher"),
    [
        *((what, "killed", "pidfd") for what in HELPERS),
        *product(["fork in C"], ["exits", "killed while sending"], ["pidfd", "thread"]),
        ("fork in C", "killed", "thread"),
    ],
)
async def test_a_job_ends_with_its_process_whatever_the_process_left_behind(
    what: str, end: str, watcher: str, helpers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch_by(watcher, monkeypatch)
    async with serving(forking_functions.leave_behind) as client:
        await client.submit("f", f"{what}, {end}".encode())
        (kind, number), *_, last = await client.updates()
        assert kind == "WORK_DATA"
        helpers.append(int(number))
        how = b"ended with status 3" if end == "exits" else b"was killed by SIGKILL"
        assert last == ("WORK_EXCEPTION", DIED + how)
        if what == "daemon":
            assert is_alive(helpers[0]), "a daemon has its own session"
        else:
            await eventually(lambda: not is_alive(helpers[0]))


@pytest.mark.traced_processes
async def test_a_forked_copy_has_no_socket_of_the_process() -> None:
    async with serving(forking_functions.count_sockets_of_copy) as client:
        # One to the worker and one to the job server; two of asyncio wake its event loop, and stay in the copy.
        assert await client.do("f") == ("WORK_COMPLETE", b"4 2")
    async with serving(forking_functions.count_sockets_of_copy, middleware=(pass_through,)) as client:
        assert await client.do("f") == ("WORK_COMPLETE", b"1 0")


@pytest.mark.parametrize("what", HELPERS)
@pytest.mark.parametrize("end", ["sleeps", "returns"])
async def test_a_worker_ends_its_process_whatever_the_process_has_started(
    what: str, end: str, helpers: list[int]
) -> None:
    """The context ends only when the worker has ended."""
    async with serving(forking_functions.leave_behind, grace=0.05) as client:
        await client.submit("f", f"{what}, {end}".encode())
        helpers.append(int((await client.receive())[1].partition(b"\0")[2]))
        if end == "returns":
            assert (await client.updates())[-1][0] == "WORK_COMPLETE"
    if what != "daemon":
        await eventually(lambda: not is_alive(helpers[0]))


@pytest.mark.parametrize("what", [what for what in HELPERS if what != "daemon"])
async def test_a_timeout_ends_what_the_function_has_started(what: str, helpers: list[int]) -> None:
    async with serving(forking_functions.leave_behind, timeout=1.0) as client:
        updates: list[Any] = []
        while len(updates) < 2:  # a process may take longer to start than the timeout
            await client.submit("f", f"{what}, sleeps".encode())
            updates = await client.updates()
            assert updates[-1][0] == "WORK_EXCEPTION"
        helpers.append(int(updates[0][1]))
        await eventually(lambda: not is_alive(helpers[0]))


async def test_a_process_that_closes_its_descriptors_ends_its_job_and_is_killed() -> None:
    async with serving(forking_functions.close_everything) as client:
        assert await client.do("f") == ("WORK_EXCEPTION", DIED + b"closed its pipe")


async def test_a_process_that_dies_while_it_has_no_job_is_replaced() -> None:
    async with serving(process_functions.pid) as client:
        _, first = await client.do("f")
        os.kill(int(first), signal.SIGKILL)
        await eventually(lambda: not is_alive(int(first)))
        kind, second = await client.do("f")
        assert kind == "WORK_COMPLETE"
        assert second != first


async def test_a_process_that_dies_before_its_function_ends_the_job() -> None:
    async with serving(Unloadable(forking_functions.kill_process)) as client:
        for _ in range(2):
            assert await client.do("f") == ("WORK_EXCEPTION", DIED + b"was killed by SIGKILL")


@pytest.mark.traced_processes
async def test_a_function_that_a_process_cannot_import_is_an_exception_of_each_job() -> None:
    async with serving(Unloadable(importlib.import_module, "no_such_module")) as client:
        for _ in range(2):
            end = await client.do("f")
            assert end == ("WORK_EXCEPTION", b"ModuleNotFoundError: No module named 'no_such_module'")


async def test_a_job_that_has_ended_can_send_nothing_more_from_its_process() -> None:
    async with serving(forking_functions.leave_job_to_thread) as client:
        assert await client.do("f") == ("WORK_COMPLETE", b"first")
        assert await client.do("f") == ("WORK_COMPLETE", b"False LocalProtocolError")
    async with serving(forking_functions.leave_job_to_thread, middleware=(pass_through,)) as client:
        assert await client.do("f") == ("WORK_COMPLETE", b"first")
        assert await client.do("f") == ("WORK_COMPLETE", b"True LocalProtocolError")


# The pipe.


@pytest.mark.parametrize(
    "message",
    [
        RunJob(b"H:1", b"f", b"\xff", bytes(100_000), "[::1]:4730", 2**62),
        LostReply(True),
        Update(int(PacketType.WORK_DATA), b"part"),
        LostQuery(),
        Completed(b""),
        Raised(None, "Odd", "surrogates \ud800 and\0NUL", False, "trace"),
        Raised(b"pickled", "JobFailedError", "", True, ""),
    ],
    ids=lambda message: type(message).__name__,
)
def test_each_message_survives_the_pipe(message: Message) -> None:
    data = encode_message(2**60, message)
    decoder = MessageDecoder()
    for position in range(0, len(data), 7):
        assert decoder.next_message() is None
        decoder.receive_data(data[position : position + 7])
    assert decoder.next_message() == (2**60, message)
    assert decoder.next_message() is None


def test_a_message_with_the_number_of_another_job_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair()
    monkeypatch.setattr(process.WorkerProcess, "_start", lambda _: MessagePipe(here))
    child = process.WorkerProcess("f", b"")
    job = Mock(assignment=ASSIGNMENT, server="server", max_packet_size=1000)
    with there:
        there.sendall(encode_message(0, Completed(b"late")) + encode_message(1, Completed(b"first")))
        assert child.run(job) == b"first"
        there.sendall(encode_message(1, Completed(b"of a copy")) + encode_message(2, Completed(b"second")))
        assert child.run(job) == b"second"
        child.close_pipe()


@pytest.mark.parametrize("sent", [0, 8, -1])
def test_an_incomplete_message_is_the_end_of_the_pipe(sent: int) -> None:
    """The connection stays open, because another process holds its other end."""
    here, there = socket.socketpair()
    reading, writing = os.pipe()
    with here, there:
        pipe = MessagePipe(here, reading)
        there.sendall(encode_message(1, LostReply(True)) + encode_message(1, Completed(b"result"))[:sent])
        os.write(writing, b".")
        assert pipe.receive() == (1, LostReply(True))
        with pytest.raises(EOFError):
            pipe.receive()
        with pytest.raises(EOFError):
            pipe.send(1, Completed(bytes(16 * 1024 * 1024)))  # more than the socket buffer holds
    os.close(reading)
    os.close(writing)


def test_only_the_running_job_can_send_updates() -> None:
    here, there = socket.socketpair()
    with here, there:
        reporter = main.PipeReporter(MessagePipe(here), 1, RunJob(*ASSIGNMENT, "server", 1000))
        reporter.end(Completed(b""))
        assert reporter.is_lost
        with pytest.raises(LocalProtocolError, match="the job H:1 of 'f' has ended"):
            reporter.send_update(PacketType.WORK_DATA, b"")


# What a function in a process may do.


async def test_standard_input_of_a_process_is_empty() -> None:
    reading, writing = os.pipe()
    ours = os.dup(0)
    os.dup2(reading, 0)  # it never ends
    try:
        async with serving(forking_functions.read_standard_input) as client:
            assert await client.do("f") == ("WORK_COMPLETE", b"b'' '' 0")
    finally:
        os.dup2(ours, 0)
        for descriptor in (reading, writing, ours):
            os.close(descriptor)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
async def test_a_process_may_have_children(method: str) -> None:
    async with serving(forking_functions.use_multiprocessing) as client:
        assert await client.do("f", method.encode()) == ("WORK_COMPLETE", b"14")


@pytest.mark.traced_processes
async def test_forked_children_of_a_function_are_ended_by_signals() -> None:
    async with serving(forking_functions.terminate_child) as client:
        assert await client.do("f", b"SIGTERM") == ("WORK_COMPLETE", b"-15")
        assert await client.do("f", b"SIGHUP") == ("WORK_COMPLETE", b"-1")


async def test_programs_of_a_function_do_not_ignore_signals() -> None:
    async with serving(forking_functions.use_shell) as client:
        _, status = await client.do("f")
    masks = dict(line.split(":\t") for line in status.decode().splitlines() if line.startswith("Sig"))
    for number in main.GROUP_SIGNALS:
        for mask in ("SigIgn", "SigBlk"):
            assert not int(masks[mask], 16) >> (number - 1) & 1


@pytest.mark.traced_processes
@pytest.mark.parametrize("number", main.GROUP_SIGNALS)
async def test_a_signal_to_the_process_group_lets_the_job_end(number: signal.Signals) -> None:
    async with serving(forking_functions.wait_for_signal) as client:
        await client.submit("f")
        pid = int((await client.receive())[1].partition(b"\0")[2])
        os.kill(pid, number)
        os.kill(pid, signal.SIGUSR1)
        assert await client.updates() == [("WORK_COMPLETE", b"done")]


async def test_a_signal_to_the_process_group_does_not_end_a_process_that_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def signal_and_open(popen: subprocess.Popen[bytes]) -> int:
        for number in main.GROUP_SIGNALS:
            popen.send_signal(number)
        return exit_descriptor.open_exit_descriptor(popen)

    monkeypatch.setattr(interpreter, "open_exit_descriptor", signal_and_open)
    async with serving(process_functions.pid) as client:
        assert (await client.do("f"))[0] == "WORK_COMPLETE"


# The event loop.


@pytest.mark.parametrize("watcher", ["pidfd", "thread"])
async def test_a_job_that_times_out_while_its_process_starts_does_not_block_the_loop(
    watcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process never reads its job, which is larger than the pipe buffer."""
    watch_by(watcher, monkeypatch)
    monkeypatch.setattr(interpreter, "get_command_line", lambda **_: ["sleep", "600"])
    call = partial(forking_functions.ignore, bytes(200_000))
    async with serving(call, timeout=0.2, middleware=(pass_through,)) as client:
        for _ in range(2):
            assert await client.do("f") == ("WORK_EXCEPTION", b"TimeoutError: 'f' took longer than 0.2 s")


def test_a_process_that_is_killed_before_it_starts_ends_its_job() -> None:
    child = process.WorkerProcess("f", b"")
    child.kill()
    with pytest.raises(ChildProcessError, match="was killed by SIGKILL"):
        child.run(SimpleNamespace(assignment=ASSIGNMENT, server="", max_packet_size=1024))
    child.end()


async def test_a_worker_ends_its_processes_though_the_default_executor_is_busy() -> None:
    go_on = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, go_on.wait, 60)
    async with serving(process_functions.pid) as client:
        _, pid = await client.do("f")
    assert not is_alive(int(pid))
    assert not busy.done()
    go_on.set()
    await busy


async def test_a_process_that_cannot_be_started_is_an_exception_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "get_command_line", lambda **_: [forking_functions.NO_PROGRAM])
    async with serving(process_functions.pid, middleware=(pass_through,)) as client:
        _, text = await client.do("f")
        assert text.startswith(b"FileNotFoundError: ")
        monkeypatch.undo()
        assert (await client.do("f"))[0] == "WORK_COMPLETE"


async def test_a_failed_start_leaves_no_process_and_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[subprocess.Popen[bytes]]()

    def fail(popen: subprocess.Popen[bytes]) -> int:
        started.append(popen)
        raise OSError("no more descriptors")

    monkeypatch.setattr(interpreter, "open_exit_descriptor", fail)
    async with serving(process_functions.pid, middleware=(pass_through,)) as client:
        before = len(os.listdir("/proc/self/fd"))
        assert await client.do("f") == ("WORK_EXCEPTION", b"OSError: no more descriptors")
        assert len(os.listdir("/proc/self/fd")) == before
    assert started[0].returncode == -signal.SIGKILL


def read_job(job: WorkerJob) -> bytes:
    return job.workload


async def test_workloads_and_results_may_be_larger_than_the_pipe_buffer() -> None:
    async with serving(read_job) as client:
        data = os.urandom(3_000_000)
        assert await client.do("f", data) == ("WORK_COMPLETE", data)
