"""The gate: a night merges only what the self-probe says can be found again afterwards.

Where too much is lost, the clusters that lose most are dropped and it is measured again. Which those are is learnt from
one half of the cues and judged by the other. Dropping the very clusters of the cues that were lost, and asking the same
cues again, would always look well: they are found again, while the clusters that nobody asked about lose as before.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.probes.self_probe import Cues, Reading, measure, retention
from dreamsvc.two_stage import Index
from dreamsvc.v1.config_pb2 import RecallConfig
from dreamsvc.v1.dream_pb2 import Retention

# Measurements in all.
TRIES = 4
# Of all clusters at least so many are dropped at a time, and after the last at least one in ten is left.
LEAST_DROPPED, MOST_DROPPED = 0.05, 0.90
# What is left may be expected to lose so much of the bound; with less room every second try would be in vain.
AIM = 0.8
# What is known of a cluster beforehand counts as much as so many cues about it.
PRIOR_CUES = 4.0
# Clusters a step.
SUMMED = 64

type IndexWithout = Callable[[frozenset[int]], Search[Index]]


class Verdict(NamedTuple):
    """What may be merged, and what it costs."""

    kept: list[int]  # places of the clusters, ascending; empty where merging was refused
    retention: Retention  # of what is kept; where merging was refused, of the last that was tried


def decide(
    memories: Memories,
    clusters: Sequence[NDArray[np.integer]],
    index_without: IndexWithout,
    cues: Cues,
    stands_for: NDArray[np.int32],
    recall: RecallConfig,
    *,
    max_information_loss: float,
) -> Search[Verdict]:
    """Keeps as many clusters as the bound allows, or none.

    clusters: for each the rows of the memories that can be found and that it would hold, disjoint. index_without: the
    index after the night, less what these clusters, by their places, would merge. stands_for: as in `measure`.
    Where there are no cues nothing is known, and nothing merges.
    """
    bound, asked = max_information_loss, cues
    dropped: frozenset[int] = frozenset()
    risks: NDArray[np.float64] | None = None
    left, tried = 1.0, 0
    while True:
        index = yield from index_without(dropped)
        reading = yield from measure(memories, asked, index, stands_for, recall)
        report = yield from retention(asked, reading, max_information_loss=bound)
        report.retries, report.clusters_dropped = tried, len(dropped)
        if report.measured and report.loss_high <= bound:
            return Verdict([place for place in range(len(clusters)) if place not in dropped], report)
        tried += 1
        most = max(1, int(MOST_DROPPED * len(clusters)))
        if not report.measured or tried == TRIES or len(dropped) >= min(most, len(clusters)):
            report.refused, report.clusters_dropped = bool(clusters), len(clusters)
            return Verdict([], report)
        if risks is None:
            cohesion = yield from _cohesion(memories, clusters)
            risks = _risks(clusters, cohesion, cues.at(~cues.judges), Reading(reading.found[~cues.judges]), stands_for)
            asked = cues.at(cues.judges)
        left *= AIM * bound / report.loss_high
        least = len(dropped) + int(np.ceil(LEAST_DROPPED * len(clusters)))
        dropped = _worst(risks, [len(rows) for rows in clusters], left, least=least, most=most)


def _worst(risks: NDArray[np.float64], sizes: Sequence[int], left: float, *, least: int, most: int) -> frozenset[int]:
    """The riskiest clusters, without which a share `left` of what all may lose is left; so many at least and most."""
    order = np.argsort(-risks, kind="stable")
    lost: NDArray[np.float64] = np.cumsum((risks * np.array(sizes))[order])
    enough = int(np.searchsorted(lost, (1 - left) * float(lost[-1]))) + 1
    chosen: list[int] = order[: min(most, max(least, enough))].tolist()
    return frozenset(chosen)


def _cohesion(memories: Memories, clusters: Sequence[NDArray[np.integer]]) -> Search[NDArray[np.float64]]:
    """The mean cosine of a cluster's memories and their mean, for each cluster; 1 for one memory."""
    out = np.ones(len(clusters))
    for place, rows in enumerate(clusters):
        if len(rows):
            # Of unit vectors it is the length of their mean.
            out[place] = np.linalg.norm(memories.vectors[rows].mean(axis=0))
        if place % SUMMED == 0:
            yield Step("gate", place, len(clusters))
    return out


def _risks(
    clusters: Sequence[NDArray[np.integer]],
    cohesion: NDArray[np.float64],
    cues: Cues,
    reading: Reading,
    stands_for: NDArray[np.int32],
) -> NDArray[np.float64]:
    """What share of what a cluster holds it may be expected to lose.

    The cues tell little of most clusters, so each begins with what its looseness lets expect: a member far from the
    centroid is behind a door that a cue does not open. Cues that were lost or kept in it move it from there.
    """
    owner = np.full(len(stands_for), len(clusters), np.int64)
    for place, rows in enumerate(clusters):
        owner[rows] = place
    held = owner[stands_for[cues.golds]]
    asked = np.bincount(held[cues.found], minlength=len(clusters) + 1)[:-1]
    lost = np.bincount(held[cues.found & ~reading.found], minlength=len(clusters) + 1)[:-1]
    loose = 1 - cohesion
    expected = lost.sum() / max(1, asked.sum()) * loose / max(float(loose.mean()), 1e-12)
    return (lost + PRIOR_CUES * expected) / (asked + PRIOR_CUES)
