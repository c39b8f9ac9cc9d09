"""What no honest dreamer sends is refused in words; whatever passes can be folded and taken back."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from benchmarks.proof import parts
from benchmarks.proof.fuzz_parts import CROSSING
from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import (
    EdgeDetail,
    EdgeWeights,
    Eliminations,
    FoundBlindSpots,
    NewMemories,
    NewMemory,
    Operations,
    Positions,
    ReplayMarks,
)
from dreamsvc.errors import DreamFailed
from dreamsvc.memory import operations
from dreamsvc.memory.doctor import examine
from dreamsvc.memory.soundness import MOST_DEPTH, require_sound
from dreamsvc.memory.sqlite import MOST_COUNTED
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import ListBlindSpotsRequest
from dreamsvc.v1.error_reason_pb2 import ERROR_REASON_DREAM_CONSOLIDATION
from dreamsvc.v1.memory_pb2 import Edge, Memory
from tests.memory.conftest import Room

NAN, INF = float("nan"), float("inf")
VECTORS = {node: [float(node), 1.0, 0.5, -0.25] for node in (1, 2, 3)}

type Spoil = Callable[[Operations], None]


def sound_parts() -> dict[str, Operations]:
    """One of every kind, as an honest dreamer sends it."""
    detail = EdgeDetail(is_amortized_shortcut=True, path=[1, 2], valid_from_us=-5, valid_to_us=7, evidence="2 walks")
    schema = NewMemory(number=2, kind="schema", title="t", text="x", importance=0.5, metadata='{"a": [{"b": 1e3}]}')
    return {
        "edge_weights": parts.weights(0, {1: 0.0, 2: 1.0}, pruned=[1]),
        "replay_marks": parts.marks(0, {1: 1, 2: 3}),
        "eliminations": parts.eliminations(0, (1, [2, 3]), (4, [5])),
        "containers": parts.containers(
            0, parts.container(1, VECTORS), parts.container(3, VECTORS, bits=1, replaces=[9])
        ),
        "new_memories": parts.new_memories(0, schema),
        "new_edges": parts.new_edges(0, (1, 2, "CAUSAL", 0.5), (-2, 1, "ABSTRACTS", 1.0), detail=detail),
        "expansions": parts.expansions(0, parts.expansion(1, {"w": 0.5}, {2: 0.5}), parts.expansion(2, {"w": 2.0}, {})),
        "positions": parts.positions(0, {1: (0.5, 0.5), 2: (0.0, -0.9)}),
        "blind_spots": parts.blind_spots(0, (1, 2, True), (2, 3, False)),
        "walks": parts.walks(0, 1, 1),
    }


def test_every_kind_is_known() -> None:
    kinds = {field.name for field in Operations.DESCRIPTOR.oneofs_by_name["kind"].fields}
    assert kinds == sound_parts().keys()


@pytest.mark.parametrize("kind", sound_parts())
def test_what_an_honest_dreamer_sends_is_sound(kind: str) -> None:
    part = sound_parts()[kind]
    assert part.WhichOneof("kind") == kind
    require_sound(part)
    require_sound(Operations.FromString(part.SerializeToString()))


def _spoilt() -> Iterator[tuple[str, str, Spoil]]:
    """Kind, a word of what is said, and what is done to a sound part of it."""
    yield "edge_weights", "differ in length", lambda p: p.edge_weights.pruned.append(True)
    yield "edge_weights", "no id", lambda p: p.edge_weights.edge_ids.__setitem__(0, 0)
    yield "edge_weights", "twice", lambda p: p.edge_weights.edge_ids.__setitem__(0, 2)
    for value in (NAN, INF, -0.01, 1.01):
        yield "edge_weights", "weights", lambda p, value=value: p.edge_weights.weights.__setitem__(0, value)
        yield "new_edges", "weights", lambda p, value=value: p.new_edges.weights.__setitem__(0, value)
        yield "new_edges", "confidences", lambda p, value=value: p.new_edges.confidences.__setitem__(0, value)
        yield (
            "new_memories",
            "importance",
            lambda p, value=value: setattr(p.new_memories.memories[0], "importance", value),
        )
    yield "replay_marks", "counts", lambda p: p.replay_marks.counts.__setitem__(0, 2**32 - 1)
    yield "replay_marks", "no id", lambda p: p.replay_marks.node_ids.__setitem__(0, -1)
    yield "eliminations", "cosines", lambda p: p.eliminations.eliminations[0].cosines.pop()
    yield "eliminations", "cosines", lambda p: p.eliminations.eliminations[0].cosines.__setitem__(0, NAN)
    yield "eliminations", "twice", lambda p: p.eliminations.eliminations[0].copies.__setitem__(0, 1)
    yield "containers", "twice", lambda p: p.containers.containers[0].members.__setitem__(0, 2)
    yield "containers", "twice", lambda p: p.containers.containers[1].replaces.append(1)
    yield "containers", "twice", lambda p: setattr(p.containers.containers[0], "number", 3)
    yield "containers", "no id", lambda p: setattr(p.containers.containers[0], "number", 0)
    yield "containers", "bits", lambda p: setattr(p.containers.containers[0], "bits", 3)
    yield "containers", "stage", lambda p: setattr(p.containers.containers[0], "stage", 77)
    yield "containers", "no members", lambda p: p.containers.containers[0].ClearField("members")
    yield "containers", "bytes of codes", lambda p: setattr(p.containers.containers[0], "codes", b"x")
    yield "containers", "bytes of codes", lambda p: setattr(p.containers.containers[0], "scales", bytes(5))
    for scale in (NAN, INF, -1.0):
        raw = np.array([scale] * 3, "<f2").tobytes()
        yield "containers", "scales", lambda p, raw=raw: setattr(p.containers.containers[0], "scales", raw)
        yield "containers", "steps", lambda p, s=scale: setattr(p.containers.containers[0], "centroid_scale", s)
    yield "containers", "cohesion", lambda p: setattr(p.containers.containers[0], "cohesion", NAN)
    yield "containers", "title", lambda p: setattr(p.containers.containers[0], "title", "ä" * 3000)
    yield "new_memories", "text", lambda p: setattr(p.new_memories.memories[0], "text", "x" * 1_048_577)
    yield "new_memories", "kind", lambda p: setattr(p.new_memories.memories[0], "kind", "")
    yield "new_memories", "twice", lambda p: p.new_memories.memories.append(p.new_memories.memories[0])
    for text in ("{", "[]", "1", '{"a": NaN}', '{"a": 1e400}', '{"a": "\\ud800"}', '{"\\ud800": 1}', "[" * 100_000):
        yield "new_memories", "metadata", lambda p, text=text: setattr(p.new_memories.memories[0], "metadata", text)
    deep = '{"a":' * (MOST_DEPTH + 1) + "1" + "}" * (MOST_DEPTH + 1)
    yield "new_memories", "deep", lambda p: setattr(p.new_memories.memories[0], "metadata", deep)
    yield "new_edges", "differ in length", lambda p: p.new_edges.details.pop()
    yield "new_edges", "ends where", lambda p: p.new_edges.targets.__setitem__(0, 1)
    yield "new_edges", "without a number", lambda p: p.new_edges.sources.__setitem__(0, 0)
    yield "new_edges", "no type", lambda p: p.new_edges.types.__setitem__(0, "")
    yield "new_edges", "type", lambda p: p.new_edges.types.__setitem__(0, "x" * 129)
    yield "new_edges", "origin", lambda p: p.new_edges.origins.__setitem__(0, 77)
    yield "new_edges", "path", lambda p: p.new_edges.details[0].path.append(0)
    yield "new_edges", "years", lambda p: setattr(p.new_edges.details[0], "valid_to_us", 2**62)
    yield "expansions", "gains", lambda p: p.expansions.expansions[0].gains.__setitem__(0, NAN)
    yield "expansions", "counts for nothing", lambda p: p.expansions.expansions[0].gains.__setitem__(0, 0.0)
    yield "expansions", "counts for nothing", lambda p: p.expansions.expansions[0].words.__setitem__(0, "")
    yield "expansions", "gains", lambda p: p.expansions.expansions[0].words.append("x")
    yield "expansions", "shares", lambda p: p.expansions.expansions[0].shares.__setitem__(0, 1.5)
    yield "expansions", "length", lambda p: setattr(p.expansions.expansions[0], "length", 0.0)
    yield "expansions", "lengths", lambda p: setattr(p.expansions.expansions[0], "length", INF)
    yield "expansions", "twice", lambda p: setattr(p.expansions.expansions[1], "node", 1)
    yield "positions", "ball", lambda p: p.positions.points.__setitem__(0, 1.0)
    yield "positions", "ball", lambda p: p.positions.points.__setitem__(0, NAN)
    yield "positions", "points", lambda p: p.positions.points.append(0.0)
    yield "positions", "points", lambda p: setattr(p.positions, "dimension", 0)
    yield "positions", "points", lambda p: setattr(p.positions, "dimension", 2**32 - 1)
    yield "blind_spots", "twice", lambda p: setattr(p.blind_spots.blind_spots[0], "target", 1)
    yield "blind_spots", "twice", lambda p: setattr(p.blind_spots.blind_spots[0], "number", 2)
    yield "blind_spots", "distances", lambda p: setattr(p.blind_spots.blind_spots[0], "semantic_distance", NAN)
    yield "blind_spots", "confidence", lambda p: setattr(p.blind_spots.blind_spots[0], "confidence", 2.0)
    yield "blind_spots", "meet", lambda p: p.blind_spots.blind_spots[0].meeting.append(-1)
    yield "blind_spots", "walk", lambda p: p.blind_spots.blind_spots[0].walk.append(0.0)
    yield "blind_spots", "ball", lambda p: p.blind_spots.blind_spots[0].walk.__setitem__(0, 9.0)
    yield "walks", "walk", lambda p: p.walks.walks[0].points.append(0.0)
    yield "walks", "walks", lambda p: setattr(p.walks, "dimension", 0)
    yield "walks", "ball", lambda p: p.walks.walks[0].points.__setitem__(0, INF)
    yield "walks", "no id", lambda p: setattr(p.walks.walks[0], "origin", 0)


SPOILT = [pytest.param(*one, id=f"{one[0]}-{i}") for i, one in enumerate(_spoilt())]


@pytest.mark.parametrize(("kind", "said", "spoil"), SPOILT)
def test_nonsense_is_refused_with_what_is_wrong(kind: str, said: str, spoil: Spoil) -> None:
    part = sound_parts()[kind]
    part.part = 17
    spoil(part)
    with pytest.raises(DreamFailed, match="part 17: ") as refused:
        require_sound(part)
    assert refused.value.reason == ERROR_REASON_DREAM_CONSOLIDATION
    assert said in refused.value.message


def test_a_part_of_nothing_is_refused() -> None:
    with pytest.raises(DreamFailed, match="holds nothing"):
        require_sound(Operations(part=3))


def test_a_part_of_too_many_rows_is_refused_but_not_one_group_of_copies() -> None:
    count = operations.PART_ROWS + 1
    with pytest.raises(DreamFailed, match="2001 rows"):
        require_sound(parts.marks(0, dict.fromkeys(range(1, count + 1), 1)))
    require_sound(parts.eliminations(0, (1, range(2, count + 2))))
    with pytest.raises(DreamFailed, match="rows"):
        require_sound(parts.eliminations(0, (1, range(2, count)), (count + 1, [count + 2])))


EMPTY = [
    Operations(edge_weights=EdgeWeights()),
    Operations(replay_marks=ReplayMarks()),
    Operations(positions=Positions(dimension=2)),
    Operations(eliminations=Eliminations()),
    Operations(blind_spots=FoundBlindSpots()),
    Operations(new_memories=NewMemories()),
]


@pytest.mark.parametrize("part", EMPTY)
def test_a_part_without_rows_changes_nothing_and_may_come(part: Operations) -> None:
    require_sound(part)


# ── what the fold leaves out ────────────────────────────────────────────────────


@pytest.fixture
def people(room: Room) -> Room:
    """Memories and edges of the same kind in two spaces."""
    for space in ("default", "other"):
        memories = [Memory(key=f"{space}{i}", text=f"text {i}", vector=[1.0, i, 0.5, 0.25]) for i in range(5)]
        edges = [Edge(source=f"{space}{i}", target=f"{space}{i + 1}", weight=0.5) for i in range(4)]
        room.remember(*memories, edges=edges, space=space)
    return room


def folded_and_taken_back(room: Room, *journal: Operations) -> None:
    """Applies what was found sound; both spaces are then as they were."""
    for part in journal:
        require_sound(part)
    before = room.digest(), room.digest("other")
    change = room.dream(*journal)
    room.in_order()
    assert room.rows(CROSSING) == []
    assert room.digest("other") == before[1]
    room.revert(change)
    room.in_order()
    assert (room.digest(), room.digest("other")) == before


def nodes_of(room: Room, space: str) -> list[int]:
    return [
        row[0]
        for row in room.rows("SELECT n.id FROM nodes n JOIN spaces s ON s.id=n.space WHERE s.name=? ORDER BY 1", space)
    ]


def edges_of(room: Room, space: str) -> list[int]:
    return [
        row[0]
        for row in room.rows("SELECT e.id FROM edges e JOIN spaces s ON s.id=e.space WHERE s.name=? ORDER BY 1", space)
    ]


def test_a_dream_changes_nothing_of_another_space(people: Room) -> None:
    ours, theirs, edges = nodes_of(people, "default"), nodes_of(people, "other"), edges_of(people, "other")
    folded_and_taken_back(
        people,
        parts.weights(0, dict.fromkeys(edges, 0.9), pruned=edges[:1]),
        parts.marks(1, dict.fromkeys(theirs, 5)),
        parts.eliminations(2, (ours[0], theirs[:2]), (theirs[2], theirs[3:])),
        parts.containers(3, parts.container(1, {node: [1.0, 0.0, 0.5, 0.25] for node in theirs[:3]})),
        parts.new_edges(4, (ours[0], theirs[0], "x", 0.5), (theirs[1], theirs[2], "x", 0.5)),
        parts.expansions(
            5, parts.expansion(theirs[0], {"w": 0.5}, {}), parts.expansion(ours[0], {"w": 0.5}, {theirs[0]: 0.5})
        ),
        parts.positions(6, dict.fromkeys(theirs, (0.1, 0.1))),
        parts.blind_spots(7, (ours[0], theirs[0], True), (theirs[1], theirs[2], True)),
    )
    assert people.rows("SELECT count(*) FROM expansions") == people.rows("SELECT count(*) FROM positions") == [(0,)]
    assert people.rows("SELECT count(*) FROM blind_spots") == [(0,)]


def test_a_find_shows_nothing_of_another_space(people: Room) -> None:
    ours, theirs = nodes_of(people, "default"), nodes_of(people, "other")
    part = parts.blind_spots(0, (ours[0], ours[3], True))
    part.blind_spots.blind_spots[0].meeting[:] = [theirs[0], ours[1]]
    require_sound(part)
    people.dream(part)
    (spot,) = people.store.list_blind_spots(ListBlindSpotsRequest(space="default", page_size=5)).blind_spots
    assert [end.key for end in spot.meeting] == ["default1"]


def test_numbers_that_two_parts_have_in_common_count_once(people: Room) -> None:
    ours = nodes_of(people, "default")
    vectors = {node: [1.0, node, 0.5, 0.25] for node in ours[:3]}
    folded_and_taken_back(
        people,
        parts.new_memories(0, NewMemory(number=1, kind="schema", title="first", importance=0.5)),
        parts.new_memories(1, NewMemory(number=1, kind="schema", title="second", importance=0.5)),
        parts.containers(2, parts.container(1, vectors)),
    )
    people.dream(
        parts.new_memories(0, NewMemory(number=1, kind="schema", title="first", importance=0.5)),
        parts.new_memories(1, NewMemory(number=1, kind="schema", title="second", importance=0.5)),
    )
    assert people.rows("SELECT title FROM nodes WHERE kind='schema'") == [("first",)]


def test_counts_beyond_what_a_column_holds_are_kept_as_they_are(people: Room) -> None:
    ours = nodes_of(people, "default")
    people.execute(f"UPDATE nodes SET replay_count={MOST_COUNTED}, access_count={MOST_COUNTED} WHERE id=?", ours[0])
    folded_and_taken_back(
        people,
        parts.marks(0, {ours[0]: 5, ours[1]: 5}),
        parts.eliminations(1, (ours[2], [ours[0], ours[1]])),
    )
    people.dream(parts.eliminations(0, (ours[2], [ours[0], ours[1]])))
    assert people.rows("SELECT access_count FROM nodes WHERE id=?", ours[2]) == [(MOST_COUNTED,)]
    people.store.touch("default", {ours[2]: 3}).result(10)
    assert people.rows("SELECT access_count FROM nodes WHERE id=?", ours[2]) == [(MOST_COUNTED,)]


def test_replays_add_up_to_what_a_part_can_hold() -> None:
    (part,) = operations.coalesce([parts.marks(n, {7: 2**31}) for n in range(3)])
    assert list(part.replay_marks.counts) == [2**32 - 1]


def test_a_dry_run_foresees_nothing_of_edges_that_its_snapshot_does_not_hold() -> None:
    journal = [parts.weights(0, {1: 0.75, 5: 0.25, 2**62: 1.0})]
    foreseen = operations.foresee(journal, np.array([1, 3], np.int64), np.array([0.5, 0.5], np.float32))
    assert (foreseen.strengthened, foreseen.weakened, foreseen.skipped, foreseen.average_delta) == (1, 0, 2, 0.25)


def test_a_dream_may_name_memories_that_it_never_makes(people: Room) -> None:
    ours = nodes_of(people, "default")
    folded_and_taken_back(people, parts.new_edges(0, (-9, ours[0], "x", 0.5), (ours[1], -(2**63), "x", 0.5)))
    assert [found for found in examine(str(people.path)) if not found.ok] == []


def test_an_id_that_somebody_took_meanwhile_stays_theirs(people: Room) -> None:
    uid = entropy.uuid7(people.clock.us)
    taken = entropy.uuid_for(uid, "1")
    change, dream = people.begin_dream(dream=Dream(id=uid, space="default", state=Dream.STATE_RUNNING))
    people.remember(Memory(id=taken, text="a user's"))
    people.seal(
        change, dream, parts.new_memories(0, NewMemory(number=1, kind="schema", title="a dream's", importance=0.5))
    )
    people.fold(change)
    people.in_order()
    assert people.memory(taken).text == "a user's"
