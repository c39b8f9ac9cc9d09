"""Where each memory lies in the Poincare ball (REQ-DREAM-010): near what it is linked to, the important ones nearer
the centre.

How a memory gets its place
1. It had one and nobody changed it: that one, as it is. Where fewer than half have one, all are placed anew, and begin
   where they were.
2. It is linked: the fit of `kernels.poincare_fit`. It begins in the middle of those of its neighbours that have a
   place, else near the centre. Importance and the number of its links draw it to the centre.
3. It is not linked: the middle of the memories nearest by their vectors, a little farther out.
4. Nothing is near it: as far out as it is unimportant, in the direction that its vector gives.

n: rows. d: numbers of a point. D: numbers of a vector. N: capacity for rows. R: rows of a block.
"""

# JAX and scipy leave some of their own types out.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from dreamsvc.dreamer.fit_quality import average_precision, sample_of
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Edges, Pairs, Rows, Search, Step, joined
from dreamsvc.v1.config_pb2 import RemConfig
from dreamsvc.v1.dream_pb2 import Fit
from kernels.padding import capacity, pad_column
from kernels.poincare import LIMIT, RADIUS
from kernels.poincare_fit import GROUP, fit_begin, fit_block

# Links of a row that a step of the fit looks at, and rows that do not move that it is compared with.
LINKS, FIXED = 8, 16
# Numbers that a step of the fit moves, and that a step of judging compares: each about 3 ms.
MOVED, AROUND = 4_096, 20
# Numbers that the whole fit moves, about, and so the steps that each row makes: few where there are many rows, and then
# longer ones.
ALL_MOVED, FEWEST_ROUNDS, MOST_ROUNDS = 10_000_000, 20, 300
SLOW_RATE, RATE_EXPONENT, LAST_SHARE = 0.1, 0.4, 0.02
# Part of the loss for each unit of distance from the centre, for a row of the highest standing.
PULL = 0.6
# How far from the centre a row begins, and how far from others in whose middle it begins.
BEGIN, STRAY = 0.1, 0.1
# Rows that those without links are compared with, how many of the nearest count, and from which cosine on.
ANCHORS, NEAREST, NEAR = 2_048, 4, 0.2
# Farther out than these by so much.
OUTWARD = 0.5
# Distance from the centre of a row that nothing is near, of importance 1 and of 0.
INNER, OUTER = 1.0, 5.0
# The directions of vectors are the same in every night.
DIRECTIONS_SEED = 11
CHUNK, TILE = 8_192, 64
NOT_A_NUMBER = "a position came out as no number; all memories keep the positions they had"

type Points = NDArray[np.float32]  # [n, d]


class Placed(NamedTuple):
    """Where the memories lie."""

    points: Points  # [n, d], in the ball, NaN for rows that recall does not answer with; all NaN where the fit failed
    fitted: Rows  # those whose point is new, ascending
    fit: Fit
    notice: str  # why there are no points; empty where all is well


class _Plan(NamedTuple):
    """Who stays and who moves; all [n]."""

    wanted: NDArray[np.bool_]  # to have a place
    moving: NDArray[np.bool_]  # of these, those that get a new one
    linked: NDArray[np.bool_]  # of these, those with a link
    placed: NDArray[np.bool_]  # of the wanted, those that have one already
    points: Points  # where those are, 0 for others


def place(
    memories: Memories,
    src: NDArray[np.integer],
    dst: NDArray[np.integer],
    strength: NDArray[np.floating],
    config: RemConfig,
    *,
    seed: int,
) -> Search[Placed]:
    """A point for every row that recall may answer with; the same for the same seed on the same kind of device.

    src, dst: [k], rows that are linked, in either direction and any order; strength: [k], above 0. Links to rows that
    recall does not answer with do not count. Nothing is raised: where a number is no number, `notice` says so, and no
    row has a new point.
    """
    pairs = yield from _links(memories, src, dst, strength)
    plan = yield from _planned(memories, pairs, config.dimension)
    directions = yield from _directions(memories, config.dimension, seed)
    points = yield from _beginnings(plan, pairs, directions)
    loss = 0.0
    if plan.linked.any():
        points, loss = yield from _fitted(plan, pairs, _standing(memories, pairs), points, seed)
    if np.isfinite(loss):
        points = yield from _beside(memories, plan, points, directions, seed)
    fit = Fit(memories=int(np.count_nonzero(plan.wanted)), dimension=config.dimension)
    if not (np.isfinite(loss) and np.isfinite(points[plan.wanted]).all()):
        return Placed(np.full_like(points, np.nan), np.zeros(0, np.int64), fit, NOT_A_NUMBER)
    yield Step("positions", 1, 1)
    fit.fitted, fit.loss = int(np.count_nonzero(plan.moving)), loss
    yield from _judge(fit, plan, pairs, points, seed)
    points[~plan.wanted] = np.nan
    return Placed(points, np.flatnonzero(plan.moving), fit, "")


