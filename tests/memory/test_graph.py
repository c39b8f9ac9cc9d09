"""The live graph always equals a fresh load of the store."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamsvc import two_stage
from dreamsvc.errors import NotFound
from dreamsvc.facet_codes import decode_centroid, encode_centroid, encode_facets
from dreamsvc.memory import graph as graphs
from dreamsvc.memory import snapshot
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.graph import NEVER, NewEdge, NewNode, PackedContainer, RoleChange, SpaceGraph
from dreamsvc.v1.memory_pb2 import (
    MEMORY_ROLE_CONTAINER,
    MEMORY_ROLE_FACET,
    MEMORY_ROLE_FOLDED,
    MEMORY_ROLE_REPLACED,
    MEMORY_ROLE_UNSPECIFIED,
    Edge,
    Memory,
)

KEYS = "abcdef"
WORDS = ["ant", "bee", "cat", "dog", "elk"]


def kinds(graph: SpaceGraph) -> list[str]:
    names = {number: name for name, number in graph.view.kind_names.items()}
    return [names[number] for number in graph.view.kinds[: graph.view.n].tolist()]


def same_columns(live: SpaceGraph, fresh: SpaceGraph) -> None:
    assert (live.view.n, live.view.m) == (fresh.view.n, fresh.view.m)
    for names, size in ((snapshot._START_NODES, live.view.n), (snapshot._START_EDGES, live.view.m)):
        for name in names:
            if name != "kinds":
                np.testing.assert_array_equal(getattr(live.view, name)[:size], getattr(fresh.view, name)[:size], name)
    assert kinds(live) == kinds(fresh)
    assert live.view.superseded_by == fresh.view.superseded_by
    same_vectors(live, fresh)


def same_vectors(live: SpaceGraph, fresh: SpaceGraph) -> None:
    known, vectors = zip(*(embedded(graph) for graph in (live, fresh)), strict=True)
    np.testing.assert_array_equal(*known)
    # The dimension is known from the first vector on, though none may be left.
    if known[0].any():
        np.testing.assert_array_equal(*vectors)
    assert live.view.dense.blocks.keys() == fresh.view.dense.blocks.keys()
    for row, block in live.view.dense.blocks.items():
        assert block.rows.tolist() == fresh.view.dense.blocks[row].rows.tolist()


def embedded(graph: SpaceGraph) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Which rows have a vector, and the vectors as they are read."""
    view = graph.view
    return view.dense.slots[: view.n] >= 0, two_stage.vectors_of(view.dense, np.arange(view.n))


def same_answers(room: Any, live: SpaceGraph, fresh: SpaceGraph) -> None:
    for text, vector in [("ant bee", None), ("", [1.0, 0.2]), ("cat", [0.1, -1.0]), ("A", None), ("elk dog ant", None)]:
        found = [room.find(text, vector=vector, limit=20, graph=graph) for graph in (live, fresh)]
        by_node = [{hit.node: hit for hit in hits} for hits in found]
        assert by_node[0].keys() == by_node[1].keys()
        for node, hit in by_node[0].items():
            assert hit == pytest.approx(by_node[1][node], abs=1e-5)


key = st.sampled_from(KEYS)
memories = st.builds(
    lambda key, words, kind, title, vector: Memory(
        key=key, text=" ".join(words), kind=kind, title=title, aliases=[key.upper()], vector=vector
    ),
    key,
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
    st.sampled_from(["note", "fact", "a\nb"]),
    st.sampled_from(["", "Ant", "Bee cat"]),
    st.sampled_from([[], [1.0, 0.0], [0.3, -2.0], [1e-3, 5.0]]),
)
edges = st.tuples(key, key, st.floats(0, 1)).filter(lambda edge: edge[0] != edge[1])
names = st.lists(key, min_size=1, max_size=3, unique=True)
steps = st.one_of(
    st.tuples(st.just("remember"), st.lists(memories, min_size=1, max_size=3, unique_by=lambda m: m.key)),
    st.tuples(st.just("connect"), st.lists(edges, min_size=1, max_size=3, unique_by=lambda edge: edge[:2])),
    st.tuples(st.just("forget"), names),
    st.tuples(st.just("restore"), names),
    st.tuples(st.just("touch"), names),
    st.tuples(st.just("dream"), st.dictionaries(st.integers(0, 9), st.floats(0, 1, width=32), max_size=4)),
    st.tuples(st.just("refused"), names),
)


