"""Taken apart on request: containers, facets, survivors; and kept apart from then on."""

from typing import Any

import numpy as np
import pytest

from dreamsvc.errors import InvalidFields, NotFound
from dreamsvc.memory.standing import FACET, FOLDED, PLAIN, REPLACED
from dreamsvc.v1.memory_pb2 import Edge, Memory

A, B, C, D = range(1, 5)
MONTH_US = 31 * 86_400_000_000


def vector(number: int) -> list[float]:
    return np.random.default_rng(number).normal(size=8).astype(np.float16).astype(float).tolist()


@pytest.fixture
def town(room: Any, part: Any) -> Any:
    """a, b and c in a container, d alone."""
    room.remember(
        *(Memory(key=key, text=f"{key} text", vector=vector(row)) for row, key in enumerate("abcd", 1)),
        edges=[Edge(source="a", target="b", weight=0.6), Edge(source="b", target="d", weight=0.8)],
    )
    room.clock.us += 10
    room.change = room.dream(part.containers(0, part.container(1, room.vectors([A, B, C]), bits=8)))
    room.box = room.memory("a").merged_into
    room.clock.us += 10
    return room


def standing(room: Any, keys: str = "abcd") -> list[tuple[int, str, bool]]:
    found = [room.memory(key) for key in keys]
    return [(memory.role, memory.merged_into, memory.kept_apart) for memory in found]


def test_a_container_falls_apart_into_what_it_held(town: Any) -> None:
    town.remember(edges=[Edge(source=town.box, target="d", weight=0.3)])
    town.forget("c")
    answer = town.unmerge(town.box)
    assert sorted(answer.ids) == sorted(town.memory(key).id for key in "ab")
    assert answer.vectors_approximate == 0
    assert standing(town) == [(PLAIN, "", True), (PLAIN, "", True), (FACET, town.box, False), (PLAIN, "", False)]
    assert town.memory(town.box).role == REPLACED
    assert town.edges() == {("a", "b", "related"): 0.6, ("b", "d", "related"): 0.8}
    assert town.memory("a").vector == pytest.approx(vector(A))
    town.in_order()
    town.restore("c")
    assert (town.memory("c").role, town.memory("c").vector) == (PLAIN, pytest.approx(vector(C)))
    town.in_order()
    with pytest.raises(InvalidFields, match="taken apart"):
        town.restore(town.box)
    town.reopen()
    town.in_order()


def test_a_facet_leaves_and_the_last_one_closes_the_container(town: Any) -> None:
    for key, left in (("a", 2), ("b", 1), ("c", 0)):
        assert list(town.unmerge(key).ids) == [town.memory(key).id]
        assert town.store.stats("default").facets == left
        town.in_order()
    assert standing(town, "abc") == [(PLAIN, "", True)] * 3
    assert town.store.stats("default").containers == 0
    assert [hit.node for hit in town.find(vector=vector(C), limit=1)] == [C]


def test_a_container_stays_for_a_facet_that_is_forgotten(town: Any) -> None:
    town.forget("a")
    town.unmerge("b")
    town.unmerge("c")
    assert town.store.stats("default").containers == 1
    town.in_order()
    town.restore("a")
    assert town.memory("a").merged_into == town.box
    town.in_order()


def test_a_survivor_gets_its_copies_back_beside_it(town: Any, part: Any) -> None:
    town.dream(part.eliminations(0, (D, [B]), (A, [C])))
    answer = town.unmerge("d")
    assert sorted(answer.ids) == sorted(town.memory(key).id for key in "bd")
    assert standing(town, "bd") == [(PLAIN, "", True)] * 2
    assert town.memory("c").role == FOLDED
    assert town.edges()["b", "d", "related"] == 0.8
    town.in_order()
    # Of a facet that stands for copies first those, then the facet.
    assert sorted(town.unmerge("a").ids) == sorted(town.memory(key).id for key in "ac")
    assert standing(town, "ac") == [(FACET, town.box, True), (PLAIN, "", True)]
    town.unmerge("a")
    assert standing(town, "a") == [(PLAIN, "", True)]
    town.in_order()


def test_only_what_was_merged_is_taken_apart(town: Any) -> None:
    with pytest.raises(InvalidFields, match="stands for itself"):
        town.unmerge("d")
    with pytest.raises(NotFound):
        town.unmerge("nobody")
    town.forget("a")
    with pytest.raises(NotFound):
        town.unmerge("a")


def test_after_a_purge_a_vector_is_read_back_from_its_code(town: Any, part: Any) -> None:
    town.clock.us += MONTH_US
    assert town.purge().vectors == 3
    answer = town.unmerge("a")
    assert answer.vectors_approximate == 1
    back, was = (np.array(one) for one in (town.memory("a").vector, vector(A)))
    assert back @ was / np.linalg.norm(back) / np.linalg.norm(was) > 0.999
    town.in_order()
    # What comes back with another vector stays in the container as it is.
    assert town.unmerge(town.box).vectors_approximate == 2
    assert town.store.stats("default").vectors == 4
    town.in_order()


def test_purged_copies_do_not_come_back(town: Any, part: Any) -> None:
    town.dream(part.eliminations(0, (D, [B])))
    town.clock.us += MONTH_US
    assert town.purge().memories == 1
    with pytest.raises(InvalidFields, match="stands for itself"):
        town.unmerge("d")
    town.in_order()


def test_a_repeated_request_takes_apart_once(town: Any) -> None:
    first = town.unmerge(town.box, request_id="once")
    assert len(first.ids) == 3
    assert town.unmerge(town.box, request_id="once") == first


def test_an_empty_container_can_be_taken_apart(town: Any) -> None:
    town.forget("a", "b", "c")
    town.in_order()
    assert list(town.unmerge(town.box).ids) == []
    town.restore("a", "b", "c")
    assert {role for role, _, _ in standing(town)} == {PLAIN}
    town.in_order()
