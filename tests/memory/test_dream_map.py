"""The map of a night: which memories are on it, and what of a dream is drawn between them."""

import zlib
from typing import Any

import numpy as np
import pytest

from dreamsvc.dreamer.v1.operations_pb2 import EdgeDetail, Operations, Walk, Walks
from dreamsvc.errors import NotFound
from dreamsvc.memory.blind_spots import DISCOVERED
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import GetDreamMapRequest, GetDreamMapResponse
from dreamsvc.v1.memory_pb2 import EDGE_ORIGIN_SYSTEM_INFERRED, Memory

A, B, C, D, E, F = range(1, 7)
POINTS = {A: [0.5, 0], B: [0, 0.5], C: [-0.5, 0], D: [0, -0.5], E: [0.25, 0.25]}


def place(room: Any, node: int, point: list[float], *, broken: bool = False) -> None:
    body = np.array(point, "<f4").tobytes()
    room.execute("INSERT INTO positions VALUES (?,1,1,?,?)", node, body, zlib.crc32(body) + broken)


@pytest.fixture
def town(room: Any) -> Any:
    """Six memories, the later the less important, all but the last with a place."""
    room.remember(
        *(
            Memory(key=key, title=f"{key} title", text="text", kind="note", importance=1 - i / 10)
            for i, key in enumerate("abcdef")
        )
    )
    for node, point in POINTS.items():
        place(room, node, point)
    return room


def walks(part: int, *made: tuple[int, list[float]], dimension: int = 2) -> Operations:
    told = [Walk(origin=origin, points=points) for origin, points in made]
    return Operations(part=part, walks=Walks(dimension=dimension, walks=told))


def night(room: Any, *parts: Operations) -> str:
    """A dream with such a journal, without folding the parts that this room has no hand for; its id."""
    change, dream = room.begin_dream()
    room.journal.stage_dream(change, parts, None, dream).result(10)
    room.journal.compact(change)
    return dream.id


def read(room: Any, dream: str = "", most: int = 100) -> GetDreamMapResponse:
    return room.store.dream_map(GetDreamMapRequest(space="default", dream_id=dream, max_memories=most))


def keys(room: Any, found: GetDreamMapResponse) -> str:
    of = {room.memory(key).id: key for key in "abcdef"}
    return "".join(of[memory.id] for memory in found.memories)


def edges(room: Any, found: GetDreamMapResponse) -> list[tuple[str, str]]:
    shown = keys(room, found)
    return [(shown[edge.source] + shown[edge.target], edge.type) for edge in found.edges]


def test_without_a_dream_there_are_the_most_important_memories(town: Any) -> None:
    found = read(town, most=3)
    assert (found.dimension, found.memories_placed, keys(town, found)) == (2, 5, "abc")
    first = found.memories[0]
    assert (first.text, first.kind, list(first.point)) == ("a title", "note", [0.5, 0])
    assert first.importance == pytest.approx(1)
    assert not found.walks
    assert not found.edges


def test_a_space_without_positions_has_an_empty_map(room: Any) -> None:
    room.remember(Memory(text="x"))
    assert read(room) == GetDreamMapResponse()


def test_what_is_forgotten_damaged_or_of_another_dimension_is_on_no_map(town: Any) -> None:
    town.forget("a")
    place(town, F, [0.1, 0.1, 0.1])
    town.remember(Memory(key="g", text="g"))
    place(town, 7, [0.1, 0.1], broken=True)
    assert keys(town, read(town)) == "bcde"
    town.execute("UPDATE positions SET crc=0 WHERE node=?", B)
    assert keys(town, read(town)) == "cde"


def test_edges_of_a_dream_are_the_strongest_first_and_their_ends_are_always_there(town: Any, part: Any) -> None:
    dream = Dream(id="01890a5d-ac96-774b-bcce-b302099a8057", space="default", state=Dream.STATE_RUNNING)
    change, _ = town.begin_dream(dream=dream)
    detail = EdgeDetail(evidence="both name x")
    made = [(D, E, "MENTIONS", 0.5), (C, D, DISCOVERED, 0.25), (B, E, DISCOVERED, 0.375), (A, F, DISCOVERED, 0.9)]
    town.seal(change, dream, part.new_edges(0, *made, detail=detail))
    town.fold(change)
    town.remember(Memory(key="x", text="x"))
    found = read(town, dream.id, most=1)
    # f has no place, so its edge has none either.
    assert keys(town, found) == "abcde"
    assert edges(town, found) == [("be", DISCOVERED), ("cd", DISCOVERED), ("de", "MENTIONS")]
    assert (found.edges[0].evidence, found.edges[0].origin) == ("both name x", EDGE_ORIGIN_SYSTEM_INFERRED)
    town.forget("e")
    assert edges(town, read(town, dream.id)) == [("cd", DISCOVERED)]


def test_walks_come_from_the_journal(town: Any) -> None:
    straight, other = [0.0, -0.5, 0.0, -0.75], [0.0, 0.0, 0.1, 0.1]
    dream = night(town, walks(0, (D, straight), (F, other)), walks(1, (A, [0.0] * 3), dimension=3))
    found = read(town, dream, most=2)
    assert keys(town, found) == "ad"
    (walk,) = found.walks
    assert (walk.origin, list(walk.points)) == (1, straight)


def test_a_proposal_shows_the_edges_that_it_would_make(town: Any, part: Any) -> None:
    made = [(A, B, "MENTIONS", 0.5), (B, C, DISCOVERED, 0.25), (C, -1, DISCOVERED, 0.5), (D, E, DISCOVERED, 0.5)]
    dream = night(town, part.new_edges(0, *made), walks(1, (A, [0.5, 0, 0.5, 0.1])))
    found = read(town, dream)
    assert edges(town, found) == [("de", DISCOVERED), ("bc", DISCOVERED), ("ab", "MENTIONS")]
    assert len(found.walks) == 1
    assert town.edges() == {}


def test_an_unknown_dream_or_space_is_not_found(town: Any) -> None:
    with pytest.raises(NotFound, match="no dream"):
        read(town, "0" * 36)
    with pytest.raises(NotFound, match="no space"):
        town.store.dream_map(GetDreamMapRequest(space="nowhere", max_memories=1))


def test_statistics_count_what_has_a_place_and_what_is_found_by_more(town: Any) -> None:
    town.execute("INSERT INTO expansions VALUES (?,1,x'00',0)", A)
    stats = town.store.stats("default")
    assert (stats.placed, stats.expanded, stats.blind_spots, stats.coactivations) == (5, 1, 0, 0)
    town.forget("a")
    stats = town.store.stats("default")
    assert (stats.placed, stats.expanded) == (4, 0)
