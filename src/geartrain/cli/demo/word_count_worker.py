"""
The worker process of ``geartrain demo``, which counts words.

Usage: ``python -m geartrain.cli.demo.word_count_worker FUNCTION PAUSE SERVER ...``. It runs until standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

from geartrain import Worker, WorkerJob

__all__ = ["BLOCK", "make_worker", "serve"]

BLOCK: Final = 64  # lines between WORK_STATUS packets
_WORD: Final = re.compile(r"[^\W\d_]{2,}")


def make_worker(job_servers: Sequence[str], function: str, pause: float) -> Worker:
    """
    Create a worker that counts the words in its workloads. Results are JSON objects of word to count.

    Args:
        job_servers: The addresses of the job servers.
        function: The function name to register.
        pause: Seconds to wait after every :data:`BLOCK` lines; without a pause, counting is too fast to watch.
    """
    worker = Worker(job_servers, client_id=f"geartrain-demo-{os.getpid()}")

    @worker.function(function)
    async def count_words(job: WorkerJob) -> str:
        job.send_data(str(os.getpid()))  # lets the client show which worker has the job
        lines = job.workload.decode("utf-8", "replace").splitlines()
        counts = Counter[str]()
        for begin in range(0, len(lines), BLOCK):
            job.send_status(begin, len(lines))
            await asyncio.sleep(pause)  # even if 0, so that the event loop sends the status
            for line in lines[begin : begin + BLOCK]:
                counts.update(_WORD.findall(line.lower()))
        return json.dumps(counts)

    return worker


async def serve(worker: Worker) -> None:
    """
    Run a worker until standard input ends.

    That includes the death of the process that started this one, so that the worker does not outlive it for long.
    """
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(sys.stdin)
        worker.stop()

    loop.add_reader(sys.stdin, stop)
    await worker.run()


if __name__ == "__main__":
    asyncio.run(serve(make_worker(sys.argv[3:], function=sys.argv[1], pause=float(sys.argv[2]))))
