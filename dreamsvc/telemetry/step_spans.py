"""What a dreamer does when, as spans in the trace of the dream."""

from collections.abc import Callable

from dreamsvc import calling, entropy
from dreamsvc.telemetry.spans import Kind, Recorder, Span, SpanId


class StepSpans:
    """One step at a time; where nobody traces, each of these calls is one comparison."""

    def __init__(self, traceparent: str, recorder: Recorder | None, now_us: Callable[[], int]) -> None:
        """traceparent: of the dream, '' where it is not traced."""
        self._parent = calling.read_traceparent(traceparent) if recorder is not None else None
        self._recorder = recorder
        self._now_us = now_us
        self._name = ""
        self._began_us = 0

    def at(self, name: str) -> None:
        """From here on it is this step; the one before is over, unless it is the same."""
        if self._parent is not None and name != self._name:
            self._next(name)

    def end(self, error: str = "") -> None:
        """The step is over."""
        if self._parent is not None:
            self._next("", error)

    def _next(self, name: str, error: str = "") -> None:
        now_us = self._now_us()
        if self._name and self._parent is not None and self._recorder is not None:
            self._recorder.record(
                Span(
                    name=self._name,
                    id=SpanId(self._parent.trace_id, entropy.span_id()),
                    parent=self._parent.span_id,
                    kind=Kind.INTERNAL,
                    began_us=self._began_us,
                    ended_us=now_us,
                    attributes={},
                    error=error,
                )
            )
        self._name, self._began_us = name, now_us
