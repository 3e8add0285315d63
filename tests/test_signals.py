import signal

from geartrain.signals import name_signal


def test_a_signal_has_a_name_or_a_number() -> None:
    assert name_signal(signal.SIGKILL) == "SIGKILL"
    assert name_signal(signal.SIGRTMIN + 3) == f"signal {signal.SIGRTMIN + 3}"
