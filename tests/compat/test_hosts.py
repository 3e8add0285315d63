"""Job servers as programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from geartrain.blocking import JobServer
from tests.compat.conftest import Text
from tests.support import certificates


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost:7003", ("localhost", 7003)),
        ("10.0.0.1", ("10.0.0.1", 4730)),
        (("example.org", 7003), ("example.org", 7003)),
        (("example.org", "7003"), ("example.org", 7003)),
        ("[::1]:7003", ("::1", 7003)),
        (("::1", 7003), ("::1", 7003)),
    ],
)
def test_a_job_server_is_text_or_a_tuple(flavour: Any, host: Any, address: tuple[str, int]) -> None:
    client = flavour.GearmanClient([host])
    (connection,) = client.connection_list
    assert connection.get_address() == (connection.gearman_host, connection.gearman_port) == address
    assert not connection.connected
    assert not connection.use_ssl


@pytest.mark.parametrize(
    "hosts",
    ["localhost:4730", ["a:b:c"], ["localhost:0"], [b"localhost"], [5], [None], [("a",)], [("a", 1, 2)], ["gearmans://a"],
     [{"host": "a", "port": 1}], [("a", None)], {"host": "a"}],
)  # fmt: skip
def test_anything_else_is_an_error_at_construction(flavour: Any, hosts: Any) -> None:
    with pytest.raises(flavour.errors.GearmanError):
        flavour.GearmanClient(hosts)


def test_a_connection_needs_a_host(flavour: Any) -> None:
    with pytest.raises(flavour.errors.ServerUnavailable, match="needs a host"):
        flavour.connection.GearmanConnection()


def test_options_of_connections_may_be_set_in_a_subclass(flavour: Any) -> None:
    class Connection(flavour.connection.GearmanConnection):  # type: ignore[misc]
        connect_cooldown_seconds = 5.0

    class Client(flavour.GearmanClient):  # type: ignore[misc]
        connection_class = Connection

    client = Client(["localhost"])
    assert isinstance(client.connection_list[0], Connection)
    assert isinstance(client.add_connection("other"), Connection)
    assert len(client.connection_list) == 2
    assert "localhost:4730" in repr(client)


def test_a_connection_may_be_established_in_advance(flavour: Any) -> None:
    with JobServer() as server:
        client = flavour.GearmanClient([server.address, "127.0.0.1:1"])
        reachable, away = client.connection_list
        assert client.establish_connection(reachable) is client.establish_connection(reachable) is reachable
        assert reachable.connected
        with pytest.raises(flavour.errors.ConnectionError, match=r"127\.0\.0\.1:1"):
            client.establish_connection(away)
        client.shutdown()
        assert not reachable.connected
        with pytest.raises(AssertionError, match="unknown connection"):
            client.establish_connection(flavour.connection.GearmanConnection("other"))


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    authority, server = certificates.files(tmp_path)
    return {"keyfile": str(server), "certfile": str(server), "ca_certs": str(authority)}


def test_a_dict_is_a_job_server_with_tls(flavour: Any, native: Text, tls: dict[str, str]) -> None:
    with JobServer(tls=certificates.for_server(mutual=True)) as server:
        host = {"host": "127.0.0.1", "port": int(server.address.rpartition(":")[2]), **tls}
        client = flavour.GearmanClient([host])
        assert client.connection_list[0].use_ssl
        assert client.submit_job(native("f"), native(""), background=True).complete
        admin = flavour.GearmanAdminClient([host])
        assert admin.get_status()[0]["queued"] == 1

        class Worker(flavour.GearmanWorker):  # type: ignore[misc]
            def after_job(self) -> bool:
                return False

        worker = Worker([host])
        worker.register_task(native("f"), lambda worker, job: job.data)
        worker.work()
        assert admin.get_status()[0]["queued"] == 0
        admin.shutdown()
        client.shutdown()


def test_a_worker_has_the_same_tls_for_all_job_servers(flavour: Any, native: Text, tls: dict[str, str]) -> None:
    worker = flavour.GearmanWorker(["localhost", {"host": "localhost", "port": 1, **tls}])
    worker.register_task(native("f"), lambda worker, job: job.data)
    with pytest.raises(flavour.errors.GearmanError, match="the same files for TLS"):
        worker.work()


def test_a_file_for_tls_that_does_not_exist_is_an_error(flavour: Any, native: Text, tls: dict[str, str]) -> None:
    client = flavour.GearmanClient([{"host": "localhost", "port": 1, **tls, "ca_certs": "/nowhere.pem"}])
    with pytest.raises(FileNotFoundError):
        client.submit_job(native("f"), native(""))
