"""What is found, why, and in which order; while others write."""

import asyncio
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamsvc import scoring
from dreamsvc.config import InForce, defaults
from dreamsvc.dreamer.v1.operations_pb2 import Expansion
from dreamsvc.errors import InvalidFields
from dreamsvc.facet_codes import decode_centroid, encode_centroid, encode_facets
from dreamsvc.memory import recall
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.embedding import TextEmbedding
from dreamsvc.memory.graph import NEVER, NewEdge, NewNode, PackedContainer, RoleChange, SpaceGraph
from dreamsvc.server.memory_service import MemoryCalls
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER, MEMORY_ROLE_FACET, MEMORY_ROLE_FOLDED, Edge, Memory
from dreamsvc.v1.memory_service_pb2 import RecallRequest, RecallResponse


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


def test_what_stands_for_several_is_found_in_all_of_the_time_that_they_span(room: Any, part: Any) -> None:
    for key, event_us in (("first", 10), ("again", 50)):
        memory = Memory(key=key, text="apple")
        memory.event_time.FromMicroseconds(event_us)
        room.remember(memory)
    room.dream(part.eliminations(0, (room.row_of("first"), [room.row_of("again")])))
    for after, before in ((5, 15), (20, 30), (45, 55)):
        assert keys(room, room.find("apple", after_us=after, before_us=before)) == ["first"]
    assert room.find("apple", after_us=51) == room.find("apple", before_us=10) == []
    room.reopen(snapshot=False)
    assert keys(room, room.find("apple", after_us=45)) == ["first"]


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


def test_when_the_last_vector_has_gone_answers_are_those_of_the_next_start(room: Any) -> None:
    room.remember(Memory(key="a", text="apple", vector=[1, 0]), Memory(key="b", text="apple apple pie"))
    room.remember(Memory(key="a", text="apple cake"))
    there = [(hit.node, hit.score, hit.dense) for hit in room.find("apple pie", vector=[1, 0])]
    room.reopen(snapshot=False)
    assert there == [(hit.node, hit.score, hit.dense) for hit in room.find("apple pie", vector=[1, 0])]
    assert all(dense == 0 for _, _, dense in there)
    assert there == [(hit.node, hit.score, hit.dense) for hit in room.find("apple pie")]


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
    calls = MemoryCalls(zoo.store, NoDreams(), embedding, zoo.importing(), InForce(config))  # pyright: ignore
    with pytest.raises(InvalidFields) as caught:
        asyncio.run(calls.recall(request_))
    assert [violation.path for violation in caught.value.violations] == [path]
    fine = RecallRequest(space="default", vector=[1, 0, 0], limit=1)
    (hit,) = asyncio.run(calls.recall(fine)).hits
    assert (hit.memory.key, hit.why.lexical) == ("ant", 0)


def answer(room: Any, **request: Any) -> RecallResponse:
    config = defaults()
    embedding = TextEmbedding(room.store, config.embedder)
    calls = MemoryCalls(room.store, NoDreams(), embedding, room.importing(), InForce(config))  # pyright: ignore
    return asyncio.run(calls.recall(RecallRequest(**{"space": "default", "limit": 10, **request})))


def texts(response: RecallResponse) -> list[str]:
    return [hit.memory.text for hit in response.hits]


# ── over containers ─────────────────────────────────────────────────────────────


def unit(*numbers: float) -> NDArray[np.float32]:
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


def plain(number: int, **fields: Any) -> NewNode:
    return NewNode(number, True, "note", "", f"word{number}", [], 0.5, 1, NEVER, NEVER)._replace(**fields)


def boxed(graph: SpaceGraph, container: int, vectors: dict[int, NDArray[np.float32]]) -> None:
    members = np.stack(list(vectors.values()))
    centroid = encode_centroid(members.mean(axis=0))
    codes = encode_facets(members, decode_centroid(centroid), bits=8)
    Delta(
        new_nodes=[plain(container, role=MEMORY_ROLE_CONTAINER)],
        roles=[RoleChange(node, MEMORY_ROLE_FACET, container, True) for node in vectors],
        containers={container: PackedContainer(list(vectors), codes, 8, centroid)},
    ).apply(graph)


