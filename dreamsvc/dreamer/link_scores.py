"""How likely two memories are to be linked, learned each night from the links that the memory has.

A logistic regression (Newton's method, ridge) over what is known of a pair. Of the known links MASKED are taken out of
the graph before features are made of them, as if they were still to be found (Liben-Nowell and Kleinberg 2007); beside
each stands a pair that is not linked, half of them drawn at random, half from what lies near in the graph or has words
in common. A part that the regression has not seen tells whether it can be used at all. p: pairs. f: FEATURES.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.memories import NEVER, NOWHERE, Memories
from dreamsvc.dreamer.merging import Edges, Search, Step
from dreamsvc.dreamer.reach import SORTED, Graph, found_in, graph_of, overlap_of, reach_of, spread
from dreamsvc.dreamer.text_evidence import TextEvidence

FEATURES = ("mention", "rare names", "cosine", "overlap", "common neighbours", "degree", "nearness in time")
# More of these never speaks against a link; one that would is left out.
SPEAKING_FOR = np.array([True, True, False, True, True, False, True])
# Links without which nothing is learned, and the least area under the curve that is of use.
FEWEST_LINKS, LEAST_AUC = 100, 0.7
MASKED, MOST_MASKED = 0.4, 20_000
# Links learned from, and the share of them that is held out.
SAMPLED, HELD_OUT = 1_500, 0.3
# A pair passes for linked if only this share of those that lie near but are not linked scores as high; with fewer of
# these held out than FEWEST_NEAR none does.
FALSE_ALARMS, FEWEST_NEAR = 0.02, 20
RIDGE, ROUNDS = 1.0, 12
PAIRS = 512  # in one step
HOUR_US = 3_600_000_000


class LinkScorer(NamedTuple):
    """What was learned; not `usable` where there were too few links, or it cannot tell them from others."""

    usable: bool
    auc: float  # on held-out links, 0 where nothing was learned
    links: int  # known ones that it could learn from
    bias: float
    weights: NDArray[np.float64]  # [f], of standardised features
    means: NDArray[np.float64]  # [f]
    scales: NDArray[np.float64]  # [f]
    bar: float  # score from which a pair passes for linked

    @classmethod
    def unknown(cls, links: int = 0) -> "LinkScorer":
        """Where nothing was learned."""
        none = np.zeros(len(FEATURES))
        return cls(False, 0.0, links, 0.0, none, none, np.ones(len(FEATURES)), 1.0)

    def score(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """0 to 1, [p]."""
        return _sigmoid((features - self.means) / self.scales @ self.weights + self.bias)


def features_of(
    memories: Memories,
    graph: Graph,
    evidence: TextEvidence,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    overlap: NDArray[np.float32],
) -> Search[NDArray[np.float64]]:
    """[p, f] of pairs of which nobody knows whether they are linked; an edge between the two does not count."""
    out = np.zeros((len(left), len(FEATURES)))
    for start in range(0, len(left), PAIRS):
        part = slice(start, start + PAIRS)
        one, two = left[part], right[part]
        out[part, 0] = evidence.mention(one, two)
        out[part, 1] = np.minimum(evidence.shared(one, two), 3)
        out[part, 2] = np.einsum("pd,pd->p", memories.vectors[one], memories.vectors[two])
        out[part, 3] = overlap[part]
        yield Step("link scores", start, len(left))
        joined = graph.are_linked(one, two)
        degrees = np.log1p(graph.degrees(one) - joined) + np.log1p(graph.degrees(two) - joined)
        out[part, 4] = common_neighbours(graph, one, two)
        out[part, 5] = degrees
        out[part, 6] = _near_in_time(memories, one, two)
        yield Step("link scores", start, len(left))
    return out


def common_neighbours(graph: Graph, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of 1 / log(1 + degree) over rows that both are walked to from (Adamic and Adar 2003), [p]."""
    n, table = graph.n, graph.walked
    (owner, place), (other, there) = spread(table.indptr, left), spread(table.indptr, right)
    both = found_in(np.sort(other * n + table.row[there]), owner * n + table.row[place])
    shared = table.row[place[both]]
    return np.bincount(owner[both], 1 / np.log1p(np.maximum(graph.degrees(shared), 2)), minlength=len(left))


