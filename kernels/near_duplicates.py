"""Which rows say nearly the same: pairs of unit vectors at or above a cosine (REQ-DREAM-008).

Two ways, the same answer: every row against every other in tiles, for few rows or a GPU; and random hyperplanes for
many. There each row has bits, one for each hyperplane, set where it lies above: two rows with the angle a between them
differ in a bit with probability a / pi (Charikar 2002). 32 bits make the key of a table; sorted by key, rows that agree
in the first bits stand close together and are compared with the next few. What agrees in enough of 256 more bits is
compared exactly. The pairs do not depend on the capacity, and the seed decides which are missed.

`find_near_duplicates` runs either in steps of a few milliseconds. N: capacity of the rows. D: numbers in a vector.
L: tables. P: places for pairs of one step.
"""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

import math
from collections.abc import Generator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from kernels.program import program

KEY_BITS = 32
SKETCH_WORDS = 8
SKETCH_BITS = 32 * SKETCH_WORDS
# Rows a step: of a matrix product with the hyperplanes, of a tile of products, of an exact comparison.
SKETCH_ROWS = 512
TILE_ROWS, TILE_COLUMNS = 256, 2048
RECHECK_PAIRS = 2048
# Neighbours of a row in a sorted table that it is compared with, and how many of these at a time.
WINDOW = 32
STRIDE = 4
# A pair may differ in as many bits as it does on average and this many standard deviations more.
SIGMAS = 4.0
MISSES = 0.002
MOST_TABLES = 64
ALIGNED_BYTES = 64


class NearDuplicates(NamedTuple):
    """What was found."""

    pairs: NDArray[np.int32]  # [p, 2], row < row, ascending
    cosines: NDArray[np.float32]  # [p]
    overflow: int  # pairs that had no place, or were not among the nearest


class LshPlan(NamedTuple):
    """How much is compared, from `plan_tables`."""

    tables: int  # L
    window: int  # neighbours of each row in a table
    most_different: int  # of 256 bits, for a pair to be compared exactly


def plan_tables(count: int, threshold: float) -> LshPlan:
    """Tables enough for a pair exactly at `threshold` to be missed with a probability of about 0.2 %.

    count: living rows. In a table of `count` rows those that agree in the first log2(count / WINDOW) bits fill a
    window, if the rows lie evenly.
    """
    differs = math.acos(min(1.0, max(-1.0, threshold))) / math.pi
    agreeing = max(1, math.ceil(math.log2(max(2.0, count / WINDOW))))
    found = (1.0 - differs) ** agreeing
    tables = MOST_TABLES if found < 1e-3 else math.ceil(math.log(MISSES) / math.log1p(-min(found, 0.99)))
    spread = math.sqrt(SKETCH_BITS * differs * (1.0 - differs))
    return LshPlan(
        tables=min(MOST_TABLES, max(4, tables)),
        window=WINDOW,
        most_different=math.ceil(SKETCH_BITS * differs + SIGMAS * spread),
    )


@program(static=("dim", "tables"), donated=())
def hyperplanes(key: jax.Array, dim: int, tables: int) -> jax.Array:
    """Random directions, f32[D, 32 L + 256]."""
    return jax.random.normal(key, (dim, KEY_BITS * tables + SKETCH_BITS), jnp.float32)


@program(static=("rows",), donated=())
def sketch_rows(
    vectors: jax.Array, planes: jax.Array, start: int | jax.Array, *, rows: int
) -> tuple[jax.Array, jax.Array]:
    """Keys u32[rows, L] and bits u32[rows, 8] of `rows` rows from `start`; vectors: f32 or f16 [N, D]."""
    part = jax.lax.dynamic_slice_in_dim(vectors, start, rows).astype(jnp.float32)
    above = (_product(part, planes) > 0.0).reshape(rows, -1, 32)
    words = (above.astype(jnp.uint32) << jnp.arange(32, dtype=jnp.uint32)).sum(axis=2, dtype=jnp.uint32)
    return words[:, :-SKETCH_WORDS], words[:, -SKETCH_WORDS:]


