"""The admin client."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from geartrain.blocking import Client, Worker
from tests.support.gearmand import Gearmand, free_port
from tests.support.job_server import AnyJobServer


@pytest.fixture
def admin(flavour: Any, job_server: AnyJobServer) -> Iterator[Any]:
    admin = flavour.GearmanAdminClient([job_server.address])
    yield admin
    admin.shutdown()


def test_status_is_a_tuple_of_dicts_whose_queue_includes_running_jobs(
    admin: Any, worker: Worker, job_server: AnyJobServer
) -> None:
    with Client(job_server.address) as client:
        client.do_background("f")
        client.do_background("f")
    status = admin.get_status()
    assert isinstance(status, tuple)
    assert {"task": "f", "queued": 2, "running": 0, "workers": 0} in status
    assert {"task": "reverse", "queued": 0, "running": 0, "workers": 1} in status


def test_workers_are_dicts_of_text(admin: Any, worker: Worker) -> None:
    workers = admin.get_workers()
    assert isinstance(workers, tuple)
    (found,) = (each for each in workers if each["tasks"])
    assert set(found) == {"file_descriptor", "ip", "client_id", "tasks"}
    assert found["file_descriptor"].isdigit()
    assert found["ip"] == "127.0.0.1"
    assert set(found["tasks"]) == set(worker.functions)


def test_version_and_process_id_begin_with_ok(admin: Any) -> None:
    assert admin.get_version().startswith("OK ")
    assert admin.get_pid().partition("OK ")[2].isdigit()


def test_a_ping_returns_how_long_it_took(admin: Any) -> None:
    admin.establish_admin_connection()
    assert admin.ping_server() > 0
    assert admin.current_connection.connected


def test_jobs_are_listed_and_cancelled(admin: Any, job_server: AnyJobServer) -> None:
    with Client(job_server.address) as client:
        handle = client.do_background("f", unique="key").handle
    assert admin.get_jobs() == ({"handle": handle, "queued": 0, "canceled": 0, "enabled": 1},)
    assert admin.get_unique_jobs() == ({"unique": "key"},)
    assert admin.cancel_job(handle) == "OK"
    assert all(job["canceled"] for job in admin.get_jobs()), "gearmand still lists it"
    assert admin.cancel_job("H:nobody:99").startswith("ERR")


def test_a_refusal_is_an_error(flavour: Any, gearmand: Gearmand) -> None:
    admin = flavour.GearmanAdminClient([gearmand.address])
    with pytest.raises(flavour.errors.ProtocolError):
        admin.send_shutdown()
    admin.shutdown()


def test_an_unreachable_job_server_is_an_error_immediately(flavour: Any) -> None:
    admin = flavour.GearmanAdminClient([f"127.0.0.1:{free_port()}"])
    for call in (admin.get_status, admin.get_version, admin.ping_server, admin.establish_admin_connection):
        with pytest.raises(flavour.errors.ServerUnavailable, match="Found no valid connections"):
            call()
    with pytest.raises(flavour.errors.ServerUnavailable):
        flavour.GearmanAdminClient().get_status()
    admin.shutdown()


def test_a_monitor_survives_a_restart_of_the_job_server(admin: Any, flavour: Any, job_server: AnyJobServer) -> None:
    """Datadog's check keeps one client for as long as the agent runs."""
    assert admin.get_status() == ()
    job_server.kill()
    with pytest.raises(flavour.errors.ServerUnavailable):
        admin.get_status()
    assert not admin.current_connection.connected
    job_server.restart()
    assert admin.get_status() == ()
    assert admin.current_connection.connected


def test_a_job_server_that_does_not_answer_is_an_error(flavour: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        admin = flavour.GearmanAdminClient([f"127.0.0.1:{listener.getsockname()[1]}"], poll_timeout=0.05)
        for call in (admin.get_status, admin.ping_server, admin.send_shutdown, admin.establish_admin_connection):
            with pytest.raises(flavour.errors.InvalidAdminClientState, match=r"timed out after 0\.05 second"):
                call()
        admin.shutdown()


def test_an_admin_client_has_one_job_server(flavour: Any) -> None:
    error = flavour.errors.GearmanError if flavour.__name__.endswith(".gearman") else ValueError
    with pytest.raises(error, match="2"):
        flavour.GearmanAdminClient(["a", "b"])
