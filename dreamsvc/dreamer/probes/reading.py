"""What a cue reads: rows from the best downwards, their texts while they fit a budget of tokens.

The scores are those of `two_stage.second_stage`, made for slots instead of rows: after a night there are ten times
fewer, and of the rows only the best are wanted. n: rows. S: slots. D: numbers in a vector. N: capacity of the index.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc import two_stage
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step, Vectors
from dreamsvc.evidence import signature
from dreamsvc.facet_codes import Bits, FacetCodes, score_facets
from dreamsvc.tokens import count_tokens
from dreamsvc.two_stage import Index
from dreamsvc.v1.config_pb2 import RecallConfig

type Rows = NDArray[np.int64]
type Values = NDArray[np.float32]

# Multiplications of one tile of products: 1 to 2 ms on one core.
TILE_PRODUCTS = 1 << 25
# Products held at a time, 32 MB.
HELD_PRODUCTS = 1 << 23
MOST_TOGETHER = 64
# Products that room is made for in one step.
FILLED = 1 << 19
# Rows ranked for one cue: at first, and until its budget is used.
FIRST_ROWS, MOST_ROWS = 64, 4_096
# Texts looked at together on the way down.
TOGETHER = 32
# Scores looked at to guess where the best begin.
GUESSED_FROM = 1 << 14
ROUNDING = 1e-5


class Reader(NamedTuple):
    """An index with the rules of reading it."""

    source: Index
    readable: NDArray[np.bool_]  # [N], rows that may be answered with
    shut: Values  # [S], 0, or -inf where a slot holds nothing readable
    opened: int  # containers whose facets are scored one by one
    similar: float  # cosine from which a text is left out beside a better one


class Look(NamedTuple):
    """A cue's scores."""

    slots: Values  # [S], of the row or of all rows of the container; -inf where there is none or it was opened
    rows: NDArray[np.int32]  # [f], facets of the containers that were opened, ascending
    values: Values  # [f]


