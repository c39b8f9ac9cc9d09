"""Average-link clusters with a cap, made greedily from the most similar pair downwards (Lance and Williams 1967).

What is clustered are units: single rows, or rows that are together already and stay so. The mean cosine between two
clusters is the dot product of their mean vectors, so a merge costs a few dozen dot products. Looked at are only pairs
of units known to stand beside each other, and what clusters inherit of them. Before two clusters become one, a guard is
asked whether anything speaks against it: only then, so that it may be expensive.

Everything here is a generator that yields after every few milliseconds of work and returns what it found, so that a
dream can be left between two steps. n: rows. U: units. D: numbers in a vector. M: places in the adjacency.
"""

# scipy has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import heapq
import itertools
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from dreamsvc.dreamer.memories import UnitVectors

type Rows = NDArray[np.int64]
type Vectors = NDArray[np.float32]

# Sizes of a chunk: pairs gathered, places sorted, merges, pairs found out of date, groups split.
GATHERED = 2_048
SORTED = 65_536
MERGES = 16
STALE = 2_048
SPLIT = 4_096
# First pairs enter the heap in bands of cosine 1 / 64 wide: sorting them all would be one long step.
BANDS = 64


class Step(NamedTuple):
    """How far it is."""

    stage: str
    done: int
    total: int


class Edges(NamedTuple):
    """Weighted pairs, in either direction or both; the weights of a pair that occurs twice are added."""

    src: Rows  # [E]
    dst: Rows  # [E]
    weight: NDArray[np.float32]  # [E], 0..1

    def at(self, places: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Edges":
        """Those at these places."""
        return Edges(self.src[places], self.dst[places], self.weight[places])


type Search[T] = Generator[Step, None, T]
# Whether two groups of rows must stay apart.
type Guard = Callable[[Rows, Rows], Search[bool]]


def grouped(labels: Rows) -> Search[list[Rows]]:
    """The rows of each label, ascending, in the order of the labels."""
    order = np.argsort(labels, kind="stable")
    if len(order) == 0:
        return []
    yield Step("groups", 0, 1)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(labels[order])) + 1, [len(order)]]).tolist()
    groups: list[Rows] = []
    for start in range(0, len(edges) - 1, SPLIT):
        part = edges[start : start + SPLIT + 1]
        groups += [order[first:last] for first, last in itertools.pairwise(part)]
        yield Step("groups", len(groups), len(edges) - 1)
    return groups


def gathered(vectors: UnitVectors, rows: Rows) -> Search[Vectors]:
    """A copy of these rows."""
    out = np.empty((len(rows), vectors.shape[1]), np.float32)
    for start in range(0, len(rows), GATHERED):
        out[start : start + GATHERED] = vectors[rows[start : start + GATHERED]]
        yield Step("vectors", min(start + GATHERED, len(rows)), len(rows))
    return out


def let_go(held: dict[Any, Any]) -> Search[None]:
    """Empties what may hold so much that freeing it at once would take a tenth of a second."""
    while held:
        for _ in range(min(len(held), 4 * GATHERED)):
            held.popitem()
        yield Step("freeing", 0, 1)


def means_of(vectors: Vectors, owner: Rows, sizes: Rows) -> Search[Vectors]:
    """The mean vector of each cluster, [clusters, D]; every cluster has a row."""
    order = np.argsort(owner, kind="stable")
    ends = np.cumsum(sizes)  # where the rows of each end
    means = np.empty((len(sizes), vectors.shape[1]), np.float32)
    start = 0
    while start < len(sizes):
        first = int(ends[start] - sizes[start])
        stop = min(len(sizes), max(start + 1, int(np.searchsorted(ends, first + GATHERED))))
        rows = vectors[order[first : ends[stop - 1]]]
        means[start:stop] = np.add.reduceat(rows, ends[start:stop] - sizes[start:stop] - first, axis=0)
        means[start:stop] /= sizes[start:stop, None]
        start = stop
        yield Step("means", stop, len(sizes))
    return means


