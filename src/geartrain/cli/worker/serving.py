"""Runs a worker or a supervisor, with the HTTP service beside it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from geartrain.cli.console import print_error
from geartrain.cli.exit_status import FAILED, SUCCESS
from geartrain.cli.messages import error_reason
from geartrain.cli.worker.process_health import JOB_DONE, answer
from geartrain.cli.worker.supervisor import Supervisor
from geartrain.cli.worker.user_traceback import print_user_traceback
from geartrain.errors import GearmanError
from geartrain.worker import Worker
from geartrain.worker.worker import set_metrics

if TYPE_CHECKING:
    from geartrain.http_service import HttpAddress

__all__ = ["serve_supervised", "serve_supervisor", "serve_worker"]


async def serve_worker(worker: Worker, http: HttpAddress | None) -> int:
    """Run a worker, and serve its health and metrics if there is an address; return the exit status."""
    with ExitStack() as stack:
        if http is not None:
            try:
                stack.enter_context(worker.serve_http(str(http)))
            except OSError as error:
                return _report_failure(http, error)
        return await _run(worker)


async def serve_supervised(worker: Worker, control_socket: socket.socket, *, record_metrics: bool) -> int:
    """Run a worker until the supervisor is gone, and answer its questions; return the exit status."""
    if record_metrics:
        from geartrain.worker.monitoring.prometheus import find_metrics

        set_metrics(worker, find_metrics())
    loop = asyncio.get_running_loop()
    control_socket.setblocking(False)

    def receive() -> None:
        if not answer(control_socket, worker):
            loop.remove_reader(control_socket)
            worker.stop()

    loop.add_reader(control_socket, receive)
    with control_socket:
        status = await _run(worker)
        loop.remove_reader(control_socket)
        statistics = worker.statistics()
        if statistics.completed + statistics.failed + statistics.raised:
            with contextlib.suppress(OSError):  # the supervisor is gone
                control_socket.send(JOB_DONE)
    return status


async def _run(worker: Worker) -> int:
    """Run a worker, report what its hooks raise, and return the exit status."""
    try:
        await worker.run()
    except GearmanError:
        raise  # its message says all
    except Exception as error:  # noqa: BLE001  # whatever the user's code raises
        print_user_traceback(error, may_be_ours=True)
        print_error(f"geartrain worker: the worker raised {type(error).__name__}")
        return FAILED
    return SUCCESS


async def serve_supervisor(supervisor: Supervisor, http: HttpAddress | None) -> int:
    """Run a supervisor, and serve the health and metrics of its processes if there is an address; return the status."""
    if http is None:
        return await supervisor.run()
    from geartrain.worker.monitoring.loop_watch import LoopWatch
    from geartrain.worker.monitoring.service import recording_metrics, serving_health

    watch = LoopWatch()

    def find_problem() -> str | None:
        return watch.find_problem() or supervisor.find_problem()

    with ExitStack() as stack:
        metrics = stack.enter_context(recording_metrics(several_processes=True))
        if metrics is not None:
            supervisor.record_metrics(metrics)
        try:
            stack.enter_context(serving_health(http, find_problem, supervisor.why_not_ready))
        except OSError as error:
            return _report_failure(http, error)
        stack.enter_context(watch.watching())
        stack.enter_context(_asking(supervisor))
        return await supervisor.run()


@contextmanager
def _asking(supervisor: Supervisor) -> Iterator[None]:
    asking = asyncio.create_task(supervisor.ask_processes())
    try:
        yield
    finally:
        asking.cancel()


def _report_failure(http: HttpAddress, error: OSError) -> int:
    print_error(f"geartrain worker: cannot listen on {http}: {error_reason(error)}")
    return FAILED
