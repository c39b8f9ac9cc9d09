"""The words of the memories, read once a night and held as numbers: four bytes for each word that is said.

Beside them stands what their spelling tells: a word that is written with a capital wherever it stands is a name. A word
is what the index of recall takes for one; its number is its place in `words`.

n: rows. T: words said, in all. V: different words. C: words written with a capital, each once a memory.
"""

import re
from array import array
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import count
from typing import NamedTuple
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.lexical.words import tokenize

# Characters read in one step, and what the call for a short text counts as.
READ, CALL = 12_000, 48
# Words counted in one step.
COUNTED = 16_384
NOT_A_WORD = -1

# A capital where no sentence begins: behind a word, a comma, a bracket.
_WITHIN = r"(?<=[\w,;:)\]] )"
_ASCII_WITHIN = re.compile(_WITHIN + r"[A-Z][A-Za-z0-9]*+", re.ASCII)
_ASCII_CAPITAL = re.compile(r"(?<![A-Za-z0-9])[A-Z][A-Za-z0-9]*+")
# Letters of scripts that have capitals, and digits: Latin, Greek, Cyrillic, Armenian, Georgian, Cherokee; with accents.
_CASED = (
    "0-9A-Za-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02c1\u0300-\u036f\u0370-\u0373\u0376\u0377\u037b-\u037d"
    "\u037f\u0386\u0388-\u0481\u0483-\u0487\u048a-\u052f\u0531-\u0556\u0561-\u0587\u10a0-\u10ff\u13a0-\u13f5\u1c80-\u1cbf"
    "\u1e00-\u1fff\u2c00-\u2dff\ua640-\ua69f\ua720-\ua7ff"
)
_CASED_END = 0xA800


class Words(NamedTuple):
    """What memories say. Row i says flat[starts[i] : starts[i + 1]]: from texts[i] on its text, before it its title."""

    vocabulary: dict[str, int]  # word -> number
    words: list[str]  # [V]
    flat: NDArray[np.int32]  # [T]
    starts: NDArray[np.int64]  # [n + 1]; rows that were not read say nothing
    texts: NDArray[np.int64]  # [n]
    memories: int  # rows that were read
    df: NDArray[np.int32]  # [V], memories that say it
    capitals: NDArray[np.int32]  # [C], words of row i that it writes with a capital: capital_starts[i : i + 2]
    capital_starts: NDArray[np.int64]  # [n + 1]
    lower: NDArray[np.bool_]  # [V], somebody writes it without a capital
    within: NDArray[np.bool_]  # [V], somebody writes it with a capital where no sentence begins
    written: dict[int, str]  # by word: how it was first written with a capital

    def of(self, row: int) -> NDArray[np.int32]:
        """The words of a memory in their order."""
        return self.flat[self.starts[row] : self.starts[row + 1]]

    def spelled(self, numbers: NDArray[np.integer]) -> list[str]:
        """Words by their numbers."""
        chosen: list[int] = numbers.tolist()
        return [self.words[number] for number in chosen]

    def idf(self) -> NDArray[np.float32]:
        """What each word counts for in a query, [V]; as `dreamsvc.lexical.index` weighs it."""
        return np.log1p((self.memories - self.df + 0.5) / (self.df + 0.5)).astype(np.float32)


class _Reader:
    """What has been read so far."""

    def __init__(self) -> None:
        self.numbers: defaultdict[str, int] = defaultdict(count().__next__)
        self.said = array("i")
        self.capitals = array("i")  # as often as they stand
        self.written: dict[int, str] = {}
        self._forms: dict[str, int] = {}  # written with a capital -> word
        self.within: set[str] = set()  # forms that stand where no sentence begins

    def read(self, text: str) -> None:
        self.said.extend(map(self.numbers.__getitem__, tokenize(text)))
        if text.isascii():
            found = _ASCII_CAPITAL.findall(text)
            self.within.update(_ASCII_WITHIN.findall(text))
        else:
            text = normalize("NFKC", text)
            found = _capital().findall(text)
            self.within.update(_capital_within().findall(text))
        forms = self._forms
        for form in found:
            word = forms.get(form)
            if word is None:
                word = forms[form] = self._word(form)
            if word != NOT_A_WORD:
                self.capitals.append(word)

    def words_within(self) -> list[int]:
        """Words that stand with a capital where no sentence begins."""
        found = (self._forms.get(form, NOT_A_WORD) for form in self.within)
        return [word for word in found if word != NOT_A_WORD]

    def _word(self, form: str) -> int:
        cut = tokenize(form)
        if len(cut) != 1 or cut[0] not in self.numbers:
            return NOT_A_WORD
        word = self.numbers[cut[0]]
        self.written.setdefault(word, form)
        return word


