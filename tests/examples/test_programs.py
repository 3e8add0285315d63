"""Programs that take long to install or to start: a notebook, and uWSGI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.blocking.test_web import post, post_many
from tests.support.gearmand import Gearmand, free_port

ROOT = Path(__file__).parents[2]


def test_a_notebook_calls_both_clients(gearmand: Gearmand) -> None:
    """Its kernel runs an event loop in the thread of the cells."""
    cells = [
        f"from geartrain import Client, blocking\nclient = blocking.Client({gearmand.address!r})",
        "client.do('reverse', b'abc')",
        "list(client.map('reverse', [b'ab', b'cd']))",
        f"async with Client({gearmand.address!r}) as other:\n    result = await other.do('reverse', b'xyz')\nresult",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs = [cell.outputs[-1].data["text/plain"] for cell in notebook.cells[1:]]
    assert outputs == ["b'cba'", "[b'ba', b'dc']", "b'zyx'"]


@contextmanager
def uwsgi(address: str, *options: str, log: Path) -> Iterator[int]:
    """Serve the Flask application, which is imported before uWSGI forks, and yield the port."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("uwsgi")), "--http-socket", f"127.0.0.1:{port}", "--master"]
    environment = {**os.environ, "GEARMAN_SERVERS": address}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--die-on-term", "--module", "tests.blocking.web_application:flask_app", *options],
            env=environment,
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while b"spawned uWSGI worker" not in log.read_bytes():
                assert server.poll() is None, log.read_text()
            yield port
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


@pytest.mark.parametrize("options", [("--processes", "2", "--enable-threads"), ("--processes", "2", "--threads", "4")])
def test_uwsgi_serves_a_view_with_a_client_at_module_level(
    gearmand: Gearmand, tmp_path: Path, options: tuple[str, ...]
) -> None:
    with uwsgi(gearmand.address, *options, log=tmp_path / "log") as port:
        for text, status, body in post_many(port, "uwsgi", 10):
            assert (status, body) == (200, text[::-1])


def test_without_threads_of_its_own_uwsgi_gets_an_error_instead_of_a_hang(gearmand: Gearmand, tmp_path: Path) -> None:
    """It never runs a thread that an application starts, unless an option says so."""
    log = tmp_path / "log"
    with uwsgi(gearmand.address, "--processes", "1", log=log) as port:
        assert post(port, b"abc") == (503, b"LocalProtocolError")
