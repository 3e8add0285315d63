"""Functions for threads and processes that fork, die or leave processes behind; imported by the processes."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from geartrain.errors import LocalProtocolError
from geartrain.worker import WorkerJob

NO_PROGRAM = "/no/such/program"


def fork_unknown_to_python() -> int:
    """Fork as a C library does; Python's hooks do not run."""
    return int(ctypes.PyDLL(None).fork())


# What a forked copy does before it returns. Each is called in the copy.


def return_from_copy() -> bytes:
    return b"of the copy"


def raise_in_copy() -> bytes:
    raise ValueError("of the copy")


def exit_in_copy() -> bytes:
    sys.exit(3)


def execute_nothing() -> bytes:
    os.execv(NO_PROGRAM, [NO_PROGRAM])


COPIES: dict[str, Callable[[], bytes]] = {
    "returns": return_from_copy,
    "raises": raise_in_copy,
    "exits": exit_in_copy,
    "execv": execute_nothing,
}


def fork_copy(job: WorkerJob) -> bytes:
    """Fork, and return the exit status of the copy; without a workload return the job's unique."""
    if not job.workload:
        return job.unique.encode()
    how, _, kind = job.workload.decode().partition(" ")
    pid = fork_unknown_to_python() if kind == "in C" else os.fork()
    if pid == 0:
        return COPIES[how]()
    return b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def fork_copy_in_loop(job: WorkerJob) -> bytes:
    return fork_copy(job)


def send_from_copy(job: WorkerJob) -> bytes:
    """Return what sending raises in a forked copy."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            job.send_data("of the copy")
        except LocalProtocolError as error:
            os.write(writing, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as said:
        return said.read()


def count_sockets() -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


def count_sockets_of_copy(job: WorkerJob) -> bytes:
    """Return how many sockets this process has, and how many a forked copy has."""
    if (pid := os.fork()) == 0:
        os._exit(count_sockets())
    return b"%d %d" % (count_sockets(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


# What outlives a process: each function starts a process that inherits all descriptors, and returns its ID.


def wait_forever() -> None:
    signal.pause()


def fork() -> int:
    if (pid := os.fork()) == 0:
        wait_forever()
    return pid


def fork_in_c() -> int:
    if (pid := fork_unknown_to_python()) == 0:
        wait_forever()
    return pid


def start_program() -> int:
    return subprocess.Popen(["sleep", "600"], close_fds=False).pid


def start_multiprocessing() -> int:
    process = multiprocessing.get_context("fork").Process(target=wait_forever)
    process.start()
    assert process.pid is not None
    return process.pid


def daemonize() -> int:
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.setsid()
        if (daemon := fork_unknown_to_python()) == 0:
            wait_forever()
        os.write(writing, b"%d" % daemon)
        os._exit(0)
    os.waitpid(pid, 0)
    number = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    return number


HELPERS: dict[str, Callable[[], int]] = {
    "os.fork": fork,
    "fork in C": fork_in_c,
    "subprocess": start_program,
    "multiprocessing": start_multiprocessing,
    "daemon": daemonize,
}


def die_while_sending(job: WorkerJob) -> None:
    threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGKILL)).start()
    while True:
        job.send_data(bytes(1024 * 1024))


def leave_behind(job: WorkerJob) -> None:
    """Start a process that keeps running, then end in the way that the workload names."""
    what, _, end = job.workload.decode().partition(", ")
    job.send_data(str(HELPERS[what]()))
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "exits":
        os._exit(3)
    if end == "killed while sending":
        die_while_sending(job)
    if end != "returns":
        time.sleep(600)


def close_everything(job: WorkerJob) -> None:
    """Close all descriptors, as code that makes daemons does."""
    os.closerange(3, 1024)
    time.sleep(600)


# What a function in a process may do.


def read_standard_input(job: WorkerJob) -> str:
    program = subprocess.run(["wc", "-c"], stdout=subprocess.PIPE, check=True).stdout
    return f"{os.read(0, 10)!r} {sys.stdin.read()!r} {int(program)}"


def square(number: int) -> int:
    return number * number


def use_multiprocessing(job: WorkerJob) -> str:
    with multiprocessing.get_context(job.workload.decode()).Pool(2) as pool:  # its end terminates its processes
        return str(sum(pool.map(square, range(4))))


def terminate_child(job: WorkerJob) -> str:
    """Terminate a forked child with the signal that the workload names; return its exit status."""
    process = multiprocessing.get_context("fork").Process(target=wait_forever)
    process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.Signals[job.workload.decode()])
    process.join(10)
    process.kill()
    return str(process.exitcode)


def use_shell(job: WorkerJob) -> bytes:
    return subprocess.run(["cat", "/proc/self/status"], stdout=subprocess.PIPE, check=True).stdout


def wait_for_signal(job: WorkerJob) -> str:
    """Report the process ID, and continue at SIGUSR1."""
    done = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: done.set())
    job.send_data(str(os.getpid()))
    while not done.wait(0.01):
        pass
    return "done"


left: list[WorkerJob] = []


def leave_job_to_thread(job: WorkerJob) -> str:
    """Keep the first job; in the second job, return what the first one can still do."""
    left.append(job)
    if len(left) == 1:
        return "first"
    try:
        left[0].send_data(b"")
    except LocalProtocolError as error:
        return f"{left[0].lost} {type(error).__name__}"
    return "sent"


class Unloadable:
    """A function whose module cannot be imported in the process, or kills it."""

    def __init__(self, how: Callable[..., Any], *arguments: Any) -> None:
        self._how = how, arguments

    def __call__(self, job: WorkerJob) -> None: ...

    def __reduce__(self) -> Any:
        return self._how


def kill_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ignore(data: bytes, job: WorkerJob) -> bytes:
    return b"%d" % len(data)
