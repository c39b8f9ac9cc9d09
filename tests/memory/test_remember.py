"""Ids, keys, updates, vectors and edges of what users store."""

import math
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format

from dreamsvc import entropy
from dreamsvc.errors import EmbedderMismatch, InvalidFields
from dreamsvc.memory import known, spaces
from dreamsvc.v1 import memory_pb2
from dreamsvc.v1.memory_pb2 import Edge, Memory

X, Y = "0190a000-0000-7000-8000-00000000000a", "0190a000-0000-7000-8000-00000000000b"


def paths(error: Any) -> list[str]:
    return [violation.path for violation in error.value.violations]


def test_ids_come_from_the_caller_the_key_or_the_time(room: Any) -> None:
    ids = room.remember(Memory(id=X, text="given"), Memory(key="k", text="by key"), Memory(text="by time")).ids
    assert ids[0] == X
    assert ids[1] == entropy.uuid_for("default", "k")
    assert ids[2].split("-")[2][0] == "7"
    assert room.get(X).memory.text == "given"
    assert room.get("k").memory.id == ids[1]
    assert room.get(ids[2]).memory.key == ""


def test_equal_keys_have_equal_ids_in_equal_spaces_only(room: Any) -> None:
    here = room.remember(Memory(key="k", text="a")).ids
    there = room.remember(Memory(key="k", text="b"), space="other").ids
    assert here != there
    assert room.get("k").memory.text == "a"
    assert room.get("k", space="other").memory.text == "b"


def test_remembering_a_key_again_updates_and_keeps_the_old_version(room: Any) -> None:
    first = room.remember(Memory(key="k", text="old", vector=[1, 0], importance=0.25, aliases=["o"]))
    room.clock.us += 5
    again = room.remember(Memory(key="k", text="new", title="T"))
    assert (again.memories_created, again.memories_updated) == (0, 1)
    assert again.ids == first.ids
    memory = room.get("k").memory
    assert (memory.text, memory.title, memory.importance, list(memory.aliases)) == ("new", "T", 0.5, [])
    assert memory.update_time.ToMicroseconds() == memory.create_time.ToMicroseconds() + 5
    ((body,),) = room.rows("SELECT body FROM node_versions")
    kept = Memory.FromString(body)
    assert (kept.text, kept.importance, list(kept.vector), list(kept.aliases)) == ("old", 0.25, [1, 0], ["o"])


def test_a_new_text_loses_the_vector_of_the_old_one(room: Any) -> None:
    room.remember(Memory(key="k", text="old", vector=[1, 0]), Memory(key="other", text="x", vector=[0, 1]))
    room.remember(Memory(key="k", text="new"))
    assert list(room.get("k").memory.vector) == []
    assert [found.node for found in room.find(vector=[1, 0.1])] == [room.row_of("other")]


def test_an_update_by_id_may_rename_the_key_and_without_one_keeps_it(room: Any) -> None:
    (uid,) = room.remember(Memory(key="a", text="1")).ids
    room.remember(Memory(id=uid, text="2"))
    assert room.get("a").memory.text == "2"
    room.remember(Memory(id=uid, key="b", text="3"))
    assert room.get("b").memory.id == uid


def test_a_key_that_became_free_makes_a_new_memory(room: Any) -> None:
    (renamed,) = room.remember(Memory(key="a", text="1")).ids
    room.remember(Memory(id=renamed, key="b", text="1"))
    (made,) = room.remember(Memory(key="a", text="2")).ids
    assert made != renamed
    assert room.get("b").memory.text == "1"
    assert room.get("a").memory.text == "2"
    # And from now on it is found by its key.
    assert room.remember(Memory(key="a", text="3")).ids == [made]


def test_a_key_of_another_memory_is_refused_by_path(room: Any) -> None:
    room.remember(Memory(key="a", text="1"))
    with pytest.raises(InvalidFields) as caught:
        room.remember(Memory(text="fine"), Memory(id=X, key="a", text="2"))
    assert paths(caught) == ["memories[1].key"]
    assert room.store.stats("default").memories == 1


def test_repeats_in_a_batch_are_named_by_path(room: Any) -> None:
    with pytest.raises(InvalidFields) as caught:
        room.remember(
            Memory(key="a", text="1"),
            Memory(id=X, text="2"),
            Memory(key="a", text="3"),
            Memory(id=X.upper(), text="4"),
        )
    assert set(paths(caught)) == {"memories[2].id", "memories[2].key", "memories[3].id"}
    assert room.store.stats("default").memories == 0


