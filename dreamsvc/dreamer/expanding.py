"""What memories are found by beside their own words and vectors: those of the memories that they are linked to.

    TF' = TF + P TF        v' = v + 0.5 P v        P: weights of the living edges, both ways, each row scaled to sum 1

Of the words the best stay, by what they count for in a query; of the vectors those of the strongest neighbours, their
shares scaled to sum 0.5. Texts, vectors and document frequencies stay as they are.

n: rows. e: edges. b: rows worked on together. V: different words. k: neighbours of a row.
"""

# scipy has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from dreamsvc.dreamer.memories import NOT_WALKED, Memories
from dreamsvc.dreamer.merging import Edges, Pairs, Search, Step, joined
from dreamsvc.dreamer.reach import spread
from dreamsvc.dreamer.v1.operations_pb2 import Expansion
from dreamsvc.dreamer.vocabulary import Words
from dreamsvc.lexical.words import FUNCTION_WORDS
from dreamsvc.v1.config_pb2 import LinkingConfig

WORD_GAIN, VECTOR_GAIN = 1.0, 0.5
# Neighbours that count, as in a walk; and those whose vectors do.
NEIGHBOURS, PEERS = 256, 4
# Of a row of more, those are chosen before they are put in order.
HUB = 4_096
# Words of all neighbours of one memory that are read; of long texts the beginnings.
READ_OF_ONE = 65_536
# Words read, and rows worked on, in one step.
READ, ROWS = 12_288, 128
# Edges looked at in one step.
EDGES = 65_536


class _Linked(NamedTuple):
    """The neighbours that count of some rows."""

    rows: NDArray[np.int64]  # [b]
    owner: NDArray[np.int64]  # [l], place in `rows`, ascending
    neighbour: NDArray[np.int64]  # [l], the strongest first
    share: NDArray[np.float32]  # [l], sums to 1 for each row
    rank: NDArray[np.int64]  # [l], 0 for the strongest


def expand(
    memories: Memories,
    words: Words,
    src: NDArray[np.integer],
    dst: NDArray[np.integer],
    weight: NDArray[np.floating],
    rows: NDArray[np.integer],
    config: LinkingConfig,
) -> Search[list[Expansion]]:
    """Expansions of those of the rows that are linked; src, dst and weight: edges of this night, [e] each."""
    pairs = yield from _linked(memories, src, dst, weight)
    # A word of every text is a word of no text's neighbours.
    telling = words.idf()
    telling[[words.vocabulary[word] for word in sorted(FUNCTION_WORDS & words.vocabulary.keys())]] = 0
    wanted = rows[(pairs.indptr[rows + 1] > pairs.indptr[rows]) & memories.findable[rows]].astype(np.int64)
    yield Step("expanding", 0, len(wanted))
    sizes = yield from _sizes(pairs, words, wanted)
    made: list[Expansion] = []
    for part in _portions(wanted, sizes):
        linked = _neighbours(pairs, part)
        expansions = [Expansion(node=node, length=1.0) for node in memories.node_ids[part].tolist()]
        if config.expand_words:
            _add_words(expansions, linked, words, telling, config.expansion_terms)
            yield Step("expanding", len(made), len(wanted))
        if config.expand_vectors:
            _add_peers(expansions, linked, memories)
        made += [one for one in expansions if one.words or one.peers]
        yield Step("expanding", len(made), len(wanted))
    return made


def _linked(
    memories: Memories, src: NDArray[np.integer], dst: NDArray[np.integer], weight: NDArray[np.floating]
) -> Search[Pairs]:
    """What is linked to what, both ways, the weights of all edges between two memories added."""
    findable = memories.findable
    followed = np.array([name not in NOT_WALKED for name in memories.type_names] or [True])
    lists = [(src.astype(np.int64), dst.astype(np.int64), weight.astype(np.float32))]
    for start in range(0, len(memories.src), EDGES):
        part = slice(start, start + EDGES)
        living = memories.edges_alive[part] & followed[memories.types[part]]
        ends = memories.src[part][living].astype(np.int64), memories.dst[part][living].astype(np.int64)
        lists.append((*ends, memories.weights[part][living]))
        yield Step("edges", start, len(memories.src))
    edges: list[Edges] = []
    for source, target, strength in lists:
        kept = findable[source] & findable[target] & (strength > 0)
        edges.append(Edges(source[kept], target[kept], strength[kept]))
        yield Step("edges", len(memories.src), len(memories.src))
    return (yield from joined(edges, len(memories.node_ids)))


