"""Average-link clusters with a cap, made greedily from the most similar pair downwards (Lance and Williams 1967).

The mean cosine between two clusters is the dot product of their mean vectors, so a merge costs a few dozen dot
products. Looked at are only pairs of rows known to stand beside each other, and what clusters inherit of them.

Everything here is a generator that yields after every few milliseconds of work and returns what it found, so that a
dream can be left between two steps. n: rows. D: numbers in a vector. M: places in the adjacency.
"""

# scipy has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import heapq
from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

type Rows = NDArray[np.int64]
type Vectors = NDArray[np.float32]

# Sizes of a chunk: pairs gathered, places sorted, merges, pairs found out of date.
GATHERED = 2_048
SORTED = 100_000
MERGES = 16
STALE = 2_048
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

    def at(self, places: NDArray[np.int64] | NDArray[np.bool_]) -> "Edges":
        """Those at these places."""
        return Edges(self.src[places], self.dst[places], self.weight[places])

    def joined_by(self, others: "Edges") -> "Edges":
        """These and then those."""
        src, dst = np.concatenate([self.src, others.src]), np.concatenate([self.dst, others.dst])
        return Edges(src, dst, np.concatenate([self.weight, others.weight]))


type Search[T] = Generator[Step, None, T]


def grouped(labels: Rows) -> list[Rows]:
    """The rows of each label, ascending, in the order of the labels."""
    order = np.argsort(labels, kind="stable")
    if len(order) == 0:
        return []
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


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


class Pairs(NamedTuple):
    """Who stands beside whom, both ways: the neighbours of row i are the places indptr[i] to indptr[i+1]."""

    indptr: Rows  # [n+1]
    neighbour: Rows  # [M]
    weight: NDArray[np.float32]  # [M], of the edge between the two, 0 where they are only near


class Limits(NamedTuple):
    """Until where clusters merge, as in `TopicPlan`."""

    cap: int
    floor: float
    edge_bonus: float
    target: int  # clusters to stop at


class Bans(NamedTuple):
    """Pairs that must not come together."""

    pairs: Pairs
    any: bool

    def of(self, rows: Rows) -> Rows:
        """The rows that none of these may be together with."""
        return _places(self.pairs, rows)[0] if self.any else np.zeros(0, np.int64)

    def inside(self, rows: Rows) -> bool:
        return bool(np.isin(self.of(rows), rows).any())


def bans_of(forbidden: Rows, n: int) -> Search[Bans]:
    """forbidden: [F, 2] or empty."""
    ends = forbidden.reshape(-1, 2)
    pairs = yield from joined(Edges(ends[:, 0], ends[:, 1], np.zeros(len(ends), np.float32)), n)
    return Bans(pairs, len(ends) > 0)


def joined(edges: Edges, n: int) -> Search[Pairs]:
    """Both directions of the edges, each pair once with the sum of its weights, rows ascending, no loops."""
    apart = edges.at(edges.src != edges.dst)
    yield Step("pairs", 0, 1)
    src, dst, weight = apart.joined_by(Edges(apart.dst, apart.src, apart.weight))
    yield Step("pairs", 0, 1)
    counts: list[NDArray[Any]] = [np.zeros(1, np.int64)]
    neighbours: list[NDArray[Any]] = [np.zeros(0, np.int64)]
    weights: list[NDArray[Any]] = [np.zeros(0, np.float32)]
    parts = 1 + len(src) // SORTED
    for part in range(parts):
        low, high = part * n // parts, (part + 1) * n // parts
        chosen = (src >= low) & (src < high)
        # Sums what stands twice and keeps the zeros.
        rows = csr_array((weight[chosen], (src[chosen] - low, dst[chosen])), shape=(high - low, n))
        rows.sum_duplicates()
        counts.append(np.diff(rows.indptr))
        neighbours.append(rows.indices)
        weights.append(rows.data)
        yield Step("pairs", part + 1, parts)
    indptr = np.cumsum(np.concatenate(counts), dtype=np.int64)
    return Pairs(indptr, np.concatenate(neighbours).astype(np.int64), np.concatenate(weights))


def _places(pairs: Pairs, rows: Rows) -> tuple[Rows, NDArray[np.float32]]:
    """The neighbours of all these rows, one after the other, and the weights between."""
    starts, ends = pairs.indptr[rows].tolist(), pairs.indptr[rows + 1].tolist()
    spans = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
    return np.concatenate([pairs.neighbour[s] for s in spans]), np.concatenate([pairs.weight[s] for s in spans])


