"""Reading over containers in two stages: centroids first, then the facets of the best of them.

A memory that stands for itself has a slot with its unit vector. A container has a slot with its centroid, scaled to
unit length, and a block with the codes of its facets. A query is compared with all slots, one product each; the facets
of the `open` best containers, and of those that other evidence points to, are then scored one by one. A facet of any
other container has the mean cosine of its container's facets, which is the product with the unscaled centroid.

The process that serves and the probes of the process that dreams read with the same code, so a probe sees what a query
sees. numpy only. n: rows. S: slots. D: numbers in a vector. M: facets of a container.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.facet_codes import Bits, Centroid, FacetCodes, decode_centroid, decode_facets, score_facets

type Vector = NDArray[np.float32]
NO_SLOT = -1


class Block(NamedTuple):
    """What a container holds; replaced whole where it changes."""

    rows: NDArray[np.int32]  # [M] of its facets, ascending
    facets: FacetCodes
    bits: Bits
    centroid: Centroid

    def without(self, rows: Iterable[int]) -> "Block":
        """The same container less some facets."""
        kept = ~np.isin(self.rows, np.fromiter(rows, np.int32))
        codes = FacetCodes(self.facets.codes[kept], self.facets.scales[kept])
        return self._replace(rows=self.rows[kept], facets=codes)


class Index(NamedTuple):
    """All vectors of a space as they are read. A reader keeps the index it took; what it shows below `size` stays."""

    size: int
    units: NDArray[np.float32]  # [S, D], unit length
    lengths: NDArray[np.float32]  # [S], of the centroid before it was scaled; 1 for a memory
    holders: NDArray[np.int32]  # [S], row of the container, or of the memory; NO_SLOT once it is taken out
    is_container: NDArray[np.bool_]  # [S]
    slots: NDArray[np.int32]  # [N], slot of each row: its own, its container's for a facet, or NO_SLOT
    blocks: Mapping[int, Block]  # by row of the container

    @property
    def dimension(self) -> int:
        return self.units.shape[1]


class Scores(NamedTuple):
    """Cosines of a query and every row."""

    values: NDArray[np.float32]  # [n], 0 where nothing is known
    known: NDArray[np.bool_]  # [n], the row has a vector


def empty(capacity: int) -> Index:
    """Without a slot and without a dimension."""
    return Index(
        size=0,
        units=np.zeros((0, 0), np.float32),
        lengths=np.zeros(0, np.float32),
        holders=np.zeros(0, np.int32),
        is_container=np.zeros(0, np.bool_),
        slots=np.full(capacity, NO_SLOT, np.int32),
        blocks={},
    )


def assemble(rows: NDArray[np.integer], units: Vector, blocks: Mapping[int, Block], capacity: int) -> Index:
    """An index of memories [k], their unit vectors [k, D], and containers; capacity: rows there may be, N."""
    holders = np.concatenate([rows, np.fromiter(blocks, np.int64, len(blocks))]).astype(np.int32)
    means = [decode_centroid(block.centroid) for block in blocks.values()]
    whole = np.concatenate([units, np.stack(means)]) if means else units
    is_container = np.zeros(len(holders), np.bool_)
    is_container[len(rows) :] = True
    lengths = np.ones(len(holders), np.float32)
    if means:
        whole, lengths = scaled(whole, is_container)
    slots = np.full(capacity, NO_SLOT, np.int32)
    slots[holders] = np.arange(len(holders), dtype=np.int32)
    for slot, block in enumerate(blocks.values(), len(rows)):
        slots[block.rows] = slot
    return Index(len(holders), whole.astype(np.float32), lengths, holders, is_container, slots, dict(blocks))


def scaled(vectors: Vector, where: NDArray[np.bool_]) -> tuple[Vector, Vector]:
    """Some of the vectors brought to unit length, and the lengths they had; 1 elsewhere."""
    lengths = np.ones(len(vectors), np.float32)
    lengths[where] = np.linalg.norm(vectors[where], axis=1)
    return (vectors / np.maximum(lengths, 1e-12)[:, None]).astype(np.float32), lengths


def first_stage(index: Index, query: Vector) -> NDArray[np.float32]:
    """The products of unit query [D] and all slots, [size]; or of queries [q, D], [q, size]."""
    return query @ index.units[: index.size].T


def score(index: Index, query: Vector, n: int, *, opened: int, also: Sequence[int] = ()) -> Scores:
    """Cosines of a unit query [D] and rows 0 .. n - 1; opened: how many of the best containers are looked into.

    also: rows of facets whose containers are looked into besides, e.g. those that share words with the query.
    """
    return second_stage(index, query, first_stage(index, query), n, opened=opened, also=also)


def second_stage(
    index: Index, query: Vector, first: NDArray[np.float32], n: int, *, opened: int, also: Sequence[int] = ()
) -> Scores:
    """Like `score`, with what `first_stage` gave for the query, [size]."""
    slots = index.slots[:n]
    if len(slots) < n:
        slots = np.concatenate([slots, np.full(n - len(slots), NO_SLOT, np.int32)])
    # A slot younger than this reader's index is not there yet.
    known = (slots >= 0) & (slots < index.size)
    if index.size == 0:
        return Scores(np.zeros(n, np.float32), np.zeros(n, np.bool_))
    values = np.where(known, (first * index.lengths[: index.size])[np.where(known, slots, 0)], np.float32(0))
    for rows, exact in _opened(index, query, first, best_containers(index, first, opened, also)):
        held = (rows < n) & (index.slots[np.minimum(rows, len(index.slots) - 1)] >= 0)
        values[rows[held]] = exact[held]
    return Scores(values, known)


def best_containers(
    index: Index, first: NDArray[np.float32], opened: int, also: Sequence[int] = ()
) -> NDArray[np.int64]:
    """Slots of the containers to look into, ascending, each once."""
    places = np.flatnonzero(index.is_container[: index.size] & (index.holders[: index.size] >= 0))
    if len(places) > opened:
        places = places[np.argpartition(-first[places], opened - 1)[:opened]]
    if len(also):
        wanted = np.asarray(also, np.int64)
        named = index.slots[wanted[wanted < len(index.slots)]]
        named = named[(named >= 0) & (named < index.size)].astype(np.int64)
        places = np.concatenate([places, named[index.is_container[named]]])
    return np.unique(places).astype(np.int64)


def vectors_of(index: Index, rows: Sequence[int] | NDArray[np.integer]) -> Vector:
    """The unit vectors of rows as they are read, [k, D]: a facet's from its code; zero where there is none."""
    out = np.zeros((len(rows), index.dimension), np.float32)
    for place, row in enumerate(rows):
        slot = int(index.slots[row]) if row < len(index.slots) else NO_SLOT
        if not 0 <= slot < index.size:
            continue
        block = index.blocks.get(int(index.holders[slot])) if index.is_container[slot] else None
        if block is None or int(index.holders[slot]) == row:
            out[place] = index.units[slot]
            continue
        at = int(np.searchsorted(block.rows, row))
        if at < len(block.rows) and block.rows[at] == row:
            one = FacetCodes(block.facets.codes[at : at + 1], block.facets.scales[at : at + 1])
            decoded = decode_facets(one, decode_centroid(block.centroid), bits=block.bits)[0]
            out[place] = decoded / max(float(np.linalg.norm(decoded)), 1e-12)
    return out


def _opened(
    index: Index, query: Vector, first: NDArray[np.float32], places: NDArray[np.int64]
) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Rows and cosines of the facets of some containers, those of one number of bits together."""
    found: list[tuple[Block, float]] = []
    for slot in places.tolist():
        block = index.blocks.get(int(index.holders[slot]))
        if block is not None and len(block.rows):
            found.append((block, float(first[slot] * index.lengths[slot])))
    out: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
    widths: list[Bits] = [1, 2, 4, 8]
    for bits in widths:
        alike = [one for one in found if one[0].bits == bits]
        if not alike:
            continue
        codes = FacetCodes(
            np.concatenate([block.facets.codes for block, _ in alike]),
            np.concatenate([block.facets.scales for block, _ in alike]),
        )
        means = np.repeat([mean for _, mean in alike], [len(block.rows) for block, _ in alike]).astype(np.float32)
        rows = np.concatenate([block.rows for block, _ in alike])
        out.append((rows, score_facets(query, codes, means, bits=bits)))
    return out
