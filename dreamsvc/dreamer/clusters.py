"""Which memories could become one: tight clusters by the graph, topic containers by meaning (REQ-DREAM-007).

Both are generators that yield after every few milliseconds of work and return what they found, so that a dream can be
left between two steps: `found = yield from tight_clusters(...)`. Same input, same clusters.

Tight clusters are communities of edges that are strong on both ends' word: coupling and cosine. The objective is the
constant Potts model (Traag, Van Dooren, Nesterov 2011), which has no resolution limit; scikit-network optimises it.
Its native call cannot be stopped, so components go to it in batches of at most NATIVE_EDGES edges.

Topic containers are average-link clusters of units that are among each other's nearest or joined by an edge.

n: rows. U: units, each a row or several that stay together. D: numbers in a vector.
"""

# scikit-network and scipy have no types of their own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, csr_matrix
from scipy.sparse.csgraph import connected_components
from sknetwork.clustering import Louvain

from dreamsvc.dreamer.merging import (
    GATHERED,
    Edges,
    Guard,
    Limits,
    Rows,
    Search,
    Step,
    Units,
    Vectors,
    gathered,
    grouped,
    joined,
    merge,
    units_of,
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
    cap: int  # most units


class TopicPlan(NamedTuple):
    """What topic containers are to reach."""

    target: int  # clusters aimed at
    cap: int  # most inputs of a container in one round
    rounds: int  # containers of a round are the inputs of the next
    floor: float  # least mean cosine between two clusters that merge
    edge_bonus: float  # how much cosine an edge of weight 1 is worth where merges are put in order
    nearest: int  # K, units looked up as candidates for each


def tight_clusters(vectors: Vectors, unit: Rows, edges: Edges, guard: Guard, plan: TightPlan) -> Search[list[Rows]]:
    """Clusters of at least two units, each ascending, in the order of their first unit; no unit is in two.

    vectors: [n, D], of unit length. unit: [n], which of the U each row is of. edges: between units.
    """
    units = yield from units_of(vectors, unit)
    strong = yield from _strong_edges(units.means, edges, plan)
    found: list[Rows] = []
    broken = np.zeros(len(units.sizes), np.bool_)
    batches = yield from _component_batches(strong, len(units.sizes))
    for done, batch in enumerate(batches):
        for part in (yield from _communities(batch, POTTS_DENSITY * plan.coupling_threshold)):
            loose = len(part) > plan.cap or _mean_cosine(units.at(part)) < plan.merge_similarity
            if loose or (yield from _refused_inside(units, part, guard)):
                broken[part] = True
            else:
                found.append(part)
        yield Step("communities", done + 1, len(batches))
    # What is too large, too loose or refused is taken apart: merged anew from single units while it may be.
    inside = strong.at(broken[strong.src] & broken[strong.dst])
    again = np.flatnonzero(broken)
    place = np.cumsum(broken) - 1
    pairs = yield from joined([Edges(place[inside.src], place[inside.dst], inside.weight)], len(again))
    limits = Limits(cap=plan.cap, floor=plan.merge_similarity, edge_bonus=0.0, target=0)
    means = yield from gathered(units.means, again)
    rest = Units(units.order, units.ends[again], units.sizes[again], means)
    heads = yield from merge(rest, pairs, guard, limits)
    found += [again[part] for part in (yield from grouped(heads)) if len(part) > 1]
    return sorted(found, key=lambda part: int(part[0]))


def topic_clusters(
    vectors: Vectors, unit: Rows, lots: Rows, edges: Edges, guard: Guard, plan: TopicPlan, *, seed: int
) -> Search[list[Rows]]:
    """Every unit in one cluster, down to `target` clusters as far as the floor, the cap and the guard allow.

    Each cluster is ascending, in the order of their first unit; units that stay alone are clusters of one. vectors:
    [n, D], of unit length. unit: [n], which of the U each row is of. lots: [U], only units of one lot merge. edges:
    between units, what the graph knows, any weights. seed: where the cells begin; no effect up to EXACT_ROWS units.
    """
    owner = np.arange(int(unit.max(initial=-1)) + 1)
    count = len(owner)
    for _ in range(plan.rounds):
        if count <= plan.target:
            break
        units = yield from units_of(vectors, owner[unit])
        near = yield from _near(units, lots, plan, seed)
        src = owner[edges.src]
        yield Step("pairs", 0, 1)
        known = Edges(src, owner[edges.dst], edges.weight)
        yield Step("pairs", 0, 1)
        if len(near) > 1:
            known = known.at(lots[known.src] == lots[known.dst])
            yield Step("pairs", 0, 1)
        pairs = yield from joined([*near, known], count)
        limits = Limits(plan.cap, plan.floor, plan.edge_bonus, plan.target)
        heads = yield from merge(units, pairs, guard, limits)
        # Heads are first units, so their order is that of the clusters.
        kept, label = np.unique(heads, return_inverse=True)
        if len(kept) == count:
            break
        owner, lots, count = label[owner], lots[kept], len(kept)
        yield Step("merging", 1, 1)
    return (yield from grouped(owner))


def _near(units: Units, lots: Rows, plan: TopicPlan, seed: int) -> Search[list[Edges]]:
    """The nearest of each unit in its own lot."""
    found: list[Edges] = []
    for lot in (yield from grouped(lots)):
        means = units.means if len(lot) == len(lots) else units.means[lot]
        near = yield from nearest_rows(means, plan.nearest, plan.floor, seed=seed)
        found.append(Edges(lot[near.src], lot[near.dst], near.weight))
    return found


# ── tight ───────────────────────────────────────────────────────────────────────


def _strong_edges(means: Vectors, edges: Edges, plan: TightPlan) -> Search[Edges]:
    """The edges at or above both thresholds; weight: coupling x cosine."""
    kept = np.flatnonzero((edges.weight >= plan.coupling_threshold) & (edges.src != edges.dst))
    weights = np.zeros(len(kept), np.float32)
    strong = np.zeros(len(kept), np.bool_)
    for start in range(0, len(kept), GATHERED):
        part = slice(start, start + GATHERED)
        src, dst, coupling = edges.at(kept[part])
        cosine = np.einsum("ed,ed->e", means[src], means[dst])
        weights[part], strong[part] = coupling * cosine, cosine >= plan.merge_similarity
        yield Step("coupling", min(start + GATHERED, len(kept)), len(kept))
    kept = kept[strong]
    return Edges(edges.src[kept], edges.dst[kept], weights[strong])


def _component_batches(edges: Edges, n: int) -> Search[list[Edges]]:
    """The edges, component after component, in batches of about NATIVE_EDGES.

    A component with more is cut along its weakest edges until its parts fit, since a native call of seconds cannot be
    stopped.
    """
    waiting = [edges]
    batches: list[Edges] = []
    while waiting:
        part = waiting.pop()
        if len(part.src) == 0:
            continue
        # Numbered anew, so that a part costs what its own size is.
        held = np.zeros(n, np.bool_)
        held[part.src] = held[part.dst] = True
        place = np.cumsum(held) - 1
        src, dst, size = place[part.src], place[part.dst], int(place[-1]) + 1
        yield Step("components", len(batches), len(batches) + len(waiting) + 1)
        adjacency = csr_array((np.ones(len(src), np.int8), (src, dst)), shape=(size, size))
        yield Step("components", len(batches), len(batches) + len(waiting) + 1)
        labels = cast("tuple[int, NDArray[np.int32]]", connected_components(adjacency, directed=False))[1][src]
        yield Step("components", len(batches), len(batches) + len(waiting) + 1)
        counts = np.bincount(labels)
        fits = counts[labels] <= NATIVE_EDGES
        for label in np.flatnonzero(counts > NATIVE_EDGES).tolist():
            large = part.at(labels == label)
            # Ties are cut by place, so that equal weights cannot keep a component whole for ever.
            most = max(NATIVE_EDGES, len(large.src) * 3 // 4)
            waiting.append(large.at(np.sort(np.argpartition(-large.weight, most - 1)[:most])))
            yield Step("components", len(batches), len(batches) + len(waiting) + 1)
        batches += _batches(part.at(fits), labels[fits])
        yield Step("components", len(batches), len(batches) + len(waiting) + 1)
    return batches


def _batches(edges: Edges, labels: NDArray[np.int32]) -> list[Edges]:
    """Whole components of at most NATIVE_EDGES each, as many as fit together."""
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels))
    found: list[Edges] = []
    start = 0
    while start < len(order):
        # The last component that ends within reach; the first one always does.
        stop = int(ends[np.searchsorted(ends, start + NATIVE_EDGES, side="right") - 1])
        found.append(edges.at(order[start:stop]))
        start = stop
    return found


