"""The history of dreams: the last ones are kept, older ones go, and none that could still be taken back."""

from typing import Any

import pytest

from dreamsvc.clock import to_timestamp
from dreamsvc.errors import DreamKept, InvalidFields, NotFound
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import DeleteDreamRequest, ListDreamsRequest
from dreamsvc.v1.memory_pb2 import Edge, Memory

DAY_US = 86_400_000_000


@pytest.fixture
def nights(room: Any, part: Any) -> Any:
    """Six nights, a day apart, each of which changed something."""
    room.remember(
        Memory(key="a", text="a"), Memory(key="b", text="b"), edges=[Edge(source="a", target="b", weight=0.5)]
    )
    room.nights = []
    for night in range(6):
        room.nights.append(room.dream(part.weights(0, {1: 0.5 + night / 20})))
        room.clock.us += DAY_US
    return room


def pruned(room: Any, keep: int, held: tuple[str, ...] = ()) -> int:
    return room.journal.prune(keep, held).result(10)


def kept(room: Any, space: str = "default", **filters: Any) -> list[int]:
    request = ListDreamsRequest(space=space, page_size=100, **filters)
    ids = [dream.id for dream in room.journal.list_dreams(request).dreams]
    changes = dict(room.rows("SELECT hex(uid), id FROM changes"))
    return [changes[one.replace("-", "").upper()] for one in ids]


def test_no_record_goes_while_its_night_can_be_taken_back(nights: Any) -> None:
    assert pruned(nights, 1) == 0
    assert kept(nights) == nights.nights[::-1]
    assert nights.revert(nights.nights[-1])
    assert pruned(nights, 1) == 0


def test_what_is_beyond_the_last_ones_goes_once_it_cannot_be_taken_back(nights: Any) -> None:
    nights.clock.us += 26 * DAY_US
    # Two of them are older than 30 days.
    nights.purge(30)
    assert pruned(nights, 1) == 2
    assert kept(nights) == nights.nights[:1:-1]
    nights.clock.us += 30 * DAY_US
    nights.purge(30)
    assert pruned(nights, 3) == 1
    assert kept(nights) == nights.nights[:2:-1]
    assert pruned(nights, 3) == 0
    # What it made is still known as its, and nobody misses the record.
    assert nights.rows("SELECT count(*) FROM changes") == [(6,)]
    nights.in_order()
    assert nights.rows("SELECT actor, detail FROM audit WHERE action = 'prune' ORDER BY id")[0][0] == "service"


def test_nights_that_came_to_nothing_go_too_and_those_that_go_on_stay(nights: Any) -> None:
    for state in (Dream.STATE_FAILED, Dream.STATE_SKIPPED):
        change, dream = nights.begin_dream()
        dream.state = state
        nights.journal.drop_dream(change, dream).result(10)
    suspended, dream = nights.begin_dream()
    dream.state = Dream.STATE_SUSPENDED
    nights.journal.record(suspended, dream).result(10)
    assert pruned(nights, 2) == 1
    assert len(kept(nights)) == 8
    later, dream = nights.begin_dream()
    dream.state = Dream.STATE_FAILED
    nights.journal.drop_dream(later, dream).result(10)
    assert pruned(nights, 1) == 1
    assert suspended in kept(nights)
    nights.in_order()


def test_each_space_keeps_its_own_and_one_on_hold_keeps_all(nights: Any, part: Any) -> None:
    nights.remember(Memory(key="c", text="c"), space="other")
    for _ in range(3):
        change, dream = nights.begin_dream("other")
        dream.state = Dream.STATE_SKIPPED
        nights.journal.drop_dream(change, dream).result(10)
    nights.clock.us += 40 * DAY_US
    nights.purge(30)
    assert pruned(nights, 2, ("default",)) == 1
    assert (len(kept(nights)), len(kept(nights, "other"))) == (6, 2)
    assert pruned(nights, 2) == 4


def test_a_record_that_went_is_not_found(nights: Any) -> None:
    (first,) = nights.journal.list_dreams(ListDreamsRequest(space="default", page_size=6)).dreams[5:]
    nights.clock.us += 40 * DAY_US
    nights.purge(30)
    pruned(nights, 1)
    with pytest.raises(NotFound):
        nights.journal.dream("default", first.id)


def test_dreams_are_listed_by_when_they_began(nights: Any) -> None:
    begun = [row[0] for row in nights.rows("SELECT now_us FROM dreams ORDER BY change")]
    assert kept(nights, after=to_timestamp(begun[2])) == nights.nights[:1:-1]
    assert kept(nights, before=to_timestamp(begun[2])) == nights.nights[1::-1]
    assert kept(nights, after=to_timestamp(begun[1]), before=to_timestamp(begun[4])) == nights.nights[3:0:-1]
    assert kept(nights, after=to_timestamp(begun[5] + 1)) == []


def deleted(room: Any, dream_id: str, request_id: str = "") -> Dream:
    request = DeleteDreamRequest(space="default", dream_id=dream_id, request_id=request_id)
    return room.journal.delete_dream(request).result(10).dream


def test_a_record_can_be_deleted_once_nothing_needs_it(nights: Any) -> None:
    oldest = nights.journal.list_dreams(ListDreamsRequest(space="default", page_size=100)).dreams[-1].id
    assert nights.revert(nights.nights[-1])
    newest = nights.journal.list_dreams(ListDreamsRequest(space="default", page_size=1)).dreams[0].id
    for needed in (oldest, newest):
        with pytest.raises(DreamKept, match="is kept"):
            deleted(nights, needed)
    nights.clock.us += 40 * DAY_US
    nights.purge(30)
    before = nights.digest()
    assert deleted(nights, oldest, "again").id == oldest
    assert deleted(nights, oldest, "again").id == oldest
    with pytest.raises(NotFound):
        deleted(nights, oldest)
    assert kept(nights) == nights.nights[:0:-1]
    assert nights.digest() == before
    nights.in_order()
    nights.reopen()
    assert kept(nights) == nights.nights[:0:-1]


def test_what_never_changed_anything_can_be_deleted_at_once(nights: Any) -> None:
    change, dream = nights.begin_dream()
    with pytest.raises(DreamKept):
        deleted(nights, dream.id)
    dream.state = Dream.STATE_DISCARDED
    nights.journal.drop_dream(change, dream).result(10)
    assert deleted(nights, dream.id).state == Dream.STATE_DISCARDED
    assert kept(nights) == nights.nights[::-1]
    nights.in_order()


def test_a_page_goes_on_for_the_same_times_only(nights: Any) -> None:
    after = to_timestamp(nights.rows("SELECT min(now_us) FROM dreams")[0][0])
    first = ListDreamsRequest(space="default", page_size=4, after=after)
    token = nights.journal.list_dreams(first).next_page_token
    rest = nights.journal.list_dreams(ListDreamsRequest(space="default", page_size=4, page_token=token, after=after))
    assert (len(rest.dreams), rest.next_page_token) == (2, "")
    with pytest.raises(InvalidFields, match="other filters"):
        nights.journal.list_dreams(ListDreamsRequest(space="default", page_size=4, page_token=token))
