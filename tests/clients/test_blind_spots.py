"""The client's calls about what dreams find, and about what of a recall was of use."""

from collections.abc import Iterator

import pytest
from dreamsvc_client import Client, calls

from dreamsvc.v1.blind_spot_pb2 import BlindSpot
from dreamsvc.v1.dream_service_pb2 import (
    AcceptBlindSpotResponse,
    GetDreamMapResponse,
    ListBlindSpotsResponse,
    RejectBlindSpotResponse,
)
from dreamsvc.v1.memory_service_pb2 import FeedbackResponse
from tests.clients.fake_server import FakeServer, unavailable


@pytest.fixture
def caller(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(calls, "backoff_s", lambda failures: 0.0)
    with Client(fake.target, timeout_s=5) as made:
        yield made


def test_a_page_of_finds_is_asked_for_as_told(fake: FakeServer, caller: Client) -> None:
    fake.answers("ListBlindSpots", ListBlindSpotsResponse(blind_spots=[BlindSpot(id="b")], next_page_token="2"))
    caller.list_blind_spots()
    page = caller.list_blind_spots("s", states=[BlindSpot.STATE_VERIFIED], dream_id="d", page_size=3, page_token="1")
    assert (page.blind_spots[0].id, page.next_page_token) == ("b", "2")
    plain, sent = fake.sent("ListBlindSpots")
    assert not plain.HasField("page_size")
    assert (sent.space, list(sent.states), sent.dream_id) == ("s", [BlindSpot.STATE_VERIFIED], "d")
    assert (sent.page_size, sent.page_token) == (3, "1")


def test_decisions_and_feedback_are_tried_again_with_the_same_request_id(fake: FakeServer, caller: Client) -> None:
    fake.answers("AcceptBlindSpot", unavailable(), AcceptBlindSpotResponse(blind_spot=BlindSpot(id="b")))
    fake.answers("RejectBlindSpot", unavailable(), RejectBlindSpotResponse(blind_spot=BlindSpot(id="b")))
    fake.answers("Feedback", unavailable(), FeedbackResponse(pairs=1))
    assert caller.accept_blind_spot("b", "s").blind_spot.id == "b"
    assert caller.reject_blind_spot("b", "s").blind_spot.id == "b"
    assert caller.feedback("r", ["x", "y"], "s").pairs == 1
    for name in ("AcceptBlindSpot", "RejectBlindSpot", "Feedback"):
        first, second = fake.sent(name)
        assert first == second
        assert first.request_id
        assert first.space == "s"
    assert {request.id for name, request in fake.requests if name != "Feedback"} == {"b"}
    assert (fake.sent("Feedback")[0].recall_id, list(fake.sent("Feedback")[0].used_ids)) == ("r", ["x", "y"])


def test_a_request_id_of_ones_own_is_sent(fake: FakeServer, caller: Client) -> None:
    fake.answers("AcceptBlindSpot", AcceptBlindSpotResponse())
    fake.answers("RejectBlindSpot", RejectBlindSpotResponse())
    fake.answers("Feedback", FeedbackResponse())
    caller.accept_blind_spot("b", request_id="q")
    caller.reject_blind_spot("b", request_id="q")
    caller.feedback("r", ["x"], request_id="q")
    assert [request.request_id for _, request in fake.requests] == ["q", "q", "q"]


def test_a_map_is_of_a_dream_or_of_none(fake: FakeServer, caller: Client) -> None:
    fake.answers("GetDreamMap", GetDreamMapResponse(dimension=2))
    assert caller.dream_map().dimension == 2
    caller.dream_map("d", "s", max_memories=7)
    plain, sent = fake.sent("GetDreamMap")
    assert (plain.dream_id, plain.HasField("max_memories")) == ("", False)
    assert (sent.dream_id, sent.space, sent.max_memories) == ("d", "s", 7)
