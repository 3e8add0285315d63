from __future__ import annotations

import signal
import socket
import subprocess

import pytest

from tests.cli.command import read_until, start
from tests.cli.running_command import NUMBER, RunningCommand
from tests.support.eventually import wait_until


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


def test_a_signal_to_a_reaped_process_whose_exit_status_is_still_to_arrive_has_no_effect() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(NUMBER.pack(process.pid))
        command = RunningCommand(ours)
        command.kill()
        assert command.returncode is None
        theirs.send(NUMBER.pack(0))
        assert command.wait() == 0
