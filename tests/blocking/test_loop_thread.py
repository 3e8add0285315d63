"""The thread that runs the event loop."""

from __future__ import annotations

import sys
import types

import pytest

from geartrain import LocalProtocolError
from geartrain.blocking import Client, JobServer, Worker
from geartrain.blocking import loop_thread as module


def test_a_thread_that_cannot_be_started_is_an_error_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client("127.0.0.1:1")

    def refuse(run: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(module, "start_native_thread", refuse)
        for _ in range(2):
            with pytest.raises(LocalProtocolError, match="cannot start its thread: can't start new thread"):
                client.do("reverse")
    with JobServer(port=0) as server:  # later there are threads again
        worker = Worker(server.address)
        worker.function("reverse")(lambda job: job.workload[::-1])
        with worker, Client(server.address) as other:
            assert other.do("reverse", b"abc", timeout=10) == b"cba"
    client.close()


@pytest.mark.parametrize("options", [{"enable-threads": True}, {"threads": b"4"}, {}])
def test_uwsgi_without_threads_is_an_error_instead_of_a_hang(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", types.SimpleNamespace(opt=options))
    server = JobServer(port=0)
    if options:
        with server:
            return
    with pytest.raises(LocalProtocolError, match="--enable-threads"):
        server.start()