def learn(
    memories: Memories,
    edges: Edges,
    shown: NDArray[np.bool_],
    graph: Graph,
    evidence: TextEvidence,
    *,
    hops: int,
    leap: float,
    seed: int,
) -> Search[LinkScorer]:
    """From the edges that are walked, as far as their ends lie `leap` apart as those do that it will be asked about.

    shown: [e], edges that can be learned from. graph: of all edges. hops: of reach, from each end.
    """
    rng = np.random.default_rng(seed)
    links = yield from _links(memories, edges.at(shown), leap)
    count = len(links)
    if count < FEWEST_LINKS:
        return LinkScorer.unknown(count)
    hidden = np.unique(rng.choice(links, min(int(MASKED * count), MOST_MASKED), replace=False, shuffle=False))
    yield Step("link scores", 0, 1)
    rest = yield from _without(edges, hidden, graph.n)
    left_over = yield from graph_of(rest, graph.n)
    chosen = rng.permutation(hidden)[:SAMPLED]
    left, right = chosen // graph.n, chosen % graph.n
    others, is_near = yield from _unlinked(memories, graph, left_over, evidence, left, leap, rng)
    kept = others >= 0
    one = np.concatenate([left, left[kept]])
    two = np.concatenate([right, others[kept]])
    linked = np.arange(len(one)) < len(left)
    reach = yield from reach_of(left_over, np.unique(np.concatenate([one, two])), hops)
    overlap = yield from overlap_of(reach, one, two, graph.n)
    features = yield from features_of(memories, left_over, evidence, one, two, overlap.overlap)
    near = np.concatenate([np.zeros(len(left), np.bool_), is_near[kept]])
    return (yield from _fitted(features, linked, near, count, rng))


