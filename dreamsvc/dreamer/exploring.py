"""Walks through the Poincare ball, and the queries that they end as (REQ-DREAM-011).

A walk begins at an important memory and goes on by steps of one hyperbolic length, each in a direction made of chance
and of where memories are sparse. Where it ends, the memories nearest to it are mixed into the vector of a query that
nobody asked.

n: rows. d: numbers of a point. D: numbers of a vector. q: walks. L: steps of a walk.
"""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.memories import NOWHERE, Memories
from dreamsvc.dreamer.merging import Rows, Search, Step
from dreamsvc.dreamer.positions import around_at_once
from dreamsvc.v1.config_pb2 import RemConfig
from kernels.ball_walks import nearest_points, walk_on
from kernels.padding import capacity
from kernels.poincare import LIMIT

# Walks that go on together, and points that stand for all where the density is asked for; a step takes about 1 ms.
WALKS, ANCHORS = 64, 4_096
# Of the density, in hyperbolic distance: against that of all points, the direction has a cosine of 0.99.
BANDWIDTH = 0.5
# Memories that a query is mixed of.
NEAREST = 8
COOLEST = 0.01
CHUNK = 8_192


class Explored(NamedTuple):
    """The walks, in the order in which they were drawn."""

    origins: NDArray[np.int32]  # [q], rows
    paths: NDArray[np.float32]  # [q, L+1, d], the origin's point first
    queries: NDArray[np.float32]  # [q, D], of unit length, 0 where no memory has a vector
    nearest: NDArray[np.int32]  # [q, 8], rows around its end, the nearest first, NOWHERE where there are fewer


def explore(
    memories: Memories, points: NDArray[np.float32], config: RemConfig, *, temperature: float, seed: int
) -> Search[Explored]:
    """`synthetic_query_count` walks; the same for the same seed on the same kind of device.

    points: f32[n, d], NaN for rows without a place; where nothing has one there are no walks. temperature: above 0; the
    higher it is, the less the importance of where a walk begins and the distance of what it ends at count.
    """
    temperature = max(temperature, COOLEST)
    n, dimension = points.shape
    there = np.zeros(n, np.bool_)
    room = np.zeros((capacity(n), dimension), np.float32)
    for start in range(0, n, CHUNK):
        part = slice(start, min(start + CHUNK, n))
        there[part] = memories.findable[part] & np.isfinite(points[part]).all(axis=1)
        room[part] = _inside(np.where(there[part, None], points[part], 0.0))
        yield Step("walks", 0, config.synthetic_query_count)
    rows = np.flatnonzero(there)
    if len(rows) == 0:
        return _nothing(memories, dimension, config)
    rng = np.random.default_rng(seed)
    origins = yield from _origins(memories.importance[rows], config.synthetic_query_count, temperature, rng)
    paths = yield from _walked(room, rows, rows[origins], config, rng, seed)
    nearest, apart = yield from _around(memories, room, there, paths[:, -1])
    queries = yield from _mixed(memories, nearest, apart, temperature)
    return Explored(rows[origins].astype(np.int32), paths, queries, nearest)


def _nothing(memories: Memories, dimension: int, config: RemConfig) -> Explored:
    paths = np.zeros((0, config.walk_length + 1, dimension), np.float32)
    queries = np.zeros((0, memories.vectors.shape[1]), np.float32)
    return Explored(np.zeros(0, np.int32), paths, queries, np.zeros((0, NEAREST), np.int32))


