"""Lexical recall: a BM25 index over memory rows, what REM phases add to it, and the alias lookup of the fair base.

One thread (the store's writer) changes the index, any number of threads read it, and nobody locks. What a reader sees
is one `_State`: the layer of what memories say themselves and the layer of their expansions, i.e. of words that they
are found by since others are linked to them. A change is published by replacing one reference; a reader that started
before keeps its own state, whole, to the end of its query.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.lexical.layers import Entry, Found, Layer, Reader, begun
from dreamsvc.lexical.postings import (
    ALIAS,
    ALIAS_WORDS,
    Document,
    Postings,
    alias_terms,
    blocks,
    empty,
    starts,
    union,
    weighted_blocks,
)
from dreamsvc.lexical.words import FUNCTION_WORDS, asked, tokenize

K1 = 1.2  # saturation of the term weight
B = 0.4  # pull of the document's length; 0.75 punishes short chat turns
SHARED_BY = 20  # an alias of this many live memories says nothing about any of them
ALIAS_GAIN = 0.5
SMALL_STORE = 200  # memories; below it a document frequency says little about how common a word is
COMMON_WORD = 0.05  # share of the live memories

_EXPANSION = "expansion_"  # names of the second layer's arrays begin with it


class _State(NamedTuple):
    own: Layer  # what memories say
    more: Layer  # gains of words, of rows that `own` holds


class AliasHits(NamedTuple):
    """Memories that the query names: rows int64[h], each once; bonus float32[h], summed over a row's aliases."""

    rows: NDArray[np.int64]
    bonus: NDArray[np.float32]


class LexicalView:
    """One state of the index, unchanged whatever the writer does meanwhile."""

    def __init__(self, state: _State) -> None:
        self._state = state

    @cached_property
    def _own(self) -> Reader:
        return Reader(self._state.own)

    @cached_property
    def _more(self) -> Reader:
        return Reader(self._state.more)

    def scores(self, query: str, n_rows: int, expansion: float = 1.0) -> NDArray[np.float32]:
        """BM25 of every row, float32[n_rows], 0 where no word matches or no live document is.

        sum over the query's words of ln(1 + (N - df + .5) / (df + .5)) * tf (k1 + 1) / (tf + k1 (1 - b + b dl / avgdl))
        (Robertson and Zaragoza 2009, with the idf that cannot turn negative). A word that is asked twice counts twice;
        FUNCTION_WORDS do not count beside others.

        expansion: weight of the gains that rows have for words of others: tf + expansion * gain takes the place of tf.
        df and dl are of what memories say themselves, so a word that none says counts for nothing.
        """
        state = self._state.own
        out = np.zeros(max(n_rows, state.height), np.float32)
        if not state.words:
            return out[:n_rows]
        slope = K1 * B * state.live / state.words
        gains = _Gains(self._more, expansion, len(out)) if expansion > 0 and self._state.more.live else None
        words = Counter(asked(query))
        for word, times in words.items():
            if word in FUNCTION_WORDS and not words.keys() <= FUNCTION_WORDS:
                continue
            parts = self._own.find(word)
            df = self._own.live_in(parts)
            factor = times * (K1 + 1) * math.log1p((state.live - df + 0.5) / (df + 0.5))
            if df and gains is not None and gains.take(word):
                self._add_expanded(out, self._own.living(parts), gains, factor, slope)
                continue
            # Live rows are distinct within a part, so += counts each. Where a row stands twice in the tail, because its
            # text was replaced, the last posting wins, and that is the only one that may be live.
            for rows, tf, length in parts:
                out[rows] += factor * tf / (tf + (slope * length + K1 * (1 - B)))
        return out[:n_rows]

    def _add_expanded(
        self, out: NDArray[np.float32], parts: list[Found], gains: "_Gains", factor: float, slope: float
    ) -> None:
        """One word's share of the scores, for rows that say it and then for those that only have a gain for it."""
        lengths = self._own.lengths
        for rows, said, length in parts:
            tf = said + gains.spend(rows)
            out[rows] += factor * tf / (tf + (slope * length + K1 * (1 - B)))
        for rows in gains.rows:
            tf = gains.spend(rows)
            out[rows] += factor * tf / (tf + (slope * lengths[rows] + K1 * (1 - B)))

    def aliases(self, query: str, n_rows: int) -> AliasHits:
        """0.5 / n for every alias, shared by n < 20 live memories, whose words stand side by side in the query.

        An alias of one word counts only where that word is in under 5 % of the live memories, or the store holds fewer
        than 200: "May" or "It" as a title would otherwise lift its memory in every other query.
        """
        words = asked(query)
        bonus: dict[int, float] = {}
        for alias in self._named(words):
            parts = self._own.find(alias)
            n = self._own.live_in(parts)
            if not 0 < n < SHARED_BY or not self._telling(alias):
                continue
            for rows, _, length in parts:
                for row in rows[np.isfinite(length)].tolist():
                    if row < n_rows:
                        bonus[row] = bonus.get(row, 0.0) + ALIAS_GAIN / n
        return AliasHits(np.fromiter(bonus, np.int64, len(bonus)), np.fromiter(bonus.values(), np.float32, len(bonus)))

    def _named(self, words: list[str]) -> Iterator[str]:
        seen: set[str] = set()
        for start in range(len(words)):
            alias = ALIAS + words[start]
            for stop in range(start + 1, min(start + ALIAS_WORDS, len(words)) + 1):
                if alias not in seen and self._own.has(alias):
                    seen.add(alias)
                    yield alias
                if stop < len(words):
                    alias += " " + words[stop]

    def _telling(self, alias: str) -> bool:
        live = self._state.own.live
        if " " in alias or live < SMALL_STORE:
            return True
        return self._own.live_in(self._own.find(alias.removeprefix(ALIAS))) < COMMON_WORD * live


