"""What a memory makes one think of: along its edges, near it in meaning, or by the words it shares.

Reads one view of the live graph and nothing else. Rows are those of the view.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc import scoring
from dreamsvc.memory.graph import GraphView

# Edges read of one memory: the strongest of those that it had when the adjacency was built, the last of those since.
EDGES = 256
# Slots compared with a memory: all of a small space, an even part of a large one. 1 ms of 384 numbers.
COMPARED = 8_192
NEAREST = 32
# Characters of a text whose words are looked for.
WORDS_OF = 400


class Edge(NamedTuple):
    """The strongest way to a neighbour."""

    strength: float  # weight x confidence, 0 to 1
    type: int  # row id of the edge's type


def edges_of(view: GraphView, row: int) -> dict[int, Edge]:
    """By neighbour, whichever way round the edge leads; of several the strongest, only living ones."""
    adjacency = view.adjacency
    neighbour, edge = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if row < adjacency.indptr.size - 1:
        first, end = adjacency.indptr[row : row + 2].tolist()
        entries = slice(first, min(end, first + EDGES))
        neighbour, edge = adjacency.neighbour[entries].astype(np.int64), adjacency.edge[entries].astype(np.int64)
    if added := adjacency.overlay.get(row, ())[-EDGES:]:
        pairs = np.array(added, np.int64)
        neighbour, edge = np.concatenate([neighbour, pairs[:, 0]]), np.concatenate([edge, pairs[:, 1]])
    # The overlay may be ahead of the columns of this view.
    held = (neighbour < view.n) & (edge < view.m)
    neighbour, edge = neighbour[held], edge[held]
    strength = np.minimum(view.weights[edge].astype(np.float64) * view.confidences[edge], 1)
    found: dict[int, Edge] = {}
    for place in np.flatnonzero(view.edges_alive[edge] & (strength > 0)).tolist():
        other, value = int(neighbour[place]), float(strength[place])
        if other not in found or value > found[other].strength:
            found[other] = Edge(value, int(view.types[edge[place]]))
    return found


def part_of(view: GraphView, seed: int, most: int = COMPARED) -> slice:
    """At most so many slots of a space, spread evenly over all; the seed chooses which."""
    stride = -(-view.dense.size // most) or 1
    return slice(seed % stride, view.dense.size, stride)


def nearest(view: GraphView, vector: NDArray[np.float32], part: slice) -> list[int]:
    """Rows near a vector, [D], among some slots; of a container all that it holds."""
    if not vector.any():
        return []
    dense = view.dense
    holders = dense.holders[part]
    cosines = np.where(holders >= 0, dense.units[part] @ vector, np.float32(-1))
    found: list[int] = []
    for place in scoring.best(cosines, NEAREST).tolist():
        holder = int(holders[place])
        if holder >= 0:
            block = dense.blocks.get(holder)
            found += [holder] if block is None else block.rows.tolist()
    return found


def typical_cosine(view: GraphView, vector: NDArray[np.float32], part: slice) -> float:
    """Mean cosine, 0 to 1, of a unit vector, [D], and the memories in some slots; negative ones count as 0."""
    dense = view.dense
    held = dense.holders[part] >= 0
    if not held.any():
        return 0.0
    cosines = (dense.units[part] @ vector) * dense.lengths[part]
    return float(np.clip(cosines[held], 0, 1).mean())


def alike_in_words(view: GraphView, row: int, text: str) -> dict[int, float]:
    """Rows that share words with the text of a row: BM25 as a share of what the row itself has, at most 1."""
    scores = view.lexical.scores(text[:WORDS_OF], view.n)
    own = float(scores[row])
    if own <= 0:
        return {}
    best: list[int] = scoring.best(scores, NEAREST + 1).tolist()
    return {other: min(1.0, float(scores[other]) / own) for other in best if other != row and scores[other] > 0}
