"""Count the words of files: submit each file as a job, many at a time, and get the results in order."""

import asyncio
import json
from collections import Counter
from pathlib import Path

from geartrain import Client, JobServer, Worker, WorkerJob

FILES = sorted(Path(__file__).parent.glob("*.py"))


async def main() -> None:
    async with JobServer(port=0) as server, Client([server.address]) as client:
        worker = Worker([server.address], concurrency=2)

        @worker.function
        def count_words(job: WorkerJob) -> str:  # a plain function: it runs in a thread
            return json.dumps(Counter(job.workload.decode().split()))

        words = Counter[str]()
        async with worker:
            async for result in client.map("count_words", (file.read_bytes() for file in FILES), limit=10):
                words.update(json.loads(result))
        for word, times in words.most_common(5):
            print(f"{times:5} {word}")


asyncio.run(main())
