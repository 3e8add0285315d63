"""Use from a wrong thread or event loop is rejected immediately, with an error that names the right way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from geartrain import Admin, AdminGroup, Client, JobServer, LocalProtocolError, Worker, WorkerJob
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.support.public_calls import Call, client_calls, job_calls, outcomes
from tests.support.working import working

BY_POST = "use geartrain.post or asyncio.run_coroutine_threadsafe"
BY_LOOP = "asyncio.run_coroutine_threadsafe"


async def check_rejected(calls: Mapping[str, Call], advice: str) -> None:
    """Check that each call is rejected in the loop of another thread."""
    lines = (await asyncio.to_thread(outcomes, calls)).splitlines()
    assert len(lines) == len(calls)
    for name, line in zip(calls, lines, strict=True):
        assert line.startswith(f"{name}: LocalProtocolError: "), line
        assert advice in line


async def test_calls_of_a_client_from_another_loop_are_rejected(gearmand: Gearmand) -> None:
    async with Client([gearmand.address]) as client:
        await client.do_background("f")
        await check_rejected(client_calls(client), BY_POST)
        assert client.job_servers == (gearmand.address,)


@pytest.mark.parametrize("name", ["add_task", "submit", "set_job_servers", "bind"])
async def test_a_client_is_rejected_in_a_thread_without_a_loop(name: str, gearmand: Gearmand) -> None:
    async with Client([gearmand.address]) as client:
        await client.do_background("f")
        with pytest.raises(LocalProtocolError, match=BY_POST):
            await asyncio.to_thread(client_calls(client)[name])


async def test_calls_of_a_job_from_another_loop_are_rejected(gearmand: Gearmand) -> None:
    async with Client([gearmand.address]) as client:
        job = client.submit("f")
        await job.created()
        await check_rejected(job_calls(client, job), BY_LOOP)
        with pytest.raises(LocalProtocolError, match=BY_LOOP):
            await asyncio.to_thread(job.cancel)
        assert not job.done()

        async def wait() -> bytes:
            return await job

        with pytest.raises(RuntimeError, match="attached to a different loop"):  # asyncio's own message
            await asyncio.to_thread(asyncio.run, wait())
        job.cancel()


async def test_jobs_left_when_asyncio_run_ends_are_cancelled_without_a_running_loop(gearmand: Gearmand) -> None:
    """``asyncio.run`` cancels the remaining tasks, and so the jobs they wait for, after its loop has stopped."""

    def run() -> str:
        with asyncio.Runner() as runner:

            async def main() -> asyncio.Task[bytes]:
                client = Client([gearmand.address])
                task = asyncio.ensure_future(do(client))
                await asyncio.sleep(0)
                return task

            async def do(client: Client) -> bytes:
                async with client:
                    return await client.do("f")

            task = runner.run(main())
        return repr(task.cancelled())

    assert await asyncio.to_thread(run) == "True"


async def test_calls_of_a_worker_and_its_jobs_from_another_loop_are_rejected(gearmand: Gearmand) -> None:
    worker = Worker([gearmand.address])
    jobs: list[WorkerJob] = []
    release = asyncio.Event()

    @worker.function("held")
    async def held(job: WorkerJob) -> None:
        jobs.append(job)
        await release.wait()

    async with working(worker), Client([gearmand.address]) as client:
        answer = client.submit("held")
        await eventually(lambda: jobs)
        calls: dict[str, Call] = {
            "run": worker.run,
            "function": lambda: worker.function("more")(str),
            "drain": jobs[0].drain,
        }
        await check_rejected(calls, BY_LOOP)
        assert worker.functions == ("held",)
        await asyncio.to_thread(jobs[0].send_data, b"from a thread")  # as in a plain function
        release.set()
        assert await answer == b""
        await asyncio.to_thread(worker.stop)  # which may be called in any thread


async def test_calls_of_admin_clients_and_job_servers_from_another_loop_are_rejected() -> None:
    async with JobServer(port=0) as server, Admin(server.address) as admin, AdminGroup([server.address]) as group:
        assert await admin.version() == (await group.version())[server.address]
        calls: dict[str, Call] = {
            "version": admin.version,
            "aclose": admin.aclose,
            "group version": group.version,
            "group aclose": group.aclose,
            "server aclose": server.aclose,
        }
        await check_rejected(calls, BY_LOOP)
        assert await admin.version()