def test_a_wrong_id_is_named_by_path(room: Any) -> None:
    with pytest.raises(InvalidFields) as caught:
        room.remember(Memory(text="fine"), Memory(id="not-a-uuid", text="x"))
    assert paths(caught) == ["memories[1].id"]


def test_an_id_is_found_in_either_case(room: Any) -> None:
    room.remember(Memory(id=X, text="1"), Memory(id=Y, text="2"))
    assert room.get(X.upper()).memory.text == "1"
    answer = room.remember(
        edges=[Edge(source=X, target=Y.upper(), type="a"), Edge(source=X.upper(), target=Y, type="b")]
    )
    assert answer.edges_created == 2


def test_a_wrong_dimension_is_named_by_path(room: Any) -> None:
    with pytest.raises(InvalidFields) as caught:
        room.remember(Memory(text="a", vector=[1, 0]), Memory(text="b", vector=[1, 0, 0]), Memory(text="c"))
    assert paths(caught) == ["memories[1].vector"]
    room.remember(Memory(text="a", vector=[1, 0]))
    with pytest.raises(InvalidFields) as caught:
        room.remember(Memory(text="b"), Memory(text="c", vector=[1]))
    assert paths(caught) == ["memories[1].vector"]
    assert room.store.stats("default").dimension == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 70000.0, 0.0, 1e-30])
def test_a_vector_that_float16_cannot_hold_is_refused_by_path(room: Any, value: float) -> None:
    with pytest.raises(InvalidFields) as caught:
        room.remember(Memory(text="fine", vector=[1]), Memory(text="bad", vector=[value]))
    assert paths(caught)[0].startswith("memories[1].vector")
    assert room.store.stats("default").memories == 0
    assert room.store.stats("default").dimension == 0


def test_vectors_of_clients_and_of_an_embedder_do_not_mix(room: Any) -> None:
    room.remember(Memory(key="a", text="1"))
    row = room.row_of("a")
    space = room.store.space("default")
    made = {row: np.array([1, 0], np.float32)}
    assert room.store.put_vectors(space, "toy-2", 2, made, {row: "1"}).result(10) == 1
    with pytest.raises(EmbedderMismatch, match="toy-2"):
        room.remember(Memory(text="2", vector=[1, 0]))
    room.remember(Memory(key="c", text="2", vector=[1, 0]), space="clients")
    with pytest.raises(EmbedderMismatch, match=r"client.*toy-2"):
        room.store.put_vectors(room.store.space("clients"), "toy-2", 2, {}, {}).result(10)


def test_an_embedder_of_another_length_is_refused(room: Any) -> None:
    def claim(dimension: int) -> None:
        room.store.database.write(
            lambda c: spaces.accept_vectors(c, spaces.find(c, "default"), "toy", dimension)
        ).result(10)

    claim(2)
    claim(2)
    with pytest.raises(EmbedderMismatch, match="2 values"):
        claim(3)


def test_an_unknown_end_of_an_edge_is_named_by_path(room: Any) -> None:
    with pytest.raises(InvalidFields) as caught:
        room.remember(
            Memory(key="a", text="1"),
            Memory(key="b", text="2"),
            edges=[
                Edge(source="a", target="b"),
                Edge(source="a", target="nowhere"),
                Edge(source=X, target="b"),
                Edge(source="b", target="b"),
                Edge(source="a", target="b"),
            ],
        )
    assert paths(caught) == ["edges[1].target", "edges[2].source", "edges[3].target", "edges[4]"]
    assert room.store.stats("default").memories == 0


def test_a_memory_of_another_space_is_no_end(room: Any) -> None:
    room.remember(Memory(key="a", text="1"))
    (there,) = room.remember(Memory(key="b", text="2"), space="other").ids
    with pytest.raises(InvalidFields) as caught:
        room.remember(edges=[Edge(source="a", target=there)])
    assert paths(caught) == ["edges[0].target"]


def test_a_forgotten_end_is_named_by_path(room: Any) -> None:
    room.remember(Memory(key="a", text="1"), Memory(key="b", text="2"))
    room.forget("b")
    with pytest.raises(InvalidFields, match="forgotten") as caught:
        room.remember(edges=[Edge(source="b", target="a"), Edge(source="a", target="b")])
    assert paths(caught) == ["edges[0].source", "edges[1].target"]


