"""Which memories could become one: tight clusters by the graph, topic containers by meaning (REQ-DREAM-007).

Both are generators that yield after every few milliseconds of work and return what they found, so that a dream can be
left between two steps: `found = yield from tight_clusters(...)`. Same input, same clusters.

Tight clusters are communities of edges that are strong on both ends' word: coupling and cosine. The objective is the
constant Potts model (Traag, Van Dooren, Nesterov 2011), which has no resolution limit; scikit-network optimises it.
Its native call cannot be stopped, so components go to it in batches of at most NATIVE_EDGES edges.

Topic containers are average-link clusters of rows that are among each other's nearest or joined by an edge.

n: rows. D: numbers in a vector.
"""

# scikit-network and scipy have no types of their own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, csr_matrix
from scipy.sparse.csgraph import connected_components
from sknetwork.clustering import Louvain

from dreamsvc.dreamer.merging import (
    GATHERED,
    Edges,
    Limits,
    Rows,
    Search,
    Step,
    Vectors,
    bans_of,
    grouped,
    joined,
    means_of,
    merge,
)
from dreamsvc.dreamer.nearest import nearest_rows

# Louvain takes about 4 ms for so many.
NATIVE_EDGES = 2_000
# A community of the Potts model is one whose mean weight over all pairs, joined or not, exceeds this share of the
# coupling threshold: every second pair joined.
POTTS_DENSITY = 0.5


class TightPlan(NamedTuple):
    """What makes a cluster tight."""

    coupling_threshold: float  # least weight of an edge, 0..1
    merge_similarity: float  # least cosine of an edge's ends, and least mean cosine of a cluster
    cap: int  # most members


class TopicPlan(NamedTuple):
    """What topic containers are to reach."""

    ratio: float  # n / containers aimed at, >= 1
    cap: int  # most inputs of a container in one round
    rounds: int  # containers of a round are the inputs of the next
    floor: float  # least mean cosine between two clusters that merge
    edge_bonus: float  # how much cosine an edge of weight 1 is worth where merges are put in order
    nearest: int  # K, rows looked up as candidates for each


def tight_clusters(vectors: Vectors, edges: Edges, forbidden: Rows, plan: TightPlan) -> Search[list[Rows]]:
    """Clusters of at least two rows, each ascending, in the order of their first row; no row is in two.

    vectors: [n, D], of unit length. forbidden: [F, 2], pairs that must not be in one cluster.
    """
    n = len(vectors)
    strong = yield from _strong_edges(vectors, edges, plan)
    bans = yield from bans_of(forbidden, n)
    found: list[Rows] = []
    broken = np.zeros(n, np.bool_)
    batches = list(_component_batches(strong, n))
    for done, batch in enumerate(batches):
        for rows in _communities(batch, POTTS_DENSITY * plan.coupling_threshold):
            if len(rows) > plan.cap or bans.inside(rows) or _mean_cosine(vectors[rows]) < plan.merge_similarity:
                broken[rows] = True
            else:
                found.append(rows)
        yield Step("communities", done + 1, len(batches))
    # What is too large, too loose or forbidden is taken apart: merged anew from single rows while it may be.
    inside = broken[strong.src] & broken[strong.dst]
    pairs = yield from joined(strong.at(inside), n)
    limits = Limits(cap=plan.cap, floor=plan.merge_similarity, edge_bonus=0.0, target=0)
    heads = yield from merge(vectors, np.ones(n, np.int64), pairs, bans, limits)
    found += [rows for rows in grouped(heads) if len(rows) > 1]
    return sorted(found, key=lambda rows: int(rows[0]))


def topic_clusters(
    vectors: Vectors, edges: Edges, forbidden: Rows, plan: TopicPlan, *, seed: int
) -> Search[list[Rows]]:
    """Every row in one cluster, down to about n / ratio of them as far as the floor and the cap allow.

    Each cluster is ascending, in the order of their first row; rows that stay alone are clusters of one. vectors:
    [n, D], of unit length. edges: what the graph knows, any weights. forbidden: [F, 2], pairs that must not be in one
    cluster. seed: where the cells begin; without effect up to EXACT_ROWS rows.
    """
    n = len(vectors)
    limits = Limits(plan.cap, plan.floor, plan.edge_bonus, target=max(1, round(n / plan.ratio)))
    owner, count = np.arange(n), n
    for _ in range(plan.rounds):
        if count <= limits.target:
            break
        sizes = np.bincount(owner, minlength=count)
        means = vectors if count == n else (yield from means_of(vectors, owner, sizes))
        near = yield from nearest_rows(means, plan.nearest, plan.floor, seed=seed)
        known = Edges(owner[edges.src], owner[edges.dst], edges.weight)
        pairs = yield from joined(near.joined_by(known), count)
        bans = yield from bans_of(owner[forbidden], count)
        heads = yield from merge(means, sizes, pairs, bans, limits)
        # Heads are first rows, so their order is that of the clusters.
        kept, label = np.unique(heads, return_inverse=True)
        owner, count = label[owner], len(kept)
    return grouped(owner)