def _links(memories: Memories, edges: Edges, leap: float) -> Search[NDArray[np.int64]]:
    """Walked edges as keys, the lower row first, whose ends can be compared and lie so far apart."""
    n = len(memories.node_ids)
    usable = memories.findable & memories.embedded
    found: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for start in range(0, len(edges.src), SORTED // 8):
        part = edges.at(slice(start, start + SORTED // 8))
        kept = (part.weight > 0) & usable[part.src] & usable[part.dst]
        src, dst = part.src[kept], part.dst[kept]
        cosines = np.einsum("pd,pd->p", memories.vectors[src], memories.vectors[dst])
        far = 1 - cosines >= leap
        found.append((np.minimum(src, dst) * n + np.maximum(src, dst))[far])
        yield Step("link scores", start, len(edges.src))
    return np.concatenate(found)


def _without(edges: Edges, hidden: NDArray[np.int64], n: int) -> Search[Edges]:
    """The edges that join none of the hidden pairs."""
    kept: list[NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    for start in range(0, len(edges.src), SORTED):
        part = edges.at(slice(start, start + SORTED))
        keys = np.minimum(part.src, part.dst) * n + np.maximum(part.src, part.dst)
        kept.append(~found_in(hidden, keys))
        yield Step("link scores", start, len(edges.src))
    return edges.at(np.concatenate(kept))


def _unlinked(
    memories: Memories,
    graph: Graph,
    left_over: Graph,
    evidence: TextEvidence,
    rows: NDArray[np.int64],
    leap: float,
    rng: np.random.Generator,
) -> Search[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """For each row one that it is not linked to and that lies far enough from it, -1 where none was drawn; and whether
    it lies near in the graph or has words in common, as candidates do."""
    usable = memories.findable & memories.embedded
    # Drawn like ends of links, or their number of links alone would tell them from links.
    ends = left_over.linked.row[usable[left_over.linked.row]]
    out, is_near = np.full(len(rows), -1, np.int64), np.zeros(len(rows), np.bool_)
    for start in range(0, len(rows), 16):
        part = rows[start : start + 16]
        reach = yield from reach_of(left_over, np.unique(part), 2)
        owner, other = evidence.beside(part)
        reached, place = spread(reach.indptr, np.searchsorted(reach.starts, part))
        owner, other = np.concatenate([owner, reached]), np.concatenate([other, reach.row[place]])
        kept = usable[other] & (other != part[owner]) & ~graph.are_linked(part[owner], other)
        owner, other = owner[kept], other[kept]
        cosines = np.einsum("pd,pd->p", memories.vectors[part[owner]], memories.vectors[other])
        owner, other = owner[1 - cosines >= leap], other[1 - cosines >= leap]
        for at, row in enumerate(part.tolist()):
            near = other[owner == at]
            is_near[start + at] = len(near) > 0 and (start + at) % 2 == 1
            drawn = int(rng.choice(near if is_near[start + at] else ends))
            far = 1 - float(memories.vectors[row] @ memories.vectors[drawn]) >= leap
            if drawn != row and far and not graph.are_linked(np.array([row]), np.array([drawn]))[0]:
                out[start + at] = drawn
        yield Step("link scores", start, len(rows))
    return out, is_near


def _fitted(
    features: NDArray[np.float64],
    linked: NDArray[np.bool_],
    near: NDArray[np.bool_],
    count: int,
    rng: np.random.Generator,
) -> Search[LinkScorer]:
    held = rng.random(len(linked)) < HELD_OUT
    means, scales = features[~held].mean(axis=0), features[~held].std(axis=0)
    scales = np.where(scales > 1e-9, scales, 1.0)
    table = np.column_stack([(features - means) / scales, np.ones(len(features))])
    used = np.ones(table.shape[1], np.bool_)
    while True:
        weights = np.zeros(table.shape[1])
        weights[used] = yield from _newton(table[~held][:, used], linked[~held].astype(np.float64))
        against = np.append(SPEAKING_FOR, False) & (weights < 0)
        if not against.any():
            break
        used &= ~against
    scores = _sigmoid(table[held] @ weights)
    auc = area(scores[linked[held]], scores[~linked[held]])
    alike = scores[near[held]]
    bar = float(np.quantile(alike, 1 - FALSE_ALARMS)) if len(alike) >= FEWEST_NEAR else np.inf
    return LinkScorer(auc >= LEAST_AUC, auc, count, float(weights[-1]), weights[:-1], means, scales, max(0.5, bar))


def _newton(table: NDArray[np.float64], truth: NDArray[np.float64]) -> Search[NDArray[np.float64]]:
    """Weights of the columns, the last of which is 1 everywhere."""
    weights = np.zeros(table.shape[1])
    ridge = RIDGE * np.eye(table.shape[1])
    ridge[-1, -1] = 1e-6  # the bias is free
    for number in range(ROUNDS):
        told = _sigmoid(table @ weights)
        slope = table.T @ (told - truth) + ridge @ weights
        curve = (table * (told * (1 - told))[:, None]).T @ table + ridge
        weights = weights - np.linalg.solve(curve, slope)
        yield Step("link scores", number, ROUNDS)
    return weights


def area(linked: NDArray[np.floating], others: NDArray[np.floating]) -> float:
    """Share of (linked, other) whose linked one scores higher, ties half: the area under the curve; 0.5 for none."""
    if not len(linked) or not len(others):
        return 0.5
    ordered = np.sort(others)
    below = np.searchsorted(ordered, linked) + np.searchsorted(ordered, linked, side="right")
    return float(below.mean() / (2 * len(others)))


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(values, -30, 30)))


def _near_in_time(memories: Memories, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 at the same time, a half an hour apart, 0 where no time is known; and 1 more in one session."""
    one, two = memories.event_us[left], memories.event_us[right]
    hours = np.abs(one - two) / HOUR_US
    near = np.where((one == NEVER) | (two == NEVER), 0.0, 1 / (1 + hours))
    session = memories.sessions[left]
    return near + ((session != NOWHERE) & (session == memories.sessions[right]))
