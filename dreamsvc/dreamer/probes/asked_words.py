"""The words that pseudo-queries ask for, where memories say them, and what the index adds to that.

BM25 as queries are scored (`dreamsvc.lexical.index`), over the few thousand words that are asked for instead of all:
built in pieces of a few milliseconds, and a memory can be asked about as if it did not say one of its sentences.

n: rows. p: rows that say a word.
"""

from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.v1.operations_pb2 import Expansion
from dreamsvc.lexical.index import K1, B
from dreamsvc.lexical.words import FUNCTION_WORDS, tokenize
from dreamsvc.scoring import Peers

type Rows = NDArray[np.int32]
type Values = NDArray[np.float32]

# Bytes of text read in one step, one to two milliseconds; of a longer text its head is read.
READ_BYTES = 16_384
# Expansions read, their rows looked up, words packed, and words scored in one step.
PARSED, LOOKED_UP, PACKED, SCORED = 64, 1_024, 256, 4


class Postings(NamedTuple):
    """Where a word counts, and for how much."""

    rows: Rows  # [p], ascending
    amounts: Values  # [p], > 0


NOWHERE_SAID = Postings(np.zeros(0, np.int32), np.zeros(0, np.float32))


class AskedWords(NamedTuple):
    """What memories say of the words that are asked for."""

    said: Mapping[str, Postings]
    lengths: Values  # [n], words of each text, asked for or not; 0 for what cannot be found
    live: int  # memories that can be found
    mean_length: float

    def idf(self, word: str) -> float:
        """ln(1 + (N - df + .5) / (df + .5))."""
        df = len(self.said.get(word, NOWHERE_SAID).rows)
        return float(np.log1p((self.live - df + 0.5) / (df + 0.5)))


class Added(NamedTuple):
    """What the index adds to memories for what they are linked to."""

    gains: Mapping[str, Postings]
    peers: Peers | None  # None where no vector is moved


class Without(NamedTuple):
    """How a memory is asked about as if it were less than it is."""

    row: int
    words: Mapping[str, int]  # that it does not say, and how often
    length: int  # of all of them together


def head(memories: Memories, row: int) -> str:
    """Title and text, of a long one its head."""
    return memories.words(row)[:READ_BYTES]


def read_words(memories: Memories, wanted: Collection[str]) -> Search[AskedWords]:
    """Where the wanted words are said among the memories that can be found."""
    rows = np.flatnonzero(memories.findable).tolist()
    sizes = np.minimum(memories.titles.sizes() + memories.texts.sizes(), READ_BYTES)
    found = _counted(wanted)
    lengths = np.zeros(len(memories.node_ids), np.float32)
    read = 0
    for place, row in enumerate(rows):
        words = tokenize(head(memories, row))
        lengths[row] = len(words)
        for word, times in Counter(words).items():
            if (postings := found.get(word)) is not None:
                postings[0].append(row)
                postings[1].append(times)
        read += int(sizes[row]) + 64  # a short text costs its call
        if read >= READ_BYTES:
            read = 0
            yield Step("words", place + 1, len(rows))
    said = yield from _packed(found)
    return AskedWords(said, lengths, len(rows), float(lengths.sum()) / max(1, len(rows)) or 1.0)


def read_added(memories: Memories, made: Sequence[Expansion], wanted: Collection[str]) -> Search[tuple[Added, Added]]:
    """What the index adds before and after a night made some expansions, which take the place of what was there."""
    held: dict[int, Expansion] = {}
    known = np.flatnonzero(memories.findable & (memories.expansions.sizes() > 0)).tolist()
    for place, row in enumerate(known):
        held[row] = Expansion.FromString(memories.expansions[row])
        if place % PARSED == 0:
            yield Step("expansions", place, len(known))
    before = yield from _added(memories, held, wanted)
    for start in range(0, len(made), LOOKED_UP):
        part = made[start : start + LOOKED_UP]
        rows = np.searchsorted(memories.node_ids, np.array([one.node for one in part], np.int64))
        held.update(zip(rows.tolist(), part, strict=True))
        yield Step("expansions", start, len(made))
    after = yield from _added(memories, held, wanted)
    return before, after


