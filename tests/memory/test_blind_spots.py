"""Blind spots in the store: what of a dream's finds is kept, what decisions do, and what a revert leaves."""

from collections.abc import Sequence
from typing import Any

import pytest

from dreamsvc import contract
from dreamsvc.dreamer.v1.operations_pb2 import BeforeImages, EdgeDetail, FoundBlindSpot, FoundBlindSpots
from dreamsvc.errors import InvalidFields, NotFound
from dreamsvc.memory import blind_spots, operations
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.fold import Fold
from dreamsvc.memory.sqlite import ChangeId, next_seq
from dreamsvc.v1.blind_spot_pb2 import BlindSpot
from dreamsvc.v1.dream_service_pb2 import AcceptBlindSpotRequest, ListBlindSpotsRequest, RejectBlindSpotRequest
from dreamsvc.v1.memory_pb2 import EDGE_ORIGIN_DREAM_DISCOVERY, Memory

A, B, C, D = range(1, 5)
HYPOTHESIS, VERIFIED = BlindSpot.STATE_HYPOTHESIS, BlindSpot.STATE_VERIFIED
ACCEPTED, REJECTED = BlindSpot.STATE_ACCEPTED, BlindSpot.STATE_REJECTED
DISCOVERED = blind_spots.DISCOVERED


@pytest.fixture
def town(room: Any) -> Any:
    room.remember(*(Memory(key=key, title=f"{key} title", text=f"{key} text") for key in "abcd"))
    return room


def find(number: int, source: int, target: int, *, verified: bool = False, **more: Any) -> FoundBlindSpot:
    told = {"semantic_distance": 0.75, "causal_overlap": 0.5, "confidence": 0.25, "evidence": ["both name x", "near"]}
    return FoundBlindSpot(number=number, source=source, target=target, verified=verified, **(told | more))


def keep(room: Any, change: ChangeId, *found: FoundBlindSpot) -> BeforeImages:
    """Folds a part of finds of a dream."""

    def job(c: Any) -> BeforeImages:
        before = BeforeImages(seq=next_seq(c))
        fold = Fold(c, operations.find(c, change), room.clock.us, room.clock.us, before.seq, before, Delta())
        blind_spots.fold_blind_spots(fold, FoundBlindSpots(blind_spots=found))
        return before

    return room.store.database.write(job).result(10)


def dream(room: Any, *found: FoundBlindSpot) -> tuple[ChangeId, BeforeImages]:
    change = room.dream()
    return change, keep(room, change, *found)


def undo(room: Any, change: ChangeId, before: BeforeImages) -> None:
    room.store.database.write(lambda c: blind_spots.undo(c, operations.find(c, change), before)).result(10)


def listed(room: Any, states: Sequence[int] = (), **fields: Any) -> list[BlindSpot]:
    found: list[BlindSpot] = []
    while True:
        request = ListBlindSpotsRequest(space="default", states=states, page_size=2, **fields)  # pyright: ignore
        answer = room.store.list_blind_spots(request)
        found += answer.blind_spots
        if not answer.next_page_token:
            return found
        fields["page_token"] = answer.next_page_token


def accept(room: Any, spot: BlindSpot, request_id: str = "") -> BlindSpot:
    request = AcceptBlindSpotRequest(space="default", id=spot.id, request_id=request_id)
    contract.check(request)
    return room.store.accept_blind_spot(request).result(10).blind_spot


def reject(room: Any, spot: BlindSpot, request_id: str = "") -> BlindSpot:
    request = RejectBlindSpotRequest(space="default", id=spot.id, request_id=request_id)
    return room.store.reject_blind_spot(request).result(10).blind_spot


def pairs(found: Sequence[BlindSpot]) -> list[tuple[str, str, int]]:
    return [(spot.source.key, spot.target.key, spot.state) for spot in found]


# ── what is kept ────────────────────────────────────────────────────────────────


def test_a_find_is_kept_with_all_that_speaks_for_it(town: Any) -> None:
    change, before = dream(town, find(1, A, B, verified=True, meeting=[C, 99], walk=[0, 0, 0.5, 0.25], dimension=2))
    (spot,) = listed(town)
    assert pairs([spot]) == [("a", "b", VERIFIED)]
    assert (spot.source.id, spot.source.text) == (town.memory("a").id, "a title")
    assert (spot.semantic_distance, spot.causal_overlap, spot.confidence) == (0.75, 0.5, 0.25)
    assert list(spot.evidence) == ["both name x", "near"]
    assert [end.key for end in spot.meeting] == ["c"]
    assert (list(spot.walk), spot.dimension) == ([0, 0, 0.5, 0.25], 2)
    assert spot.create_time.ToMicroseconds() == town.clock.us
    (uid,) = town.rows("SELECT uid FROM changes WHERE id = ?", change)[0]
    assert spot.dream_id.replace("-", "") == uid.hex()
    assert [row for (row,) in town.rows("SELECT id FROM blind_spots")] == list(before.born_blind_spots)
    assert not before.skipped
    assert town.edges() == {}