VECTORS = {
    1: unit(1, 0.2, 0),
    2: unit(1, -0.2, 0),
    3: unit(1, 0, 0.5),
    4: unit(0, 1, 0.2),
    5: unit(0, 1, -0.2),
    6: unit(0, 0.3, 1),
}


@pytest.fixture
def flat() -> SpaceGraph:
    graph = SpaceGraph()
    Delta(new_nodes=[plain(i) for i in VECTORS], vectors=dict(VECTORS)).apply(graph)
    return graph


def query(text: str = "", vector: Any = None, limit: int = 10, before_us: int | None = None) -> recall.Query:
    return recall.Query(text, vector, limit, [], None, before_us)


def test_members_of_containers_are_found_as_they_were_before(flat: SpaceGraph) -> None:
    config = defaults().recall
    for asked in (query(vector=unit(1, 0.3, 0.1)), query("word5", unit(0.5, 0.5, 0)), query("word2 word6")):
        before = recall.find(flat.view, asked, config)
        graph = SpaceGraph()
        Delta(new_nodes=[plain(i) for i in VECTORS], vectors=dict(VECTORS)).apply(graph)
        boxed(graph, 7, {i: VECTORS[i] for i in (1, 2, 3)})
        boxed(graph, 8, {i: VECTORS[i] for i in (4, 5)})
        after = recall.find(graph.view, asked, config)
        assert [hit.node for hit in after] == [hit.node for hit in before]
        for one, other in zip(after, before, strict=True):
            assert one == pytest.approx(other, abs=0.02)


def test_a_container_that_words_point_to_is_looked_into_though_its_centroid_is_far(flat: SpaceGraph) -> None:
    config = defaults().recall
    config.open_containers = 1
    boxed(flat, 7, {i: VECTORS[i] for i in (1, 2, 3)})
    boxed(flat, 8, {i: VECTORS[i] for i in (4, 6)})
    Delta(new_nodes=[plain(9)], vectors={9: unit(-1, 0, 0)}).apply(flat)
    asked = query("word6", unit(1, 0.6, 0))
    dense = {hit.node: hit.dense for hit in recall.find(flat.view, asked, config)}
    assert dense[4] > dense[6] + 0.1
    dense = {hit.node: hit.dense for hit in recall.find(flat.view, asked._replace(text=""), config)}
    assert dense[4] == dense[6] > 0


# ── over expansions ─────────────────────────────────────────────────────────────


def linked(flat: SpaceGraph) -> None:
    """Memory 5 is linked to 1, 6 to 4 and 1."""
    flat.set_expansions(
        [
            Expansion(node=5, words=["word1"], gains=[0.5], peers=[1], shares=[0.5], length=length_of({5: 1, 1: 0.5})),
            Expansion(node=6, peers=[1, 4], shares=[0.1, 0.4], length=length_of({6: 1, 4: 0.4, 1: 0.1})),
        ]
    )


def length_of(parts: dict[int, float]) -> float:
    return float(np.linalg.norm(sum(share * VECTORS[node] for node, share in parts.items())))


QUERIES = [query("word1"), query(vector=unit(1, 0.3, 0.1)), query("word1 word5", unit(0, 0.5, 1))]


@pytest.mark.parametrize("asked", QUERIES)
def test_without_expansions_their_weight_changes_nothing_to_the_bit(flat: SpaceGraph, asked: recall.Query) -> None:
    config = defaults().recall
    hits = recall.find(flat.view, asked, config)
    config.expansion_weight = 0
    assert recall.find(flat.view, asked, config) == hits
    linked(flat)
    assert recall.find(flat.view, asked, config) == hits
    config.expansion_weight = 1
    assert recall.find(flat.view, asked, config) != hits


def test_a_memory_is_found_by_words_of_what_it_is_linked_to_less_than_by_its_own(flat: SpaceGraph) -> None:
    linked(flat)
    hits = recall.find(flat.view, query("word1"), defaults().recall)
    assert [hit.node for hit in hits] == [1, 5]
    assert hits[0].lexical > hits[1].lexical > 0


