"""Sends HTTP requests."""

from __future__ import annotations

import urllib.error
import urllib.request


def get(address: object, path: str = "/") -> tuple[int, str]:
    """Return the status and the text that a server at this address responds with."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
