import signal

from geartrain.signals import name_signal


def test_a_signal_is_called_by_its_name_if_it_has_one() -> None:
    assert name_signal(signal.SIGKILL) == "SIGKILL"
    assert name_signal(signal.SIGRTMIN + 3) == f"signal {signal.SIGRTMIN + 3}"