def test_the_cosine_is_the_better_of_its_own_and_that_moved_towards_its_peers(flat: SpaceGraph) -> None:
    asked = unit(1, 0.3, 0.1)
    linked(flat)
    cosines = {node: float(vector @ asked) for node, vector in VECTORS.items()}
    moved = {5: {5: 1, 1: 0.5}, 6: {6: 1, 4: 0.4, 1: 0.1}}
    for node, parts in moved.items():
        towards = unit(*sum(share * VECTORS[peer] for peer, share in parts.items()))
        cosines[node] = max(cosines[node], float(towards @ asked))
    low, high = min(cosines.values()), max(cosines.values())
    config = defaults().recall
    config.walk_weight = 0
    dense = {hit.node: hit.dense for hit in recall.find(flat.view, query(vector=asked), config)}
    expected = {node: (cosine - low) / (high - low) for node, cosine in cosines.items() if cosine > low}
    assert dense == pytest.approx(expected, abs=1e-5)
    config.expansion_weight = 0
    alone = {hit.node: hit.dense for hit in recall.find(flat.view, query(vector=asked), config)}
    assert alone[5] < dense[5] - 0.1


def test_a_peer_may_lie_in_a_container_that_is_not_looked_into_and_a_hidden_one_says_nothing(flat: SpaceGraph) -> None:
    asked, config = query(vector=unit(1, 0.3, 0.1)), defaults().recall
    linked(flat)
    before = {hit.node: hit.dense for hit in recall.find(flat.view, asked, config)}
    boxed(flat, 7, {i: VECTORS[i] for i in (1, 2, 3)})
    after = {hit.node: hit.dense for hit in recall.find(flat.view, asked, config)}
    assert after[5] == pytest.approx(before[5], abs=0.02)
    # Of two containers only the nearer one is looked into; 5 lies beside 4 in the other, and is found by its peer.
    boxed(flat, 8, {i: VECTORS[i] for i in (4, 5)})
    config.open_containers = 1
    after = {hit.node: hit.dense for hit in recall.find(flat.view, asked, config)}
    config.expansion_weight = 0
    alone = {hit.node: hit.dense for hit in recall.find(flat.view, asked, config)}
    assert after[5] > alone[5] + 0.1
    config.expansion_weight = 1
    flat.hide_nodes([1])
    hidden = {hit.node: hit.dense for hit in recall.find(flat.view, asked, config)}
    assert hidden.get(5, 0) < after[5] - 0.1


# ── what holds and what held ────────────────────────────────────────────────────


def superseded(*pairs: tuple[int, int]) -> SpaceGraph:
    """Memories 1 to 5, the first three with the word, 1 most; pairs of newer and older."""
    graph = SpaceGraph()
    graph.add_nodes([plain(i, text="colour " * (4 - i) + "blue", created_us=i) for i in (1, 2, 3)])
    graph.add_nodes([plain(i, text="green", created_us=i) for i in (4, 5)])
    graph.add_edges([NewEdge(i, new, old, 0, 1, True, 2, True) for i, (new, old) in enumerate(pairs, 1)])
    return graph


def by_words(graph: SpaceGraph, **bounds: int) -> list[recall.Found]:
    config = defaults().recall
    config.walk_weight = 0
    hits = recall.find(graph.view, query("colour", **bounds), config)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    return hits


def ranking(graph: SpaceGraph, **bounds: int) -> list[tuple[int, int]]:
    return [(hit.node, hit.superseded_by) for hit in by_words(graph, **bounds)]


def test_without_a_newer_fact_the_words_decide() -> None:
    assert ranking(superseded()) == [(1, 0), (2, 0), (3, 0)]


def test_the_newest_of_a_chain_comes_first_though_it_lacks_the_words() -> None:
    hits = by_words(superseded((2, 1), (4, 2)))
    assert [(hit.node, hit.superseded_by) for hit in hits] == [(4, 0), (3, 0), (1, 4), (2, 4)]
    by_node = {hit.node: hit for hit in hits}
    alone = {hit.node: hit.score for hit in by_words(superseded())}
    assert by_node[4].score == pytest.approx(alone[1])
    assert by_node[1].score == pytest.approx(alone[1] / 2)
    assert by_node[2].score == pytest.approx(alone[2] / 2)
    assert by_node[4].lexical == 0