def _refused_inside(units: Units, part: Rows, guard: Guard) -> Search[bool]:
    """Whether the guard has something against any two of these units."""
    for place in range(1, len(part)):
        if (yield from guard(units.rows(part[:place]), units.rows(part[place : place + 1]))):
            return True
    return False


def _communities(edges: Edges, density: float) -> Search[list[Rows]]:
    """The communities of two and more units in which the mean weight over all pairs exceeds about `density`."""
    rows, ends = np.unique(np.concatenate([edges.src, edges.dst]), return_inverse=True)
    low, high = np.sort(ends.reshape(2, -1), axis=0)
    # Of several edges between two units the strongest counts, whatever their direction.
    order = np.lexsort((-edges.weight, high, low))
    low, high, weight = low[order], high[order], edges.weight[order].astype(np.float64)
    first = np.concatenate([[True], (np.diff(low) != 0) | (np.diff(high) != 0)])
    half = csr_matrix((weight[first], (low[first], high[first])), shape=(len(rows), len(rows)))
    adjacency = csr_matrix(half + half.T)
    # scikit-network divides the weights by their sum and gives each row the mass 1 / n; this undoes both.
    resolution = density * len(rows) ** 2 / float(adjacency.sum())
    louvain = Louvain(
        resolution=resolution, modularity="potts", tol_optimization=1e-6, tol_aggregation=1e-6,
        return_probs=False, return_aggregate=False, sort_clusters=False,
    )  # fmt: skip
    labels = np.asarray(cast("Any", louvain.fit_predict(adjacency)))
    return [rows[part] for part in (yield from grouped(labels)) if len(part) > 1]


def _mean_cosine(units: Units) -> float:
    """Over all pairs of the rows of two and more units."""
    count = int(units.sizes.sum())
    total = units.sizes.astype(np.float32) @ units.means
    # The rows have unit length.
    return float((total @ total - count) / (count * (count - 1)))
