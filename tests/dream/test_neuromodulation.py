"""The levels of the phases: where they come to, how they get there, and that waking waits for nothing."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsvc import config
from dreamsvc.dream import neuromodulation
from dreamsvc.dream.neuromodulation import Course, levels, levels_at, moved, settled
from dreamsvc.dream.state import AWAKE, ENTERING_NREM, NEXT, NREM, REM, TRANSITIONING, WAKING
from dreamsvc.v1.config_pb2 import NeuromodulationConfig
from dreamsvc.v1.dream_pb2 import Neuromodulators

BASELINE, IN_NREM, IN_REM = (0.5, 0.5, 0.5), (0.3, 0.4, 0.2), (0.7, 0.8, 0.6)


@pytest.fixture(scope="module")
def levels_config() -> NeuromodulationConfig:
    return config.defaults().dream.neuromodulation


def plain(found: Neuromodulators) -> tuple[float, float, float]:
    return found.dopamine, found.serotonin, found.acetylcholine


def test_each_state_comes_to_the_levels_of_its_phase(levels_config: NeuromodulationConfig) -> None:
    wanted = {
        AWAKE: BASELINE,
        ENTERING_NREM: IN_NREM,
        NREM: IN_NREM,
        TRANSITIONING: IN_REM,
        REM: IN_REM,
        WAKING: BASELINE,
    }
    assert {state: plain(settled(state, levels_config)) for state in wanted} == wanted
    assert NEXT.keys() == wanted.keys()


@pytest.mark.parametrize(
    ("elapsed_ms", "share"), [(0, 0), (125, 0.15625), (250, 0.5), (375, 0.84375), (500, 1), (9_999, 1)]
)
def test_between_the_phases_they_move_smoothly(
    levels_config: NeuromodulationConfig, elapsed_ms: float, share: float
) -> None:
    found = levels(settled(NREM, levels_config), TRANSITIONING, elapsed_ms, levels_config)
    between = [low + (high - low) * share for low, high in zip(IN_NREM, IN_REM, strict=True)]
    assert plain(found) == pytest.approx(between)


@pytest.mark.parametrize("state", [WAKING, AWAKE])
def test_waking_resets_them_at_once(levels_config: NeuromodulationConfig, state: int) -> None:
    assert plain(levels(settled(REM, levels_config), state, 0, levels_config)) == BASELINE


def test_without_a_transition_they_jump() -> None:
    sudden = config.defaults().dream.neuromodulation
    sudden.transition_ms = 0
    assert plain(levels(settled(NREM, sudden), REM, 0, sudden)) == IN_REM


def test_a_state_of_the_same_phase_does_not_begin_the_way_anew(levels_config: NeuromodulationConfig) -> None:
    course = moved(neuromodulation.awake(levels_config), ENTERING_NREM, 10.0, levels_config)
    half = plain(levels_at(course, 10.25, levels_config))
    assert half == pytest.approx((0.4, 0.45, 0.35))
    course = moved(course, NREM, 10.25, levels_config)
    assert plain(levels_at(course, 10.25, levels_config)) == half
    assert plain(levels_at(course, 10.5, levels_config)) == IN_NREM


def test_a_phase_that_is_left_half_way_goes_on_from_there(levels_config: NeuromodulationConfig) -> None:
    course = moved(neuromodulation.awake(levels_config), ENTERING_NREM, 10.0, levels_config)
    course = moved(course, NREM, 10.1, levels_config)
    course = moved(course, TRANSITIONING, 10.25, levels_config)
    assert plain(levels_at(course, 10.25, levels_config)) == pytest.approx((0.4, 0.45, 0.35))
    assert plain(levels_at(course, 10.75, levels_config)) == IN_REM


shares = st.floats(0, 1)


@given(begun=st.tuples(shares, shares, shares), times=st.lists(st.floats(0, 1000), min_size=2, max_size=20))
def test_no_level_turns_back_or_leaves_what_lies_between(begun: tuple[float, float, float], times: list[float]) -> None:
    settings = config.defaults().dream.neuromodulation
    course = Course(Neuromodulators(dopamine=begun[0], serotonin=begun[1], acetylcholine=begun[2]), REM, 0.0)
    found = [plain(levels_at(course, ms / 1000, settings)) for ms in sorted(times)]
    for level, (start, aim) in enumerate(zip(begun, IN_REM, strict=True)):
        left = [abs(aim - now[level]) for now in found]
        assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(left))
        assert all(min(start, aim) - 1e-12 <= now[level] <= max(start, aim) + 1e-12 for now in found)