def test_a_pair_is_kept_once_whichever_end_comes_first(town: Any) -> None:
    dream(town, find(1, A, B), find(2, B, A), find(3, C, C))
    dream(town, find(1, B, A))
    assert pairs(listed(town)) == [("a", "b", HYPOTHESIS)]


def test_finds_with_a_forgotten_end_are_left_out_and_shown_once_it_is_back(town: Any) -> None:
    dream(town, find(1, A, C))
    town.forget("c")
    _, before = dream(town, find(1, A, B), find(2, C, D))
    assert list(before.skipped) == [C]
    assert pairs(listed(town)) == [("a", "b", HYPOTHESIS)]
    town.restore("c")
    assert pairs(listed(town)) == [("a", "b", HYPOTHESIS), ("a", "c", HYPOTHESIS)]


def test_a_copy_is_stood_for_by_its_survivor(town: Any, part: Any) -> None:
    dream(town, find(1, C, D), find(2, B, C))
    reject(town, listed(town, [HYPOTHESIS])[0])
    town.dream(part.eliminations(0, (A, [B])))
    assert pairs(listed(town)) == [("a", "c", REJECTED), ("c", "d", HYPOTHESIS)]
    # The pair that was rejected, by another name.
    _, before = dream(town, find(1, C, A, verified=True), find(2, B, D))
    assert list(before.skipped) == [C]
    assert pairs(listed(town, [HYPOTHESIS])) == [("a", "d", HYPOTHESIS), ("c", "d", HYPOTHESIS)]
    ask = [(A, C), (C, A), (A, D)]
    assert town.store.database.read(lambda c: blind_spots.rejected(c, 1, ask)) == {(A, C), (C, A)}


def test_equal_dreams_give_equal_ids(rooms: Any) -> None:
    ids: list[str] = []
    for _ in range(2):
        with rooms() as room:
            room.remember(*(Memory(key=key, text=key) for key in "ab"))
            change = room.dream()
            room.execute("UPDATE changes SET uid=? WHERE id=?", bytes(range(16)), change)
            keep(room, change, find(7, A, B))
            ids.append(listed(room)[0].id)
    assert ids[0] == ids[1]


def test_lists_are_filtered_paged_and_count_what_nobody_rejected(town: Any) -> None:
    first, _ = dream(town, find(1, A, B), find(2, A, C, verified=True), find(3, A, D))
    dream(town, find(1, B, C))
    assert [spot.target.key for spot in listed(town)] == ["c", "d", "c", "b"]
    assert pairs(listed(town, [VERIFIED])) == [("a", "c", VERIFIED)]
    uid = listed(town)[-1].dream_id
    assert [spot.target.key for spot in listed(town, dream_id=uid)] == ["d", "c", "b"]
    reject(town, listed(town)[0])
    assert town.store.stats("default").blind_spots == 3
    assert first
    with pytest.raises(NotFound, match="no dream"):
        listed(town, dream_id="0" * 36)
    token = town.store.list_blind_spots(ListBlindSpotsRequest(space="default", page_size=1)).next_page_token
    with pytest.raises(InvalidFields):
        listed(town, [VERIFIED], page_token=token)


# ── decisions ───────────────────────────────────────────────────────────────────


def test_an_accepted_hypothesis_becomes_an_edge_of_the_user(town: Any) -> None:
    dream(town, find(1, A, B))
    assert accept(town, listed(town)[0]).state == ACCEPTED
    assert pairs(listed(town)) == [("a", "b", ACCEPTED)]
    (edge,) = town.get("a").edges
    assert (edge.type, edge.weight, edge.confidence) == (DISCOVERED, 0.3, 1.0)
    assert (edge.origin, edge.evidence) == (EDGE_ORIGIN_DREAM_DISCOVERY, "both name x; near")
    assert town.rows("SELECT user_seq > 0, born_in, changed_by FROM edges") == [(1, None, None)]
    town.in_order()
    # A dream does not change it that began before.
    assert accept(town, listed(town)[0]).state == ACCEPTED
    assert len(town.edges()) == 1


def test_an_accepted_find_has_its_edge_trusted_in_whichever_direction(town: Any, part: Any) -> None:
    dream(town, find(1, A, B, verified=True))
    town.dream(part.new_edges(0, (B, A, DISCOVERED, 0.5), detail=EdgeDetail(evidence="seen")))
    accept(town, listed(town)[0])
    (edge,) = town.get("a").edges
    assert (edge.source, edge.weight, edge.confidence, edge.evidence) == (town.memory("b").id, 0.5, 1.0, "seen")
    town.in_order()


def test_a_rejected_find_loses_its_edge_and_is_never_kept_again(town: Any, part: Any) -> None:
    dream(town, find(1, A, B, verified=True))
    town.dream(part.new_edges(0, (A, B, DISCOVERED, 0.3), (A, B, "related", 0.6)))
    assert reject(town, listed(town)[0]).state == REJECTED
    assert town.edges() == {("a", "b", "related"): pytest.approx(0.6)}
    _, before = dream(town, find(1, B, A, verified=True))
    assert list(before.skipped) == [B]
    town.dream(part.new_edges(0, (A, B, DISCOVERED, 0.3)))
    assert pairs(listed(town)) == [("a", "b", REJECTED)]
    assert (A, B, DISCOVERED) not in town.edges()
    # Nor does it come back with a memory that is forgotten and restored.
    town.forget("b")
    town.restore("b")
    assert town.edges() == {("a", "b", "related"): pytest.approx(0.6)}
    town.in_order()


