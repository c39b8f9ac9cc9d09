"""Lexical recall: a BM25 index over memory rows, and the alias lookup that belongs to the fair base.

One thread (the store's writer) changes the index, any number of threads read it, and nobody locks. What a reader sees
is one `_State`: an immutable CSR base, an append-only tail, and how much of that tail is already public. A change first
appends to the tail, then publishes by replacing one reference; a reader that started before keeps its own state, whole,
to the end of its query. A merge folds the tail into a new base beside the old one and publishes it in the same way.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    without,
)
from dreamsvc.lexical.words import FUNCTION_WORDS, asked, tokenize

K1 = 1.2  # saturation of the term weight
B = 0.4  # pull of the document's length; 0.75 punishes short chat turns
SHARED_BY = 20  # an alias of this many live memories says nothing about any of them
ALIAS_GAIN = 0.5
SMALL_STORE = 200  # memories; below it a document frequency says little about how common a word is
COMMON_WORD = 0.05  # share of the live memories

_TAIL_MIN = 1 << 16  # postings (and documents) in the tail before a merge is worth its price


class _Tail:
    """What was added or removed since the base was built. It only grows; a state says how far it is public."""

    def __init__(self) -> None:
        self.rows = array("i")
        self.length = array("f")
        self.removed = array("i")  # rows of the base, and ~position of what was added to this tail
        # term -> position in `rows`, tf, position, tf, ..; float32 holds positions exactly to 2**24
        self.postings: dict[str, array[float]] = {}
        self.size = 0  # the writer's own count of postings
        self.position: dict[int, int] = {}  # row -> position in `rows` while it is live; the writer's own
        self.gone: set[int] = set()  # the base's rows in `removed`; the writer's own


class _State(NamedTuple):
    base: Postings
    tail: _Tail
    added: int  # public part of tail.rows
    removed: int  # public part of tail.removed
    live: int  # N, live documents
    words: float  # sum of their lengths
    height: int  # 1 + greatest row


class _Found(NamedTuple):
    """One term's postings from the base or the tail, [p] each; the length of a removed document is infinite."""

    rows: NDArray[np.int32]
    tf: NDArray[np.float32]
    length: NDArray[np.float32]


class AliasHits(NamedTuple):
    """Memories that the query names: rows int64[h], each once; bonus float32[h], summed over a row's aliases."""

    rows: NDArray[np.int64]
    bonus: NDArray[np.float32]


