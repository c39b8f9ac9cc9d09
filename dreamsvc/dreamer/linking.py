"""Edges between memories that evidence speaks for (issue 4, point 5): what their texts say, and when they were told.

    evidence = 3 x mention + rare        value = evidence x (1 - cosine)        weight = min(1, evidence / 3)

A mention is 1 / (memories of a name that the text of the other says), both ways added; rare sums over the names that
only few memories share. Edges are worth the more the less the vectors know already. Of what is found the best stay, so
many for each memory that is new; neighbours in time come on top.

Only pairs of which one memory is new, or changed, are looked at, and the time goes with the texts, not with the pairs:
a name of which many memories could speak brings none together.

n: rows. e: edges. p: pairs. k: links.
"""

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.following import next_to_each_other
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.mentions import Mentions, Names, as_written, find_mentions, find_sayings, read_names, spelled
from dreamsvc.dreamer.merging import Edges, Pairs, Search, Step, joined
from dreamsvc.dreamer.rare_names import RareNames, find_rare_names, pairs_of
from dreamsvc.dreamer.reach import found_in
from dreamsvc.dreamer.vocabulary import Words
from dreamsvc.v1.config_pb2 import LinkingConfig

MENTIONS, SHARES_ENTITY, FOLLOWS = "MENTIONS", "SHARES_ENTITY", "FOLLOWS"
TYPES = (MENTIONS, SHARES_ENTITY, FOLLOWS)
# What a mention counts beside a name that only two memories have; evidence of so much makes an edge of weight 1.
MENTION = 3.0
# Links of one memory, at most: recall follows no more of them.
MOST_AT_ONE = 256
# Names that a link's evidence tells of, and what it says of neighbours in time, by the weight of the link.
NAMES_TOLD = 3
NEXT = {1.0: "told next to each other", 0.5: "told shortly after each other"}
# Values are put in order in so many bands.
BANDS = 64
# Pairs compared and links written in one step.
COMPARED, WRITTEN = 2_048, 128

type Keys = NDArray[np.int64]


class Link(NamedTuple):
    """An edge to be made."""

    source: int  # row
    target: int
    type: str  # of TYPES
    weight: float  # 0 .. 1
    value: float  # what it is worth: evidence that the vectors do not have
    evidence: str  # in words: the source says its title "Oslo"


class Links(NamedTuple):
    """What was found, the most valuable first."""

    links: list[Link]
    mentions: int
    shared: int
    adjacent: int
    read: int  # memories that are new or changed


class _Found(NamedTuple):
    """Pairs of rows, the smaller first, and what speaks for each."""

    low: NDArray[np.int64]  # [p]
    high: NDArray[np.int64]  # [p]
    evidence: NDArray[np.float32]  # [p]
    value: NDArray[np.float32]  # [p]

    def at(self, places: NDArray[np.int64] | NDArray[np.bool_]) -> "_Found":
        """Those at these places."""
        return _Found(self.low[places], self.high[places], self.evidence[places], self.value[places])


class _Written(NamedTuple):
    """Links and the value of each, [k]."""

    links: list[Link]
    values: NDArray[np.float32]


def find_links(memories: Memories, words: Words, config: LinkingConfig) -> Search[Links]:
    """Links of memories that are new or changed to any others that recall can find."""
    rows = np.flatnonzero(memories.findable)
    changed = memories.changed & memories.findable
    read = int(np.count_nonzero(changed))
    told = yield from _told(memories, words, rows, changed, config)
    shared = sum(link.type == SHARES_ENTITY for link in told.links)
    near = _Written([], np.zeros(0, np.float32))
    if config.adjacency:
        near = yield from _adjacent(memories, rows, changed, config.session_gap_minutes)
    order = yield from _descending(np.concatenate([told.values, near.values]))
    every, links = told.links + near.links, list[Link]()
    for start in range(0, len(order), 8 * COMPARED):
        links += [every[place] for place in order[start : start + 8 * COMPARED].tolist()]
        yield Step("links", len(links), len(every))
    return Links(links, len(told.links) - shared, shared, len(near.links), read)


# ── what texts tell ─────────────────────────────────────────────────────────────


def _told(
    memories: Memories, words: Words, rows: NDArray[np.int64], changed: NDArray[np.bool_], config: LinkingConfig
) -> Search[_Written]:
    """The best links for which names speak."""
    budget = round(config.links_per_memory * int(np.count_nonzero(changed)))
    titled = rows if config.mentions and budget else rows[:0]
    most = config.max_document_frequency if config.shared_entities and budget else 0
    names = yield from read_names(memories, words, titled)
    sayings = yield from as_written(words, names, (yield from find_sayings(words, names)))
    mentions = yield from find_mentions(words, names, sayings, changed)
    rare = yield from find_rare_names(memories, words, rows, most)
    shared = yield from pairs_of(rare, changed)
    found = yield from _best(memories, mentions, shared, budget)
    links: list[Link] = []
    for start in range(0, len(found.low), WRITTEN):
        part = found.at(np.arange(start, min(start + WRITTEN, len(found.low))))
        links += _written(memories, words, _Evidence(names, mentions, rare), part)
        yield Step("links", len(links), len(found.low))
    return _Written(links, found.value)


