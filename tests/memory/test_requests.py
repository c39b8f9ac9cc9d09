"""The same request again gets the first answer and changes nothing."""

from typing import Any

import pytest

from dreamsvc.errors import InvalidFields, RequestIdConflict
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest


def test_a_repeated_request_gets_the_first_answer_and_changes_nothing(room: Any) -> None:
    first = room.remember(Memory(text="once"), request_id="r")
    before = room.digest(), room.rows("SELECT * FROM audit"), room.store.graph("default").view.n
    room.clock.us += 1_000_000
    assert room.remember(Memory(text="once"), request_id="r") == first
    assert (room.digest(), room.rows("SELECT * FROM audit"), room.store.graph("default").view.n) == before


def test_it_does_so_after_a_restart_too(room: Any) -> None:
    first = room.remember(Memory(text="once"), request_id="r")
    room.reopen()
    assert room.remember(Memory(text="once"), request_id="r") == first
    assert room.store.stats("default").memories == 1


def test_the_same_id_with_another_body_is_a_conflict(room: Any) -> None:
    room.remember(Memory(text="once"), request_id="r")
    with pytest.raises(RequestIdConflict, match='"r"'):
        room.remember(Memory(text="twice"), request_id="r")
    assert room.store.stats("default").memories == 1


def test_ids_of_other_methods_and_spaces_do_not_meet(room: Any) -> None:
    room.remember(Memory(key="a", text="1"), request_id="r")
    assert room.forget("a", request_id="r").forgotten == 1
    assert room.restore("a", request_id="r").restored == 1
    assert room.remember(Memory(key="a", text="1"), space="other", request_id="r").memories_created == 1


def test_a_repeated_forget_does_not_forget_what_came_back(room: Any) -> None:
    room.remember(Memory(key="a", text="1"))
    room.forget("a", request_id="f")
    room.restore("a")
    assert room.forget("a", request_id="f").forgotten == 1
    assert room.store.stats("default").memories == 1


def test_a_refused_request_may_come_again(room: Any) -> None:
    wrong = [Edge(source="a", target="b")]
    with pytest.raises(InvalidFields):
        room.remember(edges=wrong, request_id="r")
    room.remember(Memory(key="a", text="1"), Memory(key="b", text="2"))
    assert room.remember(edges=wrong, request_id="r").edges_created == 1


def test_without_an_id_every_request_counts(room: Any) -> None:
    room.remember(Memory(text="x"))
    room.remember(Memory(text="x"))
    assert room.store.stats("default").memories == 2


def test_an_id_is_forgotten_after_its_time(room: Any) -> None:
    room.remember(Memory(text="x"), request_id="r")
    room.clock.us += 24 * 3600 * 1_000_000 - 1
    room.remember(Memory(text="x"), request_id="r")
    assert room.store.stats("default").memories == 1
    room.clock.us += 1
    room.remember(Memory(text="x"), request_id="r")
    assert room.store.stats("default").memories == 2


def test_a_retry_that_waits_beside_its_first_attempt_gets_the_same_answer(room: Any, held: Any) -> None:
    with held(room):
        request = RememberRequest(
            space="default", request_id="r", memories=[Memory(text="x", kind="note", importance=0)]
        )
        one, two = room.store.remember(request), room.store.remember(request)
    assert one.result(10) == two.result(10)
    assert room.store.stats("default").memories == 1
    assert room.store.graph("default").view.n == 1
