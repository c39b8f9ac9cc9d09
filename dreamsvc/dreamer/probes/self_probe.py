"""The self-probe: how much of what was found before a night is found after it, without one label.

A cue is what somebody might think of who half remembers: a memory's vector drawn towards that of a random one of its
40 nearest neighbours, cue = normalise(v + s e). Far enough (s) that before the night the text of the memory is read
within the token budget for 60 % of the cues: there a change of the index shows, while near the memory nothing does and
far from it only chance. After the night the same cues are read with the same budget, and

    loss = max(0, 1 - found after / found before)

n: rows. K: cues. D: numbers in a vector.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step, Vectors
from dreamsvc.dreamer.probes.bootstrap import interval, resampled
from dreamsvc.dreamer.probes.reading import (
    Reader,
    Said,
    best_rows,
    finds,
    look,
    products,
    reader_of,
    together,
)
from dreamsvc.two_stage import Index
from dreamsvc.v1.config_pb2 import QualityConfig, RecallConfig
from dreamsvc.v1.dream_pb2 import Retention

NEIGHBOURS = 40
FOUND_BEFORE = 0.60
# How near to it is near enough, a standard error of 1,000 cues.
NEAR_ENOUGH = 0.015
# s = tan of the angle between v and the cue, where e stands upright; beyond this a cue has next to nothing of v.
FARTHEST_S = 8.0
HALVINGS = 6
# The angle is sought with so many cues, and then corrected once with all.
SOUGHT_WITH = 192
# A small store asks several times for each memory, towards different neighbours.
CUES_EACH = 5
# All cues are multiplied with all slots about five times. This many multiplications take about 20 s of one core at
# 25 billion a second; a large store has fewer cues for that, but not fewer than FEWEST_CUES.
MULTIPLICATIONS = 2.5e11
FEWEST_CUES = 200
# A budget in which not even so many texts of middling length fit would measure nothing but lengths; it is widened.
FEWEST_TEXTS = 5
COUNTED = 64  # texts a step


class Cues(NamedTuple):
    """What was asked before the night, and what of it was found."""

    golds: NDArray[np.int32]  # [K], row of the memory that each is about
    queries: Vectors  # [K, D], unit length
    found: NDArray[np.bool_]  # [K], before the night
    judges: NDArray[np.bool_]  # [K], half of them, which a gate keeps for its verdict
    s: float  # how far they are drawn away
    token_budget: int
    memories: int  # that could have been asked about
    seed: int

    def at(self, places: NDArray[np.bool_]) -> "Cues":
        """Some of them."""
        return self._replace(
            golds=self.golds[places],
            queries=self.queries[places],
            found=self.found[places],
            judges=self.judges[places],
        )


class Reading(NamedTuple):
    """What the same cues find after the night."""

    found: NDArray[np.bool_]  # [K]


def calibrate(
    memories: Memories, index_before: Index, quality: QualityConfig, recall: RecallConfig, *, seed: int
) -> Search[Cues]:
    """Cues about quality.probe_cues memories, or fewer in a large store (MULTIPLICATIONS) or a very small one.

    There are none where less than two memories can be found by their vectors.
    """
    rng = np.random.default_rng(seed)
    reader = reader_of(index_before, memories.findable & memories.embedded, recall)
    possible = np.flatnonzero(reader.readable)
    wanted = _affordable(quality.probe_cues, index_before) if len(possible) > 1 else 0
    golds = rng.choice(possible, min(len(possible), wanted), replace=False).astype(np.int32)
    said = Said(memories)
    lengths = yield from _counted(said, golds)
    budget = max(quality.probe_tokens, FEWEST_TEXTS * int(np.median(lengths)) if len(lengths) else 0)
    # A text that does not fit even alone is never read.
    golds = golds[lengths <= budget]
    each = min(CUES_EACH, max(1, wanted // max(1, len(golds))))
    asked, towards, turns = yield from _neighbours(memories, reader, golds, each, rng)

    def queries(angle: float, count: int) -> Vectors:
        mixed = np.cos(angle) * memories.vectors[asked[:count]] + np.sin(angle) * memories.vectors[towards[:count]]
        lengths = np.sqrt(np.einsum("kd,kd->k", mixed, mixed))
        return (mixed / np.maximum(lengths, 1e-12)[:, None]).astype(np.float32)

    def found(angle: float, count: int) -> Search[NDArray[np.bool_]]:
        return _found(reader, said, queries(angle, count), asked[:count], budget)

    angle, before = yield from _sought(found, len(asked))
    return Cues(
        golds=asked,
        queries=queries(angle, len(asked)),
        found=before,
        judges=(np.searchsorted(np.sort(golds), asked) + turns) % 2 == 0,
        s=float(np.tan(angle)),
        token_budget=budget,
        memories=len(possible),
        seed=seed,
    )


def measure(
    memories: Memories, cues: Cues, index_after: Index, stands_for: NDArray[np.int32], recall: RecallConfig
) -> Search[Reading]:
    """The same cues after the night.

    stands_for: [n] or longer, for each row the one that is read for it now: a survivor for its copies, else itself.
    """
    n = len(memories.node_ids)
    standing = stands_for[:n] == np.arange(n)
    reader = reader_of(index_after, memories.findable & memories.embedded & standing, recall)
    found = yield from _found(
        reader, Said(memories), cues.queries, stands_for[cues.golds].astype(np.int32), cues.token_budget
    )
    return Reading(found)


def retention(cues: Cues, reading: Reading, *, max_information_loss: float) -> Search[Retention]:
    """What the night lost, with its interval; not measured where nothing was found before.

    Where few or no cues were lost resampling knows of no more, so the upper end is at least 3 / found (the rule of
    three, Hanley and Lippman-Hand 1983), less the share of the memories that were asked about: what was asked about
    everything is no sample.
    """
    out = Retention(cues=len(cues.golds), token_budget=cues.token_budget, max_information_loss=max_information_loss)
    if not cues.found.any():
        return out
    asked, unit = np.unique(cues.golds, return_inverse=True)
    before, after = np.bincount(unit, cues.found), np.bincount(unit, reading.found)
    means_before, means_after = yield from resampled(before, after, seed=cues.seed)
    low, high = interval(np.maximum(0.0, 1 - means_after / np.maximum(means_before, 1e-12)))
    loss = max(0.0, 1 - float(after.sum() / before.sum()))
    unasked = 1 - len(asked) / max(len(asked), cues.memories)
    out.measured = True
    out.before, out.after = float(cues.found.mean()), float(reading.found.mean())
    out.information_loss, out.loss_low = loss, low
    out.loss_high = max(high, loss, min(1.0, 3 / float(before.sum()) * unasked))
    return out


def _affordable(wanted: int, index: Index) -> int:
    passes = 5.0 * max(1, index.size) * max(1, index.dimension)
    return min(wanted, max(FEWEST_CUES, int(MULTIPLICATIONS / passes)))


def _counted(said: Said, rows: NDArray[np.int32]) -> Search[NDArray[np.int32]]:
    """Tokens of the texts of rows."""
    out = np.zeros(len(rows), np.int32)
    for start in range(0, len(rows), COUNTED):
        out[start : start + COUNTED] = said.tokens(rows[start : start + COUNTED])
        yield Step("cues", start, len(rows))
    return out


def _neighbours(
    memories: Memories, reader: Reader, golds: NDArray[np.int32], each: int, rng: np.random.Generator
) -> Search[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]]:
    """For every cue its memory, a random one of that memory's nearest, and the how manieth cue of the memory it is.

    First come the first cues of all memories, so that the first few are about different ones.
    """
    asked, towards, turns = list[int](), list[int](), list[int]()
    step = together(reader.source)
    for start in range(0, len(golds), step):
        part = golds[start : start + step]
        vectors = memories.vectors[part]
        first = yield from products(reader.source, vectors)
        for at, row in enumerate(part.tolist()):
            near, _ = best_rows(reader, look(reader, vectors[at], first[at]), NEIGHBOURS + 1)
            drawn = rng.permutation(near[near != row][:NEIGHBOURS])[:each].tolist()
            asked += [row] * len(drawn)
            towards += drawn
            turns += range(len(drawn))
            yield Step("cues", start + at + 1, len(golds))
    order = np.argsort(np.array(turns, np.int64), kind="stable")
    return np.array(asked, np.int32)[order], np.array(towards, np.int32)[order], np.array(turns, np.int64)[order]


def _sought(
    found: Callable[[float, int], Search[NDArray[np.bool_]]], count: int
) -> Search[tuple[float, NDArray[np.bool_]]]:
    """The angle at which FOUND_BEFORE of all cues are found, and which; the farthest one where more always are."""
    few = min(count, SOUGHT_WITH)
    farthest = float(np.arctan(FARTHEST_S))
    if few == 0:
        return farthest, np.zeros(0, np.bool_)
    shares: dict[float, float] = {0.0: 1.0}
    low, high = 0.0, farthest
    shares[high] = float((yield from found(high, few)).mean())
    if shares[high] < FOUND_BEFORE:
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            shares[middle] = float((yield from found(middle, few)).mean())
            low, high = (middle, high) if shares[middle] >= FOUND_BEFORE else (low, middle)
    angle = _angle_of(shares, FOUND_BEFORE)
    before = yield from found(angle, count)
    off = float(before.mean()) - FOUND_BEFORE
    if abs(off) > NEAR_ENOUGH and few < count:
        # The few were easier or harder than all; aimed beside the mark by as much, they hit it.
        again = _angle_of(shares, FOUND_BEFORE - off)
        if again != angle:
            corrected = yield from found(again, count)
            if abs(float(corrected.mean()) - FOUND_BEFORE) < abs(off):
                return again, corrected
    return angle, before


def _angle_of(shares: dict[float, float], wanted: float) -> float:
    """Between the angles that were tried; the share falls with the angle but for chance, which is smoothed away."""
    angles = np.array(sorted(shares))
    falling = np.minimum.accumulate(np.array([shares[angle] for angle in angles.tolist()]))
    return float(np.interp(-wanted, -falling, angles))


def _found(
    reader: Reader, said: Said, queries: Vectors, targets: NDArray[np.int32], budget: int
) -> Search[NDArray[np.bool_]]:
    """Which of the targets' texts are read, [K]."""
    found = np.zeros(len(queries), np.bool_)
    step = together(reader.source)
    for start in range(0, len(queries), step):
        part = queries[start : start + step]
        first = yield from products(reader.source, part)
        for at in range(len(part)):
            seen = look(reader, part[at], first[at])
            found[start + at] = finds(reader, seen, said, budget, int(targets[start + at]))
            yield Step("probe", start + at + 1, len(queries))
    return found