class _Known(NamedTuple):
    """What pairs are measured against. Keys are n x the smaller row + the greater, ascending."""

    mentioned: Keys
    linked: tuple[Keys, Keys]  # joined by a mention, by a name that both have
    refused: Keys  # finds that somebody rejected, and pairs beyond the most at one memory


def _best(memories: Memories, mentions: Mentions, shared: list[Edges], budget: int) -> Search[_Found]:
    """The pairs of the highest value, the highest first, that are not joined yet."""
    n = len(memories.node_ids)
    says = Edges(mentions.says.astype(np.int64), mentions.said.astype(np.int64), mentions.weight * np.float32(MENTION))
    pairs = yield from joined([says, *shared], n)
    titles = yield from joined([says], n)
    known = _Known(
        mentioned=(yield from _keys(titles, n)),
        linked=((yield from _living(memories, MENTIONS)), (yield from _living(memories, SHARES_ENTITY))),
        refused=np.union1d(_rejected(memories), (yield from _beyond(memories, pairs))),
    )
    none, nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
    pool = [_Found(none, none, nothing, nothing)]
    held = 0
    for start in range(0, len(pairs.neighbour), 2 * COMPARED):
        stop = min(start + 2 * COMPARED, len(pairs.neighbour))
        low, high = _ends(pairs, start, stop)
        once = low < high
        pool.append(_judged(memories, known, low[once], high[once], pairs.weight[start:stop][once]))
        held += len(pool[-1].low)
        yield Step("comparing", stop, len(pairs.neighbour))
        if held > 2 * budget + 8 * COMPARED:
            pool = [_at_most(pool, budget)]
            held = budget
            yield Step("comparing", stop, len(pairs.neighbour))
    best = _at_most(pool, budget)
    return best.at((yield from _descending(best.value)))


def _judged(
    memories: Memories, known: _Known, low: NDArray[np.int64], high: NDArray[np.int64], evidence: NDArray[np.float32]
) -> _Found:
    """Those of the pairs that may be linked, and what each is worth."""
    keys = low * len(memories.node_ids) + high
    said = found_in(known.mentioned, keys)
    linked = np.where(said, found_in(known.linked[0], keys), found_in(known.linked[1], keys))
    fresh = np.flatnonzero(~linked & ~found_in(known.refused, keys))
    value = evidence[fresh] * _distances(memories, low[fresh], high[fresh])
    return _Found(low[fresh], high[fresh], evidence[fresh], value)


def _at_most(pool: list[_Found], most: int) -> _Found:
    """The best of all."""
    found = _Found(
        np.concatenate([part.low for part in pool]),
        np.concatenate([part.high for part in pool]),
        np.concatenate([part.evidence for part in pool]),
        np.concatenate([part.value for part in pool]),
    )
    return found if len(found.low) <= most else found.at(np.argpartition(-found.value, most)[:most])


def _rejected(memories: Memories) -> Keys:
    """Keys of the finds that somebody rejected."""
    if not len(memories.rejected):
        return np.zeros(0, np.int64)
    return memories.rejected.min(axis=1) * np.int64(len(memories.node_ids)) + memories.rejected.max(axis=1)


def _beyond(memories: Memories, pairs: Pairs) -> Search[Keys]:
    """Keys of the pairs at rows of more than MOST_AT_ONE that are not among the best of the row."""
    n = len(memories.node_ids)
    beyond: list[Keys] = [np.zeros(0, np.int64)]
    for row in np.flatnonzero(np.diff(pairs.indptr) > MOST_AT_ONE).tolist():
        first, last = int(pairs.indptr[row]), int(pairs.indptr[row + 1])
        values: list[NDArray[np.float32]] = []
        for start in range(first, last, COMPARED):
            ends = _ends(pairs, start, min(start + COMPARED, last))
            values.append(pairs.weight[start : min(start + COMPARED, last)] * _distances(memories, *ends))
            yield Step("comparing", 0, len(pairs.neighbour))
        order = yield from _descending(np.concatenate(values))
        others = pairs.neighbour[first + order[MOST_AT_ONE:]]
        beyond.append(np.minimum(others, row) * n + np.maximum(others, row))
    return np.concatenate(beyond)


def _living(memories: Memories, kind: str) -> Search[Keys]:
    """Keys of the pairs that living edges of a type join."""
    n = len(memories.node_ids)
    types = memories.types_named((kind,))
    chosen = np.flatnonzero(memories.edges_alive & np.isin(memories.types, types))
    yield Step("edges", 0, 1)
    src, dst = memories.src[chosen].astype(np.int64), memories.dst[chosen].astype(np.int64)
    pairs = yield from joined([Edges(src, dst, memories.weights[chosen])], n)
    return (yield from _keys(pairs, n))