def test_an_edge_again_gets_the_new_weight(room: Any) -> None:
    room.remember(Memory(key="a", text="1"), Memory(key="b", text="2"), edges=[Edge(source="a", target="b", weight=0)])
    answer = room.remember(
        edges=[Edge(source="a", target="b", weight=0.75), Edge(source="a", target="b", type="other")]
    )
    assert (answer.edges_created, answer.edges_updated) == (1, 1)
    found = {edge.type: edge for edge in room.get("a").edges}
    assert {name: edge.weight for name, edge in found.items()} == {"related": 0.75, "other": 0.5}
    assert found["related"].confidence == 1
    assert found["related"].origin == memory_pb2.EDGE_ORIGIN_USER_CREATED
    assert sorted(room.store.graph("default").view.weights[:2].tolist()) == [0.5, 0.75]


def test_remembering_a_forgotten_key_brings_it_back_with_its_edges(room: Any) -> None:
    room.remember(Memory(key="a", text="1"), Memory(key="b", text="2"), edges=[Edge(source="a", target="b")])
    room.forget("a", "b")
    room.remember(Memory(key="a", text="back"))
    assert not room.get("a").memory.HasField("delete_time")
    assert room.store.stats("default").edges == 0
    room.remember(Memory(key="b", text="back too"))
    assert room.store.stats("default").edges == 1
    assert room.store.graph("default").view.edges_alive[0]


def test_times_and_counts_of_a_user_are_not_taken_over(room: Any) -> None:
    memory = Memory(key="a", text="1", access_count=7, replay_count=8)
    memory.create_time.FromMicroseconds(1)
    memory.event_time.FromMicroseconds(-5)
    room.remember(memory)
    stored = room.get("a").memory
    assert (stored.access_count, stored.replay_count) == (0, 0)
    assert stored.create_time.ToMicroseconds() == room.clock.us
    assert stored.event_time.ToMicroseconds() == -5


def nested(depth: int, *, as_list: bool = False) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if as_list else {"a": value}
    return value


def test_metadata_comes_back_as_it_was(room: Any) -> None:
    metadata = {"ü": ["x", 1, 2.5, True, None, {"n": -1e300}], "": {}}
    room.remember(Memory(key="a", text="1", metadata=json_format.ParseDict(metadata, Memory().metadata)))
    assert json_format.MessageToDict(room.get("a").memory.metadata) == metadata


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"a": math.nan}, "not finite"),
        ({"a": [math.inf]}, "not finite"),
        (nested(33), "deeply"),
        ({"a": nested(48, as_list=True)}, "deeply"),
    ],
)
def test_metadata_that_could_not_be_sent_back_is_refused_by_path(room: Any, metadata: Any, why: str) -> None:
    bad = Memory(text="2")
    json_format.ParseDict(metadata, bad.metadata)
    with pytest.raises(InvalidFields, match=why) as caught:
        room.remember(Memory(text="1"), bad)
    assert paths(caught) == ["memories[1].metadata"]
    assert room.store.stats("default").memories == 0


def test_deep_metadata_that_can_be_sent_back_is_taken(room: Any) -> None:
    memory = Memory(key="a", text="1")
    json_format.ParseDict(nested(32), memory.metadata)
    room.remember(memory)
    assert room.get("a").memory.metadata == memory.metadata


def test_a_text_of_a_megabyte_and_one_with_every_odd_character_come_back(room: Any) -> None:
    odd = "\0 nul, \n, \u2028, \U0001f9e0, e\u0301, \x7f, \ufffe"
    room.remember(
        Memory(key="a", text="x" * 2**20), Memory(key="b" + odd, text=odd, title=odd, aliases=[odd], kind=odd)
    )
    memory = room.get("b" + odd).memory
    assert (memory.text, memory.title, list(memory.aliases), memory.kind) == (odd, odd, [odd], odd)
    assert len(room.get("a").memory.text) == 2**20
    with pytest.raises(InvalidFields, match="1048577"):
        room.remember(Memory(text="x" * (2**20 + 1)))


def test_nothing_of_a_refused_batch_is_left(room: Any) -> None:
    before = room.digest(), room.rows("SELECT * FROM meta"), room.rows("SELECT * FROM audit")
    with pytest.raises(InvalidFields):
        room.remember(Memory(text="1"), Memory(text="2"), edges=[Edge(source="x", target="y")])
    with pytest.raises(InvalidFields):
        room.remember(Memory(text="1"), edges=[Edge(source="x", target="y")], space="brand-new")
    assert (room.digest(), room.rows("SELECT * FROM meta"), room.rows("SELECT * FROM audit")) == before
    assert room.store.graph("default").view.n == 0
    assert room.store.stats("default").spaces == ["default"]


def test_a_name_stored_nowhere_is_left_out(room: Any) -> None:
    room.remember(Memory(key="a", text="1"))
    names = {"a", "b", X}
    found = room.store.database.read(lambda c: known.find_nodes(c, room.store.space("default"), names))
    assert list(found) == ["a"]
