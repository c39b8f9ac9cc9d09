"""The replay: memories are selected, replayed in batches, and the edges at them learn (REQ-DREAM-004 to 006).

A batch is the unit of everything: it wakes its memories, takes the SRC steps, then makes one
Hebbian update of the edges at them. An interrupted batch never happened, so a dream that is
resumed from its last batch ends as one that was never interrupted.
"""

import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dreamsvc import clock, snapshot_files
from dreamsvc.dreamer.journal import Journal
from dreamsvc.dreamer.throttle import Stopped, Throttle
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
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER
from kernels.activation import activate, at_rest, dequantise, quantise
from kernels.arrays import Graph, HebbianState, SrcInfo, SrcState
from kernels.compile_ahead import Sizes, compile_ahead, replay_calls
from kernels.hebbian import hebbian_begin, hebbian_update, touched_by
from kernels.padding import capacity, pad_column, pad_graph
from kernels.sampling import sample_replay
from kernels.src import src_chunk

CHECKPOINT_FORMAT = 1
PART_ROWS = 2000
ACTIVATION_FLOOR = 0.01
REPLAY_LEVEL = 1.0
RANDOM_AMPLITUDE = 1.0
PROGRESS_S = 0.05
US_PER_HOUR = 3_600_000_000
# Streams of random numbers of one dream.
SELECTING, ACTIVATING = 0, 1


class _Loaded(NamedTuple):
    """A snapshot on the device, and what is needed to name its rows again."""

    graph: Graph
    age_h: jax.Array  # f32[N]
    eligible: jax.Array  # bool[N]
    node_ids: NDArray[np.int64]  # [n]
    edge_ids: NDArray[np.int64]  # [m]
    nodes: int
    edges: int
    eligible_count: int