class LexicalView:
    """One state of the index, unchanged whatever the writer does meanwhile."""

    def __init__(self, state: _State) -> None:
        self._state = state

    # Worked out at the first query, since the writer takes a view after each change and most are never asked anything.
    # Infinite lengths take removed documents out of every sum, while the same row may live on with another text.

    @cached_property
    def _base_length(self) -> NDArray[np.float32]:
        length = self._state.base.length
        if self._state.removed:
            length = length.copy()
            length[self._removed[self._removed >= 0]] = np.inf
        return length

    @cached_property
    def _tail_length(self) -> NDArray[np.float32]:
        length = np.asarray(self._state.tail.length[: self._state.added], np.float32)
        length[~self._removed[self._removed < 0]] = np.inf
        return length

    @cached_property
    def _tail_rows(self) -> NDArray[np.int32]:
        # Slicing an array copies it in one step, so the writer may go on appending to the original.
        return np.asarray(self._state.tail.rows[: self._state.added], np.int32)

    @cached_property
    def _removed(self) -> NDArray[np.int32]:
        return np.asarray(self._state.tail.removed[: self._state.removed], np.int32)

    def scores(self, query: str, n_rows: int) -> NDArray[np.float32]:
        """BM25 of every row, float32[n_rows], 0 where no word matches or no live document is.

        sum over the query's words of ln(1 + (N - df + .5) / (df + .5)) * tf (k1 + 1) / (tf + k1 (1 - b + b dl / avgdl))
        (Robertson and Zaragoza 2009, with the idf that cannot turn negative). A word that is asked twice counts twice;
        FUNCTION_WORDS do not count beside others.
        """
        state = self._state
        out = np.zeros(max(n_rows, state.height), np.float32)
        if not state.words:
            return out[:n_rows]
        slope = K1 * B * state.live / state.words
        words = Counter(asked(query))
        for word, times in words.items():
            if word in FUNCTION_WORDS and not words.keys() <= FUNCTION_WORDS:
                continue
            parts = self._find(word)
            df = self._live_in(parts)
            gain = times * (K1 + 1) * math.log1p((state.live - df + 0.5) / (df + 0.5))
            # Live rows are distinct within a part, so += counts each. Where a row stands twice in the tail, because its
            # text was replaced, the last posting wins, and that is the only one that may be live.
            for rows, tf, length in parts:
                out[rows] += gain * tf / (tf + (slope * length + K1 * (1 - B)))
        return out[:n_rows]

    def aliases(self, query: str, n_rows: int) -> AliasHits:
        """0.5 / n for every alias, shared by n < 20 live memories, whose words stand side by side in the query.

        An alias of one word counts only where that word is in under 5 % of the live memories, or the store holds fewer
        than 200: "May" or "It" as a title would otherwise lift its memory in every other query.
        """
        words = asked(query)
        bonus: dict[int, float] = {}
        for alias in self._named(words):
            parts = self._find(alias)
            n = self._live_in(parts)
            if not 0 < n < SHARED_BY or not self._telling(alias):
                continue
            for rows, _, length in parts:
                for row in rows[np.isfinite(length)].tolist():
                    if row < n_rows:
                        bonus[row] = bonus.get(row, 0.0) + ALIAS_GAIN / n
        return AliasHits(np.fromiter(bonus, np.int64, len(bonus)), np.fromiter(bonus.values(), np.float32, len(bonus)))

    def _named(self, words: list[str]) -> Iterator[str]:
        known, recent = self._state.base.vocabulary, self._state.tail.postings
        seen: set[str] = set()
        for start in range(len(words)):
            alias = ALIAS + words[start]
            for stop in range(start + 1, min(start + ALIAS_WORDS, len(words)) + 1):
                if alias not in seen and (alias in known or alias in recent):
                    seen.add(alias)
                    yield alias
                if stop < len(words):
                    alias += " " + words[stop]

    def _telling(self, alias: str) -> bool:
        state = self._state
        if " " in alias or state.live < SMALL_STORE:
            return True
        return self._live_in(self._find(alias.removeprefix(ALIAS))) < COMMON_WORD * state.live

    def _find(self, term: str) -> list[_Found]:
        base, parts = self._state.base, list[_Found]()
        if (i := base.vocabulary.get(term)) is not None:
            start, stop = base.indptr[i : i + 2].tolist()
            rows = base.rows[start:stop]
            parts.append(_Found(rows, base.tf[start:stop], self._base_length[rows]))
        if (grown := self._state.tail.postings.get(term)) is not None:
            position, tf = _pairs(_whole(grown), self._state.added)
            parts.append(_Found(self._tail_rows[position], tf, self._tail_length[position]))
        return parts

    def _live_in(self, parts: list[_Found]) -> int:
        if not self._state.removed:
            return sum(part.rows.size for part in parts)
        return sum(int(np.count_nonzero(np.isfinite(part.length))) for part in parts)

    def fold(self) -> Postings:
        """Base and tail in one, without what was removed. About 0.1 s for 100K documents of 50 words."""
        tail, base = self._state.tail, self._state.base
        if not self._state.added and not self._state.removed:
            return base
        # A list, because the writer may add terms while another thread saves.
        terms, flat, ends = list(tail.postings.items()), array("f"), [0]
        for _, grown in terms:
            flat.extend(_whole(grown))
            ends.append(len(flat) // 2)
        position, tf = np.asarray(flat, np.float32).reshape(-1, 2).T
        live = np.isfinite(self._tail_length)
        keep = position < self._state.added
        keep[keep] = live[position[keep].astype(np.int64)]
        length = np.full(self._state.height, -1, np.float32)
        length[self._tail_rows[live]] = self._tail_length[live]
        more = Postings(
            vocabulary={term: i for i, (term, _) in enumerate(terms)},
            indptr=starts(keep)[np.array(ends)],
            rows=self._tail_rows[position[keep].astype(np.int64)],
            tf=tf[keep],
            length=length,
        )
        gone = self._removed[self._removed >= 0]
        return union(without(base, gone) if gone.size else base, more)


class LexicalIndex:
    """BM25 and aliases over live memories. One thread changes it; any thread queries it, without a lock or a wait."""

    def __init__(self) -> None:
        self._start(empty())

    @property
    def live(self) -> int:
        """How many memories are indexed."""
        return self._state.live

    def view(self) -> LexicalView:
        """The present state, for a reader that asks more than one question of it."""
        return LexicalView(self._state)

    def scores(self, query: str, n_rows: int) -> NDArray[np.float32]:
        """See `LexicalView.scores`."""
        return self.view().scores(query, n_rows)

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
        if sum(map(len, texts)) > 6 * self._tail_limit():  # a word and its space are about six characters
            base = self.view().fold()
            for block in blocks(documents):
                base = union(base, block)
            self._start(base)
        else:
            self._append(documents)
            if self._state.tail.size > self._tail_limit():
                self.merge()

    def remove(self, row: int) -> None:
        """Take one memory out; the row may be added again with another text. Without effect if it holds none."""
        if row not in self:
            return
        state = self._state
        tail = state.tail
        position = tail.position.pop(row, None)
        if position is None:
            words = float(state.base.length[row])
            tail.removed.append(row)
            tail.gone.add(row)
        else:
            words = tail.length[position]
            tail.removed.append(~position)
        self._state = state._replace(removed=state.removed + 1, live=state.live - 1, words=state.words - words)
        if state.removed > max(_TAIL_MIN // 16, state.live // 4):
            self.merge()

    def __contains__(self, row: int) -> bool:
        """Whether the row holds a live memory; for the writer's thread."""
        tail, length = self._state.tail, self._state.base.length
        return row in tail.position or (0 <= row < length.size and length[row] >= 0 and row not in tail.gone)

    def merge(self) -> None:
        """Fold the tail into a new base now; the writer may call it when idle, else it comes by itself."""
        self._start(self.view().fold())

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """A disposable copy of the present state, from any thread: p postings, t terms, h rows.

        terms uint8[bytes], term_offsets int64[t + 1], indptr int64[t + 1], rows int32[p], tf float32[p],
        length float32[h].
        """
        postings = self.view().fold()
        terms = [term.encode() for term in postings.vocabulary]
        return {
            "terms": np.frombuffer(b"".join(terms), np.uint8),
            "term_offsets": starts(np.fromiter(map(len, terms), np.int64, len(terms))),
            "indptr": postings.indptr,
            "rows": postings.rows,
            "tf": postings.tf,
            "length": postings.length,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> "LexicalIndex":
        """The index that `to_arrays` copied; keeps the arrays it is given, mapped files too, and writes to none."""
        blob, offsets = arrays["terms"].tobytes(), arrays["term_offsets"].astype(np.int64).tolist()
        index = cls()
        index._start(
            Postings(
                vocabulary={blob[start:stop].decode(): i for i, (start, stop) in enumerate(pairwise(offsets))},
                indptr=np.asarray(arrays["indptr"], np.int64),
                rows=np.asarray(arrays["rows"], np.int32),
                tf=np.asarray(arrays["tf"], np.float32),
                length=np.asarray(arrays["length"], np.float32),
            )
        )
        return index

    def _start(self, base: Postings) -> None:
        lengths = base.length[base.length >= 0]
        self._state = _State(base, _Tail(), 0, 0, lengths.size, float(lengths.sum(dtype=np.float64)), base.length.size)

    def _append(self, documents: "list[Document]") -> None:
        state = self._state
        tail, words, height = state.tail, state.words, state.height
        read = [(row, tokenize(text), alias_terms(aliases)) for row, text, aliases in documents]
        for position, (row, found, names) in enumerate(read, state.added):
            counts = Counter(found + names)
            for term, times in counts.items():
                grown = tail.postings.get(term)
                if grown is None:
                    grown = tail.postings[term] = array("f")
                grown.append(position)
                grown.append(times)
            tail.rows.append(row)
            tail.length.append(len(found))
            tail.position[row] = position
            tail.size += 1 + len(counts)
            words, height = words + len(found), max(height, row + 1)
        added, live = state.added + len(read), state.live + len(read)
        self._state = state._replace(added=added, live=live, words=words, height=height)

    def _tail_limit(self) -> int:
        return max(_TAIL_MIN, self._state.base.rows.size // 16)


def _whole(grown: "array[float]") -> "array[float]":
    """A copy without a half-written pair at its end: the writer may be between its two appends."""
    return grown[: len(grown) // 2 * 2]


def _pairs(grown: "array[float]", added: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Positions in the tail below `added`, ascending, and their tf."""
    position, tf = np.asarray(grown, np.float32).reshape(-1, 2).T
    stop = int(np.searchsorted(position, added))
    return position[:stop].astype(np.int64), tf[:stop]
