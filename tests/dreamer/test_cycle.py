"""A whole cycle by hand, in this process: what it tells after the replay, and that an interruption changes nothing."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from dreamsvc import config, facet_blocks, snapshot_files
from dreamsvc.dreamer import merged
from dreamsvc.dreamer.compression import Where
from dreamsvc.dreamer.cycle import Cycle
from dreamsvc.dreamer.throttle import Throttle
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint, Ended, Start
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.memory import operations
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import Config

SECOND_US = 1_000_000
TOPICS, EACH, COPIES, DIM = 8, 8, 5, 32
NODES = TOPICS * EACH + COPIES
PINNED, APART = [3, 41], [17, 44, 66]
WORDS = [f"{head}{tail}" for head in ("ba", "de", "fi", "go", "lu", "mi", "no", "pu") for tail in ("rak", "len", "sot")]
SUB_PHASES = {
    dream_pb2.SUB_PHASE_SHORTCUTS,
    dream_pb2.SUB_PHASE_REDUNDANCY_ELIMINATION,
    dream_pb2.SUB_PHASE_CONSOLIDATION,
    dream_pb2.SUB_PHASE_SCHEMA_EXTRACTION,
    dream_pb2.SUB_PHASE_PROBES,
}
NEVER = 1 << 40
COMPILED = "/jax/core/compile/backend_compile_duration"
MERGED = ("eliminations", "containers", "new_memories", "new_edges")


class StopAt(Throttle):
    """Takes no rest, stops after so many pieces of work, and notes what each of them was; pieces are equal."""

    def __init__(self, pieces: int) -> None:
        super().__init__(1.0, threading.Event())
        self._left = pieces
        self.noted: list[int] = []  # sub-phases

    def steps(self, left: int) -> int:
        return left

    def run[T](self, work: Callable[[], T]) -> T:
        result = super().run(work)
        self.noted.append(result.sub_phase if isinstance(result, Where) else dream_pb2.SUB_PHASE_HEBBIAN_REPLAY)
        self._count()
        return result

    def run_steps[T](self, count: int, work: Callable[[], T]) -> T:
        result = super().run_steps(count, work)
        self.noted.append(dream_pb2.SUB_PHASE_HEBBIAN_REPLAY)
        self._count()
        return result

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            self._stop.set()
            self.check()


class Told(NamedTuple):
    parts: list[Operations]
    checkpoints: list[Checkpoint]
    ended: Ended
    kinds: list[str]
    noted: list[int]

    @property
    def digest(self) -> str:
        return operations.journal_digest(operations.coalesce(self.parts))

    def of(self, kind: str) -> list[Any]:
        return [getattr(part, kind) for part in self.parts if part.WhichOneof("kind") == kind]


def packed(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    encoded = [text.encode() for text in texts]
    return np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([len(text) for text in encoded], dtype=np.int64)


@pytest.fixture(scope="module")
def arrays() -> snapshot_files.Arrays:
    """Topics of eight memories each with words and a direction of their own, along which they follow each other, and
    copies of the first ones at the end."""
    draw = np.random.default_rng(3)
    topic = np.arange(TOPICS * EACH) // EACH
    vectors = draw.standard_normal((TOPICS, DIM))[topic] + 0.5 * draw.standard_normal((TOPICS * EACH, DIM))
    own = draw.choice(len(WORDS), (TOPICS, 5))
    texts = [
        " ".join(WORDS[word] for word in [*draw.permutation(own[topic[row]]), *draw.choice(len(WORDS), 4)])
        for row in range(TOPICS * EACH)
    ]
    copied = np.arange(COPIES) * EACH
    vectors = np.concatenate([vectors, vectors[copied]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    follows = np.arange(TOPICS * EACH - 1)
    sources = np.concatenate([follows, draw.integers(0, NODES, 60)]).astype(np.int32)
    targets = np.concatenate([follows + 1, (sources[len(follows) :] + draw.integers(1, NODES, 60)) % NODES])
    edges = len(sources)
    dead = np.zeros(NODES, np.bool_)
    pinned, apart = dead.copy(), dead.copy()
    pinned[PINNED], apart[APART] = True, True
    bodies = dict(zip(("texts", "text_ends"), packed([*texts, *(texts[row] for row in copied)]), strict=True))
    titles = dict(zip(("titles", "title_ends"), packed([""] * NODES), strict=True))
    names = dict(zip(("names", "names_ends"), packed(["[]"] * NODES), strict=True))
    entities = dict(zip(("entities", "entities_ends"), packed(["[]"] * NODES), strict=True))
    nodes: snapshot_files.Arrays = {
        "node_ids": np.arange(NODES, dtype=np.int64) * 3 + 10,
        "uids": np.arange(NODES * 16, dtype=np.uint32).astype(np.uint8).reshape(NODES, 16),
        "alive": ~dead,
        "roles": np.zeros(NODES, np.int8),
        "merged_into": np.full(NODES, -1, np.int32),
        "pinned": pinned,
        "apart": apart,
        "kinds": np.zeros(NODES, np.int32),
        "kind_names": np.frombuffer(b"note", np.uint8),
        "importance": np.full(NODES, 0.6, np.float32),
        "created_us": np.arange(NODES, dtype=np.int64) * SECOND_US,
        "event_us": np.full(NODES, -1, np.int64),
        "accessed_us": np.full(NODES, -1, np.int64),
        "vectors": vectors.astype(np.float16),
    }
    return (
        nodes
        | bodies
        | titles
        | names
        | entities
        | {
            "edge_ids": np.arange(edges, dtype=np.int64) * 2 + 7,
            "sources": sources,
            "targets": targets.astype(np.int32),
            "weights": np.where(np.arange(edges) < len(follows), 0.9, 0.3).astype(np.float32),
            "confidences": np.where(np.arange(edges) < len(follows), 0.95, 0.5).astype(np.float32),
            "types": np.ones(edges, np.int32),
            "edges_alive": np.ones(edges, np.bool_),
            "dreamt_edges": np.zeros(0, np.int64),
            "type_names": np.frombuffer(b"\0near", np.uint8),
            "sessions": np.full(NODES, -1, np.int32),
            "changed": np.ones(NODES, np.bool_),
            "expansions": np.zeros(0, np.uint8),
            "expansions_ends": np.zeros(NODES, np.int64),
            "points": np.zeros((NODES, 0), np.float32),
            "together": np.zeros((0, 2), np.int32),
            "together_recalled": np.zeros(0, np.int32),
            "together_confirmed": np.zeros(0, np.int32),
            "rejected": np.zeros((0, 2), np.int32),
        }
        | facet_blocks.pack({}, DIM)
    )


@pytest.fixture(scope="module", autouse=True)
def tiles() -> Iterator[None]:
    """Two of them, where there is one for so few memories."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dreamsvc.dreamer.tiles.TILE", NODES // 2)
        yield


