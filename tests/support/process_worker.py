"""
A worker for `geartrain worker tests.support.process_worker:make` whose processes tests kill, stop and terminate.

Environment: DIRECTORY for the files it reads and writes; GRACE in seconds.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from geartrain.worker import Worker, WorkerJob
from tests.support.eventually import eventually

HEARTBEAT = 0.2  # seconds
PROCESSES = 4  # processes that wait for each other
SLOTS = 3  # per process


def make(job_servers: list[str]) -> Worker:
    directory = Path(os.environ["DIRECTORY"])
    ledger = os.open(directory / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    grace = os.environ.get("GRACE")
    worker = Worker(job_servers, concurrency=SLOTS, heartbeat=HEARTBEAT, grace=None if grace is None else float(grace))

    @worker.function("note")
    async def note(job: WorkerJob) -> bytes:
        """Record the job with a single write."""
        os.write(ledger, job.workload + b"\n")
        return job.workload[::-1]

    @worker.function("meet")
    def meet(job: WorkerJob) -> None:
        """Wait until all processes run this function, which takes as many jobs as there are slots in total."""
        (directory / f"met-{os.getpid()}").touch()
        # If the test was aborted its processes remain; they must not wait for each other forever.
        deadline = time.monotonic() + 30
        while len(list(directory.glob("met-*"))) < PROCESSES and time.monotonic() < deadline:
            time.sleep(0.002)

    @worker.function("hold")
    async def hold(job: WorkerJob) -> str:
        """Send the process ID, create the file `stopping` when the worker stops, return once the file `go` exists."""
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
        """Never return."""
        job.send_data(f"{os.getpid()} ")
        threading.Event().wait()

    return worker