class Units(NamedTuple):
    """What is clustered. The rows of unit u are order[ends[u] - sizes[u] : ends[u]]."""

    order: Rows  # [n]
    ends: Rows  # [U]
    sizes: Rows  # [U]
    means: Vectors  # [U, D], of the vectors of the rows

    def rows(self, units: Sequence[int] | Rows) -> Rows:
        """All rows of these."""
        return np.concatenate([self.order[self.ends[unit] - self.sizes[unit] : self.ends[unit]] for unit in units])

    def at(self, units: Rows) -> "Units":
        """Only these, numbered anew."""
        return Units(self.order, self.ends[units], self.sizes[units], self.means[units])


def units_of(vectors: Vectors, unit: Rows) -> Search[Units]:
    """Units of rows, unit: [n], which one each is of; every number from 0 on has a row."""
    sizes = np.bincount(unit)
    order = np.argsort(unit, kind="stable")
    yield Step("means", 0, len(sizes))
    if np.array_equal(unit, order):
        return Units(order, order + 1, sizes, vectors)
    means = yield from means_of(vectors, unit, sizes)
    return Units(order, np.cumsum(sizes), sizes, means)


class Pairs(NamedTuple):
    """Who stands beside whom, both ways: the neighbours of unit i are the places indptr[i] to indptr[i+1]."""

    indptr: Rows  # [U+1]
    neighbour: Rows  # [M]
    weight: NDArray[np.float32]  # [M], of the edge between the two, 0 where they are only near


class Limits(NamedTuple):
    """Until where clusters merge, as in `TopicPlan`."""

    cap: int
    floor: float
    edge_bonus: float
    target: int  # clusters to stop at