def _sizes(pairs: Pairs, words: Words, rows: NDArray[np.int64]) -> Search[NDArray[np.int64]]:
    """Words that are read for each row, about, [rows]."""
    lengths = np.diff(words.starts)
    sizes = np.zeros(len(rows), np.int64)
    for start in range(0, len(rows), 16 * ROWS):
        part = rows[start : start + 16 * ROWS]
        owner, place = spread(pairs.indptr, part)
        read = np.bincount(owner, lengths[pairs.neighbour[place]], minlength=len(part))
        sizes[start : start + 16 * ROWS] = np.minimum(read, READ_OF_ONE)
        yield Step("expanding", 0, len(rows))
    return sizes


def _portions(rows: NDArray[np.int64], sizes: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The rows in runs for which no more than READ words are read, or of one row."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(rows):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, min(start + ROWS, int(np.searchsorted(ends, before + READ, side="right"))))
        yield rows[start:stop]
        start = stop


def _neighbours(pairs: Pairs, rows: NDArray[np.int64]) -> _Linked:
    """The NEIGHBOURS strongest of each."""
    owner, place = spread(pairs.indptr, rows)
    for hub in np.flatnonzero(pairs.indptr[rows + 1] - pairs.indptr[rows] > HUB).tolist():
        first, last = pairs.indptr[rows[hub]], pairs.indptr[rows[hub] + 1]
        best = first + np.argpartition(-pairs.weight[first:last], NEIGHBOURS)[:NEIGHBOURS]
        kept = (owner != hub) | np.isin(place, best)
        owner, place = owner[kept], place[kept]
    order = np.lexsort((pairs.neighbour[place], -pairs.weight[place], owner))
    owner, place = owner[order], place[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    kept = rank < NEIGHBOURS
    owner, place, rank = owner[kept], place[kept], rank[kept]
    total = np.bincount(owner, pairs.weight[place], minlength=len(rows))
    share = (pairs.weight[place] / total[owner]).astype(np.float32)
    return _Linked(rows, owner, pairs.neighbour[place], share, rank)


def _add_words(
    expansions: list[Expansion], linked: _Linked, words: Words, telling: NDArray[np.float32], most: int
) -> None:
    """The words of the neighbours that count for most, and how often the neighbours say them."""
    lengths = np.diff(words.starts)[linked.neighbour]
    # What one memory may read is shared out among its neighbours.
    counts = np.bincount(linked.owner, minlength=len(linked.rows))
    read = np.minimum(lengths, READ_OF_ONE // counts[linked.owner])
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(read)])
    places = np.arange(ends[-1]) + np.repeat(words.starts[linked.neighbour] - ends[:-1], read)
    said = csr_array((np.ones(len(places), np.float32), words.flat[places], ends), shape=(len(read), len(words.words)))
    shares = csr_array(
        (linked.share, np.arange(len(read)), np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])),
        shape=(len(linked.rows), len(read)),
    )
    gained = csr_array(shares @ said)
    worth = gained.data * telling[gained.indices]
    owner = np.repeat(np.arange(len(linked.rows)), np.diff(gained.indptr))
    order = np.lexsort((gained.indices, -worth, owner))
    order = order[worth[order] > 0]
    rank = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
    order = order[rank < most]
    ends = np.searchsorted(owner[order], np.arange(len(linked.rows) + 1)).tolist()
    spelled = words.spelled(gained.indices[order])
    gains = (WORD_GAIN * gained.data[order]).tolist()
    for place, expansion in enumerate(expansions):
        part = slice(ends[place], ends[place + 1])
        expansion.words.extend(spelled[part])
        expansion.gains.extend(gains[part])


def _add_peers(expansions: list[Expansion], linked: _Linked, memories: Memories) -> None:
    """The strongest neighbours that have a vector, what each moves the memory's own by, and where that leads to."""
    embedded = memories.embedded[linked.neighbour] & memories.embedded[linked.rows][linked.owner]
    owner, peer, share = linked.owner[embedded], linked.neighbour[embedded], linked.share[embedded]
    kept = np.arange(len(owner)) - np.searchsorted(owner, owner) < PEERS
    owner, peer, share = owner[kept], peer[kept], share[kept]
    total = np.bincount(owner, share, minlength=len(linked.rows))
    share = (VECTOR_GAIN * share / np.maximum(total, 1e-12)[owner]).astype(np.float32)
    starts = np.searchsorted(owner, np.arange(len(linked.rows) + 1))
    shares = csr_array((share, np.arange(len(peer)), starts), shape=(len(linked.rows), len(peer)))
    moved = memories.vectors[linked.rows] + shares @ memories.vectors[peer]
    lengths = np.sqrt(np.einsum("bd,bd->b", moved, moved)).tolist()
    for place, node, part in zip(owner.tolist(), memories.node_ids[peer].tolist(), share.tolist(), strict=True):
        expansions[place].peers.append(node)
        expansions[place].shares.append(part)
        expansions[place].length = lengths[place]
