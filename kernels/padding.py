"""Room to grow: a graph that gains a node keeps its shapes, so nothing is compiled again."""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Graph

SMALLEST = 256


def capacity(count: int) -> int:
    """The next of 256, 384, 512, 768, ... that holds `count`: powers of two and their halfway points."""
    size = SMALLEST
    while size < count:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size


def pad_column[T: np.generic](values: NDArray[T], fill: float, *, size: int) -> NDArray[T]:
    """`values` [n] followed by `fill` up to `size`; a ValueError if they do not fit."""
    if len(values) > size:
        raise ValueError(f"{len(values)} values do not fit into a capacity of {size}")
    padded = np.full(size, fill, values.dtype)
    padded[: len(values)] = values
    return padded


def pad_graph(
    src: NDArray[np.int32],
    dst: NDArray[np.int32],
    importance: NDArray[np.float32],
    alive: NDArray[np.bool_],
    edge_alive: NDArray[np.bool_],
    *,
    nodes: int,
    edges: int,
) -> Graph:
    """The graph for the device, with its adjacency.

    src, dst: i32[e], rows below n. importance: f32[n]. alive: bool[n]. edge_alive: bool[e]. nodes, edges: the
    capacities N and E. An edge that is dead or has a dead end is dead in the result and in no adjacency. Edges keep
    their index; those sorted by `src` are read fastest by the Hebbian update.
    """
    living = edge_alive & alive[src] & alive[dst]
    via = np.flatnonzero(living).astype(np.int32)
    start, end = src[via], dst[via]
    owner = np.concatenate([start, end])
    # Stable: a node's places stand in the order of the edges whatever the capacity, so a draw finds the same neighbour.
    order = np.argsort(owner, kind="stable")
    indptr = np.zeros(nodes + 1, np.int32)
    np.cumsum(np.bincount(owner, minlength=nodes), out=indptr[1:])
    alive_rows = np.flatnonzero(alive).astype(np.int32)
    return Graph(
        importance=jnp.asarray(pad_column(importance, 0.0, size=nodes)),
        alive=jnp.asarray(pad_column(alive, False, size=nodes)),
        alive_rows=jnp.asarray(pad_column(alive_rows, nodes, size=nodes)),
        alive_count=jnp.asarray(np.int32(len(alive_rows))),
        indptr=jnp.asarray(indptr),
        neighbour=jnp.asarray(pad_column(np.concatenate([end, start])[order], nodes, size=2 * edges)),
        via=jnp.asarray(pad_column(np.concatenate([via, via])[order], edges, size=2 * edges)),
        src=jnp.asarray(pad_column(src, nodes, size=edges)),
        dst=jnp.asarray(pad_column(dst, nodes, size=edges)),
        edge_alive=jnp.asarray(pad_column(living, False, size=edges)),
    )