@pytest.fixture(scope="module")
def snapshot(arrays: snapshot_files.Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cycle") / "snapshot"
    snapshot_files.write(path, 1, arrays)
    return path


def settings(**quality: float) -> Config:
    made = config.defaults()
    made.dream.nrem.batch_size = 32
    made.dream.nrem.src_steps = 20
    made.dream.resources.checkpoint_seconds = 1000
    made.dream.quality.target_compression_ratio = 4
    made.dream.quality.probe_cues = 60
    made.dream.shortcuts.min_traversals = 2
    for name, value in quality.items():
        setattr(made.dream.quality if hasattr(made.dream.quality, name) else made.dream.redundancy, name, value)
    return made


def cycle(
    snapshot: Path,
    throttle: StopAt,
    *,
    budget_s: float = 600,
    made: Config | None = None,
    checkpoint: Checkpoint | None = None,
    staged: Sequence[Operations] = (),
) -> Cycle:
    made = made or settings()
    start = Start(
        dream_id="d",
        phase=dream_pb2.DREAM_PHASE_NREM,
        seed=11,
        budget_seconds=budget_s,
        snapshot=str(snapshot),
        config=made.dream,
        recall=made.recall,
        now_us=NODES * SECOND_US,
        checkpoint=checkpoint,
        staged_parts=len(staged),
    )
    return Cycle(start, staged, throttle)


def dream(snapshot: Path, *, pieces: int = NEVER, **more: Any) -> Told:
    throttle = StopAt(pieces)
    night = cycle(snapshot, throttle, **more)
    night.prepare()
    messages = list(night.run())
    return Told(
        [message.operations for message in messages if message.HasField("operations")],
        [message.checkpoint for message in messages if message.HasField("checkpoint")],
        messages[-1].ended,
        [str(message.WhichOneof("message")) for message in messages],
        throttle.noted,
    )


def resumed(first: Told, snapshot: Path, **more: Any) -> Told:
    after = dream(snapshot, checkpoint=first.checkpoints[-1], staged=first.parts, **more)
    return after._replace(parts=first.parts + after.parts)


@pytest.fixture(scope="module")
def whole(snapshot: Path) -> Told:
    return dream(snapshot)


def merged_kinds(told: Told) -> list[str]:
    return [kind for part in told.parts if (kind := str(part.WhichOneof("kind"))) in MERGED]


def test_copies_containers_and_edges_are_told_in_parts_and_the_report_counts_them(
    whole: Told, arrays: snapshot_files.Arrays
) -> None:
    ids = arrays["node_ids"].tolist()
    groups = [one for part in whole.of("eliminations") for one in part.eliminations]
    containers = [one for part in whole.of("containers") for one in part.containers]
    # The copy of row 16, at row 66, is kept apart.
    wanted = {frozenset({ids[EACH * place], ids[TOPICS * EACH + place]}) for place in range(COPIES) if place != 2}
    assert {frozenset({group.survivor, *group.copies}) for group in groups} >= wanted
    assert all(len(one.members) > 1 for one in containers)
    assert len(containers) > TOPICS / 2
    made = whole.of("new_edges")
    assert sum(len(edges.sources) for edges in made) > 5
    found = whole.ended.compression
    assert whole.ended.reason == dream_pb2.END_REASON_CONVERGED
    assert found.redundancy.eliminated == sum(len(group.copies) for group in groups)
    assert found.facets == sum(len(one.members) for one in containers)
    assert found.shortcuts.created == sum(detail.is_amortized_shortcut for edges in made for detail in edges.details)
    assert found.shortcuts.created > 5
    assert found.retention.measured
    assert not found.retention.refused
    assert found.nodes_before == NODES
    assert found.nodes_after < NODES / 2
    assert whole.kinds[-2:] == ["checkpoint", "ended"]
    assert whole.checkpoints[-1].compression == found
    assert [part.part for part in whole.parts] == list(range(len(whole.parts)))


def places_in(noted: Sequence[int], sub_phase: int) -> list[int]:
    """The first, a middle and the last piece of a sub-phase."""
    places = [place for place, what in enumerate(noted) if what == sub_phase]
    return sorted({places[0], places[len(places) // 2], places[-1]})


@pytest.mark.parametrize("sub_phase", sorted({*SUB_PHASES, dream_pb2.SUB_PHASE_HEBBIAN_REPLAY}))
def test_wherever_it_is_interrupted_it_ends_as_if_it_had_not_been(whole: Told, snapshot: Path, sub_phase: int) -> None:
    for pieces in places_in(whole.noted, sub_phase):
        first = dream(snapshot, pieces=pieces)
        assert first.noted == whole.noted[: pieces + 1]
        assert first.ended.reason == dream_pb2.END_REASON_ABORTED
        if sub_phase != dream_pb2.SUB_PHASE_HEBBIAN_REPLAY:
            assert first.parts == whole.parts[: len(first.parts)]
        after = resumed(first, snapshot)
        assert after.ended.reason == dream_pb2.END_REASON_CONVERGED, pieces
        assert after.digest == whole.digest, pieces
        assert after.ended.compression == whole.ended.compression, pieces
        assert [part.part for part in after.parts] == list(range(len(after.parts)))


def test_every_sub_phase_takes_pieces_of_work(whole: Told) -> None:
    assert set(whole.noted) >= SUB_PHASES


def test_however_often_it_is_interrupted_it_ends_as_if_it_had_not_been(whole: Told, snapshot: Path) -> None:
    told = dream(snapshot, pieces=2)
    times = 1
    while told.ended.reason == dream_pb2.END_REASON_ABORTED:
        times += 1
        told = resumed(told, snapshot, pieces=2 + 60 * times)
    assert times > 3
    assert told.digest == whole.digest


def test_one_that_goes_on_stops_between_any_two_things_that_were_merged_before(
    whole: Told, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged, "PIECE", 1)
    before = dream(snapshot, pieces=whole.noted.index(dream_pb2.SUB_PHASE_SCHEMA_EXTRACTION))
    told = [len(part.eliminations.eliminations) + len(part.containers.containers) for part in before.parts]
    assert sum(told) > 3
    reading = resumed(before, snapshot).noted.index(dream_pb2.SUB_PHASE_SCHEMA_EXTRACTION)
    assert reading > sum(told)
    for pieces in range(reading):
        again = resumed(before, snapshot, pieces=pieces)
        assert again.ended.reason == dream_pb2.END_REASON_ABORTED
        assert len(again.noted) == pieces + 1
        assert dream_pb2.SUB_PHASE_SCHEMA_EXTRACTION not in again.noted
        assert again.parts == before.parts
    assert resumed(again, snapshot).digest == whole.digest


def test_one_that_had_told_everything_but_its_last_word_does_nothing_twice(whole: Told, snapshot: Path) -> None:
    after = resumed(whole, snapshot)
    assert after.parts == whole.parts
    assert after.ended.reason == whole.ended.reason
    assert after.ended.compression == whole.ended.compression


def test_where_time_runs_out_before_the_merging_ends_nothing_is_merged_and_it_says_so(snapshot: Path) -> None:
    told = dream(snapshot, budget_s=0.02)
    assert told.ended.reason == dream_pb2.END_REASON_BUDGET
    assert told.of("eliminations") == told.of("containers") == []
    assert any("budget" in notice for notice in told.ended.compression.notices)
    assert told.ended.tally.nodes_replayed > 0


def test_a_space_of_fewer_memories_than_the_least_is_replayed_and_left_as_it_is(snapshot: Path) -> None:
    told = dream(snapshot, made=settings(min_active=NODES + 1))
    assert told.ended.reason == dream_pb2.END_REASON_CONVERGED
    assert merged_kinds(told) == []
    assert told.of("edge_weights")
    assert told.ended.compression.ByteSize() == 0
    assert merged_kinds(dream(snapshot, made=settings(min_active=NODES))) != []


def test_a_night_that_would_lose_more_than_is_allowed_merges_nothing_and_says_so(snapshot: Path) -> None:
    told = dream(snapshot, made=settings(max_information_loss=1e-6))
    retention = told.ended.compression.retention
    assert retention.measured
    assert retention.refused
    assert retention.loss_high > 1e-6
    assert told.of("eliminations") == told.of("containers") == []
    assert told.ended.compression.facets == 0
    assert told.ended.compression.redundancy.eliminated == 0
    assert told.ended.compression.nodes_after == NODES


def touched_by(told: Told) -> set[int]:
    """Node ids that what was merged does something to."""
    found: set[int] = set()
    for part in told.of("eliminations"):
        for group in part.eliminations:
            found |= {group.survivor, *group.copies}
    for part in told.of("containers"):
        for container in part.containers:
            found |= {*container.members, *container.replaces}
    return found


def test_what_is_pinned_or_kept_apart_is_in_no_copy_and_no_container(
    whole: Told, arrays: snapshot_files.Arrays
) -> None:
    ids = arrays["node_ids"]
    touched = touched_by(whole)
    assert len(touched) > NODES / 2
    assert touched.isdisjoint(ids[[*PINNED, *APART]].tolist())
    assert whole.ended.compression.pinned == len(PINNED)
    assert whole.ended.compression.kept_apart == len(APART)


def test_of_a_very_large_memory_one_night_merges_a_part_says_so_and_ends_the_same_when_interrupted(
    snapshot: Path, arrays: snapshot_files.Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreamsvc.dreamer.tiles.MOST_TILES", 1)
    told = dream(snapshot)
    notice = "1 of 2 parts of the memory were compressed; the others are for other nights"
    assert list(told.ended.compression.notices).count(notice) == 1
    rows = np.searchsorted(arrays["node_ids"], sorted(touched_by(told)))
    assert len(rows)
    # One half or the other, by the order of time.
    assert rows.max() <= NODES // 2 or rows.min() >= NODES // 2
    broken_off = dream(snapshot, pieces=places_in(told.noted, dream_pb2.SUB_PHASE_CONSOLIDATION)[0])
    again = resumed(broken_off, snapshot)
    assert again.digest == told.digest
    assert list(again.ended.compression.notices).count(notice) == 1


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """The names of what JAX compiles from here on."""
    seen: list[str] = []

    def listen(event: str, _: float, **labels: str | int) -> None:
        if event == COMPILED:
            seen.append(str(labels["fun_name"]))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("exact_rows", [1, 4096])
def test_nothing_is_compiled_once_it_is_ready(
    whole: Told, snapshot: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch, exact_rows: int
) -> None:
    monkeypatch.setattr("dreamsvc.dreamer.redundancy.EXACT_ROWS", exact_rows)
    jax.clear_caches()
    throttle = StopAt(NEVER)
    night = cycle(snapshot, throttle)
    night.prepare()
    names = " ".join(compiled)
    assert "walk_paths" in names
    assert ("tile_pairs" if exact_rows > NODES else "neighbours_alike") in names
    compiled.clear()
    parts = [message.operations for message in night.run() if message.HasField("operations")]
    assert compiled == []
    assert set(throttle.noted) >= SUB_PHASES
    if exact_rows > NODES:
        assert operations.journal_digest(operations.coalesce(parts)) == whole.digest
