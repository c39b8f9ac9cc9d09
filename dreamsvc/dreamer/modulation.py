"""What the levels of a phase scale (REQ-DREAM-020): at its default a level leaves things as they are configured."""

from functools import cache

from dreamsvc import contract
from dreamsvc.v1.config_pb2 import NeuromodulationConfig


def replay_learning_rate(rate: float, config: NeuromodulationConfig) -> float:
    """The learning rate of the replay, 0..1, in proportion to the dopamine of NREM."""
    return min(1.0, rate * _share("dopamine_nrem", config))


def walk_temperature(temperature: float, config: NeuromodulationConfig) -> float:
    """The temperature of the walks, in proportion to the serotonin of REM."""
    return temperature * _share("serotonin_rem", config)


def most_new_edges(most: int, config: NeuromodulationConfig) -> int:
    """Most novel edges of a night, in proportion to the acetylcholine of REM, rounded to the nearest."""
    return round(most * _share("acetylcholine_rem", config))


def _share(level: str, config: NeuromodulationConfig) -> float:
    """A level in proportion to its default; 1 where it is not set."""
    told = NeuromodulationConfig()
    told.CopyFrom(config)
    contract.fill(told)
    return getattr(told, level) / getattr(_defaults(), level)


@cache
def _defaults() -> NeuromodulationConfig:
    """As the contract has them."""
    levels = NeuromodulationConfig()
    contract.fill(levels)
    return levels
