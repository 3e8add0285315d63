"""The load of a soak: users that repeatedly do random actions with a client, and check the results."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Final

from geartrain import (
    Admin,
    Client,
    GearmanError,
    JobData,
    JobExceptionError,
    JobFailedError,
    JobTimeoutError,
    Worker,
    WorkerJob,
)
from tests.soak.maps import Maps

USERS: Final = 16
PAUSE: Final = 0.05  # mean seconds between two actions of a user
HEARTBEAT: Final = 2.0  # seconds
PATIENCE: Final = 20.0  # seconds for a job with all its tries
WITHIN: Final = 60.0  # seconds after which an action is considered to hang

log = logging.getLogger("tests.soak")
log.addHandler(logging.NullHandler())
log.propagate = False  # faults and exceptions of functions are intentional here


class WrongResultError(Exception):
    """A job did not get its own result."""


def check(result: object, expected: object) -> None:
    if result != expected:
        raise WrongResultError(f"got {result!r}, not {expected!r}")


def make_worker(servers: list[str], maps: Maps) -> Worker:
    worker = Worker(servers, concurrency=50, heartbeat=HEARTBEAT, connect_timeout=1, logger=log)

    @worker.function("reverse")
    async def reverse(job: WorkerJob) -> bytes:
        return job.workload[::-1]

    @worker.function("slow")
    async def slow(job: WorkerJob) -> bytes:
        await asyncio.sleep(0.2)
        return job.workload

    @worker.function("stream")
    async def stream(job: WorkerJob) -> AsyncGenerator[bytes, None]:
        for number in range(5):
            job.send_status(number, 5)
            yield b"%d" % number

    @worker.function("thread")
    def thread(job: WorkerJob) -> bytes:
        return job.workload.upper()

    @worker.function("fail")
    async def fail(job: WorkerJob) -> None:
        raise JobFailedError("as requested")

    @worker.function("raise")
    async def throw(job: WorkerJob) -> None:
        raise ValueError("as requested")

    worker.function("as-named")(maps.work)
    return worker


def upper(job: WorkerJob) -> bytes:
    """Send an update and return the result, in a thread or a process."""
    job.send_status(1, 1)
    return job.workload.upper()


def make_plain_workers(servers: list[str]) -> list[Worker]:
    """Return a worker whose thread also reads, and one whose processes have their own connections."""
    thread = Worker(servers, heartbeat=HEARTBEAT, connect_timeout=1, logger=log)
    thread.function("plain")(upper)
    processes = Worker(servers, concurrency=2, heartbeat=HEARTBEAT, connect_timeout=1, logger=log)
    processes.function("process", processes=2)(upper)
    return [thread, processes]


class Load:
    """
    The users of the job servers.

    Args:
        servers: The addresses of all job servers; the first is a gearmand.
        rng: Chooses the actions.

    Attributes:
        done: The number of actions, by name.
        errors: The number of actions that ended with an error that faults explain, by type.
        wrong: Errors that faults do not explain.
    """

    def __init__(self, servers: list[str], rng: random.Random) -> None:
        self.servers = servers
        self.rng = rng
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._client = self.make_client()
        self._mapper = Client(servers[:1], heartbeat=HEARTBEAT, connect_timeout=1, dead_time=0.5, logger=log)
        self._maps = Maps(rng)
        self._stopped = False

    def make_client(self) -> Client:
        return Client(self.servers, heartbeat=HEARTBEAT, connect_timeout=1, dead_time=0.5, logger=log)

    async def run(self, seconds: float) -> None:
        """Run for ``seconds``, and close everything."""
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.wrong.append(repr(context)))
        workers = [make_worker(self.servers, self._maps), *make_plain_workers(self.servers)]
        running = [asyncio.create_task(worker.run()) for worker in workers]
        try:
            async with self._client, self._mapper, asyncio.timeout(seconds + WITHIN):
                users = [asyncio.create_task(self._run_user()) for _ in range(USERS)]
                await asyncio.sleep(seconds)
                self._stopped = True
                await asyncio.gather(*users)
        finally:
            for worker in workers:
                worker.stop()
            await asyncio.gather(*running)
            self.errors += self._maps.errors
            self.wrong += self._maps.wrong

    async def _run_user(self) -> None:
        while not self._stopped:
            await asyncio.sleep(self.rng.uniform(0, 2 * PAUSE))
            name = self.rng.choice(list(ACTIONS))
            try:
                async with asyncio.timeout(WITHIN):
                    await ACTIONS[name](self, self._client)
            except GearmanError as error:
                self.errors[type(error).__name__] += 1
            except Exception as error:  # noqa: BLE001  # any other exception is a failure
                self.wrong.append(f"{name}: {type(error).__name__}: {error}")
            self.done[name] += 1

    # Actions of users. Faults may end them with a GearmanError.

    async def do(self, client: Client) -> None:
        workload = self.rng.randbytes(self.rng.choice((0, 10, 1000, 100_000)))
        check(await client.do("reverse", workload, timeout=PATIENCE, retry_count=5), workload[::-1])

    async def threads(self, client: Client) -> None:
        check(await client.do("thread", b"abc", timeout=PATIENCE, retry_count=5), b"ABC")

    async def plain(self, client: Client) -> None:
        workload = b"%d abc" % self.rng.randrange(1000)
        for function in ("plain", "process"):
            check(await client.do(function, workload, timeout=PATIENCE, retry_count=5), workload.upper())

    async def merge(self, client: Client) -> None:
        workload = b"%d" % self.rng.randrange(10)
        jobs = [client.submit("slow", workload, unique="-", timeout=PATIENCE, retry_count=5) for _ in range(3)]
        for result in await asyncio.gather(*jobs, return_exceptions=True):
            if not isinstance(result, GearmanError):
                check(result, workload)

    async def iterate(self, client: Client) -> None:
        job = client.submit("stream", timeout=PATIENCE, try_timeout=5)
        parts = [update.data async for update in job if isinstance(update, JobData)]
        check(await job, b"")
        check(parts, [b"0", b"1", b"2", b"3", b"4"])

    async def call_back(self, client: Client) -> None:
        calls: list[object] = []

        async def on_data(data: bytes) -> None:
            await asyncio.sleep(0)
            calls.append(data)

        await client.do("stream", timeout=PATIENCE, on_data=on_data, on_fail=calls.append, on_complete=calls.append)

    async def fail(self, client: Client) -> None:
        try:
            await client.do("fail", timeout=PATIENCE, retry_count=1)
        except JobFailedError:
            return
        raise WrongResultError("a failing job was completed")

    async def throw(self, client: Client) -> None:
        try:
            await client.do("raise", timeout=PATIENCE)
        except JobExceptionError as error:
            check(error.data, b"ValueError: as requested")
        else:
            raise WrongResultError("a raising job was completed")

    async def time_out(self, client: Client) -> None:
        try:
            await client.do("slow", timeout=0.05)
        except JobTimeoutError:
            return
        raise WrongResultError("a job was completed after its timeout")

    async def cancel(self, client: Client) -> None:
        job = client.submit(
            "slow", on_fail=lambda error: None
        )  # otherwise the error of a job without an awaiter is reported
        if self.rng.random() < 0.5:
            await asyncio.wait_for(job.created(), PATIENCE)
        job.cancel()

    async def map(self, client: Client) -> None:
        workloads = [b"%d" % self.rng.randrange(1000) for _ in range(20)]
        results = client.map("reverse", workloads, limit=5, timeout=PATIENCE, retry_count=5)
        check([result async for result in results], [workload[::-1] for workload in workloads])

    async def map_together(self, _: Client) -> None:
        """Map on one job server, so that plain jobs are sent together, unless another user already does."""
        if not self._maps.running:
            await self._maps.map(self._mapper, "as-named")

    async def background(self, client: Client) -> None:
        handle = await client.do_background("slow", timeout=PATIENCE)
        await client.get_status(handle)

    async def query(self, client: Client) -> None:
        await client.ping()
        await client.workers_for("reverse")
        statistics = client.statistics()
        ends = statistics.completed + statistics.failed + statistics.cancelled + statistics.outstanding
        check(statistics.submitted, ends)

    async def use_new_clients(self, _: Client) -> None:
        """Use a new client, admin client and worker."""
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(self.make_client())
            admin = await stack.enter_async_context(Admin(self.rng.choice(self.servers), timeout=2, connect_timeout=1))
            worker = make_worker(self.servers, self._maps)
            running = asyncio.create_task(worker.run())
            stack.push_async_callback(asyncio.wait, [running])
            stack.callback(worker.stop)
            await client.do("reverse", b"abc", timeout=PATIENCE, retry_count=5)
            await admin.status()


ACTIONS: Final[Mapping[str, Callable[[Load, Client], Awaitable[None]]]] = {
    "do": Load.do,
    "threads": Load.threads,
    "plain functions": Load.plain,
    "merge": Load.merge,
    "iterate": Load.iterate,
    "call back": Load.call_back,
    "fail": Load.fail,
    "throw": Load.throw,
    "time out": Load.time_out,
    "cancel": Load.cancel,
    "map": Load.map,
    "map together": Load.map_together,
    "background": Load.background,
    "query": Load.query,
    "use new clients": Load.use_new_clients,
}
