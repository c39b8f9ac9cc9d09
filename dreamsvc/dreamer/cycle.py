"""The dream of one snapshot: NREM is the replay and what compresses the memory, REM links and explores what is left.

How it runs
1. The snapshot is read and every kernel compiled.
2. NREM: the replay runs until all that is due was replayed, or its share of the budget is used.
3. The compression runs on what the replay left, in steps of which each is made of pieces of a few milliseconds. What a
   step found is told when it is over, with a checkpoint; where time runs out in a step, nothing of that one is.
4. REM: steps of the same kind on what NREM left.

A stop is seen between two pieces. A dream that goes on from its checkpoint ends as one that was never interrupted.
"""

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dreamsvc import checkpoints, clock, snapshot_files
from dreamsvc.dreamer import memories as memory_columns
from dreamsvc.dreamer.compiling import calls_of, rem_calls_of
from dreamsvc.dreamer.compression import Night
from dreamsvc.dreamer.journal import Journal
from dreamsvc.dreamer.merged import Merged
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.placement import device_name
from dreamsvc.dreamer.rem import Rem, told_before
from dreamsvc.dreamer.replay import PROGRESS_S, Replay
from dreamsvc.dreamer.throttle import Stopped, Throttle
from dreamsvc.dreamer.tiles import drawn
from dreamsvc.dreamer.v1.dreamer_service_pb2 import (
    Checkpoint,
    Ended,
    Ready,
    RunDreamResponse,
    Start,
    StepProgress,
    Tally,
)
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.dreamer.whereabouts import Part, Where
from dreamsvc.telemetry.step_spans import StepSpans
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import Compression, DreamPhase, EndReason, Exploration, Progress, SubPhase
from kernels.compile_ahead import compile_ahead

# Of the progress of NREM, what the replay makes up where there is compression to come.
REPLAY_SHARE = 0.5
# Busy time that the compression takes, about: for the cues of its probes, and for each memory. So much is kept for it,
# up to half of the budget.
RESERVED_S, RESERVED_A_CUE_S, RESERVED_A_NODE_S = 0.5, 3e-3, 6e-4

_NREM, _REM = dream_pb2.DREAM_PHASE_NREM, dream_pb2.DREAM_PHASE_REM
_BUDGET, _CONVERGED = dream_pb2.END_REASON_BUDGET, dream_pb2.END_REASON_CONVERGED
_ABORTED, _NOTHING = dream_pb2.END_REASON_ABORTED, dream_pb2.END_REASON_NOTHING_TO_DO


class _OutOfTime(Exception):
    """The budget is used."""


class _Steps(Protocol):
    """A phase, or what of it comes after the replay."""

    @property
    def steps(self) -> int: ...
    def take(self, number: int) -> Part[list[Operations]]: ...
    def leave_out(self, number: int) -> None: ...


