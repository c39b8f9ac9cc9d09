"""How far what a memory is linked to reaches, and where the reach of two memories meets (REQ-DREAM-012).

s_a(m) is the product of the strengths (weight x confidence) along the best path from a to m. Looked for is outwards
from a, over edges in both directions, hop by hop: the FRONTIER strongest rows are followed, over the STRONGEST edges of
each. What two memories share is

    overlap = 1 - prod over m of (1 - s_a(m) s_b(m))

over the rows m, other than the two, that both reach within half the depth: a path over m is that long at most.

n: rows. k: entries of the adjacency, each edge from both ends. S: rows that are started from. p: pairs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.memories import NOT_WALKED, Memories
from dreamsvc.dreamer.merging import Edges, Search, Step, joined

FRONTIER = 64
STRONGEST = 16
# Entries of the adjacency looked at in one step.
SORTED = 16_384
# Rows started from in one step: at most TOGETHER x FRONTIER x STRONGEST paths, about 5 ms.
TOGETHER = 4
# Meeting rows that a find names.
MEETINGS = 5


class Table(NamedTuple):
    """What stands at each row: of row i the places indptr[i] to indptr[i + 1]."""

    indptr: NDArray[np.int64]  # [n + 1]
    row: NDArray[np.int64]  # [k]
    strength: NDArray[np.float32]  # [k]


class Walked(NamedTuple):
    """Living edges."""

    edges: Edges
    places: NDArray[np.int64]  # [e], among those of the memories


class Graph(NamedTuple):
    """What is linked to what, both ways."""

    linked: Table  # ascending at each row; strength 0 where the edge is not walked
    keys: NDArray[np.int64]  # [k], here x n + there, ascending
    walked: Table  # of `linked` the strongest at each row, the strongest first

    @property
    def n(self) -> int:
        return len(self.linked.indptr) - 1

    def degrees(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """How many rows each is linked to."""
        return self.linked.indptr[rows + 1] - self.linked.indptr[rows]

    def are_linked(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> NDArray[np.bool_]:
        """[p], whether an edge joins two rows, in either direction."""
        return found_in(self.keys, left.astype(np.int64) * self.n + right)


class Reach(NamedTuple):
    """Rows that some rows reach, themselves left out; of start i the places indptr[i] to indptr[i + 1], ascending."""

    starts: NDArray[np.int64]  # [S], ascending
    indptr: NDArray[np.int64]  # [S + 1]
    row: NDArray[np.int64]
    strength: NDArray[np.float32]  # s of the row, over 0 to 1


class Overlap(NamedTuple):
    """What pairs share."""

    overlap: NDArray[np.float32]  # [p], 0 to 1
    indptr: NDArray[np.int64]  # [p + 1]
    meeting: NDArray[np.int64]  # rows where pair i meets: indptr[i] to indptr[i + 1], the strongest MEETINGS first


def found_in(ascending: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the wanted are among the others."""
    if not len(ascending):
        return np.zeros(len(wanted), np.bool_)
    at = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return ascending[at] == wanted