@settings(max_examples=35, deadline=None)
@given(st.lists(steps, min_size=1, max_size=14))
def test_after_any_history_the_live_graph_equals_a_fresh_load(
    shared_room: Any, new_space: Any, part: Any, history: list[tuple[str, Any]]
) -> None:
    room, space = shared_room, new_space()
    room.remember(Memory(key="a", text="ant", vector=[1, 1]), space=space)
    known, forgotten = {"a"}, set[str]()
    for verb, what in history:
        room.clock.us += 1
        living = known - forgotten
        match verb:
            case "remember":
                room.remember(*what, space=space)
                known |= {memory.key for memory in what}
                forgotten -= {memory.key for memory in what}
            case "connect":
                fit = [Edge(source=s, target=t, weight=w) for s, t, w in what if {s, t} <= living]
                if fit:
                    room.remember(edges=fit, space=space)
            case "forget" | "restore":
                if fit := [name for name in what if name in known]:
                    getattr(room, verb)(*fit, space=space)
                    forgotten = forgotten | set(fit) if verb == "forget" else forgotten - set(fit)
            case "touch":
                view = room.store.graph(space).view
                nodes = [int(view.node_ids[0]), int(view.node_ids[view.n - 1])]
                room.store.touch(space, dict.fromkeys(nodes, 1)).result(10)
            case "dream":
                view = room.store.graph(space).view
                ids = view.edge_ids[: view.m].tolist()
                changes = {ids[i % len(ids)]: w for i, w in what.items()} if ids else {}
                room.dream(part.weights(0, changes, pruned=[e for e in changes if e % 3 == 0]), space=space)
            case _:
                with pytest.raises(Exception, match="nobody"):
                    room.remember(
                        Memory(key=what[0], text="lost"), edges=[Edge(source="nobody", target="a")], space=space
                    )
    live, fresh = room.store.graph(space), room.fresh(space)
    same_columns(live, fresh)
    same_answers(room, live, fresh)


def test_columns_grow_by_copies_and_an_old_view_stays_as_it_was(room: Any) -> None:
    room.remember(Memory(key="first", text="ant", vector=[1, 0]))
    old = room.store.graph("default").view
    for i in range(3):
        room.remember(
            *(Memory(key=f"{i}-{j}", text="bee", vector=[0, 1]) for j in range(200)),
            edges=[Edge(source="first", target=f"{i}-{j}") for j in range(200)],
        )
    view = room.store.graph("default").view
    assert (view.n, view.m, old.n, old.m) == (601, 600, 1, 0)
    assert len(view.node_ids) == len(view.dense.slots) == len(view.dense.units) == 1024
    assert two_stage.vectors_of(view.dense, range(1, 601)).tolist() == [[0, 1]] * 600
    assert (old.dense.size, two_stage.vectors_of(old.dense, [0, 1]).tolist()) == (1, [[1, 0], [0, 0]])
    same_columns(room.store.graph("default"), room.fresh())
    assert len(old.node_ids) == 256


def test_a_changed_memory_has_no_vector_until_one_is_set(room: Any) -> None:
    room.remember(Memory(key="a", text="1", vector=[3, 4]))
    _, vectors = embedded(room.store.graph("default"))
    np.testing.assert_allclose(vectors[0], [0.6, 0.8], rtol=1e-3)
    room.remember(Memory(key="a", text="2"))
    known, vectors = embedded(room.store.graph("default"))
    assert (known[0], vectors[0].tolist()) == (False, [0, 0])


def test_a_vector_that_was_made_shows_as_the_next_start_reads_it(room: Any) -> None:
    room.remember(Memory(key="a", text="1"))
    made = {1: np.array([0.1234567, 0.992], np.float32)}
    room.store.put_vectors(room.store.space("default"), "toy", 2, made, {1: "1"}).result(10)
    same_columns(room.store.graph("default"), room.fresh())


def test_an_unknown_space_has_no_graph(room: Any) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        room.store.graph("nowhere")


