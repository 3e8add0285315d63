"""One end of the connection between a worker and one of its processes."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable
from typing import Final

from geartrain.fork_safety import protect_on_fork
from geartrain.worker.processes.messages import Message, MessageDecoder, encode_message

__all__ = ["MessagePipe"]

_READ_SIZE: Final = 64 * 1024


class MessagePipe:
    """
    Sends and receives messages. The methods block, and raise EOFError when the other process has ended.

    The end of a process cannot be inferred from the end of the stream: whatever the process forked may hold the stream
    open. Forked children of this process do not: there the socket is replaced by ``/dev/null``.

    Args:
        connection: A connected socket, which is closed by :meth:`close`.
        exit_descriptor: Becomes readable when the other process ends. ``None`` to rely on the end of the stream.
    """

    def __init__(self, connection: socket.socket, exit_descriptor: int | None = None) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._exit_descriptor = exit_descriptor
        self._waiting = {event: self._make_poll(event) for event in (select.POLLIN, select.POLLOUT)}
        self._decoder = MessageDecoder()
        protect_on_fork(self, MessagePipe._descriptors)

    def send(self, number: int, message: Message) -> None:
        """
        Send a message about the job with this number.

        Raises:
            EOFError: If the other process has ended, or closed its end.
        """
        with memoryview(encode_message(number, message)) as data:
            sent = 0
            while sent < len(data):
                try:
                    sent += self._socket.send(data[sent:])
                except BlockingIOError:
                    self._wait_for(select.POLLOUT)
                except OSError as error:
                    raise EOFError from error

    def receive(self) -> tuple[int, Message]:
        """
        Wait for the next message; return the number of its job and the message.

        Raises:
            EOFError: If the other process has ended, or closed its end. What it sent before has been returned.
        """
        while (message := self._decoder.next_message()) is None:
            self._wait_for(select.POLLIN)
            try:
                data = self._socket.recv(_READ_SIZE)
            except BlockingIOError:
                continue
            except OSError as error:
                raise EOFError from error
            if not data:
                raise EOFError
            self._decoder.receive_data(data)
        return message

    def close(self) -> None:
        """Close the connection; the other end receives EOFError."""
        self._socket.close()

    def _wait_for(self, event: int) -> None:
        """Wait until the socket is ready; raise EOFError if the other process has ended and it is not."""
        descriptor = self._socket.fileno()
        for ready, _ in self._waiting[event].poll():
            if ready == descriptor:
                return
        raise EOFError

    def _make_poll(self, event: int) -> select.poll:
        poll = select.poll()
        poll.register(self._socket, event)
        if self._exit_descriptor is not None:
            poll.register(self._exit_descriptor, select.POLLIN)
        return poll

    def _descriptors(self) -> Iterable[int]:
        descriptors = (self._socket.fileno(), self._exit_descriptor)
        return [number for number in descriptors if number is not None and number >= 0]
