"""A dream's journal: coalesced, sealed, folded, and what is kept of how it was before."""

import hashlib
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc.dreamer.v1.operations_pb2 import BeforeImages, EdgeWeights, Operations, ReplayMarks
from dreamsvc.errors import StoreCorrupt
from dreamsvc.memory import operations
from dreamsvc.memory.operations import STAGED, coalesce, journal_digest
from dreamsvc.v1.memory_pb2 import Edge, Memory

type Writes = list[tuple[int, float, bool]]
type Marks = list[tuple[int, int]]

writes = st.lists(st.tuples(st.integers(1, 8), st.floats(0, 1, width=32), st.booleans()), max_size=20)
mark_lists = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), max_size=12)


def parts_of(edges: Writes, marks: Marks, edge_cuts: list[int], mark_cuts: list[int]) -> list[Operations]:
    """One history of writes, cut into parts at some places, as an interrupted dream leaves them."""
    parts: list[Operations] = []
    bounds = [0, *sorted(cut % (len(edges) + 1) for cut in edge_cuts), len(edges)]
    for start, stop in itertools.pairwise(bounds):
        ids, values, pruned = zip(*edges[start:stop], strict=True) if start < stop else ((), (), ())
        parts.append(Operations(edge_weights=EdgeWeights(edge_ids=ids, weights=values, pruned=pruned)))
    bounds = [0, *sorted(cut % (len(marks) + 1) for cut in mark_cuts), len(marks)]
    for start, stop in itertools.pairwise(bounds):
        ids, values = zip(*marks[start:stop], strict=True) if start < stop else ((), ())
        parts.append(Operations(replay_marks=ReplayMarks(node_ids=ids, counts=values)))
    for number, one in enumerate(parts):
        one.part = number
    return parts


@settings(max_examples=150, deadline=None)
@given(
    edges=writes,
    marks=mark_lists,
    cuts=st.lists(st.integers(0, 40), max_size=5),
    other=st.lists(st.integers(0, 40), max_size=5),
    size=st.integers(1, 4),
)
def test_a_journal_does_not_depend_on_where_its_parts_were_cut(
    edges: Writes, marks: Marks, cuts: list[int], other: list[int], size: int
) -> None:
    with pytest.MonkeyPatch.context() as small:
        small.setattr(operations, "PART_ROWS", size)
        one, two = (coalesce(parts_of(edges, marks, c, c)) for c in (cuts, other))
        assert one == two
        assert journal_digest(one) == journal_digest(two)
        # And once coalesced it stays as it is.
        assert coalesce(one) == one
    last = {edge: (np.float32(weight), pruned) for edge, weight, pruned in edges}
    assert [i for part in one for i in part.edge_weights.edge_ids] == sorted(last)
    for part in one:
        assert len(part.edge_weights.edge_ids) + len(part.replay_marks.node_ids) <= size
        for edge, weight, pruned in zip(
            part.edge_weights.edge_ids, part.edge_weights.weights, part.edge_weights.pruned, strict=True
        ):
            assert (np.float32(weight), pruned) == last[edge]
    totals = {node: sum(count for other, count in marks if other == node) for node, _ in marks}
    found = {
        node: count
        for part in one
        for node, count in zip(part.replay_marks.node_ids, part.replay_marks.counts, strict=True)
    }
    assert found == totals
    assert [part.part for part in one] == list(range(len(one)))
    assert operations.size(one) == len(last) + len(totals)


def test_a_digest_tells_journals_apart() -> None:
    digests = {
        journal_digest(coalesce(parts_of(edges, marks, [], [])))
        for edges, marks in [
            ([], []),
            ([(1, 0.5, False)], []),
            ([(1, 0.5, True)], []),
            ([(1, 0.25, False)], []),
            ([(2, 0.5, False)], []),
            ([], [(1, 1)]),
            ([], [(1, 2)]),
        ]
    }
    assert len(digests) == 7


@pytest.fixture
def ring(room: Any) -> Any:
    """Six memories, edges 1 to 6 in a ring, all of weight 0.5."""
    room.remember(
        *(Memory(key=key, text=key) for key in "abcdef"),
        edges=[Edge(source=s, target=t, weight=0.5) for s, t in zip("abcdef", "bcdefa", strict=True)],
    )
    return room


def stored(room: Any) -> list[tuple[int, float, bool]]:
    return [(e, w, bool(alive)) for e, w, alive in room.rows("SELECT id, weight, deleted_us IS NULL FROM edges")]


def same_as_store(room: Any) -> None:
    view = room.store.graph("default").view
    live = zip(
        view.edge_ids[: view.m].tolist(),
        view.weights[: view.m].tolist(),
        view.edges_alive[: view.m].tolist(),
        strict=True,
    )
    assert list(live) == [(e, float(np.float32(w)), alive) for e, w, alive in stored(room)]


