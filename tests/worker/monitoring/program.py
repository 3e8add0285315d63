"""A worker whose functions run in processes, and which serves HTTP."""

from __future__ import annotations

import os
import signal
import sys

from geartrain import Worker, WorkerJob


def work(job: WorkerJob) -> str:
    return str(os.getpid())


def die(job: WorkerJob) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    worker = Worker(sys.argv[1], concurrency=3)
    worker.function("work", processes=2)(work)
    worker.function("die", processes=1)(die)
    worker.main(http=":0")
