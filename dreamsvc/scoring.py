"""How the parts of a score are scaled and put together, for queries and for the probes that stand in for them.

    score = minmax(dense) + lexical_weight minmax(BM25) + alias + walk_weight PPR / max(PPR)

numpy only. n: rows. k: peers of a row at most.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.walk import Adjacency, walk

type Scores = NDArray[np.float32]

# Restart mass: softmax over the best base scores.
WALK_SEEDS = 20
WALK_TEMPERATURE = 0.1
# Facets with the best words whose containers are looked into, wherever their centroids lie.
FACETS_BY_WORDS = 64


class Ways(NamedTuple):
    """Edges as a walk reads them."""

    adjacency: Adjacency
    weights: NDArray[np.float32]  # [e]
    alive: NDArray[np.bool_]  # [e]


class Peers(NamedTuple):
    """What rows are linked to, of which their expanded vectors are made: v' = v + sum of share x peer's v."""

    rows: NDArray[np.int32]  # [n, k], -1 for none
    shares: NDArray[np.float32]  # [n, k], 0 where there is none
    lengths: NDArray[np.float32]  # [n], |v'|; 1 where there is none


def expanded(cosines: Scores, peers: Peers) -> Scores:
    """The better of a row's cosine and that of its expanded vector, [n]; cosines: [n], 0 where nothing is known.

    peers may be longer than n; a peer beyond n does not count.
    """
    n = len(cosines)
    # All rows at once: choosing those that are linked costs more than it saves. A place beyond the end is 0, and -1,
    # which is read as row 0, has no share.
    near = np.append(cosines, np.float32(0)).take(peers.rows[:n], mode="clip")
    moved = np.einsum("nk,nk->n", near, peers.shares[:n])
    moved += cosines
    moved /= peers.lengths[:n]
    np.maximum(moved, cosines, out=moved)
    moved[cosines == 0] = 0
    return moved


def minmax(scores: NDArray[np.float32], among: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Scores scaled to 0..1 over some rows; all zero where they do not differ."""
    if not among.any():
        return np.zeros_like(scores)
    low = scores.min(where=among, initial=np.inf)
    high = scores.max(where=among, initial=-np.inf)
    if not high > low:
        return np.where(among & (scores > 0), np.float32(1), np.float32(0))
    return np.clip((scores - low) / (high - low), 0, 1).astype(np.float32)


def dense(cosines: Scores, embedded: NDArray[np.bool_], words: Scores, lexical_weight: float) -> Scores:
    """Cosines scaled to 0..1 over the rows that have a vector, [n].

    words: share of the words, [n], in [0, lexical_weight]. What has no vector (yet) is not the farthest of all, its
    words are what is known of it: they stand for its cosine too. Else what was just remembered could not be found
    before it is embedded. Where nothing has one there is nothing to keep up with: all zero, whether the last vector has
    gone or there never was one.
    """
    if not embedded.any():
        return np.zeros_like(words)
    scaled = minmax(cosines, embedded)
    stands_in = words / np.float32(lexical_weight) if lexical_weight > 0 else np.zeros_like(words)
    return np.where(embedded, scaled, stands_in)


def walked(base: Scores, ways: Ways, *, weight: float, restart: float) -> Scores:
    """Share of the walk from the best rows, [n], scaled to 0..weight; base: [n], 0 for what must not be begun at."""
    out = np.zeros(len(base), np.float32)
    seeds = best(base, WALK_SEEDS)
    seeds = seeds[base[seeds] > 0]
    if not seeds.size:
        return out
    mass = np.exp((base[seeds] - base[seeds].max()) / WALK_TEMPERATURE)
    reached = walk(ways.adjacency, ways.weights, ways.alive, seeds, mass, len(base), restart=restart)
    if reached.rows.size:
        out[reached.rows] = weight * reached.scores / reached.scores.max()
    return out


def best(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Rows of the highest scores, the highest first; equal scores in the order of their rows."""
    rows = np.flatnonzero(scores >= _least_of_best(scores, count))
    return rows[np.argsort(-scores[rows], kind="stable")[:count]]


def _least_of_best(scores: NDArray[np.float32], count: int) -> np.float32:
    """A score that at least `count` rows have, and not many more: that many blocks of rows have a row that has it.

    A twentieth of the time of a partition of all.
    """
    block = min(len(scores) // (8 * count), 256)
    if block < 2:
        return np.float32(-np.inf)
    tops = scores[: len(scores) // block * block].reshape(-1, block).max(axis=1)
    return np.partition(tops, len(tops) - count)[len(tops) - count]
