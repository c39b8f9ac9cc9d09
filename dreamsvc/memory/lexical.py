"""Lexical recall: a BM25 index over memory rows, and the alias lookup that belongs to the fair base.

One thread (the store's writer) changes the index, any number of threads read it, and nobody locks. What a reader sees
is one `_State`: an immutable CSR base, an append-only tail, and how much of that tail is already public. A change first
appends to the tail, then publishes by replacing one reference; a reader that started before keeps its own state, whole,
to the end of its query. A merge folds the tail into a new base beside the old one and publishes it in the same way.

Aliases are kept as postings too: a term that starts with NUL, which no word contains, followed by the alias' words. So
they are added, removed, merged and saved by the same code as the words.
"""

import math
import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import count, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

K1 = 1.2  # saturation of the term weight
B = 0.4  # pull of the document's length; 0.75 punishes short chat turns
SHARED_BY = 20  # an alias of this many live memories says nothing about any of them
ALIAS_GAIN = 0.5
ALIAS_WORDS = 16  # longer titles do not occur word by word in a query, and each length costs one lookup per query word
QUERY_WORDS = 2_048  # of one query; a whole document as a query would hold the interpreter for seconds
SMALL_STORE = 200  # memories; below it a document frequency says little about how common a word is
COMMON_WORD = 0.05  # share of the live memories

