"""The vectors of a space while it changes.

One thread, the store's writer, changes them and gives readers an index with `publish`; a reader keeps the index it
took, and nobody locks. What an index shows never changes: vectors are written behind its end, slots that move or go
are written into copies, made once between two publications. A slot is not used again; once a quarter of them is dead,
all arrays are built anew beside the old ones.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamsvc import two_stage
from dreamsvc.two_stage import NO_SLOT, Block, Index, Vector

SMALLEST = 256
# Below so many slots the dead ones are not worth the work; from then on they may be this share.
COMPACT_LEAST = 4096
MOST_DEAD = 0.25
# Rows copied at a time, a few milliseconds: one native call must not hold up the threads that answer queries.
COPIED = 4096


class DenseIndex:
    """Owner of one space's `two_stage.Index`."""

    def __init__(self, index: Index | None = None) -> None:
        index = index or two_stage.empty(SMALLEST)
        self._blocks = dict(index.blocks)  # those of `_now`, to be changed
        self._now = index._replace(blocks=self._blocks)
        self._dead = int(np.count_nonzero(self._now.holders[: self._now.size] == NO_SLOT))
        self._is_read = True

    @property
    def dead(self) -> int:
        """Slots that nobody holds any more."""
        return self._dead

    def publish(self) -> Index:
        """The present state, for readers; from here on it is not written to."""
        self._is_read = True
        return self._now

    def grow(self, capacity: int) -> None:
        """Makes room for rows below `capacity`."""
        if capacity > len(self._now.slots):
            self._now = self._now._replace(slots=_longer(self._now.slots, capacity, NO_SLOT))

    def set_vectors(self, rows: NDArray[np.integer], vectors: NDArray[np.floating[Any]]) -> None:
        """Gives distinct rows vectors of their own, [k, D], of any length; whatever they had is taken out."""
        self.remove(rows)
        wide = vectors.astype(np.float32)
        units = (wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)).astype(np.float32, copy=False)
        self._append(rows, units, np.ones(len(rows), np.float32), is_container=False)

    def add_containers(self, blocks: Mapping[int, Block]) -> None:
        """Puts containers in, by their rows; one that is there is replaced, and members leave where they were."""
        if not blocks:
            return
        containers = np.fromiter(blocks, np.int64, len(blocks))
        self.remove(np.concatenate([containers, *(block.rows for block in blocks.values())]))
        units, lengths = two_stage.scaled_centroids(blocks.values())
        self._own()
        first = self._now.size
        self._append(containers, units, lengths, is_container=True)
        self._blocks |= blocks
        self.grow(1 + max(int(block.rows.max(initial=0)) for block in blocks.values()))
        for slot, block in enumerate(blocks.values(), first):
            self._now.slots[block.rows] = slot

    def remove(self, rows: NDArray[np.integer]) -> None:
        """Takes out memories, facets and whole containers, whose facets then have no vector."""
        wanted = np.unique(rows)
        wanted = wanted[wanted < len(self._now.slots)]
        if not (self._now.slots[wanted] >= 0).any():
            return
        self._own()
        self._remove_holders(wanted)
        self._remove_facets(wanted)
        if self._now.size >= COMPACT_LEAST:
            self.compact(above=MOST_DEAD)

    def compact(self, *, above: float = 0.0) -> None:
        """Builds the arrays anew without dead slots, if those are more than a share of all.

        Copies all vectors: 0.1 s for 100K of 384 numbers.
        """
        if self._dead <= above * self._now.size:
            return
        self._own()
        now = self._now
        kept = np.flatnonzero(now.holders[: now.size] != NO_SLOT)
        moved = np.full(now.size, NO_SLOT, np.int32)
        moved[kept] = np.arange(len(kept), dtype=np.int32)
        units = np.zeros((_capacity(len(kept)), now.dimension), np.float32)
        _copy(now.units, kept, units)
        self._now = now._replace(
            size=len(kept),
            units=units,
            lengths=_longer(now.lengths[kept], len(units), 1),
            holders=_longer(now.holders[kept], len(units), NO_SLOT),
            is_container=_longer(now.is_container[kept], len(units), False),
            slots=np.where(now.slots >= 0, moved[np.maximum(now.slots, 0)], np.int32(NO_SLOT)),
        )
        self._dead = 0

    def _own(self) -> None:
        """Copies what readers may have, before it changes."""
        if self._is_read:
            self._blocks = self._blocks.copy()
            self._now = self._now._replace(
                slots=self._now.slots.copy(), holders=self._now.holders.copy(), blocks=self._blocks
            )
            self._is_read = False

    def _remove_holders(self, wanted: NDArray[np.integer]) -> None:
        """Of some rows the memories and containers; the arrays are ours."""
        now = self._now
        slots = now.slots[wanted]
        alone = (slots >= 0) & (now.holders[np.maximum(slots, 0)] == wanted)
        for row in wanted[alone & now.is_container[np.maximum(slots, 0)]].tolist():
            now.slots[self._blocks.pop(row).rows] = NO_SLOT
        now.holders[slots[alone]] = NO_SLOT
        now.slots[wanted[alone]] = NO_SLOT
        self._dead += int(np.count_nonzero(alone))

    def _remove_facets(self, wanted: NDArray[np.integer]) -> None:
        """Of some rows the facets, once no memory and no container is left among them."""
        now = self._now
        slots = now.slots[wanted]
        facets, slots = wanted[slots >= 0], slots[slots >= 0]
        for slot in np.unique(slots).tolist():
            container = int(now.holders[slot])
            self._blocks[container] = self._blocks[container].without(facets[slots == slot].tolist())
        now.slots[facets] = NO_SLOT

    def _append(self, rows: NDArray[np.integer], units: Vector, lengths: Vector, *, is_container: bool) -> None:
        """Slots for rows that have none. They lie behind the end of what readers have, so no copy is needed."""
        if not len(rows):
            return
        self.grow(int(rows.max()) + 1)
        now = self._with_room(len(rows), units.shape[1])
        at = slice(now.size, now.size + len(rows))
        now.units[at] = units
        now.lengths[at] = lengths
        now.holders[at] = rows
        now.is_container[at] = is_container
        now.slots[rows] = np.arange(at.start, at.stop, dtype=np.int32)
        self._now = now._replace(size=at.stop)

    def _with_room(self, more: int, dimension: int) -> Index:
        now = self._now
        if now.size + more <= len(now.holders) and now.dimension:
            return now
        capacity = _capacity(now.size + more)
        units = np.zeros((capacity, now.dimension or dimension), np.float32)
        _copy(now.units, np.arange(now.size), units)
        return now._replace(
            units=units,
            lengths=_longer(now.lengths, capacity, 1),
            holders=_longer(now.holders, capacity, NO_SLOT),
            is_container=_longer(now.is_container, capacity, False),
        )


def _capacity(needed: int) -> int:
    capacity = SMALLEST
    while capacity < needed:
        capacity *= 2
    return capacity


def _copy(vectors: Vector, places: NDArray[np.integer], to: Vector) -> None:
    """Puts the vectors at some places side by side at the beginning of `to`."""
    for start in range(0, len(places), COPIED):
        part = places[start : start + COPIED]
        to[start : start + len(part)] = vectors[part]


def _longer[T: np.generic](column: NDArray[T], length: int, fill: int | bool) -> NDArray[T]:
    longer = np.full(length, fill, column.dtype)
    longer[: len(column)] = column
    return longer
