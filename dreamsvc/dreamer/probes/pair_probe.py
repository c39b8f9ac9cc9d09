"""The pair probe: whether a night made what belongs together easier to find together.

Trusted edges (a, b) are hidden, so that a night is not praised for what it was told. A cue is half a memory of a:
normalise(v_a + 1.6 g), g a random direction of unit length, so its cosine with v_a is about 1 / sqrt(1 + 1.6^2) = .53,
that of a question and its answer. Both a and b are to be among the first five:

    score = minmax(dense) + walk_weight PPR / max(PPR)

as in recall, before with the edges as they were, after with the edges and containers of the night. The lift that
questions see is about 0.4 times that of the probe. Without trusted edges it is "not measured", never a guess.

n: rows. m: edges, those of the night included. D: numbers in a vector.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step, Vectors
from dreamsvc.dreamer.probes.bootstrap import interval, resampled
from dreamsvc.dreamer.probes.reading import Reader, best_rows, look, products, reader_of, together, values_of
from dreamsvc.scoring import WALK_SEEDS, WALK_TEMPERATURE
from dreamsvc.two_stage import Index
from dreamsvc.v1.config_pb2 import RecallConfig
from dreamsvc.v1.dream_pb2 import Lift
from dreamsvc.walk import Adjacency, build_adjacency, walk

PAIRS, FEWEST_PAIRS = 250, 20
TRUSTED_CONFIDENCE = 0.7
NOISE = 1.6
FIRST = 5  # rows in which both ends are looked for
# Entries of the adjacency sorted in one step.
SORTED = 32_768


class Strength(NamedTuple):
    """How edges stand at one time."""

    weights: NDArray[np.float32]  # [m]
    alive: NDArray[np.bool_]  # [m]


class Ties(NamedTuple):
    """All edges that there are before or after; first those of the memories, in their order.

    An edge that the night moves to another row is one that dies and one that begins.
    """

    src: NDArray[np.int32]  # [m], rows
    dst: NDArray[np.int32]  # [m], rows
    before: Strength
    after: Strength
    paths: Mapping[int, Sequence[int]]  # of a shortcut, the edges that it stands for


def measure_lift(
    memories: Memories,
    ties: Ties,
    trusted: NDArray[np.bool_],
    index_before: Index,
    index_after: Index,
    stands_for: NDArray[np.int32],
    recall: RecallConfig,
    *,
    seed: int,
) -> Search[Lift]:
    """Recall@5 of both ends of trusted edges that are hidden, before and after.

    trusted: [e], edges that no dream made. stands_for: [n] or longer, the row that is read instead of each now.
    """
    n = len(memories.node_ids)
    rng = np.random.default_rng(seed)
    pairs = yield from _pairs(memories, ties, trusted, rng)
    if len(pairs) < FEWEST_PAIRS:
        return Lift(pairs=len(pairs))
    hidden = yield from _hidden(ties, pairs, stands_for)
    adjacency = yield from adjacency_of(ties.src, ties.dst, max(n, len(stands_for)))
    away = rng.standard_normal((len(pairs), memories.vectors.shape[1]), np.float32)
    away *= NOISE / np.linalg.norm(away, axis=1, keepdims=True)
    cues = memories.vectors[pairs[:, 0]] + away
    cues /= np.linalg.norm(cues, axis=1, keepdims=True)
    findable = memories.findable & memories.embedded
    standing = findable & (stands_for[:n] == np.arange(n))
    before = yield from _recalls(
        _Memory(reader_of(index_before, findable, recall), adjacency, _without(ties.before, hidden)),
        cues,
        pairs,
        recall,
    )
    after = yield from _recalls(
        _Memory(reader_of(index_after, standing, recall), adjacency, _without(ties.after, hidden)),
        cues,
        stands_for[pairs].astype(np.int32),
        recall,
    )
    means_before, means_after = yield from resampled(before, after, seed=seed)
    low, high = interval(means_after - means_before)
    return Lift(
        measured=True,
        pairs=len(pairs),
        before=float(before.mean()),
        after=float(after.mean()),
        lift_points=100 * float(after.mean() - before.mean()),
        lift_low=100 * low,
        lift_high=100 * high,
    )


class _Memory(NamedTuple):
    """A memory at one time, as a cue finds it."""

    reader: Reader
    adjacency: Adjacency
    strength: Strength


def _pairs(
    memories: Memories, ties: Ties, trusted: NDArray[np.bool_], rng: np.random.Generator
) -> Search[NDArray[np.int32]]:
    """The ends of some trusted edges, [pairs, 2]; no two of them the same, and about half of what is trusted at most.

    With all trusted edges hidden the walk would have nothing left to walk on, before and after.
    """
    usable, owners = memories.findable & memories.embedded, memories.owners()
    count = len(memories.edge_ids)
    found = [np.zeros(0, np.int64)]
    for start in range(0, count, SORTED):
        part = slice(start, min(start + SORTED, count))
        src, dst = ties.src[part], ties.dst[part]
        possible = trusted[part] & ties.before.alive[part] & (memories.confidences[part] >= TRUSTED_CONFIDENCE)
        possible &= usable[src] & usable[dst] & (owners[src] != owners[dst])
        found.append(start + np.flatnonzero(possible))
        yield Step("trusted", part.stop, count)
    places = np.concatenate(found)
    wanted = min(PAIRS, max(FEWEST_PAIRS, len(places) // 2))
    # Drawn are some more, since two edges may join the same pair.
    drawn = places[rng.choice(len(places), min(len(places), 4 * wanted), replace=False)]
    _, once = np.unique(_keys(ties.src[drawn], ties.dst[drawn]), return_index=True)
    drawn = drawn[np.sort(once)[:wanted]]
    return np.stack([ties.src[drawn], ties.dst[drawn]], axis=1)


def _hidden(ties: Ties, pairs: NDArray[np.int32], stands_for: NDArray[np.int32]) -> Search[NDArray[np.bool_]]:
    """Edges that give a pair away, [m]: all between its ends or what stands for them, and shortcuts over such."""
    keys = _keys(stands_for[pairs[:, 0]], stands_for[pairs[:, 1]])
    hidden = np.zeros(len(ties.src), np.bool_)
    for start in range(0, len(hidden), SORTED):
        part = slice(start, start + SORTED)
        hidden[part] = np.isin(_keys(stands_for[ties.src[part]], stands_for[ties.dst[part]]), keys)
        yield Step("hidden", start, len(hidden))
    for shortcut, path in ties.paths.items():
        hidden[shortcut] |= bool(hidden[np.asarray(path, np.int64)].any())
    return hidden


def _keys(left: NDArray[np.integer], right: NDArray[np.integer]) -> NDArray[np.int64]:
    """One number for each pair of rows, whichever comes first."""
    return np.minimum(left, right).astype(np.int64) << 32 | np.maximum(left, right).astype(np.int64)


def _without(strength: Strength, hidden: NDArray[np.bool_]) -> Strength:
    return strength._replace(alive=strength.alive & ~hidden)


def adjacency_of(src: NDArray[np.int32], dst: NDArray[np.int32], n_rows: int) -> Search[Adjacency]:
    """Like `build_adjacency` without weights, in steps: the entries of some rows after those of the rows before."""
    degrees = np.zeros(n_rows, np.int64)
    for start in range(0, len(src), SORTED):
        part = slice(start, start + SORTED)
        apart = src[part] != dst[part]
        ends = np.concatenate([src[part][apart], dst[part][apart]])
        degrees += np.bincount(ends, minlength=n_rows)
        yield Step("adjacency", start, 2 * len(src))
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(degrees)])
    neighbour, edge = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    low = 0
    while low < n_rows:
        high = min(n_rows, max(low + 1, int(np.searchsorted(indptr, indptr[low] + SORTED, side="right")) - 1))
        here = np.flatnonzero(((src >= low) & (src < high)) | ((dst >= low) & (dst < high)))
        yield Step("adjacency", len(src) + int(indptr[low]) // 2, 2 * len(src))
        # Of what comes from elsewhere only the entries of these rows are kept.
        built = build_adjacency(src[here], dst[here], n_rows)
        entries = slice(int(built.indptr[low]), int(built.indptr[high]))
        neighbour.append(built.neighbour[entries])
        edge.append(here[built.edge[entries]].astype(np.int32))
        yield Step("adjacency", len(src) + int(indptr[high]) // 2, 2 * len(src))
        low = high
    return Adjacency(indptr, np.concatenate(neighbour), np.concatenate(edge), {})


def _recalls(
    memory: _Memory, cues: Vectors, golds: NDArray[np.int32], recall: RecallConfig
) -> Search[NDArray[np.float64]]:
    """The share of both golds among the first rows, for each cue: 0, a half or 1."""
    out = np.zeros(len(cues))
    step = together(memory.reader.source)
    for start in range(0, len(cues), step):
        part = cues[start : start + step]
        first = yield from products(memory.reader.source, part)
        for at in range(len(part)):
            rows = _first_rows(memory, part[at], first[at], recall)
            out[start + at] = np.isin(golds[start + at], rows).mean()
            yield Step("pairs", start + at + 1, len(cues))
    return out


def _first_rows(
    memory: _Memory, cue: NDArray[np.float32], first: NDArray[np.float32], recall: RecallConfig
) -> NDArray[np.int64]:
    """The first rows of dense score and walk together."""
    reader = memory.reader
    seen = look(reader, cue, first)
    # No row outside the best of one or the other is among the best of both.
    rows, values = best_rows(reader, seen, WALK_SEEDS)
    if not len(rows):
        return rows
    lowest = np.min(seen.slots, where=np.isfinite(seen.slots), initial=np.inf)
    low = min(float(lowest), float(seen.values.min(initial=np.inf)))
    span = max(float(values[0]) - low, 1e-12)
    base = (values - low) / span
    if recall.walk_weight <= 0:
        return rows[:FIRST]
    seeds = base > 0
    mass = np.exp((base[seeds] - base.max()) / WALK_TEMPERATURE)
    reached = walk(
        memory.adjacency,
        memory.strength.weights,
        memory.strength.alive,
        rows[seeds],
        mass,
        len(memory.adjacency.indptr) - 1,
        restart=recall.walk_restart,
    )
    kept = reached.rows < len(reader.readable)
    walked_rows, walked = reached.rows[kept], reached.scores[kept]
    dense = (values_of(reader, seen, walked_rows) - low) / span
    total = dense + recall.walk_weight * walked / max(float(walked.max(initial=0.0)), 1e-12)
    # What the walk did not come to has its dense score alone.
    apart = ~np.isin(rows, walked_rows)
    all_rows, totals = np.concatenate([walked_rows, rows[apart]]), np.concatenate([total, base[apart]])
    return all_rows[np.lexsort((all_rows, -totals))[:FIRST]]
