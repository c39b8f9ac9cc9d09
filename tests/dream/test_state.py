"""The table of states (REQ-DREAM-001)."""

import pytest

from dreamsvc.dream.state import AWAKE, NEXT, WAKING, ImpossibleTransition, follow
from dreamsvc.v1.dream_pb2 import SleepState

STATES = [state for state in SleepState.values() if state]


def test_every_state_can_be_reached_and_left_and_leads_back_to_being_awake() -> None:
    assert NEXT.keys() == set(STATES)
    for start in STATES:
        seen, new = {start}, {start}
        while new:
            new = {after for state in new for after in NEXT[state]} - seen
            seen |= new
        assert seen == set(STATES)


@pytest.mark.parametrize("current", STATES)
@pytest.mark.parametrize("wanted", STATES)
def test_only_what_the_table_has_can_follow(current: SleepState.ValueType, wanted: SleepState.ValueType) -> None:
    if wanted in NEXT[current]:
        assert follow(current, wanted) == wanted
    else:
        with pytest.raises(ImpossibleTransition, match="->"):
            follow(current, wanted)


def test_every_state_but_being_awake_can_be_woken_from() -> None:
    assert all(WAKING in NEXT[state] for state in STATES if state not in (AWAKE, WAKING))
    assert NEXT[WAKING] == {AWAKE}
