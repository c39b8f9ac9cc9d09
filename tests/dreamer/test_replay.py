"""The replay of one NREM phase by hand, in this process: what it tells, and that an interruption changes nothing."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from dreamsvc import config, snapshot_files
from dreamsvc.dreamer.cycle import Cycle
from dreamsvc.dreamer.throttle import Throttle
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint, Ended, Start
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.memory import operations
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import DreamConfig

HOUR_US = 3_600_000_000
NODES, EDGES, BATCH = 120, 500, 16


class StopAfter(threading.Event):
    """A stop that comes after so many chunks; no rest in between takes any time."""

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self.left = chunks

    def wait(self, timeout: float | None = None) -> bool:
        self.left -= 1
        return self.left < 0


NEVER = 1 << 40


class Told(NamedTuple):
    parts: list[Operations]
    checkpoints: list[Checkpoint]
    ended: Ended
    kinds: list[str]

    @property
    def digest(self) -> str:
        return operations.journal_digest(operations.coalesce(self.parts))


def changed(**fields: Any) -> DreamConfig:
    made = config.defaults().dream
    made.nrem.batch_size = BATCH
    made.resources.max_gpu_usage = 1.0
    # Here only the replay is looked at.
    for part in (made.redundancy, made.consolidation, made.schema, made.shortcuts):
        part.enabled = False
    made.consolidation.topics = False
    for name, value in fields.items():
        setattr(made.nrem if hasattr(made.nrem, name) else made.resources, name, value)
    return made


@pytest.fixture(scope="module")
def arrays() -> snapshot_files.Arrays:
    draw = np.random.default_rng(5)
    alive = np.ones(NODES, np.bool_)
    alive[[3, 50]] = False
    sources = draw.integers(0, NODES, EDGES).astype(np.int32)
    targets = ((sources + draw.integers(1, NODES, EDGES)) % NODES).astype(np.int32)
    edges_alive = draw.random(EDGES) < 0.95
    return {
        "node_ids": np.arange(NODES, dtype=np.int64) * 3 + 10,
        "alive": alive,
        "roles": np.zeros(NODES, np.int8),
        "merged_into": np.full(NODES, -1, np.int32),
        "importance": (0.2 + 0.8 * draw.random(NODES)).astype(np.float32),
        "created_us": (draw.random(NODES) * 100 * HOUR_US).astype(np.int64),
        "accessed_us": np.full(NODES, -1, np.int64),
        "edge_ids": np.arange(EDGES, dtype=np.int64) * 2 + 7,
        "sources": sources,
        "targets": targets,
        "weights": draw.random(EDGES).astype(np.float32),
        "confidences": np.ones(EDGES, np.float32),
        "types": np.ones(EDGES, np.int32),
        # As the store leaves it: the edges of a forgotten memory are hidden.
        "edges_alive": edges_alive & alive[sources] & alive[targets],
        "together": np.zeros((0, 2), np.int32),
        "together_recalled": np.zeros(0, np.int32),
        "together_confirmed": np.zeros(0, np.int32),
    }


@pytest.fixture
def snapshot(arrays: snapshot_files.Arrays, tmp_path: Path) -> Path:
    path = tmp_path / "snapshot"
    snapshot_files.write(path, 1, arrays)
    return path


def dream(
    snapshot: Path,
    *,
    seed: int = 1,
    chunks: int = NEVER,
    budget_s: float = 60,
    settings: DreamConfig | None = None,
    checkpoint: Checkpoint | None = None,
    staged: Sequence[Operations] = (),
) -> Told:
    start = Start(
        dream_id="d",
        phase=dream_pb2.DREAM_PHASE_NREM,
        seed=seed,
        budget_seconds=budget_s,
        snapshot=str(snapshot),
        config=settings or changed(),
        now_us=200 * HOUR_US,
        checkpoint=checkpoint,
        staged_parts=len(staged),
    )
    phase = Cycle(start, staged, Throttle(start.config.resources.max_gpu_usage, StopAfter(chunks)))
    phase.prepare()
    messages = list(phase.run())
    return Told(
        [message.operations for message in messages if message.HasField("operations")],
        [message.checkpoint for message in messages if message.HasField("checkpoint")],
        messages[-1].ended,
        [str(message.WhichOneof("message")) for message in messages],
    )


def resumed(first: Told, snapshot: Path, **more: Any) -> Told:
    after = dream(snapshot, checkpoint=first.checkpoints[-1], staged=first.parts, **more)
    return after._replace(parts=first.parts + after.parts)


def test_equal_seeds_tell_the_same_and_others_do_not(snapshot: Path) -> None:
    one = dream(snapshot)
    assert one.digest == dream(snapshot).digest
    assert one.digest != dream(snapshot, seed=2).digest
    assert one.digest != dream(snapshot, seed=1 + (1 << 32)).digest
    assert one.ended.reason == dream_pb2.END_REASON_CONVERGED
    assert one.kinds[-3:] == ["operations", "checkpoint", "ended"]


def test_wherever_it_is_interrupted_it_ends_as_if_it_had_not_been(snapshot: Path) -> None:
    whole = dream(snapshot)
    interrupted = 0
    for chunks in range(0, 70, 3):
        first = dream(snapshot, chunks=chunks)
        if first.ended.reason != dream_pb2.END_REASON_ABORTED:
            break
        interrupted += 1
        after = resumed(first, snapshot)
        assert after.ended.reason == dream_pb2.END_REASON_CONVERGED
        assert after.digest == whole.digest, chunks
        assert after.checkpoints[-1].src_step == whole.checkpoints[-1].src_step, chunks
        for field in ("nodes_replayed", "rounds", "src_steps", "mean_activation", "active_share", "tuning"):
            assert getattr(after.ended.tally, field) == getattr(whole.ended.tally, field), (chunks, field)
        numbers = [part.part for part in after.parts]
        assert numbers == list(range(len(numbers)))
    assert interrupted > 5


def test_however_often_it_is_interrupted_it_ends_as_if_it_had_not_been(snapshot: Path) -> None:
    whole = dream(snapshot)
    told = dream(snapshot, chunks=8)
    times = 1
    while told.ended.reason == dream_pb2.END_REASON_ABORTED:
        times += 1
        told = resumed(told, snapshot, chunks=7 + times)
    assert times > 3
    assert told.digest == whole.digest


def test_a_rehearsal_that_is_interrupted_never_happened(snapshot: Path) -> None:
    whole = dream(snapshot)
    # The fourth rehearsal: the first piece of work selects, and none of the others is long.
    first = dream(snapshot, chunks=4)
    assert first.ended.reason == dream_pb2.END_REASON_ABORTED
    assert whole.ended.tally.tuning.decisions[0].batch == 0
    assert not first.ended.tally.HasField("tuning")
    assert (first.checkpoints[-1].batch, first.checkpoints[-1].src_step) == (0, 0)
    after = resumed(first, snapshot)
    assert after.digest == whole.digest
    assert after.ended.tally.tuning == whole.ended.tally.tuning


def test_an_interruption_before_the_first_batch_leaves_nothing_behind(snapshot: Path) -> None:
    first = dream(snapshot, chunks=0)
    assert first.ended.reason == dream_pb2.END_REASON_ABORTED
    assert first.parts == []
    assert first.ended.tally.nodes_replayed == 0
    assert resumed(first, snapshot).digest == dream(snapshot).digest


def test_checkpoints_on_the_way_are_where_it_can_go_on_after_a_crash(snapshot: Path) -> None:
    settings = changed(checkpoint_seconds=0.0)
    whole = dream(snapshot, settings=settings)
    assert len(whole.checkpoints) > 5
    for i in (0, 3, 5):
        at = whole.checkpoints[i]
        crashed = whole._replace(parts=whole.parts[: at.next_part], checkpoints=[at])
        assert resumed(crashed, snapshot, settings=settings).digest == whole.digest
        assert at.ByteSize() < 1_000_000


def test_every_due_memory_is_replayed_once_and_no_other(snapshot: Path, arrays: snapshot_files.Arrays) -> None:
    told = dream(snapshot)
    marks = {
        node: count
        for part in operations.coalesce(told.parts)
        for node, count in zip(part.replay_marks.node_ids, part.replay_marks.counts, strict=True)
    }
    due = arrays["alive"] & (arrays["importance"] >= 0.3)
    assert marks == dict.fromkeys(arrays["node_ids"][due].tolist(), 1)
    assert told.ended.tally.nodes_replayed == len(marks)


def edges_of(told: Told) -> dict[int, tuple[float, bool]]:
    found: dict[int, tuple[float, bool]] = {}
    for part in operations.coalesce(told.parts):
        edges = part.edge_weights
        found |= dict(zip(edges.edge_ids, zip(edges.weights, edges.pruned, strict=True), strict=True))
    return found


def test_without_learning_edges_decay_as_reckoned_in_double_precision_and_the_weak_ones_are_pruned(
    snapshot: Path, arrays: snapshot_files.Arrays
) -> None:
    floor, decay = 0.2, 0.05
    told = edges_of(dream(snapshot, settings=changed(learning_rate=0.0, decay_rate=decay, weight_floor=floor)))
    weights = arrays["weights"].astype(np.float64)
    living = arrays["edges_alive"].copy()
    due = np.flatnonzero(arrays["alive"] & (arrays["importance"] >= 0.3))
    touched = np.zeros(EDGES, np.bool_)
    for start in range(0, len(due), BATCH):
        batch = due[start : start + BATCH]
        at = living & (np.isin(arrays["sources"], batch) | np.isin(arrays["targets"], batch))
        touched |= at
        raw = weights * (1 - decay)
        pruned = at & (raw <= floor)
        weights = np.where(at & ~pruned, raw, weights)
        living &= ~pruned
    ids = arrays["edge_ids"]
    assert sorted(told) == ids[touched].tolist()
    for row in np.flatnonzero(touched):
        weight, pruned = told[int(ids[row])]
        assert pruned != living[row]
        assert weight == pytest.approx(weights[row], rel=1e-5)
    assert (~living & arrays["edges_alive"]).sum() > 10


def test_without_decay_edges_only_grow_and_never_beyond_the_cap(snapshot: Path, arrays: snapshot_files.Arrays) -> None:
    told = edges_of(
        dream(snapshot, settings=changed(learning_rate=1.0, decay_rate=0.0, weight_cap=0.8, weight_floor=0.0))
    )
    before = dict(zip(arrays["edge_ids"].tolist(), arrays["weights"].tolist(), strict=True))
    assert all(not pruned for _, pruned in told.values())
    assert all(weight >= min(before[edge], 0.8) * (1 - 1e-6) for edge, (weight, _) in told.items())
    assert max(weight for weight, _ in told.values()) == pytest.approx(0.8)
    dead = set(arrays["edge_ids"][~arrays["edges_alive"]].tolist())
    assert not dead & told.keys()


def test_converging_ends_after_one_round_and_filling_goes_on_until_the_budget(snapshot: Path) -> None:
    once = dream(snapshot)
    assert once.ended.tally.rounds == 1
    filled = dream(snapshot, settings=changed(pace="fill"), budget_s=0.3)
    assert filled.ended.reason == dream_pb2.END_REASON_BUDGET
    assert filled.ended.tally.rounds > 1
    assert 0.3 <= filled.ended.tally.seconds < 1
    short = dream(snapshot, budget_s=0.0001)
    assert short.ended.reason == dream_pb2.END_REASON_BUDGET
    assert short.ended.tally.nodes_replayed == BATCH


def test_a_budget_is_counted_over_all_parts_of_a_dream(snapshot: Path) -> None:
    settings = changed(pace="fill")
    first = dream(snapshot, settings=settings, chunks=40)
    after = resumed(first, snapshot, settings=settings, budget_s=0.2)
    assert after.ended.reason == dream_pb2.END_REASON_BUDGET
    assert after.ended.tally.seconds >= 0.2 + first.ended.tally.seconds


@pytest.mark.parametrize("change", [{"importance": 0.1}, {"importance": 0.0}, {"alive": False}])
def test_where_nothing_is_due_there_is_nothing_to_do(
    arrays: snapshot_files.Arrays, tmp_path: Path, change: dict[str, float]
) -> None:
    name, value = next(iter(change.items()))
    snapshot_files.write(tmp_path / "s", 1, arrays | {name: np.full_like(arrays[name], value)})
    told = dream(tmp_path / "s")
    assert told.ended.reason == dream_pb2.END_REASON_NOTHING_TO_DO
    assert told.parts == []


def test_memories_without_edges_and_no_memory_at_all_are_no_trouble(
    arrays: snapshot_files.Arrays, tmp_path: Path
) -> None:
    edges = {name: arrays[name][:0] for name in snapshot_files.DREAM_EDGES}
    nodes = {name: arrays[name][:0] for name in snapshot_files.DREAM_NODES}
    snapshot_files.write(tmp_path / "lonely", 1, arrays | edges)
    told = dream(tmp_path / "lonely")
    assert told.ended.reason == dream_pb2.END_REASON_CONVERGED
    assert edges_of(told) == {}
    snapshot_files.write(tmp_path / "empty", 1, arrays | nodes | edges)
    assert dream(tmp_path / "empty").ended.reason == dream_pb2.END_REASON_NOTHING_TO_DO


@pytest.mark.parametrize("damage", ["absent", "truncated", "flipped", "manifest"])
def test_a_damaged_snapshot_is_an_error_that_says_so(snapshot: Path, damage: str) -> None:
    column = snapshot / "weights.npy"
    if damage == "absent":
        column.unlink()
    elif damage == "truncated":
        column.write_bytes(column.read_bytes()[:-10])
    elif damage == "flipped":
        content = bytearray(column.read_bytes())
        content[-3] ^= 1
        column.write_bytes(content)
    else:
        (snapshot / "manifest.json").write_text("{")
    with pytest.raises(snapshot_files.UnreadableSnapshot, match="no whole snapshot"):
        dream(snapshot)


def test_nothing_is_compiled_once_it_is_ready(snapshot: Path, caplog: pytest.LogCaptureFixture) -> None:
    jax.clear_caches()
    start = Start(seed=1, budget_seconds=60, snapshot=str(snapshot), config=changed(), now_us=200 * HOUR_US)
    phase = Cycle(start, [], Throttle(1.0, StopAfter(NEVER)))
    phase.prepare()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        list(phase.run())
    kernels = ("sample_replay", "src_chunk", "hebbian_update", "activate", "quantise", "dequantise", "touched_by")
    compiled = [record.getMessage() for record in caplog.records if "XLA compilation" in record.getMessage()]
    assert [text for text in compiled if any(f"jit({name})" in text for name in kernels)] == []


# ── what was of use together ────────────────────────────────────────────────────


def with_use(arrays: snapshot_files.Arrays, path: Path, **changes: np.ndarray) -> tuple[Path, list[int]]:
    """A snapshot in which the ends of ten living edges were of use together, and the rows of all edges that join
    them."""
    ends = np.stack([arrays["sources"], arrays["targets"]], axis=1)
    ends.sort(axis=1)
    chosen = np.unique(ends[np.flatnonzero(arrays["edges_alive"] & (arrays["weights"] < 0.5))[:10]], axis=0)
    columns = {
        "together": chosen,
        "together_recalled": np.full(len(chosen), 10, np.int32),
        "together_confirmed": np.full(len(chosen), 2, np.int32),
    }
    snapshot_files.write(path, 1, arrays | columns | changes)
    joined = (ends[:, None] == chosen[None]).all(axis=2).any(axis=1) & arrays["edges_alive"]
    return path, np.flatnonzero(joined).tolist()


def test_what_was_of_use_together_is_learned_once_before_the_replay(
    arrays: snapshot_files.Arrays, tmp_path: Path
) -> None:
    path, joined = with_use(arrays, tmp_path / "s")
    # No edge learns from the replay, so that only use is left.
    settings = changed(learning_rate=0.02, decay_rate=0.0, weight_floor=0.0, importance_floor=1.0)
    told = dream(path, settings=settings)
    assert told.ended.reason == dream_pb2.END_REASON_CONVERGED
    assert told.kinds == ["operations", "checkpoint", "ended"]
    assert told.ended.tally.nodes_replayed == 0
    wanted = {
        int(arrays["edge_ids"][row]): (pytest.approx(min(1.0, arrays["weights"][row] + 0.02 * 3)), False)
        for row in joined
    }
    assert len(wanted) >= 10
    assert edges_of(told) == wanted
    # It is told already, so going on tells nothing anew.
    after = resumed(told, path, settings=settings)
    assert edges_of(after) == wanted


def test_a_dream_with_use_that_is_interrupted_ends_as_if_it_had_not_been(
    arrays: snapshot_files.Arrays, tmp_path: Path, snapshot: Path
) -> None:
    path, joined = with_use(arrays, tmp_path / "s")
    whole = dream(path)
    assert whole.digest != dream(snapshot).digest
    first = dream(path, chunks=0)
    assert first.ended.reason == dream_pb2.END_REASON_ABORTED
    assert sorted(edges_of(first)) == sorted(arrays["edge_ids"][joined].tolist())
    for chunks in (0, 5, 31, 40):
        assert resumed(dream(path, chunks=chunks), path).digest == whole.digest, chunks


def test_where_nothing_is_due_and_use_moves_no_edge_there_is_nothing_to_do(
    arrays: snapshot_files.Arrays, tmp_path: Path
) -> None:
    unjoined, _ = with_use(arrays, tmp_path / "unjoined", edges_alive=np.zeros(EDGES, np.bool_))
    assert dream(unjoined, settings=changed(importance_floor=1.0)).ended.reason == dream_pb2.END_REASON_NOTHING_TO_DO
    path, _ = with_use(arrays, tmp_path / "s")
    unlearning = dream(path, settings=changed(importance_floor=1.0, learning_rate=0.0))
    assert unlearning.ended.reason == dream_pb2.END_REASON_NOTHING_TO_DO
    assert unlearning.parts == []


def test_dopamine_scales_what_is_learned_of_replay_and_use(arrays: snapshot_files.Arrays, tmp_path: Path) -> None:
    path, _ = with_use(arrays, tmp_path / "s")
    plain = dream(path, settings=changed(learning_rate=0.04))
    high = changed(learning_rate=0.02)
    high.neuromodulation.dopamine_nrem = 0.6
    assert dream(path, settings=high).digest == plain.digest
    assert dream(path, settings=changed(learning_rate=0.02)).digest != plain.digest
