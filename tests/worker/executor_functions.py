"""One plain function that does what its workload says, in whatever executor runs it."""

from __future__ import annotations

import contextvars
import os
import signal
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from geartrain.errors import JobFailedError, LocalProtocolError
from geartrain.worker import WorkerJob

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


def obey(job: WorkerJob) -> Any:
    """Do what the workload says: a word, then its arguments."""
    word, *arguments = job.workload.decode().split()
    return ORDERS[word](job, *arguments)


def echo(job: WorkerJob, text: str = "") -> str:
    return text


def fail(job: WorkerJob) -> None:
    raise JobFailedError("no")


def crash(job: WorkerJob) -> None:
    raise KeyError("x")


def leave(job: WorkerJob) -> None:
    raise SystemExit(3)


def give_number(job: WorkerJob) -> int:
    return 3


def fill(job: WorkerJob, size: str) -> bytes:
    return bytes(int(size))


def report_and_wait(job: WorkerJob, path: str) -> str:
    """Send updates, then wait for a file: the updates must arrive before the function ends."""
    job.send_data("part")
    job.send_status(1, 2)
    job.send_warning("careful")
    return wait_for(job, path)


def wait_for(job: WorkerJob, path: str) -> str:
    """Wait for a file."""
    while not Path(path).exists():
        time.sleep(0.005)
    return "end"


def report_in_threads(job: WorkerJob) -> None:
    threads = [threading.Thread(target=job.send_data, args=(f"{number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def report_late(job: WorkerJob) -> str:
    """Leave a thread behind whose update must be refused."""
    late.append(job)
    try:
        late[0].send_data("late")
    except LocalProtocolError:
        return "refused"
    return "sent"


late: list[WorkerJob] = []


def yield_chunks(job: WorkerJob) -> Generator[str, None, str]:
    yield "1"
    yield "2"
    return "end"


def return_awaitable(job: WorkerJob) -> Any:
    async def answer() -> str:
        return "awaited"

    return answer()


def set_variable(job: WorkerJob, value: str) -> str:
    before = VARIABLE.get()
    VARIABLE.set(value)
    return before


def sleep(job: WorkerJob, seconds: str) -> str:
    time.sleep(float(seconds))
    return "slept"


def spin(job: WorkerJob, seconds: str) -> str:
    """Return after some seconds; spend the last ones computing."""
    until = time.monotonic() + float(seconds)
    time.sleep(max(float(seconds) - SPINNING, 0))
    while time.monotonic() < until:
        pass
    return "spun"


def wait_until_lost(job: WorkerJob) -> str:
    job.send_data("waiting")
    while not job.lost:
        time.sleep(0.005)
    return "lost"


def raise_when_lost(job: WorkerJob) -> None:
    wait_until_lost(job)
    raise KeyError("lost")


def fail_when_lost(job: WorkerJob) -> None:
    wait_until_lost(job)
    raise JobFailedError("lost")


def kill_process(delay: float) -> None:
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_start(job: WorkerJob, delay: str) -> None:
    kill_process(0)


def die_while_sending(job: WorkerJob, delay: str) -> None:
    threading.Thread(target=kill_process, args=(float(delay),)).start()
    while True:
        job.send_data(bytes(100_000))


def die_after_return(job: WorkerJob, delay: str) -> str:
    threading.Thread(target=kill_process, args=(float(delay),)).start()
    return "done"


def die_at_timeout(job: WorkerJob, delay: str) -> None:
    kill_process(TIMEOUT + float(delay) - 0.001)


TIMEOUT = 1.0  # seconds; includes the start of a process, which takes long on a busy machine
SPINNING = 0.05  # seconds

ORDERS: dict[str, Any] = {
    function.__name__: function
    for function in (
        *(
            echo,
            fail,
            crash,
            leave,
            give_number,
            fill,
            report_and_wait,
            wait_for,
            report_in_threads,
            report_late,
            yield_chunks,
        ),
        *(return_awaitable, set_variable, sleep, spin, wait_until_lost, raise_when_lost, fail_when_lost),
        *(die_at_start, die_while_sending, die_after_return, die_at_timeout),
    )
}