class Cycle:
    """One dream, from its start to its last word."""

    def __init__(
        self, start: Start, staged: Sequence[Operations], throttle: Throttle, spans: StepSpans | None = None
    ) -> None:
        """spans: told of each sub-phase."""
        self._start = start
        self._spans = spans or StepSpans("", None, clock.Clock().now_us)
        self._throttle = throttle
        self._journal = Journal(start.checkpoint, throttle)
        # Dreams of an older seam do not say.
        phase = start.phase or _NREM
        self._has_nrem, self._has_rem = phase != _REM, phase != _NREM
        self._replay = Replay(start, staged, throttle, self._journal)
        self._replay_ended = start.checkpoint.replay_ended
        self._staged = list(staged)
        # Those of NREM come first.
        self._steps_done = start.checkpoint.steps_done
        self._told = sum(part.WhichOneof("kind") not in ("edge_weights", "replay_marks") for part in staged)
        self._told_of_replay = self._told < len(staged)
        self._found, self._explored = Compression(), Exploration()
        self._found.CopyFrom(start.checkpoint.compression)
        self._explored.CopyFrom(start.checkpoint.exploration)
        # The search that runs, held beyond a stop: letting go of a hundred thousand objects takes a tenth of a second,
        # and the dream's last word comes before that.
        self._search: Generator[Any, None, Any] | None = None

    def prepare(self) -> Ready:
        """Reads the snapshot, compiles; raises UnreadableSnapshot. Takes long and cannot be stopped."""
        arrays = snapshot_files.read(Path(self._start.snapshot))
        if arrays is None:
            raise snapshot_files.UnreadableSnapshot(f"no whole snapshot at {self._start.snapshot}")
        self._compresses = self._has_nrem and _compresses(self._start.config, arrays)
        if self._compresses or self._has_rem:
            self._memories = memory_columns.read(arrays)
        self._explores = self._has_rem and np.count_nonzero(self._memories.findable) > 1
        ready = self._replay.prepare(arrays) if self._has_nrem else self._ready()
        self._reserved_s = 0.0
        if self._compresses:
            cues = min(ready.nodes, self._start.config.quality.probe_cues)
            busy_s = RESERVED_S + cues * RESERVED_A_CUE_S + ready.nodes * RESERVED_A_NODE_S
            self._reserved_s = busy_s / self._throttle.duty
            self._journal.replay_share = REPLAY_SHARE
        self._nrem_share = _nrem_share(self._start.config) if self._has_rem else 1.0
        self._journal.replay_share *= self._nrem_share
        if self._compresses:
            compile_ahead(calls_of(self._memories, self._start.config))
        if self._explores and self._start.config.rem.explore:
            compile_ahead(rem_calls_of(self._memories, self._start.config.rem))
        return ready

    def run(self) -> Iterator[RunDreamResponse]:
        """Progress, operations and checkpoints, then how it ended."""
        self._journal.begin()
        # A collection walks everything that a dream holds, and a wake would wait for it. What dreams makes no circles.
        gc.disable()
        try:
            yield from self._run()
        finally:
            gc.enable()
            self._spans.end()

    def _ready(self) -> Ready:
        memories = self._memories
        return Ready(device=device_name(), nodes=len(memories.node_ids), edges=len(memories.edge_ids))

    def _run(self) -> Iterator[RunDreamResponse]:
        budget = self._start.budget_seconds + self._journal.before_s
        reason: EndReason.ValueType = _NOTHING
        night: Night | None = None
        if self._has_nrem:
            reason = yield from self._replayed(budget * self._nrem_share)
        if self._compresses and reason != _ABORTED:
            yield RunDreamResponse(checkpoint=self._checkpoint())
            try:
                night = self._night()
            except Stopped:
                reason = _ABORTED
            else:
                reason = yield from self._compressed(night, reason, budget * self._nrem_share)
        if self._explores and reason != _ABORTED:
            reason = yield from self._rem(reason, night, budget)
        yield RunDreamResponse(
            ended=Ended(
                reason=reason,
                tally=self._journal.tally(self._tally()),
                compression=self._found if self._has_nrem else None,
                exploration=self._explored if self._has_rem else None,
            )
        )

    # ── the phases ──────────────────────────────────────────────────────────────

    def _replayed(self, budget: float) -> Generator[RunDreamResponse, None, EndReason.ValueType]:
        if self._replay_ended:
            return self._replay_ended
        if self._start.leave_out_replay:
            self._found.notices.append("the replay was left out after an error")
            # What it had told before the error stays.
            self._replay_ended = _CONVERGED if self._told_of_replay else _NOTHING
            return self._replay_ended
        self._spans.at(_span_name(dream_pb2.SUB_PHASE_HEBBIAN_REPLAY))
        reason = yield from self._replay.run(max(budget - min(self._reserved_s, budget / 2), 0.0))
        if reason != _ABORTED:
            self._replay_ended = reason
        return reason

    def _night(self) -> Night:
        """The compression of what the replay left; raises Stopped.

        Piece by piece, as all that a dream does: of one that goes on it reads anew whatever was merged, and a wake in
        the meantime would wait for that.
        """
        self._throttle.run(self._learn)
        some = self._quietly(drawn(self._memories, self._start.seed))
        if some.tiles < some.of:
            notice = f"{some.tiles} of {some.of} parts of the memory were compressed; the others are for other nights"
            if notice not in self._found.notices:
                self._found.notices.append(notice)
        return Night(
            some.memories,
            some.parts,
            self._replay.replayed,
            self._start.config,
            self._start.recall,
            self._start.seed,
            self._quietly(Merged.of(some.memories, self._staged)),
            self._found,
        )

    def _learn(self) -> None:
        weights, living = self._replay.learned()
        self._memories = self._memories._replace(weights=weights, edges_alive=living)

    def _compressed(
        self, night: Night, before: EndReason.ValueType, budget: float
    ) -> Generator[RunDreamResponse, None, EndReason.ValueType]:
        reason = before
        if self._steps_done < night.steps:
            reason = yield from self._take(night, 0, before, budget, self._nrem_progress, self._found)
        # What it did not come to is for another night; REM begins behind it all the same.
        if reason != _ABORTED and self._steps_done < night.steps:
            self._steps_done = night.steps
            yield RunDreamResponse(checkpoint=self._checkpoint())
        return reason

    def _rem(
        self, before: EndReason.ValueType, night: Night | None, budget: float
    ) -> Generator[RunDreamResponse, None, EndReason.ValueType]:
        try:
            if night is None and self._has_nrem:
                self._throttle.run(self._learn)
            # The night knows the part of the memory that it compressed.
            merged = night.merged if night else self._quietly(Merged.of(self._memories, self._staged))
            told = self._quietly(told_before(self._memories, self._staged))
        except Stopped:
            return _ABORTED
        rem = Rem(
            self._memories,
            merged._replace(memories=self._memories),
            self._start.config,
            self._start.recall,
            self._start.seed,
            told,
            self._explored,
        )
        first = night.steps if night else 0
        # So that whoever watches sees the phase change before there is anything to tell of it.
        yield self._progressed(self._rem_progress(Where(dream_pb2.SUB_PHASE_LINKING, 0.0, Step("", 0, 0)), budget))
        return (yield from self._take(rem, first, before, budget, self._rem_progress, self._explored))

    def _take[Report: (Compression, Exploration)](
        self,
        phase: _Steps,
        first: int,
        before: EndReason.ValueType,
        budget: float,
        progress: Callable[[Where, float], Progress],
        found: Report,
    ) -> Generator[RunDreamResponse, None, EndReason.ValueType]:
        """Takes the steps of a phase that are left, each numbered from `first` on over the whole dream."""
        while self._steps_done < first + phase.steps:
            if self._steps_done in self._start.left_out:
                phase.leave_out(self._steps_done - first)
                found.notices.append(
                    f"step {self._steps_done - first + 1} of {phase.steps} was left out after an error"
                )
                self._steps_done += 1
                yield RunDreamResponse(checkpoint=self._checkpoint())
                continue
            # What a step that is broken off has written down of itself does not count.
            kept = type(found)()
            kept.CopyFrom(found)
            try:
                parts = yield from self._drive(phase.take(self._steps_done - first), budget, progress)
            except Stopped:
                found.CopyFrom(kept)
                return _ABORTED
            except _OutOfTime:
                found.CopyFrom(kept)
                left = first + phase.steps - self._steps_done
                found.notices.append(f"the budget ended {left} of {phase.steps} steps before the end")
                # Not to be told again by the night that is over.
                return _BUDGET
            for part in parts:
                self._told += 1
                self._staged.append(part)
                yield self._journal.part(part)
            self._steps_done += 1
            yield RunDreamResponse(checkpoint=self._checkpoint())
        return _CONVERGED if before == _NOTHING and self._told else before

    def _drive[T](
        self, search: Generator[Where, None, T], budget: float, progress: Callable[[Where, float], Progress]
    ) -> Generator[RunDreamResponse, None, T]:
        """Runs a search piece by piece, each in the dream's share of the device; raises Stopped and _OutOfTime."""
        self._search = search
        told = clock.precise_s()
        while True:
            try:
                where = self._throttle.run(lambda: next(search))
            except StopIteration as end:
                return end.value
            self._spans.at(_span_name(where.sub_phase))
            now = clock.precise_s()
            if now - told >= PROGRESS_S:
                told = now
                yield self._progressed(progress(where, budget))
            if self._journal.elapsed_s() >= budget:
                raise _OutOfTime

    def _quietly[T](self, search: Search[T]) -> T:
        """Runs a search piece by piece, of which nothing is told; raises Stopped."""
        self._search = search
        while True:
            try:
                self._throttle.run(lambda: next(search))
            except StopIteration as end:
                return end.value

    # ── what is told ────────────────────────────────────────────────────────────

    def _nrem_progress(self, where: Where, budget: float) -> Progress:
        done = REPLAY_SHARE + (1 - REPLAY_SHARE) * where.begun
        return self._progress(_NREM, where, self._nrem_share * max(done, self._journal.elapsed_s() / budget))

    def _rem_progress(self, where: Where, budget: float) -> Progress:
        begun = self._nrem_share if self._has_nrem else 0.0
        return self._progress(_REM, where, max(begun + (1 - begun) * where.begun, self._journal.elapsed_s() / budget))

    @staticmethod
    def _progress(phase: DreamPhase.ValueType, where: Where, fraction: float) -> Progress:
        return Progress(
            phase=phase,
            sub_phase=where.sub_phase,
            done=where.step.done,
            total=where.step.total,
            fraction=min(1.0, fraction),
        )

    def _progressed(self, progress: Progress) -> RunDreamResponse:
        return RunDreamResponse(progress=StepProgress(progress=progress, tally=self._journal.tally(self._tally())))

    def _tally(self) -> Tally:
        return self._replay.tally if self._has_nrem else Tally()

    def _checkpoint(self) -> Checkpoint:
        if self._has_nrem:
            checkpoint = self._replay.checkpoint()
        else:
            checkpoint = Checkpoint(
                format=checkpoints.FORMAT,
                seed=self._start.seed,
                next_part=self._journal.next_part,
                tally=self._journal.tally(Tally()),
            )
        checkpoint.replay_ended = self._replay_ended
        checkpoint.steps_done = self._steps_done
        if self._has_nrem:
            checkpoint.compression.CopyFrom(self._found)
        if self._has_rem:
            checkpoint.exploration.CopyFrom(self._explored)
        return checkpoint


@cache
def _span_name(sub_phase: SubPhase.ValueType) -> str:
    """E.g. "hebbian replay"."""
    return SubPhase.Name(sub_phase).removeprefix("SUB_PHASE_").lower().replace("_", " ")


def _nrem_share(config: DreamConfig) -> float:
    """Of the budget of a full cycle, what is NREM's."""
    nrem, rem = config.nrem.duration_minutes, config.rem.duration_minutes
    return nrem / (nrem + rem)


def _compresses(config: DreamConfig, arrays: snapshot_files.Arrays) -> bool:
    """Whether there is anything to do after the replay."""
    wanted = (
        config.redundancy.enabled
        or config.consolidation.enabled
        or config.consolidation.topics
        or config.schema.enabled
        or config.shortcuts.enabled
    )
    return wanted and int(np.count_nonzero(arrays["alive"])) >= config.redundancy.min_active
