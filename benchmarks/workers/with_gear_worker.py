"""gear's worker, which answers each job with its own workload. usage: with_gear_worker.py PORT"""

from __future__ import annotations

import sys

import gear

if __name__ == "__main__":
    worker = gear.Worker("echo")
    worker.addServer("127.0.0.1", int(sys.argv[1]))
    worker.waitForServer()
    worker.registerFunction("echo")
    while True:
        job = worker.getJob()
        job.sendWorkComplete(job.arguments)