class Said:
    """What rows say, each read when first asked for."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        self._counts = np.full(len(memories.node_ids), -1, np.int32)

    def tokens(self, rows: NDArray[np.integer]) -> NDArray[np.int32]:
        """Of title and text, [k] for rows [k]."""
        found = self._counts[rows]
        for place in np.flatnonzero(found < 0).tolist():
            row = int(rows[place])
            found[place] = self._counts[row] = count_tokens(self._memories.words(row))
        return found

    def alike(self, left: int, right: int) -> bool:
        """Whether a text is a copy of the other, but for case and marks."""
        return signature(self._memories.words(left)).key == signature(self._memories.words(right)).key


def reader_of(index: Index, findable: NDArray[np.bool_], recall: RecallConfig) -> Reader:
    """findable: [n], rows that may be answered with; those the index knows nothing of are not read."""
    readable = np.zeros(len(index.slots), np.bool_)
    readable[: len(findable)] = findable[: len(readable)]
    readable &= (index.slots >= 0) & (index.slots < index.size)
    holders, is_container = index.holders[: index.size], index.is_container[: index.size]
    held = (holders >= 0) & (is_container | readable[np.maximum(holders, 0)])
    readable[holders[held & is_container]] = False
    shut = np.where(held, np.float32(0), np.float32(-np.inf))
    return Reader(index, readable, shut, recall.open_containers, recall.similar)


def together(index: Index) -> int:
    """Cues whose products with all slots are held at a time."""
    return max(1, min(MOST_TOGETHER, HELD_PRODUCTS // max(1, index.size)))


def products(index: Index, queries: Vectors) -> Search[Values]:
    """Like `two_stage.first_stage` for queries [q, D], in steps: [q, S]."""
    count, dim = queries.shape
    out = np.empty((count, index.size), np.float32)
    rows = max(1, FILLED // max(1, index.size))
    # The first tile touches every row, and with that all the memory, which the system clears when it is first touched.
    for start in range(0, count, rows):
        out[start : start + rows] = 0
        yield Step("products", 0, index.size)
    width = max(1, TILE_PRODUCTS // max(1, count * dim))
    for start in range(0, index.size, width):
        stop = min(start + width, index.size)
        np.matmul(queries, index.units[start:stop].T, out=out[:, start:stop])
        yield Step("products", stop, index.size)
    return out


def look(reader: Reader, query: NDArray[np.float32], first: Values) -> Look:
    """The scores of a unit query [D]; first: its products with all slots, [S]."""
    index = reader.source
    slots = first * index.lengths[: index.size] + reader.shut
    opened = two_stage.best_containers(index, first, reader.opened)
    rows, values = _facets(index, query, slots, opened)
    slots[opened] = -np.inf
    kept = reader.readable[rows]
    rows, values = rows[kept], values[kept]
    order = np.argsort(rows)
    return Look(slots, rows[order], values[order])


def best_rows(reader: Reader, seen: Look, count: int) -> tuple[Rows, Values]:
    """The `count` readable rows of the highest scores and these, the highest first; equal ones by row."""
    index = reader.source
    slots = _highest(seen.slots, count)
    shared = index.is_container[slots]
    rows = [seen.rows, index.holders[slots[~shared]]]
    values = [seen.values, seen.slots[slots[~shared]]]
    for slot in slots[shared].tolist():
        block = index.blocks[int(index.holders[slot])]
        held = block.rows[reader.readable[block.rows]]
        rows.append(held)
        values.append(np.full(len(held), seen.slots[slot], np.float32))
    all_rows, all_values = np.concatenate(rows).astype(np.int64), np.concatenate(values)
    order = np.lexsort((all_rows, -all_values))[:count]
    return all_rows[order], all_values[order]


def values_of(reader: Reader, seen: Look, rows: NDArray[np.integer]) -> Values:
    """The scores of rows, -inf for one that cannot be read."""
    slots = reader.source.slots[rows]
    out = np.where(reader.readable[rows], seen.slots[np.maximum(slots, 0)], np.float32(-np.inf))
    if len(seen.rows):
        at = np.minimum(np.searchsorted(seen.rows, rows), len(seen.rows) - 1)
        out = np.where(seen.rows[at] == rows, seen.values[at], out)
    return out


def finds(reader: Reader, seen: Look, said: Said, budget: int, target: int) -> bool:
    """Whether the text of a row, or a copy of it, is among those that a cue reads."""
    if target >= len(reader.readable) or not reader.readable[target]:
        return False
    count = FIRST_ROWS
    while True:
        rows, _ = best_rows(reader, seen, count)
        found = _reaches(reader, rows, said, budget, target)
        if found is not None or len(rows) < count or count >= MOST_ROWS:
            return bool(found)
        count *= 4


def _facets(index: Index, query: NDArray[np.float32], slots: Values, opened: Rows) -> tuple[NDArray[np.int32], Values]:
    """Rows and scores of all facets of some containers; slots: [S], for a container the mean score of its facets."""
    held = [(slot, index.blocks[int(index.holders[slot])]) for slot in opened.tolist()]
    rows, values = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    widths: list[Bits] = [1, 2, 4, 8]
    for bits in widths:
        alike = [(slot, block) for slot, block in held if block.bits == bits]
        if alike:
            codes = FacetCodes(
                np.concatenate([block.facets.codes for _, block in alike]),
                np.concatenate([block.facets.scales for _, block in alike]),
            )
            means = np.repeat(slots[[slot for slot, _ in alike]], [len(block.rows) for _, block in alike])
            rows.append(np.concatenate([block.rows for _, block in alike]))
            values.append(score_facets(query, codes, means, bits=bits))
    return np.concatenate(rows), np.concatenate(values)


def _highest(values: Values, count: int) -> Rows:
    """Places of the `count` highest and of all that equal the last of them, -inf left out; in no order.

    A sample tells about where they begin, which is ten times faster than sorting them out of a million.
    """
    size = len(values)
    if size <= count:
        return np.flatnonzero(values > -np.inf)
    stride = max(1, size // GUESSED_FROM)
    sample = values[::stride]
    above = min(len(sample), 2 * count // stride + 8)
    bar = np.partition(sample, len(sample) - above)[len(sample) - above]
    places = np.flatnonzero(values >= bar)
    if len(places) < count:
        places = np.arange(size)
    last = np.partition(values[places], len(places) - count)[len(places) - count]
    places = places[values[places] >= last]
    return places[values[places] > -np.inf]


def _reaches(reader: Reader, rows: Rows, said: Said, budget: int, target: int) -> bool | None:
    """Whether the target's text is read on the way down these rows; None where they end before the budget does.

    Of copies the best is read and the others are left out; what they say is read all the same.
    """
    place = np.flatnonzero(rows == target)
    end = int(place[0]) + 1 if len(place) else len(rows)
    taken, vectors_taken = list[int](), np.zeros((0, reader.source.dimension), np.float32)
    used = 0
    for start in range(0, end, TOGETHER):
        part = rows[start : min(start + TOGETHER, end)]
        vectors = two_stage.vectors_of(reader.source, part)
        near_taken = vectors @ vectors_taken.T >= reader.similar - ROUNDING
        near = np.tril(vectors @ vectors.T >= reader.similar - ROUNDING, -1)
        read = np.zeros(len(part), np.bool_)
        for at, (row, length) in enumerate(zip(part.tolist(), said.tokens(part).tolist(), strict=True)):
            beside = near[at] & read
            if near_taken[at].any() or beside.any():
                if row == target:
                    better = [taken[at] for at in np.flatnonzero(near_taken[at]).tolist()] + part[beside].tolist()
                    return any(said.alike(row, other) for other in better)
                continue
            used += length
            if used > budget:
                return False
            if row == target:
                return True
            read[at] = True
        taken += part[read].tolist()
        vectors_taken = np.concatenate([vectors_taken, vectors[read]])
    return None
