"""
pygearman's worker, which answers each job with its own workload. usage: with_pygearman_worker.py PORT

It looks up functions by the bytes that arrive.
"""

from __future__ import annotations

import sys

import gearman
import gearman.util


class BytesEncoder(gearman.DataEncoder):
    """Passes bytes through; the default encoder accepts only text."""

    @classmethod
    def encode(cls, encodable_object: bytes) -> bytes:
        return encodable_object

    @classmethod
    def decode(cls, decodable_string: bytes) -> bytes:
        return decodable_string


class BytesWorker(gearman.GearmanWorker):
    data_encoder = BytesEncoder


if __name__ == "__main__":
    worker = BytesWorker([f"127.0.0.1:{sys.argv[1]}"])
    worker.register_task(b"echo", lambda _, job: job.data)
    worker.work()
