"""A large memory is merged tile by tile, the oldest memories first (REQ-DREAM-027).

A tile is merged as if it were all there is, so its cost and its size in memory are bounded, and what one tile merged is
kept when the time ends in the next. What happened about the same time tends to be about the same things.

Of a very large memory a night takes some tiles only, drawn by its seed: reading all of it would leave no time to merge
any. Any two tiles are in some night together, so copies that lie far apart in time are found as well.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merged import Merged
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER

# Memories of a tile, about; a rest of less than half a tile goes with the last.
TILE = 20_000
# Tiles of a night; reading and merging so many takes about the time that NREM has at a million memories.
MOST_TILES = 10


class Tile(NamedTuple):
    """Some of the memories; a container is in it with all that it holds."""

    inside: NDArray[np.bool_]  # [n]

    def of(self, memories: Memories, merged: Merged) -> Memories:
        """The memories as if those of the tile were all; what was folded earlier in the night is not among them."""
        return memories._replace(alive=memories.alive & self.inside & ~merged.gone)


def tiles_of(memories: Memories) -> Search[list[Tile]]:
    """The tiles of a memory, the oldest first."""
    # Each piece goes through all memories once.
    step = Step("tiles", 0, 1)
    owners = memories.owners()
    yield step
    findable = np.flatnonzero(memories.findable)
    yield step
    # A container is as old as the oldest that it holds; n is more than enough years for what holds nothing.
    since = np.full(len(owners), np.iinfo(np.int64).max)
    np.minimum.at(since, owners[findable], memories.created_us[findable])
    yield step
    units = np.flatnonzero(memories.active & (since < np.iinfo(np.int64).max))
    yield step
    order = units[np.argsort(since[units], kind="stable")]
    yield step
    weight = np.bincount(owners[findable], minlength=len(owners))[order]
    count = max(1, round(int(weight.sum()) / TILE))
    number = np.full(len(owners), -1)
    # Where in the whole each unit begins, by the memories before it.
    number[order] = np.minimum((np.cumsum(weight) - weight) * count // max(1, int(weight.sum())), count - 1)
    yield step
    is_container = memories.roles == MEMORY_ROLE_CONTAINER
    # What holds nothing any more is nobody's.
    number[is_container & (since == np.iinfo(np.int64).max)] = -1
    yield step
    found: list[Tile] = []
    for tile in range(count):
        found.append(Tile(number[owners] == tile))
        yield step
    return found


class Drawn(NamedTuple):
    """What of a memory a night compresses."""

    # The others count as not there.
    memories: Memories
    # Of those, the oldest first.
    parts: list[Tile]
    tiles: int
    of: int


def drawn(memories: Memories, seed: int) -> Search[Drawn]:
    """All of a memory, or some tiles of a very large one; the same ones for the same seed."""
    tiles = yield from tiles_of(memories)
    if len(tiles) <= MOST_TILES:
        return Drawn(memories, tiles, len(tiles), len(tiles))
    chosen = np.random.default_rng(seed).choice(len(tiles), MOST_TILES, replace=False)
    inside = np.any(np.stack([tiles[int(number)].inside for number in chosen]), axis=0)
    some = memories._replace(alive=memories.alive & inside)
    return Drawn(some, (yield from tiles_of(some)), MOST_TILES, len(tiles))
