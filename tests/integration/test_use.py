"""Use over a real channel: recalls have ids, what they return together is counted, and callers say what helped."""

from typing import Any

import grpc
import pytest

from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import FeedbackRequest, ForgetRequest, GetStatsRequest, RememberRequest
from tests.integration.served import Calls, InThread, refused

pytestmark = pytest.mark.integration


@pytest.fixture
def town(filling: InThread, space: str) -> str:
    """A space with a few memories of its own words."""
    memories = [Memory(key=key, text=f"the harbour of {key}") for key in ("oslo", "bergen", "stavanger")]
    filling.calls.remember(space, RememberRequest(memories=memories, edges=[Edge(source="oslo", target="bergen")]))
    return space


def feedback(calls: Calls, space: str, recall_id: str, *used: str, request_id: str = "") -> int:
    request = FeedbackRequest(space=space, recall_id=recall_id, used_ids=used, request_id=request_id)
    return calls.call(calls.memories.Feedback, request).pairs


def pairs(service: InThread, space: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Recalled and confirmed, by the keys of both, once all that is waiting is written."""
    service.run(service.app._memory.flush_touches())
    query = (
        "SELECT s.key, t.key, c.recalled, c.confirmed FROM coactivations c JOIN nodes s ON s.id = c.source"
        " JOIN nodes t ON t.id = c.target JOIN spaces p ON p.id = c.space WHERE p.name = ?"
    )
    found: list[Any] = service.app.store.database.read(lambda c: c.execute(query, (space,)).fetchall())
    return {(row[0], row[1]): (row[2], row[3]) for row in found}


def test_what_recalls_return_together_is_counted_and_what_helped_is_confirmed(filling: InThread, town: str) -> None:
    calls = filling.calls
    answers = [calls.recall(town, "harbour of oslo and bergen") for _ in range(2)]
    assert answers[0].recall_id < answers[1].recall_id
    assert {hit.memory.key for hit in answers[0].hits} == {"oslo", "bergen", "stavanger"}
    assert feedback(calls, town, answers[0].recall_id, "bergen", "oslo") == 1
    assert feedback(calls, town, answers[1].recall_id, "bergen") == 0
    assert pairs(filling, town) == {
        ("oslo", "bergen"): (2, 1),
        ("oslo", "stavanger"): (2, 0),
        ("bergen", "stavanger"): (2, 0),
    }
    assert calls.memories.GetStats(GetStatsRequest(space=town)).coactivations == 3


def test_feedback_is_refused_for_what_was_not_returned_and_for_what_is_not_known(filling: InThread, town: str) -> None:
    calls = filling.calls
    recall_id = calls.recall(town, "harbour of oslo").recall_id
    wrong = refused(lambda: feedback(calls, town, recall_id, "oslo", "k7"))
    assert (wrong.code, [path for path, _ in wrong.violations]) == (grpc.StatusCode.INVALID_ARGUMENT, ["used_ids[1]"])
    for space, name in ((town, "0" * 36), ("default", recall_id)):
        missing = refused(lambda space=space, name=name: feedback(calls, space, name, "oslo"))
        assert missing.code is grpc.StatusCode.NOT_FOUND
        assert "recall again" in missing.message
    assert pairs(filling, town)["oslo", "bergen"] == (1, 0)


def test_a_memory_that_is_forgotten_before_its_recall_is_noted_holds_nothing_up(filling: InThread, town: str) -> None:
    filling.calls.recall(town, "harbour")
    filling.calls.call(filling.calls.memories.Forget, ForgetRequest(space=town, ids=["oslo"]))
    assert pairs(filling, town)["bergen", "stavanger"] == (1, 0)
