"""Brings the activation of the replay to its target, batch by batch (REQ-DREAM-015).

After each batch the tuner looks at what the SRC steps did and moves their rates a little: the sparsity against the
error of the mean activation, the randomness where too few memories were visited, the clustering where too few edges
grew. All that it reads are counts, so it takes the same turn on every device; all that it knows lies in `Tuning`, so a
dream that goes on from its checkpoint tunes as one that was never interrupted.

A dream of few batches would end before it is there. So many as it lacks are rehearsed before its first one: the same
memories wake, the same SRC steps follow, and nothing is learned.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.v1.config_pb2 import SrcConfig, TunerConfig
from dreamsvc.v1.dream_pb2 import TunerDecision, Tuning

# Batches that bring the default sparsity of 0.1 to a mean activation of 5 %, with some to spare.
ENOUGH_BATCHES = 20
# Rehearsals in a row that changed nothing, after which no more are needed.
CALM = 2
TOLERANCE, RELATIVE_TOLERANCE = 0.01, 0.2
STEP = 0.05
# Of the memories that as many candidates would have reached if all were drawn at random, what a batch has to visit.
COVERAGE = 0.5
CONSOLIDATED = 0.5
DECISIONS_KEPT = 20


class Rates(NamedTuple):
    """What the tuner steers; each 0..1, as `kernels.src.src_chunk` explains them."""

    sparsity: float
    randomness: float
    clustering: float


class Observed(NamedTuple):
    """What a batch did."""

    batch: int  # batches replayed, this one included; 0 for a rehearsal
    living: int  # memories
    activation: float  # mean over all of them, 0..1
    candidates: int  # memories that SRC steps tried to wake, repetitions included
    visited: int  # memories that SRC steps woke further, each counted once
    strengthened: int  # edges
    weaker: int  # edges weakened or pruned


def begin(src: SrcConfig, config: TunerConfig) -> Tuning:
    """Where a dream begins: with what is configured."""
    return Tuning(
        target_activation=config.target_activation,
        sparsity=src.sparsity,
        randomness=src.randomness,
        clustering=src.clustering,
    )


def rates_of(tuned: SrcConfig | Tuning) -> Rates:
    """The rates as they are configured or as they are tuned."""
    return Rates(tuned.sparsity, tuned.randomness, tuned.clustering)


def largest_sparsity(src: SrcConfig, config: TunerConfig) -> float:
    """What the sparsity may come to in a dream."""
    return max(src.sparsity, config.max_sparsity) if config.enabled else src.sparsity


def rehearsals(batches: int) -> int:
    """Most rehearsals before the first of so many batches."""
    return max(0, ENOUGH_BATCHES - batches)


def rehearsed(now: Tuning, seen: Observed, config: TunerConfig) -> Tuning:
    """After a rehearsal: the sparsity alone, since nothing was learned and nothing is to be covered."""
    after = _copy(now, seen)
    _tune_sparsity(after, seen, config, ", in a rehearsal before the first batch")
    return after


def tuned(now: Tuning, seen: Observed, config: TunerConfig) -> Tuning:
    """After a batch: each rate a small step further where it has to go, within its bounds."""
    after = _copy(now, seen)
    _tune_sparsity(after, seen, config, "")
    expected = COVERAGE * seen.living * (1 - math.exp(-seen.candidates / max(seen.living, 1)))
    if seen.visited < expected:
        why = f"{seen.visited:,} memories were visited, and {math.ceil(expected):,} expected"
        _raise(after, seen, "randomness", config.max_randomness, why)
    changed = seen.strengthened + seen.weaker
    if changed and seen.strengthened / changed < CONSOLIDATED:
        why = f"{seen.strengthened / changed:.0%} of {changed:,} changed edges grew stronger, fewer than half"
        _raise(after, seen, "clustering", config.max_clustering, why)
    return after


def is_near(activation: float, target: float) -> bool:
    """Whether the activation is as near to its target as it has to be."""
    return abs(activation - target) <= min(TOLERANCE, RELATIVE_TOLERANCE * target)


def count_visited(
    before: NDArray[np.uint8], after: NDArray[np.uint8], replayed: NDArray[np.int32], *, decay_rate: float, steps: int
) -> int:
    """Memories that are more awake after so many SRC steps than decay alone would have left them.

    before, after: [n], activation in 1/255. replayed: rows that were woken in between, and do not count.
    """
    left = np.floor(np.arange(256) * decay_rate**steps) + 1  # one more, since levels are rounded
    raised = after > np.minimum(left, 255).astype(np.uint8)[before]
    raised[replayed] = False
    return int(np.count_nonzero(raised))


def _copy(now: Tuning, seen: Observed) -> Tuning:
    after = Tuning()
    after.CopyFrom(now)
    after.activation = seen.activation
    return after


def _tune_sparsity(now: Tuning, seen: Observed, config: TunerConfig, when: str) -> None:
    if is_near(seen.activation, config.target_activation):
        return
    wanted = now.sparsity - (seen.activation - config.target_activation) * config.adjustment_rate
    bounded = max(min(wanted, config.max_sparsity), config.min_sparsity)
    why = f"mean activation {seen.activation:.1%}, target {config.target_activation:.1%}{when}"
    _change(now, seen, "sparsity", bounded, why)


def _raise(now: Tuning, seen: Observed, parameter: str, most: float, why: str) -> None:
    """One step upwards; what is configured beyond the bound stays where it is."""
    before: float = getattr(now, parameter)
    _change(now, seen, parameter, max(before, min(before + STEP, most)), why)


def _change(now: Tuning, seen: Observed, parameter: str, after: float, why: str) -> None:
    before: float = getattr(now, parameter)
    if after == before:
        return
    setattr(now, parameter, after)
    now.adjustments += 1
    now.decisions.append(TunerDecision(batch=seen.batch, parameter=parameter, before=before, after=after, why=why))
    del now.decisions[:-DECISIONS_KEPT]
