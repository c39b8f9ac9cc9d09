"""The edges of a memory before and after a night, side by side, for the pair probe."""

from collections.abc import Sequence

import numpy as np

from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.probes.pair_probe import Strength, Ties
from dreamsvc.dreamer.redundancy import CopyGroup
from dreamsvc.dreamer.shortcuts import Shortcut


def ties_of(memories: Memories, groups: Sequence[CopyGroup], ways: Sequence[Shortcut]) -> Search[Ties]:
    """An edge of a copy ends and begins anew at the copy's survivor; shortcuts begin.

    Of edges the memories hold both the weights from before the replay and those that it left.
    """
    e = len(memories.edge_ids)
    stands = np.arange(len(memories.node_ids), dtype=np.int32)
    for group in groups:
        stands[group.copies] = group.survivor
    yield Step("edges", 0, 3)
    source, target = stands[memories.src], stands[memories.dst]
    moved = np.flatnonzero(memories.edges_alive & ((source != memories.src) | (target != memories.dst)))
    kept = moved[source[moved] != target[moved]]
    yield Step("edges", 1, 3)
    after_alive = memories.edges_alive.copy()
    after_alive[moved] = False
    fresh = len(kept) + len(ways)
    weights = [memories.weights[kept], np.array([way.weight for way in ways], np.float32)]
    yield Step("edges", 2, 3)
    before = Strength(
        np.concatenate([memories.weights_before, np.zeros(fresh, np.float32)]),
        np.concatenate([memories.edges_alive_before, np.zeros(fresh, np.bool_)]),
    )
    after = Strength(
        np.concatenate([memories.weights, *weights]).astype(np.float32),
        np.concatenate([after_alive, np.ones(fresh, np.bool_)]),
    )
    ends = np.array([[way.source, way.target] for way in ways], np.int32).reshape(-1, 2)
    first = e + len(kept)
    return Ties(
        src=np.concatenate([memories.src, source[kept], ends[:, 0]]).astype(np.int32),
        dst=np.concatenate([memories.dst, target[kept], ends[:, 1]]).astype(np.int32),
        before=before,
        after=after,
        paths={first + place: way.edges for place, way in enumerate(ways)},
    )
