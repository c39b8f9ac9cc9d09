"""Which memories are copies of others, and which of them stays (REQ-DREAM-008).

Copies by text are found without vectors. Each group of them then stands as one in the search for near vectors, so that
a line said a thousand times is no million pairs. What is near by its vector is a copy only if the evidence has nothing
against it. A memory is a copy of the one that survives, never of another copy: chains end where they begin to drift.

n: rows. D: numbers in a vector.
"""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from dreamsvc import clock
from dreamsvc.dreamer.memories import NEVER, Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.readings import Readings
from dreamsvc.dreamer.refusals import Refusals
from dreamsvc.dreamer.same_texts import SameTexts, same_texts
from dreamsvc.evidence import conflict, same_text
from dreamsvc.v1.config_pb2 import RedundancyConfig
from kernels.near_duplicates import LshPlan, find_near_duplicates, plan_tables, room_for
from kernels.padding import capacity

# Bytes of text compared in about 5 ms.
COMPARED_BYTES = 2_500
# Rows of vectors copied, and pairs of them multiplied, for about as long.
COPIED_ROWS = 2_048
# Up to here, and on a GPU, every vector is compared with every other.
EXACT_ROWS = 4_096
# Pairs that one step of the search has room for.
STEP_PLACES = 16_384
# The search takes vectors of half precision, which may lower a cosine by so much.
HALF_ERROR = 1e-3


class CopyGroup(NamedTuple):
    """A memory and those that it stands for from now on, by row."""

    survivor: int
    copies: list[int]  # ascending
    cosines: list[float]  # of each copy and the survivor, 0 where one has no vector


class Copies(NamedTuple):
    """What was found."""

    groups: list[CopyGroup]  # by survivor, ascending; no row is in two
    pairs: int  # at or above the threshold
    pairs_by_text: int  # below it, or without vectors, and yet one text
    refusals: Refusals
    overflow: int  # pairs beyond the most that are looked at


class _Near(NamedTuple):
    """Pairs of rows, the nearest first."""

    pairs: NDArray[np.int64]  # [p, 2], row < row
    cosines: NDArray[np.float32]  # [p]
    overflow: int


def find_copies(memories: Memories, readings: Readings, config: RedundancyConfig, *, seed: int) -> Search[Copies]:
    """Groups of memories that say the same, each with the one that survives; the same for the same seed.

    Looked at are memories that recall may answer with, neither pinned nor kept apart. Two of different kinds are never
    copies, and two that say the same in other words are not if they happened on different days.
    """
    refusals = Refusals()
    if np.count_nonzero(memories.active) < config.min_active:
        return Copies([], 0, 0, refusals, 0)
    rows = np.flatnonzero(memories.findable & ~memories.untouchable & ~memories.apart)
    texts = yield from same_texts(memories, readings, rows, config.max_candidates)
    near = yield from _near(memories, _alone(memories, rows, texts), config, config.max_candidates - texts.pairs, seed)
    accepted = yield from _accepted(memories, readings, near, refusals)
    by_text = yield from _shown_by_text_only(memories, texts, config.similarity_threshold)
    order = yield from _by_preference(memories, texts, accepted, config.survivor_strategy)
    grouping = _Grouping(memories, readings, texts, accepted, refusals)
    for place, row in enumerate(order):
        for _ in grouping.gather(row):
            yield Step("survivors", place, len(order))
    return Copies(
        groups=sorted(grouping.groups, key=lambda group: group.survivor),
        pairs=texts.pairs - by_text + len(near.pairs),
        pairs_by_text=by_text,
        refusals=refusals,
        overflow=texts.overflow + near.overflow,
    )


# ── by vectors ──────────────────────────────────────────────────────────────────


def tables_for(memories: Memories, config: RedundancyConfig) -> LshPlan | None:
    """How the vectors are searched; None where every one is compared with every other.

    It goes by all rows that have a vector, also where fewer are looked at in this night, so that it is known, and what
    it needs compiled, before the dream begins.
    """
    if capacity(len(memories.node_ids)) <= EXACT_ROWS or jax.default_backend() == "gpu":
        return None
    count = int(np.count_nonzero(memories.findable & memories.embedded))
    return plan_tables(count, _threshold(config))


def _threshold(config: RedundancyConfig) -> float:
    """The least cosine of the search, whose vectors are rounded."""
    return config.similarity_threshold - HALF_ERROR


