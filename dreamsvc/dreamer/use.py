"""What was of use together is wired together: the edges learn from recalls as they do from the replay (REQ-DREAM-006).

A recall returns memories together, and a caller may confirm that some of them were of use: these are the co-activations
of a day. Where an edge joins such a pair it grows; a pair that was confirmed and that no edge joins gets one. Facets
count as themselves. n: rows. e: edges. p: pairs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc import snapshot_files
from dreamsvc.dreamer.memories import Memories

USED_TOGETHER = "USED_TOGETHER"
# What a recall that nobody confirmed is worth.
RECALLED = 0.1
# Most co-activations that an edge learns from in a dream.
MOST = 10.0
FIRST_WEIGHT, FURTHER_WEIGHT, MOST_WEIGHT = 0.3, 0.1, 0.7
CONFIDENCE = 0.7
MOST_EDGES = 1_000


class Together(NamedTuple):
    """Pairs of memories that were of use together since the last dream."""

    rows: NDArray[np.int32]  # [p, 2]
    recalled: NDArray[np.int32]  # [p], how often recalls returned both
    confirmed: NDArray[np.int32]  # [p], how often a caller said that both were of use


class UsedPair(NamedTuple):
    """An edge to be made between two memories that were of use together."""

    source: int  # row
    target: int  # row
    weight: float
    confidence: float
    evidence: str


def together_in(arrays: snapshot_files.Arrays) -> Together:
    """The pairs of a dream's snapshot."""
    return Together(
        np.asarray(arrays["together"], np.int32),
        np.asarray(arrays["together_recalled"], np.int32),
        np.asarray(arrays["together_confirmed"], np.int32),
    )


def co_activated(
    together: Together,
    src: NDArray[np.int32],
    dst: NDArray[np.int32],
    weights: NDArray[np.float32],
    living: NDArray[np.bool_],
    *,
    learning_rate: float,
    weight_cap: float,
) -> NDArray[np.float32]:
    """The weights of the edges, [e], after each living one has learned from the pair that it joins in either direction.

    An edge grows by learning_rate x (confirmed + 0.1 x recalled), by at most 10 x learning_rate in a dream, and never
    beyond the cap; none shrinks. src, dst: [e], rows. weights: [e], left as they are. living: [e].
    """
    after = weights.copy()
    times = together.confirmed + RECALLED * together.recalled
    edges, pairs = _joined(together.rows, src, dst, living)
    gain = learning_rate * np.minimum(times[pairs], MOST)
    grown = np.minimum(weights[edges] + gain, weight_cap).astype(np.float32)
    after[edges] = np.maximum(grown, weights[edges])
    return after


def used_pairs(memories: Memories) -> list[UsedPair]:
    """Edges for pairs that callers confirmed and that no living edge joins, at most 1,000, the strongest first.

    None for a pair of which an end cannot be found any more, or that somebody rejected as a find.
    """
    rows = np.asarray(memories.together, np.int32).reshape(-1, 2)
    linked, rejected = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    linked[_joined(rows, memories.src, memories.dst, memories.edges_alive)[1]] = True
    said_no = np.asarray(memories.rejected, np.int32).reshape(-1, 2)
    rejected[_joined(rows, said_no[:, 0], said_no[:, 1], np.ones(len(said_no), np.bool_))[1]] = True
    wanted = (memories.confirmed > 0) & ~linked & ~rejected & (rows[:, 0] != rows[:, 1])
    found = np.flatnonzero(wanted & memories.findable[rows].all(axis=1))
    order = np.lexsort((rows[found, 1], rows[found, 0], -memories.recalled[found], -memories.confirmed[found]))
    return [_pair(memories, int(place)) for place in found[order][:MOST_EDGES]]


def _pair(memories: Memories, place: int) -> UsedPair:
    source, target = memories.together[place].tolist()
    times = int(memories.confirmed[place])
    return UsedPair(
        source=source,
        target=target,
        weight=min(MOST_WEIGHT, FIRST_WEIGHT + FURTHER_WEIGHT * (times - 1)),
        confidence=CONFIDENCE,
        evidence=f"used together {times:,} times" if times > 1 else "used together once",
    )


def _joined(
    rows: NDArray[np.int32], src: NDArray[np.int32], dst: NDArray[np.int32], living: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Living edges that join the two rows of a pair, in either direction, and the place of that pair."""
    if not len(rows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # Few memories were of use today, so most edges are ruled out by a look at their ends.
    used = np.zeros(int(max(rows.max(), src.max(initial=0), dst.max(initial=0))) + 1, np.bool_)
    used[rows] = True
    edges = np.flatnonzero(living & used[src] & used[dst])
    keys = _keys(rows[:, 0], rows[:, 1])
    order = np.argsort(keys, kind="stable")
    wanted = _keys(src[edges], dst[edges])
    place = np.minimum(np.searchsorted(keys[order], wanted), len(rows) - 1)
    hit = keys[order][place] == wanted
    return edges[hit], order[place[hit]]


def _keys(left: NDArray[np.int32], right: NDArray[np.int32]) -> NDArray[np.int64]:
    """One number for each pair, the same in both directions."""
    low, high = np.minimum(left, right).astype(np.int64), np.maximum(left, right).astype(np.int64)
    return low << 32 | high