def spread(indptr: NDArray[np.int64], rows: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For all that stands at some rows: which of `rows` it stands at, and its place."""
    counts = indptr[rows + 1] - indptr[rows]
    owner = np.repeat(np.arange(len(rows)), counts)
    first = np.cumsum(counts) - counts
    return owner, np.arange(len(owner)) - first[owner] + indptr[rows][owner]


def walked_edges(memories: Memories) -> Search[Walked]:
    """The living edges with their strength, 0 for what is not walked."""
    ignored = memories.types_named(NOT_WALKED)
    parts: list[Edges] = []
    places: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    count = len(memories.edge_ids)
    for start in range(0, count, SORTED):
        part = np.arange(start, min(start + SORTED, count))
        src, dst = memories.src[part], memories.dst[part]
        kept = memories.edges_alive[part] & (src != dst) & memories.alive[src] & memories.alive[dst]
        part, src, dst = part[kept], src[kept], dst[kept]
        strength = memories.weights[part] * memories.confidences[part]
        strength[np.isin(memories.types[part], ignored)] = 0
        places.append(part)
        parts.append(Edges(src.astype(np.int64), dst.astype(np.int64), np.clip(strength, 0, 1)))
        yield Step("edges", start, count)
    return Walked(together(parts), np.concatenate(places))


def together(parts: Sequence[Edges]) -> Edges:
    """All edges of some lists."""
    return Edges(
        np.concatenate([np.zeros(0, np.int64), *(part.src for part in parts)]),
        np.concatenate([np.zeros(0, np.int64), *(part.dst for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.weight for part in parts)]),
    )


def graph_of(edges: Edges, n: int) -> Search[Graph]:
    """The graph of some edges; of edges that join the same rows the strengths are added, up to 1."""
    pairs = yield from joined([edges], n)
    keys: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    counts = np.zeros(n, np.int64)
    rows: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    strengths: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
    low = 0
    while low < n:
        high = int(np.searchsorted(pairs.indptr, int(pairs.indptr[low]) + SORTED, side="right")) - 1
        high = min(n, max(low + 1, high), low + SORTED)
        part = slice(int(pairs.indptr[low]), int(pairs.indptr[high]))
        here = np.repeat(np.arange(low, high), np.diff(pairs.indptr[low : high + 1]))
        there = pairs.neighbour[part]
        keys.append(here * n + there)
        strength = np.minimum(pairs.weight[part], 1)
        order = np.lexsort((there, -strength, here))
        here, there, strength = here[order], there[order], strength[order]
        place = np.arange(len(here)) - (pairs.indptr[here] - part.start)
        kept = (place < STRONGEST) & (strength > 0)
        counts[low:high] = np.bincount(here[kept] - low, minlength=high - low)
        rows.append(there[kept])
        strengths.append(strength[kept])
        low = high
        yield Step("edges", low, n)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    linked = Table(pairs.indptr, pairs.neighbour, pairs.weight)
    yield Step("edges", n, n)
    walked = Table(indptr, np.concatenate(rows), np.concatenate(strengths))
    yield Step("edges", n, n)
    return Graph(linked, np.concatenate(keys), walked)


def reach_of(graph: Graph, starts: NDArray[np.integer], hops: int, *, most: int = FRONTIER) -> Search[Reach]:
    """The `most` rows that each of these reaches best in so many hops; starts: [S], ascending, each once."""
    counts: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
    rows: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    strengths: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
    for first in range(0, len(starts), TOGETHER):
        part = starts[first : first + TOGETHER].astype(np.int64)
        start, row, strength = _outwards(graph, part, hops)
        others = row != part[start]
        start, row, strength = start[others], row[others], strength[others]
        kept = np.sort(_strongest(start, row, strength, most))
        counts.append(np.bincount(start[kept], minlength=len(part)))
        rows.append(row[kept])
        strengths.append(strength[kept])
        yield Step("reach", first, len(starts))
    indptr = np.cumsum(np.concatenate(counts))
    return Reach(starts.astype(np.int64), indptr, np.concatenate(rows), np.concatenate(strengths))


def _outwards(
    graph: Graph, starts: NDArray[np.int64], hops: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Start (its place), row and strength of all that is reached, ascending by start and row."""
    n, table = graph.n, graph.walked
    keys = np.arange(len(starts)) * n + starts
    best = np.ones(len(starts), np.float32)
    frontier, strength = keys, best
    for _ in range(hops):
        owner, place = spread(table.indptr, frontier % n)
        reached = frontier[owner] // n * n + table.row[place]
        through = strength[owner] * table.strength[place]
        # Of a row that is reached again only the best path counts, and it is followed only where it became better.
        every, value = np.concatenate([keys, reached]), np.concatenate([best, through])
        fresh = np.arange(len(every)) >= len(keys)
        order = np.lexsort((fresh, -value, every))
        every, value, fresh = every[order], value[order], fresh[order]
        once = np.concatenate([[True], every[1:] != every[:-1]])
        keys, best, fresh = every[once], value[once], fresh[once]
        keys_now, best_now = keys[fresh], best[fresh]
        kept = _strongest(keys_now // n, keys_now % n, best_now, FRONTIER)
        frontier, strength = keys_now[kept], best_now[kept]
    return keys // n, keys % n, best


def _strongest(
    start: NDArray[np.int64], row: NDArray[np.int64], strength: NDArray[np.float32], most: int
) -> NDArray[np.int64]:
    """Places of the `most` strongest of each start; start: ascending."""
    order = np.lexsort((row, -strength, start))
    return order[np.arange(len(order)) - np.searchsorted(start, start) < most]


def overlap_of(reach: Reach, left: NDArray[np.integer], right: NDArray[np.integer], n: int) -> Search[Overlap]:
    """What pairs of rows share, all of which `reach` started from: left, right [p]."""
    shares: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
    counts: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
    meetings: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    step = SORTED // (2 * FRONTIER)
    for first in range(0, len(left), step):
        part = slice(first, first + step)
        ends = left[part], right[part]
        (owner, place), (other, there) = (spread(reach.indptr, np.searchsorted(reach.starts, end)) for end in ends)
        # Both ascend, since pairs and the rows that each reaches do.
        keys, others = owner * n + reach.row[place], other * n + reach.row[there]
        at = np.minimum(np.searchsorted(others, keys), max(0, len(others) - 1))
        met = (others[at] == keys) if len(others) else np.zeros(len(keys), np.bool_)
        pair, row = owner[met], reach.row[place[met]]
        both = reach.strength[place[met]] * reach.strength[there[at[met]]]
        missed = np.bincount(pair, np.log1p(-np.minimum(both.astype(np.float64), 1 - 1e-9)), minlength=len(ends[0]))
        shares.append(np.abs(np.expm1(missed)).astype(np.float32))
        kept = _strongest(pair, row, both, MEETINGS)
        counts.append(np.bincount(pair[kept], minlength=len(ends[0])))
        meetings.append(row[kept])
        yield Step("overlap", first, len(left))
    return Overlap(np.concatenate(shares), np.cumsum(np.concatenate(counts)), np.concatenate(meetings))


def shuffled(edges: Edges, kinds: NDArray[np.integer], *, seed: int) -> Search[Edges]:
    """The same edges with their targets exchanged within each kind [e]: every row keeps its numbers of edges.

    Of many edges those at every k-th place are exchanged with each other. An edge that would end where it begins
    exchanges its target with the edge after it; where that does not help it is left out.
    """
    rng = np.random.default_rng(seed)
    dst = edges.dst.copy()
    for kind in range(int(kinds.max(initial=-1)) + 1):
        every = np.flatnonzero(kinds == kind)
        parts = 1 + len(every) // SORTED
        for part in range(parts):
            places = every[part::parts]
            targets = dst[rng.permutation(places)]
            for at in np.flatnonzero(targets == edges.src[places]).tolist():
                after = (at + 1) % len(places)
                targets[[at, after]] = targets[[after, at]]
            dst[places] = targets
            yield Step("shuffling", part, parts)
    kept = dst != edges.src
    return Edges(edges.src[kept], dst[kept], edges.weight[kept])