def test_a_damaged_vector_is_named_and_keeps_no_other_memory_from_being_found(
    room: Any, caplog: pytest.LogCaptureFixture
) -> None:
    room.remember(Memory(key="a", text="1", vector=[1, 0]), Memory(key="b", text="2", vector=[0, 1]))
    room.execute("UPDATE vectors SET body = x'ffff0000' WHERE node = 1")
    fresh = room.fresh()
    view = fresh.view
    assert embedded(fresh)[0].tolist() == [False, True]
    assert view.alive[: view.n].all()
    assert "row 1" in caplog.text
    assert "doctor" in caplog.text


def node(number: int, **fields: Any) -> NewNode:
    made = NewNode(number, True, "note", "", f"text {number}", [], 0.5, 1, NEVER, NEVER)
    return made._replace(**fields)


def test_rows_follow_ids_with_gaps() -> None:
    graph = SpaceGraph()
    graph.add_nodes([node(3), node(7), node(100)])
    graph.add_nodes([])
    graph.add_edges([NewEdge(5, 100, 3, 0.5, 1.0, True), NewEdge(9, 7, 100, 0.25, 1.0, False)])
    graph.add_edges([])
    assert graph.view.rows_of([100, 3]).tolist() == [2, 0]
    assert graph.view.sources[:2].tolist() == [2, 1]
    graph.set_edges([9], [0.75], [True])
    assert graph.view.weights[:2].tolist() == [0.5, 0.75]
    assert graph.view.confidences[:2].tolist() == [1, 1]
    graph.touch([7], 42)
    assert graph.view.accessed_us[:3].tolist() == [NEVER, 42, NEVER]


def test_a_hub_of_many_edges_is_walked_after_its_overlay_was_folded(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "OVERLAY_ROW", 8)
    room.remember(Memory(key="hub", text="hub"), *(Memory(key=f"k{i}", text=f"t{i}") for i in range(40)))
    for i in range(40):
        room.remember(edges=[Edge(source="hub", target=f"k{i}", weight=0.5)])
    assert len(room.store.graph("default").view.adjacency.overlay.get(0, ())) <= 9
    assert {hit.node for hit in room.find("hub", limit=100)} == set(range(1, 42))
    same_answers(room, room.store.graph("default"), room.fresh())


# ── what dreams merge ───────────────────────────────────────────────────────────

PLAIN, CONTAINER, FACET = MEMORY_ROLE_UNSPECIFIED, MEMORY_ROLE_CONTAINER, MEMORY_ROLE_FACET


def unit(*numbers: float) -> NDArray[np.float32]:
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


VECTORS = {1: unit(1, 0.1, 0, 0), 2: unit(1, -0.1, 0, 0), 3: unit(0, 0, 1, 0.1), 4: unit(0, 0, 1, -0.1)}


def packed(*members: int) -> PackedContainer:
    vectors = np.stack([VECTORS[member] for member in members])
    centroid = encode_centroid(vectors.mean(axis=0))
    return PackedContainer(members, encode_facets(vectors, decode_centroid(centroid), bits=8), 8, centroid)


@pytest.fixture
def four() -> SpaceGraph:
    """Memories 1 to 4 in two pairs that are near each other."""
    graph = SpaceGraph()
    Delta(new_nodes=[node(i) for i in VECTORS], vectors=dict(VECTORS)).apply(graph)
    return graph


def merge(container: int, *members: int) -> Delta:
    return Delta(
        new_nodes=[node(container, role=CONTAINER, text="all of them")],
        roles=[RoleChange(member, FACET, container, True) for member in members],
        containers={container: packed(*members)},
    )


def words_find(graph: SpaceGraph, text: str) -> list[int]:
    view = graph.view
    return view.node_ids[np.flatnonzero(view.lexical.scores(text, view.n))].tolist()


def held(graph: SpaceGraph) -> dict[int, list[int]]:
    view = graph.view
    return {int(view.node_ids[row]): view.node_ids[block.rows].tolist() for row, block in view.dense.blocks.items()}


def test_members_of_a_container_are_found_by_words_and_by_their_codes(four: SpaceGraph) -> None:
    merge(5, 2, 1).apply(four)
    view = four.view
    assert held(four) == {5: [1, 2]}
    assert view.roles[: view.n].tolist() == [FACET, FACET, PLAIN, PLAIN, CONTAINER]
    assert view.merged_into[: view.n].tolist() == [4, 4, NEVER, NEVER, NEVER]
    assert view.findable().tolist() == [True, True, True, True, False]
    known, vectors = embedded(four)
    assert known.all()
    np.testing.assert_allclose(vectors[:4], np.stack(list(VECTORS.values())), atol=0.01)
    # Two codes and a centroid instead of two vectors.
    assert np.count_nonzero(view.dense.holders[: view.dense.size] >= 0) == 3
    assert words_find(four, "text") == [1, 2, 3, 4]
    assert words_find(four, "all") == []


