"""The client's calls around a dream that asks first, and what the client's README shows."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from dreamsvc_client import Client, DreamsvcCallError, calls
from google.rpc import code_pb2

from dreamsvc.v1.admin_pb2 import ConfigOrigin, ConfigReload
from dreamsvc.v1.admin_service_pb2 import GetConfigResponse, ReloadConfigResponse
from dreamsvc.v1.blind_spot_pb2 import BlindSpot, BlindSpotEnd
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import (
    AcceptBlindSpotResponse,
    ApproveDreamResponse,
    Closing,
    DeleteDreamResponse,
    DiffDreamResponse,
    DreamEdit,
    EstimateDreamResponse,
    GenerateResponse,
    GenerateStep,
    GetDreamMapResponse,
    GetDreamResponse,
    ListBlindSpotsResponse,
    MapMemory,
    RejectDreamResponse,
    RevertResponse,
    SimulateResponse,
    StreamStatusResponse,
    TriggerResponse,
)
from dreamsvc.v1.memory_pb2 import Hit, Memory
from dreamsvc.v1.memory_service_pb2 import (
    FeedbackResponse,
    GetStatsResponse,
    RecallResponse,
    RememberResponse,
    UnmergeResponse,
)
from tests.clients.fake_server import FakeServer, Refusal, unavailable

README = (Path(__file__).resolve().parent.parent.parent / "clients/python/README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def at_once(failures: int) -> float:
    return 0.0


@pytest.fixture
def caller(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(calls, "backoff_s", at_once)
    with Client(fake.target, timeout_s=5) as made:
        yield made


def page(*names: str, then: str = "") -> DiffDreamResponse:
    return DiffDreamResponse(edits=[DreamEdit(what=name) for name in names], next_page_token=then)


def test_a_diff_comes_page_after_page(fake: FakeServer, caller: Client) -> None:
    fake.answers("DiffDream", page("a", "b", then="2"), unavailable(), page(then="3"), page("c"))
    edits = caller.diff("d", "s", with_weights=True, page_size=2)
    assert fake.sent("DiffDream") == []
    assert [edit.what for edit in edits] == ["a", "b", "c"]
    sent = fake.sent("DiffDream")
    assert [request.page_token for request in sent] == ["", "2", "2", "3"]
    assert {(request.dream_id, request.space, request.with_weights, request.page_size) for request in sent} == {
        ("d", "s", True, 2)
    }


def test_a_diff_that_stops_early_asks_for_no_page_more(fake: FakeServer, caller: Client) -> None:
    fake.answers("DiffDream", page("a", then="2"))
    assert next(caller.diff("d")).what == "a"
    (sent,) = fake.sent("DiffDream")
    assert not sent.HasField("page_size")
    assert not sent.with_weights


def test_a_diff_of_an_unknown_dream_is_an_error(fake: FakeServer, caller: Client) -> None:
    fake.answers("DiffDream", Refusal(code_pb2.NOT_FOUND, "no such dream", "ERROR_REASON_NOT_FOUND"))
    with pytest.raises(DreamsvcCallError, match="NOT_FOUND"):
        list(caller.diff("d"))


def test_a_decision_is_tried_again_with_the_same_request_id(fake: FakeServer, caller: Client) -> None:
    fake.answers("ApproveDream", unavailable(), ApproveDreamResponse(dream=Dream(state=Dream.STATE_SUCCEEDED)))
    fake.answers("RejectDream", unavailable(), RejectDreamResponse(dream=Dream(state=Dream.STATE_DISCARDED)))
    fake.answers("DeleteDream", unavailable(), DeleteDreamResponse(dream=Dream(state=Dream.STATE_FAILED)))
    fake.answers("Unmerge", unavailable(), UnmergeResponse(ids=["a"]))
    assert caller.approve("d", "s").dream.state == Dream.STATE_SUCCEEDED
    assert caller.reject("d", "s").dream.state == Dream.STATE_DISCARDED
    assert caller.delete_dream("d", "s").dream.state == Dream.STATE_FAILED
    assert list(caller.unmerge("m", "s").ids) == ["a"]
    for name, field in (*((f"{verb}Dream", "dream_id") for verb in ("Approve", "Reject", "Delete")), ("Unmerge", "id")):
        first, second = fake.sent(name)
        assert first.request_id == second.request_id != ""
        assert (getattr(first, field), first.space) == ("m" if field == "id" else "d", "s")


def test_a_request_id_of_ones_own_is_sent(fake: FakeServer, caller: Client) -> None:
    fake.answers("ApproveDream", ApproveDreamResponse())
    fake.answers("RejectDream", RejectDreamResponse())
    fake.answers("Unmerge", UnmergeResponse())
    caller.approve("d", request_id="r")
    caller.reject("d", request_id="r")
    caller.unmerge("m", request_id="r")
    assert [request.request_id for _, request in fake.requests] == ["r", "r", "r"]


@pytest.mark.parametrize("propose", [None, True, False])
def test_a_trigger_leaves_proposing_to_the_server_unless_told(
    fake: FakeServer, caller: Client, propose: bool | None
) -> None:
    fake.answers("Trigger", TriggerResponse())
    caller.trigger(propose=propose)
    (sent,) = fake.sent("Trigger")
    assert sent.HasField("propose") == (propose is not None)
    assert sent.propose == bool(propose)


def test_a_recall_sends_its_budget_and_asks_for_similar_ones(fake: FakeServer, caller: Client) -> None:
    fake.answers("Recall", RecallResponse(tokens=480, similar_left_out=2))
    caller.recall("x")
    answer = caller.recall("x", token_budget=512, with_similar=True)
    assert (answer.tokens, answer.similar_left_out) == (480, 2)
    sent = [(request.token_budget, request.with_similar) for request in fake.sent("Recall")]
    assert sent == [(0, False), (512, True)]


def test_what_the_readme_shows_runs(fake: FakeServer, caller: Client, capsys: pytest.CaptureFixture[str]) -> None:
    dream = Dream(id="d1", state=Dream.STATE_PROPOSED)
    dream.report.compression.nodes_before = 9
    closing = StreamStatusResponse(closing=Closing(reason=Closing.REASON_DREAM_ENDED))
    fake.answers("Remember", RememberResponse(ids=["m"]))
    hits = [Hit(memory=Memory(id="m", text="the VPN"), superseded_by="m2")]
    fake.answers("Recall", RecallResponse(hits=hits, tokens=2, recall_id="r7"))
    fake.answers("Trigger", TriggerResponse(dream=dream))
    fake.streams("StreamStatus", [closing])
    fake.answers("EstimateDream", EstimateDreamResponse(seconds=3, basis="the last dream"))
    fake.answers("DiffDream", DiffDreamResponse(edits=[DreamEdit(kind=DreamEdit.KIND_MERGED, what="Deploys")]))
    fake.answers("ApproveDream", ApproveDreamResponse())
    fake.answers("GetDream", GetDreamResponse(dream=dream))
    fake.answers("Revert", RevertResponse(edges_removed=4))
    fake.answers("Unmerge", UnmergeResponse(ids=["m"]))
    spot = BlindSpot(id="b1", source=BlindSpotEnd(text="one end"), target=BlindSpotEnd(text="the other"))
    fake.answers("ListBlindSpots", ListBlindSpotsResponse(blind_spots=[spot]))
    fake.answers("AcceptBlindSpot", AcceptBlindSpotResponse(blind_spot=spot))
    place = MapMemory(text="a place", point=[0.5, 0.25])
    fake.answers("GetDreamMap", GetDreamMapResponse(memories=[place]))
    fake.answers("Feedback", FeedbackResponse(pairs=1))
    fake.answers("Generate", GenerateResponse(output="What came by.", trace=[GenerateStep(how="HAS edge")]))
    fake.answers("Simulate", SimulateResponse(dreams=[dream], edits_total=12))
    origin = ConfigOrigin(path="dream.nrem.batch_size", name="/etc/dreamsvc.toml")
    fake.answers("GetConfig", GetConfigResponse(file="/etc/dreamsvc.toml", origins=[origin]))
    waits = ConfigReload(ok=True, changed=["recall.similar"], needs_restart=["server.port"])
    fake.answers("ReloadConfig", ReloadConfigResponse(reload=waits))
    fake.answers("GetStats", GetStatsResponse(memories=12_345))
    assert len(BLOCKS) == 9
    # The first opens a client of its own and closes it; the rest goes on with one that is open.
    names: dict[str, object] = {}
    for block in BLOCKS:
        names["client"] = caller
        # There is no TLS here.
        here = block.replace("127.0.0.1:50051", fake.target).replace(', tls_ca=Path("ca.pem")', "")
        exec(here.replace("memory.example.com:50051", fake.target), names)
    printed = capsys.readouterr().out
    assert "(out of date) the VPN" in printed
    assert "at most 3 s and 0 memories changed, by the last dream" in printed
    assert "KIND_MERGED Deploys" in printed
    assert "9 -> 0 memories" in printed
    assert "one end and the other" in printed
    assert "a place [0.5, 0.25]" in printed
    assert "pairs that the next dream strengthens: 1" in printed
    assert "What came by. ['HAS edge']" in printed
    assert "12 edits; [0]" in printed
    assert "12345" in printed
    assert "/etc/dreamsvc.toml 0 [('dream.nrem.batch_size', '/etc/dreamsvc.toml')]" in printed
    assert "would change ['recall.similar'] and leave for a restart ['server.port']" in printed
    assert (fake.sent("Feedback")[0].recall_id, list(fake.sent("Feedback")[0].used_ids)) == ("r7", ["m"])
    assert [edge.type for edge in fake.sent("Simulate")[0].edges] == ["NEEDS"]
    assert {name for name, _ in fake.requests} == fake.scripts.keys()
