"""
A worker for `geartrain worker tests.support.process_worker:make`, of which tests kill, stop and terminate processes.

Environment: DIRECTORY, where it finds and leaves files; GRACE, in seconds.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from geartrain.worker import Worker, WorkerJob
from tests.support.eventually import eventually

HEARTBEAT = 0.2  # seconds
CREW = 4  # processes that are to meet
SLOTS = 3  # of each


def make(job_servers: list[str]) -> Worker:
    directory = Path(os.environ["DIRECTORY"])
    ledger = os.open(directory / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    grace = os.environ.get("GRACE")
    worker = Worker(job_servers, concurrency=SLOTS, heartbeat=HEARTBEAT, grace=None if grace is None else float(grace))

    @worker.function("note")
    async def note(job: WorkerJob) -> bytes:
        """Write the job down, in one piece."""
        os.write(ledger, job.workload + b"\n")
        return job.workload[::-1]

    @worker.function("meet")
    def meet(job: WorkerJob) -> None:
        """Wait until so many processes have such jobs, which takes as many as there are slots in all."""
        (directory / f"met-{os.getpid()}").touch()
        # A test that was ended leaves its processes alone with this; they must not wait for each other for ever.
        deadline = time.monotonic() + 30
        while len(list(directory.glob("met-*"))) < CREW and time.monotonic() < deadline:
            time.sleep(0.002)

    @worker.function("hold")
    async def hold(job: WorkerJob) -> str:
        """Tell who has the job, leave a file `stopping` when the worker stops, end when there is a file `go`."""
        job.send_data(f"{os.getpid()} ")

        def may_go() -> bool:
            if worker.state == "stopping":
                (directory / "stopping").touch()
            return (directory / "go").exists()

        await eventually(may_go, within=60)
        return str(os.getpid())

    @worker.function("hold_in_thread")
    def hold_in_thread(job: WorkerJob) -> str:
        job.send_data(f"{os.getpid()} ")
        while not (directory / "go").exists():
            time.sleep(0.002)
        return str(os.getpid())

    @worker.function("stuck")
    def stuck(job: WorkerJob) -> None:
        """Never end."""
        job.send_data(f"{os.getpid()} ")
        threading.Event().wait()

    return worker