def test_the_newest_enters_although_the_limit_is_full_of_older_ones() -> None:
    assert ranking(superseded((4, 1)), limit=1) == [(4, 0)]


def test_who_asks_for_the_past_gets_what_held_then() -> None:
    graph = superseded((2, 1), (4, 2))
    assert ranking(graph, before_us=2) == [(1, 4)]
    assert ranking(graph, before_us=3) == [(2, 4), (1, 4)]


def test_a_newer_fact_that_is_gone_supersedes_nothing_and_its_survivor_speaks_for_it() -> None:
    graph = superseded((4, 1))
    graph.hide_nodes([4])
    assert ranking(graph) == [(1, 0), (2, 0), (3, 0)]
    graph = superseded((4, 1))
    graph.set_roles([RoleChange(4, MEMORY_ROLE_FOLDED, 3, False)])
    assert ranking(graph)[0] == (3, 0)
    assert (1, 3) in ranking(graph)


def test_facts_that_supersede_each_other_in_a_circle_all_hold() -> None:
    assert ranking(superseded((2, 1), (1, 2))) == [(1, 0), (2, 0), (3, 0)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 6), min_size=1, max_size=700), st.integers(1, 12))
def test_the_best_are_those_of_a_stable_sort(scores: list[int], count: int) -> None:
    column = np.array(scores, np.float32)
    wanted = sorted(range(len(scores)), key=lambda row: -scores[row])[:count]
    assert scoring.best(column, count).tolist() == wanted


# ── what is said twice, and how much is said ────────────────────────────────────


@pytest.fixture
def tea(room: Any) -> Any:
    near = [[1, 0, 0], [0.99, 0.1, 0], [0.98, 0.1, 0.1], [0.97, 0.2, 0.1], [0.9, 0.4, 0.1]]
    said = [
        "Anna likes green tea very much.",
        "anna likes GREEN tea, very much",
        "Anna likes black tea very much.",
        "Anna does not like green tea very much.",
        "Anna likes green tea.",
    ]
    room.remember(*(Memory(text=text, vector=vector) for text, vector in zip(said, near, strict=True)))
    room.remember(Memory(text="Bob plays chess.", vector=[0, 1, 0]), Memory(text="far", vector=[-1, 0, 0]))
    return room


def test_what_a_better_hit_says_is_left_out_and_what_contradicts_it_stays(tea: Any) -> None:
    found = answer(tea, vector=[1, 0, 0])
    assert texts(found) == [
        "Anna likes green tea very much.",
        "Anna likes black tea very much.",
        "Anna does not like green tea very much.",
        "Bob plays chess.",
    ]
    assert found.similar_left_out == 2
    everything = answer(tea, vector=[1, 0, 0], with_similar=True)
    assert (len(everything.hits), everything.similar_left_out) == (6, 0)


def test_a_hit_that_says_more_stays_unless_it_is_as_near_as_a_duplicate(room: Any) -> None:
    room.remember(
        Memory(text="Anna likes green tea.", vector=[1, 0]),
        Memory(text="Anna likes green tea with honey.", vector=[1, 0.4]),
        Memory(text="Anna likes green tea with milk.", vector=[1, 0.1]),
        Memory(text="far", vector=[-1, 0]),
    )
    found = answer(room, vector=[1, 0])
    assert texts(found) == ["Anna likes green tea.", "Anna likes green tea with honey."]
    assert found.similar_left_out == 1
    # The other way about nothing is lost.
    assert texts(answer(room, vector=[1, 0.5]))[0] == "Anna likes green tea with honey."
    assert "Anna likes green tea." not in texts(answer(room, vector=[1, 0.5]))


def test_left_out_hits_make_room_for_others(room: Any) -> None:
    room.remember(*(Memory(text="the same apple") for _ in range(4)), Memory(text="another apple pie of ours"))
    room.remember(Memory(text="zebra"))
    found = answer(room, text="apple", limit=2)
    assert sorted(texts(found)) == ["another apple pie of ours", "the same apple"]


