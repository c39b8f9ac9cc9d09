"""The NREM cycle: the replay, then what compresses the memory; the dream of one snapshot.

How it runs
1. The snapshot is read and every kernel compiled.
2. The replay runs until all that is due was replayed, or its share of the budget is used.
3. The compression runs on what the replay left, in steps of which each is made of pieces of a few milliseconds. What a
   step found is told when it is over, with a checkpoint; where time runs out in a step, nothing of that one is.

A stop is seen between two pieces. A dream that goes on from its checkpoint ends as one that was never interrupted.
"""

import gc
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np

from dreamsvc import clock, snapshot_files
from dreamsvc.dreamer import memories as memory_columns
from dreamsvc.dreamer.compiling import calls_of
from dreamsvc.dreamer.compression import Night, Where
from dreamsvc.dreamer.journal import Journal
from dreamsvc.dreamer.replay import PROGRESS_S, Replay
from dreamsvc.dreamer.throttle import Stopped, Throttle
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint, Ended, Ready, RunDreamResponse, Start, StepProgress
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import Compression, EndReason, Progress
from kernels.compile_ahead import compile_ahead

# Of the progress, what the replay makes up where there is compression to come.
REPLAY_SHARE = 0.5
# Busy time that the compression takes, about: for the cues of its probes, and for each memory. So much is kept for it,
# up to half of the budget.
RESERVED_S, RESERVED_A_CUE_S, RESERVED_A_NODE_S = 0.5, 3e-3, 6e-4


class UnreadableSnapshot(Exception):
    """The snapshot that the dream should read is not there or damaged."""


class _OutOfTime(Exception):
    """The budget is used."""


class Cycle:
    """One dream, from its start to its last word."""

    def __init__(self, start: Start, staged: Sequence[Operations], throttle: Throttle) -> None:
        self._start = start
        self._throttle = throttle
        self._journal = Journal(start.checkpoint, throttle)
        self._replay = Replay(start, staged, throttle, self._journal)
        self._replay_ended = start.checkpoint.replay_ended
        self._staged = staged
        self._steps_done = start.checkpoint.steps_done
        self._told = sum(part.WhichOneof("kind") not in ("edge_weights", "replay_marks") for part in staged)
        self._found = Compression()
        self._found.CopyFrom(start.checkpoint.compression)

    def prepare(self) -> Ready:
        """Reads the snapshot, compiles; raises UnreadableSnapshot. Takes long and cannot be stopped."""
        arrays = snapshot_files.read(Path(self._start.snapshot))
        if arrays is None:
            raise UnreadableSnapshot(f"no whole snapshot at {self._start.snapshot}")
        ready = self._replay.prepare(arrays)
        self._compresses = _compresses(self._start.config, arrays)
        self._reserved_s = 0.0
        if self._compresses:
            cues = min(ready.nodes, self._start.config.quality.probe_cues)
            busy_s = RESERVED_S + cues * RESERVED_A_CUE_S + ready.nodes * RESERVED_A_NODE_S
            self._reserved_s = busy_s / self._throttle.duty
            self._memories = memory_columns.read(arrays)
            compile_ahead(calls_of(self._memories, self._start.config))
            self._journal.replay_share = REPLAY_SHARE
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

    def _run(self) -> Iterator[RunDreamResponse]:
        budget = self._start.budget_seconds + self._journal.before_s
        reason = self._replay_ended
        if not reason:
            reason = yield from self._replay.run(budget - min(self._reserved_s, budget / 2))
            if reason != dream_pb2.END_REASON_ABORTED:
                self._replay_ended = reason
        if self._compresses and reason != dream_pb2.END_REASON_ABORTED:
            yield RunDreamResponse(checkpoint=self._checkpoint())
            reason = yield from self._compress(reason, budget)
        tally = self._journal.tally(self._replay.tally)
        yield RunDreamResponse(ended=Ended(reason=reason, tally=tally, compression=self._found))

    def _compress(
        self, replay: EndReason.ValueType, budget: float
    ) -> Generator[RunDreamResponse, None, EndReason.ValueType]:
        weights, living = self._replay.learned()
        night = Night(
            self._memories._replace(weights=weights, edges_alive=living),
            self._replay.replayed,
            self._start.config,
            self._start.recall,
            self._start.seed,
            self._staged,
            self._found,
        )
        while self._steps_done < night.steps:
            # What a step that is broken off has written down of itself does not count.
            found = Compression()
            found.CopyFrom(self._found)
            try:
                parts = yield from self._drive(night.take(self._steps_done), budget)
            except Stopped:
                self._found.CopyFrom(found)
                return dream_pb2.END_REASON_ABORTED
            except _OutOfTime:
                self._found.CopyFrom(found)
                left = night.steps - self._steps_done
                self._found.notices.append(f"the budget ended {left} of {night.steps} steps before the end")
                # Not to be told again by the night that is over.
                return dream_pb2.END_REASON_BUDGET
            for part in parts:
                self._told += 1
                yield self._journal.part(part)
            self._steps_done += 1
            yield RunDreamResponse(checkpoint=self._checkpoint())
        if replay == dream_pb2.END_REASON_NOTHING_TO_DO and self._told:
            return dream_pb2.END_REASON_CONVERGED
        return replay

    def _drive[T](self, search: Generator[Where, None, T], budget: float) -> Generator[RunDreamResponse, None, T]:
        """Runs a search piece by piece, each in the dream's share of the device; raises Stopped and _OutOfTime."""
        told = clock.precise_s()
        while True:
            try:
                where = self._throttle.run(lambda: next(search))
            except StopIteration as end:
                return end.value
            now = clock.precise_s()
            if now - told >= PROGRESS_S:
                told = now
                yield self._progressed(where, budget)
            if self._journal.elapsed_s() >= budget:
                raise _OutOfTime

    def _progressed(self, where: Where, budget: float) -> RunDreamResponse:
        whole = REPLAY_SHARE + (1 - REPLAY_SHARE) * where.begun
        progress = Progress(
            phase=dream_pb2.DREAM_PHASE_NREM,
            sub_phase=where.sub_phase,
            done=where.step.done,
            total=where.step.total,
            fraction=min(1.0, max(whole, self._journal.elapsed_s() / budget)),
        )
        return RunDreamResponse(progress=StepProgress(progress=progress, tally=self._journal.tally(self._replay.tally)))

    def _checkpoint(self) -> Checkpoint:
        checkpoint = self._replay.checkpoint()
        checkpoint.replay_ended = self._replay_ended
        checkpoint.steps_done = self._steps_done
        checkpoint.compression.CopyFrom(self._found)
        return checkpoint


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