class Replay:
    """The replay of one NREM phase over one snapshot."""

    def __init__(self, start: Start, staged: Sequence[Operations], throttle: Throttle, journal: Journal) -> None:
        self._start = start
        self._journal = journal
        self._config = start.config.nrem
        self._src = start.config.src
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
        self._loaded = self._load(arrays)
        weights = np.array(arrays["weights"], np.float32)
        living = np.array(arrays["edges_alive"], np.bool_)
        self._redo(weights, living)
        edges = self._loaded.graph.src.shape[0]
        graph = self._loaded.graph._replace(edge_alive=jnp.asarray(pad_column(living, False, size=edges)))
        self._hebbian = hebbian_begin(
            jnp.asarray(pad_column(weights, 0.0, size=edges)), graph, learning_rate=self._config.learning_rate
        )
        self._told_weights, self._told_living = weights, living
        self._levels, self._steps = self._resumed_activation()
        self._warm_up()
        return Ready(
            device=_device(),
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
        if self._loaded.eligible_count == 0:
            return dream_pb2.END_REASON_NOTHING_TO_DO
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
                self._replay(rows[self._batch * size : (self._batch + 1) * size])
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

    def _replay(self, rows: NDArray[np.int32]) -> None:
        padded = self._padded(rows)
        graph = self._loaded.graph._replace(edge_alive=self._hebbian.edge_alive)
        resting = SrcState(dequantise(self._levels), jnp.asarray(self._steps, jnp.int32))
        state = activate(resting, padded, level=REPLAY_LEVEL)
        state, info = self._activate(graph, state)
        # From here to the end nothing can stop the batch half-way.
        learned, stopped = _finish(self._throttle, lambda: self._learn(graph, state.activation, padded))
        self._hebbian = learned
        self._levels = quantise(state.activation)
        self._steps += self._config.src_steps
        for row in rows.tolist():
            self._marks[row] = self._marks.get(row, 0) + 1
        self._count(rows.tolist(), info)
        if stopped:
            self._batch += 1
            raise Stopped

    def _padded(self, rows: NDArray[np.int32]) -> jax.Array:
        return jnp.asarray(pad_column(rows, self._loaded.graph.alive.shape[0], size=self._config.batch_size))

    def _activate(self, graph: Graph, state: SrcState) -> tuple[SrcState, SrcInfo | None]:
        """All SRC steps of a batch, in chunks. Raises Stopped."""
        left, info = self._config.src_steps, None
        while left:
            count = self._throttle.steps(left)
            state, info = self._throttle.run_steps(count, partial(self._step, graph, state, count))
            left -= count
        return state, info

    def _step(self, graph: Graph, state: SrcState, count: int) -> tuple[SrcState, SrcInfo]:
        done = src_chunk(
            jax.random.fold_in(self._key, ACTIVATING),
            state,
            graph,
            self._hebbian.weight,
            count,
            sparsity=self._src.sparsity,
            randomness=self._src.randomness,
            clustering=self._src.clustering,
            decay_rate=self._src.decay_rate,
            amplitude=RANDOM_AMPLITUDE,
            floor=ACTIVATION_FLOOR,
            slots=self._slots(graph.alive.shape[0]),
        )
        jax.block_until_ready(done)
        return done

    def _learn(self, graph: Graph, activation: jax.Array, padded: jax.Array) -> HebbianState:
        now = self._hebbian
        learned, _ = hebbian_update(
            # A copy: the update takes over its state's memory, and a stop must find the old one whole.
            now._replace(weight=now.weight.copy(), edge_alive=now.edge_alive.copy()),
            graph,
            activation,
            touched_by(graph, padded),
            learning_rate=self._config.learning_rate,
            decay_rate=self._config.decay_rate,
            floor=self._config.weight_floor,
            cap=self._config.weight_cap,
        )
        jax.block_until_ready(learned)
        return learned

    def _count(self, rows: list[int], info: SrcInfo | None) -> None:
        self._tally.replays += len(rows)
        self._replayed.update(rows)
        self._tally.nodes_replayed = len(self._replayed)
        self._tally.src_steps += self._config.src_steps
        if info is not None:
            living = max(int(self._loaded.graph.alive_count), 1)
            self._tally.mean_activation = int(info.activation_sum) / 255 / living
            self._tally.active_share = int(info.active) / living

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
            format=CHECKPOINT_FORMAT,
            seed=self._start.seed,
            round=self._round,
            batch=self._batch,
            src_step=self._steps,
            activation=zlib.compress(np.asarray(self._levels)[: self._loaded.nodes].tobytes(), 1),
            next_part=self._journal.next_part,
            tally=self._journal.tally(self._tally),
        )

    # ── setting up ──────────────────────────────────────────────────────────────

    def _compile(self, nodes: int, edges: int) -> None:
        n = capacity(nodes)
        sizes = Sizes(
            nodes=n,
            edges=capacity(edges),
            slots=self._slots(n),
            replay=self._config.max_replay_count,
            batch=self._config.batch_size,
        )
        compile_ahead(replay_calls(sizes, learning_rate=self._config.learning_rate))

    def _warm_up(self) -> None:
        """One step of everything, thrown away: the first batch must not stall on what JAX does at a first call."""
        self._sample(0)
        nobody = self._padded(np.zeros(0, np.int32))
        resting = SrcState(dequantise(self._levels), jnp.asarray(0, jnp.int32))
        state, _ = self._step(self._loaded.graph, activate(resting, nobody, level=REPLAY_LEVEL), 1)
        jax.block_until_ready((self._learn(self._loaded.graph, state.activation, nobody), quantise(state.activation)))

    def _slots(self, nodes: int) -> int:
        """Places to compile an SRC step for: enough for the sparsity at full capacity."""
        return capacity(int(nodes * self._src.sparsity) + 1)

    def _load(self, arrays: snapshot_files.Arrays) -> _Loaded:
        nodes, edges = len(arrays["node_ids"]), len(arrays["edge_ids"])
        # Containers are read by what they hold, so it is their members that are replayed.
        alive = np.array(arrays["alive"], np.bool_) & (np.asarray(arrays["roles"]) != MEMORY_ROLE_CONTAINER)
        importance = np.array(arrays["importance"], np.float32)
        graph = pad_graph(
            np.array(arrays["sources"], np.int32),
            np.array(arrays["targets"], np.int32),
            importance,
            alive,
            np.array(arrays["edges_alive"], np.bool_),
            nodes=capacity(nodes),
            edges=capacity(edges),
        )
        touched_us = np.maximum(arrays["created_us"], arrays["accessed_us"])
        age_h = np.maximum(self._start.now_us - touched_us, 0) / US_PER_HOUR
        eligible = alive & (importance >= self._config.importance_floor)
        return _Loaded(
            graph=graph,
            age_h=jnp.asarray(pad_column(age_h.astype(np.float32), 0.0, size=capacity(nodes))),
            eligible=jnp.asarray(pad_column(eligible, False, size=capacity(nodes))),
            node_ids=np.array(arrays["node_ids"]),
            edge_ids=np.array(arrays["edge_ids"]),
            nodes=nodes,
            edges=edges,
            eligible_count=int(np.count_nonzero(eligible & (importance > 0))),
        )

    def _redo(self, weights: NDArray[np.float32], living: NDArray[np.bool_]) -> None:
        """Puts what an earlier part of this dream staged onto the snapshot's columns, in place."""
        for part in self._staged:
            if part.WhichOneof("kind") not in ("edge_weights", "replay_marks"):
                continue
            edges = part.edge_weights
            rows = np.searchsorted(self._loaded.edge_ids, np.asarray(edges.edge_ids, np.int64))
            weights[rows] = edges.weights
            living[rows] &= ~np.asarray(edges.pruned, np.bool_)
            marked = np.asarray(part.replay_marks.node_ids, np.int64)
            self._replayed.update(np.searchsorted(self._loaded.node_ids, marked).tolist())

    def _resumed_activation(self) -> tuple[jax.Array, int]:
        nodes = capacity(self._loaded.nodes)
        packed = self._start.checkpoint.activation
        if not packed:
            return quantise(at_rest(nodes).activation), 0
        levels = np.frombuffer(zlib.decompress(packed), np.uint8)
        return jnp.asarray(pad_column(levels, 0, size=nodes)), self._start.checkpoint.src_step


def _finish[T](throttle: Throttle, work: Callable[[], T]) -> tuple[T, bool]:
    """Runs work to its end although a stop came, and whether one did."""
    results: list[T] = []
    try:
        throttle.run(lambda: results.append(work()))
    except Stopped:
        return results[0], True
    return results[0], False


def _device() -> str:
    return str(cast("Any", jax.devices()[0]).device_kind)