# English function words, passed over in a query unless it holds nothing else: in chats "what did" is rarer, so by its
# idf heavier, than what is asked about. None that is also a name (will, may, us); index and aliases keep them all.
_FUNCTION_WORDS = """
a an and are as at be been but by could did do does for from had has have he her him his how i if in into is it its
me my no nor not of on or our she should so such than that the their them then there these they this those to was we
were what when where which who whom whose why with would you your
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())

_ALIAS = "\0"
_SLICE = 1 << 16  # characters tokenised in one go, so that no regex call holds the interpreter for long
_BLOCK = 1 << 20  # terms indexed in one sort by a bulk load: bounds its memory
_TAIL_MIN = 1 << 16  # postings (and documents) in the tail before a merge is worth its price

# Scripts written without spaces: Thai, Lao, Myanmar, Khmer, Kana, Bopomofo, Han, Hangul.
_SPACELESS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u1049\u1780-\u17d3\u3005\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
# Marks that belong to the letter before them but are no \w: accents, Cyrillic, Hebrew, Arabic, Indic vowel signs.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0900-\u0963\u0980-\u0dff"
)
# No word is longer than 64 characters: what is (base64, hashes in a row) is cut instead of filling the vocabulary.
_WORD = re.compile(rf"[\w{_MARKS}]{{1,64}}")
_IS_SPACELESS = re.compile(f"[{_SPACELESS}]")
_RUN_OR_WORD = re.compile(rf"[{_SPACELESS}]+|(?:(?![{_SPACELESS}])[\w{_MARKS}]){{1,64}}")


def tokenize(text: str) -> list[str]:
    """Words of `text` in order, case-folded; runs of scripts without spaces as overlapping pairs of characters.

    Identifiers fall apart at dots and underscores (`os.path_x` -> os, path, x): a query for the whole then finds its
    parts together, a query for one part finds it at all. Linear in the length of the text.
    """
    if len(text) <= _SLICE:
        return _words(text)
    words: list[str] = []
    start = 0
    while start < len(text):
        stop = start + _SLICE
        if stop < len(text):  # cut between words when there is a space or a line's end to cut at
            stop = max(text.rfind(" ", start, stop), text.rfind("\n", start, stop)) + 1 or stop
        words += _words(text[start:stop])
        start = stop
    return words


def _words(text: str) -> list[str]:
    if text.isascii():
        return _WORD.findall(text.lower().replace("_", " "))
    text = unicodedata.normalize("NFKC", text).casefold().replace("_", " ")
    if not _IS_SPACELESS.search(text):
        return _WORD.findall(text)
    words: list[str] = []
    for run in _RUN_OR_WORD.findall(text):
        if len(run) > 1 and _IS_SPACELESS.match(run):
            words += map("".join, pairwise(run))
        else:
            words.append(run)
    return words


def _asked(query: str) -> list[str]:
    return tokenize(query[:_SLICE])[:QUERY_WORDS]


def _alias_terms(aliases: Sequence[str]) -> list[str]:
    """The distinct alias terms of one memory; an alias without words, or with too many, is none."""
    split = (tokenize(alias) for alias in aliases)
    return list(dict.fromkeys(_ALIAS + " ".join(words) for words in split if 0 < len(words) <= ALIAS_WORDS))


class _Postings(NamedTuple):
    """t terms, p postings, h rows; never written to once published. Term i owns indptr[i]:indptr[i + 1]."""

    vocabulary: dict[str, int]  # term -> i, inserted in the order of i
    indptr: NDArray[np.int64]  # [t + 1]
    rows: NDArray[np.int32]  # [p], each row at most once within a term
    tf: NDArray[np.float32]  # [p], a count today, any weight after consolidation
    length: NDArray[np.float32]  # [h] words of the row's document, -1 where there is none


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
    base: _Postings
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
        asked = Counter(_asked(query))
        for word, times in asked.items():
            if word in FUNCTION_WORDS and not asked.keys() <= FUNCTION_WORDS:
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
        words = _asked(query)
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
            alias = _ALIAS + words[start]
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
        return self._live_in(self._find(alias.removeprefix(_ALIAS))) < COMMON_WORD * state.live

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

    def fold(self) -> _Postings:
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
        more = _Postings(
            vocabulary={term: i for i, (term, _) in enumerate(terms)},
            indptr=_starts(keep)[np.array(ends)],
            rows=self._tail_rows[position[keep].astype(np.int64)],
            tf=tf[keep],
            length=length,
        )
        gone = self._removed[self._removed >= 0]
        return _union(_without(base, gone) if gone.size else base, more)


class LexicalIndex:
    """BM25 and aliases over live memories. One thread changes it; any thread queries it, without a lock or a wait."""

    def __init__(self) -> None:
        self._start(_empty())

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
            for block in _blocks(documents):
                base = _union(base, block)
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
            "term_offsets": _starts(np.fromiter(map(len, terms), np.int64, len(terms))),
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
            _Postings(
                vocabulary={blob[start:stop].decode(): i for i, (start, stop) in enumerate(pairwise(offsets))},
                indptr=np.asarray(arrays["indptr"], np.int64),
                rows=np.asarray(arrays["rows"], np.int32),
                tf=np.asarray(arrays["tf"], np.float32),
                length=np.asarray(arrays["length"], np.float32),
            )
        )
        return index

    def _start(self, base: _Postings) -> None:
        lengths = base.length[base.length >= 0]
        self._state = _State(base, _Tail(), 0, 0, lengths.size, float(lengths.sum(dtype=np.float64)), base.length.size)

    def _append(self, documents: "list[_Document]") -> None:
        state = self._state
        tail, words, height = state.tail, state.words, state.height
        read = [(row, tokenize(text), _alias_terms(aliases)) for row, text, aliases in documents]
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


type _Document = tuple[int, str, Sequence[str]]  # row, text, aliases


def _blocks(documents: "Iterable[_Document]") -> Iterator[_Postings]:
    """The documents' postings, about `_BLOCK` terms at a time."""
    terms, rows, ids, lengths = _fresh(), list[int](), list[NDArray[np.int64]](), list[int]()
    size = 0
    for row, text, aliases in documents:
        found = tokenize(text)
        rows.append(row)
        lengths.append(len(found))
        found += _alias_terms(aliases)
        ids.append(np.fromiter(map(terms.__getitem__, found), np.int64, len(found)))
        size += len(found)
        if size >= _BLOCK:
            yield _sorted_by_term(terms, rows, ids, lengths)
            terms, rows, ids, lengths, size = _fresh(), [], [], [], 0
    if rows:
        yield _sorted_by_term(terms, rows, ids, lengths)


