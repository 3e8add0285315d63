"""Checks who listens on a port without connecting to it, which would disturb some job servers."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def listens(pid: int, port: int) -> bool:
    """Whether this process, and not another one that took the port, listens on it."""
    listeners = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}") and fields[3] == "0A":  # TCP_LISTEN
            listeners.add(f"socket:[{fields[9]}]")
    with contextlib.suppress(FileNotFoundError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") in listeners:
                    return True
    return False
