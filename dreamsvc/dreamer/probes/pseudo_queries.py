"""Pseudo-queries: whether links and what the index learns of them help to find memories, without one label.

Two families of queries are made of what the memories themselves say, and asked with the index and the edges as they are
and as the night would leave them. Recall@5 of what each is to find:

    single   a sentence is cut out of a memory and is the query; that memory is to be found by what else it says
    pair     6 words of one end of a link and 4 of the other, none of them in the title of either; both are to be found

    score = minmax(dense) + lexical_weight minmax(BM25) + walk_weight PPR / max(PPR)

as in recall, less what memories have by their aliases, which no night changes.

A night is not praised for what it was told. While a memory is asked about by one of its sentences it does not say it,
and none of its neighbours is found by words of it. Asked about as pairs are only links that users or imports made where
there are enough of them: they are there before and after. Of its own links a night would always find both ends.

There is no embedder here, so a query's vector is made of its words: of each the mean of the memories that say it, those
left out that are to be found, by its idf. The vector of a memory still has in it what the sentence says, before and
after, but the vector that it is compared with has nothing of that memory.

What this cannot see: whether links are true. Where text speaks for them, it tells whether finding gets better by them.

n: rows. e: edges, those of the night included. k: links of the night. q: queries. D: numbers in a vector.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc import scoring, two_stage
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.probes.asked_words import (
    READ_BYTES,
    Added,
    AskedWords,
    Without,
    bm25,
    head,
    read_added,
    read_words,
)
from dreamsvc.dreamer.probes.pair_probe import adjacency_of
from dreamsvc.dreamer.probes.reading import products, together
from dreamsvc.dreamer.v1.operations_pb2 import Expansion
from dreamsvc.lexical.words import FUNCTION_WORDS, tokenize
from dreamsvc.scoring import Ways
from dreamsvc.two_stage import Index
from dreamsvc.v1.config_pb2 import RecallConfig
from dreamsvc.v1.dream_pb2 import PseudoQueries
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_FACET

type Rows = NDArray[np.int32]
type Values = NDArray[np.float32]

FIRST = 5  # rows in which is looked for
FEWEST = 20  # queries of a family that say something
# Of recall@5, as shares: how much both families together must rise, how much one alone, and how far one may fall.
RISES, RISES_ALONE, FALLS = 0.005, 0.02, 0.02
# Where so much is found already there is no room to rise, and not to fall is enough.
FULL = 0.9
# With fewer queries a rise of that size is chance, and not to fall is enough too.
ENOUGH = 100
# Words of one end of a link and of the other; fewer are no query.
OF_ONE, OF_OTHER, FEWEST_WORDS = 6, 4, 3
# Memories looked at for each query of a sentence that is wanted: not every one has two.
TRIED_EACH = 20
# Memories of which the vector of a word is made.
SAYING = 64

_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")


class _Query(NamedTuple):
    """What is asked, what it is to find, and what is not known while it is asked."""

    words: Counter[str]
    golds: Rows
    without: Without | None
    silent: Rows  # ascending, rows of which no gains of these words count


class _Pair(NamedTuple):
    """The ends of a link, and words of each."""

    ends: tuple[int, int]
    words: tuple[list[str], list[str]]


class _State(NamedTuple):
    """How the memory is read at one time."""

    added: Added
    ways: Ways


class _Memory(NamedTuple):
    """What is read at both times."""

    memories: Memories
    findable: NDArray[np.bool_]  # [n]
    facets: NDArray[np.bool_]  # [n]
    source: Index
    words: AskedWords
    recall: RecallConfig


def probe(
    memories: Memories,
    index: Index,
    src: Rows,
    dst: Rows,
    weight: Values,
    made: Sequence[Expansion],
    recall: RecallConfig,
    *,
    queries: int,
    seed: int,
) -> Search[PseudoQueries]:
    """Recall@5 before and after a night that makes some links and expansions; at most `queries` of each family.

    src, dst, weight: [k]. made: takes the place of what the index knew of those memories. Not measured where neither
    family has FEWEST queries; a family that has fewer is left out, and its count is 0.
    """
    rng = np.random.default_rng(seed)
    singles = yield from _sentences(memories, src, dst, queries, rng)
    pairs = yield from _pairs(memories, queries, rng)
    singles = singles if len(singles) >= FEWEST else []
    pairs = pairs if len(pairs) >= FEWEST else []
    if not singles and not pairs:
        return PseudoQueries()
    wanted = {word for _, cut in singles for word in cut}
    wanted.update(word for pair in pairs for words in pair.words for word in words)
    words = yield from read_words(memories, wanted)
    added = yield from read_added(memories, made, wanted)
    ways = yield from _ways(memories, src, dst, weight)
    states = tuple(_State(*one) for one in zip(added, ways, strict=True))
    asked = [_of_sentence(row, cut, ways[1]) for row, cut in singles]
    asked += [_of_pair(pair, words, rng) for pair in pairs]
    read = _Memory(memories, memories.findable, memories.roles == MEMORY_ROLE_FACET, index, words, recall)
    found = yield from _asked(read, asked, states)
    out = PseudoQueries(measured=True, single=len(singles), pairs=len(pairs))
    if singles:
        out.single_before, out.single_after = found[: len(singles)].mean(axis=0).tolist()
    if pairs:
        out.pairs_before, out.pairs_after = found[len(singles) :].mean(axis=0).tolist()
    return out


def passes(measured: PseudoQueries) -> bool:
    """Whether a night may stay: what is found rises, and in neither family it falls far.

    By links that mean nothing as many queries are won as lost, give or take a point or two, so one family alone has to
    rise as far as it may fall. Texts speak for every link, so where nothing can be told by queries they have the word.
    """
    single = measured.single_after - measured.single_before
    pairs = measured.pairs_after - measured.pairs_before
    count = max(1, measured.single + measured.pairs)
    rise = (measured.single * single + measured.pairs * pairs) / count
    before = (measured.single * measured.single_before + measured.pairs * measured.pairs_before) / count
    least = RISES if measured.single and measured.pairs else RISES_ALONE
    return min(single, pairs) >= -FALLS and (rise > least or before >= FULL or count < ENOUGH)


# ── what is asked ───────────────────────────────────────────────────────────────


def _sentences(
    memories: Memories, src: Rows, dst: Rows, count: int, rng: np.random.Generator
) -> Search[list[tuple[int, Counter[str]]]]:
    """Memories at the ends of links, and the words of a sentence of each; of all memories where there are no links."""
    findable = memories.findable
    linked = np.zeros(len(findable), np.bool_)
    linked[src] = linked[dst] = True
    possible = np.flatnonzero(findable & linked if len(src) else findable)
    out: list[tuple[int, Counter[str]]] = []
    read = 0
    for place, row in enumerate(rng.permutation(possible)[: TRIED_EACH * count].tolist()):
        if len(out) == count:
            break
        text = memories.texts[row][:READ_BYTES]
        if (cut := _cut(text, rng)) is not None:
            out.append((row, cut))
        read += len(text) + 64
        if read >= READ_BYTES:
            read = 0
            yield Step("queries", place, len(possible))
    return out


def _cut(text: str, rng: np.random.Generator) -> Counter[str] | None:
    """The words of one of its sentences, if it has another one beside it and this one says something."""
    sentences = [tokenize(part) for part in _END.split(text) if part.strip()]
    telling = [place for place, words in enumerate(sentences) if len(set(words) - FUNCTION_WORDS) >= FEWEST_WORDS]
    if len(sentences) < 2 or not telling:
        return None
    return Counter(sentences[telling[int(rng.integers(len(telling)))]])


def _pairs(memories: Memories, count: int, rng: np.random.Generator) -> Search[list[_Pair]]:
    """Links that no dream made and of which both ends say enough beside their titles; no pair twice."""
    findable, living = memories.findable, memories.trusted & memories.edges_alive
    places = np.flatnonzero(living)
    out: list[_Pair] = []
    seen: set[tuple[int, int]] = set()
    # Not a permutation of all, which takes 30 ms for 800,000 edges.
    drawn = rng.choice(len(places), min(len(places), TRIED_EACH * count), replace=False)
    for tried, place in enumerate(places[drawn].tolist()):
        if len(out) == count:
            break
        left, right = sorted((int(memories.src[place]), int(memories.dst[place])))
        if left == right or (left, right) in seen or not (findable[left] and findable[right]):
            continue
        seen.add((left, right))
        named = {*tokenize(memories.titles[left]), *tokenize(memories.titles[right])} | FUNCTION_WORDS
        one, other = (sorted(set(tokenize(head(memories, row))) - named) for row in (left, right))
        if min(len(one), len(other)) >= FEWEST_WORDS:
            out.append(_Pair((left, right), (one, other)))
        yield Step("queries", tried, len(places))
    return out


def _of_sentence(row: int, cut: Counter[str], ways: Ways) -> _Query:
    start, stop = ways.adjacency.indptr[row : row + 2].tolist()
    neighbours = np.unique(ways.adjacency.neighbour[start:stop])
    return _Query(cut, np.array([row], np.int32), Without(row, cut, sum(cut.values())), neighbours)


def _of_pair(pair: _Pair, words: AskedWords, rng: np.random.Generator) -> _Query:
    """The words that few say are drawn most, by their idf."""
    sizes = (OF_ONE, OF_OTHER) if rng.integers(2) else (OF_OTHER, OF_ONE)
    drawn: list[str] = []
    for told, size in zip(pair.words, sizes, strict=True):
        chances = np.array([words.idf(word) for word in told])
        places = rng.choice(len(told), min(size, len(told)), replace=False, p=chances / chances.sum())
        drawn += [told[place] for place in places.tolist()]
    return _Query(Counter(drawn), np.array(pair.ends, np.int32), None, np.zeros(0, np.int32))


def _ways(memories: Memories, src: Rows, dst: Rows, weight: Values) -> Search[tuple[Ways, Ways]]:
    """The edges before and after, one adjacency for both."""
    n, k = len(memories.node_ids), len(src)
    starts, ends = np.concatenate([memories.src, src]), np.concatenate([memories.dst, dst])
    adjacency = yield from adjacency_of(starts, ends, n)
    weights = np.concatenate([memories.weights, weight]).astype(np.float32)
    before, after = (np.concatenate([memories.edges_alive, np.full(k, new)]) for new in (False, True))
    return Ways(adjacency, weights, before), Ways(adjacency, weights, after)


# ── asking ──────────────────────────────────────────────────────────────────────


def _asked(read: _Memory, asked: Sequence[_Query], states: Sequence[_State]) -> Search[NDArray[np.float64]]:
    """The share of what each query is to find among its first rows in each state, [q, states]."""
    out = np.zeros((len(asked), len(states)))
    step = together(read.source)
    for start in range(0, len(asked), step):
        part = asked[start : start + step]
        cues = np.zeros((len(part), read.source.dimension), np.float32)
        for at, query in enumerate(part):
            cues[at] = _cue(read, query)
            yield Step("pseudo-queries", start, len(asked))
        first = yield from products(read.source, cues)
        for at, query in enumerate(part):
            for time, state in enumerate(states):
                rows = yield from _first_rows(read, query, state, cues[at], first[at])
                out[start + at, time] = np.isin(query.golds, rows).mean()
                yield Step("pseudo-queries", start + at, len(asked))
    return out


def _cue(read: _Memory, query: _Query) -> Values:
    """A vector for the words of a query, [D]; zero where nobody else says any of them."""
    out = np.zeros(read.source.dimension, np.float32)
    vectors, embedded = read.memories.vectors, read.memories.embedded
    for word, times in query.words.items():
        if word in FUNCTION_WORDS or word not in read.words.said:
            continue
        rows = read.words.said[word].rows
        rows = rows[:: max(1, len(rows) // SAYING)]
        rows = rows[embedded[rows] & ~np.isin(rows, query.golds)]
        if len(rows):
            out += times * read.words.idf(word) * vectors[rows].mean(axis=0)
    length = float(np.linalg.norm(out))
    return out / length if length else out


def _first_rows(read: _Memory, query: _Query, state: _State, cue: Values, first: Values) -> Search[NDArray[np.int64]]:
    """The first rows of dense score, words and walk together, as `dreamsvc.memory.recall.find` has them."""
    recall, findable = read.recall, read.findable
    gains, weight = state.added.gains, recall.expansion_weight
    said = yield from bm25(query.words, read.words, gains, weight, without=query.without, silent=query.silent)
    words = np.float32(recall.lexical_weight) * scoring.minmax(said, findable)
    words[~findable] = 0
    yield Step("pseudo-queries", 0, 1)
    base = words + (yield from _dense(read, query, state, cue, first, words))
    if recall.walk_weight <= 0:
        return _best(base)
    walked = scoring.walked(base, state.ways, weight=recall.walk_weight, restart=recall.walk_restart)
    total = base + walked
    total[~findable] = 0
    return _best(total)


def _best(total: Values) -> NDArray[np.int64]:
    rows = scoring.best(total, FIRST)
    return rows[total[rows] > 0]


def _dense(read: _Memory, query: _Query, state: _State, cue: Values, first: Values, words: Values) -> Search[Values]:
    """Cosines scaled to 0..1, [n]."""
    n = len(read.findable)
    if not cue.any():
        return np.zeros(n, np.float32)
    facets = np.flatnonzero((words > 0) & read.facets)
    also = facets[scoring.best(words[facets], scoring.FACETS_BY_WORDS)] if facets.size else facets
    cosines = two_stage.second_stage(read.source, cue, first, n, opened=read.recall.open_containers, also=also.tolist())
    values = cosines.values
    if state.added.peers is not None and read.recall.expansion_weight > 0:
        yield Step("pseudo-queries", 0, 1)
        values = scoring.expanded(values, state.added.peers)
        yield Step("pseudo-queries", 0, 1)
    embedded = cosines.known & read.findable
    return scoring.dense(values, embedded, words, read.recall.lexical_weight)
