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
def test_what_is_no_context_is_refused(make: type) -> None:
    with pytest.raises(TypeError, match=r"tls must be an ssl.SSLContext or None, got True"):
        make(tls=True)


@pytest.mark.parametrize("make", [Client, Worker, Admin])
def test_a_context_of_a_server_is_refused_by_a_client(make: type) -> None:
    with pytest.raises(ValueError, match=r"a client's side, as .*ssl.Purpose.SERVER_AUTH"):
        make(tls=ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))


def test_a_context_of_a_client_is_refused_by_the_job_server() -> None:
    with pytest.raises(ValueError, match=r"a server's side, as .*ssl.Purpose.CLIENT_AUTH"):
        JobServer(tls=ssl.create_default_context())


def test_an_error_that_is_none_of_tls_stays_as_it_is() -> None:
    error = ConnectionRefusedError(111, "Connection refused")
    assert explain_tls(error, "jobs.example") is error
    assert str(error) == "[Errno 111] Connection refused"


def test_the_command_line_gives_openssl_s_reason_and_not_an_errno_of_the_same_number() -> None:
    error = ssl.SSLError(1, "jobs.example does not speak TLS on this port")
    assert error_reason(error) == "jobs.example does not speak TLS on this port"
