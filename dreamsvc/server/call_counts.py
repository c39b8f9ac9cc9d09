"""Counts calls for metrics; a recall that was slow can be looked up by the trace beside its bucket."""

from dreamsvc.server.observing import CallEnd
from dreamsvc.telemetry.counts import Counts
from dreamsvc.telemetry.histogram import Exemplar


class CallCounts:
    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def call_began(self, method: str) -> None:
        self._counts.in_flight[method] += 1

    def call_ended(self, end: CallEnd) -> None:
        at_s = end.began_us / 1e6 + end.seconds
        exemplar = Exemplar(end.seconds, end.call.trace_id, at_s) if end.call.trace_id else None
        self._counts.call_ended(end.method, end.code, end.seconds, end.reason, exemplar)
