"""The admin clients for programs without asyncio."""

from __future__ import annotations

import gc
import warnings

import pytest

from geartrain import LocalProtocolError, NoServersError, ServerError
from geartrain.blocking import Admin, AdminGroup, Client
from tests.support.gearmand import Gearmand, free_port
from tests.support.job_server import AnyJobServer


def test_each_call_reaches_the_job_server(job_server: AnyJobServer) -> None:
    with Admin(job_server.address) as admin, Client(job_server.address) as client:
        handle = client.do_background("f", b"abc", unique="one")
        assert [(function.function, function.total) for function in admin.status()] == [("f", 1)]
        assert [function.function for function in admin.priority_status()] == ["f"]
        assert len(admin.workers()) == 2
        assert [job.handle for job in admin.show_jobs()] == [handle.handle]
        assert [job.unique for job in admin.show_unique_jobs()] == ["one"]
        assert admin.version()
        assert admin.getpid() > 0
        assert admin.verbose()
        admin.set_max_queue("f", 5)
        admin.create_function("g")
        admin.drop_function("g")
        assert admin.cancel_job(handle)
        assert admin.connected
        assert admin.job_server == job_server.address


def test_gearmand_refuses_a_shutdown(gearmand: Gearmand) -> None:
    with Admin(gearmand.address) as admin, pytest.raises(ServerError):
        admin.shutdown()


def test_a_group_answers_for_each_job_server(job_server: AnyJobServer) -> None:
    away = f"127.0.0.1:{free_port()}"
    with AdminGroup([job_server.address, away]) as group:
        for answers in (
            group.status(),
            group.priority_status(),
            group.workers(),
            group.show_jobs(),
            group.show_unique_jobs(),
            group.version(),
            group.ask(lambda admin: admin.create_function("f")),
        ):
            assert list(answers) == [job_server.address, away]
            assert not isinstance(answers[job_server.address], Exception)
            assert isinstance(answers[away], NoServersError)
        assert list(group.admins) == [job_server.address, away]
        with pytest.raises(LocalProtocolError):
            group.ask(lambda admin: admin.create_function("with a space"))
        assert repr(group) == f"<AdminGroup {job_server.address}, {away}>"


def test_a_timeout_may_be_changed_and_an_admin_used_again_after_closing(job_server: AnyJobServer) -> None:
    admin = Admin(job_server.address)
    admin.timeout = 5.0
    assert admin.timeout == 5.0
    assert admin.version()
    admin.close()
    assert not admin.connected
    assert admin.version()
    admin.close()


def test_forgotten_objects_are_closed_with_a_warning(job_server: AnyJobServer) -> None:
    admin, group = Admin(job_server.address), AdminGroup(job_server.address)
    assert admin.version()
    assert group.version()
    shown = sorted(map(repr, (admin, group)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del admin, group
        gc.collect()
    messages = sorted(str(warning.message).removeprefix("unclosed ") for warning in caught)
    assert messages == shown
