"""
Small programs that use ``geartrain.blocking``, each in a process of its own.

usage: python -m tests.blocking.programs NAME ADDRESS

The job server has workers for ``reverse`` and ``stream``, and none for ``never``.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest import mock

from geartrain import JobTimeoutError, LocalProtocolError
from geartrain.blocking import Admin, Client, shared_thread
from tests.support.eventually import wait_until
from tests.support.forked_coverage import save_before_forks

address = sys.argv[2] if len(sys.argv) > 2 else os.environ.get("GEARMAN_SERVERS", "127.0.0.1")
client = Client(address)  # at module level, as in a web application


def check(text: bytes) -> None:
    assert client.do("reverse", text, timeout=20) == text[::-1]


def in_child(call: Callable[[], None]) -> None:
    """Run a call in a forked process."""
    pid = os.fork()
    if pid == 0:
        try:
            call()
            os._exit(0)
        except BaseException:  # noqa: BLE001  # printed, and the status says so
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# Forks.


def fork_before_the_first_use() -> None:
    in_child(lambda: check(b"child"))
    check(b"parent")


def fork_after_use() -> None:
    check(b"before")
    in_child(lambda: check(b"child"))
    check(b"after")
    assert client.statistics().completed == 2


def fork_in_a_fork() -> None:
    check(b"before")

    def child() -> None:
        check(b"child")
        in_child(lambda: check(b"grandchild"))
        check(b"child again")

    in_child(child)
    check(b"after")


def fork_amid_calls_of_other_threads() -> None:
    stopping = threading.Event()
    rounds = [0] * 4

    def work(number: int) -> None:
        while not stopping.is_set():
            check(b"thread %d" % number)
            rounds[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(rounds))]
    for thread in threads:
        thread.start()
    for number in range(5):
        in_child(lambda number=number: check(b"child %d" % number))  # type: ignore[misc]
    before = list(rounds)
    wait_until(lambda: all(now > then for now, then in zip(rounds, before, strict=True)))
    stopping.set()
    for thread in threads:
        thread.join()


def a_job_of_the_parent_is_an_error_in_the_child() -> None:
    job = client.submit("never")
    job.created(10)

    def child() -> None:
        done, _ = concurrent.futures.wait([job])
        assert done == {job}
        assert isinstance(job.exception(), LocalProtocolError)
        assert "forked" in str(job.exception())
        check(b"child")

    in_child(child)
    assert not job.done()
    assert job.cancel()


def closing_before_a_fork_leaves_one_thread() -> None:
    own = Client(address)
    assert own.do("reverse", b"abc") == b"cba"
    own.close()
    assert len(os.listdir("/proc/self/task")) == 1
    in_child(lambda: check(b"child"))


def reverse_in_a_process(text: bytes) -> bytes:
    return client.do("reverse", text, timeout=20)


def multiprocessing_with_each_start_method() -> None:
    check(b"before")
    os.environ["GEARMAN_SERVERS"] = address
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(reverse_in_a_process, [b"abc", b"de"]) == [b"cba", b"ed"], method
            pool.close()
            pool.join()
    check(b"after")


# The end of the interpreter.


def exit_with_jobs_pending() -> None:
    client.submit("never").created(10)
    client.submit("never", background=True)
    sys.exit(3)


def exit_right_after_submitting() -> None:
    for _ in range(100):
        client.submit("never", background=True)


def submit_and_end(function: str) -> None:
    for _ in range(100):
        client.submit(function, background=True)


def a_process_of_multiprocessing_ends_right_after_submitting() -> None:
    check(b"before")  # so that a forked process has a client that was used
    os.environ["GEARMAN_SERVERS"] = address
    totals = {f"never_{method}_{os.getpid()}": 100 for method in ("fork", "spawn", "forkserver")}
    for function in totals:
        with ProcessPoolExecutor(1, multiprocessing.get_context(function.split("_")[1])) as processes:
            processes.submit(submit_and_end, function).result()
    with Admin(address) as admin:
        assert totals == {each.function: each.total for each in admin.status() if each.function in totals}


def a_thread_of_a_process_of_multiprocessing_waits_at_its_end() -> None:
    def wait() -> None:
        try:
            client.do("never", timeout=1)
        except JobTimeoutError:
            print("right", flush=True)

    def child() -> None:
        threading.Thread(target=wait).start()
        wait_until(lambda: client.statistics().outstanding)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(20)
    assert process.exitcode == 0


def exit_while_a_daemon_thread_waits() -> None:
    threading.Thread(target=client.do, args=("never",), daemon=True).start()
    wait_until(lambda: client.statistics().outstanding)


def a_thread_outlives_the_main_thread() -> None:
    def work() -> None:
        threading.main_thread().join()
        check(b"late")
        print("right")

    threading.Thread(target=work).start()


# Interrupts.


def main_thread_waits() -> bool:
    """
    Whether the main thread sleeps in a wait.

    Python does not notice a signal that comes after the last check for one, and before the system call that waits.
    """
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    state = Path(f"/proc/self/task/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[0]
    return frame.f_code.co_name in ("get", "wait") and state == "S"


def interrupt(call: Callable[[], object]) -> None:
    """Send this process a Ctrl-C while a call waits for a job."""

    def send() -> None:
        wait_until(lambda: client.statistics().outstanding)
        wait_until(main_thread_waits)
        os.kill(os.getpid(), signal.SIGINT)

    cancelled = client.statistics().cancelled
    thread = threading.Thread(target=send)
    thread.start()
    try:
        call()
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("it was not interrupted")
    thread.join()
    wait_until(lambda: client.statistics().cancelled > cancelled)
    assert client.statistics().outstanding == 0
    check(b"afterwards")


def interrupts_cancel_the_job() -> None:
    check(b"before")
    interrupt(lambda: client.do("never"))
    interrupt(lambda: client.submit("never").result())
    interrupt(lambda: next(client.submit("never").updates()))
    interrupt(lambda: next(client.map("never", [b"1", b"2", b"3"])))


def an_exception_thrown_into_a_generator_ends_it() -> None:
    stream = client.submit("stream", b"5").updates()
    results = client.map("reverse", itertools.repeat(b"ab"))
    for generator in (stream, results):
        assert isinstance(generator, Generator)
        next(generator)
        try:
            generator.throw(OSError("thrown"))
        except OSError:
            pass
        else:
            raise AssertionError("it was not raised")
    check(b"afterwards")
    client.drain(10)


def a_callback_that_exits_ends_nothing_else() -> None:
    def leave(_: bytes) -> None:
        sys.exit(5)

    client.do("reverse", b"abc", on_complete=leave)
    check(b"afterwards")


def a_callback_that_never_returns_does_not_keep_the_process() -> None:
    mock.patch.multiple(shared_thread, FLUSH_TIMEOUT=0.1, CLOSE_TIMEOUT=0.1).start()  # how long the exit waits for it
    stuck = threading.Event()

    def block(_: bytes) -> None:
        stuck.set()
        threading.Event().wait()

    client.submit("reverse", b"abc", on_complete=block)
    stuck.wait(10)


def two_threads_close_at_the_same_time() -> None:
    for _ in range(50):
        own = Client(address)
        assert own.do("reverse", b"abc") == b"cba"
        closing = [threading.Thread(target=own.close) for _ in range(4)]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        wait_until(lambda: len(os.listdir("/proc/self/task")) == 1)  # a joined thread exists a little longer


def programs() -> Iterator[str]:
    own = {"check", "in_child", "interrupt", "main_thread_waits", "programs", "reverse_in_a_process"}
    own |= {"submit_and_end", "save_before_forks", "wait_until"}
    for name, value in globals().items():
        if callable(value) and getattr(value, "__module__", "") == __name__ and name not in own:
            yield name


if __name__ == "__main__":
    save_before_forks()
    globals()[sys.argv[1]]()