def _alone(memories: Memories, rows: NDArray[np.int64], texts: SameTexts) -> NDArray[np.bool_]:
    """Rows to be searched by their vectors, [n]: of each text one."""
    wanted = np.zeros(len(memories.node_ids), np.bool_)
    wanted[rows] = True
    wanted[[row for row, head in texts.head.items() if row != head]] = False
    wanted[texts.left_out] = False
    return wanted & memories.embedded


def _near(
    memories: Memories, wanted: NDArray[np.bool_], config: RedundancyConfig, most: int, seed: int
) -> Search[_Near]:
    """At most `most` pairs of the wanted rows at or above the threshold."""
    n, dim = memories.vectors.shape
    if most <= 0 or np.count_nonzero(wanted) < 2:
        return _Near(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), 0)
    room = room_for(capacity(n), dim)
    for start in range(0, n, COPIED_ROWS):
        room[start : min(start + COPIED_ROWS, n)] = memories.vectors[start : start + COPIED_ROWS]
        yield Step("vectors", start, n)
    alive = np.zeros(capacity(n), np.bool_)
    alive[:n] = wanted
    key = jax.random.key(np.uint32(seed & 0xFFFFFFFF), impl="threefry2x32")
    search = find_near_duplicates(
        jax.random.fold_in(key, np.uint32(seed >> 32)),
        jax.device_put(room),
        jax.device_put(alive),
        threshold=_threshold(config),
        plan=tables_for(memories, config),
        places=STEP_PLACES,
        most=most,
    )
    while True:
        try:
            next(search)
        except StopIteration as end:
            found = end.value
            break
        yield Step("vectors", n, n)
    pairs = found.pairs.astype(np.int64)
    cosines = yield from _cosines(memories, pairs)
    kept = np.flatnonzero(cosines >= config.similarity_threshold)
    kept = kept[np.argsort(-cosines[kept], kind="stable")]
    return _Near(pairs[kept], cosines[kept], found.overflow)


def _cosines(memories: Memories, pairs: NDArray[np.int64]) -> Search[NDArray[np.float32]]:
    cosines = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), COPIED_ROWS):
        part = pairs[start : start + COPIED_ROWS]
        left, right = memories.vectors[part[:, 0]], memories.vectors[part[:, 1]]
        cosines[start : start + len(part)] = np.einsum("pd,pd->p", left, right)
        yield Step("vectors", start, len(pairs))
    return cosines


# ── what the evidence says ──────────────────────────────────────────────────────


def _accepted(memories: Memories, readings: Readings, near: _Near, refusals: Refusals) -> Search[dict[int, list[int]]]:
    """For each head those that it may be one with, the nearest first; refusals are counted."""
    accepted: dict[int, list[int]] = {}
    read = 0
    for place, (left, right) in enumerate(near.pairs.tolist()):
        read += readings.size(left) + readings.size(right)
        if _may_be_one(memories, readings, left, right, float(near.cosines[place]), refusals):
            accepted.setdefault(left, []).append(right)
            accepted.setdefault(right, []).append(left)
        if read > COMPARED_BYTES:
            read = 0
            yield Step("evidence", place, len(near.pairs))
    return accepted


def _may_be_one(
    memories: Memories, readings: Readings, left: int, right: int, cosine: float, refusals: Refusals
) -> bool:
    kinds = [memories.kind_names[int(memories.kinds[row])] for row in (left, right)]
    if kinds[0] != kinds[1]:
        refusals.add("kind", left, right, kinds[0], kinds[1], cosine)
        return False
    if readings.is_long(left) or readings.is_long(right):
        refusals.add("length", left, right, "", "", cosine)
        return False
    ours, theirs = readings[left], readings[right]
    if not ours.key or not theirs.key:
        refusals.add("no text", left, right, "", "", cosine)
        return False
    against = None if same_text(ours, theirs) else conflict(ours, theirs)
    if against is not None:
        refusals.add(against.kind.value, left, right, against.left, against.right, cosine)
    return against is None


def _shown_by_text_only(memories: Memories, texts: SameTexts, threshold: float) -> Search[int]:
    """How many pairs of one text are not near by their vectors, or have none."""
    pairs = np.array([(head, row) for head, members in texts.members.items() for row in members[1:]], np.int64).reshape(
        -1, 2
    )
    yield Step("evidence", 1, 1)
    cosines = yield from _cosines(memories, pairs)
    return int(np.count_nonzero((cosines < threshold) | ~memories.embedded[pairs].all(axis=1)))


