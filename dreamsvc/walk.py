"""Spreading activation at query time: personalised PageRank on the few thousand rows around the seeds.

    p = r s + (1 - r) P^T p        (Page, Brin, Motwani, Winograd 1999; local, as in Andersen, Chung, Lang 2006)

s is the restart mass on at most about 20 seeds, P the row-normalised effective weights, both directions of an edge.
Half of the mass restarts at every step, so an eighth of it ever gets past three hops: iterating there ranks as
iterating over all edges does, in milliseconds instead of seconds.

Edges lie in a CSR base plus an overlay for those added since. One thread adds, any number walk, and nobody locks: the
base is never written to, an overlay entry is replaced as a whole, weights and liveness are read as they are.
"""

from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ITERATIONS = 15  # what is left unsettled after it: 0.5**15 of the mass
HOPS = 3
MAX_ROWS = 4_096
MAX_NEIGHBOURS = 256  # of one row; a hub spreads its mass so thin that the rest would not be seen
MAX_ENTRIES = 16_384  # of the adjacency, read in one walk: what bounds its time where hubs meet hubs
_READ = 2  # entries read of a row, as a multiple of max_neighbours: room for dead edges and for weights that have moved


class Adjacency(NamedTuple):
    """m entries, two for each edge, over the n rows that existed when the base was built."""

    indptr: NDArray[np.int64]  # [n + 1]
    neighbour: NDArray[np.int32]  # [m], the row at the other end
    edge: NDArray[np.int32]  # [m], index into the columns of weights and liveness
    overlay: dict[int, tuple[tuple[int, int], ...]]  # row -> (neighbour, edge) of edges added since, oldest first