class _Gains:
    """Gains of one word at a time, by row: each is spent once, by the first who asks for it."""

    def __init__(self, reader: Reader, weight: float, height: int) -> None:
        self._reader = reader
        self._weight = weight
        self._left = np.zeros(height, np.float32)
        self.rows: list[NDArray[np.int32]] = []  # that had some to begin with, each once

    def take(self, word: str) -> bool:
        """Takes up a word once that before is spent; False where no row has a gain for it."""
        self.rows = []
        for rows, gain, _ in self._reader.living(self._reader.find(word)):
            self._left[rows] = self._weight * gain
            self.rows.append(rows)
        return any(rows.size for rows in self.rows)

    def spend(self, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        gains = self._left[rows]
        self._left[rows] = 0
        return gains


class LexicalIndex:
    """BM25 and aliases over live memories. One thread changes it; any thread queries it, without a lock or a wait."""

    def __init__(self) -> None:
        self._state = _State(begun(empty()), begun(empty()))

    @property
    def live(self) -> int:
        """How many memories are indexed."""
        return self._state.own.live

    def view(self) -> LexicalView:
        """The present state, for a reader that asks more than one question of it."""
        return LexicalView(self._state)

    def scores(self, query: str, n_rows: int, expansion: float = 1.0) -> NDArray[np.float32]:
        """See `LexicalView.scores`."""
        return self.view().scores(query, n_rows, expansion)

    def aliases(self, query: str, n_rows: int) -> AliasHits:
        """See `LexicalView.aliases`."""
        return self.view().aliases(query, n_rows)

    def add(self, row: int, text: str, aliases: Sequence[str] = ()) -> None:
        """Index one memory; `text` holds its title already. Raises ValueError if the row is live."""
        self.add_many([row], [text], [aliases])

    def add_many(self, rows: Sequence[int], texts: Sequence[str], aliases: Sequence[Sequence[str]]) -> None:
        """Index memories; readers see all of them at once. Much text goes straight into a new base.

        Raises ValueError, and changes nothing, if a row is live, given twice or outside 0 .. 2**31 - 1.
        """
        documents = list(zip(rows, texts, aliases, strict=True))
        if len(set(rows)) < len(documents):
            raise ValueError("a row is given twice")
        for row in rows:
            if not 0 <= row < 1 << 31 or row in self:
                raise ValueError(f"row {row} is outside 0 .. 2**31 - 1 or already holds a live memory")
        own = self._state.own
        if sum(map(len, texts)) > 6 * own.tail_limit:  # a word and its space are about six characters
            base = Reader(own).fold()
            for block in blocks(documents):
                base = union(base, block)
            self._publish(own=begun(base))
        else:
            self._publish(own=own.put([_entry(document) for document in documents]))

    def replace(self, row: int, text: str, aliases: Sequence[str] = ()) -> None:
        """Other words for a memory, which keeps its expansion; of a row that holds none, its first words."""
        entry = _entry((row, text, aliases))
        self._publish(own=self._state.own.without(row).put([entry]))

    def expand(self, rows: Sequence[int], words: Sequence[Sequence[str]], gains: Sequence[Sequence[float]]) -> None:
        """Give rows words of others in place of what they had of that kind, none for an empty list.

        words: as `tokenize` cuts them, gains: one for each, above 0. A row without a live memory is passed over. Raises
        ValueError, and changes nothing, if a row is given twice or lengths differ. Readers see all of it at once.
        """
        entries = [
            Entry(row, dict(zip(some, given, strict=True)), len(some))
            for row, some, given in zip(rows, words, gains, strict=True)
        ]
        if len({entry.row for entry in entries}) < len(entries):
            raise ValueError("a row is given twice")
        more = self._state.more
        for entry in entries:
            more = more.without(entry.row)
        entries = [entry for entry in entries if entry.weights and entry.row in self]
        if sum(len(entry.weights) for entry in entries) > more.tail_limit:
            base = Reader(more).fold()
            for block in weighted_blocks(entries):
                base = union(base, block)
            self._publish(more=begun(base))
        else:
            self._publish(more=more.put(entries))

    def remove(self, row: int) -> None:
        """Take one memory out, with its expansion; the row may be added again. Without effect if it holds none."""
        if row in self:
            self._publish(own=self._state.own.without(row), more=self._state.more.without(row))

    def __contains__(self, row: int) -> bool:
        """Whether the row holds a live memory; for the writer's thread."""
        return self._state.own.holds(row)

    def merge(self) -> None:
        """Fold the tails into new bases now; the writer may call it when idle, else it comes by itself."""
        self._state = _State(self._state.own.folded(), self._state.more.folded())

    def _publish(self, *, own: Layer | None = None, more: Layer | None = None) -> None:
        """Readers see changed layers from here on; one that has grown worn is folded first."""
        self._state = _State(
            self._state.own if own is None else own.folded() if own.is_worn else own,
            self._state.more if more is None else more.folded() if more.is_worn else more,
        )

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """A disposable copy of the present state, from any thread: p postings, t terms, h rows.

        terms uint8[bytes], term_offsets int64[t + 1], indptr int64[t + 1], rows int32[p], tf float32[p],
        length float32[h]; the same of expansions, with gains in place of tf.
        """
        state = self._state
        more = _to_arrays(Reader(state.more).fold())
        return _to_arrays(Reader(state.own).fold()) | {_EXPANSION + name: array for name, array in more.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> "LexicalIndex":
        """The index that `to_arrays` copied; keeps the arrays it is given, mapped files too, and writes to none."""
        index = cls()
        index._state = _State(begun(_from_arrays(arrays, "")), begun(_from_arrays(arrays, _EXPANSION)))
        return index


def _entry(document: Document) -> Entry:
    row, text, aliases = document
    found = tokenize(text)
    return Entry(row, Counter(found + alias_terms(aliases)), len(found))


def _to_arrays(postings: Postings) -> dict[str, NDArray[np.generic]]:
    terms = [term.encode() for term in postings.vocabulary]
    return {
        "terms": np.frombuffer(b"".join(terms), np.uint8),
        "term_offsets": starts(np.fromiter(map(len, terms), np.int64, len(terms))),
        "indptr": postings.indptr,
        "rows": postings.rows,
        "tf": postings.tf,
        "length": postings.length,
    }


def _from_arrays(arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> Postings:
    blob, offsets = arrays[prefix + "terms"].tobytes(), arrays[prefix + "term_offsets"].astype(np.int64).tolist()
    return Postings(
        vocabulary={blob[start:stop].decode(): i for i, (start, stop) in enumerate(pairwise(offsets))},
        indptr=np.asarray(arrays[prefix + "indptr"], np.int64),
        rows=np.asarray(arrays[prefix + "rows"], np.int32),
        tf=np.asarray(arrays[prefix + "tf"], np.float32),
        length=np.asarray(arrays[prefix + "length"], np.float32),
    )
