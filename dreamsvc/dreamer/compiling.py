"""What the steps after the replay call on the device, so that it is compiled before the dream begins."""

from collections.abc import Iterator

import numpy as np

from dreamsvc.dreamer.exploring import ANCHORS, NEAREST, WALKS
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.positions import FIXED, LINKS, around_at_once, rows_at_once
from dreamsvc.dreamer.redundancy import STEP_PLACES, tables_for
from dreamsvc.dreamer.shortcuts import starts_a_step
from dreamsvc.v1.config_pb2 import DreamConfig, RemConfig
from kernels.compile_ahead import Call, ball_walk_calls, fit_calls, near_duplicate_calls, walk_calls
from kernels.padding import capacity


def calls_of(memories: Memories, config: DreamConfig) -> Iterator[Call]:
    """Each kernel with the shapes it will be called with; none that a night will not call."""
    nodes, edges = capacity(len(memories.node_ids)), capacity(len(memories.edge_ids))
    if config.shortcuts.enabled:
        walkers = config.shortcuts.walkers
        yield from walk_calls(nodes=nodes, edges=edges, rows=starts_a_step(walkers), walkers=walkers)
    if config.redundancy.enabled and np.count_nonzero(memories.embedded) > 1:
        dim, plan = memories.vectors.shape[1], tables_for(memories, config.redundancy)
        yield from near_duplicate_calls(nodes=nodes, dim=dim, plan=plan, places=STEP_PLACES)


def rem_calls_of(memories: Memories, config: RemConfig) -> Iterator[Call]:
    """The same for the positions of a REM phase and its walks."""
    nodes, dimension = capacity(len(memories.node_ids)), config.dimension
    around = around_at_once(dimension)
    rows = rows_at_once(dimension)
    yield from fit_calls(nodes=nodes, dimension=dimension, rows=rows, links=LINKS, fixed=FIXED, around=around)
    if config.explore:
        yield from ball_walk_calls(
            nodes=nodes, dimension=dimension, walks=WALKS, anchors=ANCHORS, around=around, nearest=NEAREST
        )
