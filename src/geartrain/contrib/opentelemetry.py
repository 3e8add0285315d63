"""
Tracing with OpenTelemetry: a span for each submission and for each job of a worker, in one trace.

The W3C trace context travels in the unique of jobs that have none of their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from geartrain import JobHandle, Task, TaskOptions, WorkerJob, __version__

__all__ = ["trace_jobs", "trace_submissions"]

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_FIELD: Final = "traceparent"  # 55 bytes; tracestate would not fit

_Call: TypeAlias = Callable[[WorkerJob], Awaitable[Any]]


def trace_submissions(tracer_provider: TracerProvider | None = None) -> Callable[[Task], Task | None]:
    """
    Return a function for ``Client(on_submit=...)`` that makes a span for each try of a job.

    The span lasts until the try ends; that of a background job, until the job server has accepted it. A job without a
    unique is sent with the trace context as its unique, by which the worker's span becomes a child. A unique of the
    user's own, ``""`` included, is not altered, and the worker's span then begins a trace.

    Args:
        tracer_provider: Defaults to the global one.
    """
    tracer = _get_tracer(tracer_provider)

    def on_submit(task: Task) -> Task | None:
        parent = trace.get_current_span().get_span_context()
        span = tracer.start_span(
            f"submit {task.function}",
            kind=SpanKind.PRODUCER,
            attributes=_describe(task.function, "send", "submit", task.workload),
        )
        changes = _Try(span, task.callbacks).make_callbacks() if span.is_recording() else TaskOptions()
        if task.unique is None and _is_new(span.get_span_context(), parent):
            carrier: dict[str, str] = {}
            _PROPAGATOR.inject(carrier, trace.set_span_in_context(span, Context()))
            changes["unique"] = carrier[_FIELD]
        return task.replace(**changes) if changes else None

    return on_submit


def trace_jobs(
    tracer_provider: TracerProvider | None = None,
) -> Callable[[WorkerJob, _Call], Coroutine[Any, Any, Any]]:
    """
    Return middleware for ``Worker(middleware=[...])`` that makes a span for each job.

    It is a child of the span of the submission, if the unique of the job is a trace context. It is the current span for
    functions in the event loop and in threads, not for those in processes.

    Args:
        tracer_provider: Defaults to the global one.
    """
    tracer = _get_tracer(tracer_provider)

    async def middleware(job: WorkerJob, call: _Call) -> Any:
        attributes = _describe(job.function, "process", "process", job.workload) | _describe_server(job.server)
        with tracer.start_as_current_span(
            f"process {job.function}",
            # Not a child of the span in which the worker was started.
            context=_PROPAGATOR.extract({_FIELD: job.unique}, Context()),
            kind=SpanKind.CONSUMER,
            attributes={**attributes, "messaging.message.id": job.handle},
        ):
            return await call(job)

    return middleware


class _Try:
    """
    The span of one try, which its callbacks end.

    Args:
        span: The span.
        callbacks: The user's own, which are called afterwards.
    """

    def __init__(self, span: Span, callbacks: Mapping[str, Callable[..., object]]) -> None:
        self._span = span
        self._callbacks = callbacks

    def make_callbacks(self) -> TaskOptions:
        """Return the options of a task with these callbacks."""
        return {
            "on_created": self._chain("on_created", self._on_created),
            "on_retry": self._chain("on_retry", self._on_retry),
            "on_complete": self._chain("on_complete", self._on_complete),
            "on_fail": self._chain("on_fail", self._on_fail),
        }

    def _chain(self, name: str, own: Callable[[Any], None]) -> Callable[[Any], Any]:
        callback = self._callbacks.get(name)
        if callback is None:
            return own

        def call(argument: object) -> object:
            own(argument)
            return callback(argument)

        return call

    def _on_created(self, handle: JobHandle) -> None:
        self._span.set_attributes({"messaging.message.id": handle.handle, **_describe_server(handle.server)})

    def _on_retry(self, attempt: int) -> None:
        self._span.set_status(Status(StatusCode.ERROR, f"failed, and was followed by retry {attempt}"))
        self._span.end()

    def _on_complete(self, result: bytes) -> None:
        self._span.end()

    def _on_fail(self, error: BaseException) -> None:
        self._span.record_exception(error)
        self._span.set_attribute("error.type", type(error).__qualname__)
        self._span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        self._span.end()


def _get_tracer(provider: TracerProvider | None) -> Tracer:
    return trace.get_tracer("geartrain", __version__, tracer_provider=provider)


def _is_new(context: SpanContext, parent: SpanContext) -> bool:
    """
    Return whether a span was made for one submission.

    Without an SDK the API returns the parent again. All jobs of a request would have the same unique, so the job server
    would merge them into one.
    """
    return context.is_valid and context.span_id != parent.span_id


def _describe(function: str, kind: str, name: str, workload: bytes) -> dict[str, AttributeValue]:
    """Return attributes by the semantic conventions for messaging."""
    return {
        "messaging.system": "gearman",
        "messaging.destination.name": function,
        "messaging.operation.type": kind,
        "messaging.operation.name": name,
        "messaging.message.body.size": len(workload),
    }


def _describe_server(server: str) -> dict[str, AttributeValue]:
    host, _, port = server.rpartition("://")[2].rpartition(":")
    return {"server.address": host.strip("[]"), "server.port": int(port)}
