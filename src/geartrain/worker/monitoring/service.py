"""The HTTP service of a worker: ``/livez``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from geartrain.http_service import HttpAddress, HttpService, plain_response, route
from geartrain.worker.monitoring.multiprocess import has_prometheus, multiprocess_mode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from geartrain.worker.job_metrics import JobMetrics

__all__ = ["recording_metrics", "serving_health"]


@contextmanager
def recording_metrics(*, several_processes: bool) -> Iterator[JobMetrics | None]:
    """
    Return what records metrics, or ``None`` without prometheus-client.

    Raises:
        LocalProtocolError: If several processes must record, but prometheus-client was imported without that mode.
    """
    if not has_prometheus():
        yield None
        return
    with ExitStack() as stack:
        if several_processes:
            stack.enter_context(multiprocess_mode())
        from geartrain.worker.monitoring.prometheus import find_metrics  # the mode has been chosen

        yield find_metrics()


@contextmanager
def serving_health(
    address: HttpAddress, why_dead: Callable[[], str | None], why_not_ready: Callable[[], str | None]
) -> Iterator[HttpAddress]:
    """
    Serve until the end of the block, and return where.

    Args:
        address: Where to listen.
        why_dead: Returns what is wrong if the program should be restarted. Called in other threads.
        why_not_ready: Returns the reason why no jobs are taken, if that is so. Called in other threads.

    Raises:
        OSError: If it cannot listen there.
    """
    service = HttpService(
        address,
        route({"/livez": _probe(why_dead), "/readyz": _probe(why_not_ready), "/metrics": _make_metrics_application()}),
    )
    service.start()
    try:
        logging.getLogger("geartrain.worker").info("serving /livez, /readyz and /metrics at http://%s", service.address)
        yield service.address
    finally:
        service.close()


def _probe(find_problem: Callable[[], str | None]) -> WSGIApplication:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        problem = find_problem()
        status = HTTPStatus.OK if problem is None else HTTPStatus.SERVICE_UNAVAILABLE
        return plain_response(status, problem or "ok")(environ, start_response)

    return application


def _make_metrics_application() -> WSGIApplication:
    if not has_prometheus():
        return plain_response(HTTPStatus.NOT_IMPLEMENTED, "metrics require: pip install 'geartrain[metrics]'")
    from prometheus_client import make_wsgi_app

    from geartrain.worker.monitoring.prometheus import make_registry

    application: WSGIApplication = make_wsgi_app(make_registry())
    return application
