"""An in-memory Gearman job server for the running event loop."""

from geartrain.server.job_server import JobServer

__all__ = ["JobServer"]
