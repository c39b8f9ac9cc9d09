"""Walks in the Poincare ball, and which memories lie where they end (REQ-DREAM-011).

N: capacity for rows. W: walks that go on together. A: anchors. B: points looked around at together. d: numbers of a
point.
"""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

import jax
import jax.numpy as jnp

from kernels.poincare import distance, exp_step, sparse_direction, unit
from kernels.program import program

# Points of which the nearest is found before the nearest of all.
GROUP = 128


@program(static=(), donated=())
def walk_on(
    key: jax.Array,
    x: jax.Array,
    anchors: jax.Array,
    weight: jax.Array,
    *,
    step: float | jax.Array,
    bias: float | jax.Array,
    bandwidth: float | jax.Array,
) -> jax.Array:
    """One step of hyperbolic length `step` for every walk: where they are then, f32[W, d].

    x: f32[W, d], within LIMIT. The direction is bias x chance + (1 - bias) x where the anchors, f32[A, d] of weight
    f32[A], are sparse, both of length 1. bias: 0..1.
    """
    chance = unit(jax.random.normal(key, x.shape, x.dtype))
    sparse = sparse_direction(x, anchors, weight, bandwidth=bandwidth)
    blend = bias * chance + (1.0 - bias) * sparse
    # Two that cancel each other, or a level density and no chance, leave no direction.
    some = (blend * blend).sum(axis=-1, keepdims=True) > 1e-12
    return exp_step(x, jnp.where(some, unit(blend), chance), step)


@program(static=(), donated=())
def distances_from(x: jax.Array, points: jax.Array, there: jax.Array) -> jax.Array:
    """Hyperbolic distance of each x, f32[B, d], to each of the points, f32[N, d]; f32[B, N], inf where none is.

    there: bool[N].
    """
    return _distances(x, points, there)


@program(static=("count",), donated=())
def nearest_points(x: jax.Array, points: jax.Array, there: jax.Array, *, count: int) -> tuple[jax.Array, jax.Array]:
    """The `count` nearest of the points to each x, f32[B, d]: distances f32[B, count] ascending, inf for none, and rows
    i32[B, count], N for none.

    points: f32[N, d], there: bool[N]. They are in as many groups at most as there are nearest ones, so these groups are
    found first, by the nearest of each, and only they are sorted.
    """
    nodes = points.shape[0]
    apart = _distances(x, points, there).reshape(x.shape[0], -1, GROUP)
    _, groups = jax.lax.top_k(-apart.min(axis=2), min(count, apart.shape[1]))
    inside = jnp.take_along_axis(apart, groups[:, :, None], axis=1).reshape(x.shape[0], -1)
    rows = (groups[:, :, None] * GROUP + jnp.arange(GROUP)).reshape(x.shape[0], -1)
    best, place = jax.lax.top_k(-inside, count)
    found = jnp.take_along_axis(rows, place, axis=1)
    return -best, jnp.where(best > -jnp.inf, found, nodes).astype(jnp.int32)


def _distances(x: jax.Array, points: jax.Array, there: jax.Array) -> jax.Array:
    return jnp.where(there, distance(x[:, None], points[None]), jnp.inf)
