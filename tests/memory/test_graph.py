"""The live graph always equals a fresh load of the store."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc.errors import NotFound
from dreamsvc.memory import graph as graphs
from dreamsvc.memory import snapshot
from dreamsvc.memory.graph import NEVER, NewEdge, NewNode, SpaceGraph
from dreamsvc.v1.memory_pb2 import Edge, Memory

KEYS = "abcdef"
WORDS = ["ant", "bee", "cat", "dog", "elk"]


def kinds(graph: SpaceGraph) -> list[str]:
    names = {number: name for name, number in graph.view.kind_names.items()}
    return [names[number] for number in graph.view.kinds[: graph.view.n].tolist()]


def same_columns(live: SpaceGraph, fresh: SpaceGraph) -> None:
    assert (live.view.n, live.view.m) == (fresh.view.n, fresh.view.m)
    for names, size in ((snapshot._START_NODES, live.view.n), (snapshot._START_EDGES, live.view.m)):
        for name in names:
            if name == "vectors" and 0 in (live.view.vectors.shape[1], fresh.view.vectors.shape[1]):
                # The dimension is known from the first vector on, though none may be left.
                assert not live.view.vectors[:size].any()
                assert not fresh.view.vectors[:size].any()
            elif name != "kinds":
                np.testing.assert_array_equal(getattr(live.view, name)[:size], getattr(fresh.view, name)[:size], name)
    assert kinds(live) == kinds(fresh)


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
    assert len(view.node_ids) == len(view.vectors) == 1024
    assert view.vectors[1:601].tolist() == [[0, 1]] * 600
    same_columns(room.store.graph("default"), room.fresh())
    assert len(old.node_ids) == 256


def test_a_changed_memory_has_no_vector_until_one_is_set(room: Any) -> None:
    room.remember(Memory(key="a", text="1", vector=[3, 4]))
    view = room.store.graph("default").view
    np.testing.assert_allclose(view.vectors[0], [0.6, 0.8], rtol=1e-3)
    room.remember(Memory(key="a", text="2"))
    view = room.store.graph("default").view
    assert (view.embedded[0], view.vectors[0].tolist()) == (False, [0, 0])


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
    view = room.fresh().view
    assert view.embedded[: view.n].tolist() == [False, True]
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