@program(static=(), donated=())
def sort_table(keys: jax.Array, bits: jax.Array, alive: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows in the order of their keys, i32[N], the living first and then N, and their bits in that order, u32[N, 8].

    keys: u32[N], of one table. Rows with the same key stand in ascending order.
    """
    nodes = alive.shape[0]
    # The dead come last: their key is the greatest, and so is their row among those of that key.
    rows = jnp.where(alive, jnp.arange(nodes, dtype=jnp.int32), nodes)
    _, order = jax.lax.sort((jnp.where(alive, keys, jnp.uint32(0xFFFFFFFF)), rows), num_keys=2)
    return order, bits.at[order].get(mode="fill", fill_value=0)


@program(static=("stride", "places"), donated=())
def neighbours_alike(
    order: jax.Array,
    bits: jax.Array,
    offset: int | jax.Array,
    most_different: int | jax.Array,
    *,
    stride: int,
    places: int,
) -> tuple[jax.Array, jax.Array]:
    """Pairs of rows `offset` to `offset + stride - 1` places apart whose bits differ in at most `most_different`.

    order, bits: from `sort_table`. Returns pairs i32[P, 2], N in the empty places, and how many there are, i32[], which
    is more than P if some had no place.
    """
    nodes = order.shape[0]

    def alike(step: jax.Array) -> jax.Array:
        other = jnp.roll(bits, -step, axis=0)
        different = jax.lax.population_count(bits ^ other).sum(axis=1, dtype=jnp.int32)
        inside = jnp.arange(nodes) + step < nodes
        return inside & (jnp.roll(order, -step) < nodes) & (order < nodes) & (different <= most_different)

    steps = offset + jnp.arange(stride, dtype=jnp.int32)
    found = jnp.stack([alike(steps[i]) for i in range(stride)])
    apart, place = jnp.nonzero(found, size=places, fill_value=nodes)
    first = order.at[place].get(mode="fill", fill_value=nodes)
    second = order.at[place + steps.at[apart].get(mode="fill", fill_value=nodes)].get(mode="fill", fill_value=nodes)
    pairs = jnp.stack([jnp.minimum(first, second), jnp.maximum(first, second)], axis=1)
    return pairs, found.sum(dtype=jnp.int32)


@program(static=(), donated=())
def pair_cosines(vectors: jax.Array, pairs: jax.Array) -> jax.Array:
    """The dot product of each pair's rows, f32[P]; 0 where a row is N. vectors: f32 or f16 [N, D]; pairs: i32[P, 2]."""
    ends = [vectors.at[pairs[:, i]].get(mode="fill", fill_value=0).astype(jnp.float32) for i in range(2)]
    return (ends[0] * ends[1]).sum(axis=1)


@program(static=("rows", "columns", "places"), donated=())
def tile_pairs(
    vectors: jax.Array,
    alive: jax.Array,
    row: int | jax.Array,
    column: int | jax.Array,
    threshold: float | jax.Array,
    *,
    rows: int,
    columns: int,
    places: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The pairs of living rows at or above `threshold` in one tile of all products, the first below the second.

    row, column: where the tile begins; a tile that would pass the end begins earlier, and leaves out what the one
    before had. Returns pairs i32[P, 2], N in the empty places, their cosines f32[P], and how many there are, i32[],
    which is more than P if some had no place.
    """
    nodes = alive.shape[0]
    at_row, at_column = jnp.minimum(row, nodes - rows), jnp.minimum(column, nodes - columns)
    first, second = at_row + jnp.arange(rows), at_column + jnp.arange(columns)
    left = jax.lax.dynamic_slice_in_dim(vectors, at_row, rows).astype(jnp.float32)
    right = jax.lax.dynamic_slice_in_dim(vectors, at_column, columns).astype(jnp.float32)
    cosines = _product(left, right.T)
    wanted_rows, wanted_columns = alive[first] & (first >= row), alive[second] & (second >= column)
    found = (cosines >= threshold) & (first[:, None] < second) & wanted_rows[:, None] & wanted_columns
    i, j = jnp.nonzero(found, size=places, fill_value=rows + columns)
    pairs = jnp.stack([first.at[i].get(mode="fill", fill_value=nodes), second.at[j].get(mode="fill", fill_value=nodes)])
    return pairs.T.astype(jnp.int32), cosines.at[i, j].get(mode="fill", fill_value=0.0), found.sum(dtype=jnp.int32)


def find_near_duplicates(
    key: jax.Array,
    vectors: jax.Array,
    alive: jax.Array,
    *,
    threshold: float,
    plan: LshPlan | None,
    places: int,
    most: int,
) -> Generator[None, None, NearDuplicates]:
    """All pairs of living rows with a cosine of at least `threshold`, or nearly all; yields after each step.

    vectors: f32 or f16 [N, D], of unit length where alive. alive: bool[N]. plan: from `plan_tables`; None for tiles,
    which for N below some thousand, or on a GPU, is the faster way. places: pairs kept in one step. most: pairs kept
    overall, the nearest.
    """
    if plan is None:
        pairs, cosines, overflow = yield from _exactly(vectors, alive, threshold, places)
    else:
        candidates, overflow = yield from _candidates(key, vectors, alive, plan, places)
        pairs, cosines = yield from _checked(vectors, candidates, threshold)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    # Stable: of equally near pairs the first rows stay.
    kept = np.sort(np.argsort(-cosines[order], kind="stable")[:most])
    return NearDuplicates(pairs[order[kept]], cosines[order[kept]], overflow + len(order) - len(kept))


def room_for(nodes: int, dim: int) -> NDArray[np.float16]:
    """Zeros [N, D] to write vectors into, which lie so that a CPU takes them as they are.

    Else handing 100,000 of them over would be one step of 60 ms.
    """
    room = np.zeros(nodes * dim * 2 + ALIGNED_BYTES, np.uint8)
    first = -room.ctypes.data % ALIGNED_BYTES
    return room[first : first + nodes * dim * 2].view(np.float16).reshape(nodes, dim)


type _Found = tuple[NDArray[np.int32], NDArray[np.float32], int]


def _exactly(vectors: jax.Array, alive: jax.Array, threshold: float, places: int) -> Generator[None, None, _Found]:
    nodes = alive.shape[0]
    rows, columns = min(TILE_ROWS, nodes), min(TILE_COLUMNS, nodes)
    pairs, cosines, overflow = [np.zeros((0, 2), np.int32)], [np.zeros(0, np.float32)], 0
    for row in range(0, nodes, rows):
        # Tiles wholly left of the diagonal hold no pair.
        for column in range(row // columns * columns, nodes, columns):
            found, values, count = tile_pairs(
                vectors, alive, row, column, threshold, rows=rows, columns=columns, places=places
            )
            kept = min(int(count), places)
            pairs.append(np.asarray(found)[:kept])
            cosines.append(np.asarray(values)[:kept])
            overflow += int(count) - kept
            yield
    return np.concatenate(pairs), np.concatenate(cosines), overflow


def _candidates(
    key: jax.Array, vectors: jax.Array, alive: jax.Array, plan: LshPlan, places: int
) -> Generator[None, None, tuple[NDArray[np.int64], int]]:
    """Pairs as row x N + row, each once, ascending; and how many had no place."""
    nodes, dim = vectors.shape
    planes = hyperplanes(key, dim=dim, tables=plan.tables)
    rows = min(SKETCH_ROWS, nodes)
    keys, bits = np.empty((plan.tables, nodes), np.uint32), np.empty((nodes, SKETCH_WORDS), np.uint32)
    for start in range(0, nodes, rows):
        first = min(start, nodes - rows)
        part, sketch = sketch_rows(vectors, planes, first, rows=rows)
        keys[:, first : first + rows], bits[first : first + rows] = np.asarray(part).T, np.asarray(sketch)
        yield
    whole = jnp.asarray(bits)
    codes, overflow = np.zeros(0, np.int64), 0
    for table in range(plan.tables):
        order, sorted_bits = sort_table(jnp.asarray(keys[table]), whole, alive)
        order.block_until_ready()
        yield
        new: list[NDArray[np.int64]] = []
        for offset in range(1, plan.window + 1, STRIDE):
            found, count = neighbours_alike(
                order, sorted_bits, offset, plan.most_different, stride=STRIDE, places=places
            )
            kept = min(int(count), places)
            overflow += int(count) - kept
            pairs = np.asarray(found)[:kept].astype(np.int64)
            new.append(pairs[:, 0] * nodes + pairs[:, 1])
            yield
        codes = np.union1d(codes, np.concatenate(new))
    return codes, overflow


def _checked(
    vectors: jax.Array, candidates: NDArray[np.int64], threshold: float
) -> Generator[None, None, tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Those of the candidates that are at or above `threshold`, with their cosines."""
    nodes = vectors.shape[0]
    pairs = np.stack([candidates // nodes, candidates % nodes], axis=1).astype(np.int32)
    cosines = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), RECHECK_PAIRS):
        part = pairs[start : start + RECHECK_PAIRS]
        padded = np.full((RECHECK_PAIRS, 2), nodes, np.int32)
        padded[: len(part)] = part
        cosines[start : start + len(part)] = np.asarray(pair_cosines(vectors, jnp.asarray(padded)))[: len(part)]
        yield
    kept = cosines >= threshold
    return pairs[kept], cosines[kept]


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """A matrix product that a GPU does not shorten to 10 bits."""
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
