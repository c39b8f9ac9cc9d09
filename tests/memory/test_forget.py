"""Forgetting and bringing back: an edge lives if and only if both of its ends do."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc.errors import InvalidFields, NotFound
from dreamsvc.v1.memory_pb2 import Edge, Memory


@pytest.fixture
def triangle(room: Any) -> Any:
    room.remember(
        *(Memory(key=key, text=f"word {key}") for key in "abc"),
        edges=[Edge(source=s, target=t) for s, t in ("ab", "bc", "ca")],
    )
    return room


def living(room: Any, space: str = "default") -> set[tuple[str, str]]:
    return set(
        room.rows(
            "SELECT s.key, t.key FROM edges e JOIN nodes s ON s.id=e.source JOIN nodes t ON t.id=e.target"
            " WHERE e.deleted_us IS NULL AND e.space=?",
            room.store.space(space).id,
        )
    )


def test_forgetting_hides_a_memory_and_its_edges(triangle: Any) -> None:
    answer = triangle.forget("a")
    assert (answer.forgotten, answer.unchanged) == (1, 0)
    assert living(triangle) == {("b", "c")}
    assert [found.node for found in triangle.find("word a", limit=100)] == [
        triangle.row_of("b"),
        triangle.row_of("c"),
    ]
    memory = triangle.get("a").memory
    assert memory.delete_time.ToMicroseconds() == triangle.clock.us
    assert memory.text == "word a"


def test_restoring_brings_exactly_the_edges_with_living_ends(triangle: Any) -> None:
    triangle.forget("a", "b")
    assert living(triangle) == set()
    assert triangle.restore("b").restored == 1
    assert living(triangle) == {("b", "c")}
    triangle.restore("a")
    assert living(triangle) == {("a", "b"), ("b", "c"), ("c", "a")}
    assert len(triangle.find("word", limit=100)) == 3


def test_forgetting_twice_and_restoring_the_living_change_nothing(triangle: Any) -> None:
    triangle.forget("a")
    before = triangle.rows("SELECT id, deleted_us FROM nodes"), triangle.digest()
    triangle.clock.us += 1
    answer = triangle.forget("a")
    assert (answer.forgotten, answer.unchanged) == (0, 1)
    assert (triangle.rows("SELECT id, deleted_us FROM nodes"), triangle.digest()) == before
    answer = triangle.restore("b")
    assert (answer.restored, answer.unchanged) == (0, 1)
    assert triangle.digest() == before[1]


def test_id_and_key_of_one_memory_count_once(triangle: Any) -> None:
    uid = triangle.get("a").memory.id
    answer = triangle.forget("a", uid, uid.upper(), "a")
    assert (answer.forgotten, answer.unchanged) == (1, 0)


def test_an_unknown_name_is_named_by_path_and_nothing_happens(triangle: Any) -> None:
    for call in (triangle.forget, triangle.restore):
        with pytest.raises(InvalidFields) as caught:
            call("a", "nobody", "b", "none")
        assert [violation.path for violation in caught.value.violations] == ["ids[1]", "ids[3]"]
    assert triangle.store.stats("default").memories == 3


def test_forgetting_in_an_unknown_space_is_not_found_and_makes_none(room: Any) -> None:
    with pytest.raises(NotFound):
        room.forget("a", space="nowhere")
    assert room.store.stats("default").spaces == ["default"]


def test_a_vector_comes_back_with_its_memory(room: Any) -> None:
    room.remember(Memory(key="a", text="1", vector=[1, 0]), Memory(key="b", text="2", vector=[0, 1]))
    room.forget("a")
    assert [found.node for found in room.find(vector=[1, 0])] == []
    room.restore("a")
    assert [found.node for found in room.find(vector=[1, 0])] == [room.row_of("a")]


def test_an_edge_pruned_by_a_dream_stays_dead_when_its_ends_come_back(triangle: Any, part: Any) -> None:
    (edge,) = triangle.rows("SELECT id FROM edges WHERE source = ?", triangle.row_of("a"))[0]
    triangle.dream(part.weights(0, {edge: 0.1}, pruned=[edge]))
    triangle.forget("a", "b")
    triangle.restore("a", "b")
    assert living(triangle) == {("b", "c"), ("c", "a")}


def test_an_edge_that_a_user_renews_while_it_waits_is_not_revived_twice(triangle: Any) -> None:
    triangle.forget("a")
    triangle.restore("a")
    triangle.remember(edges=[Edge(source="a", target="b", weight=0.9)])
    triangle.forget("b")
    triangle.restore("b")
    assert {edge.weight for edge in triangle.get("a").edges if edge.source == triangle.get("a").memory.id} == {0.9}


KEYS = "abcde"
EDGES = [(s, t) for s in KEYS for t in KEYS if s < t]
steps = st.lists(
    st.tuples(
        st.sampled_from(["forget", "restore", "remember"]),
        st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(steps=steps, edges=st.lists(st.sampled_from(EDGES), unique=True, max_size=6))
def test_any_history_leaves_an_edge_alive_iff_both_ends_are(
    shared_room: Any, new_space: Any, steps: list[tuple[str, list[str]]], edges: list[tuple[str, str]]
) -> None:
    room, space = shared_room, new_space()
    room.remember(
        *(Memory(key=key, text=key) for key in KEYS), edges=[Edge(source=s, target=t) for s, t in edges], space=space
    )
    alive = set(KEYS)
    for verb, keys in steps:
        if verb == "remember":
            room.remember(*(Memory(key=key, text=verb) for key in keys), space=space)
        else:
            getattr(room, verb)(*keys, space=space)
        alive = alive - set(keys) if verb == "forget" else alive | set(keys)
        assert living(room, space) == {(s, t) for s, t in edges if s in alive and t in alive}
        view = room.store.graph(space).view
        assert int(view.edges_alive[: view.m].sum()) == len(living(room, space))
        assert int(view.alive[: view.n].sum()) == len(alive)
