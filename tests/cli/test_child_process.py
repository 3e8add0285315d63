"""Child processes are killed together with everything they have started, however they end."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL
from threading import get_native_id

import pytest

from geartrain.cli.child_process import ChildProcess
from geartrain.cli.pipes import InputPipe, OutputPipe
from tests.cli.command import is_alive
from tests.support.eventually import eventually


@pytest.fixture(params=["pidfd", "thread"], autouse=True)
def exit_notification(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with pidfd_open, which only Linux has, and without it."""

    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    if request.param == "thread":
        monkeypatch.setattr(os, "pidfd_open", refuse)


@asynccontextmanager
async def run_script(script: str) -> AsyncIterator[tuple[ChildProcess, OutputPipe]]:
    """Run a shell script whose standard output is a pipe."""
    with OutputPipe() as stdout:
        process = ChildProcess(["sh", "-c", script], stdin=DEVNULL, stdout=stdout.child_end)
        stdout.close_child_end()
        try:
            yield process, stdout
        finally:
            await process.kill()


async def read_pid(pipe: OutputPipe) -> int:
    """Read a line that contains a process ID."""
    text = b""
    async for chunk in pipe.read():
        text += chunk
        if text.endswith(b"\n"):
            break
    return int(text)


def find_children() -> set[str]:
    """Return the IDs of the processes that this thread has started, including unreaped ones."""
    # Only of this thread: another one may end during the read.
    return set(Path(f"/proc/self/task/{get_native_id()}/children").read_text().split())


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9)])
async def test_wait_returns_the_exit_status_and_kills_the_process_group(script: str, status: int) -> None:
    before = find_children()
    async with run_script(f"sleep 60 & echo $!; {script}") as (process, stdout):
        sleeper = await read_pid(stdout)
        assert await process.wait() == status
        await eventually(lambda: not is_alive(sleeper))
    assert find_children() == before


async def test_kill_ends_the_process_group() -> None:
    async with run_script("sleep 60 & echo $!; wait") as (process, stdout):
        sleeper = await read_pid(stdout)
        assert await process.kill() == -signal.SIGKILL
        await eventually(lambda: not is_alive(sleeper))


async def test_wait_ignores_processes_that_inherited_a_pipe() -> None:
    async with run_script("setsid sh -c 'echo $$; exec sleep 60' & sleep 60") as (process, stdout):
        sleeper = await read_pid(stdout)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM
        assert is_alive(sleeper), "it has its own session"
        stdout.finish()
        assert [chunk async for chunk in stdout.read()] == []
        os.kill(sleeper, signal.SIGKILL)


@pytest.mark.parametrize("turns", range(1, 5))
async def test_kill_waits_for_the_exit_even_if_cancelled_repeatedly(turns: int) -> None:
    before = find_children()
    async with run_script("sleep 60") as (process, _):
        killing = asyncio.create_task(process.kill())
        while not killing.done():
            for _ in range(turns):
                await asyncio.sleep(0)
            killing.cancel()
            await asyncio.sleep(0)
        assert find_children() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_sending_a_signal_to_an_exited_process_is_not_an_error(number: signal.Signals) -> None:
    async with run_script("exit 0") as (process, _):
        await eventually(lambda: not is_alive(process.pid))
        process.send_signal(number)  # whether its exit has been noticed or not
        assert await process.wait() == 0
        process.send_signal(number)
        assert await process.kill() == 0


async def test_a_command_that_cannot_be_started_leaves_no_process() -> None:
    before = find_children()
    with pytest.raises(FileNotFoundError):
        ChildProcess(["/nowhere/to/be/found"])
    assert find_children() == before


async def test_a_child_need_not_read_its_input() -> None:
    with InputPipe() as stdin:
        process = ChildProcess(["true"], stdin=stdin.child_end)
        stdin.close_child_end()
        await stdin.write(bytes(1_000_000))
        assert await process.wait() == 0


async def test_a_child_reads_all_of_its_input() -> None:
    with InputPipe() as stdin, OutputPipe() as stdout:
        process = ChildProcess(["cat"], stdin=stdin.child_end, stdout=stdout.child_end)
        stdin.close_child_end()
        stdout.close_child_end()
        data = bytes(range(256)) * 8192
        writing = asyncio.create_task(stdin.write(data))
        assert b"".join([chunk async for chunk in stdout.read()]) == data
        await writing
        assert await process.wait() == 0
