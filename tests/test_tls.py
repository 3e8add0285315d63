from __future__ import annotations

import ssl

import pytest

from geartrain import Admin, Client, JobServer, Worker
from geartrain.cli.messages import error_reason
from geartrain.tls import default_tls, explain_tls


def test_the_default_for_tls_verifies_certificate_and_name() -> None:
    context = default_tls()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("make", [Client, Worker, Admin, JobServer])
def test_tls_must_be_a_context_or_none(make: type) -> None:
    with pytest.raises(TypeError, match=r"tls must be an ssl.SSLContext or None, got True"):
        make(tls=True)


@pytest.mark.parametrize("make", [Client, Worker, Admin])
def test_a_client_rejects_a_server_side_context(make: type) -> None:
    with pytest.raises(ValueError, match=r"a client's side, as .*ssl.Purpose.SERVER_AUTH"):
        make(tls=ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))


def test_the_job_server_rejects_a_client_side_context() -> None:
    with pytest.raises(ValueError, match=r"a server's side, as .*ssl.Purpose.CLIENT_AUTH"):
        JobServer(tls=ssl.create_default_context())


def test_an_error_unrelated_to_tls_is_unchanged() -> None:
    error = ConnectionRefusedError(111, "Connection refused")
    assert explain_tls(error, "jobs.example") is error
    assert str(error) == "[Errno 111] Connection refused"


def test_the_command_line_shows_the_reason_from_openssl_and_not_an_errno_of_the_same_number() -> None:
    error = ssl.SSLError(1, "jobs.example does not speak TLS on this port")
    assert error_reason(error) == "jobs.example does not speak TLS on this port"
