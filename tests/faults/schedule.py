"""The faults of a run: which target, when and for how long, all drawn from one seed; and the code of each."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from tests.faults.jobs import FUNCTIONS
from tests.faults.targets import Site, WorkerProcess
from tests.support.gearmand import ask
from tests.support.processes import send_signal
from tests.support.proxy import Proxy, Way

MEAN: Final = 0.7  # seconds that a fault lasts; some are longer than a heartbeat
LONGEST: Final = 2.5


class Fault(NamedTuple):
    """
    One fault.

    Attributes:
        name: Its key in the tables below.
        wait: Seconds since the end of the previous fault.
        seconds: How long it lasts.
        size: Bytes until it happens, for faults that depend on it.
    """

    name: str
    wait: float
    seconds: float
    size: int


# Job servers.


async def _end_server(site: Site, fault: Fault, sign: int) -> None:
    await asyncio.to_thread(site.gearmand.kill, sign)
    await asyncio.sleep(fault.seconds)
    await asyncio.to_thread(site.gearmand.start)


async def _kill_server(site: Site, fault: Fault) -> None:
    await _end_server(site, fault, signal.SIGKILL)


async def _terminate_server(site: Site, fault: Fault) -> None:
    await _end_server(site, fault, signal.SIGTERM)


async def _retire_server(site: Site, fault: Fault) -> None:
    """Shut it down gracefully: it accepts no new connections and exits after its last job. Then start another."""
    send_signal(site.gearmand.pid, signal.SIGUSR1)
    await asyncio.sleep(fault.seconds)
    await asyncio.to_thread(site.gearmand.restart)


async def _pause_server(site: Site, fault: Fault) -> None:
    await asyncio.to_thread(site.gearmand.pause)
    await asyncio.sleep(fault.seconds)
    site.gearmand.resume()


async def _restart_server(site: Site, fault: Fault) -> None:
    await asyncio.to_thread(site.gearmand.restart)


async def _replace_server(site: Site, fault: Fault) -> None:
    await site.replace()


async def _leave_no_descriptors(site: Site, fault: Fault) -> None:
    """Leave the server no file descriptor for a connection, and reset the existing connections."""
    pid, limit = site.gearmand.pid, resource.RLIMIT_NOFILE
    before = resource.prlimit(pid, limit)
    resource.prlimit(pid, limit, (3, before[1]))
    await site.for_clients.reset()
    await site.for_workers.reset()
    await asyncio.sleep(fault.seconds / 2)  # meanwhile it uses a whole core
    resource.prlimit(pid, limit, before)


async def _fill_queues(site: Site, fault: Fault) -> None:
    for function in FUNCTIONS:
        await asyncio.to_thread(ask, site.gearmand.port, f"maxqueue {function} 2")
    await asyncio.sleep(fault.seconds)
    for function in FUNCTIONS:
        await asyncio.to_thread(ask, site.gearmand.port, f"maxqueue {function} 0")


# Wires.


async def _cut(wire: Proxy, fault: Fault) -> None:
    wire.cut()


async def _cut_inside(wire: Proxy, fault: Fault) -> None:
    wire.cut_after(Way.TO_SERVER if fault.size % 2 else Way.TO_CLIENT, fault.size)
    await asyncio.sleep(fault.seconds)


async def _reset(wire: Proxy, fault: Fault) -> None:
    await wire.reset()


async def _stall_to_server(wire: Proxy, fault: Fault) -> None:
    wire.stall(Way.TO_SERVER)
    await asyncio.sleep(fault.seconds)


async def _stall_to_client(wire: Proxy, fault: Fault) -> None:
    wire.stall(Way.TO_CLIENT)
    await asyncio.sleep(fault.seconds)


async def _stall(wire: Proxy, fault: Fault) -> None:
    wire.stall()
    await asyncio.sleep(fault.seconds)


async def _delay(wire: Proxy, fault: Fault) -> None:
    wire.delay(fault.seconds / 20)
    await asyncio.sleep(fault.seconds)


async def _split(wire: Proxy, fault: Fault) -> None:
    wire.split()
    await asyncio.sleep(fault.seconds / 4)  # each byte takes two turns of the loop


async def _refuse(wire: Proxy, fault: Fault) -> None:
    await wire.refuse()
    await wire.reset()
    await asyncio.sleep(fault.seconds)


async def _play_dead(wire: Proxy, fault: Fault) -> None:
    """Bytes of connections made meanwhile are dropped, even later: only a heartbeat can detect that."""
    await wire.play_dead()
    await wire.reset()
    await asyncio.sleep(fault.seconds)


# All wires of the clients, or of the workers, at once: retries fail as well, and queues fill up.


async def _refuse_all(one: Proxy, other: Proxy, fault: Fault) -> None:
    await asyncio.gather(_refuse(one, fault), _refuse(other, fault))


# Worker processes.


async def _kill_worker(worker: WorkerProcess, fault: Fault) -> None:
    await worker.end(signal.SIGKILL)
    await asyncio.sleep(fault.seconds)
    await worker.start()


async def _stop_worker(worker: WorkerProcess, fault: Fault) -> None:
    await worker.end(signal.SIGTERM)
    await asyncio.sleep(fault.seconds)
    await worker.start()


async def _pause_worker(worker: WorkerProcess, fault: Fault) -> None:
    send_signal(worker.pid, signal.SIGSTOP)
    await asyncio.sleep(fault.seconds)
    send_signal(worker.pid, signal.SIGCONT)


Inject = Callable[..., Awaitable[None]]

SERVER_FAULTS: Final[Mapping[str, Inject]] = {
    "kill -9 gearmand": _kill_server,
    "SIGTERM gearmand": _terminate_server,
    "SIGUSR1 gearmand": _retire_server,
    "SIGSTOP gearmand": _pause_server,
    "restart gearmand": _restart_server,
    "replace gearmand": _replace_server,
    "no descriptors": _leave_no_descriptors,
    "full queues": _fill_queues,
}
WIRE_FAULTS: Final[Mapping[str, Inject]] = {
    "cut": _cut,
    "cut inside": _cut_inside,
    "reset": _reset,
    "stall to server": _stall_to_server,
    "stall to client": _stall_to_client,
    "stall": _stall,
    "delay": _delay,
    "split": _split,
    "refuse": _refuse,
    "play dead": _play_dead,
}
OUTAGES: Final[Mapping[str, Inject]] = {"refuse all": _refuse_all}
WORKER_FAULTS: Final[Mapping[str, Inject]] = {
    "kill -9 worker": _kill_worker,
    "SIGTERM worker": _stop_worker,
    "SIGSTOP worker": _pause_worker,
}
FAULTS: Final = {**SERVER_FAULTS, **WIRE_FAULTS, **OUTAGES, **WORKER_FAULTS}
"""All faults by name; wires are restored after each."""


def draw_faults(
    randomness: random.Random, names: Mapping[str, Inject], mean_wait: float, seconds: float
) -> list[Fault]:
    """Draw the faults of one target, one after the other, for a number of seconds."""
    faults: list[Fault] = []
    used = 0.0
    while True:
        fault = Fault(
            randomness.choice(list(names)),
            randomness.expovariate(1 / mean_wait),
            min(randomness.expovariate(1 / MEAN), LONGEST),
            randomness.randint(1, 3000),
        )
        used += fault.wait + fault.seconds
        if used > seconds:
            return faults
        faults.append(fault)
