"""Names of signals."""

from __future__ import annotations

import signal

__all__ = ["name_signal"]


def name_signal(number: int) -> str:
    """Return a signal's name, such as ``SIGKILL``, or ``signal 40`` for a real-time signal, which has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
