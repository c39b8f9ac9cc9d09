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
    """All vectors of a space as they are read. A reader keeps the index it took; what it shows below `size` stays.

    Arrays may be longer than what is in them: S and N are capacities.
    """

    size: int  # slots in use, those that were taken out included
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
    is_container = np.zeros(len(holders), np.bool_)
    is_container[len(rows) :] = True
    lengths = np.ones(len(holders), np.float32)
    whole = units
    if blocks:
        centroids, lengths[len(rows) :] = scaled_centroids(blocks.values())
        whole = np.concatenate([units, centroids]) if len(rows) else centroids
    slots = np.full(capacity, NO_SLOT, np.int32)
    slots[holders] = np.arange(len(holders), dtype=np.int32)
    for slot, block in enumerate(blocks.values(), len(rows)):
        slots[block.rows] = slot
    return Index(len(holders), whole.astype(np.float32), lengths, holders, is_container, slots, dict(blocks))


def scaled_centroids(blocks: Iterable[Block]) -> tuple[Vector, Vector]:
    """What the slots of containers hold: centroids at unit length, [C, D], and the lengths they had, [C]; C >= 1."""
    means = np.stack([decode_centroid(block.centroid) for block in blocks])
    return scaled(means, np.ones(len(means), np.bool_))


def scaled(vectors: Vector, where: NDArray[np.bool_]) -> tuple[Vector, Vector]:
    """Some of the vectors brought to unit length, and the lengths they had; 1 elsewhere."""
    lengths = np.ones(len(vectors), np.float32)
    lengths[where] = np.linalg.norm(vectors[where], axis=1)
    return (vectors / np.maximum(lengths, 1e-12)[:, None]).astype(np.float32), lengths


def first_stage(index: Index, query: Vector) -> NDArray[np.float32]:
    """The products of unit query [D] and all slots, [size]; or of queries [q, D], [q, size]."""
    if index.size == 0:  # and maybe without a dimension
        return np.zeros((*query.shape[:-1], 0), np.float32)
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
    values = np.zeros(n, np.float32)
    known = np.zeros(n, np.bool_)
    if index.size == 0:
        return Scores(values, known)
    slots = index.slots[:n]
    # A slot younger than this reader's index is not there yet.
    known[: len(slots)] = (slots >= 0) & (slots < index.size)
    means = first * index.lengths[: index.size]
    np.multiply(means.take(slots, mode="clip"), known[: len(slots)], out=values[: len(slots)])
    for rows, exact in _opened(index, query, first, best_containers(index, first, opened, also)):
        rows, exact = (rows, exact) if len(rows) == 0 or rows.max() < n else (rows[rows < n], exact[rows < n])
        values[rows] = np.where(known[rows], exact, np.float32(0))
    return Scores(values, known)


def best_containers(
    index: Index, first: NDArray[np.float32], opened: int, also: Sequence[int] = ()
) -> NDArray[np.int64]:
    """Slots of the containers to look into, ascending, each once."""
    places = np.flatnonzero(index.is_container[: index.size] & (index.holders[: index.size] >= 0))
    if len(places) > opened:
        places = places[np.argpartition(-first[places], opened - 1)[:opened]]
    if len(also):
        named = _slots_of(index, np.asarray(also, np.int64))
        named = named[named >= 0]
        places = np.concatenate([places, named[index.is_container[named]]])
    return np.unique(places).astype(np.int64)


def vectors_of(index: Index, rows: Sequence[int] | NDArray[np.integer]) -> Vector:
    """The unit vectors of rows as they are read, [k, D]: a facet's from its code; zero where there is none."""
    wanted = np.asarray(rows, np.int64)
    out = np.zeros((len(wanted), index.dimension), np.float32)
    slots = _slots_of(index, wanted)
    of_facet = np.zeros(len(wanted), np.bool_)
    held = slots >= 0
    of_facet[held] = index.is_container[slots[held]] & (index.holders[slots[held]] != wanted[held])
    own = held & ~of_facet
    out[own] = index.units[slots[own]]
    for slot in np.unique(slots[of_facet]).tolist():
        block = index.blocks.get(int(index.holders[slot]))
        if block is not None:
            _read_facets(block, wanted, np.flatnonzero(of_facet & (slots == slot)), out)
    return out


def _slots_of(index: Index, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Slots of rows, [k]; NO_SLOT for a row that has none or that this reader's index does not know yet."""
    slots = np.full(len(rows), NO_SLOT, np.int64)
    inside = rows < len(index.slots)
    slots[inside] = index.slots[rows[inside]]
    slots[slots >= index.size] = NO_SLOT
    return slots


def _read_facets(block: Block, rows: NDArray[np.int64], places: NDArray[np.int64], out: Vector) -> None:
    """Puts the decoded unit vectors of the facets rows[places] into out[places]; a row that is none stays as it is."""
    at = np.searchsorted(block.rows, rows[places])
    held = at < len(block.rows)
    held[held] = block.rows[at[held]] == rows[places[held]]
    codes = FacetCodes(block.facets.codes[at[held]], block.facets.scales[at[held]])
    decoded = decode_facets(codes, decode_centroid(block.centroid), bits=block.bits)
    out[places[held]] = decoded / np.maximum(np.linalg.norm(decoded, axis=1, keepdims=True), 1e-12)


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
