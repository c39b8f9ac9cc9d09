"""The Poincare ball of curvature -1: distances, steps and directions in it (REQ-DREAM-011).

A point is f32[..., d] of a length below 1. In single precision nothing near the edge can be told apart, so that points
are kept within LIMIT of the centre, a hyperbolic radius of 6.2. Formulas after Ganea, Becigneul, Hofmann 2018.

d: numbers of a point. A: anchors.
"""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

import math

import jax
import jax.numpy as jnp

LIMIT = 1.0 - 4e-3
# The same as a distance from the centre.
RADIUS = 2.0 * math.atanh(LIMIT)
# Below the square of every length that counts; the root of 0 has no derivative.
FLOOR = 1e-14


def length(x: jax.Array) -> jax.Array:
    """Euclidean length [...], at least 1e-7."""
    return jnp.sqrt(jnp.maximum((x * x).sum(axis=-1), FLOOR))


def project(x: jax.Array) -> jax.Array:
    """The same where it is within LIMIT of the centre, else the point at LIMIT in its direction."""
    return x * jnp.minimum(1.0, LIMIT / length(x))[..., None]


def distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """Hyperbolic distance [...] of points within LIMIT; of equal ones about 1e-7 and more towards the edge.

    2 asinh and not acosh, which cannot tell small distances apart; nor atanh, which is off beyond a distance of 5.
    """
    gap = x - y
    squared = jnp.maximum((gap * gap).sum(axis=-1), FLOOR)
    return 2.0 * jnp.arcsinh(jnp.sqrt(squared / (_room(x) * _room(y))))


def _room(x: jax.Array) -> jax.Array:
    """1 - |x|^2, which is about 0.008 at LIMIT."""
    return jnp.maximum(1.0 - (x * x).sum(axis=-1), 1e-3)


def mobius_add(x: jax.Array, y: jax.Array) -> jax.Array:
    """x (+) y: where y comes to lie when the centre is moved to x."""
    product = (x * y).sum(axis=-1, keepdims=True)
    xx, yy = (x * x).sum(axis=-1, keepdims=True), (y * y).sum(axis=-1, keepdims=True)
    sum_ = (1.0 + 2.0 * product + yy) * x + (1.0 - xx) * y
    return sum_ / jnp.maximum(1.0 + 2.0 * product + xx * yy, FLOOR)


def to_ball(free: jax.Array) -> jax.Array:
    """The point at the distance |free| from the centre in the direction of `free`, any f32[..., d]: exp at 0."""
    norm = length(free)
    return project(free * (jnp.tanh(0.5 * norm) / norm)[..., None])


def to_free(points: jax.Array) -> jax.Array:
    """What `to_ball` makes these points of: log at 0."""
    norm = length(points)
    return points * (2.0 * jnp.arctanh(jnp.minimum(norm, LIMIT)) / norm)[..., None]


def unit(x: jax.Array) -> jax.Array:
    """Of length 1; zero where it is shorter than 1e-7."""
    return x / length(x)[..., None]


def log_direction(x: jax.Array, y: jax.Array) -> jax.Array:
    """The direction at x in which the shortest way to y begins, of length 1; zero where both are one point."""
    return unit(mobius_add(-x, y))


def exp_step(x: jax.Array, direction: jax.Array, step: float | jax.Array) -> jax.Array:
    """The point at hyperbolic distance `step` from x along the geodesic in `direction`, of length 1; exp at x.

    A step that would leave LIMIT is mirrored towards the centre, and where that leaves it too, it leads straight
    there: so that every step has its length. step: 0 to 2 RADIUS.
    """
    reach = jnp.tanh(0.5 * jnp.asarray(step))
    outward = unit(x)
    rising = (direction * outward).sum(axis=-1, keepdims=True)
    ways = (direction, direction - 2.0 * jnp.maximum(rising, 0.0) * outward, -outward)
    ends = [mobius_add(x, reach * way) for way in ways]
    inside = [length(end)[..., None] <= LIMIT for end in ends]
    return project(jnp.where(inside[0], ends[0], jnp.where(inside[1], ends[1], ends[2])))


def sparse_direction(x: jax.Array, anchors: jax.Array, weight: jax.Array, *, bandwidth: float | jax.Array) -> jax.Array:
    """The direction at each x in which the density of the anchors falls fastest, of length 1; zero where it is level.

    x: f32[W, d]. anchors: f32[A, d]. weight: f32[A], 0 for a place without one. The density is a sum of kernels
    exp(-distance^2 / (2 bandwidth^2)); its gradient is the sum of the logarithms of the anchors at x, each a number
    times (-x) (+) anchor, which is linear in x and in the anchor: two matrix products.
    """
    product = _matmul(x, anchors.T)
    xx, aa = (x * x).sum(axis=-1)[:, None], (anchors * anchors).sum(axis=-1)[None, :]
    below = jnp.maximum(1.0 - 2.0 * product + xx * aa, FLOOR)
    # The length of (-x) (+) a, which is tanh(distance / 2).
    norm = jnp.sqrt(jnp.clip((xx - 2.0 * product + aa) / below, FLOOR, LIMIT * LIMIT))
    apart = 2.0 * jnp.arctanh(norm)
    # The nearest kernel is as 1, so that far from everything there still is a direction.
    exponent = jnp.where(weight > 0.0, -0.5 * (apart / bandwidth) ** 2, -jnp.inf)
    kernel = weight * jnp.exp(exponent - jnp.max(exponent, axis=1, keepdims=True))
    share = kernel * apart / (norm * below)
    towards = (1.0 - xx) * _matmul(share, anchors) - x * (share * (1.0 - 2.0 * product + aa)).sum(axis=1)[:, None]
    scale = jnp.maximum((kernel * apart).sum(axis=1, keepdims=True), FLOOR)
    return -unit(towards / scale)


def _matmul(left: jax.Array, right: jax.Array) -> jax.Array:
    """A matrix product that a GPU does not shorten to 10 bits."""
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
