"""Each call as a span: of the caller's trace where it told one, else of a trace whose id is in the answer."""

from collections.abc import Callable

from dreamsvc import entropy
from dreamsvc.server.observing import CallEnd
from dreamsvc.telemetry import spans
from dreamsvc.telemetry.spans import Kind, Recorder, Span

# Failures by our own fault.
_OURS = ("INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAVAILABLE")
_WHOLE = 1 << 64


class CallSpans:
    def __init__(self, recorder: Recorder, ratio: Callable[[], float]) -> None:
        """ratio: the share of calls that is traced where the caller does not say."""
        self._recorder = recorder
        self._ratio = ratio

    def call_began(self, method: str) -> None:
        # Known before anybody knows whether it is traced: a dream that it starts points to it.
        spans.begin_call(entropy.span_id())

    def call_ended(self, end: CallEnd) -> None:
        call, ours = end.call, spans.of_call()
        if ours is None or not self._traced(end):
            return
        service, _, name = end.method.partition("/")
        attributes: dict[str, spans.Value] = {
            "rpc.system.name": "grpc",
            "rpc.service": service,
            "rpc.method": name,
            "rpc.response.status_code": end.code,
        }
        if end.reason:
            attributes["dreamsvc.error.reason"] = end.reason
        if call.caller:
            attributes["dreamsvc.caller"] = call.caller
        self._recorder.record(
            Span(
                name=end.method,
                id=ours,
                parent=call.parent.span_id if call.parent else "",
                kind=Kind.SERVER,
                began_us=end.began_us,
                ended_us=end.began_us + int(end.seconds * 1e6),
                attributes=attributes,
                error=(end.reason or end.code) if end.code in _OURS else "",
            )
        )

    def _traced(self, end: CallEnd) -> bool:
        parent = end.call.parent
        if parent is not None:
            return parent.sampled
        # The same answer for every span of a trace.
        return end.code in _OURS or int(end.call.trace_id[16:], 16) < self._ratio() * _WHOLE
