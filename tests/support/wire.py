"""A blocking raw connection to a job server, for tests that check bytes."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from geartrain.protocol.packets import HEADER, REQUEST, RESPONSE, PacketType

TIMEOUT = 10.0  # seconds until a missing answer fails the test


def packet(kind: int, *arguments: bytes, magic: int = REQUEST) -> bytes:
    """Return a packet with NUL-separated arguments, valid or not."""
    body = b"\0".join(arguments)
    return HEADER.pack(magic, kind, len(body)) + body


class Wire:
    """Sends packets and lines, and reads the answers one by one."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self._stream = self.socket.makefile("rb")

    def send(self, kind: int, *arguments: bytes) -> None:
        """Send one packet."""
        self.socket.sendall(packet(kind, *arguments))

    def line(self, text: bytes) -> None:
        """Send one line of text."""
        self.socket.sendall(text + b"\r\n")

    def receive(self) -> tuple[PacketType, bytes]:
        """Return type and body of the next packet."""
        header = self._read(HEADER.size)
        magic, kind, size = HEADER.unpack(header)
        assert magic == RESPONSE
        return PacketType(kind), self._read(size)

    def expect(self, kind: PacketType, *arguments: bytes) -> None:
        """Read the next packet, and fail unless it is this one."""
        assert self.receive() == (kind, b"\0".join(arguments))

    def ask(self, text: bytes) -> list[bytes]:
        """Send a line with a multi-line response, and return its lines without the final ``.``."""
        self.line(text)
        return list(iter(self._stream.readline, b".\n"))

    def ask_line(self, text: bytes) -> bytes:
        """Send a line with a one-line response, and return it."""
        self.line(text)
        return self._stream.readline()

    def submit(
        self,
        function: bytes,
        unique: bytes = b"",
        workload: bytes = b"",
        kind: PacketType = PacketType.SUBMIT_JOB,
    ) -> bytes:
        """Submit a job and return its handle."""
        self.send(kind, function, unique, workload)
        answer, handle = self.receive()
        assert answer is PacketType.JOB_CREATED
        return handle

    def nothing_more(self) -> None:
        """Fail if the server has sent anything else; an echo proves that nothing is on its way."""
        self.send(PacketType.ECHO_REQ, b"nothing more?")
        self.expect(PacketType.ECHO_RES, b"nothing more?")

    def at_end(self) -> bool:
        """Whether the server closes the connection without sending anything else."""
        return self._stream.read(1) == b""

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()
        self.socket.close()

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        assert len(data) == size, f"the connection ended after {data!r}"
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
