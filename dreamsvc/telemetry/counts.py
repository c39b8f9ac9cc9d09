"""What is counted of calls, wakes and nights, in plain numbers: noting a call costs about a microsecond.

How it is shown to Prometheus stands in `exposition.py`, which is not imported before somebody asks. All of it is noted
on the event loop.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple, Protocol, override

from dreamsvc.telemetry.histogram import Exemplar, Histogram
from dreamsvc.telemetry.observer import Observer
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream, EndReason, TriggeredBy, WakeReason

# A recall takes a millisecond or two, an import minutes; 0.1 s is where people notice.
CALL_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# The targets are P95 < 0.1 s and P99 < 0.15 s (REQ-DREAM-023).
WAKE_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)
NIGHT_S = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
OTHER = "other"
NREM, REM = dream_pb2.DREAM_PHASE_NREM, dream_pb2.DREAM_PHASE_REM


# How a night can end; one that is suspended goes on another night.
ENDS = ("succeeded", "skipped", "failed", "suspended", "discarded", "proposed")

# What follows an error that a night gets over (dream.fault.recovery_strategy).
RECOVERIES = ("retry", "rollback", "skip")


class NightEnd(NamedTuple):
    """How a night ended, and who began it, in words of the API, e.g. "succeeded", "idle"."""

    state: str
    triggered_by: str


class EnumType(Protocol):
    """A generated enum."""

    def keys(self) -> Sequence[str]: ...


class Spaces:
    """Names of spaces as labels: so many have their own, all that come later share one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def label(self, space: str) -> str:
        if space not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(space)
        return space


class Counts(Observer):
    """Since the service started."""

    def __init__(self, spaces: Spaces) -> None:
        self.spaces = spaces
        # By method and gRPC code; by method; by reason of the error catalogue.
        self.calls: Counter[tuple[str, str]] = Counter()
        self.call_s: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(CALL_S))
        self.in_flight: Counter[str] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()
        self.wake_s = Histogram(WAKE_S)
        self.wakes = Counter(dict.fromkeys(_words(WakeReason, "WAKE_REASON_"), 0))
        self.kills = 0
        self.checkpoints = 0
        # What has not happened yet stands at 0: an alert sees the first one only so.
        self.nights = Counter({NightEnd(end, by): 0 for end in ENDS for by in _words(TriggeredBy, "TRIGGERED_BY_")})
        self.end_reasons = Counter(dict.fromkeys(_words(EndReason, "END_REASON_"), 0))
        self.night_s: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(NIGHT_S))
        self.faults: Counter[str] = Counter(dict.fromkeys(RECOVERIES, 0))
        # Sums over nights by space, and what the last night of a space came to.
        self.dreamed: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.last: dict[str, Dream] = {}

    # ── calls ───────────────────────────────────────────────────────────────────

    def call_ended(self, method: str, code: str, seconds: float, reason: str, exemplar: Exemplar | None) -> None:
        """reason: of the error catalogue, '' for a call that succeeded."""
        self.in_flight[method] -= 1
        self.calls[method, code] += 1
        self.call_s[method].note(seconds, exemplar)
        if reason:
            self.errors[method, reason] += 1

    # ── nights ──────────────────────────────────────────────────────────────────

    @override
    def woken(self, latency_s: float, reason: WakeReason.ValueType, *, killed: bool) -> None:
        self.wake_s.note(latency_s)
        self.wakes[_word(WakeReason.Name(reason), "WAKE_REASON_")] += 1
        self.kills += killed

    @override
    def checkpointed(self) -> None:
        self.checkpoints += 1

    @override
    def night_over(self, dream: Dream) -> None:
        if dream.dry_run:
            return
        state, by = Dream.State.Name(dream.state), TriggeredBy.Name(dream.triggered_by)
        self.nights[NightEnd(_word(state, "STATE_"), _word(by, "TRIGGERED_BY_"))] += 1
        self.end_reasons[_word(EndReason.Name(dream.end_reason), "END_REASON_")] += 1
        self.faults.update([fault.recovery for fault in dream.report.faults])
        if dream.state == Dream.STATE_SUCCEEDED:
            self._note_success(dream)

    def _note_success(self, dream: Dream) -> None:
        report, space = dream.report, self.spaces.label(dream.space)
        if dream.phase == dream_pb2.DREAM_PHASE_FULL_CYCLE:
            self.night_s["full_cycle"].note(report.seconds)
        if dream.phase != REM:
            self.night_s["nrem"].note(report.nrem_seconds)
        if dream.phase != NREM:
            self.night_s["rem"].note(report.rem_seconds)
        merged, explored = report.compression, report.exploration
        self.dreamed[space].update(
            memories_replayed=report.nodes_replayed,
            edges_strengthened=report.edges_strengthened,
            edges_weakened=report.edges_weakened,
            edges_pruned=report.edges_pruned,
            clusters_consolidated=sum(stage.containers for stage in merged.merging),
            nodes_merged=sum(stage.members for stage in merged.merging),
            redundancies_eliminated=merged.redundancy.eliminated,
            schemas_extracted=merged.schemas,
            shortcuts_created=merged.shortcuts.created,
            facts_superseded=merged.superseded,
            synthetic_queries=explored.queries,
            blind_spots_found=explored.verified,
            hypotheses_found=explored.hypotheses,
            new_edges_created=explored.novel_edges,
            links_created=explored.linking.links,
            gate_refusals=merged.retention.refused + explored.linking.refused + explored.edges_refused,
        )
        if space != OTHER:
            self.last[space] = dream


def _words(enum: EnumType, prefix: str) -> list[str]:
    """All values but the one that says nothing."""
    return [_word(name, prefix) for name in enum.keys()[1:]]


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()
