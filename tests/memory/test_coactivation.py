"""Pairs of use: counted, confirmed, replayed by a dream, given back."""

from typing import Any

import pytest

from dreamsvc.errors import InvalidFields, NotFound
from dreamsvc.memory import coactivation, operations
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import FeedbackRequest

A, B, C, D = range(1, 5)


@pytest.fixture
def town(room: Any) -> Any:
    room.remember(*(Memory(key=key, text=f"{key} text") for key in "abcd"))
    return room


def counts(room: Any) -> dict[tuple[int, int], tuple[int, int]]:
    """Recalled and confirmed of the pairs that no dream has replayed."""
    query = "SELECT source, target, recalled, confirmed FROM coactivations WHERE used_by IS NULL"
    return {(row[0], row[1]): (row[2], row[3]) for row in room.rows(query)}


def together(room: Any, **pairs: int) -> None:
    """E.g. ab=2."""
    rows = {(room.row_of(name[0]), room.row_of(name[1])): count for name, count in pairs.items()}
    room.store.note_together("default", rows).result(10)


def feedback(room: Any, *used: str, returned: set[int] | None = None, request_id: str = "") -> int:
    request = FeedbackRequest(space="default", recall_id="r", used_ids=used, request_id=request_id)
    known = frozenset({A, B, C, D} if returned is None else returned)
    return room.store.feedback(request, known).result(10).pairs


def on(room: Any, change: ChangeId, do: Any) -> None:
    room.store.database.write(lambda c: do(c, operations.find(c, change))).result(10)


def test_a_recall_counts_the_pairs_of_its_first_five_hits() -> None:
    pairs = coactivation.recalled_pairs([9, 3, 7, 1, 5, 2])
    assert pairs == [(1, 3), (1, 5), (1, 7), (1, 9), (3, 5), (3, 7), (3, 9), (5, 7), (5, 9), (7, 9)]
    assert coactivation.recalled_pairs([4]) == []


def test_recalls_and_confirmations_add_up_apart(town: Any) -> None:
    together(town, ab=2, ac=1)
    assert feedback(town, "b", "a") == 1
    together(town, ab=1)
    assert counts(town) == {(A, B): (3, 1), (A, C): (1, 0)}
    assert town.store.stats("default").coactivations == 2


def test_feedback_takes_ids_and_keys_and_counts_each_memory_once(town: Any) -> None:
    assert feedback(town, "c", town.memory("a").id, "a", "b") == 3
    assert counts(town) == {(A, B): (0, 1), (A, C): (0, 1), (B, C): (0, 1)}
    assert feedback(town, "d") == 0
    assert feedback(town, "d", "d") == 0


def test_the_same_feedback_again_counts_once_and_needs_no_recall(town: Any) -> None:
    assert feedback(town, "a", "b", request_id="x") == 1
    request = FeedbackRequest(space="default", recall_id="r", used_ids=["a", "b"], request_id="x")
    assert town.store.feedback(request, None).result(10).pairs == 1
    assert counts(town) == {(A, B): (0, 1)}


def test_what_the_recall_had_not_returned_is_named_and_nothing_is_counted(town: Any) -> None:
    with pytest.raises(InvalidFields) as caught:
        feedback(town, "a", "d", "never", returned={A, B})
    assert [path for path, _ in caught.value.violations] == ["used_ids[1]", "used_ids[2]"]
    assert counts(town) == {}


def test_a_recall_that_is_not_known_is_not_found_with_advice(town: Any) -> None:
    request = FeedbackRequest(space="default", recall_id="r", used_ids=["a"])
    with pytest.raises(NotFound, match="recall again"):
        town.store.feedback(request, None).result(10)


def test_very_many_used_memories_count_by_the_first_hundred(room: Any) -> None:
    keys = [f"k{i}" for i in range(120)]
    room.remember(*(Memory(key=key, text=key) for key in keys))
    request = FeedbackRequest(space="default", recall_id="r", used_ids=keys)
    assert room.store.feedback(request, frozenset(range(1, 121))).result(10).pairs == 100 * 99 // 2


def test_a_pair_whose_memory_is_gone_is_left_out(town: Any) -> None:
    town.store.note_together("default", {(A, 999): 1, (A, B): 1}).result(10)
    assert counts(town) == {(A, B): (1, 0)}


def test_a_dream_takes_what_was_used_before_it_began_and_gives_it_back(town: Any) -> None:
    together(town, ab=2, ac=1)
    change, dream = town.begin_dream()
    together(town, ac=1, cd=1)
    town.seal(change, dream)
    on(town, change, coactivation.consume)
    assert counts(town) == {(A, C): (2, 0), (C, D): (1, 0)}
    assert town.store.stats("default").coactivations == 2
    on(town, change, coactivation.give_back)
    assert counts(town) == {(A, B): (2, 0), (A, C): (2, 0), (C, D): (1, 0)}


def test_new_use_of_a_replayed_pair_starts_a_new_count(town: Any) -> None:
    town.remember(edges=[Edge(source="b", target="a", weight=0.5)])
    together(town, ab=5, ac=5)
    feedback(town, "a", "b")
    change = town.dream()
    on(town, change, coactivation.consume)
    together(town, ab=1)
    feedback(town, "a", "c")
    assert counts(town) == {(A, B): (1, 0), (A, C): (0, 1)}
    on(town, change, coactivation.give_back)
    assert counts(town) == {(A, B): (1, 0), (A, C): (0, 1)}


def test_what_a_caller_confirmed_waits_until_an_edge_learned_it(town: Any) -> None:
    feedback(town, "a", "b")
    together(town, cd=1)
    first = town.dream()
    on(town, first, coactivation.consume)
    assert counts(town) == {(A, B): (0, 1)}
    town.remember(edges=[Edge(source="b", target="a", weight=0.5)])
    second = town.dream()
    on(town, second, coactivation.consume)
    assert counts(town) == {}
    on(town, first, coactivation.give_back)
    assert counts(town) == {(C, D): (1, 0)}


def test_a_dream_takes_nothing_of_another_space(town: Any) -> None:
    town.remember(Memory(key="x", text="x"), Memory(key="y", text="y"), space="other")
    town.store.note_together("other", {(town.row_of("x"), town.row_of("y")): 1}).result(10)
    change = town.dream()
    on(town, change, coactivation.consume)
    assert town.store.stats("other").coactivations == 1


def test_memories_that_are_deleted_have_no_pairs(town: Any) -> None:
    together(town, ab=1, bc=1, cd=1)
    town.store.database.write(lambda c: coactivation.drop(c, [B])).result(10)
    assert counts(town) == {(C, D): (1, 0)}
