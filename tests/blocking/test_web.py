"""Web applications under gunicorn, with one client at module level."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from geartrain.blocking import Client
from tests.support.environment import without_coverage
from tests.support.gearmand import Gearmand
from tests.support.job_server import AnyJobServer

pytestmark = [
    pytest.mark.usefixtures("worker"),
    pytest.mark.parametrize("start_job_server", ["gearmand"], indirect=True),
]


@contextmanager
def gunicorn(application: str, address: str, *options: str, log: Path, use_early: bool = True) -> Iterator[int]:
    """Serve an application that is imported before the workers are forked, and yield the port."""
    environment = {**without_coverage(), "GEARMAN_SERVERS": address, **({"USE_EARLY": "1"} if use_early else {})}
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-m", "gunicorn", "--preload", *options]
    # Its gevent worker sometimes waits that long for nothing, with an application without Gearman as well.
    command += ["--graceful-timeout", "1"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--bind", "127.0.0.1:0", f"tests.blocking.web_application:{application}"],
            env=environment,
            stderr=subprocess.PIPE,
        )
        assert server.stderr is not None
        port = None
        while port is None:
            line = server.stderr.readline()
            assert line, log.read_text()
            output.write(line)
            output.flush()
            found = re.search(rb"Listening at: http://127\.0\.0\.1:(\d+)", line)
            port = int(found[1]) if found else None
        reading = threading.Thread(target=lambda: output.writelines(server.stderr or ()))
        reading.start()
        try:
            yield port
        finally:
            server.terminate()
            status = server.wait(20)
            reading.join()
            server.stderr.close()
    assert status == 0
    assert "Traceback" not in log.read_text()


def post(port: int, text: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/", text)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def post_many(port: int, prefix: str, number: int) -> list[tuple[bytes, int, bytes]]:
    """Post from several threads, and return what was sent with status and answer."""
    answers = []

    def work(thread: int) -> None:
        for count in range(number):
            text = f"{prefix}-{thread}-{count}".encode()
            answers.append((text, *post(port, text)))

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.parametrize("application", ["flask_app", "django_app"])
@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_view_works_in_each_kind_of_worker_that_is_forked_after_the_import(
    job_server: AnyJobServer, tmp_path: Path, kind: str, application: str
) -> None:
    options = ("--workers", "2", "--worker-class", kind, *(("--threads", "4") if kind == "gthread" else ()))
    use_early = application == "flask_app"  # the client was used before the fork, or not
    with gunicorn(application, job_server.address, *options, log=tmp_path / "log", use_early=use_early) as port:
        for text, status, body in post_many(port, kind, 5):
            assert (status, body) == (200, text[::-1])


def test_each_request_is_answered_while_the_job_server_is_restarted(
    job_server: Gearmand, client: Client, tmp_path: Path
) -> None:
    """Rightly, or with a documented error."""
    answers: list[tuple[bytes, int, bytes]] = []
    with gunicorn("flask_app", job_server.address, "--workers", "4", log=tmp_path / "log") as port:
        posting = threading.Thread(target=lambda: answers.extend(post_many(port, "restart", 40)))
        posting.start()
        while posting.is_alive():
            job_server.restart()
            posting.join(0.2)
    assert len(answers) == 160
    documented = {b"ConnectionLostError", b"NoServersError", b"JobLostError", b"JobTimeoutError"}
    for text, status, body in answers:
        assert (status, body) == (200, text[::-1]) or (status == 503 and body in documented), (text, status, body)
    assert client.do("reverse", b"abc", timeout=20, retry_count=3) == b"cba"