def test_a_reader_sees_a_merge_as_a_whole(four: SpaceGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    before = four.view
    seen: list[Any] = []
    real = SpaceGraph.add_containers

    def add_containers(self: SpaceGraph, containers: Any) -> None:
        seen.append(self.view)
        real(self, containers)

    monkeypatch.setattr(SpaceGraph, "add_containers", add_containers)
    merge(5, 1, 2).apply(four)
    for view in (before, *seen):
        assert view.n == 4
        read = two_stage.vectors_of(view.dense, range(4))
        np.testing.assert_allclose(read, np.stack(list(VECTORS.values())), rtol=1e-6)
    assert four.view.n == 5


def test_a_facet_that_stands_for_itself_again_leaves_its_container(four: SpaceGraph) -> None:
    merge(5, 1, 2).apply(four)
    Delta(roles=[RoleChange(1, PLAIN, NEVER, True)], vectors={1: VECTORS[1]}).apply(four)
    assert held(four) == {5: [2]}
    assert (four.view.roles[0], four.view.merged_into[0]) == (PLAIN, NEVER)
    np.testing.assert_allclose(embedded(four)[1][0], VECTORS[1], rtol=1e-6)
    assert words_find(four, "text") == [1, 2, 3, 4]


def test_a_facet_that_a_user_rewrites_stands_for_itself(four: SpaceGraph) -> None:
    merge(5, 1, 2).apply(four)
    Delta(changed_nodes=[node(2, text="new")]).apply(four)
    assert held(four) == {5: [1]}
    assert (four.view.roles[1], four.view.merged_into[1], embedded(four)[0][1]) == (PLAIN, NEVER, False)
    assert words_find(four, "new") == [2]


def test_a_container_that_a_user_renames_keeps_what_it_holds(four: SpaceGraph) -> None:
    merge(5, 1, 2).apply(four)
    Delta(changed_nodes=[node(5, role=CONTAINER, text="renamed")]).apply(four)
    assert held(four) == {5: [1, 2]}
    assert embedded(four)[0].all()
    assert words_find(four, "renamed") == []


def test_what_is_folded_or_replaced_is_gone_from_words_and_vectors(four: SpaceGraph) -> None:
    merge(5, 1, 2).apply(four)
    Delta(roles=[RoleChange(4, MEMORY_ROLE_FOLDED, 3, False)]).apply(four)
    assert embedded(four)[0].tolist() == [True, True, True, False, True]
    assert words_find(four, "text") == [1, 2, 3]
    delta = merge(6, 1, 2, 3)
    delta.roles.append(RoleChange(5, MEMORY_ROLE_REPLACED, 6, False))
    delta.apply(four)
    assert held(four) == {6: [1, 2, 3]}
    assert embedded(four)[0].tolist() == [True, True, True, False, False, True]
    assert four.view.merged_into[:6].tolist() == [5, 5, 5, 2, 5, NEVER]


def test_a_container_taken_back_gives_way_to_the_one_it_replaced(four: SpaceGraph) -> None:
    merge(5, 1, 2).apply(four)
    delta = merge(6, 1, 2)
    delta.roles.append(RoleChange(5, MEMORY_ROLE_REPLACED, 6, False))
    delta.apply(four)
    Delta(
        hidden_nodes=[6],
        changed_nodes=[node(i, role=FACET, merged_into=5) for i in (1, 2)],
        roles=[RoleChange(5, CONTAINER, NEVER, True)],
        containers={5: packed(1, 2)},
    ).apply(four)
    assert held(four) == {5: [1, 2]}
    assert four.view.findable().tolist() == [True] * 4 + [False] * 2
    assert embedded(four)[0].tolist() == [True] * 5 + [False]


def test_a_forgotten_facet_leaves_its_container_and_what_is_hidden_gets_no_vector(four: SpaceGraph) -> None:
    merge(5, 1, 2).apply(four)
    Delta(hidden_nodes=[1]).apply(four)
    assert held(four) == {5: [2]}
    Delta(vectors={1: VECTORS[1]}, containers={5: packed(1, 2)}).apply(four)
    assert held(four) == {5: [2]}
    assert not embedded(four)[0][0]
    Delta(changed_nodes=[node(1, role=FACET, merged_into=5)], containers={5: packed(1, 2)}).apply(four)
    assert held(four) == {5: [1, 2]}


def test_a_facet_without_a_code_has_no_vector(four: SpaceGraph) -> None:
    delta = merge(5, 1, 2)
    delta.containers[5] = packed(2)
    delta.apply(four)
    assert embedded(four)[0].tolist() == [False, True, True, True, True]


def test_facets_may_be_read_before_the_container_that_they_lie_in() -> None:
    graph = SpaceGraph()
    graph.add_nodes([node(i, role=FACET, merged_into=9) for i in (1, 2)])
    assert graph.view.merged_into[:2].tolist() == [NEVER, NEVER]
    graph.add_nodes([node(4)])
    graph.add_nodes([node(9, role=CONTAINER)])
    assert graph.view.merged_into[:4].tolist() == [3, 3, NEVER, NEVER]


def test_an_heir_has_the_times_and_the_importance_of_all(four: SpaceGraph) -> None:
    Delta(inherited=[node(3, importance=0.75, created_us=0, event_us=7, accessed_us=8, text="ignored")]).apply(four)
    view = four.view
    assert [column[2] for column in (view.importance, view.created_us, view.event_us, view.accessed_us)] == [
        *(0.75, 0, 7, 8)
    ]
    assert words_find(four, "text") == [1, 2, 3, 4]


def test_each_memory_and_edge_of_a_delta_counts_once() -> None:
    delta = merge(5, 1, 2)
    delta.new_nodes.append(node(1))
    delta.hidden_nodes.append(3)
    edge = NewEdge(1, 1, 2, 0.5, 1, True)
    delta.new_edges, delta.changed_edges = [edge], [edge, edge._replace(id=7)]
    assert delta.count() == 4 + 2


def test_the_last_living_edge_says_what_supersedes_a_memory(four: SpaceGraph) -> None:
    def supersedes(number: int, newer: int, older: int) -> NewEdge:
        return NewEdge(number, newer, older, 0.5, 1, True, type=3, supersedes=True)

    four.add_edges([supersedes(1, 2, 1), NewEdge(2, 4, 1, 0.5, 1, True, type=1), supersedes(3, 3, 1)])
    assert four.view.types[:3].tolist() == [3, 1, 3]
    assert four.view.superseded_by == {0: 2}
    four.set_edges([2, 3], [0.5, 0.5], [False, False])
    assert four.view.superseded_by == {0: 1}
    four.set_edges([3], [0.5], [True])
    assert four.view.superseded_by == {0: 2}
    four.set_edges([1, 3], [0.5, 0.5], [False, False])
    assert four.view.superseded_by == {}
    assert four.superseding_edges.tolist() == [0, 2]


def test_a_rebuilt_adjacency_holds_the_edges_that_came_while_it_was_made(four: SpaceGraph) -> None:
    four.add_edges([NewEdge(1, 1, 2, 0.25, 1, True), NewEdge(2, 1, 3, 0.5, 1, True)])
    taken = four.view
    rebuilt = four.rebuild()
    four.add_edges([NewEdge(3, 4, 1, 0.5, 1, True)])
    four.swap(rebuilt)
    adjacency = four.view.adjacency
    assert adjacency is rebuilt.adjacency
    # The strongest first.
    assert adjacency.neighbour[: adjacency.indptr[1]].tolist() == [2, 1]
    assert adjacency.overlay == {3: ((0, 2),), 0: ((3, 2),)}
    assert taken.adjacency.overlay != adjacency.overlay


def test_a_swap_leaves_out_vectors_that_died(four: SpaceGraph) -> None:
    merge(5, 1, 2, 3, 4).apply(four)
    before = four.view
    four.swap(four.rebuild())
    assert (before.dense.size, four.view.dense.size) == (5, 1)
    np.testing.assert_array_equal(*(two_stage.vectors_of(view.dense, range(5)) for view in (before, four.view)))
