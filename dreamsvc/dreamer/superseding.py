"""Which memories are out of date: two tell different values of one attribute, and time says which is the newer one.

Not every text is compared with every other: each is read once, and those that state the same attribute of the same
subject come together by an index. Which words count as the same there is closed over all texts ("smokes" and "smoking"
are one because both may be "smoke"), so that nothing that `evidence.change` would find is missed. In each group of the
index a fact is then compared with the next newer ones only.

n: rows.
"""

import re
from array import array
from collections.abc import Hashable, Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.memories import NEVER, Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.readings import Readings
from dreamsvc.evidence import change
from dreamsvc.evidence.changing import doing, statement
from dreamsvc.evidence.variants import keys

SUPERSEDES = "SUPERSEDES"
_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$)|[。！？\n]")
# A text with more bytes, words, or sentences of so many words tells more than one thing.
SHORT_BYTES = 512
SHORT_WORDS = 32
SENTENCE_WORDS = 5
# Bytes of text looked at, bytes read, facts compared and grouped, in about 5 ms.
LOOKED_AT_BYTES = 100_000
READ_BYTES = 6_000
COMPARED = 64
GROUPED = 1_024
# Newer facts of another value that a fact is compared with: the next one nearly always contradicts it.
AHEAD = 16


class Superseded(NamedTuple):
    """A memory and the newer one that contradicts it, by row."""

    newer: int
    older: int
    attribute: str  # "user lives in"
    older_value: str
    newer_value: str


class Superseding(NamedTuple):
    """What was found."""

    pairs: list[Superseded]  # by older row, ascending, which is in one pair only
    pinned: list[int]  # rows that are out of date too and stay as they are


class _Fact(NamedTuple):
    row: int
    value: Hashable  # equal for facts that cannot contradict each other


def find_superseded(memories: Memories, readings: Readings, gone: NDArray[np.bool_]) -> Search[Superseding]:
    """Contradicted memories, each with the next newer one that contradicts it.

    Looked at are memories that recall may answer with and that are not gone, [n]. Pairs that a living edge joins
    already are left out.
    """
    groups = yield from _groups(memories, readings, np.flatnonzero(memories.findable & ~gone))
    known = _known(memories)
    found: dict[int, Superseded] = {}
    pinned: set[int] = set()
    compared = 0
    for done, group in enumerate(groups):
        group.sort(key=lambda fact: (_told_us(memories, fact.row), fact.row))
        for place, after in _turns(group):
            older = group[place].row
            compared += 1
            if compared % COMPARED == 0:
                yield Step("comparing facts", done, len(groups))
            newer = _next(memories, readings, older, [fact.row for fact in group[after : after + AHEAD]])
            if newer is None or (newer.newer, older) in known:
                continue
            if memories.untouchable[older]:
                pinned.add(older)
            elif older not in found or _is_newer(memories, found[older].newer, newer.newer):
                found[older] = newer
    return Superseding([found[row] for row in sorted(found)], sorted(pinned))


def _known(memories: Memories) -> set[tuple[int, int]]:
    """Pairs of a newer and an older row that an edge joins."""
    if SUPERSEDES not in memories.type_names:
        return set()
    edges = np.flatnonzero((memories.types == list(memories.type_names).index(SUPERSEDES)) & memories.edges_alive)
    return set(zip(memories.src[edges].tolist(), memories.dst[edges].tolist(), strict=True))


# ── who speaks of the same ──────────────────────────────────────────────────────


