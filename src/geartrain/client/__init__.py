"""The client: tasks go out over one connection a job server, and what becomes of them comes back."""

from geartrain.client.client import Client

__all__ = ["Client"]
