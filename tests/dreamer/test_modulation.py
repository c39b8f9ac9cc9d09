"""What the levels of a phase scale."""

import pytest

from dreamsvc import config
from dreamsvc.dreamer.modulation import most_new_edges, replay_learning_rate, walk_temperature
from dreamsvc.v1.config_pb2 import NeuromodulationConfig


@pytest.mark.parametrize("levels", [NeuromodulationConfig(), config.defaults().dream.neuromodulation])
def test_at_the_defaults_and_where_none_is_told_everything_is_as_configured(levels: NeuromodulationConfig) -> None:
    assert replay_learning_rate(0.01, levels) == 0.01
    assert walk_temperature(2.0, levels) == 2.0
    assert most_new_edges(137, levels) == 137


def test_each_level_scales_what_is_its_own() -> None:
    levels = config.defaults().dream.neuromodulation
    levels.dopamine_nrem, levels.serotonin_rem, levels.acetylcholine_rem = 0.6, 0.2, 0.3
    levels.dopamine_rem = levels.serotonin_nrem = levels.acetylcholine_nrem = 0.0
    assert replay_learning_rate(0.01, levels) == pytest.approx(0.02)
    assert walk_temperature(2.0, levels) == pytest.approx(0.5)
    assert most_new_edges(50, levels) == 25


def test_a_level_of_zero_switches_off_and_no_rate_exceeds_one() -> None:
    levels = NeuromodulationConfig(dopamine_nrem=0.0, acetylcholine_rem=0.0)
    assert replay_learning_rate(0.5, levels) == 0.0
    assert most_new_edges(50, levels) == 0
    assert replay_learning_rate(0.9, NeuromodulationConfig(dopamine_nrem=1.0)) == 1.0