class _Merging:
    """Clusters on the way; a cluster is known by its first row, its head. Writes into `means` and `sizes`."""

    def __init__(self, means: Vectors, sizes: Rows, pairs: Pairs, bans: Bans, limits: Limits) -> None:
        n = len(means)
        self.means, self.sizes = means, sizes
        self.pairs, self.bans, self.limits = pairs, bans, limits
        self.head = np.arange(n)
        self.members: dict[int, list[int]] = {}  # by head, where there are more than one
        self.held = [1] * n  # how many there are, by head
        self.age = [0] * n  # merges a head has seen, -1 once it is part of another
        self.count = n
        # (-similarity, a, b, age of a, age of b), a < b: out of date where the ages are no longer those of the heads.
        self.heap: list[tuple[float, int, int, int, int]] = []

    def enter(self, low: Rows, high: Rows, values: NDArray[np.float32], places: Rows) -> None:
        """Puts those of the pairs of single rows on the heap that are still single."""
        ends = zip(low[places].tolist(), high[places].tolist(), strict=True)
        for value, (a, b) in zip(values[places].tolist(), ends, strict=True):
            if self.age[a] == self.age[b] == 0:
                heapq.heappush(self.heap, (-value, a, b, 0, 0))

    def merge_some(self, end: float) -> bool:
        """Merges pairs more similar than `end`, down to the target, for some milliseconds; False where none is left."""
        merges = 0
        for _ in range(STALE):
            if not self.heap or -self.heap[0][0] <= end:
                return merges > 0
            _, a, b, age_a, age_b = heapq.heappop(self.heap)
            fresh = self.age[a] == age_a and self.age[b] == age_b
            if fresh and self.held[a] + self.held[b] <= self.limits.cap:
                self.merge(a, b)
                merges += 1
                if merges == MERGES or self.count == self.limits.target:
                    break
        return True

    def merge(self, a: int, b: int) -> None:
        """Puts b into a < b, and the pairs of the new cluster on the heap."""
        size = self.sizes[a] + self.sizes[b]
        self.means[a] = (self.means[a] * self.sizes[a] + self.means[b] * self.sizes[b]) / size
        self.sizes[a] = size
        joining = self.members.pop(b, [b])
        self.members.setdefault(a, [a]).extend(joining)
        self.head[joining] = a
        self.held[a] += len(joining)
        self.age[a] += 1
        self.age[b] = -1
        self.count -= 1
        if self.held[a] < self.limits.cap:
            self._offer(a)

    def _offer(self, a: int) -> None:
        room, floor = self.limits.cap - self.held[a], self.limits.floor
        rows = np.array(self.members[a])
        neighbours, weights = _places(self.pairs, rows)
        heads, place = np.unique(self.head[neighbours], return_inverse=True)
        banned = set(self.head[self.bans.of(rows)].tolist()) if self.bans.any else set[int]()
        cosines = self.means[heads] @ self.means[a]
        joint = np.bincount(place, weights, len(heads)) / (self.sizes[a] * self.sizes[heads])
        values = (cosines + self.limits.edge_bonus * joint).tolist()
        for other, cosine, value in zip(heads.tolist(), cosines.tolist(), values, strict=True):
            if other != a and cosine >= floor and self.held[other] <= room and other not in banned:
                low, high = min(a, other), max(a, other)
                heapq.heappush(self.heap, (-value, low, high, self.age[low], self.age[high]))


def merge(means: Vectors, sizes: Rows, pairs: Pairs, bans: Bans, limits: Limits) -> Search[Rows]:
    """Merges the most similar pair of clusters again and again, until none may or `target` clusters are left.

    means: [n, D], the mean vector of what each row stands for, and sizes: [n], how many vectors that is. Returns for
    each row the first row of its cluster, [n].
    """
    own = np.empty_like(means)
    for start in range(0, len(own), GATHERED):
        own[start : start + GATHERED] = means[start : start + GATHERED]
        yield Step("similarity", 0, len(pairs.neighbour))
    state = _Merging(own, sizes.copy(), pairs, bans, limits)
    n, target = state.count, limits.target
    low, values = yield from _first_values(state)
    possible = np.isfinite(values)
    top = float(values[possible].max(initial=0.0))
    band = np.where(possible, (top - np.where(possible, values, top)) * BANDS, -1.0).astype(np.int16)
    last = int(band.max(initial=-1))
    for number in range(last + 1):
        entering = np.flatnonzero(band == number)
        for start in range(0, len(entering), GATHERED):
            state.enter(low, pairs.neighbour, values, entering[start : start + GATHERED])
            yield Step("merging", n - state.count, n - target)
        # What is less similar than this band waits for the next one, where it may not be the first.
        end = top - (number + 1) / BANDS if number < last else -np.inf
        while state.count > target and state.merge_some(end):
            yield Step("merging", n - state.count, n - target)
    # A heap of a million takes a tenth of a second to let go.
    while state.heap:
        del state.heap[-16 * GATHERED :]
        yield Step("merging", n - state.count, n - target)
    return state.head


def _first_values(state: _Merging) -> Search[tuple[Rows, NDArray[np.float32]]]:
    """The first row of each pair, [M], and the similarity of the two, [M].

    -inf where the first is not the smaller row, the two are farther apart than the floor, or forbidden.
    """
    pairs, means = state.pairs, state.means
    n = len(means)
    low = np.repeat(np.arange(n), np.diff(pairs.indptr))
    values = np.full(len(low), -np.inf, np.float32)
    once = np.flatnonzero(low < pairs.neighbour)
    if state.bans.any:
        banned = np.repeat(np.arange(n), np.diff(state.bans.pairs.indptr)) * n + state.bans.pairs.neighbour
        once = once[~np.isin(low[once] * n + pairs.neighbour[once], banned)]
    for start in range(0, len(once), GATHERED):
        part = once[start : start + GATHERED]
        a, b = low[part], pairs.neighbour[part]
        cosine = np.einsum("ed,ed->e", means[a], means[b])
        value = cosine + state.limits.edge_bonus * pairs.weight[part] / (state.sizes[a] * state.sizes[b])
        values[part] = np.where(cosine >= state.limits.floor, value, -np.inf)
        yield Step("similarity", min(start + GATHERED, len(once)), len(once))
    return low, values
