"""The main program of a process with connections of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading

from geartrain.worker.counters import WorkerCounters
from geartrain.worker.exceptions import log_exception, type_name
from geartrain.worker.prefork.board import Board
from geartrain.worker.prefork.control import ControlSocket
from geartrain.worker.prefork.log_records import RecordSender
from geartrain.worker.prefork.messages import Finished, Stop
from geartrain.worker.prefork.reporter import ProcessReporter, end_process_group
from geartrain.worker.prefork.settings import ProcessSettings
from geartrain.worker.process_hooks import ProcessHook
from geartrain.worker.processes.main import leave_signals_to_worker
from geartrain.worker.run import WorkerRun
from geartrain.worker.thread_pool import DaemonThreadPool

__all__ = ["PreforkMain"]


class PreforkMain:
    """
    Runs a worker of one function, one job at a time.

    The main thread reads and runs the jobs; an event loop in another thread does the rest.

    The worker pickles it; ``multiprocessing.spawn.spawn_main`` unpickles and calls it.

    Args:
        descriptor: The socket to the worker.
        board: The descriptor of the board.
        settings: The options.
    """

    def __init__(self, descriptor: int, board: int, settings: ProcessSettings) -> None:
        self._descriptor = descriptor
        self._board_descriptor = board
        self._settings = settings

    def _bootstrap(self, parent_sentinel: int) -> int:
        """Work until the worker has this stop, and return the exit status."""
        os.close(parent_sentinel)
        leave_signals_to_worker()
        os.set_inheritable(self._descriptor, False)
        control = ControlSocket(socket.socket(fileno=self._descriptor))
        board = Board(self._board_descriptor, len(self._settings.servers))
        os.close(self._board_descriptor)
        logger = logging.Logger(self._settings.logger_name, self._settings.level)
        logger.addHandler(RecordSender(control.send))
        hooks = self._settings.hooks
        if not _call_hook("on_process_start", hooks.start, logger):
            return 1
        threads = DaemonThreadPool(1, provided=1)
        ended: list[int] = []
        loop_thread = threading.Thread(
            target=self._run_loop, args=(control, board, threads, logger, ended), name="geartrain-loop", daemon=True
        )
        loop_thread.start()
        threads.serve()
        loop_thread.join()
        _call_hook("on_process_stop", hooks.stop, logger)
        return 0 if ended else 1

    def _run_loop(
        self, control: ControlSocket, board: Board, threads: DaemonThreadPool, logger: logging.Logger, ended: list[int]
    ) -> None:
        try:
            asyncio.run(self._run(control, board, threads, logger))
            ended.append(1)
        finally:
            threads.close()

    async def _run(
        self, control: ControlSocket, board: Board, threads: DaemonThreadPool, logger: logging.Logger
    ) -> None:
        settings = self._settings
        counters = {address: WorkerCounters() for address in settings.servers}
        reporter = ProcessReporter(board, control, list(counters.items()))
        function = settings.function
        run = WorkerRun(
            counters, settings.make_config(logger), {function.ability: function}, threads, observer=reporter
        )

        def receive() -> None:
            messages = control.receive()
            if messages is None:
                end_process_group()  # the worker has ended, and nobody is left to report a death
            elif any(isinstance(message, Stop) for message, _ in messages):
                run.stop()

        run.loop.add_reader(control.fileno(), receive)
        try:
            await run.run()
            reporter.show_counters()
            control.send(Finished())
        finally:
            run.loop.remove_reader(control.fileno())


def _call_hook(name: str, hook: ProcessHook | None, logger: logging.Logger) -> bool:
    """Call a hook; log what it raises, and return whether it has succeeded."""
    try:
        if hook is not None:
            hook()
    except BaseException as error:  # noqa: BLE001  # whatever the user's code raises
        log_exception(logger, error, "%s raised %s", name, type_name(error))
        return False
    return True
