"""What goes to the device and comes back: tuples of arrays, the shape beside each field.

N, E: capacity for nodes and for edges (`kernels.padding.capacity`). M = 2E: places in the adjacency, one for each end
of each edge. Rows past the end of the real graph are dead; an index of N (or E) points at nothing and is dropped.
"""

# optax has no types of its own.
# pyright: reportMissingTypeStubs=false

from typing import NamedTuple

import jax
import optax


class Graph(NamedTuple):
    """The memory graph as a dream finds it; the weights are learned and therefore live in `HebbianState`."""

    importance: jax.Array  # f32[N], 0..1
    alive: jax.Array  # bool[N]
    alive_rows: jax.Array  # i32[N], the rows of living nodes in ascending order, then N
    alive_count: jax.Array  # i32[]
    indptr: jax.Array  # i32[N+1], the adjacency of node u is the places indptr[u] to indptr[u+1]
    neighbour: jax.Array  # i32[M], then N
    via: jax.Array  # i32[M], the edge that leads to that neighbour, then E
    src: jax.Array  # i32[E], then N
    dst: jax.Array  # i32[E], then N
    edge_alive: jax.Array  # bool[E], the edge and both its ends are alive


class SrcState(NamedTuple):
    """What the next SRC step reads (REQ-DREAM-014)."""

    activation: jax.Array  # f32[N], 0..1, 0 where a node is at rest
    step: jax.Array  # i32[], steps taken since the dream began; with the seed it fixes the next draw


class SrcInfo(NamedTuple):
    """What a chunk of SRC steps did; integers only, so that a tuner steered by them takes the same turn anywhere."""

    active: jax.Array  # i32[], nodes awake after the last step
    activation_sum: jax.Array  # u32[], over living nodes after the last step, in 1/255; mean = sum / 255 / alive_count
    candidates: jax.Array  # i32[], places filled, over the chunk
    traversals: jax.Array  # i32[], candidates reached through an edge, over the chunk
    inside: jax.Array  # i32[], traversals whose edge joined two nodes already awake, over the chunk


class HebbianState(NamedTuple):
    """What the next Hebbian update reads (REQ-DREAM-006)."""

    weight: jax.Array  # f32[E], 0..1; a pruned edge keeps its last one
    edge_alive: jax.Array  # bool[E], as in the graph, less what was pruned
    opt_state: optax.OptState  # of the chain in kernels.hebbian; counts updates where the rate is a schedule


class HebbianInfo(NamedTuple):
    """What one Hebbian update did; an edge is counted once at most."""

    strengthened: jax.Array  # i32[]
    weakened: jax.Array  # i32[]
    pruned: jax.Array  # i32[]
    mean_delta: jax.Array  # f32[], over the living touched edges, 0 where there are none


class BallFit(NamedTuple):
    """What the next step of a fit in the Poincare ball reads (REQ-DREAM-010). d: numbers of a point."""

    free: jax.Array  # f32[N, d], the points' logarithms at the centre: what is learned
    points: jax.Array  # f32[N, d], within the ball
    adam: optax.OptState  # of free; its count is not used


class FitInfo(NamedTuple):
    """What a step of a fit did, for people to look at."""

    loss: jax.Array  # f32[], sum over the rows that are linked
    rows: jax.Array  # i32[], how many those are
    finite: jax.Array  # bool[], every point it moved is a number