def _keys(pairs: Pairs, n: int) -> Search[Keys]:
    """n x row + neighbour of each, ascending; every pair from both of its ends."""
    keys = np.empty(len(pairs.neighbour), np.int64)
    for start in range(0, len(keys), 16 * COMPARED):
        stop = min(start + 16 * COMPARED, len(keys))
        here, there = _ends(pairs, start, stop)
        keys[start:stop] = here * n + there
        yield Step("edges", stop, len(keys))
    return keys


def _ends(pairs: Pairs, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and neighbours at some places."""
    return np.searchsorted(pairs.indptr, np.arange(start, stop), side="right") - 1, pairs.neighbour[start:stop]


def _distances(memories: Memories, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float32]:
    """1 - cosine of each pair, [p], 0 .. 2; 1 where one has no vector."""
    cosines = np.einsum("pd,pd->p", memories.vectors[left], memories.vectors[right])
    return np.maximum(1 - cosines, 0).astype(np.float32)


# ── in words ────────────────────────────────────────────────────────────────────


class _Evidence(NamedTuple):
    """What the texts told."""

    names: Names
    mentions: Mentions
    rare: RareNames


def _written(memories: Memories, words: Words, evidence: _Evidence, found: _Found) -> list[Link]:
    """Pairs as edges: of two memories that say each other's names the one begins that says it more clearly."""
    links: list[Link] = []
    sayings = _sayings(memories, evidence.mentions, found)
    columns = zip(*(column.tolist() for column in (found.low, found.high, found.evidence, found.value)), strict=True)
    for (low, high, strength, value), (from_low, name) in zip(columns, sayings, strict=True):
        source, target = (low, high) if from_low else (high, low)
        both = evidence.rare.shared(words, low, high)
        told = ""
        if name >= 0:
            form, is_title = spelled(memories, words, evidence.names, target, name)
            told = f'says its {"title" if is_title else "name"} "{form}"'
            both = [other for other in both if other.casefold() not in form.casefold()]
        listed = ", ".join(f'"{name}"' for name in both[:NAMES_TOLD])
        text = "; ".join(part for part in (told, f"both name {listed}" if listed else "") if part)
        links.append(
            Link(source, target, MENTIONS if told else SHARES_ENTITY, min(1.0, strength / MENTION), value, text)
        )
    return links


def _sayings(memories: Memories, mentions: Mentions, found: _Found) -> list[tuple[bool, int]]:
    """Of each pair whether the first row is the one that says the other's name, and that name, -1 where none does."""
    n = len(memories.node_ids)
    keys = mentions.says * np.int64(n) + mentions.said
    weights: list[NDArray[np.float32]] = []
    names: list[NDArray[np.int32]] = []
    for says, said in ((found.low, found.high), (found.high, found.low)):
        wanted = says * n + said
        here = found_in(keys, wanted)
        place = np.searchsorted(keys, wanted[here])
        weight, name = np.zeros(len(wanted), np.float32), np.full(len(wanted), -1, np.int32)
        weight[here], name[here] = mentions.weight[place], mentions.name[place]
        weights.append(weight)
        names.append(name)
    # Of two that do so alike the later one.
    from_low = weights[0] > weights[1]
    return list(zip(from_low.tolist(), np.where(from_low, *names).tolist(), strict=True))


# ── in time ─────────────────────────────────────────────────────────────────────


def _adjacent(
    memories: Memories, rows: NDArray[np.int64], changed: NDArray[np.bool_], gap_minutes: float
) -> Search[_Written]:
    """Links to the next two memories in time."""
    n = len(memories.node_ids)
    near = yield from next_to_each_other(memories, rows, changed, gap_minutes)
    linked = yield from _living(memories, FOLLOWS)
    links: list[Link] = []
    values: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
    for start in range(0, len(near.later), COMPARED):
        part = slice(start, start + COMPARED)
        fresh = ~found_in(linked, near.later[part] * n + near.earlier[part])
        later, earlier, weight = near.later[part][fresh], near.earlier[part][fresh], near.weight[part][fresh]
        value = weight * _distances(memories, later, earlier)
        columns = zip(later.tolist(), earlier.tolist(), weight.tolist(), value.tolist(), strict=True)
        links += [Link(after, before, FOLLOWS, share, worth, NEXT[share]) for after, before, share, worth in columns]
        values.append(value)
        yield Step("neighbours in time", start, len(near.later))
    return _Written(links, np.concatenate(values))


def _descending(values: NDArray[np.float32]) -> Search[NDArray[np.int64]]:
    """Places of the values, the highest first, equal ones in their order; band by band, since there may be many."""
    if len(values) == 0:
        return np.zeros(0, np.int64)
    band = ((1 - values / max(float(values.max()), 1e-12)) * (BANDS - 1)).astype(np.int16)
    # numpy sorts int16 in linear time.
    order = np.argsort(band, kind="stable")
    ends = np.searchsorted(band[order], np.arange(BANDS + 1)).tolist()
    for first, last in itertools.pairwise(ends):
        part = order[first:last]
        order[first:last] = part[np.argsort(-values[part], kind="stable")]
        yield Step("links", last, len(values))
    return order
