"""The admin client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from geartrain import (
    ConnectionLostError,
    GearmanError,
    NoServersError,
    ServerTimeoutError,
)
from geartrain.blocking import Admin
from geartrain.compat.shared.manager import Host, SharedManager
from geartrain.compat.shared.util import unlist

__all__ = ["DEFAULT_ADMIN_CLIENT_TIMEOUT", "SharedAdminClient"]

T = TypeVar("T")

DEFAULT_ADMIN_CLIENT_TIMEOUT = 10.0


class SharedAdminClient(SharedManager):
    """
    Queries and configures one job server. It connects on first use, and again after the connection was lost.

    Each method raises ``ServerUnavailable`` if the job server cannot be reached, ``InvalidAdminClientState`` if it does
    not answer within ``poll_timeout``, and ``ProtocolError`` if it refuses.

    Args:
        host_list: One job server; see :class:`GearmanConnectionManager`.
        poll_timeout: Seconds to wait for an answer, or ``None`` for no limit.

    Raises:
        GearmanError: If there are several hosts, or one is invalid; in the text flavour ``ValueError`` for several.
    """

    def __init__(
        self, host_list: Iterable[Host] | None = None, poll_timeout: float | None = DEFAULT_ADMIN_CLIENT_TIMEOUT
    ) -> None:
        super().__init__(host_list)
        self.poll_timeout: float | None = poll_timeout
        self.current_connection: Any = self.__get_only_connection()
        self.__admin: Admin | None = None

    def __get_only_connection(self) -> Any:
        try:
            return unlist(self.connection_list)
        except ValueError as error:
            if self.flavour.is_text:
                raise
            raise self.flavour.errors.base(f"an admin client has one job server, got {error}") from None

    def establish_admin_connection(self) -> None:
        """Connect, unless it is connected."""
        self.get_version()

    def ping_server(self) -> float:
        """Return the seconds that the job server takes to answer."""
        begin = time.monotonic()
        self.get_version()
        return time.monotonic() - begin

    def get_status(self) -> tuple[dict[str, Any], ...]:
        """
        Return the functions: dicts with ``task``, ``queued``, ``running`` and ``workers``.

        As in Gearman's protocol, ``queued`` includes the running jobs.
        """
        return tuple(
            {"task": row.function, "queued": row.total, "running": row.running, "workers": row.workers}
            for row in self.__ask(Admin.status)
        )

    def get_workers(self) -> tuple[dict[str, Any], ...]:
        """Return the connections: dicts with ``file_descriptor``, ``ip``, ``client_id`` and ``tasks``."""
        return tuple(
            {"file_descriptor": str(row.fd), "ip": row.ip, "client_id": row.client_id, "tasks": row.functions}
            for row in self.__ask(Admin.workers)
        )

    def get_version(self) -> str:
        """Return ``"OK "`` and the version."""
        return f"OK {self.__ask(Admin.version)}"

    def get_pid(self) -> str:
        """Return ``"OK "`` and the process ID."""
        return f"OK {self.__ask(Admin.getpid)}"

    def get_jobs(self) -> tuple[dict[str, Any], ...]:
        """Return the unfinished jobs: dicts with ``handle``, ``queued``, ``canceled`` and ``enabled``."""
        return tuple(
            {"handle": row.handle, "queued": row.retries, "canceled": int(row.ignored), "enabled": int(row.persisted)}
            for row in self.__ask(Admin.show_jobs)
        )

    def get_unique_jobs(self) -> tuple[dict[str, str], ...]:
        """Return the uniques of the unfinished jobs: dicts with ``unique``."""
        return tuple({"unique": row.unique} for row in self.__ask(Admin.show_unique_jobs))

    def send_maxqueue(self, task: str, max_size: int) -> str:
        """Limit the number of jobs of a function, and return ``"OK"``; 0 means no limit."""
        self.__ask(lambda admin: admin.set_max_queue(task, max_size))
        return "OK"

    def cancel_job(self, handle: str) -> str:
        """Remove a queued job, and return ``"OK"``; if the job server does not know it, ``"ERR"`` and the reason."""
        return "OK" if self.__ask(lambda admin: admin.cancel_job(handle)) else "ERR UNKNOWN_JOB"

    def send_shutdown(self, graceful: bool = True) -> None:
        """
        Shut the job server down. gearmand does not support this since 1.1.15.

        Args:
            graceful: Wait for the jobs in progress first.
        """
        self.__ask(lambda admin: admin.shutdown(graceful=graceful))

    def __ask(self, call: Callable[[Admin], T]) -> T:
        connection = self.current_connection
        if connection is None:
            raise self._make_unavailable()
        if self.__admin is None:
            self.__admin = Admin(connection.address, tls=connection.make_tls())
        self.__admin.timeout = self.poll_timeout
        try:
            answer = call(self.__admin)
        except (NoServersError, ConnectionLostError) as error:
            connection.connected = False
            raise self._make_unavailable() from error
        except ServerTimeoutError as error:
            connection.connected = False
            raise self.flavour.errors.admin_state(
                f"Admin client timed out after {self.poll_timeout} second(s)"
            ) from error
        except GearmanError as error:
            raise self.flavour.errors.protocol(str(error)) from error
        connection.connected = True
        return answer

    def shutdown(self) -> None:
        """Close the connection. The next call connects again."""
        admin, self.__admin = self.__admin, None
        if admin is not None:
            admin.close()
        super().shutdown()