class _Vocabulary:
    """Words by number; words that may be forms of one word are of one family, and so are their families."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}
        self._parent: list[int] = []

    def numbers(self, words: Iterable[str]) -> bytes:
        return array("i", [self._of(word) for word in words]).tobytes()

    def families(self, numbers: bytes) -> tuple[int, ...]:
        return tuple(self._root(number) for number in array("i", numbers))

    def _of(self, word: str) -> int:
        number = self._number.get(word)
        if number is None:
            number = self._new(word)
            for form in keys(word):
                other = self._number.get(form)
                other = self._new(form) if other is None else other
                self._parent[self._root(other)] = self._root(number)
        return number

    def _new(self, word: str) -> int:
        self._number[word] = len(self._parent)
        self._parent.append(len(self._parent))
        return len(self._parent) - 1

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number


# Row, attribute, words by number (i32), value. Plain and of bytes: of these there may be 100,000 for a while, and
# Python's garbage collector does not look at them again and again, as it would at objects.
type _Read = tuple[int, str, bytes, Hashable]


def _may_state(text: str) -> bool:
    """Whether it could be one statement, by a look that costs a tenth of reading it."""
    if len(text.split()) > SHORT_WORDS or text.rstrip(" \"')").endswith("?"):
        return False
    sentences = [sentence.split() for sentence in _SENTENCE_END.split(text)]
    # What follows may take back what held before: "Not in Oslo any more."
    telling = [words for words in sentences if len(words) >= SENTENCE_WORDS and words[0].lower() not in ("not", "no")]
    return len(telling) <= 1


def _groups(memories: Memories, readings: Readings, rows: NDArray[np.int64]) -> Search[list[list[_Fact]]]:
    """Facts of one attribute of one subject, two and more."""
    vocabulary = _Vocabulary()
    stated: list[_Read] = []
    done_things: list[_Read] = []
    short: list[int] = []
    for portion in readings.portions(rows.tolist(), LOOKED_AT_BYTES):
        short += [row for row in portion if readings.size(row) <= SHORT_BYTES and _may_state(memories.words(row))]
        yield Step("reading facts", 0, len(rows))
    count = 0
    for portion in readings.portions(short, READ_BYTES):
        for row in portion:
            read = readings[row]
            if (said := statement(read)) is not None:
                stated.append((row, said.attribute, vocabulary.numbers(said.subject), said.value))
            if (deed := doing(read)) is not None:
                done_things.append((row, "", vocabulary.numbers(deed.words), deed.is_over))
        count += len(portion)
        yield Step("reading facts", count, len(short))
    # Families are known only now that all words are.
    groups: dict[Hashable, list[_Fact]] = {}
    for place, (row, attribute, words, value) in enumerate(stated):
        families = vocabulary.families(words)
        groups.setdefault((attribute, len(families), frozenset(families)), []).append(_Fact(row, value))
        if place % GROUPED == 0:
            yield Step("grouping facts", place, len(stated))
    over = {vocabulary.families(words) for *_, words, is_over in done_things if is_over}
    yield Step("grouping facts", len(stated), len(stated))
    for place, (row, _, words, is_over) in enumerate(done_things):
        deed = vocabulary.families(words) if over else ()
        if deed in over:
            groups.setdefault(deed, []).append(_Fact(row, is_over))
        if place % GROUPED == 0:
            yield Step("grouping facts", place, len(done_things))
    return [group for group in groups.values() if len(group) > 1]


# ── which is newer ──────────────────────────────────────────────────────────────


def _turns(group: list[_Fact]) -> list[tuple[int, int]]:
    """Places of facts, and for each the next place at which another value stands; where there is one."""
    after = len(group)
    turns: list[tuple[int, int]] = []
    places = range(len(group))
    for later, place in pairwise([*reversed(places)]):
        if group[later].value != group[place].value:
            after = later
        if after < len(group):
            turns.append((place, after))
    return turns


def _next(memories: Memories, readings: Readings, older: int, candidates: list[int]) -> Superseded | None:
    for row in candidates:
        if _is_newer(memories, row, older):
            found = change(readings[older], readings[row])
            if found is not None:
                return Superseded(row, older, found.attribute, found.left, found.right)
    return None


def _told_us(memories: Memories, row: int) -> int:
    event_us = int(memories.event_us[row])
    return int(memories.created_us[row]) if event_us == NEVER else event_us


def _is_newer(memories: Memories, row: int, older: int) -> bool:
    """By when they happened, where both say so, else by when they came to be known.

    Where only one says when it happened, the other counts as newer or older only if that is so by either time.
    """
    event_us, other_event_us = int(memories.event_us[row]), int(memories.event_us[older])
    if event_us != NEVER and other_event_us != NEVER:
        return event_us > other_event_us
    came_later = bool(memories.created_us[row] > memories.created_us[older])
    return came_later and _told_us(memories, row) > _told_us(memories, older)
