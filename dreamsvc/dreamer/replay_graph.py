"""A snapshot on the device as a replay reads it, and what the dream did to it before. n: nodes. m: edges."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dreamsvc import snapshot_files
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.v1.config_pb2 import NremConfig
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER
from kernels.arrays import Graph
from kernels.padding import capacity, pad_column, pad_graph

US_PER_HOUR = 3_600_000_000


class ReplayGraph(NamedTuple):
    """What is on the device, and what is needed to name its rows again."""

    graph: Graph
    age_h: jax.Array  # f32[N]
    eligible: jax.Array  # bool[N]
    node_ids: NDArray[np.int64]  # [n]
    edge_ids: NDArray[np.int64]  # [m]
    nodes: int
    edges: int
    living: int  # nodes
    eligible_count: int


class Redone(NamedTuple):
    """A snapshot's edges with what was staged of this dream."""

    weights: NDArray[np.float32]  # [m]
    living: NDArray[np.bool_]  # [m]
    replayed: set[int]  # rows


def load(arrays: snapshot_files.Arrays, config: NremConfig, now_us: int) -> ReplayGraph:
    """The graph of a dream's snapshot; ages are counted from now_us."""
    nodes, edges = len(arrays["node_ids"]), len(arrays["edge_ids"])
    # Containers are read by what they hold, so it is their members that are replayed.
    alive = np.array(arrays["alive"], np.bool_) & (np.asarray(arrays["roles"]) != MEMORY_ROLE_CONTAINER)
    importance = np.array(arrays["importance"], np.float32)
    graph = pad_graph(
        np.array(arrays["sources"], np.int32),
        np.array(arrays["targets"], np.int32),
        importance,
        alive,
        np.array(arrays["edges_alive"], np.bool_),
        nodes=capacity(nodes),
        edges=capacity(edges),
    )
    touched_us = np.maximum(arrays["created_us"], arrays["accessed_us"])
    age_h = np.maximum(now_us - touched_us, 0) / US_PER_HOUR
    eligible = alive & (importance >= config.importance_floor)
    return ReplayGraph(
        graph=graph,
        age_h=jnp.asarray(pad_column(age_h.astype(np.float32), 0.0, size=capacity(nodes))),
        eligible=jnp.asarray(pad_column(eligible, False, size=capacity(nodes))),
        node_ids=np.array(arrays["node_ids"]),
        edge_ids=np.array(arrays["edge_ids"]),
        nodes=nodes,
        edges=edges,
        living=int(np.count_nonzero(alive)),
        eligible_count=int(np.count_nonzero(eligible & (importance > 0))),
    )


def redo(arrays: snapshot_files.Arrays, staged: Iterable[Operations]) -> Redone:
    """The snapshot's edges after what an earlier part of this dream staged."""
    weights, living = np.array(arrays["weights"], np.float32), np.array(arrays["edges_alive"], np.bool_)
    replayed: set[int] = set()
    for part in staged:
        if part.WhichOneof("kind") not in ("edge_weights", "replay_marks"):
            continue
        edges = part.edge_weights
        rows = np.searchsorted(arrays["edge_ids"], np.asarray(edges.edge_ids, np.int64))
        weights[rows] = edges.weights
        living[rows] &= ~np.asarray(edges.pruned, np.bool_)
        marked = np.asarray(part.replay_marks.node_ids, np.int64)
        replayed.update(np.searchsorted(arrays["node_ids"], marked).tolist())
    return Redone(weights, living, replayed)