def test_words_stand_for_the_vector_that_a_memory_has_not_got_yet(room: Any) -> None:
    room.remember(
        Memory(key="a", text="near", vector=[1, 0]),
        Memory(key="b", text="nearly", vector=[0.9, 0.1]),
        Memory(key="c", text="far", vector=[-1, 0]),
        Memory(key="new", text="a green drawer"),
    )
    weight = defaults().recall.lexical_weight
    hits = {hit.memory.key: hit for hit in answer(room, text="green drawer", vector=[1, 0], with_similar=True).hits}
    assert next(iter(hits)) == "new"
    assert hits["new"].why.dense == 1
    assert hits["new"].why.lexical == weight
    assert hits["a"].why.dense == 1
    assert hits["a"].why.lexical == 0


def test_copies_to_the_letter_are_left_out_without_a_vector_and_silent_memories_are_no_copies(room: Any) -> None:
    room.remember(Memory(text="apple"), Memory(text="apple"), Memory(text="Apple!"), Memory(text="far", vector=[-1, 0]))
    assert sorted(texts(answer(room, text="apple"))) == ["Apple!", "apple"]
    room.remember(*(Memory(vector=vector) for vector in ([1, 0], [1, 0], [1, 0.01])))
    assert len(answer(room, vector=[1, 0]).hits) == 3


def test_versions_of_one_fact_are_all_returned(room: Any) -> None:
    room.remember(
        Memory(key="old", text="Anna lives in Rome.", vector=[1, 0]),
        Memory(key="new", text="Anna lives in Rome!", vector=[1, 0.05]),
        Memory(key="far", text="far", vector=[-1, 0]),
    )
    assert len(answer(room, vector=[1, 0]).hits) == 1
    room.remember(edges=[Edge(source="new", target="old", type="SUPERSEDES")])
    hits = answer(room, vector=[1, 0]).hits
    assert [hit.memory.key for hit in hits] == ["new", "old"]
    assert [hit.superseded_by for hit in hits] == ["", hits[0].memory.id]
    # The newer one may be elsewhere.
    before = Timestamp()
    before.FromMicroseconds(room.clock.us + 1)
    room.clock.us += 10
    room.remember(Memory(key="newest", text="Anna lives in Bern.", vector=[1, 0]))
    room.remember(edges=[Edge(source="newest", target="new", type="SUPERSEDES")])
    hits = answer(room, vector=[1, 0], before=before).hits
    assert [hit.memory.key for hit in hits] == ["new", "old"]
    assert {hit.superseded_by for hit in hits} == {room.get("newest").memory.id}


def test_hits_end_before_the_first_that_would_pass_the_budget(room: Any) -> None:
    room.remember(
        Memory(title="Fruit", text="apple apple", vector=[1, 0]),
        Memory(text="an apple a day and so on", vector=[1, 0.5]),
        Memory(text="chess", vector=[1, 1]),
        Memory(text="far", vector=[-1, 0]),
    )
    whole = answer(room, vector=[1, 0])
    assert (len(whole.hits), whole.tokens) == (3, 3 + 7 + 1)
    assert [answer(room, vector=[1, 0], token_budget=most).tokens for most in (3, 9, 10, 11)] == [3, 3, 10, 11]
    # The third would fit, but what is left out is never better than what is returned.
    assert len(answer(room, vector=[1, 0], token_budget=9).hits) == 1


def test_a_budget_is_kept_even_if_no_hit_fits_and_the_answer_says_so(tea: Any) -> None:
    found = answer(tea, vector=[1, 0, 0], token_budget=2)
    assert (len(found.hits), found.tokens) == (0, 0)
    assert "7 tokens" in found.notice
    assert "token_budget of 2" in found.notice


def test_only_returned_memories_count_as_recalled(tea: Any) -> None:
    config = defaults()
    embedding = TextEmbedding(tea.store, config.embedder)
    calls = MemoryCalls(tea.store, NoDreams(), embedding, tea.importing(), InForce(config))  # pyright: ignore

    async def run() -> list[str]:
        found = await calls.recall(RecallRequest(space="default", vector=[1, 0, 0], limit=2))
        await calls.flush_touches()
        return texts(found)

    returned = asyncio.run(run())
    assert sorted(returned) == [row[0] for row in tea.rows("SELECT text FROM nodes WHERE access_count>0 ORDER BY text")]