def test_an_edge_that_waits_for_its_memory_is_rejected_too(town: Any) -> None:
    dream(town, find(1, A, B))
    spot = accept(town, listed(town)[0])
    town.forget("b")
    with pytest.raises(InvalidFields, match="restore"):
        accept(town, spot)
    reject(town, spot)
    town.restore("b")
    assert town.edges() == {}
    town.in_order()


def test_decisions_may_be_changed_and_are_all_in_the_audit(town: Any) -> None:
    dream(town, find(1, A, B))
    spot = listed(town)[0]
    for decide, state, edges in ((accept, ACCEPTED, 1), (reject, REJECTED, 0), (accept, ACCEPTED, 1)):
        assert decide(town, spot).state == state
        assert len(town.edges()) == edges
    told = town.rows("SELECT action, detail FROM audit WHERE action LIKE '%blindspot' ORDER BY id")
    assert [action for action, _ in told] == ["acceptblindspot", "rejectblindspot", "acceptblindspot"]
    assert all(spot.id in detail for _, detail in told)
    town.in_order()


def test_the_same_request_again_gets_the_first_answer(town: Any) -> None:
    dream(town, find(1, A, B))
    spot = listed(town)[0]
    first = accept(town, spot, "yes")
    reject(town, spot, "no")
    assert accept(town, spot, "yes") == first
    assert pairs(listed(town)) == [("a", "b", REJECTED)]


def test_a_find_of_copies_is_decided_on_what_stands_for_them(town: Any, part: Any) -> None:
    dream(town, find(1, A, C), find(2, A, B))
    both, one = listed(town)
    town.dream(part.eliminations(0, (C, [A])))
    with pytest.raises(InvalidFields, match="copies of one"):
        accept(town, one)
    accept(town, both)
    assert town.edges() == {("c", "b", DISCOVERED): 0.3}
    reject(town, both)
    assert town.edges() == {}
    town.in_order()


@pytest.mark.parametrize("name", ["nothing", "0" * 36])
def test_what_is_not_there_is_not_found(town: Any, name: str) -> None:
    for decide in (accept, reject):
        with pytest.raises(NotFound, match="no blind spot"):
            decide(town, BlindSpot(id=name))
    town.remember(Memory(text="x"), space="other")
    dream(town, find(1, A, B))
    request = AcceptBlindSpotRequest(space="other", id=listed(town)[0].id)
    with pytest.raises(NotFound, match='space "other"'):
        town.store.accept_blind_spot(request).result(10)


# ── taken back ──────────────────────────────────────────────────────────────────


def test_a_dream_that_is_taken_back_takes_its_finds_along_but_for_decided_ones(town: Any) -> None:
    change, before = dream(town, find(1, A, B), find(2, A, C), find(3, A, D))
    by_target = {spot.target.key: spot for spot in listed(town)}
    accept(town, by_target["b"])
    reject(town, by_target["c"])
    undo(town, change, before)
    assert pairs(listed(town)) == [("a", "c", REJECTED), ("a", "b", ACCEPTED)]
    assert town.edges() == {("a", "b", DISCOVERED): 0.3}
    _, again = dream(town, find(1, A, C), find(2, A, D))
    assert pairs(listed(town, [HYPOTHESIS])) == [("a", "d", HYPOTHESIS)]
    assert list(again.skipped) == [A]


def test_a_verified_hypothesis_is_a_hypothesis_again_once_that_night_is_taken_back(town: Any) -> None:
    dream(town, find(1, A, B))
    first = listed(town)[0]
    change, before = dream(town, find(1, B, A, verified=True))
    assert pairs(listed(town)) == [("b", "a", VERIFIED)]
    assert pairs(listed(town, dream_id=first.dream_id)) == [("a", "b", HYPOTHESIS)]
    assert not listed(town, [HYPOTHESIS])
    assert town.store.stats("default").blind_spots == 1
    undo(town, change, before)
    assert listed(town) == [first]
    change, before = dream(town, find(1, B, A, verified=True))
    # By its old name; the decision is about the pair.
    reject(town, first)
    undo(town, change, before)
    assert [spot.state for spot in listed(town)] == [REJECTED]
    assert town.store.stats("default").blind_spots == 0


def test_what_is_purged_is_not_quoted_and_what_is_deleted_has_no_finds(town: Any) -> None:
    dream(town, find(1, A, B), find(2, C, D))
    town.store.database.write(lambda c: blind_spots.strip(c, [B])).result(10)
    assert [list(spot.evidence) for spot in listed(town)] == [["both name x", "near"], []]
    town.store.database.write(lambda c: blind_spots.drop(c, [D])).result(10)
    assert pairs(listed(town)) == [("a", "b", HYPOTHESIS)]