# ── what is known before ────────────────────────────────────────────────────────


def rows_at_once(dimension: int) -> int:
    """R."""
    return max(1, MOVED // (dimension * GROUP)) * GROUP


def around_at_once(dimension: int) -> int:
    """Rows whose distances to all others are computed together."""
    return max(1, AROUND // dimension)


def _links(
    memories: Memories, src: NDArray[np.integer], dst: NDArray[np.integer], strength: NDArray[np.floating]
) -> Search[Pairs]:
    """Who is linked to whom, both ways, each pair once."""
    wanted = memories.findable
    good = wanted[src] & wanted[dst] & (strength > 0.0) & np.isfinite(strength)
    yield Step("links", 0, 1)
    edges = Edges(src[good].astype(np.int64), dst[good].astype(np.int64), strength[good].astype(np.float32))
    yield Step("links", 0, 1)
    return (yield from joined([edges], len(wanted)))


def _planned(memories: Memories, pairs: Pairs, dimension: int) -> Search[_Plan]:
    n = len(memories.node_ids)
    wanted, points = memories.findable, np.zeros((n, dimension), np.float32)
    placed = np.zeros(n, np.bool_)
    if memories.points.shape[1] == dimension:
        for start in range(0, n, CHUNK):
            part = memories.points[start : start + CHUNK]
            # A point that is no number is not below 1 either.
            inside = np.einsum("nd,nd->n", part, part) < 1.0
            placed[start : start + CHUNK] = inside & wanted[start : start + CHUNK]
            points[start : start + CHUNK] = np.where(placed[start : start + CHUNK, None], part, 0.0)
            yield Step("positions", start, n)
    kept = placed & ~memories.changed
    if 2 * np.count_nonzero(kept) < np.count_nonzero(wanted):
        kept[:] = False
    moving = wanted & ~kept
    return _Plan(wanted, moving, moving & (np.diff(pairs.indptr) > 0), placed, points)


def _standing(memories: Memories, pairs: Pairs) -> NDArray[np.float32]:
    """How strongly each row is drawn to the centre, [n], 0..1: half its importance, half how much is linked to it."""
    links = np.log1p(np.diff(pairs.indptr))
    importance = np.clip(np.nan_to_num(memories.importance), 0.0, 1.0)
    return (0.5 * importance + 0.5 * links / max(1.0, links.max(initial=0.0))).astype(np.float32)


def _directions(memories: Memories, dimension: int, seed: int) -> Search[Points]:
    """A direction for each row, [n, d]: a random projection of its vector, and any where it has none."""
    n, size = memories.vectors.shape
    turned = np.random.default_rng(DIRECTIONS_SEED).standard_normal((size, dimension), np.float32)
    rng = np.random.default_rng(seed)
    directions = np.empty((n, dimension), np.float32)
    for start in range(0, n, CHUNK):
        part = memories.vectors[start : start + CHUNK] @ turned
        whims = rng.standard_normal(part.shape, np.float32)
        found = np.where(memories.embedded[start : start + CHUNK, None], part, whims)
        directions[start : start + CHUNK] = found / _norm(found)
        yield Step("positions", start, n)
    return directions


def _beginnings(plan: _Plan, pairs: Pairs, directions: Points) -> Search[Points]:
    """Where all rows are before the fit, [n, d]; 0 for those that it does not concern."""
    n = len(plan.wanted)
    free, points = np.empty_like(plan.points), plan.points.copy()
    for start in range(0, n, CHUNK):
        free[start : start + CHUNK] = _free(plan.points[start : start + CHUNK])
        yield Step("positions", start, n)
    for start in range(0, n, CHUNK):
        part = slice(start, start + CHUNK)
        middle, count = _middles(pairs, free, plan.placed, start, min(start + CHUNK, n))
        begin = np.where(count[:, None] > 0.0, middle + STRAY * directions[part], BEGIN * directions[part])
        fresh = plan.linked[part] & ~plan.placed[part]
        points[part] = np.where(fresh[:, None], _in_ball(begin), points[part])
        yield Step("positions", start, n)
    return points


def _middles(
    pairs: Pairs, free: Points, placed: NDArray[np.bool_], start: int, stop: int
) -> tuple[Points, NDArray[np.float32]]:
    """The mean of the placed neighbours of rows `start` to `stop`, and how many those are."""
    first, last = int(pairs.indptr[start]), int(pairs.indptr[stop])
    neighbour = pairs.neighbour[first:last]
    indptr = pairs.indptr[start : stop + 1] - first
    table = csr_array((placed[neighbour].astype(np.float32), neighbour, indptr), shape=(stop - start, len(free)))
    count = np.asarray(table @ np.ones(len(free), np.float32), np.float32)
    return (table @ free / np.maximum(count, 1.0)[:, None]).astype(np.float32), count


def _free(points: Points) -> Points:
    """Logarithms at the centre; the length of each is its distance from there."""
    norm = _norm(points)
    return (points * (2.0 * np.arctanh(np.minimum(norm, LIMIT)) / norm)).astype(np.float32)


def _in_ball(free: Points) -> Points:
    """What `_free` makes these of."""
    norm = _norm(free)
    return (free * (np.tanh(0.5 * np.minimum(norm, RADIUS)) / norm)).astype(np.float32)


def _norm(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Length of each, [rows, 1], no less than 1e-7."""
    return np.maximum(np.sqrt(np.einsum("nd,nd->n", rows, rows)), np.float32(1e-7))[:, None]


# ── the fit ─────────────────────────────────────────────────────────────────────


def _fitted(
    plan: _Plan, pairs: Pairs, standing: NDArray[np.float32], points: Points, seed: int
) -> Search[tuple[Points, float]]:
    """Points after the fit, [n, d], and the loss of its last round, NaN where it failed."""
    n, dimension = points.shape
    nodes, size = capacity(n), rows_at_once(dimension)
    room = np.zeros((nodes, dimension), np.float32)
    room[:n] = points
    drawing = _Drawing(pairs, standing, np.flatnonzero(plan.placed & ~plan.moving), nodes, size)
    state = jax.block_until_ready(fit_begin(jax.device_put(room)))
    yield Step("positions", 0, 1)
    moving = np.flatnonzero(plan.linked)
    rounds = max(FEWEST_ROUNDS, min(MOST_ROUNDS, ALL_MOVED // (len(moving) * dimension)))
    fastest = SLOW_RATE * (MOST_ROUNDS / rounds) ** RATE_EXPONENT
    rng, loss = np.random.default_rng(seed), 0.0
    for turn in range(rounds):
        order, loss = rng.permutation(moving), 0.0
        for start in range(0, len(order), size):
            block = drawing.block(order[start : start + size], rng)
            state, info = fit_block(
                state,
                *(jax.device_put(column) for column in block),
                turn=turn,
                all_moving=len(moving),
                all_fixed=len(drawing.fixed),
                learning_rate=fastest * (1.0 - turn / rounds * (1.0 - LAST_SHARE)),
                pull=PULL,
            )
            loss += float(info.loss)
            yield Step("positions", turn * len(order) + start, rounds * len(order))
            if not info.finite or not np.isfinite(loss):
                return points, float("nan")
    # The others stay as they are to the last bit.
    points[moving] = np.asarray(state.points)[moving]
    return points, loss / len(moving)


class _Block(NamedTuple):
    """What one step of the fit reads."""

    rows: NDArray[np.int32]  # [R], N in the empty places
    linked: NDArray[np.int32]  # [R, LINKS], N for none
    strength: NDArray[np.float32]  # [R, LINKS]
    mutual: NDArray[np.float32]  # [R, LINKS], by how much a link is a greater share of what the other end has
    fixed: NDArray[np.int32]  # [R, FIXED], rows that do not move, N for none
    standing: NDArray[np.float32]  # [R]


class _Drawing:
    """What rows are compared with, drawn anew for each step."""

    def __init__(self, pairs: Pairs, standing: NDArray[np.float32], fixed: Rows, nodes: int, size: int) -> None:
        """fixed: rows that have a point and keep it. nodes, size: N and R."""
        self.fixed = fixed
        summed = np.concatenate([[0.0], np.cumsum(pairs.weight, dtype=np.float64)])
        self._total = np.maximum(np.diff(summed[pairs.indptr]), 1e-9)
        self._pairs, self._standing, self._nodes, self._size = pairs, standing, nodes, size

    def block(self, rows: Rows, rng: np.random.Generator) -> _Block:
        """Of these rows, which are linked, each with all its links, or with LINKS that follow each other."""
        first = self._pairs.indptr[rows]
        degree = self._pairs.indptr[rows + 1] - first
        begin = np.where(degree > LINKS, (rng.random(len(rows)) * degree).astype(np.int64), 0)
        place = first[:, None] + (begin[:, None] + np.arange(LINKS)) % degree[:, None]
        some = np.arange(LINKS) < degree[:, None]
        neighbour, count = self._pairs.neighbour[place], len(rows)
        linked = np.full((self._size, LINKS), self._nodes, np.int32)
        strength, mutual = np.zeros((2, self._size, LINKS), np.float32)
        linked[:count] = np.where(some, neighbour, self._nodes)
        strength[:count] = np.where(some, self._pairs.weight[place], 0.0)
        mutual[:count] = np.where(some, self._total[rows][:, None] / self._total[neighbour], 0.0)
        return _Block(
            pad_column(rows.astype(np.int32), self._nodes, size=self._size),
            linked,
            strength,
            mutual,
            self._drawn(rows, first, degree, rng),
            pad_column(self._standing[rows], 0.0, size=self._size),
        )

    def _drawn(self, rows: Rows, first: Rows, degree: Rows, rng: np.random.Generator) -> NDArray[np.int32]:
        """For each of the rows some of those that do not move and are not linked to it, [R, FIXED]."""
        drawn = np.full((self._size, FIXED), self._nodes, np.int32)
        if len(self.fixed) == 0:
            return drawn
        drawn[: len(rows)] = self.fixed[rng.integers(0, len(self.fixed), (len(rows), FIXED), np.int32)]
        # The fit knows the links that it is given; of a row with more of them the others are no rivals either.
        for number in np.flatnonzero(degree > LINKS).tolist():
            links = self._pairs.neighbour[first[number] : first[number] + degree[number]]
            at = np.minimum(np.searchsorted(links, drawn[number]), len(links) - 1)
            drawn[number, links[at] == drawn[number]] = self._nodes
        return drawn


def _judge(fit: Fit, plan: _Plan, pairs: Pairs, points: Points, seed: int) -> Search[None]:
    """Puts into the fit what the points tell of links, and what the same points tell if they belong to any rows."""
    linked = np.flatnonzero((np.diff(pairs.indptr) > 0) & plan.wanted)
    if len(linked) == 0:
        return
    rng = np.random.default_rng(seed)
    sample = sample_of(linked, len(points), rng)
    around = around_at_once(points.shape[1])
    fit.mean_average_precision = yield from average_precision(points, plan.wanted, pairs, sample, around=around)
    wanted = np.flatnonzero(plan.wanted)
    shuffled = points.copy()
    shuffled[wanted] = points[rng.permutation(wanted)]
    fit.chance = yield from average_precision(shuffled, plan.wanted, pairs, sample, around=around)


# ── what is not linked ──────────────────────────────────────────────────────────


def _beside(memories: Memories, plan: _Plan, points: Points, directions: Points, seed: int) -> Search[Points]:
    """The points with those of rows that move and have no link."""
    rows = np.flatnonzero(plan.moving & ~plan.linked)
    importance = np.clip(np.nan_to_num(memories.importance), 0.0, 1.0)
    anchors = np.flatnonzero((plan.linked | (plan.placed & ~plan.moving)) & memories.embedded)
    rng = np.random.default_rng(seed)
    anchors = np.sort(rng.choice(anchors, min(ANCHORS, len(anchors)), replace=False))
    vectors, known = memories.vectors[anchors], _free(points[anchors])
    yield Step("positions beside", 0, len(rows))
    for start in range(0, len(rows), TILE):
        part = rows[start : start + TILE]
        free = directions[part] * (OUTER - (OUTER - INNER) * importance[part])[:, None]
        if len(anchors):
            middle, near = _middle_of_nearest(memories.vectors[part] @ vectors.T, known)
            middle += STRAY * directions[part]
            free = np.where(near[:, None] & memories.embedded[part, None], middle, free)
        points[part] = _in_ball(free.astype(np.float32))
        yield Step("positions beside", start, len(rows))
    return points


def _middle_of_nearest(cosines: NDArray[np.float32], free: Points) -> tuple[Points, NDArray[np.bool_]]:
    """The mean of the nearest anchors, by their cosine, moved outward; and which rows have any. cosines: [rows, A]."""
    count = min(NEAREST, cosines.shape[1])
    best = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    cosine = np.take_along_axis(cosines, best, axis=1)
    weight = np.where(cosine >= NEAR, cosine, 0.0)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-6)
    middle = np.einsum("rc,rcd->rd", weight, free[best])
    norm = np.linalg.norm(middle, axis=1, keepdims=True)
    # A mean is nearer the centre than what it is the mean of.
    radius = np.einsum("rc,rc->r", weight, np.linalg.norm(free[best], axis=2))[:, None] + OUTWARD
    return middle / np.maximum(norm, 1e-6) * radius, weight.sum(axis=1) > 0.0
