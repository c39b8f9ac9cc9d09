"""Nights taken back over a real channel: the memory as it was, or a refusal that says what is in the way."""

import pytest

from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import RevertRequest, RevertResponse
from dreamsvc.v1.memory_pb2 import Edge
from dreamsvc.v1.memory_service_pb2 import RememberRequest
from tests.integration.served import Calls, InThread, refused

pytestmark = pytest.mark.integration


def revert(calls: Calls, space: str, dream_id: str, request_id: str = "") -> RevertResponse:
    request = RevertRequest(space=space, dream_id=dream_id, request_id=request_id)
    return calls.call(calls.dreams.Revert, request)


def test_a_dream_that_is_taken_back_leaves_the_digest_it_found(converging: InThread, quick_space: str) -> None:
    calls = converging.calls
    _, before = calls.export(quick_space)
    dream = calls.trigger(quick_space, blocking=True, seed=1).dream
    assert calls.export(quick_space)[1] != before
    answer = revert(calls, quick_space, dream.id)
    assert calls.export(quick_space)[1] == before
    report = dream.report
    assert answer.edges_restored == report.edges_strengthened + report.edges_weakened + report.edges_pruned > 0
    assert answer.memories_restored == report.nodes_replayed
    assert calls.dream(quick_space, dream.id).state == Dream.STATE_REVERTED
    assert calls.status(quick_space).last_dream.state == Dream.STATE_REVERTED


def test_nights_are_taken_back_in_the_order_of_the_last_first(converging: InThread, quick_space: str) -> None:
    calls = converging.calls
    digests = [calls.export(quick_space)[1]]
    nights: list[str] = []
    for seed in (1, 2):
        nights.append(calls.trigger(quick_space, blocking=True, seed=seed).dream.id)
        digests.append(calls.export(quick_space)[1])
    error = refused(lambda: revert(calls, quick_space, nights[0]))
    assert error.reason == "CHANGED_LATER"
    assert "changed again later" in error.message
    assert calls.export(quick_space)[1] == digests[2]
    revert(calls, quick_space, nights[1])
    assert calls.export(quick_space)[1] == digests[1]
    revert(calls, quick_space, nights[0])
    assert calls.export(quick_space)[1] == digests[0]


def test_what_a_user_changed_since_is_in_the_way_and_is_named(converging: InThread, quick_space: str) -> None:
    calls = converging.calls
    dream = calls.trigger(quick_space, blocking=True, seed=1).dream
    (source, target), _ = next(iter(calls.weights(quick_space).items()))
    changed = RememberRequest(space=quick_space, edges=[Edge(source=source, target=target, weight=0.123)])
    calls.call(calls.memories.Remember, changed)
    _, before = calls.export(quick_space)
    error = refused(lambda: revert(calls, quick_space, dream.id))
    assert error.reason == "CHANGED_LATER"
    assert f"{source} -> {target}" in error.message
    assert calls.export(quick_space)[1] == before


def test_a_night_is_taken_back_once_and_a_repeated_request_gets_its_answer(
    converging: InThread, quick_space: str
) -> None:
    calls = converging.calls
    dream = calls.trigger(quick_space, blocking=True, seed=1).dream
    revert(calls, quick_space, dream.id, "once")
    _, after = calls.export(quick_space)
    assert revert(calls, quick_space, dream.id, "once").dream.id == dream.id
    assert refused(lambda: revert(calls, quick_space, dream.id)).reason == "CHANGED_LATER"
    assert calls.export(quick_space)[1] == after


def test_only_what_was_applied_can_be_taken_back(calls: Calls, space: str) -> None:
    dream = calls.trigger(space).dream
    assert refused(lambda: revert(calls, space, dream.id)).reason == "DREAM_IN_PROGRESS"
    calls.abort(space)
    assert refused(lambda: revert(calls, space, dream.id)).reason in ("CHANGED_LATER", "DREAM_IN_PROGRESS")
    assert refused(lambda: revert(calls, space, "01890a5d-ac96-774b-bcce-b302099a8057")).reason == "NOT_FOUND"