def bm25(
    query: Counter[str],
    words: AskedWords,
    gains: Mapping[str, Postings],
    weight: float,
    *,
    without: Without | None = None,
    silent: Rows | None = None,
) -> Search[Values]:
    """The BM25 of every row, [n]; gains count `weight`, as in `LexicalView.scores`, except those of the silent rows."""
    n = len(words.lengths)
    out, amounts = np.zeros(n, np.float32), np.zeros(n, np.float32)
    quiet = np.zeros(n, np.bool_)
    if silent is not None:
        quiet[silent] = True
    lengths = words.lengths
    if without is not None:
        lengths = lengths.copy()
        lengths[without.row] -= without.length
    for place, (word, times) in enumerate(query.items()):
        if word in FUNCTION_WORDS and not query.keys() <= FUNCTION_WORDS:
            continue
        rows, counts = words.said.get(word, NOWHERE_SAID)
        if without is not None and word in without.words:
            counts = np.where(rows == without.row, counts - without.words[word], counts)
            rows, counts = rows[counts > 0], counts[counts > 0]
        df = len(rows)
        if df == 0:
            continue
        more = gains.get(word, NOWHERE_SAID)
        if len(more.rows) and weight > 0:
            heard = ~quiet[more.rows]
            others = more.rows[heard]
            amounts[rows] = counts
            rows = np.concatenate([rows, others[amounts[others] == 0]])
            amounts[others] += weight * more.amounts[heard]
            counts = amounts[rows]
            amounts[rows] = 0
        norm = K1 * (1 - B + B / words.mean_length * lengths[rows])
        idf = float(np.log1p((words.live - df + 0.5) / (df + 0.5)))
        out[rows] += times * idf * (K1 + 1) * counts / (counts + norm)
        if place % SCORED == SCORED - 1:
            yield Step("pseudo-queries", place, len(query))
    return out


# Arrays, since a collection of garbage would look through lists of millions of numbers.
type _Counted = dict[str, tuple[array[int], array[float]]]


def _counted(wanted: Collection[str]) -> _Counted:
    """For each word its rows, and the amounts of these."""
    return {word: (array("i"), array("f")) for word in sorted(wanted)}


def _packed(found: _Counted) -> Search[dict[str, Postings]]:
    out: dict[str, Postings] = {}
    for place, (word, (rows, amounts)) in enumerate(found.items()):
        if rows:
            out[word] = Postings(np.asarray(rows, np.int32), np.asarray(amounts, np.float32))
        if place % PACKED == 0:
            yield Step("words", place, len(found))
    return out


def _added(memories: Memories, held: Mapping[int, Expansion], wanted: Collection[str]) -> Search[Added]:
    """held: by row."""
    found = _counted(wanted)
    moved: list[tuple[int, Expansion]] = []
    for place, row in enumerate(np.sort(np.fromiter(held, np.int64, len(held))).tolist()):
        one = held[row]
        for word, gain in zip(one.words, one.gains, strict=True):
            if gain > 0 and (postings := found.get(word)) is not None:
                postings[0].append(row)
                postings[1].append(gain)
        if one.peers:
            moved.append((row, one))
        if place % PARSED == 0:
            yield Step("expansions", place, len(held))
    gains = yield from _packed(found)
    return Added(gains, (yield from _peers(memories, moved)))


def _peers(memories: Memories, moved: list[tuple[int, Expansion]]) -> Search[Peers | None]:
    if not moved:
        return None
    n, most = len(memories.node_ids), max(len(one.peers) for _, one in moved)
    rows = np.full((n, most), -1, np.int32)
    shares = np.zeros((n, most), np.float32)
    lengths = np.ones(n, np.float32)
    for place, (row, one) in enumerate(moved):
        count = len(one.peers)
        rows[row, :count] = np.searchsorted(memories.node_ids, np.asarray(one.peers, np.int64))
        shares[row, :count] = one.shares
        lengths[row] = one.length
        if place % PARSED == 0:
            yield Step("expansions", place, len(moved))
    return Peers(rows, shares, lengths)
