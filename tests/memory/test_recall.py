"""What is found, why, and in which order; while others write."""

import asyncio
import threading
import warnings
from typing import Any

import numpy as np
import pytest

from dreamsvc.config import defaults
from dreamsvc.errors import InvalidFields
from dreamsvc.memory import recall
from dreamsvc.memory.embedding import TextEmbedding
from dreamsvc.memory.graph import SpaceGraph
from dreamsvc.server.memory_service import MemoryCalls
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import RecallRequest


@pytest.fixture
def zoo(room: Any) -> Any:
    """ant: words and a vector, bee: words only, cat: a vector only, dog: neither word nor vector of the query."""
    room.remember(
        Memory(key="ant", text="ant apple", vector=[1, 0, 0]),
        Memory(key="bee", text="bee apple apple", kind="fact"),
        Memory(key="cat", text="cat", vector=[0.9, 0.1, 0]),
        Memory(key="dog", text="dog", vector=[-1, 0, 0]),
        edges=[Edge(source="bee", target="dog", weight=1)],
    )
    return room


def keys(room: Any, hits: list[recall.Found]) -> list[str]:
    names = dict(room.rows("SELECT id, key FROM nodes"))
    return [names[hit.node] for hit in hits]


def test_an_empty_space_finds_nothing() -> None:
    query = recall.Query("anything", np.ones(3, np.float32), 10, [], None, None)
    assert recall.find(SpaceGraph().view, query, defaults().recall) == []


def test_words_alone_find_by_words(zoo: Any) -> None:
    hits = zoo.find("apple")
    assert keys(zoo, hits)[:2] == ["bee", "ant"]
    assert all(hit.dense == 0 for hit in hits)
    assert hits[0].lexical == pytest.approx(defaults().recall.lexical_weight)
    # By the edge alone.
    assert keys(zoo, hits)[2:] == ["dog"]
    assert hits[2].lexical == hits[2].alias == 0 < hits[2].walk


def test_a_vector_alone_finds_by_distance_and_says_nothing_of_what_has_none(zoo: Any) -> None:
    hits = zoo.find(vector=[1, 0, 0])
    assert keys(zoo, hits) == ["ant", "cat"]
    assert hits[0].dense == pytest.approx(1)
    assert all(hit.lexical == 0 for hit in hits)


def test_both_together_add_up(zoo: Any) -> None:
    for hit in zoo.find("apple", vector=[1, 0.5, 0]):
        assert hit.score == pytest.approx(hit.lexical + hit.dense + hit.alias + hit.walk, abs=1e-6)


def test_the_walk_raises_a_neighbour(zoo: Any) -> None:
    assert "dog" in keys(zoo, zoo.find("bee"))
    zoo.forget("bee")
    assert "dog" not in keys(zoo, zoo.find("bee"))
    zoo.restore("bee")
    zoo.remember(edges=[Edge(source="bee", target="dog", weight=0)])
    assert "dog" not in keys(zoo, zoo.find("bee"))


def test_a_walk_weight_of_zero_turns_the_walk_off(zoo: Any) -> None:
    config = defaults().recall
    config.walk_weight = 0
    query = recall.Query("bee", None, 10, [], None, None)
    assert keys(zoo, recall.find(zoo.store.graph("default").view, query, config)) == ["bee"]


def test_kinds_and_times_filter(zoo: Any) -> None:
    assert keys(zoo, zoo.find("apple", kinds=["fact"])) == ["bee"]
    assert keys(zoo, zoo.find("apple", kinds=["note"])) == ["ant", "dog"]
    assert zoo.find("apple", kinds=["unheard of"]) == []
    assert len(zoo.find("apple", kinds=["note", "fact", "unheard of"])) == 3
    now = zoo.clock.us
    assert len(zoo.find("apple", after_us=now)) == 3
    assert zoo.find("apple", before_us=now) == []
    assert zoo.find("apple", after_us=now + 1) == []
    assert len(zoo.find("apple", after_us=now, before_us=now + 1)) == 3


def test_the_event_time_counts_where_there_is_one(room: Any) -> None:
    old = Memory(key="old", text="apple")
    old.event_time.FromMicroseconds(-5)
    room.remember(old, Memory(key="new", text="apple"))
    assert keys(room, room.find("apple", before_us=0)) == ["old"]
    assert keys(room, room.find("apple", after_us=0)) == ["new"]
    assert keys(room, room.find("apple", after_us=-5, before_us=-4)) == ["old"]


def test_what_is_forgotten_is_never_found(zoo: Any) -> None:
    zoo.forget("ant", "dog")
    for query in ({"text": "ant apple dog"}, {"vector": [1, 0, 0]}, {"text": "bee", "vector": [-1, 0, 0]}):
        assert not {"ant", "dog"} & set(keys(zoo, zoo.find(limit=1000, **query)))
    zoo.reopen(snapshot=False)
    assert keys(zoo, zoo.find("ant apple dog", limit=1000)) == ["bee"]


