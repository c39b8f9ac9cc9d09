"""How a dream's time grows with the memory (REQ-DREAM-027)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsvc import config
from dreamsvc.dream.scaling import NREM, REM, factor, scaled


@pytest.mark.parametrize(
    ("memories", "nrem", "rem"),
    [(10, 3, 2), (100_000, 3, 2), (1_000_000, 5, 3), (10_000_000, 10, 5), (316_228, 4, 2.5), (100_000_000, 15, 7)],
)
def test_durations_are_those_of_the_table_and_grow_evenly_in_between(memories: int, nrem: float, rem: float) -> None:
    made = scaled(config.defaults().dream, memories)
    assert made.nrem.duration_minutes == pytest.approx(nrem, rel=1e-5)
    assert made.rem.duration_minutes == pytest.approx(rem, rel=1e-5)


@given(st.integers(1, 10**9), st.floats(1, 10))
def test_more_memories_never_take_less_and_always_less_than_as_many_times_more(memories: int, times: float) -> None:
    for known in (NREM, REM):
        small, large = factor(memories, known), factor(int(memories * times), known)
        assert small <= large <= small * times + 1e-9


def test_it_is_a_switch_and_all_else_stays() -> None:
    settings = config.defaults().dream
    assert scaled(settings, 100_000) is settings
    made = scaled(settings, 10**6)
    made.nrem.duration_minutes, made.rem.duration_minutes = 3, 2
    assert made == settings
    settings.scale_durations = False
    assert scaled(settings, 10**7) is settings