def _inside(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The points, those beyond LIMIT moved to it."""
    norm = np.sqrt(np.einsum("nd,nd->n", points, points))[:, None]
    return points * np.minimum(1.0, LIMIT / np.maximum(norm, 1e-7))


def _origins(importance: NDArray[np.float32], count: int, temperature: float, rng: np.random.Generator) -> Search[Rows]:
    """Places in `importance`, [count], drawn by importance^(1 / temperature): Gumbel top-k, none twice while another
    is left (Kool et al. 2019)."""
    weight = np.nan_to_num(importance.astype(np.float64), nan=0.0)
    possible = np.flatnonzero(weight > 0.0)
    if len(possible) == 0:
        possible, weight = np.arange(len(weight)), np.ones(len(weight))
    logarithm = np.log(weight[possible]) / temperature
    drawn: list[Rows] = []
    while (left := count - sum(map(len, drawn))) > 0:
        order = logarithm + rng.gumbel(size=len(possible))
        yield Step("walks", 0, count)
        most = min(left, len(possible))
        best = np.argpartition(-order, most - 1)[:most]
        drawn.append(possible[best[np.argsort(-order[best], kind="stable")]])
        yield Step("walks", 0, count)
    return np.concatenate(drawn)


def _walked(
    room: NDArray[np.float32], rows: Rows, origins: Rows, config: RemConfig, rng: np.random.Generator, seed: int
) -> Search[NDArray[np.float32]]:
    """The paths, [q, L+1, d]. room: f32[N, d]; rows: those that are there."""
    dimension = room.shape[1]
    anchors = np.zeros((ANCHORS, dimension), np.float32)
    weight = np.zeros(ANCHORS, np.float32)
    chosen = np.sort(rng.choice(rows, min(ANCHORS, len(rows)), replace=False))
    anchors[: len(chosen)], weight[: len(chosen)] = room[chosen], 1.0
    around, counts = jax.device_put(anchors), jax.device_put(weight)
    paths = np.empty((len(origins), config.walk_length + 1, dimension), np.float32)
    key = _key(seed)
    yield Step("walks", 0, len(origins))
    for number, start in enumerate(range(0, len(origins), WALKS)):
        here = np.zeros((WALKS, dimension), np.float32)
        walking = len(origins[start : start + WALKS])
        here[:walking] = room[origins[start : start + WALKS]]
        paths[start : start + walking, 0] = here[:walking]
        for step in range(config.walk_length):
            key_of_step = jax.random.fold_in(jax.random.fold_in(key, number), step)
            moved = walk_on(
                key_of_step,
                jax.device_put(here),
                around,
                counts,
                step=config.step_size,
                bias=config.exploration_bias,
                bandwidth=BANDWIDTH,
            )
            here = np.asarray(moved)
            paths[start : start + walking, step + 1] = here[:walking]
            yield Step("walks", start, len(origins))
    return paths


def _key(seed: int) -> jax.Array:
    key = jax.random.key(np.uint32(seed & 0xFFFFFFFF), impl="threefry2x32")
    return jax.random.fold_in(key, np.uint32(seed >> 32))


def _around(
    memories: Memories, room: NDArray[np.float32], there: NDArray[np.bool_], ends: NDArray[np.float32]
) -> Search[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """The rows nearest to each end and how far away they are, [q, NEAREST]; only such as have a vector, if any has."""
    looked_at = there & memories.embedded
    known = np.zeros(len(room), np.bool_)
    known[: len(there)] = looked_at if looked_at.any() else there
    table, mask = jax.device_put(room), jax.device_put(known)
    nearest = np.empty((len(ends), NEAREST), np.int32)
    apart = np.empty((len(ends), NEAREST), np.float32)
    size = around_at_once(room.shape[1])
    for start in range(0, len(ends), size):
        here = np.zeros((size, room.shape[1]), np.float32)
        asked = len(ends[start : start + size])
        here[:asked] = ends[start : start + size]
        distances, rows = nearest_points(jax.device_put(here), table, mask, count=NEAREST)
        apart[start : start + asked] = np.asarray(distances)[:asked]
        nearest[start : start + asked] = np.asarray(rows)[:asked]
        yield Step("queries", start, len(ends))
    nearest[nearest == len(room)] = NOWHERE
    return nearest, apart


def _mixed(
    memories: Memories, nearest: NDArray[np.int32], apart: NDArray[np.float32], temperature: float
) -> Search[NDArray[np.float32]]:
    """The vectors of the nearest, mixed by softmax(-distance / temperature), [q, D]."""
    weight = np.exp(-(apart - apart[:, :1]) / temperature)
    weight[nearest == NOWHERE] = 0.0
    queries = np.empty((len(nearest), memories.vectors.shape[1]), np.float32)
    for start in range(0, len(nearest), CHUNK // NEAREST):
        part = slice(start, start + CHUNK // NEAREST)
        mixed = np.einsum("qk,qkd->qd", weight[part], memories.vectors[nearest[part]])
        norm = np.sqrt(np.einsum("qd,qd->q", mixed, mixed))[:, None]
        queries[part] = mixed / np.maximum(norm, 1e-9)
        yield Step("queries", start, len(nearest))
    return queries
