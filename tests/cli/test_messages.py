from __future__ import annotations

import signal

from geartrain.cli.messages import describe_exit


def test_an_exit_is_described_by_its_status_or_signal() -> None:
    assert describe_exit(3) == "exit status 3"
    assert describe_exit(-signal.SIGTERM) == "SIGTERM"
    assert describe_exit(-signal.SIGRTMIN - 3) == f"signal {signal.SIGRTMIN + 3}"
