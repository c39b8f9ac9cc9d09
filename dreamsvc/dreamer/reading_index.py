"""The index that queries read, as a night finds it and as it would leave it; built in pieces of a few milliseconds."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import GATHERED, Search, Step
from dreamsvc.facet_codes import decode_centroid
from dreamsvc.two_stage import NO_SLOT, Block, Index
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_UNSPECIFIED


def index_before(memories: Memories) -> Search[Index]:
    """What is read before the night."""
    alone = memories.findable & memories.embedded & (memories.roles == MEMORY_ROLE_UNSPECIFIED)
    return (yield from index_of(memories, alone, memories.containers, len(memories.node_ids)))


def index_of(memories: Memories, alone: NDArray[np.bool_], blocks: Mapping[int, Block], capacity: int) -> Search[Index]:
    """Memories that stand for themselves, [n], and containers by the row that each has or would have."""
    rows = np.flatnonzero(alone)
    size = len(rows) + len(blocks)
    units = np.empty((size, memories.vectors.shape[1]), np.float32)
    lengths = np.ones(size, np.float32)
    for start in range(0, len(rows), GATHERED):
        part = rows[start : start + GATHERED]
        units[start : start + len(part)] = memories.vectors[part]
        yield Step("index", start, size)
    holders = np.concatenate([rows, np.fromiter(blocks, np.int64, len(blocks))]).astype(np.int32)
    slots = np.full(capacity, NO_SLOT, np.int32)
    slots[holders] = np.arange(size, dtype=np.int32)
    for slot, block in enumerate(blocks.values(), len(rows)):
        mean = decode_centroid(block.centroid)
        lengths[slot] = np.linalg.norm(mean)
        units[slot] = mean / max(float(lengths[slot]), 1e-12)
        slots[block.rows] = slot
        if slot % GATHERED == 0:
            yield Step("index", slot, size)
    is_container = np.zeros(size, np.bool_)
    is_container[len(rows) :] = True
    return Index(size, units, lengths, holders, is_container, slots, dict(blocks))
