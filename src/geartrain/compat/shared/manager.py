"""What clients, workers and admin clients have in common: connections, and polling them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from geartrain.compat.shared.connection import SharedConnection
from geartrain.compat.shared.encoder import Encoder
from geartrain.compat.shared.event_queue import EventQueue
from geartrain.compat.shared.flavour import Flavour
from geartrain.compat.shared.job import GearmanJob, GearmanJobRequest
from geartrain.compat.shared.util import Stopwatch, disambiguate_server_parameter

__all__ = ["Host", "SharedManager"]

Host = str | tuple[str, int] | dict[str, Any]

_TLS_KEYS = ("host", "port", "keyfile", "certfile", "ca_certs")


class SharedManager:
    """
    Connections to job servers.

    The class attributes may be overridden. Names with two underscores do not clash with those of programs' subclasses.

    Args:
        host_list: Job servers: ``"host:port"``, ``"host"``, ``("host", port)``, or for TLS a dict with ``host``,
            ``port``, ``keyfile``, ``certfile`` and ``ca_certs``.

    Attributes:
        data_encoder: What turns the data of jobs into what is sent, and back.
        job_class: The class of jobs.
        job_request_class: The class of a client's requests.
        connection_class: The class of connections.
        connection_list: The connections, in the order of the hosts.

    Raises:
        GearmanError: If a host is invalid.
    """

    flavour: ClassVar[Flavour]
    data_encoder: Encoder
    job_class: Callable[..., Any] = GearmanJob
    job_request_class: Callable[..., Any] = GearmanJobRequest
    connection_class: Callable[..., Any]

    def __init__(self, host_list: Iterable[Host] | None = None) -> None:
        self.connection_list: list[Any] = []
        self._event_queue = EventQueue()
        if isinstance(host_list, str | bytes | dict):
            raise self.flavour.errors.base(f"expected a list of job servers, got {host_list!r}")
        for host in host_list or ():
            self.__add_host(host)

    def __add_host(self, host: Host) -> None:
        if not isinstance(host, dict):
            self.add_connection(host)
        elif missing := [key for key in _TLS_KEYS if key not in host]:
            raise self.flavour.errors.base(f"a job server with TLS needs {', '.join(missing)}, got {host!r}")
        else:
            self.add_ssl_connection(**{key: host[key] for key in _TLS_KEYS})

    def add_connection(self, hostport_tuple: str | tuple[str, int]) -> Any:
        """
        Add a job server, and return its connection.

        Raises:
            GearmanError: If the host is invalid.
        """
        if not isinstance(hostport_tuple, str | tuple):
            raise self.flavour.errors.base(f"expected host:port, a tuple or a dict, got {hostport_tuple!r}")
        try:
            host, port = disambiguate_server_parameter(hostport_tuple)
        except (ValueError, TypeError) as error:
            raise self.flavour.errors.base(str(error)) from error
        return self.__add(self.connection_class(host=host, port=port))

    def add_ssl_connection(
        self, host: str, port: int, keyfile: str | None, certfile: str | None, ca_certs: str | None
    ) -> Any:
        """Add a job server with TLS, and return its connection."""
        return self.__add(
            self.connection_class(host=host, port=port, keyfile=keyfile, certfile=certfile, ca_certs=ca_certs)
        )

    def __add(self, connection: SharedConnection) -> SharedConnection:
        self.connection_list.append(connection)
        return connection

    def establish_connection(self, current_connection: Any) -> Any:
        """
        Connect, unless it is connected, and return the connection.

        Raises:
            ConnectionError: If the job server cannot be reached.
            AssertionError: If it is not in ``connection_list``.
        """
        if current_connection not in self.connection_list:
            raise AssertionError(f"unknown connection {current_connection!r}")
        current_connection.connect()
        return current_connection

    def poll_connections_until_stopped(
        self, submitted_connections: Iterable[Any], callback_fxn: Callable[[bool], object], timeout: float | None = None
    ) -> bool:
        """
        Handle what arrives until a callback returns ``False``.

        Args:
            submitted_connections: Connections of this object.
            callback_fxn: Called with whether anything has arrived: at the start, and whenever something has.
            timeout: Seconds, or ``None`` for no limit.

        Returns:
            Whether the time was over; ``False`` if the callback has ended it.

        Raises:
            ServerUnavailable: If none of the connections is connected.
        """
        return self._poll(submitted_connections, callback_fxn, timeout, acceptances=True)

    def _poll(
        self,
        submitted_connections: Iterable[Any],
        callback_fxn: Callable[[bool], object],
        timeout: float | None,
        *,
        acceptances: bool,
    ) -> bool:
        connections = list(submitted_connections)
        stopwatch = Stopwatch(timeout)
        any_activity = False
        with self._event_queue.listening(acceptances=acceptances) as arrived:
            any_activity = self._event_queue.handle()
            while callback_fxn(any_activity):
                self._check_connected(connections)
                remaining = stopwatch.get_time_remaining()
                if remaining == 0.0:
                    return True
                if not arrived.wait(remaining):
                    return True
                any_activity = self._event_queue.handle()
        return False

    def _check_connected(self, connections: Iterable[Any]) -> None:
        if not any(connection.connected for connection in connections):
            raise self._make_unavailable()

    def _make_unavailable(self) -> Exception:
        return self.flavour.errors.unavailable(f"Found no valid connections in list: {self.connection_list!r}")

    def shutdown(self) -> None:
        """Close all connections. The next call connects again."""
        for connection in self.connection_list:
            connection.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} connection_list={self.connection_list!r}>"
