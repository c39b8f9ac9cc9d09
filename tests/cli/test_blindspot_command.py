"""`dreamsvc blindspot` and `dreamsvc feedback`."""

import json

import pytest

from dreamsvc.__main__ import main
from dreamsvc.cli.command import EXIT_OK, EXIT_USAGE
from dreamsvc.v1.blind_spot_pb2 import BlindSpot, BlindSpotEnd
from dreamsvc.v1.dream_service_pb2 import AcceptBlindSpotResponse, ListBlindSpotsResponse, RejectBlindSpotResponse
from dreamsvc.v1.memory_service_pb2 import FeedbackResponse
from tests.clients.fake_server import FakeServer

SPOT = BlindSpot(
    id="b1",
    state=BlindSpot.STATE_VERIFIED,
    source=BlindSpotEnd(id="m1", text="The harbour\x1b[31m"),
    target=BlindSpotEnd(id="m2", key="violin"),
    semantic_distance=0.714,
    causal_overlap=0.42,
    confidence=0.5,
    evidence=["both name “Ada”", "told on one day"],
    meeting=[BlindSpotEnd(text="Ada")],
)


def test_finds_are_listed_with_what_speaks_for_them(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("ListBlindSpots", ListBlindSpotsResponse(blind_spots=[SPOT], next_page_token="t"))
    options = ["--state", "verified", "--state", "accepted", "--dream", "d1", "--limit", "5", "--space", "notes"]
    assert main(["blindspot", "list", *options, "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out == (
        "b1  verified, confidence 0.50\n"
        "    “The harbour[31m”  [m1]\n"
        "    violin\n"
        "    far in meaning by 0.71, reach in common 0.42\n"
        "    both name “Ada”; told on one day\n"
        # A token holds for the same space and filters only.
        "more: dreamsvc blindspot --state verified --state accepted --dream d1 --space notes --page-token t\n"
    )
    (sent,) = fake.sent("ListBlindSpots")
    assert list(sent.states) == [BlindSpot.STATE_VERIFIED, BlindSpot.STATE_ACCEPTED]
    assert (sent.dream_id, sent.page_size, sent.space) == ("d1", 5, "notes")


def test_a_find_of_which_nothing_is_said_any_more_has_no_empty_line(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers(
        "ListBlindSpots", ListBlindSpotsResponse(blind_spots=[BlindSpot(id="b1", state=BlindSpot.STATE_REJECTED)])
    )
    assert main(["blindspot", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out.splitlines()[-1] == "    far in meaning by 0.00, reach in common 0.00"


def test_listing_is_what_it_does_unless_told(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("ListBlindSpots", ListBlindSpotsResponse())
    assert main(["blindspot", "--server", fake.target]) == EXIT_OK
    assert main(["blindspot", "--json", "--server", fake.target]) == EXIT_OK
    first, second = capsys.readouterr().out.splitlines()
    assert first == "no blind spots"
    assert json.loads(second)["blind_spots"] == []


@pytest.mark.parametrize(
    ("action", "method", "told"),
    [
        ("accept", "AcceptBlindSpot", "is accepted: its edge is trusted from now on"),
        ("reject", "RejectBlindSpot", "is rejected: it has no edge, and no dream proposes it again"),
    ],
)
def test_a_find_is_decided_by_its_id(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], action: str, method: str, told: str
) -> None:
    fake.answers("AcceptBlindSpot", AcceptBlindSpotResponse(blind_spot=SPOT))
    fake.answers("RejectBlindSpot", RejectBlindSpotResponse(blind_spot=SPOT))
    assert main(["blindspot", action, "b1", "--space", "notes", "--server", fake.target]) == EXIT_OK
    assert main(["blindspot", action, "b1", "--json", "--server", fake.target]) == EXIT_OK
    *shown, last = capsys.readouterr().out.splitlines()
    assert shown == ["“The harbour[31m”  [m1]", "violin", told]
    assert json.loads(last)["blind_spot"]["id"] == "b1"
    assert [(name, request.id) for name, request in fake.requests] == [(method, "b1")] * 2
    assert fake.requests[0][1].space == "notes"


@pytest.mark.parametrize("arguments", [["accept"], ["reject"], ["list", "b1"], ["keep", "b1"]])
def test_what_makes_no_sense_is_wrong_usage(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["blindspot", *arguments, "--server", fake.target]) == EXIT_USAGE
    assert capsys.readouterr().err
    assert not fake.requests


def test_feedback_names_a_recall_and_what_helped(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Feedback", FeedbackResponse(pairs=3), FeedbackResponse(pairs=1), FeedbackResponse())
    assert main(["feedback", "r1", "a", "b", "c", "--space", "notes", "--server", fake.target]) == EXIT_OK
    assert main(["feedback", "r1", "a", "b", "--server", fake.target]) == EXIT_OK
    assert main(["feedback", "r1", "a", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out.splitlines() == [
        "3 pairs are noted; the next dream strengthens what joins them",
        "1 pair is noted; the next dream strengthens what joins them",
        "one memory makes no pair; nothing is noted",
    ]
    sent = fake.sent("Feedback")[0]
    assert (sent.recall_id, list(sent.used_ids), sent.space) == ("r1", ["a", "b", "c"], "notes")
    assert sent.request_id