# ── tight ───────────────────────────────────────────────────────────────────────


def _strong_edges(vectors: Vectors, edges: Edges, plan: TightPlan) -> Search[Edges]:
    """The edges at or above both thresholds; weight: coupling x cosine."""
    kept = np.flatnonzero((edges.weight >= plan.coupling_threshold) & (edges.src != edges.dst))
    weights = np.zeros(len(kept), np.float32)
    strong = np.zeros(len(kept), np.bool_)
    for start in range(0, len(kept), GATHERED):
        part = slice(start, start + GATHERED)
        src, dst, coupling = edges.at(kept[part])
        cosine = np.einsum("ed,ed->e", vectors[src], vectors[dst])
        weights[part], strong[part] = coupling * cosine, cosine >= plan.merge_similarity
        yield Step("coupling", min(start + GATHERED, len(kept)), len(kept))
    kept = kept[strong]
    return Edges(edges.src[kept], edges.dst[kept], weights[strong])


def _component_batches(edges: Edges, n: int) -> Iterator[Edges]:
    """The edges, component after component, in batches of about NATIVE_EDGES.

    A component with more is cut along its weakest edges until its parts fit, since a native call of seconds cannot be
    stopped.
    """
    waiting = [edges]
    small: list[Edges] = []
    while waiting:
        part = waiting.pop()
        if len(part.src) == 0:
            continue
        adjacency = csr_array((np.ones(len(part.src), np.int8), (part.src, part.dst)), shape=(n, n))
        labels = cast("tuple[int, NDArray[np.int32]]", connected_components(adjacency, directed=False))[1][part.src]
        counts = np.bincount(labels)
        oversized = np.flatnonzero(counts > NATIVE_EDGES)
        for label in oversized:
            large = part.at(labels == label)
            # Ties are cut by place, so that equal weights cannot keep a component whole for ever.
            order = np.argsort(-large.weight, kind="stable")[: max(NATIVE_EDGES, len(large.src) * 3 // 4)]
            waiting.append(large.at(np.sort(order)))
        order = np.argsort(labels, kind="stable")
        order = order[~np.isin(labels[order], oversized)]
        ends = np.cumsum(np.bincount(labels[order], minlength=len(counts)))
        start = 0
        while start < len(order):
            stop = int(ends[np.searchsorted(ends, min(start + NATIVE_EDGES, len(order)), side="right") - 1])
            stop = stop if stop > start else int(ends[np.searchsorted(ends, start, side="right")])
            small.append(part.at(order[start:stop]))
            start = stop
    yield from small


def _communities(edges: Edges, density: float) -> list[Rows]:
    """The communities of two and more rows in which the mean weight over all pairs exceeds about `density`."""
    rows, ends = np.unique(np.concatenate([edges.src, edges.dst]), return_inverse=True)
    src, dst = ends[: len(edges.src)], ends[len(edges.src) :]
    adjacency = csr_matrix((edges.weight.astype(np.float64), (src, dst)), shape=(len(rows), len(rows)))
    adjacency = csr_matrix(adjacency.maximum(adjacency.T))
    # scikit-network divides the weights by their sum and gives each row the mass 1 / n; this undoes both.
    resolution = density * len(rows) ** 2 / float(adjacency.sum())
    louvain = Louvain(
        resolution=resolution, modularity="potts", tol_optimization=1e-6, tol_aggregation=1e-6,
        return_probs=False, return_aggregate=False, sort_clusters=False,
    )  # fmt: skip
    labels = np.asarray(cast("Any", louvain.fit_predict(adjacency)))
    return [rows[part] for part in grouped(labels) if len(part) > 1]


def _mean_cosine(vectors: Vectors) -> float:
    """Over the pairs of two and more unit vectors."""
    count = len(vectors)
    total = vectors.sum(axis=0)
    return float((total @ total - np.square(vectors).sum()) / (count * (count - 1)))
