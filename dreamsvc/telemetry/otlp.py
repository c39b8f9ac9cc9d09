"""The only importer of OpenTelemetry: sends spans to a collector, in batches and in the background."""

import logging
from typing import override

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from dreamsvc import clock
from dreamsvc.telemetry.spans import Span, SpanId

TIMEOUT_S = 5.0
DELAY_MS = 1000.0
# A collector that is away is told of so often, and not with every batch.
SAY_EVERY_S = 60.0
EXPORTER = "opentelemetry.exporter.otlp.proto.grpc.exporter"
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_KINDS = {kind.name: kind for kind in SpanKind}


class OtlpSender:
    """Not thread-safe: one thread gives it spans."""

    def __init__(self, endpoint: str, service: str, version: str, instance: str) -> None:
        """Headers and certificates come from OpenTelemetry's own environment variables."""
        logging.getLogger(EXPORTER).addFilter(Seldom())
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            # Who is traced was decided before.
            sampler=ALWAYS_ON,
            resource=Resource.create(
                {"service.name": service, "service.version": version, "service.instance.id": instance}
            ),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=DELAY_MS))
        self._tracer = self._provider.get_tracer("dreamsvc", version)

    def send(self, span: Span) -> None:
        """Queues a span; never waits for the collector."""
        self._ids.next = span.id
        context = trace.set_span_in_context(trace.INVALID_SPAN)
        if span.parent:
            parent = _context(SpanId(span.id.trace_id, span.parent))
            context = trace.set_span_in_context(NonRecordingSpan(parent))
        made = self._tracer.start_span(
            span.name,
            context=context,
            kind=_KINDS[span.kind.value],
            attributes=span.attributes,
            links=[Link(_context(link)) for link in span.links],
            start_time=span.began_us * 1000,
        )
        if span.error:
            made.set_status(Status(StatusCode.ERROR, span.error))
        made.end(span.ended_us * 1000)

    def flush(self) -> None:
        """Sends what is queued; waits for the collector."""
        self._provider.force_flush()

    def close(self) -> None:
        """Sends what is queued, and ends; waits for the collector."""
        self._provider.shutdown()


class Seldom(logging.Filter):
    """Lets an error through once a minute, and warnings of tries that are made again not at all."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s = 0.0

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        now_s = clock.precise_s()
        if record.levelno < logging.ERROR or now_s < self._next_s:
            return False
        self._next_s = now_s + SAY_EVERY_S
        return True


class _GivenIds(IdGenerator):
    """Spans have the ids that our answers, logs and dreams already have."""

    def __init__(self) -> None:
        self.next = SpanId("0" * 32, "0" * 16)

    @override
    def generate_span_id(self) -> int:
        return int(self.next.span_id, 16)

    @override
    def generate_trace_id(self) -> int:
        return int(self.next.trace_id, 16)


def _context(span: SpanId) -> SpanContext:
    return SpanContext(int(span.trace_id, 16), int(span.span_id, 16), is_remote=True, trace_flags=_SAMPLED)
