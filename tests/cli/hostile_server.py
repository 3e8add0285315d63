"""A job server that puts terminal control codes and forged lines into everything it sends."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from geartrain.protocol.packets import HEADER, RESPONSE, PacketType
from tests.support.fake_server import SUBMITS
from tests.support.wire import packet

# Titles, colours, 8-bit and C1 control codes, directional overrides, separators: everything that fits on a line.
NAME = b"\x1b]0;T\x07\x1b[5;7mx\x9bm\xc2\x9bm\xe2\x80\xae\xe2\x81\xa6\xe2\x80\xa8\x7f"
TEXT = NAME + b"\r\nFORGED line\n\rFORGED line\x0bFORGED\x85"

ANSWERS = {
    b"status": b"%b\t3\t1\t2\n.\n" % NAME,
    b"prioritystatus": b"%b\t3\t1\t2\t4\n.\n" % NAME,
    b"workers": b"7 127.0.0.1 %b : %b\n.\n" % (NAME, NAME),
    b"show jobs": b"%b\t0\t0\t0\n.\n" % NAME,
    b"show unique jobs": b"%b\n.\n" % NAME,
    b"version": b"OK %b\n" % NAME,
    b"getpid": b"OK 7\n",
    b"verbose": b"OK %b\n" % NAME,
}


class _Handler(socketserver.StreamRequestHandler):
    server: HostileServer

    def handle(self) -> None:
        while first := self.rfile.read(1):
            if first == b"\0":
                _, kind, size = HEADER.unpack(first + self.rfile.read(HEADER.size - 1))
                self.answer_packet(PacketType(kind), self.rfile.read(size))
            else:
                line = (first + self.rfile.readline()).strip()
                self.wfile.write(ANSWERS.get(line, b"ERR %b %b\n" % (NAME, NAME)))

    def answer_packet(self, kind: PacketType, body: bytes) -> None:
        if kind is PacketType.ECHO_REQ:
            self.send(PacketType.ECHO_RES, body)
        elif kind is PacketType.OPTION_REQ:
            self.send(PacketType.OPTION_RES, body)
        elif kind in (PacketType.GRAB_JOB, PacketType.GRAB_JOB_UNIQ):
            self.send(PacketType.JOB_ASSIGN_UNIQ, b"H:" + TEXT[:20], b"f", TEXT[:20], TEXT)
        elif kind in SUBMITS and self.server.mode == "error":
            self.send(PacketType.ERROR, b"E" + TEXT, TEXT)
        elif kind in SUBMITS:
            handle = b"H:" + TEXT[:40]
            self.send(PacketType.JOB_CREATED, handle)
            if self.server.mode == "exception":
                self.send(PacketType.WORK_EXCEPTION, handle, TEXT)
            elif self.server.mode == "fail":
                self.send(PacketType.WORK_WARNING, handle, TEXT)
                self.send(PacketType.WORK_FAIL, handle)
            else:
                self.send(PacketType.WORK_WARNING, handle, TEXT)
                self.send(PacketType.WORK_DATA, handle, TEXT)
                self.send(PacketType.WORK_STATUS, handle, b"1", b"2")
                self.send(PacketType.WORK_COMPLETE, handle, TEXT)

    def send(self, kind: PacketType, *arguments: bytes) -> None:
        self.wfile.write(packet(kind, *arguments, magic=RESPONSE))


class HostileServer(socketserver.ThreadingTCPServer):
    """
    Answers every request, in threads of this process.

    Attributes:
        mode: How jobs end: ``"complete"``, ``"fail"``, ``"exception"`` or ``"error"``.
    """

    daemon_threads = True
    mode = "complete"

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that close their connection."""


@contextmanager
def hostile_server() -> Iterator[HostileServer]:
    """Run the server on a free port until the end of the block."""
    with HostileServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
