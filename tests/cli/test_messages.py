from __future__ import annotations

import signal
import socket

import pytest

from geartrain.cli.messages import describe_exit, error_reason, pluralize


def test_an_exit_is_described_by_its_status_or_signal() -> None:
    assert describe_exit(3) == "exit status 3"
    assert describe_exit(-signal.SIGTERM) == "SIGTERM"
    assert describe_exit(-signal.SIGRTMIN - 3) == f"signal {signal.SIGRTMIN + 3}"


def test_a_count_has_a_plural_unless_it_is_one() -> None:
    assert [pluralize(count, "job") for count in (0, 1, 2000)] == ["0 jobs", "1 job", "2,000 jobs"]
    assert pluralize(2, "retry", "retries") == "2 retries"


def test_a_host_that_cannot_be_encoded_is_reported_as_invalid() -> None:
    with pytest.raises(UnicodeError) as caught:
        socket.getaddrinfo("a..b", 4730)
    assert error_reason(caught.value) == "invalid host name"