def joined(lists: Sequence[Edges], n: int) -> Search[Pairs]:
    """Both directions of the edges, each pair once with the sum of its weights, rows ascending, no loops."""
    total = sum(len(edges.src) for edges in lists)
    parts = min(1 + 2 * total // SORTED, np.iinfo(np.int16).max)
    # Rows low[p] to low[p + 1] are in part p = row * parts // n.
    low = -(-np.arange(parts + 1) * n // parts)
    pieces: list[list[Edges]] = [[] for _ in range(parts)]
    for edges in lists:
        for start in range(0, len(edges.src), SORTED):
            _share_out(edges.at(slice(start, start + SORTED)), n, pieces)
            yield Step("pairs", 0, parts)
    counts: list[NDArray[Any]] = [np.zeros(1, np.int64)]
    found: list[tuple[NDArray[Any], NDArray[Any]]] = []  # neighbours and weights
    for part, held in enumerate(pieces):
        first, count = int(low[part]), int(low[part + 1] - low[part])
        src, dst, weight = (np.concatenate(column) for column in zip(_NONE, *held, strict=True))
        # Sums what stands twice and keeps the zeros.
        rows = csr_array((weight, (src - first, dst)), shape=(count, n))
        rows.sum_duplicates()
        counts.append(np.diff(rows.indptr))
        found.append((rows.indices, rows.data))
        held.clear()
        yield Step("pairs", part + 1, parts)
    indptr = np.cumsum(np.concatenate(counts), dtype=np.int64)
    neighbour, weight = np.empty(indptr[-1], np.int64), np.empty(indptr[-1], np.float32)
    at = 0
    for part_neighbours, part_weights in found:
        part = slice(at, at + len(part_neighbours))
        neighbour[part], weight[part] = part_neighbours, part_weights
        at += len(part_neighbours)
        yield Step("pairs", parts, parts)
    return Pairs(indptr, neighbour, weight)


_NONE = Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def _share_out(edges: Edges, n: int, pieces: list[list[Edges]]) -> None:
    """Adds both directions of edges to the pieces of the parts in which their sources lie."""
    src, dst, weight = edges.at(edges.src != edges.dst)
    both = Edges(np.concatenate([src, dst]), np.concatenate([dst, src]), np.concatenate([weight, weight]))
    part = (both.src * len(pieces) // max(1, n)).astype(np.int16)
    # numpy sorts int16 in linear time.
    order = np.argsort(part, kind="stable")
    ends = np.searchsorted(part[order], np.arange(len(pieces) + 1)).tolist()
    for held, first, last in zip(pieces, ends, ends[1:], strict=False):
        if first < last:
            held.append(both.at(order[first:last]))


class _Merging:
    """Clusters on the way; a cluster is known by its first unit, its head. Writes into `means` and `sizes`."""

    def __init__(self, units: Units, means: Vectors, pairs: Pairs, limits: Limits) -> None:
        count = len(means)
        self.units, self.pairs, self.limits = units, pairs, limits
        self.means, self.sizes = means, units.sizes.copy()
        self.head = np.arange(count)
        self.members: dict[int, list[int]] = {}  # by head, where there are more than one
        self.held = [1] * count  # how many there are, by head
        self.age = [0] * count  # merges a head has seen, -1 once it is part of another
        self.refused: dict[int, list[int]] = {}  # by head, units of clusters that it must not join
        self.count = count
        # (-similarity, a, b, age of a, age of b), a < b: out of date where the ages are no longer those of the heads.
        self.heap: list[tuple[float, int, int, int, int]] = []

    def enter(self, low: Rows, high: Rows, values: NDArray[np.float32]) -> None:
        """Puts those of the pairs of single units on the heap that are still single."""
        for value, a, b in zip(values.tolist(), low.tolist(), high.tolist(), strict=True):
            if self.age[a] == self.age[b] == 0:
                heapq.heappush(self.heap, (-value, a, b, 0, 0))

    def merge_above(self, end: float, guard: Guard) -> Search[None]:
        """Merges pairs more similar than `end`, down to the target."""
        first, target = len(self.age), self.limits.target
        spent = 0
        while self.count > target and self.heap and -self.heap[0][0] > end:
            _, a, b, age_a, age_b = heapq.heappop(self.heap)
            fresh = self.age[a] == age_a and self.age[b] == age_b
            if fresh and self.held[a] + self.held[b] <= self.limits.cap:
                spent += STALE // MERGES
                if (yield from guard(self.rows(a), self.rows(b))):
                    self.refused.setdefault(a, []).append(b)
                    self.refused.setdefault(b, []).append(a)
                else:
                    self.merge(a, b)
            else:
                spent += 1
            if spent >= STALE:
                spent = 0
                yield Step("merging", first - self.count, first - target)

    def rows(self, head: int) -> Rows:
        return self.units.rows(self.members.get(head, [head]))

    def merge(self, a: int, b: int) -> None:
        """Puts b into a < b, and the pairs of the new cluster on the heap."""
        size = self.sizes[a] + self.sizes[b]
        self.means[a] = (self.means[a] * self.sizes[a] + self.means[b] * self.sizes[b]) / size
        self.sizes[a] = size
        joining = self.members.pop(b, [b])
        self.members.setdefault(a, [a]).extend(joining)
        self.head[joining] = a
        if b in self.refused:
            self.refused.setdefault(a, []).extend(self.refused.pop(b))
        self.held[a] += len(joining)
        self.age[a] += 1
        self.age[b] = -1
        self.count -= 1
        if self.held[a] < self.limits.cap:
            self._offer(a)

    def _offer(self, a: int) -> None:
        room, floor = self.limits.cap - self.held[a], self.limits.floor
        neighbours, weights = _places(self.pairs, np.array(self.members[a]))
        heads, place = np.unique(self.head[neighbours], return_inverse=True)
        cosines = self.means[heads] @ self.means[a]
        joint = np.bincount(place, weights, len(heads)) / (self.sizes[a] * self.sizes[heads])
        values = (cosines + self.limits.edge_bonus * joint).tolist()
        apart = set(self.head[self.refused[a]].tolist()) if a in self.refused else {a}
        for other, cosine, value in zip(heads.tolist(), cosines.tolist(), values, strict=True):
            if other != a and cosine >= floor and self.held[other] <= room and other not in apart:
                low, high = min(a, other), max(a, other)
                heapq.heappush(self.heap, (-value, low, high, self.age[low], self.age[high]))


def _places(pairs: Pairs, units: Rows) -> tuple[Rows, NDArray[np.float32]]:
    """The neighbours of all these units, one after the other, and the weights between."""
    starts, ends = pairs.indptr[units].tolist(), pairs.indptr[units + 1].tolist()
    spans = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
    return np.concatenate([pairs.neighbour[s] for s in spans]), np.concatenate([pairs.weight[s] for s in spans])


def merge(units: Units, pairs: Pairs, guard: Guard, limits: Limits) -> Search[Rows]:
    """Merges the most similar pair of clusters again and again, until none may or `target` clusters are left.

    Two clusters that the guard refuses stay apart, whatever else joins them. Returns for each unit the first unit of
    its cluster, [U].
    """
    means = np.empty_like(units.means)
    for start in range(0, len(means), GATHERED):
        means[start : start + GATHERED] = units.means[start : start + GATHERED]
        yield Step("similarity", 0, len(means))
    state = _Merging(units, means, pairs, limits)
    low, high, values = yield from _first_values(state)
    yield Step("similarity", 1, 1)
    top = float(values.max(initial=0.0))
    band = ((top - values) * BANDS).astype(np.int16)
    yield Step("similarity", 1, 1)
    order = np.argsort(band, kind="stable")
    ends = np.searchsorted(band[order], np.arange(int(band.max(initial=-1)) + 2))
    yield Step("similarity", 1, 1)
    for number, (first, last) in enumerate(zip(ends.tolist(), ends[1:].tolist(), strict=False)):
        for start in range(first, last, GATHERED):
            entering = order[start : min(start + GATHERED, last)]
            state.enter(low[entering], high[entering], values[entering])
            yield Step("merging", len(means) - state.count, len(means) - limits.target)
        # What is less similar than this band waits for the next one, where it may not be the first.
        end = top - (number + 1) / BANDS if number < len(ends) - 2 else -np.inf
        yield from state.merge_above(end, guard)
    # A heap of a million takes a tenth of a second to let go.
    while state.heap:
        del state.heap[-4 * GATHERED :]
        yield Step("merging", len(means) - state.count, len(means) - limits.target)
    yield from let_go(state.members)
    yield from let_go(state.refused)
    return state.head


def _first_values(state: _Merging) -> Search[tuple[Rows, Rows, NDArray[np.float32]]]:
    """The pairs of units not farther apart than the floor, the smaller first, and how similar they are."""
    pairs, means, sizes = state.pairs, state.means, state.sizes
    lows: list[Rows] = [np.zeros(0, np.int64)]
    highs: list[Rows] = [np.zeros(0, np.int64)]
    values: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
    for start in range(0, len(pairs.neighbour), 2 * GATHERED):
        stop = min(start + 2 * GATHERED, len(pairs.neighbour))
        b, weight = pairs.neighbour[start:stop], pairs.weight[start:stop]
        a = np.searchsorted(pairs.indptr, np.arange(start, stop), side="right") - 1
        once = a < b
        a, b, weight = a[once], b[once], weight[once]
        cosine = np.einsum("ed,ed->e", means[a], means[b])
        near = cosine >= state.limits.floor
        value = cosine + state.limits.edge_bonus * weight / (sizes[a] * sizes[b])
        lows.append(a[near])
        highs.append(b[near])
        values.append(value[near].astype(np.float32))
        yield Step("similarity", stop, len(pairs.neighbour))
    low, high = np.concatenate(lows), np.concatenate(highs)
    yield Step("similarity", 1, 1)
    return low, high, np.concatenate(values)
