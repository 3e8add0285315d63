"""
Gearman for programs without asyncio: the same names, options, results and errors, without ``await``.

One thread of the process runs one event loop for everything here, from the first call until all of it is closed. Every
method may be called from any thread, and waits there.
"""

from geartrain.blocking.admin import Admin, AdminGroup
from geartrain.blocking.client import Client
from geartrain.blocking.job import Job
from geartrain.blocking.job_server import JobServer
from geartrain.blocking.named import get_client, post, spawn
from geartrain.blocking.worker import Worker

__all__ = ["Admin", "AdminGroup", "Client", "Job", "JobServer", "Worker", "get_client", "post", "spawn"]
