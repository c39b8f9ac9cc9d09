"""A night as a trace of its own: the dream, and in it what the space did when.

Its trace id is the id of the dream without hyphens, so that whoever knows the dream finds the trace. Each night of a
dream that was woken and goes on is a span of its own in it. The dreamer's steps are told by the dreamer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import override

from dreamsvc import entropy
from dreamsvc.telemetry import spans
from dreamsvc.telemetry.observer import Observer
from dreamsvc.telemetry.spans import Kind, Recorder, Span, SpanId
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream, SleepState

_NAMES = {
    dream_pb2.SLEEP_STATE_ENTERING_NREM: "entering nrem",
    dream_pb2.SLEEP_STATE_NREM: "nrem",
    dream_pb2.SLEEP_STATE_TRANSITIONING: "transitioning",
    dream_pb2.SLEEP_STATE_REM: "rem",
    dream_pb2.SLEEP_STATE_WAKING: "waking",
}


@dataclass(slots=True)
class _Open:
    """A night that goes on."""

    root: SpanId
    began_us: int
    # The call that let it begin.
    trigger: SpanId | None
    part: str = ""
    part_began_us: int = field(default=0)


class NightSpans(Observer):
    """Follows nights from their beginning to their end."""

    def __init__(self, recorder: Recorder, now_us: Callable[[], int]) -> None:
        self._recorder = recorder
        self._now_us = now_us
        self._open: dict[str, _Open] = {}

    @override
    def night_began(self, dream: Dream) -> None:
        now_us = self._now_us()
        root = SpanId(dream.id.replace("-", ""), entropy.span_id())
        self._open[dream.id] = _Open(root, now_us, spans.of_call())

    @override
    def traceparent(self, dream: Dream) -> str:
        night = self._open.get(dream.id)
        return "" if night is None else night.root.traceparent()

    @override
    def night_moved(self, dream: Dream, sleep_state: SleepState.ValueType) -> None:
        night = self._open.get(dream.id)
        if night is None:
            return
        # Awake; what was dreamed is still being applied, or written down for another night.
        applying = "applying" if dream.state == Dream.STATE_FOLDING else "settling"
        self._next_part(night, _NAMES.get(sleep_state, applying))

    @override
    def night_over(self, dream: Dream) -> None:
        night = self._open.pop(dream.id, None)
        if night is None:
            return
        self._next_part(night, "")
        report = dream.report
        self._recorder.record(
            Span(
                name="dream",
                id=night.root,
                parent="",
                kind=Kind.INTERNAL,
                began_us=night.began_us,
                ended_us=self._now_us(),
                attributes={
                    "dreamsvc.dream.id": dream.id,
                    "dreamsvc.space": dream.space,
                    "dreamsvc.dream.phase": dream_pb2.DreamPhase.Name(dream.phase),
                    "dreamsvc.dream.state": Dream.State.Name(dream.state),
                    "dreamsvc.dream.end_reason": dream_pb2.EndReason.Name(dream.end_reason),
                    "dreamsvc.dream.triggered_by": dream_pb2.TriggeredBy.Name(dream.triggered_by),
                    "dreamsvc.dream.dry_run": dream.dry_run,
                    "dreamsvc.dream.wakes": report.wakes,
                    "dreamsvc.dream.faults": len(report.faults),
                    "dreamsvc.dream.nodes": report.nodes,
                    "dreamsvc.dream.nodes_replayed": report.nodes_replayed,
                    "dreamsvc.dream.operations": report.operations,
                    "dreamsvc.dream.device": report.device,
                },
                links=[night.trigger] if night.trigger is not None else [],
                error=dream.message if dream.state == Dream.STATE_FAILED else "",
            )
        )

    def _next_part(self, night: _Open, name: str) -> None:
        now_us = self._now_us()
        if night.part:
            self._recorder.record(
                Span(
                    name=night.part,
                    id=SpanId(night.root.trace_id, entropy.span_id()),
                    parent=night.root.span_id,
                    kind=Kind.INTERNAL,
                    began_us=night.part_began_us,
                    ended_us=now_us,
                    attributes={},
                )
            )
        night.part, night.part_began_us = name, now_us
