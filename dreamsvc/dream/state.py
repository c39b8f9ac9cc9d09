"""The states of REQ-DREAM-001 as a table: what may follow what. Anything else is a mistake in this program."""

from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import SleepState

AWAKE = dream_pb2.SLEEP_STATE_AWAKE
ENTERING_NREM = dream_pb2.SLEEP_STATE_ENTERING_NREM
NREM = dream_pb2.SLEEP_STATE_NREM
TRANSITIONING = dream_pb2.SLEEP_STATE_TRANSITIONING
REM = dream_pb2.SLEEP_STATE_REM
WAKING = dream_pb2.SLEEP_STATE_WAKING

NEXT: dict[SleepState.ValueType, frozenset[SleepState.ValueType]] = {
    AWAKE: frozenset({ENTERING_NREM, TRANSITIONING}),
    ENTERING_NREM: frozenset({NREM, WAKING}),
    NREM: frozenset({TRANSITIONING, WAKING}),
    TRANSITIONING: frozenset({REM, WAKING}),
    REM: frozenset({WAKING}),
    WAKING: frozenset({AWAKE}),
}


class ImpossibleTransition(Exception):
    """A state was to follow one that it cannot follow."""


def follow(current: SleepState.ValueType, wanted: SleepState.ValueType) -> SleepState.ValueType:
    """The wanted state; raises ImpossibleTransition."""
    if wanted not in NEXT[current]:
        raise ImpossibleTransition(f"{SleepState.Name(current)} -> {SleepState.Name(wanted)}")
    return wanted
