"""The client: submits tasks over one connection per job server, and returns their results."""

from geartrain.client.client import Client

__all__ = ["Client"]