def read_words(memories: Memories, rows: NDArray[np.integer]) -> Search[Words]:
    """What these rows say, ascending."""
    n = len(memories.node_ids)
    reader = _Reader()
    ends, texts, capital_ends = (np.zeros(n, np.int64) for _ in range(3))
    spent = 0
    for done, row in enumerate(rows.tolist()):
        for place, text in enumerate((memories.titles[row], memories.texts[row])):
            if place:
                texts[row] = len(reader.said)
            for piece in _pieces(text):
                reader.read(piece)
                spent += len(piece) + CALL
                if spent >= READ:
                    spent = 0
                    yield Step("words", done, len(rows))
        ends[row], capital_ends[row] = len(reader.said), len(reader.capitals)
    # A word that is looked up is not to become one from here on.
    reader.numbers.default_factory = None
    flat, capitals = np.frombuffer(reader.said, np.int32), np.frombuffer(reader.capitals, np.int32)
    size = len(reader.numbers)
    yield Step("words", len(rows), len(rows))
    starts = _starts(ends)
    df, times, written = (np.zeros(size, np.int32) for _ in range(3))
    for _, words in distinct(flat, starts):
        np.add.at(df, words, 1)
        yield Step("counting words", 0, 1)
    yield from _count(flat, times)
    yield from _count(capitals, written)
    within = np.zeros(size, np.bool_)
    within[reader.words_within()] = True
    held = np.zeros(n, np.int64)
    names: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
    for owners, words in distinct(capitals, _starts(capital_ends)):
        np.add.at(held, owners, 1)
        names.append(words)
        yield Step("counting words", 0, 1)
    return Words(
        vocabulary=reader.numbers,
        words=list(reader.numbers),
        flat=flat,
        starts=starts,
        texts=np.maximum(texts, starts[:-1]),
        memories=len(rows),
        df=df,
        capitals=np.concatenate(names),
        capital_starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(held)]),
        lower=times > written,
        within=within,
        written=reader.written,
    )


def distinct(
    flat: NDArray[np.int32], starts: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
    """Rows and the words that they say, each once and both ascending, some thousand at a time; a row is never split."""
    for first, stop in portions(starts, COUNTED):
        words = flat[starts[first] : starts[stop]]
        if stop == first + 1:
            words = np.unique(words)
            yield np.full(len(words), first), words
            continue
        sizes = np.diff(starts[first : stop + 1])
        keys = np.unique(np.repeat(np.arange(first, stop) << 32, sizes) | words)
        yield keys >> 32, (keys & 0xFFFFFFFF).astype(np.int32)


def portions(starts: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Runs of rows, [first, stop) each, that hold at most so many places, or that are one row; starts: [n + 1]."""
    row, n = 0, len(starts) - 1
    while row < n:
        stop = max(row + 1, int(np.searchsorted(starts, starts[row] + most, side="right")) - 1)
        yield row, stop
        row = stop


def _count(flat: NDArray[np.int32], times: NDArray[np.int32]) -> Search[None]:
    """Adds to `times`, [V], how often each word stands in `flat`."""
    for start in range(0, len(flat), 4 * COUNTED):
        np.add.at(times, flat[start : start + 4 * COUNTED], 1)
        yield Step("counting words", 0, 1)


def _starts(ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where rows begin, and the last one's end; a row without an end of its own is empty."""
    return np.concatenate([np.zeros(1, np.int64), np.maximum.accumulate(ends)])


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces of at most READ characters, cut between words where there is a space or a line's end."""
    start = 0
    while start < len(text):
        stop = start + READ
        if stop < len(text):
            stop = max(text.rfind(" ", start, stop), text.rfind("\n", start, stop)) + 1 or stop
        yield text[start:stop]
        start = stop


@cache
def _capital() -> re.Pattern[str]:
    """What begins with a capital in texts beyond ASCII."""
    capitals = "".join(chr(code) for code in range(_CASED_END) if chr(code).isupper())
    return re.compile(f"(?<![{_CASED}])[{capitals}][{_CASED}]*+")


@cache
def _capital_within() -> re.Pattern[str]:
    """The same where no sentence begins."""
    return re.compile(_WITHIN + _capital().pattern)
