from __future__ import annotations

import signal

import pytest

from tests.cli.command import read_until, start
from tests.support.wire import wait_until


def test_a_started_command_can_be_used_like_a_popen() -> None:
    with start("serve", "-p", "0") as command:
        assert b"listens on" in read_until(command, b"\n")
        assert command.poll() is None
        with pytest.raises(TimeoutError):
            command.wait(0.001)
        command.terminate()
        assert command.communicate(timeout=20) == (b"", b"")
        assert command.returncode == command.poll() == command.wait() == 0
        command.kill()  # has no effect


def test_a_command_that_a_signal_ends_has_its_negative_number_as_status() -> None:
    with start("serve", "-p", "0", has_input=False) as command:
        assert command.stdin is None
        command.kill()
        wait_until(lambda: command.poll() == -signal.SIGKILL)
