"""Finds memories: words and vectors, then a walk over the edges from the best of both.

score = minmax(dense) + lexical_weight minmax(BM25) + alias + walk_weight PPR / max(PPR)

Where dreams have linked memories, words count of those that a memory is linked to as well, and the cosine is the
better of its own and of that moved towards theirs.

What lies in containers is found like any other memory: the vectors of those that may matter are
read from their codes. Of what superseded each other the newest fact comes first.

Everything is read from one view of the live graph, so a recall sees one state, waits for no
change and no dream, and can run in any thread.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc import scoring, two_stage
from dreamsvc.memory.graph import NEVER, GraphView
from dreamsvc.v1.config_pb2 import RecallConfig
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_FACET, MEMORY_ROLE_FOLDED

# What is left of the score of a fact that does not hold any more.
SUPERSEDED = 0.5


class Query(NamedTuple):
    text: str
    vector: NDArray[np.float32] | None  # [D], any length but zero
    limit: int
    kinds: Sequence[str]
    # Event time, else create time, in [after, before); microseconds, None for no bound.
    after_us: int | None
    before_us: int | None


class Found(NamedTuple):
    """One result: the row id of its node, and the parts its score is the sum of.

    Of a fact that was superseded the score is half of that sum, and the newest fact has at least the score that its
    forerunners had.
    """

    node: int
    score: float
    lexical: float
    dense: float
    walk: float
    alias: float
    superseded_by: int  # row id of the newest memory that says it anew, 0 for what holds


def find(view: GraphView, query: Query, config: RecallConfig) -> list[Found]:
    """The best memories for a query, the best first; only ones with some evidence are returned."""
    n = view.n
    if n == 0:
        return []
    findable = view.findable()
    lexical = np.zeros(n, np.float32)
    alias = np.zeros(n, np.float32)
    if query.text:
        lexical = scoring.minmax(view.lexical.scores(query.text, n, config.expansion_weight), findable)
        lexical *= config.lexical_weight
        hits = view.lexical.aliases(query.text, n)
        alias[hits.rows] = hits.bonus
    lexical[~findable] = 0
    alias[~findable] = 0
    dense = _dense(view, query, findable, lexical, alias, config)
    base = dense + lexical + alias
    walked = np.zeros(n, np.float32)
    if config.walk_weight > 0 and view.m:
        ways = scoring.Ways(view.adjacency, view.weights, view.edges_alive)
        walked = scoring.walked(base, ways, weight=config.walk_weight, restart=config.walk_restart)
    total = base + walked
    asked = findable & _filter(view, query)
    rows, scores = _ranked(view, np.where(asked & (total > 0), total, np.float32(-1)), asked, query.limit)
    return [
        Found(
            int(view.node_ids[row]),
            score,
            float(lexical[row]),
            float(dense[row]),
            float(walked[row]),
            float(alias[row]),
            int(view.node_ids[newest]) if (newest := _newest(view, row, findable)) != NEVER else 0,
        )
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
    ]


def _dense(
    view: GraphView,
    query: Query,
    findable: NDArray[np.bool_],
    lexical: NDArray[np.float32],
    alias: NDArray[np.float32],
    config: RecallConfig,
) -> NDArray[np.float32]:
    """Cosines scaled to 0..1, [n]; lexical, alias: [n], what each row has by its words and names."""
    n = view.n
    if query.vector is None or view.dense.dimension != len(query.vector):
        return np.zeros(n, np.float32)
    # The squares of what a float32 holds overflow it.
    wide = query.vector.astype(np.float64)
    unit = (wide / np.linalg.norm(wide)).astype(np.float32)
    words = (lexical + alias).astype(np.float32, copy=False)
    said = np.flatnonzero((words > 0) & (view.roles[:n] == MEMORY_ROLE_FACET))
    also = said[scoring.best(words[said], scoring.FACETS_BY_WORDS)] if said.size else said
    cosines = two_stage.score(view.dense, unit, n, opened=config.open_containers, also=also.tolist())
    embedded = cosines.known & findable
    values = cosines.values
    if config.expansion_weight > 0 and (view.peers.rows[:n, 0] != NEVER).any():
        values = scoring.expanded(values, view.peers)
    return scoring.dense(values, embedded, lexical, config.lexical_weight)


def _ranked(
    view: GraphView, total: NDArray[np.float32], asked: NDArray[np.bool_], limit: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows and scores of the best, the best first; total is negative for what must not be returned, and is changed.

    A fact that does not hold any more gives way to the newest one of those `asked` for, [n]: that has its score where
    its own is less, though nothing else speaks for it.
    """
    given_way: set[int] = set()
    while True:
        rows = scoring.best(total, limit)
        rows = rows[total[rows] > 0]
        older = [row for row in rows.tolist() if row in view.superseded_by and row not in given_way]
        if not older:
            return rows, total[rows]
        given_way.update(older)
        newest = {row: heir for row in older if (heir := _newest(view, row, asked)) != NEVER}
        # All halves first: an older one must not inherit what it then loses half of.
        came_with = {row: float(total[row]) for row in newest}
        for row in newest:
            total[row] *= SUPERSEDED
        for row, heir in newest.items():
            total[heir] = max(float(total[heir]), came_with[row])


def _newest(view: GraphView, row: int, among: NDArray[np.bool_]) -> int:
    """The last of the memories that superseded a row one after the other, if any is among some, [n]; else NEVER.

    Facts that superseded each other in a circle all hold.
    """
    newest, at, seen = NEVER, row, {row}
    while (at := view.superseded_by.get(at, NEVER)) != NEVER:
        while at < view.n and view.roles[at] == MEMORY_ROLE_FOLDED and view.merged_into[at] != NEVER and at not in seen:
            seen.add(at)
            at = int(view.merged_into[at])
        if at in seen or at >= view.n:
            return NEVER
        seen.add(at)
        if among[at]:
            newest = at
    return newest


def _filter(view: GraphView, query: Query) -> NDArray[np.bool_]:
    allowed = np.ones(view.n, np.bool_)
    if query.kinds:
        wanted = [view.kind_names[kind] for kind in query.kinds if kind in view.kind_names]
        allowed &= np.isin(view.kinds[: view.n], wanted)
    if query.after_us is not None or query.before_us is not None:
        event = view.event_us[: view.n]
        when = np.where(event == NEVER, view.created_us[: view.n], event)
        if query.after_us is not None:
            # What stands for several was so until the last of them.
            allowed &= np.maximum(when, view.event_end_us[: view.n]) >= query.after_us
        if query.before_us is not None:
            allowed &= when < query.before_us
    return allowed