def test_a_fold_applies_every_part_and_keeps_how_it_was(ring: Any, part: Any) -> None:
    change = ring.dream(
        part.weights(0, {1: 0.75, 2: 0.25}), part.weights(1, {3: 0.01}, pruned=[3]), part.marks(2, {1: 3, 2: 1})
    )
    assert stored(ring)[:4] == [(1, 0.75, True), (2, 0.25, True), (3, float(np.float32(0.01)), False), (4, 0.5, True)]
    same_as_store(ring)
    assert ring.get("a").memory.replay_count == 3
    assert ring.get("a").edges[0].changed_by_dream
    found = ring.rows("SELECT part, before, reversal_hash FROM change_parts WHERE change = ? ORDER BY part", change)
    assert [number for number, _, _ in found] == [0, 1]
    assert all(hashlib.sha256(before).digest() == digest for _, before, digest in found)
    edges, nodes = (BeforeImages.FromString(before) for _, before, _ in found)
    assert (list(edges.edge_ids), list(edges.weights), list(edges.deleted_us)) == ([1, 2, 3], [0.5] * 3, [0] * 3)
    assert (list(nodes.node_ids), list(nodes.replay_counts)) == ([1, 2], [0, 0])
    assert not edges.skipped
    # The staged parts are not needed any more.
    assert ring.rows("SELECT DISTINCT generation FROM change_parts") == [(operations.COMPACTED,)]


def test_what_a_user_changed_since_the_dream_began_is_kept(ring: Any, part: Any) -> None:
    def meanwhile() -> None:
        ring.remember(edges=[Edge(source="a", target="b", weight=0.9)])
        ring.forget("d")

    change = ring.dream(part.weights(0, {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4, 5: 0.6, 99: 0.5}), meanwhile=meanwhile)
    assert stored(ring) == [
        (1, 0.9, True),
        (2, float(np.float32(0.2)), True),
        (3, 0.5, False),
        (4, 0.5, False),
        (5, float(np.float32(0.6)), True),
        (6, 0.5, True),
    ]
    same_as_store(ring)
    back = ring.journal.read_back(change)
    assert (back.strengthened, back.weakened, back.pruned, back.skipped) == (1, 1, 0, 4)
    ((before,),) = ring.rows("SELECT before FROM change_parts WHERE change = ?", change)
    assert list(BeforeImages.FromString(before).skipped) == [1, 3, 4, 99]
    ring.restore("d")
    same_as_store(ring)


def test_an_edge_that_another_dream_pruned_stays_pruned(ring: Any, part: Any) -> None:
    change, dream = ring.begin_dream()
    ring.dream(part.weights(0, {1: 0.0}, pruned=[1]))
    ring.journal.stage_dream(change, [part.weights(0, {1: 1.0, 2: 1.0})], None, dream).result(10)
    ring.journal.compact(change)
    ring.journal.seal_dream(change, dream).result(10)
    ring.fold(change)
    assert stored(ring)[:2] == [(1, 0.0, False), (2, 1.0, True)]
    assert ring.journal.read_back(change).skipped == 1


def test_what_a_user_does_after_the_fold_is_not_counted_as_the_dreams(ring: Any, part: Any) -> None:
    change = ring.dream(part.weights(0, {1: 0.75, 2: 0.75, 3: 0.75}))
    ring.remember(edges=[Edge(source="a", target="b", weight=0)])
    ring.forget("c")
    assert ring.journal.read_back(change)[:4] == (0, 0, 0, 0)


edge_changes = st.dictionaries(
    st.integers(1, 6), st.tuples(st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), st.booleans()), max_size=6
)


@settings(max_examples=60, deadline=None)
@given(
    start=st.lists(st.sampled_from([0.1, 0.3, 0.5, 1 / 3]), min_size=6, max_size=6),
    edges=edge_changes,
    marks=st.dictionaries(st.integers(1, 6), st.integers(1, 3)),
)
def test_what_is_read_back_is_what_was_foreseen(
    shared_room: Any,
    new_space: Any,
    part: Any,
    start: list[float],
    edges: dict[int, tuple[float, bool]],
    marks: dict[int, int],
) -> None:
    room, space = shared_room, new_space()
    room.remember(
        *(Memory(key=key, text=key) for key in "abcdef"),
        edges=[Edge(source=s, target=t, weight=w) for s, t, w in zip("abcdef", "bcdefa", start, strict=True)],
        space=space,
    )
    view = room.store.graph(space).view
    first_node, first_edge = int(view.node_ids[0]) - 1, int(view.edge_ids[0]) - 1
    parts = [
        part.weights(
            0,
            {first_edge + e: w for e, (w, _) in edges.items()},
            pruned=[first_edge + e for e, (_, gone) in edges.items() if gone],
        ),
        part.marks(1, {first_node + n: count for n, count in marks.items()}),
    ]
    edge_ids, weights = view.edge_ids[: view.m].copy(), view.weights[: view.m].copy()
    foreseen = operations.foresee(coalesce(parts), edge_ids, weights)
    back = room.journal.read_back(room.dream(*parts, space=space))
    assert back[:5] == foreseen[:5]
    assert back.average_delta == pytest.approx(foreseen.average_delta)
    assert back.strengthened + back.weakened + back.pruned <= len(edges)


