"""A real stunnel in front of a job server: it accepts TLS and forwards plaintext."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support import certificates
from tests.support.gearmand import READY_WITHIN, free_port
from tests.support.listening_ports import listens

SERVICE = """\
foreground = yes
pid =
debug = warning

[gearman]
accept = 127.0.0.1:{port}
connect = {server}
cert = {certificate}
TIMEOUTclose = 0
"""
MUTUAL = """\
CAfile = {authority}
requireCert = yes
verifyChain = yes
"""


@contextlib.contextmanager
def stunnel(directory: Path, server: str, *, mutual: bool = False) -> Iterator[str]:
    """Run stunnel in front of a job server, and yield its address; with ``mutual`` it requires a client certificate."""
    executable = shutil.which("stunnel4", path="/usr/bin:/usr/local/bin")
    assert executable, "stunnel4 is missing: make test installs it"
    authority, certificate = certificates.files(directory)
    port = free_port()
    text = SERVICE + MUTUAL if mutual else SERVICE
    configuration = directory / "stunnel.conf"
    configuration.write_text(text.format(port=port, server=server, certificate=certificate, authority=authority))
    with (directory / "stunnel.log").open("ab") as log:
        process = subprocess.Popen([executable, str(configuration)], cwd=directory, stdout=log, stderr=log)
    try:
        _wait_until_it_listens(process, port)
        yield f"gearmans://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not listens(process.pid, port):
        assert process.poll() is None, f"stunnel exited with {process.returncode}; see stunnel.log"
        assert time.monotonic() < deadline, f"stunnel does not listen on {port}"
        time.sleep(0.005)
