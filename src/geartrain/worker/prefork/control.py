"""The socket between a worker and a process that has connections of its own."""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from collections.abc import Iterable
from typing import Final

from geartrain.fork_safety import protect_on_fork
from geartrain.worker.prefork.messages import Connected, Message, MessageDecoder, encode_message

__all__ = ["ControlSocket"]

_READ_SIZE: Final = 64 * 1024
_MOST_DESCRIPTORS: Final = 64  # that come with one read


class ControlSocket:
    """
    Sends and receives messages, and the sockets of new connections. Any thread may send; one receives.

    Args:
        connection: A connected socket, which is closed by :meth:`close`.

    Attributes:
        is_empty: The last :meth:`receive` found nothing more.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._lock = threading.Lock()
        self._decoder = MessageDecoder()
        self.is_empty: bool = False
        self._received: deque[int] = deque()  # sockets whose message is not complete
        protect_on_fork(self, ControlSocket._descriptors)

    def fileno(self) -> int:
        """Return the descriptor, to wait for messages."""
        return self._socket.fileno()

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """
        Send a message, and a socket with it; waits while the other end is slow to receive.

        Raises:
            OSError: If the other end is closed.
        """
        with self._lock:
            data = memoryview(encode_message(message))
            descriptors = [] if descriptor is None else [descriptor]
            while data:
                try:
                    sent = socket.send_fds(self._socket, [data], descriptors)
                except BlockingIOError:
                    poll = select.poll()
                    poll.register(self._socket, select.POLLOUT)
                    poll.poll()
                    continue
                data, descriptors = data[sent:], []

    def receive(self) -> list[tuple[Message, socket.socket | None]] | None:
        """
        Return messages that have arrived, and the sockets of Connected. Never waits.

        Returns:
            ``None`` if the other end is closed; call it again otherwise, until ``is_empty``.
        """
        self.is_empty = False
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, _READ_SIZE, _MOST_DESCRIPTORS)
        except BlockingIOError:
            self.is_empty = True
            return []
        except OSError:
            return None
        self._received.extend(descriptors)
        if not data:
            return None
        return [
            (message, socket.socket(fileno=self._received.popleft()) if type(message) is Connected else None)
            for message in self._decoder.receive_data(data)
        ]

    def close(self) -> None:
        """Close the socket, and those that were received and belong to no message."""
        with self._lock:
            self._socket.close()
        while self._received:
            socket.close(self._received.popleft())

    def _descriptors(self) -> Iterable[int]:
        return [number for number in (self._socket.fileno(), *self._received) if number >= 0]
