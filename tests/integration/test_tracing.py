"""Traces through both processes, as a collector gets them."""

import logging
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc import exporter
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from dreamsvc.telemetry import otlp
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import GetDreamRequest, GetStatusRequest, TriggerRequest
from tests.integration.served import CONVERGE, InThread, Tables, a_memory, merged, refused, until
from tests.integration.villages import villages

pytestmark = pytest.mark.integration

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what is sent to it, by service."""

    def __init__(self) -> None:
        self._spans: list[tuple[str, Span]] = []
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            for group in request.resource_spans:
                service = next(one.value.string_value for one in group.resource.attributes if one.key == "service.name")
                self._spans += [(service, span) for scope in group.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self, trace_id: str = "") -> list[tuple[str, Span]]:
        with self._lock:
            return [one for one in self._spans if trace_id in ("", one[1].trace_id.hex())]

    def named(self, name: str, trace_id: str = "") -> Span:
        return until(lambda: next((span for _, span in self.spans(trace_id) if span.name == name), None))

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


def traced_to(collector: Collector, **telemetry: Any) -> Tables:
    quick: Tables = {"dream": {"resources": {"max_gpu_usage": 1.0}, "quality": {"probe_cues": 100}}}
    return merged(quick, {"telemetry": {"traces_endpoint": collector.endpoint, **telemetry}})


@pytest.fixture(scope="module")
def traced(collector: Collector) -> Iterator[InThread]:
    with InThread(":memory:", CONVERGE, traced_to(collector)) as service:
        yield service


def attributes(span: Span) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes}


def test_a_dream_is_one_trace_of_both_processes_that_points_to_the_call_that_began_it(
    traced: InThread, collector: Collector
) -> None:
    traced.calls.remember("dreams", villages())
    request = TriggerRequest(space="dreams", phase=dream_pb2.DREAM_PHASE_FULL_CYCLE, blocking=True)
    answer, call = traced.calls.dreams.Trigger.with_call(
        request, metadata=[("traceparent", f"00-{TRACE}-{PARENT}-01")], timeout=30
    )
    dream = answer.dream
    assert dream.state == Dream.STATE_SUCCEEDED
    trigger = collector.named("DreamService/Trigger", TRACE)
    assert trigger.parent_span_id.hex() == PARENT
    assert trigger.kind == Span.SPAN_KIND_SERVER
    assert dict(call.trailing_metadata())["trace-id"] == TRACE

    trace_id = dream.id.replace("-", "")
    root = collector.named("dream", trace_id)
    assert [(link.trace_id.hex(), link.span_id) for link in root.links] == [(TRACE, trigger.span_id)]
    assert not root.parent_span_id
    assert attributes(root)["dreamsvc.dream.state"] == "STATE_SUCCEEDED"
    collector.named("blind spots", trace_id)
    found = collector.spans(trace_id)
    by_service = {
        service: [span.name for one, span in found if one == service] for service in ("dreamsvc", "dreamsvc-dreamer")
    }
    assert by_service["dreamsvc"] == ["entering nrem", "nrem", "transitioning", "rem", "waking", "applying", "dream"]
    assert by_service["dreamsvc-dreamer"][:2] == ["preparing", "hebbian replay"]
    assert {"consolidation", "probes", "linking", "positions", "synthetic queries"} <= set(
        by_service["dreamsvc-dreamer"]
    )
    # Every part lies in the dream, and belongs to it.
    for _, span in found:
        assert span.start_time_unix_nano >= root.start_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
        assert span is root or span.name == "dream" or span.parent_span_id == root.span_id


def test_the_trace_of_an_error_is_that_of_its_span(traced: InThread, collector: Collector) -> None:
    error = refused(lambda: traced.calls.dream("dreams", "none"))
    span = collector.named("DreamService/GetDream", error.trace_id)
    assert not span.parent_span_id
    told = attributes(span)
    assert (told["rpc.response.status_code"], told["dreamsvc.error.reason"]) == ("NOT_FOUND", "NOT_FOUND")
    # What callers do wrong is no error of ours.
    assert span.status.code == Status.STATUS_CODE_UNSET


def test_a_dream_that_fails_has_a_span_that_failed(
    traced: InThread, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced.calls.remember("fails", a_memory())

    def break_off(*_: Any) -> Any:
        raise OSError("no disk")

    monkeypatch.setattr(traced.app.store, "dream_snapshot", break_off)
    dream = traced.calls.trigger("fails").dream
    assert traced.calls.ended("fails", dream.id).state == Dream.STATE_FAILED
    root = collector.named("dream", dream.id.replace("-", ""))
    assert root.status.code == Status.STATUS_CODE_ERROR
    assert "no disk" in root.status.message


def test_a_dream_that_goes_on_another_night_stays_in_its_trace(collector: Collector) -> None:
    slow: Tables = {"dream": {"nrem": {"pace": "fill"}}}
    with InThread(":memory:", traced_to(collector), slow) as service:
        service.calls.remember("default")
        dream = service.calls.trigger("default").dream
        service.calls.until_state("default", dream_pb2.SLEEP_STATE_NREM)
        service.calls.abort("default")
        assert service.calls.trigger("default").resumed
        service.calls.abort("default", discard=True)
    trace_id = dream.id.replace("-", "")
    nights = until(
        lambda: found if len(found := [s for _, s in collector.spans(trace_id) if s.name == "dream"]) == 2 else None
    )
    assert [attributes(span)["dreamsvc.dream.state"] for span in nights] == ["STATE_SUSPENDED", "STATE_DISCARDED"]


def test_only_the_share_that_is_wanted_is_traced_unless_the_caller_or_a_fault_says_otherwise(
    collector: Collector,
) -> None:
    with InThread(":memory:", traced_to(collector, traces_sample_ratio=0.0)) as service:
        service.calls.remember("default")
        _, ours = service.calls.dreams.GetStatus.with_call(GetStatusRequest(space="default"))
        unsampled = "ab" * 16
        for flags, trace in (("00", unsampled), ("01", "cd" * 16)):
            service.calls.dreams.GetStatus.with_call(
                GetStatusRequest(space="default"), metadata=[("traceparent", f"00-{trace}-{PARENT}-{flags}")]
            )
        service.app.scheduler.telling.status = None  # pyright: ignore
        with pytest.raises(grpc.RpcError):
            service.calls.dreams.GetStatus(GetStatusRequest(space="default"))
    collector.named("DreamService/GetStatus", "cd" * 16)
    failed = [span for _, span in collector.spans() if span.status.code == Status.STATUS_CODE_ERROR]
    assert [span.name for span in failed if span.name == "DreamService/GetStatus"] == ["DreamService/GetStatus"]
    assert not collector.spans(dict(ours.trailing_metadata())["trace-id"])
    assert not collector.spans(unsampled)


def test_no_text_is_in_any_span(traced: InThread, collector: Collector) -> None:
    traced.calls.recall("dreams", "a canary in a query")
    collector.named("MemoryService/Recall")
    assert not [span for _, span in collector.spans() if "canary" in str(span) or "village" in str(span)]


def test_a_collector_that_is_away_keeps_nobody_waiting() -> None:
    away: Tables = {"telemetry": {"traces_endpoint": "http://127.0.0.1:1"}}
    with InThread(":memory:", CONVERGE, away) as service:
        service.calls.remember("default")
        assert service.calls.recall("default").hits
        dream = service.calls.trigger("default").dream
        assert service.calls.ended("default", dream.id).state == Dream.STATE_SUCCEEDED


def test_a_collector_that_is_away_is_told_of_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("dreamsvc.clock.precise_s", lambda: now_s[0])
    seldom = otlp.Seldom()

    def passes(level: int) -> bool:
        return bool(seldom.filter(logging.LogRecord(otlp.EXPORTER, level, "", 0, "away", (), None)))

    assert [passes(logging.WARNING), passes(logging.ERROR), passes(logging.ERROR)] == [False, True, False]
    now_s[0] += otlp.SAY_EVERY_S
    assert passes(logging.ERROR)
    # The name is that of the logger which says it.
    assert exporter.logger.name == otlp.EXPORTER


def test_without_an_endpoint_nothing_of_it_is_there(converging: InThread, quick_space: str) -> None:
    assert converging.app._measuring is None
    assert converging.calls.call(converging.calls.dreams.GetStatus, GetStatusRequest(space=quick_space)).space
    refused(lambda: converging.calls.call(converging.calls.dreams.GetDream, GetDreamRequest(space=quick_space)))
