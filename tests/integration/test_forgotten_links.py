"""Forgetting a memory that a night linked does not stand in the way of taking that night back."""

import pytest

from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import RevertRequest
from dreamsvc.v1.memory_service_pb2 import ForgetRequest, RestoreRequest
from tests.integration.served import CONVERGE, InThread
from tests.integration.villages import NAMES, contents, villages

pytestmark = pytest.mark.integration


def linked(lines: list[dict[str, object]]) -> int:
    return sum(line.get("edge_type") == "MENTIONS" for line in lines)


@pytest.mark.parametrize("restored_first", [True, False])
def test_a_night_is_taken_back_although_a_memory_that_it_linked_was_forgotten(restored_first: bool) -> None:
    with InThread(":memory:", CONVERGE) as service:
        calls = service.calls
        calls.remember("default", villages())
        dream = calls.trigger("default", phase=dream_pb2.DREAM_PHASE_REM, blocking=True, seed=3, budget_s=120).dream
        assert linked(contents(calls, "default")) >= 55
        calls.call(calls.memories.Forget, ForgetRequest(ids=[NAMES[4]]))
        if restored_first:
            calls.call(calls.memories.Restore, RestoreRequest(ids=[NAMES[4]]))
            assert linked(contents(calls, "default")) >= 55
        reverted = calls.call(calls.dreams.Revert, RevertRequest(dream_id=dream.id)).dream
        assert reverted.state == Dream.STATE_REVERTED
        if not restored_first:
            calls.call(calls.memories.Restore, RestoreRequest(ids=[NAMES[4]]))
        after = contents(calls, "default")
        assert linked(after) == 0
        assert sum("text" in line for line in after) == len(NAMES)
