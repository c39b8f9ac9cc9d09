"""Which rows have one text, found without vectors: a rough key brings together what may be one, and only there texts
are read.

A text said a thousand times costs a thousand keys and is read once; where no two keys are equal nothing is read.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.readings import Readings
from dreamsvc.evidence import same_text
from dreamsvc.evidence.rough import rough_key

# Bytes of text for about 5 ms: of rough keys, of signatures.
KEYED_BYTES = 40_000
READ_BYTES = 6_000
# Texts of the same words that a further one is compared with.
ORDERS = 8
# Spreads kinds over the rough keys: 2^62 / golden ratio, odd.
KIND_STRIDE = 0x278DDE6E5FD29F05


class SameTexts(NamedTuple):
    """Rows that have one text; the first of each list stands for all in the search by vectors, and is its head."""

    members: dict[int, list[int]]  # by head, two and more
    head: dict[int, int]  # of each row that is in such a list
    left_out: list[int]  # copies beyond the most that are looked at
    pairs: int  # of a head and another
    overflow: int


def same_texts(memories: Memories, readings: Readings, rows: NDArray[np.int64], most: int) -> Search[SameTexts]:
    """The rows, ascending, that are of one text and one kind; at most so many pairs of a head and another."""
    keys = np.empty(len(rows), np.int64)
    done = 0
    for portion in readings.portions(rows.tolist(), KEYED_BYTES):
        for row in portion:
            key = hash(memories.words(row)) if readings.is_long(row) else rough_key(memories.words(row))
            keys[done] = (key + int(memories.kinds[row]) * KIND_STRIDE) & 0x7FFFFFFFFFFFFFFF
            done += 1
        yield Step("texts", done, 2 * len(rows))
    order = np.argsort(keys, kind="stable")
    yield Step("texts", done, 2 * len(rows))
    breaks = np.flatnonzero(np.diff(keys[order])) + 1
    starts, ends = np.concatenate([[0], breaks]), np.concatenate([breaks, [len(order)]])
    several = np.flatnonzero(ends - starts > 1)
    yield Step("texts", done, 2 * len(rows))
    classes: list[list[int]] = []
    for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
        same = _SameText(memories, readings)
        for portion in readings.portions(rows[order[start:end]].tolist(), READ_BYTES):
            for row in portion:
                same.add(row)
            yield Step("texts", len(rows) + end, 2 * len(rows))
        classes += [found for found in same.classes if len(found) > 1]
    return _limited(memories, sorted(classes), most)


def _limited(memories: Memories, classes: list[list[int]], most: int) -> SameTexts:
    members: dict[int, list[int]] = {}
    head: dict[int, int] = {}
    left_out: list[int] = []
    pairs = 0
    for found in classes:
        first = next((row for row in found if memories.embedded[row]), found[0])
        others = [row for row in found if row != first]
        kept = others[: most - pairs]
        left_out += others[len(kept) :]
        pairs += len(kept)
        if kept:
            members[first] = [first, *kept]
            head |= dict.fromkeys(members[first], first)
    return SameTexts(members, head, left_out, pairs, len(left_out))


class _SameText:
    """Sorts rows into classes of one text and one kind, each row compared with few others."""

    def __init__(self, memories: Memories, readings: Readings) -> None:
        self._memories = memories
        self._readings = readings
        self._by_letter: dict[tuple[int, str], list[int]] = {}
        self._buckets: dict[object, list[list[int]]] = {}
        self.classes: list[list[int]] = []

    def add(self, row: int) -> None:
        """Rows come in ascending order; what has no word is a copy of nothing."""
        kind, text = int(self._memories.kinds[row]), self._memories.words(row)
        found = self._by_letter.get((kind, text))
        if found is None:
            found = self._by_letter[kind, text] = self._like(row, kind)
        found.append(row)

    def _like(self, row: int, kind: int) -> list[int]:
        """The class of a text that is not there to the letter; a new one where there is none."""
        if self._readings.is_long(row):
            return self._new()
        read = self._readings[row]
        if not read.key:
            return []
        # Equal keys or words are one text; equal words in another order may be.
        wanted: tuple[object, ...] = (
            (kind, read.key),
            (kind, read.words),
            (kind, frozenset(read.bag.items())),
            (kind, frozenset(read.key.split()), len(read.key)),
        )
        for bucket in wanted:
            for found in self._buckets.get(bucket, ())[:ORDERS]:
                if same_text(self._readings[found[0]], read):
                    return found
        new = self._new()
        for bucket in wanted:
            self._buckets.setdefault(bucket, []).append(new)
        return new

    def _new(self) -> list[int]:
        self.classes.append([])
        return self.classes[-1]
