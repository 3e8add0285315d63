"""Tracing with OpenTelemetry."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, use_span

from geartrain import Client, JobFailedError, Task, Worker, WorkerJob, blocking
from geartrain.client.uniques import generate_uniques
from geartrain.contrib.opentelemetry import trace_jobs, trace_submissions
from geartrain.protocol.packets import PacketType
from tests.support.fake_client import fake_client
from tests.support.job_server import AnyJobServer
from tests.support.working import working


class Tracing:
    """A provider that keeps the spans that have ended."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]


def context_of(span: ReadableSpan) -> SpanContext:
    context: SpanContext | None = span.context
    assert context is not None
    return context


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def traceparent(span: ReadableSpan) -> str:
    context = context_of(span)
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def make_worker(address: str, tracing: Tracing) -> Worker:
    worker = Worker([address], concurrency=5, middleware=[trace_jobs(tracing.provider)])

    @worker.function("reverse")
    def reverse(job: WorkerJob) -> bytes:
        with tracing.tracer.start_as_current_span("inner"):
            return job.workload[::-1]

    @worker.function("fail")
    async def fail(job: WorkerJob) -> bytes:
        raise JobFailedError("no such colour")

    return worker


async def test_submission_and_job_are_spans_of_one_trace(job_server: AnyJobServer) -> None:
    tracing = Tracing()
    with tracing.tracer.start_as_current_span("start"):
        worker = make_worker(job_server.address, tracing)
        async with (
            Client([job_server.address], on_submit=trace_submissions(tracing.provider)) as client,
            working(worker),
        ):
            with tracing.tracer.start_as_current_span("request") as request:
                assert await client.do("reverse", b"abc") == b"cba"
    [submit], [process], [inner] = (
        tracing.named("submit reverse"),
        tracing.named("process reverse"),
        tracing.named("inner"),
    )
    assert parent_of(submit) == request.get_span_context().span_id
    assert parent_of(process) == context_of(submit).span_id
    assert parent_of(inner) == context_of(process).span_id
    assert context_of(process).trace_id == request.get_span_context().trace_id
    assert (submit.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    host, _, port = job_server.address.partition(":")
    for span, kind, name in ((submit, "send", "submit"), (process, "process", "process")):
        assert span.attributes is not None
        attributes = dict(span.attributes)
        assert str(attributes.pop("messaging.message.id")).startswith("H:")
        assert attributes == {
            "messaging.system": "gearman",
            "messaging.destination.name": "reverse",
            "messaging.operation.type": kind,
            "messaging.operation.name": name,
            "messaging.message.body.size": 3,
            "server.address": host,
            "server.port": int(port),
        }


async def test_equal_jobs_of_one_request_are_not_merged(job_server: AnyJobServer) -> None:
    tracing = Tracing()
    worker = make_worker(job_server.address, tracing)
    async with (
        Client([job_server.address], on_submit=trace_submissions(tracing.provider)) as client,
        working(worker),
    ):
        with tracing.tracer.start_as_current_span("request"):
            assert [result async for result in client.map("reverse", [b"ab", b"ab", b"ab"])] == [b"ba"] * 3
    assert len(tracing.named("process reverse")) == 3
    assert len({traceparent(span) for span in tracing.named("submit reverse")}) == 3


@pytest.mark.parametrize("unique", ["mine", ""])
async def test_a_unique_of_the_users_own_is_not_altered(job_server: AnyJobServer, unique: str) -> None:
    tracing = Tracing()
    worker = make_worker(job_server.address, tracing)
    async with (
        Client([job_server.address], on_submit=trace_submissions(tracing.provider)) as client,
        working(worker),
    ):
        job = client.submit("reverse", b"abc", unique=unique)
        assert (await job.created()).unique == unique
        await job
    [submit], [process] = tracing.named("submit reverse"), tracing.named("process reverse")
    assert process.parent is None
    assert context_of(process).trace_id != context_of(submit).trace_id


async def test_each_try_has_a_span_and_a_unique_of_its_own() -> None:
    tracing = Tracing()
    uniques: list[bytes] = []
    ends: list[object] = []

    async def on_fail(error: BaseException) -> None:
        ends.append(error)

    async with fake_client(on_submit=trace_submissions(tracing.provider)) as (client, server):
        job = client.submit("f", retry_count=1, on_retry=ends.append, on_fail=on_fail)
        peer = await server.accept()
        for number in range(2):
            uniques.append((await peer.expect_job(b"H:%d" % number))[1])
            peer.send(PacketType.WORK_FAIL, b"H:%d" % number)
        with pytest.raises(JobFailedError):
            await job
    first, second = tracing.spans
    assert uniques == [traceparent(first).encode(), traceparent(second).encode()]
    assert first.status.description == "failed, and was followed by retry 1"
    assert second.status.description is not None
    assert second.status.description.startswith("JobFailedError: ")
    assert second.attributes is not None
    assert second.attributes["error.type"] == "JobFailedError"
    assert ends == [1, job.exception()]


async def test_errors_and_cancellations_end_the_spans(job_server: AnyJobServer) -> None:
    tracing = Tracing()
    worker = make_worker(job_server.address, tracing)
    async with (
        Client([job_server.address], on_submit=trace_submissions(tracing.provider)) as client,
        working(worker),
    ):
        with pytest.raises(JobFailedError):
            await client.do("fail")
        client.submit("nobody works on this").cancel()
    [submit], [process] = tracing.named("submit fail"), tracing.named("process fail")
    assert (submit.status.status_code, process.status.status_code) == (StatusCode.ERROR, StatusCode.ERROR)
    assert process.status.description == "JobFailedError: no such colour"
    [cancelled] = tracing.named("submit nobody works on this")
    assert cancelled.status.description == "CancelledError: "


async def test_the_span_of_a_background_job_ends_when_the_job_server_has_it(job_server: AnyJobServer) -> None:
    tracing = Tracing()
    async with Client([job_server.address], on_submit=trace_submissions(tracing.provider)) as client:
        handle = await client.do_background("reverse", b"abc")
    [submit] = tracing.spans
    assert handle.unique == traceparent(submit)


def test_a_job_that_is_not_sampled_is_not_sampled_in_the_worker(job_server: AnyJobServer) -> None:
    """Its unique is a trace context nevertheless, and differs from that of all other jobs."""
    tracing = Tracing(ParentBased(ALWAYS_OFF))
    on_submit = trace_submissions(tracing.provider)
    first, second = on_submit(Task("f")), on_submit(Task("f"))
    assert first is not None
    assert second is not None
    assert first.unique is not None
    assert not int(first.unique[-2:], 16) & TraceFlags.SAMPLED
    assert first.unique != second.unique
    assert not first.callbacks

    always_on = Tracing()
    worker = make_worker(job_server.address, always_on)

    async def run() -> None:
        async with Client([job_server.address], on_submit=on_submit) as client, working(worker):
            assert await client.do("reverse", b"abc") == b"cba"

    asyncio.run(run())
    assert not tracing.spans
    assert not always_on.spans


@pytest.mark.parametrize("sampled", [TraceFlags.SAMPLED, TraceFlags.DEFAULT])
def test_without_an_sdk_a_task_is_left_as_it_is(sampled: int) -> None:
    """The API returns the parent again: all jobs of a request would have one unique, be merged, and get one result."""
    on_submit = trace_submissions(trace.NoOpTracerProvider())
    assert on_submit(Task("f")) is None
    parent = SpanContext(trace_id=1, span_id=2, is_remote=False, trace_flags=TraceFlags(sampled))
    with use_span(NonRecordingSpan(parent)):
        assert on_submit(Task("f")) is None


async def test_a_unique_that_is_no_trace_context_begins_a_trace(job_server: AnyJobServer) -> None:
    tracing = Tracing()
    worker = make_worker(job_server.address, tracing)
    generated = next(generate_uniques()).decode()
    async with Client([job_server.address]) as client, working(worker):
        for unique in ("", generated, "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "\udcff"):
            assert await client.do("reverse", b"ab", unique=unique) == b"ba"
    assert [span.parent for span in tracing.named("process reverse")] == [None] * 4


def test_the_blocking_client_continues_the_trace_of_its_caller(job_server: AnyJobServer) -> None:
    tracing = Tracing()
    on_submit = trace_submissions(tracing.provider)
    with (
        make_blocking_worker(job_server.address, tracing),
        blocking.Client(job_server.address, on_submit=on_submit) as client,
        tracing.tracer.start_as_current_span("request") as request,
    ):
        assert client.do("reverse", b"abc") == b"cba"
    [submit], [process] = tracing.named("submit reverse"), tracing.named("process reverse")
    assert parent_of(submit) == request.get_span_context().span_id
    assert parent_of(process) == context_of(submit).span_id


def make_blocking_worker(address: str, tracing: Tracing) -> blocking.Worker:
    worker = blocking.Worker(address, middleware=[trace_jobs(tracing.provider)])

    @worker.function("reverse")
    def reverse(job: WorkerJob) -> bytes:
        return job.workload[::-1]

    return worker
