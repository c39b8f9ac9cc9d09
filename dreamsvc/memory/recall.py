"""Finds memories: words and vectors, then a walk over the edges from the best of both.

score = minmax(dense) + lexical_weight minmax(BM25) + alias + walk_weight PPR / max(PPR)

Everything is read from one view of the live graph, so a recall sees one state, waits for no
change and no dream, and can run in any thread.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.memory.graph import NEVER, GraphView
from dreamsvc.v1.config_pb2 import RecallConfig
from dreamsvc.walk import walk

# Restart mass: softmax over the best base scores.
WALK_SEEDS = 20
WALK_TEMPERATURE = 0.1


class Query(NamedTuple):
    text: str
    vector: NDArray[np.float32] | None  # [D], any length but zero
    limit: int
    kinds: Sequence[str]
    # Event time, else create time, in [after, before); microseconds, None for no bound.
    after_us: int | None
    before_us: int | None


class Found(NamedTuple):
    """One result: the row id of its node, and the parts its score is the sum of."""

    node: int
    score: float
    lexical: float
    dense: float
    walk: float
    alias: float


def find(view: GraphView, query: Query, config: RecallConfig) -> list[Found]:
    """The best memories for a query, the best first; only ones with some evidence are returned."""
    n = view.n
    if n == 0:
        return []
    alive = view.alive[:n]
    dense = _dense(view, query)
    lexical = np.zeros(n, np.float32)
    alias = np.zeros(n, np.float32)
    if query.text:
        lexical = config.lexical_weight * _minmax(view.lexical.scores(query.text, n), alive)
        hits = view.lexical.aliases(query.text, n)
        alias[hits.rows] = hits.bonus
    base = dense + lexical + alias
    base[~alive] = 0
    walked = _walk(view, base, config) if config.walk_weight > 0 and view.m else np.zeros(n, np.float32)
    total = base + walked
    allowed = alive & (total > 0) & _filter(view, query)
    rows = _best(np.where(allowed, total, -1), query.limit)
    return [
        Found(
            int(view.node_ids[row]),
            float(total[row]),
            float(lexical[row]),
            float(dense[row]),
            float(walked[row]),
            float(alias[row]),
        )
        for row in rows.tolist()
        if allowed[row]
    ]


def _dense(view: GraphView, query: Query) -> NDArray[np.float32]:
    n = view.n
    if query.vector is None or view.vectors.shape[1] != len(query.vector):
        return np.zeros(n, np.float32)
    # The squares of what a float32 holds overflow it.
    wide = query.vector.astype(np.float64)
    unit = (wide / np.linalg.norm(wide)).astype(np.float32)
    embedded = view.embedded[:n] & view.alive[:n]
    scaled = _minmax(view.vectors[:n] @ unit, embedded)
    # A memory without a vector is not the farthest one: nothing is known of it.
    scaled[~embedded] = 0
    return scaled


def _minmax(scores: NDArray[np.float32], among: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Scores scaled to 0..1 over some rows; all zero where they do not differ."""
    if not among.any():
        return np.zeros_like(scores)
    low = scores.min(where=among, initial=np.inf)
    high = scores.max(where=among, initial=-np.inf)
    if not high > low:
        return np.where(among & (scores > 0), np.float32(1), np.float32(0))
    return np.clip((scores - low) / (high - low), 0, 1).astype(np.float32)


def _walk(view: GraphView, base: NDArray[np.float32], config: RecallConfig) -> NDArray[np.float32]:
    """Share of the walk for every row, scaled to 0..walk_weight."""
    out = np.zeros(view.n, np.float32)
    seeds = _best(base, WALK_SEEDS)
    seeds = seeds[base[seeds] > 0]
    if not seeds.size:
        return out
    mass = np.exp((base[seeds] - base[seeds].max()) / WALK_TEMPERATURE)
    reached = walk(
        view.adjacency,
        view.weights,
        view.edges_alive,
        seeds,
        mass,
        view.n,
        restart=config.walk_restart,
    )
    if reached.rows.size:
        out[reached.rows] = config.walk_weight * reached.scores / reached.scores.max()
    return out


def _filter(view: GraphView, query: Query) -> NDArray[np.bool_]:
    allowed = np.ones(view.n, np.bool_)
    if query.kinds:
        wanted = [view.kind_names[kind] for kind in query.kinds if kind in view.kind_names]
        allowed &= np.isin(view.kinds[: view.n], wanted)
    if query.after_us is not None or query.before_us is not None:
        event = view.event_us[: view.n]
        when = np.where(event == NEVER, view.created_us[: view.n], event)
        if query.after_us is not None:
            allowed &= when >= query.after_us
        if query.before_us is not None:
            allowed &= when < query.before_us
    return allowed


def _best(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Rows of the highest scores, the highest first; equal scores in the order of their rows."""
    count = min(count, len(scores))
    rows = np.argpartition(-scores, count - 1)[:count]
    return rows[np.lexsort((rows, -scores[rows]))]
