"""Intervals of paired measurements by resampling (Efron 1979). u: units that were measured twice."""

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.merging import Search, Step

RESAMPLES = 2_000
BLOCK = 250  # resamples, a millisecond or two


def resampled(
    before: NDArray[np.floating], after: NDArray[np.floating], *, seed: int
) -> Search[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Means before and after, [RESAMPLES] each, of as many units drawn with replacement; both [u], u > 0.

    A resample only needs to know how often each pair of values was drawn, and there are few different ones.
    """
    values, counts = np.unique(np.stack([before, after], axis=1).astype(np.float64), axis=0, return_counts=True)
    rng, units = np.random.default_rng(seed), len(before)
    means = np.empty((RESAMPLES, 2))
    for start in range(0, RESAMPLES, BLOCK):
        drawn = rng.multinomial(units, counts / units, BLOCK)
        means[start : start + BLOCK] = drawn @ values / units
        yield Step("interval", start + BLOCK, RESAMPLES)
    return means[:, 0], means[:, 1]


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of them."""
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
