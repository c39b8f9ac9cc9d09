"""The replay: memories are selected, replayed in batches, and the edges at them learn (REQ-DREAM-004 to 006).

A batch is the unit of everything: it wakes its memories, takes the SRC steps, then makes one
Hebbian update of the edges at them, and the tuner looks at what came of it. An interrupted batch
never happened, so a dream that is resumed from its last batch ends as one that was never interrupted.

Before the first batch, edges between memories that were of use together grow, and where batches are
few the tuner rehearses.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dreamsvc import checkpoints, clock, snapshot_files
from dreamsvc.dreamer import replay_graph
from dreamsvc.dreamer.activating import Activating, Learned, Mind, Woken
from dreamsvc.dreamer.journal import Journal
from dreamsvc.dreamer.modulation import replay_learning_rate
from dreamsvc.dreamer.placement import device_name
from dreamsvc.dreamer.throttle import Stopped, Throttle
from dreamsvc.dreamer.use import co_activated, together_in
from dreamsvc.dreamer.v1.dreamer_service_pb2 import (
    Checkpoint,
    Ready,
    RunDreamResponse,
    Start,
    StepProgress,
    Tally,
)
from dreamsvc.dreamer.v1.operations_pb2 import EdgeWeights, Operations, ReplayMarks
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import EndReason, Progress
from kernels.activation import at_rest, coarse, quantise
from kernels.arrays import Graph, HebbianState
from kernels.compile_ahead import Sizes, compile_ahead
from kernels.hebbian import hebbian_begin, hebbian_update, touched_by
from kernels.padding import capacity, pad_column
from kernels.sampling import sample_replay

PART_ROWS = 2000
PROGRESS_S = 0.05
# Streams of random numbers of one dream.
SELECTING, ACTIVATING = 0, 1


class _Update(NamedTuple):
    """What a Hebbian update left, and what it did."""

    state: HebbianState
    edges: Learned


class Replay:
    """The replay of one NREM phase over one snapshot."""

    def __init__(self, start: Start, staged: Sequence[Operations], throttle: Throttle, journal: Journal) -> None:
        self._start = start
        self._journal = journal
        self._config = start.config.nrem
        self._learning_rate = replay_learning_rate(self._config.learning_rate, start.config.neuromodulation)
        self._throttle = throttle
        self._staged = staged
        self._key = jax.random.key(np.uint32(start.seed & 0xFFFFFFFF), impl="threefry2x32")
        self._key = jax.random.fold_in(self._key, np.uint32(start.seed >> 32))
        checkpoint = start.checkpoint
        self._round = checkpoint.round
        self._batch = checkpoint.batch
        self._total = 0
        self._tally = Tally()
        self._tally.CopyFrom(checkpoint.tally)
        self._marks: dict[int, int] = {}
        # Rows of all memories that this dream replayed, its earlier parts included.
        self._replayed: set[int] = set()

    def prepare(self, arrays: snapshot_files.Arrays) -> Ready:
        """Loads a snapshot and compiles everything. Takes long and cannot be stopped."""
        self._compile(len(arrays["node_ids"]), len(arrays["edge_ids"]))
        self._loaded = replay_graph.load(arrays, self._config, self._start.now_us)
        self._weights_before = np.array(arrays["weights"], np.float32)
        weights, living, self._replayed = replay_graph.redo(arrays, self._staged)
        edges = self._loaded.graph.src.shape[0]
        graph = self._loaded.graph._replace(edge_alive=jnp.asarray(pad_column(living, False, size=edges)))
        self._hebbian = hebbian_begin(
            jnp.asarray(pad_column(weights, 0.0, size=edges)), graph, learning_rate=self._learning_rate
        )
        self._told_weights, self._told_living = weights, living
        self._used_weights = self._learned_by_use(arrays, weights, living)
        self._mind = self._resumed()
        self._warm_up()
        return Ready(
            device=device_name(),
            nodes=self._loaded.nodes,
            edges=self._loaded.edges,
            nodes_eligible=self._loaded.eligible_count,
        )

    def run(self, until_s: float) -> Generator[RunDreamResponse, None, EndReason.ValueType]:
        """Progress, then operations and a checkpoint from time to time and at the end; gives how it ended.

        until_s: seconds of the dream after which it ends with BUDGET.
        """
        self._until_s = until_s
        self._told_progress = self._told_checkpoint = clock.precise_s()
        edges = self._hebbian.weight.shape[0]
        weights = jnp.asarray(pad_column(self._used_weights, 0.0, size=edges))
        self._hebbian = self._hebbian._replace(weight=weights)
        if self._loaded.eligible_count == 0:
            return (yield from self._end_unreplayed())
        reason: EndReason.ValueType = dream_pb2.END_REASON_CONVERGED
        try:
            for _ in self._batches():
                yield from self._news()
                if self._journal.elapsed_s() >= until_s:
                    reason = dream_pb2.END_REASON_BUDGET
                    break
        except Stopped:
            reason = dream_pb2.END_REASON_ABORTED
        yield self._progressed()
        yield from self._operations()
        yield RunDreamResponse(checkpoint=self.checkpoint())
        return reason

    def _end_unreplayed(self) -> Generator[RunDreamResponse, None, EndReason.ValueType]:
        """Where no memory is due, what use taught the edges is all there is."""
        if np.array_equal(self._used_weights, self._weights_before):
            return dream_pb2.END_REASON_NOTHING_TO_DO
        yield from self._operations()
        yield RunDreamResponse(checkpoint=self.checkpoint())
        return dream_pb2.END_REASON_CONVERGED

    def learned(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Weights and liveness of the snapshot's edges as they are now, [m] each."""
        count = self._loaded.edges
        weights, living = np.asarray(self._hebbian.weight)[:count], np.asarray(self._hebbian.edge_alive)[:count]
        # An edge with a dead end is dead to the replay; what it was not asked about stays as it is.
        return weights.copy(), living.copy()

    @property
    def replayed(self) -> list[int]:
        """Rows that this dream replayed, ascending."""
        return sorted(self._replayed)

    @property
    def tally(self) -> Tally:
        return self._tally

    # ── the work ────────────────────────────────────────────────────────────────

    def _batches(self) -> Iterator[None]:
        """Runs batch after batch; ends when a whole round has nothing left to replay. Raises Stopped."""
        size = self._config.batch_size
        while True:
            rows = self._throttle.run(partial(self._sample, self._round))
            self._total = len(rows)
            while self._batch * size < len(rows):
                # What is rehearsed is part of the first batch: without it, it never happened either.
                mind = self._mind if self._round or self._batch else self._rehearsed(rows)
                self._replay(rows[self._batch * size : (self._batch + 1) * size], mind)
                self._batch += 1
                self._tally.rounds = self._round + (self._batch * size >= len(rows))
                yield
            self._tally.rounds = self._round + 1
            if self._config.pace == "converge":
                return
            self._round, self._batch = self._round + 1, 0

    def _sample(self, number: int) -> NDArray[np.int32]:
        """Rows to replay in a round, ascending."""
        found = self._loaded
        rows, count = sample_replay(
            jax.random.fold_in(jax.random.fold_in(self._key, SELECTING), number),
            found.graph.importance,
            found.age_h,
            found.eligible,
            recency_bias=self._config.replay_recency_bias,
            k=self._config.max_replay_count,
        )
        return np.asarray(rows)[: int(count)]

    def _rehearsed(self, rows: NDArray[np.int32]) -> Mind:
        """What the first batch of a dream begins with, of a round of these rows. Raises Stopped."""
        size = self._config.batch_size
        batches = [self._padded(rows[start : start + size]) for start in range(0, len(rows), size)]
        return self._activating.rehearsed(self._mind, self._graph(), self._hebbian.weight, batches)

    def _replay(self, rows: NDArray[np.int32], mind: Mind) -> None:
        padded = self._padded(rows)
        woken = self._activating.wake(mind, self._graph(), self._hebbian.weight, padded)
        # From here to the end nothing can stop the batch half-way.
        update, stopped = _finish(self._throttle, lambda: self._learn(woken.activation, padded))
        self._hebbian = update.state
        before = self._round * -(-self._total // self._config.batch_size) + self._batch
        self._mind = self._activating.after(
            mind, woken, update.edges, rows, batch=before + 1, living=self._loaded.living
        )
        for row in rows.tolist():
            self._marks[row] = self._marks.get(row, 0) + 1
        self._count(rows.tolist(), woken)
        if stopped:
            self._batch += 1
            raise Stopped

    def _padded(self, rows: NDArray[np.int32]) -> jax.Array:
        return jnp.asarray(pad_column(rows, self._loaded.graph.alive.shape[0], size=self._config.batch_size))

    def _graph(self) -> Graph:
        """As it is now, without the edges that were pruned."""
        return self._loaded.graph._replace(edge_alive=self._hebbian.edge_alive)

    def _learn(self, activation: jax.Array, padded: jax.Array) -> _Update:
        now, graph = self._hebbian, self._graph()
        learned, info = hebbian_update(
            # A copy: the update takes over its state's memory, and a stop must find the old one whole.
            now._replace(weight=now.weight.copy(), edge_alive=now.edge_alive.copy()),
            graph,
            activation,
            touched_by(graph, padded),
            learning_rate=self._learning_rate,
            decay_rate=self._config.decay_rate,
            floor=self._config.weight_floor,
            cap=self._config.weight_cap,
        )
        jax.block_until_ready(learned)
        return _Update(learned, Learned(int(info.strengthened), int(info.weakened) + int(info.pruned)))

    def _count(self, rows: list[int], woken: Woken) -> None:
        self._tally.replays += len(rows)
        self._replayed.update(rows)
        self._tally.nodes_replayed = len(self._replayed)
        self._tally.src_steps += self._config.src_steps
        self._tally.mean_activation = woken.mean_activation
        self._tally.active_share = woken.active_share
        if self._start.config.tuner.enabled:
            self._tally.tuning.CopyFrom(self._mind.tuning)

    # ── what is told ────────────────────────────────────────────────────────────

    def _news(self) -> Iterator[RunDreamResponse]:
        now = clock.precise_s()
        if now - self._told_progress >= PROGRESS_S:
            self._told_progress = now
            yield self._progressed()
        if now - self._told_checkpoint >= self._start.config.resources.checkpoint_seconds:
            self._told_checkpoint = now
            yield from self._operations()
            yield RunDreamResponse(checkpoint=self.checkpoint())

    def _progressed(self) -> RunDreamResponse:
        return RunDreamResponse(
            progress=StepProgress(progress=self._progress(), tally=self._journal.tally(self._tally))
        )

    def _progress(self) -> Progress:
        elapsed = self._journal.elapsed_s()
        fraction = min(1.0, elapsed / self._until_s)
        total = 0
        if self._config.pace == "converge":
            total = self._total
            fraction = max(fraction, self._tally.replays / max(total, 1))
        return Progress(
            phase=dream_pb2.DREAM_PHASE_NREM,
            sub_phase=dream_pb2.SUB_PHASE_HEBBIAN_REPLAY,
            done=self._tally.replays,
            total=total,
            fraction=min(fraction, 1.0) * self._journal.replay_share,
            eta_seconds=elapsed * (1 - fraction) / fraction if fraction > 0 else None,
            round=self._round + 1,
        )

    def _operations(self) -> Iterator[RunDreamResponse]:
        """What changed since the last time, in parts."""
        weights = np.asarray(self._hebbian.weight)[: self._loaded.edges]
        living = np.asarray(self._hebbian.edge_alive)[: self._loaded.edges]
        changed = np.flatnonzero((weights != self._told_weights) | (living != self._told_living))
        for start in range(0, len(changed), PART_ROWS):
            rows = changed[start : start + PART_ROWS]
            yield self._journal.part(
                Operations(
                    edge_weights=EdgeWeights(
                        edge_ids=self._loaded.edge_ids[rows].tolist(),
                        weights=weights[rows].tolist(),
                        pruned=(~living[rows]).tolist(),
                    )
                )
            )
        marked = sorted(self._marks)
        for start in range(0, len(marked), PART_ROWS):
            rows = marked[start : start + PART_ROWS]
            yield self._journal.part(
                Operations(
                    replay_marks=ReplayMarks(
                        node_ids=self._loaded.node_ids[rows].tolist(), counts=[self._marks[row] for row in rows]
                    )
                )
            )
        self._told_weights, self._told_living = weights.copy(), living.copy()
        self._marks.clear()

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(
            format=checkpoints.FORMAT,
            seed=self._start.seed,
            round=self._round,
            batch=self._batch,
            src_step=self._mind.steps,
            activation=checkpoints.pack(np.asarray(self._mind.levels)[: self._loaded.nodes]),
            next_part=self._journal.next_part,
            tally=self._journal.tally(self._tally),
        )

    # ── setting up ──────────────────────────────────────────────────────────────

    def _compile(self, nodes: int, edges: int) -> None:
        sizes = Sizes(
            nodes=capacity(nodes),
            edges=capacity(edges),
            slots=0,  # as the steps have it
            replay=self._config.max_replay_count,
            batch=self._config.batch_size,
        )
        draws = jax.random.fold_in(self._key, ACTIVATING)
        self._activating = Activating(self._start.config, draws, self._throttle, nodes=sizes.nodes)
        compile_ahead(self._activating.calls(sizes, learning_rate=self._learning_rate))

    def _warm_up(self) -> None:
        """One step of everything, thrown away: the first batch must not stall on what JAX does at a first call."""
        self._sample(0)
        nobody = self._padded(np.zeros(0, np.int32))
        activation = self._activating.warm_up(self._mind, self._graph(), self._hebbian.weight, nobody)
        jax.block_until_ready((self._learn(activation, nobody).state, coarse(quantise(activation))))

    def _learned_by_use(
        self, arrays: snapshot_files.Arrays, weights: NDArray[np.float32], living: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Weights as a dream begins with them, [m]: once in a dream the edges learn from what was of use together."""
        if self._start.HasField("checkpoint"):
            return weights
        return co_activated(
            together_in(arrays),
            np.asarray(arrays["sources"]),
            np.asarray(arrays["targets"]),
            weights,
            living,
            learning_rate=self._learning_rate,
            weight_cap=self._config.weight_cap,
        )

    def _resumed(self) -> Mind:
        nodes = capacity(self._loaded.nodes)
        checkpoint = self._start.checkpoint
        tuning = checkpoint.tally.tuning if checkpoint.tally.HasField("tuning") else None
        if not checkpoint.activation:
            return self._activating.begin(quantise(at_rest(nodes).activation), 0, tuning)
        levels = checkpoints.unpack(checkpoint.activation, self._loaded.nodes)
        return self._activating.begin(jnp.asarray(pad_column(levels, 0, size=nodes)), checkpoint.src_step, tuning)


def _finish[T](throttle: Throttle, work: Callable[[], T]) -> tuple[T, bool]:
    """Runs work to its end although a stop came, and whether one did."""
    results: list[T] = []
    try:
        throttle.run(lambda: results.append(work()))
    except Stopped:
        return results[0], True
    return results[0], False