def test_more_than_there_is_may_be_asked_for(zoo: Any) -> None:
    assert len(zoo.find("apple", limit=1000)) == 3
    assert len(zoo.find("apple", limit=1)) == 1
    assert keys(zoo, zoo.find("apple", limit=1)) == ["bee"]


def test_the_best_come_first_and_equal_ones_in_the_order_they_came(room: Any) -> None:
    room.remember(*(Memory(key=f"k{i}", text="apple") for i in range(20)))
    hits = room.find("apple", limit=20)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert [hit.node for hit in hits] == list(range(1, 21))


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-20, 1.0, 1e20, 3e38])
def test_the_length_of_a_query_vector_does_not_matter(zoo: Any, scale: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert keys(zoo, zoo.find(vector=[scale, 0, 0])) == ["ant", "cat"]


def test_a_vector_of_another_length_counts_for_nothing(zoo: Any) -> None:
    assert zoo.find(vector=[1, 0]) == []


def test_one_memory_with_a_vector_is_found_by_it(room: Any) -> None:
    room.remember(Memory(key="a", text="x", vector=[1, 0]), Memory(key="b", text="y"))
    assert keys(room, room.find(vector=[1, 0.5])) == ["a"]
    assert room.find(vector=[-1, 0]) == []


def test_spaces_are_apart(zoo: Any) -> None:
    zoo.remember(Memory(key="there", text="apple", vector=[1]), space="other")
    assert keys(zoo, zoo.find("apple", space="other")) == ["there"]
    assert "there" not in keys(zoo, zoo.find("apple"))


@pytest.mark.parametrize("query", [{"text": "apple"}, {"vector": [1, 0, 0]}, {"text": "apple", "vector": [1, 1, 0]}])
def test_a_view_answers_soundly_while_a_writer_changes_the_graph(zoo: Any, query: dict[str, Any]) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def change() -> None:
        try:
            for i in range(30):
                if stop.is_set():
                    return
                zoo.remember(
                    *(Memory(key=f"{i}-{j}", text="apple pie", vector=[1, j, 0]) for j in range(10)),
                    edges=[Edge(source="ant", target=f"{i}-{j}") for j in range(10)],
                )
                zoo.forget(f"{i}-0")
                zoo.remember(Memory(key=f"{i}-1", text="changed apple"))
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=change)
    writer.start()
    answers = 0
    try:
        while writer.is_alive():
            view = zoo.store.graph("default").view
            graph = SpaceGraph()
            graph.view = view
            hits = zoo.find(limit=2000, graph=graph, **query)
            answers += 1
            known = set(view.node_ids[: view.n].tolist())
            assert {hit.node for hit in hits} <= known
            assert len({hit.node for hit in hits}) == len(hits) > 0
            assert all(np.isfinite(hit.score) and hit.score > 0 for hit in hits)
    finally:
        stop.set()
        writer.join()
    assert not failures
    assert answers > 3
    forgotten = {row[0] for row in zoo.rows("SELECT id FROM nodes WHERE deleted_us IS NOT NULL")}
    assert len(forgotten) == 30
    assert not forgotten & {hit.node for hit in zoo.find(limit=2000, **query)}


class NoDreams:
    """Stands for a scheduler that has nothing to wake."""

    def note_call(self, space: str) -> None: ...

    def wake_for_query(self, space: str) -> str:
        return ""


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (RecallRequest(text="", limit=1), "text"),
        (RecallRequest(text=" \n\t", limit=1), "text"),
        (RecallRequest(vector=[0, 0, 0], limit=1), "vector"),
        (RecallRequest(text="ant", vector=[-0.0, 0, 0], limit=1), "vector"),
        (RecallRequest(vector=[1, 0], limit=1), "vector"),
    ],
)
def test_a_query_that_points_nowhere_is_refused(zoo: Any, request_: RecallRequest, path: str) -> None:
    request_.space = "default"
    config = defaults()
    embedding = TextEmbedding(zoo.store, config.embedder)
    calls = MemoryCalls(zoo.store, NoDreams(), embedding, zoo.importing(), config.recall)  # pyright: ignore
    with pytest.raises(InvalidFields) as caught:
        asyncio.run(calls.recall(request_))
    assert [violation.path for violation in caught.value.violations] == [path]
    fine = RecallRequest(space="default", vector=[1, 0, 0], limit=1)
    (hit,) = asyncio.run(calls.recall(fine)).hits
    assert (hit.memory.key, hit.why.lexical) == ("ant", 0)
