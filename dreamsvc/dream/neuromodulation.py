"""How strongly each phase is tuned: the levels that a space's sleep goes through (REQ-DREAM-020).

Each phase has its levels, and from one phase to the next they move smoothly over `transition_ms`. ENTERING_NREM goes
towards those of NREM already, TRANSITIONING towards those of REM. Waking does not wait for anything: from WAKING on
they are at the baseline. Nothing here knows the time; it is passed in.
"""

from typing import NamedTuple

from dreamsvc.dream.state import AWAKE, ENTERING_NREM, NREM, REM, TRANSITIONING, WAKING
from dreamsvc.v1.config_pb2 import NeuromodulationConfig
from dreamsvc.v1.dream_pb2 import Neuromodulators, SleepState

type _State = SleepState.ValueType

_NREM_LIKE = (ENTERING_NREM, NREM)
_REM_LIKE = (TRANSITIONING, REM)
_AWAKE_LIKE = (WAKING, AWAKE)


class Course(NamedTuple):
    """From where to where the levels go, and since when."""

    begun: Neuromodulators
    state: SleepState.ValueType
    since_s: float


def settled(state: _State, config: NeuromodulationConfig) -> Neuromodulators:
    """The levels that a state comes to."""
    if state in _NREM_LIKE:
        return Neuromodulators(
            dopamine=config.dopamine_nrem,
            serotonin=config.serotonin_nrem,
            acetylcholine=config.acetylcholine_nrem,
        )
    if state in _REM_LIKE:
        return Neuromodulators(
            dopamine=config.dopamine_rem,
            serotonin=config.serotonin_rem,
            acetylcholine=config.acetylcholine_rem,
        )
    return Neuromodulators(dopamine=config.baseline, serotonin=config.baseline, acetylcholine=config.baseline)


def levels(begun: Neuromodulators, state: _State, elapsed_ms: float, config: NeuromodulationConfig) -> Neuromodulators:
    """The levels of a state so long after they began to move towards it from where they were."""
    aim = settled(state, config)
    if state in _AWAKE_LIKE or elapsed_ms >= config.transition_ms:
        return aim
    share = _smooth(elapsed_ms / config.transition_ms)
    return Neuromodulators(
        dopamine=begun.dopamine + (aim.dopamine - begun.dopamine) * share,
        serotonin=begun.serotonin + (aim.serotonin - begun.serotonin) * share,
        acetylcholine=begun.acetylcholine + (aim.acetylcholine - begun.acetylcholine) * share,
    )


def awake(config: NeuromodulationConfig) -> Course:
    """The course before a sleep: at the baseline, and since always."""
    return Course(settled(AWAKE, config), AWAKE, 0.0)


def moved(course: Course, state: _State, now_s: float, config: NeuromodulationConfig) -> Course:
    """The course after the sleep has moved to a state; one that has the same aim goes on where the levels are."""
    if settled(state, config) == settled(course.state, config):
        return course._replace(state=state)
    return Course(levels_at(course, now_s, config), state, now_s)


def levels_at(course: Course, now_s: float, config: NeuromodulationConfig) -> Neuromodulators:
    """The levels at an instant, of the same clock as the course's."""
    return levels(course.begun, course.state, max(0.0, now_s - course.since_s) * 1000, config)


def _smooth(share: float) -> float:
    """0..1 as 0..1, level at both ends."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)
