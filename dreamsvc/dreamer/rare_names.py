"""Which memories share a name that hardly any other has.

A name is a word that is written with a capital wherever it stands, and not only where sentences begin. Of scripts
without capitals any rare word may be one, and counts a quarter. What callers say that a memory is about is a name,
whatever its case and however many words it has; who says it in a text has it too. A name of df memories brings each two
of them together by ln(1 + N/df) / ln(1 + N/2) / (df - 1): by 1 where only they have it.

n: rows. N: memories that were read. r: names. h: where a memory has a name. p: pairs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.adjacency import by_end
from dreamsvc.dreamer.memories import Memories, listed
from dreamsvc.dreamer.mentions import find_sayings, is_caseless, named, numbers_of, tells
from dreamsvc.dreamer.merging import Edges, Search, Step
from dreamsvc.dreamer.vocabulary import Words, distinct
from dreamsvc.lexical.words import FUNCTION_WORDS, tokenize

SHORTEST = 3  # characters of a name in a script with capitals
CASELESS = 0.25
# Names that callers gave bring memories together by at least as much.
GIVEN = 1.0
# Pairs that are looked at: so many for each memory that is new, and for none; those of the rarest names.
PAIRS_EACH, PAIRS = 64, 100_000
# Words looked at, pairs made and memories' entities read in one step.
WORDS, PAIRED, ENTITIES = 4_096, 32_768, 512

type Rows = NDArray[np.int32]


class RareNames(NamedTuple):
    """Names that few memories share, the rarest first; name i is had by rows[starts[i] : starts[i + 1]], ascending."""

    starts: NDArray[np.int64]  # [r + 1]
    rows: Rows  # [h]
    weight: NDArray[np.float32]  # [r], of each pair that has it
    word: NDArray[np.int64]  # [r]; -1 - place in `given` for what callers gave
    given: list[str]  # as it was given first
    indptr: NDArray[np.int64]  # [n + 1], row i has of_row[indptr[i] : indptr[i + 1]]
    of_row: NDArray[np.int64]  # [h], names, the rarest first

    def shared(self, words: Words, left: int, right: int) -> list[str]:
        """Names that both have, the rarest first, as they are written."""
        ours, theirs = (self.of_row[self.indptr[row] : self.indptr[row + 1]].tolist() for row in (left, right))
        both: list[int] = self.word[sorted(set(ours).intersection(theirs))].tolist()
        return [words.written.get(word, words.words[word]) if word >= 0 else self.given[-1 - word] for word in both]


class _Names(NamedTuple):
    """Names of one kind, in no order."""

    word: NDArray[np.int64]  # by name, -1 - place in what was given for what has no number of its own
    df: NDArray[np.int64]
    weight: NDArray[np.float64]
    name: NDArray[np.int64]  # with `row`: who has which
    row: NDArray[np.int64]


def find_rare_names(memories: Memories, words: Words, rows: NDArray[np.integer], most: int) -> Search[RareNames]:
    """The names that at least two and at most so many of the rows, ascending, have."""
    given, spelled = yield from _given(memories, words, rows, most)
    single = yield from _of_one_word(
        words, most, {words.vocabulary.get(name[0], -1) for name in spelled if not name[1:]}
    )
    df = np.concatenate([given.df, single.df])
    # Of equal ones those that callers gave come first. numpy sorts int16 in linear time.
    order = np.argsort(df.astype(np.int16), kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    name = rank[np.concatenate([given.name, single.name + len(given.df)])]
    row = np.concatenate([given.row, single.row])
    every = np.ones(len(name), np.bool_)
    yield Step("names", 1, 2)
    at = yield from by_end(name.astype(np.int32), every, len(order))
    by_name = row[at.edge].astype(np.int32)
    names = np.repeat(np.arange(len(order)), df[order])
    yield Step("names", 1, 2)
    by_row = yield from by_end(by_name, every, len(memories.node_ids))
    return RareNames(
        starts=at.indptr,
        rows=by_name,
        weight=np.concatenate([given.weight, single.weight])[order].astype(np.float32),
        word=np.concatenate([given.word, single.word])[order],
        given=list(spelled.values()),
        indptr=by_row.indptr,
        of_row=names[by_row.edge],
    )


def pairs_of(names: RareNames, changed: NDArray[np.bool_]) -> Search[list[Edges]]:
    """Pairs that have a name in common and of which one at least has changed, [n], and how much each name says."""
    found: list[Edges] = []
    left = PAIRS + PAIRS_EACH * int(np.count_nonzero(changed))
    df = np.diff(names.starts)
    for size in np.unique(df).tolist():
        alike = np.flatnonzero(df == size)
        several = max(1, PAIRED // size)
        for start in range(0, len(alike), several):
            chosen = alike[start : start + several]
            block = names.rows[names.starts[chosen][:, None] + np.arange(size)]
            fresh = changed[block].any(axis=1)
            block, weight = block[fresh], names.weight[chosen[fresh]]
            for apart in range(1, size):
                src, dst = block[:, apart:].ravel(), block[:, :-apart].ravel()
                wanted = changed[src] | changed[dst]
                left -= int(np.count_nonzero(wanted))
                ends = src[wanted].astype(np.int64), dst[wanted].astype(np.int64)
                found.append(Edges(*ends, np.repeat(weight, size - apart)[wanted]))
                yield Step("shared names", int(chosen[-1]), len(df))
            if left <= 0:
                return found
    return found


def weight_of(df: NDArray[np.integer], memories: int) -> NDArray[np.float64]:
    """How much a name says of two of the memories that have it, 0 .. 1."""
    return np.log1p(memories / df) / np.log1p(max(memories, 2) / 2) / (df - 1)


def _of_one_word(words: Words, most: int, known: set[int]) -> Search[_Names]:
    """Words that are names by how they are written; without those that are known to be."""
    rare = np.flatnonzero((words.df >= 2) & (words.df <= most))
    cased, caseless = np.zeros(len(words.words), np.bool_), np.zeros(len(words.words), np.bool_)
    for start in range(0, len(rare), WORDS):
        part = rare[start : start + WORDS]
        for word, spelled in zip(part.tolist(), words.spelled(part), strict=True):
            if word in known or spelled in FUNCTION_WORDS:
                continue
            if not words.lower[word]:
                # At the beginning of a sentence any word has a capital.
                cased[word] = len(spelled) >= SHORTEST and bool(words.within[word])
            else:
                caseless[word] = is_caseless(spelled)
        yield Step("names", start, len(rare))
    owners: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    named: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    sources = [(words.capitals, words.capital_starts, cased)]
    if caseless.any():
        sources.append((words.flat, words.starts, caseless))
    for flat, starts, wanted in sources:
        for rows, said in distinct(flat, starts):
            kept = wanted[said]
            owners.append(rows[kept])
            named.append(said[kept].astype(np.int64))
            yield Step("names", len(rare), len(rare))
    chosen = np.flatnonzero(cased | caseless)
    number = np.zeros(len(words.words), np.int64)
    number[chosen] = np.arange(len(chosen))
    df = words.df[chosen].astype(np.int64)
    weight = weight_of(df, words.memories) * np.where(cased[chosen], 1.0, CASELESS)
    yield Step("names", len(rare), len(rare))
    return _Names(chosen, df, weight, number[np.concatenate(named)], np.concatenate(owners))


def _given(
    memories: Memories, words: Words, rows: NDArray[np.integer], most: int
) -> Search[tuple[_Names, dict[tuple[str, ...], str]]]:
    """What callers say that memories are about, and how they write it; who says it has it too."""
    held: dict[tuple[str, ...], set[int]] = {}
    written: dict[tuple[str, ...], str] = {}
    told = rows[memories.entities.sizes()[rows] > len("[]")]
    for done, row in enumerate(told.tolist()):
        for entity in listed(memories.entities, row):
            name = tuple(tokenize(entity))
            if name:
                having = held.setdefault(name, set())
                # One more than may have it shows that it is not rare.
                if len(having) <= most:
                    having.add(row)
                written.setdefault(name, entity)
        if done % ENTITIES == ENTITIES - 1:
            yield Step("entities", done, len(told))
    spoken = yield from _spoken(words, held)
    for name, sayers in spoken:
        held[name].update(sayers[: most + 1])
    rare = {name: having for name, having in held.items() if 2 <= len(having) <= most}
    df = np.fromiter(map(len, rare.values()), np.int64, len(rare))
    row = np.array([row for having in rare.values() for row in sorted(having)], np.int64)
    weight = np.maximum(GIVEN, weight_of(df, words.memories))
    found = _Names(-1 - np.arange(len(rare)), df, weight, np.repeat(np.arange(len(rare)), df), row)
    return found, {name: written[name] for name in rare}


def _spoken(words: Words, held: dict[tuple[str, ...], set[int]]) -> Search[list[tuple[tuple[str, ...], list[int]]]]:
    """Names that texts say, and the rows of those texts."""
    if not held:
        return []
    keys: dict[bytes, tuple[str, ...]] = {}
    for done, name in enumerate(held):
        numbers = numbers_of(name, words)
        if numbers is not None and tells(numbers, words):
            keys[numbers.tobytes()] = name
        if done % WORDS == WORDS - 1:
            yield Step("entities", done, len(held))
    names = yield from named({key: [] for key in keys}, 0)
    said = yield from find_sayings(words, names)
    at = yield from by_end(said.names, np.ones(len(said.names), np.bool_), len(keys))
    return [(name, said.rows[at.at(place)].tolist()) for place, name in enumerate(keys.values())]