@pytest.mark.parametrize("slices", range(5))
def test_a_fold_goes_on_at_every_cursor_and_ends_at_the_same_digest(
    rooms: Any, part: Any, slices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "PART_ROWS", 2)
    digests: list[tuple[str, list[Any]]] = []
    for interrupted in (False, True):
        with rooms() as room:
            room.remember(
                *(Memory(key=key, text=key) for key in "abcdef"),
                edges=[Edge(source=s, target=t, weight=0.5) for s, t in zip("abcdef", "bcdefa", strict=True)],
            )
            parts = [part.weights(0, {e: e / 10 for e in range(1, 7)}, pruned=[2]), part.marks(1, {1: 1, 4: 2})]
            change = room.dream(*parts, fold=False)
            if interrupted:
                assert room.fold(change, slices=slices) == min(slices, 4)
                room.reopen(snapshot=bool(slices % 2))
                assert room.rows("SELECT id FROM changes WHERE state = 'sealed'") == [(change,)]
            room.fold(change)
            same_as_store(room)
            digests.append(
                (
                    room.digest(),
                    room.rows("SELECT part, before, reversal_hash FROM change_parts ORDER BY part"),
                )
            )
            assert room.rows("SELECT state FROM changes") == [("folded",)]
    assert digests[0] == digests[1]


def test_a_dropped_dream_leaves_the_digest_and_no_parts(ring: Any, part: Any) -> None:
    digest = ring.digest()
    change, dream = ring.begin_dream()
    ring.journal.stage_dream(change, [part.weights(0, {1: 0.9})], None, dream).result(10)
    ring.journal.compact(change)
    ring.journal.drop_dream(change, dream).result(10)
    assert ring.fold(change) == 0
    ring.reopen()
    assert ring.digest() == digest
    assert ring.rows("SELECT count(*) FROM change_parts") == [(0,)]
    assert ring.rows("SELECT state FROM changes") == [("dropped",)]


def test_a_sealed_dream_cannot_be_dropped_any_more(ring: Any, part: Any) -> None:
    change = ring.dream(part.weights(0, {1: 0.9}), fold=False)
    assert not ring.store.database.write(lambda c: operations.drop(c, change, 0)).result(10)
    assert ring.fold(change) == 1
    assert stored(ring)[0] == (1, float(np.float32(0.9)), True)


def test_a_dream_that_is_not_sealed_does_not_fold(ring: Any, part: Any) -> None:
    change, dream = ring.begin_dream()
    ring.journal.stage_dream(change, [part.weights(0, {1: 0.9})], None, dream).result(10)
    assert ring.fold(change) == 0
    assert stored(ring)[0] == (1, 0.5, True)
    assert ring.rows("SELECT state FROM changes") == [("staging",)]


def test_a_part_that_comes_again_replaces_itself(ring: Any, part: Any) -> None:
    change = ring.dream(part.weights(0, {1: 0.1}), part.weights(0, {1: 0.2}), part.weights(1, {2: 0.3}))
    assert [round(weight, 6) for _, weight, _ in stored(ring)[:2]] == [0.2, 0.3]
    assert ring.journal.read_back(change).weakened == 2


@pytest.mark.parametrize("generation", [operations.STAGED, operations.COMPACTED])
def test_a_damaged_part_is_found_by_its_checksum(ring: Any, part: Any, generation: int) -> None:
    change = ring.dream(part.weights(0, {1: 0.1}), fold=False)
    ring.execute("UPDATE change_parts SET body = CAST(body || x'00' AS BLOB) WHERE generation = ?", generation)

    def read() -> None:
        if generation == STAGED:
            ring.store.database.read(lambda c: operations.staged(c, change, STAGED))
        else:
            ring.fold(change)

    with pytest.raises(StoreCorrupt, match=f"part 0 of change {change} does not match its checksum"):
        read()
    assert stored(ring)[0] == (1, 0.5, True)


def test_a_damaged_image_is_found_by_its_reversal_hash(ring: Any, part: Any) -> None:
    change = ring.dream(part.weights(0, {1: 0.1}))
    ring.execute("UPDATE change_parts SET before = CAST(before || x'00' AS BLOB)")
    with pytest.raises(StoreCorrupt, match="reversal hash"):
        ring.journal.read_back(change)


def test_seal_and_fold_are_in_the_audit_log_once(ring: Any, part: Any) -> None:
    change = ring.dream(part.weights(0, {1: 0.1}))
    assert ring.fold(change) == 0
    assert [row[0] for row in ring.rows("SELECT action FROM audit ORDER BY id")] == ["remember", "seal", "fold"]


def test_user_writes_get_in_between_the_slices_of_a_fold(ring: Any, part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "PART_ROWS", 1)
    change = ring.dream(part.weights(0, dict.fromkeys(range(1, 7), 0.9)), fold=False)
    ring.fold(change, slices=2)
    ring.remember(edges=[Edge(source="a", target="b", weight=0.2), Edge(source="f", target="a", weight=0.2)])
    ring.fold(change)
    nine = float(np.float32(0.9))
    assert [weight for _, weight, _ in stored(ring)] == [0.2, nine, nine, nine, nine, 0.2]
    same_as_store(ring)