def _fresh() -> defaultdict[str, int]:
    """A vocabulary that numbers a term when it is first asked for."""
    return defaultdict(count().__next__)


def _sorted_by_term(
    terms: dict[str, int], rows: list[int], ids: list[NDArray[np.int64]], lengths: list[int]
) -> _Postings:
    document = np.repeat(np.arange(len(rows)), [len(one) for one in ids])
    keys, tf = np.unique(np.concatenate(ids) * len(rows) + document, return_counts=True)
    term, document = np.divmod(keys, len(rows))
    row_of = np.array(rows, np.int32)
    length = np.full(int(row_of.max()) + 1, -1, np.float32)
    length[row_of] = lengths
    indptr = _starts(np.bincount(term, minlength=len(terms)))
    return _Postings(dict(terms), indptr, row_of[document], tf.astype(np.float32), length)


def _union(base: _Postings, more: _Postings) -> _Postings:
    """Both as new postings; no row has a document in both."""
    length = np.full(max(base.length.size, more.length.size), -1, np.float32)
    length[: base.length.size] = base.length
    np.copyto(length[: more.length.size], more.length, where=more.length >= 0)
    vocabulary = base.vocabulary.copy()
    numbers = (vocabulary.setdefault(term, len(vocabulary)) for term in more.vocabulary)
    target = np.fromiter(numbers, np.int64, len(more.vocabulary))
    new = len(vocabulary) - len(base.vocabulary)
    sizes = np.concatenate((np.diff(base.indptr), np.zeros(new, np.int64)))
    sizes[target] += np.diff(more.indptr)
    of_term = np.repeat(target, np.diff(more.indptr))
    order = np.argsort(of_term, kind="stable")
    ends = np.concatenate((base.indptr[1:], np.full(new, base.rows.size)))
    at = ends[of_term[order]]  # each posting goes to the end of its term's slice, those of new terms to the very end
    return _Postings(
        vocabulary,
        _starts(sizes),
        np.insert(base.rows, at, more.rows[order]),
        np.insert(base.tf, at, more.tf[order]),
        length,
    )


def _without(postings: _Postings, gone: NDArray[np.int32]) -> _Postings:
    """The postings of all rows but `gone`, and only the terms that still have some."""
    length = postings.length.copy()
    length[gone] = -1
    keep = length[postings.rows] >= 0
    indptr = _starts(keep)[postings.indptr]
    used = np.diff(indptr) > 0
    terms = (term for term, kept in zip(postings.vocabulary, used.tolist(), strict=True) if kept)
    return postings._replace(
        vocabulary={term: i for i, term in enumerate(terms)},
        indptr=np.concatenate((indptr[:1], indptr[1:][used])),
        rows=postings.rows[keep],
        tf=postings.tf[keep],
        length=length,
    )


def _starts(sizes: NDArray[np.integer | np.bool_]) -> NDArray[np.int64]:
    """Where each of n slices starts, and the last one's end: int64[n + 1]."""
    starts = np.zeros(sizes.size + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    return starts


def _whole(grown: "array[float]") -> "array[float]":
    """A copy without a half-written pair at its end: the writer may be between its two appends."""
    return grown[: len(grown) // 2 * 2]


def _pairs(grown: "array[float]", added: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Positions in the tail below `added`, ascending, and their tf."""
    position, tf = np.asarray(grown, np.float32).reshape(-1, 2).T
    stop = int(np.searchsorted(position, added))
    return position[:stop].astype(np.int64), tf[:stop]


def _empty() -> _Postings:
    none = np.zeros(0, np.float32)
    return _Postings({}, np.zeros(1, np.int64), np.zeros(0, np.int32), none, none)
