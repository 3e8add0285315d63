import signal

from geartrain.cli.words import describe_end
from geartrain.signals import name_signal


def test_a_signal_is_called_by_its_name_if_it_has_one() -> None:
    assert name_signal(signal.SIGKILL) == "SIGKILL"
    assert name_signal(signal.SIGRTMIN + 3) == f"signal {signal.SIGRTMIN + 3}"


def test_the_end_of_a_process_is_described_by_its_status_or_signal() -> None:
    assert describe_end(3) == "exit status 3"
    assert describe_end(-signal.SIGTERM) == "SIGTERM"
    assert describe_end(-signal.SIGRTMIN - 3) == f"signal {signal.SIGRTMIN + 3}"