# ── who survives ────────────────────────────────────────────────────────────────


def _by_preference(
    memories: Memories, texts: SameTexts, accepted: dict[int, list[int]], strategy: str
) -> Search[list[int]]:
    """All rows that have a copy, the one that should survive first; ties end by node id."""
    rows = np.array(sorted(texts.head.keys() | accepted.keys()), np.int64)
    yield Step("survivors", 0, len(rows))
    created = memories.created_us[rows]
    match strategy:
        case "most_recent":
            accessed = memories.accessed_us[rows]
            order = np.lexsort((rows, -np.where(accessed == NEVER, created, accessed)))
        case "highest_importance":
            order = np.lexsort((rows, -memories.importance[rows]))
        case "oldest":
            order = np.lexsort((rows, created))
        case "merge":
            order = np.lexsort((rows, created, -(memories.titles.sizes() + memories.texts.sizes())[rows]))
        case "most_connected":
            degrees = yield from _degrees(memories)
            order = np.lexsort((rows, -degrees[rows]))
        case _:
            raise ValueError(f"no strategy for survivors: {strategy}")
    return rows[order].tolist()


def _degrees(memories: Memories) -> Search[NDArray[np.int64]]:
    """Living edges at each row, [n]."""
    degrees = np.zeros(len(memories.node_ids), np.int64)
    for ends in (memories.src, memories.dst):
        degrees += np.bincount(ends[memories.edges_alive], minlength=len(degrees))
        yield Step("survivors", 0, 1)
    return degrees


class _Grouping:
    """Gives each survivor its copies, and each row to at most one group."""

    def __init__(
        self,
        memories: Memories,
        readings: Readings,
        texts: SameTexts,
        accepted: dict[int, list[int]],
        refusals: Refusals,
    ) -> None:
        self._memories = memories
        self._readings = readings
        self._texts = texts
        self._accepted = accepted
        self._refusals = refusals
        self._settled: set[int] = set()
        self._compared = 0  # bytes, since the last step
        self.groups: list[CopyGroup] = []

    def gather(self, survivor: int) -> Search[None]:
        """Puts what is still free and a copy of this row into a group with it."""
        if survivor in self._settled:
            return
        self._settled.add(survivor)
        head = self._texts.head.get(survivor, survivor)
        copies: list[int] = []
        for other in (head, *self._accepted.get(head, ())):
            for row in self._texts.members.get(other, (other,)):
                if row in self._settled:
                    continue
                self._compared += self._readings.size(row)
                if self._is_copy(survivor, head, row, other):
                    copies.append(row)
                    self._settled.add(row)
                if self._compared > COMPARED_BYTES:
                    self._compared = 0
                    yield Step("survivors", 0, 1)
        if copies:
            copies.sort()
            self.groups.append(CopyGroup(survivor, copies, [self._cosine(survivor, row) for row in copies]))

    def _is_copy(self, survivor: int, head: int, row: int, other: int) -> bool:
        """Whether the survivor, of the texts of `head`, may stand for the row, of those of `other`."""
        if head == other:
            return head in (survivor, row) or self._has_same_text(survivor, row)
        ours, theirs = self._day(survivor), self._day(row)
        if ours and theirs and ours != theirs:
            self._refusals.add("date", survivor, row, ours, theirs, self._cosine(survivor, row))
            return False
        # What was compared are the heads; a text of the same words in another order may yet say something else.
        return (head == survivor and other == row) or self._has_nothing_against(survivor, row)

    def _has_same_text(self, left: int, right: int) -> bool:
        if self._readings.is_long(left):
            return True  # which is one to the letter
        return same_text(self._readings[left], self._readings[right])

    def _has_nothing_against(self, left: int, right: int) -> bool:
        return conflict(self._readings[left], self._readings[right]) is None

    def _day(self, row: int) -> str:
        event_us = int(self._memories.event_us[row])
        return "" if event_us == NEVER else clock.iso(event_us)[:10]

    def _cosine(self, left: int, right: int) -> float:
        if not (self._memories.embedded[left] and self._memories.embedded[right]):
            return 0.0
        return float(self._memories.vectors[left] @ self._memories.vectors[right])