class Reached(NamedTuple):
    """Rows the walk came to, int64[k], distinct, in no order; and the share of the mass at each, float64[k], sum 1."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]


class _Graph(NamedTuple):
    adjacency: Adjacency
    weight: NDArray[np.float32]
    edge_alive: NDArray[np.bool_]
    n_rows: int


class _Steps(NamedTuple):
    """e ways out of a list of rows: position in that list, row at the other end, probability; [e] each."""

    origin: NDArray[np.int64]
    neighbour: NDArray[np.int32]
    share: NDArray[np.float64]


def build_adjacency(
    src: NDArray[np.integer], dst: NDArray[np.integer], n_rows: int, weight: NDArray[np.floating] | None = None
) -> Adjacency:
    """The base over edges 0 .. e - 1 (src, dst and weight are [e]) with an empty overlay.

    With weights each row lists its strongest edges first, which is what lets a walk leave a hub's other edges unread.
    An edge from a row to itself is left out: it would only hold mass back. Dead edges may be passed; a walk skips them.
    """
    kept = np.flatnonzero(src != dst)
    if weight is not None:
        kept = kept[np.argsort(-weight[kept], kind="stable")]
    origin = np.concatenate((src[kept], dst[kept]))
    # Both directions of one edge at the same rank, so that ties keep the order of the edges on either side.
    rank = np.tile(np.arange(kept.size), 2)
    order = np.argsort(origin.astype(np.int64) * max(kept.size, 1) + rank)
    indptr = np.zeros(n_rows + 1, np.int64)
    np.cumsum(np.bincount(origin, minlength=n_rows), out=indptr[1:])
    return Adjacency(
        indptr=indptr,
        neighbour=np.concatenate((dst[kept], src[kept]))[order].astype(np.int32),
        edge=kept[rank[order]].astype(np.int32),
        overlay={},
    )


def connect(adjacency: Adjacency, src: int, dst: int, edge: int) -> None:
    """Add one edge to the overlay, after its weight and liveness are set; for the one thread that changes the graph.

    Each call copies the two rows' entries, so build a new base before a single row gathers thousands. Both rows have an
    entry afterwards; that of an edge from a row to itself says nothing, as in the base.
    """
    overlay = adjacency.overlay
    if src == dst:
        overlay.setdefault(src, ())
        return
    overlay[src] = (*overlay.get(src, ()), (dst, edge))
    overlay[dst] = (*overlay.get(dst, ()), (src, edge))


def walk(
    adjacency: Adjacency,
    weight: NDArray[np.float32],
    edge_alive: NDArray[np.bool_],
    seeds: NDArray[np.integer],
    mass: NDArray[np.floating],
    n_rows: int,
    *,
    restart: float = 0.5,
    iterations: int = ITERATIONS,
    hops: int = HOPS,
    max_rows: int = MAX_ROWS,
    max_neighbours: int = MAX_NEIGHBOURS,
    max_entries: int = MAX_ENTRIES,
) -> Reached:
    """Where a walker from the seeds is found, if it goes back to them with probability `restart` at every step.

    weight (effective, float32[e]) and edge_alive (bool[e]) are read live; an edge counts if it is alive and its weight
    above 0. Restart mass float[s] lies on rows int[s] and need not sum to 1; rows from n_rows on are not entered. The
    rows taken in are those nearest in hops, and of the hop that overflows `max_rows` those that most mass enters; their
    edges are read while `max_entries` lasts, first where most mass goes out along each. Mass without a way on (dead
    ends, ways out of the region, edges not read) returns to the restart. Same input, same output, to the last bit.
    """
    usable = (seeds >= 0) & (seeds < n_rows) & (mass > 0)
    graph = _Graph(adjacency, weight, edge_alive, n_rows)
    rows, position = np.unique(seeds[usable].astype(np.int64), return_inverse=True)
    start = _sums(position, mass[usable], rows.size)
    if not rows.size:
        return Reached(rows, start)
    start /= start.sum()

    place = np.zeros(n_rows, np.int32)  # 1 + position of a row in the region, 0 outside
    place[rows] = np.arange(1, rows.size + 1)
    region, steps = [rows], list[_Steps]()
    size, frontier, arrived = rows.size, rows, start
    for hop in range(hops + 1):
        out, read = _steps_from(frontier, arrived, graph, max_neighbours, max_entries)
        max_entries -= read
        steps.append(out._replace(origin=out.origin + (size - frontier.size)))
        if hop == hops or size >= max_rows:
            break
        frontier, arrived = _next_rows(out, arrived, place, max_rows - size)
        if not frontier.size:
            break
        place[frontier] = np.arange(size + 1, size + frontier.size + 1)
        region.append(frontier)
        size += frontier.size
        if max_entries <= 0:
            break

    target = np.concatenate([place[out.neighbour] for out in steps])
    inside = np.flatnonzero(target)
    origin = np.concatenate([out.origin for out in steps])[inside]
    flow = np.concatenate([out.share for out in steps])[inside] * (1 - restart)
    target = target[inside].astype(np.int64) - 1
    seeded = rows.size
    p: NDArray[np.float64] = np.zeros(size)
    p[:seeded] = start
    for _ in range(iterations):
        p = _sums(target, p[origin] * flow, size)
        p[:seeded] += start * (1 - p.sum())
    return Reached(np.concatenate(region), p)


def _steps_from(
    rows: NDArray[np.int64], arrived: NDArray[np.float64], graph: _Graph, max_neighbours: int, max_entries: int
) -> tuple[_Steps, int]:
    """The live ways out of each row, its `max_neighbours` strongest where it has more; and the number of entries read.

    Where all rows together have too many entries, those go first that send most along each; the rest have no way out.
    """
    adjacency, weight, edge_alive, n_rows = graph
    longest = _READ * max_neighbours
    # A row younger than the base has its edges in the overlay alone.
    known = np.minimum(rows, adjacency.indptr.size - 2)
    first = adjacency.indptr[known]
    degree = np.where(rows == known, np.minimum(adjacency.indptr[known + 1] - first, longest), 0)
    read = int(degree.sum())
    pushed = np.arange(rows.size)
    if read > max_entries:
        pushed = np.argsort(-arrived / np.maximum(degree, 1), kind="stable")
        ends = np.cumsum(degree[pushed])
        pushed = np.sort(pushed[: 1 + int(np.searchsorted(ends, max_entries))])
        first, degree = first[pushed], degree[pushed]
        read = int(degree.sum())
    origin = np.repeat(pushed, degree)
    entry = np.arange(read) + np.repeat(first - (np.cumsum(degree) - degree), degree)
    neighbour, edge = adjacency.neighbour[entry], adjacency.edge[entry]
    if adjacency.overlay:
        added = [adjacency.overlay.get(row, ())[-longest:] for row in rows[pushed].tolist()]
        count = np.fromiter(map(len, added), np.int64, len(added))
        pairs = np.fromiter(chain.from_iterable(chain.from_iterable(added)), np.int32).reshape(-1, 2)
        origin = np.concatenate((origin, np.repeat(pushed, count)))
        neighbour, edge = np.concatenate((neighbour, pairs[:, 0])), np.concatenate((edge, pairs[:, 1]))
        read += len(pairs)
    # A reader's columns may be older than the overlay: what they do not hold yet is not there yet.
    held = (neighbour < n_rows) & (edge < min(weight.size, edge_alive.size))
    if not held.all():
        origin, neighbour, edge = origin[held], neighbour[held], edge[held]
    strength = weight[edge]
    live = np.flatnonzero(edge_alive[edge] & (strength > 0))
    origin, neighbour, strength = origin[live], neighbour[live], strength[live]
    ways = np.bincount(origin, minlength=rows.size)
    if ways.max() > max_neighbours:
        # The bits of positive floats sort as the floats do. One key, nearly in order since the base is, so the stable
        # sort takes about one pass.
        order = np.argsort((origin << 32) - strength.view(np.int32), kind="stable")
        rank = np.arange(origin.size) - np.repeat(np.cumsum(ways) - ways, ways)
        strongest = order[rank < max_neighbours]
        origin, neighbour, strength = origin[strongest], neighbour[strongest], strength[strongest]
    total = _sums(origin, strength, rows.size)
    return _Steps(origin, neighbour, strength / total[origin]), read


def _next_rows(
    out: _Steps, arrived: NDArray[np.float64], place: NDArray[np.int32], room: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The rows one step outside the region and the mass that enters each; the `room` richest, in ascending order."""
    outside = np.flatnonzero(place[out.neighbour] == 0)
    rows, position = np.unique(out.neighbour[outside], return_inverse=True)
    entering = _sums(position, arrived[out.origin[outside]] * out.share[outside], rows.size)
    if rows.size > room:
        richest = np.sort(np.argsort(-entering, kind="stable")[:room])
        rows, entering = rows[richest], entering[richest]
    return rows.astype(np.int64), entering


def _sums(place: NDArray[np.integer], amount: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """The amounts added up by place: float64[size]."""
    return np.bincount(place, amount, size).astype(np.float64, copy=False)  # without any place bincount answers ints
