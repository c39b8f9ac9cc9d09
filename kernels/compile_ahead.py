"""Every kernel compiled before the dream begins: a first trace in mid-dream would stall the process for a moment.

What is compiled here is what the steps of a dream call, with the shapes they have. N, E: capacity for nodes and edges.
D: numbers in a vector.
"""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from kernels.activation import activate, at_rest, coarse, dequantise, quantise
from kernels.arrays import BallFit, Graph, HebbianState, SrcState
from kernels.ball_walks import distances_from, nearest_points, walk_on
from kernels.hebbian import Rate, hebbian_begin, hebbian_update, touched_by
from kernels.near_duplicates import (
    KEY_BITS,
    RECHECK_PAIRS,
    SKETCH_BITS,
    SKETCH_ROWS,
    SKETCH_WORDS,
    STRIDE,
    TILE_COLUMNS,
    TILE_ROWS,
    LshPlan,
    hyperplanes,
    neighbours_alike,
    pair_cosines,
    sketch_rows,
    sort_table,
    tile_pairs,
)
from kernels.paths import OutEdges, walk_paths
from kernels.poincare_fit import fit_begin, fit_block
from kernels.program import Program
from kernels.sampling import sample_replay
from kernels.src import src_chunk


class Sizes(NamedTuple):
    """The shapes of a replay; all but the last two from `kernels.padding.capacity`."""

    nodes: int
    edges: int
    slots: int  # places of an SRC step
    replay: int  # memories sampled for the dream
    batch: int  # memories replayed at a time


class Call(NamedTuple):
    """A kernel and what it will be called with: shapes for arrays, any number for a scalar."""

    name: str
    program: Program[..., Any]
    args: tuple[Any, ...]
    scalars: dict[str, Any]


def array(dtype: jax.typing.DTypeLike, *shape: int) -> jax.Array:
    """A shape in place of an array, as `lower` takes it; the tuples that hold it speak of arrays."""
    return cast("jax.Array", jax.ShapeDtypeStruct(shape, dtype))


f32, f16, i32, u32, flag = jnp.float32, jnp.float16, jnp.int32, jnp.uint32, jnp.bool_


def replay_calls(sizes: Sizes, *, learning_rate: Rate) -> tuple[Call, ...]:
    """The calls that a replay of these sizes makes; learning_rate: of the same kind as in the dream."""
    nodes, edges, slots, replay, batch = sizes
    graph = Graph(
        importance=array(f32, nodes),
        alive=array(flag, nodes),
        alive_rows=array(i32, nodes),
        alive_count=array(i32),
        indptr=array(i32, nodes + 1),
        neighbour=array(i32, 2 * edges),
        via=array(i32, 2 * edges),
        src=array(i32, edges),
        dst=array(i32, edges),
        edge_alive=array(flag, edges),
    )
    key = _key()
    weight, activation = array(f32, edges), array(f32, nodes)
    resting: SrcState = jax.eval_shape(partial(at_rest, nodes))
    learned: HebbianState = jax.eval_shape(partial(hebbian_begin, learning_rate=learning_rate), weight, graph)
    src_rates = dict.fromkeys(("sparsity", "randomness", "clustering", "decay_rate", "amplitude", "floor"), 0.0)
    hebbian_rates = {"learning_rate": learning_rate, "decay_rate": 0.0, "floor": 0.0, "cap": 1.0}
    return (
        Call(
            "sample_replay",
            sample_replay,
            (key, activation, activation, array(flag, nodes)),
            {"recency_bias": 0.8, "k": replay},
        ),
        Call("activate", activate, (resting, array(i32, batch)), {"level": 1.0}),
        Call("src_chunk", src_chunk, (key, resting, graph, weight, 1), {**src_rates, "slots": slots}),
        Call("quantise", quantise, (activation,), {}),
        Call("coarse", coarse, (array(jnp.uint8, nodes),), {}),
        Call("dequantise", dequantise, (array(jnp.uint8, nodes),), {}),
        Call("touched_by", touched_by, (graph, array(i32, batch)), {}),
        Call("hebbian_update", hebbian_update, (learned, graph, activation, array(flag, edges)), hebbian_rates),
    )


def walk_calls(*, nodes: int, edges: int, rows: int, walkers: int) -> tuple[Call, ...]:
    """The calls of walks over a graph of capacity N and E, from so many rows at a time."""
    graph = OutEdges(array(i32, nodes + 1), array(i32, edges), array(i32, edges), array(u32, edges))
    return (Call("walk_paths", walk_paths, (_key(), array(i32, rows), graph), {"walkers": walkers}),)


def near_duplicate_calls(*, nodes: int, dim: int, plan: LshPlan | None, places: int) -> tuple[Call, ...]:
    """The calls of a search among f16 [N, D]; plan and places as `find_near_duplicates` takes them."""
    vectors, alive = array(f16, nodes, dim), array(flag, nodes)
    if plan is None:
        tile = {"rows": min(TILE_ROWS, nodes), "columns": min(TILE_COLUMNS, nodes), "places": places}
        return (Call("tile_pairs", tile_pairs, (vectors, alive, 0, 0, 0.9), tile),)
    planes = array(f32, dim, KEY_BITS * plan.tables + SKETCH_BITS)
    bits = array(u32, nodes, SKETCH_WORDS)
    return (
        Call("hyperplanes", hyperplanes, (_key(),), {"dim": dim, "tables": plan.tables}),
        Call("sketch_rows", sketch_rows, (vectors, planes, 0), {"rows": min(SKETCH_ROWS, nodes)}),
        Call("sort_table", sort_table, (array(u32, nodes), bits, alive), {}),
        Call(
            "neighbours_alike", neighbours_alike, (array(i32, nodes), bits, 1, 1), {"stride": STRIDE, "places": places}
        ),
        Call("pair_cosines", pair_cosines, (vectors, array(i32, RECHECK_PAIRS, 2)), {}),
    )


def fit_calls(*, nodes: int, dimension: int, rows: int, links: int, fixed: int, around: int) -> tuple[Call, ...]:
    """The calls of a fit of N points in blocks of `rows`, and those that judge it, `around` rows at a time."""
    points = array(f32, nodes, dimension)
    begun: BallFit = jax.eval_shape(fit_begin, points)
    linked, share = array(i32, rows, links), array(f32, rows, links)
    block = (begun, array(i32, rows), linked, share, share, array(i32, rows, fixed), array(f32, rows))
    scalars = {"turn": 1, "all_moving": 1, "all_fixed": 1, "learning_rate": 0.1, "pull": 0.1}
    return (
        Call("fit_begin", fit_begin, (points,), {}),
        Call("fit_block", fit_block, block, scalars),
        Call("distances_from", distances_from, (array(f32, around, dimension), points, array(flag, nodes)), {}),
    )


def ball_walk_calls(
    *, nodes: int, dimension: int, walks: int, anchors: int, around: int, nearest: int
) -> tuple[Call, ...]:
    """The calls of so many walks at a time among N points, and of the search around their ends."""
    points, weight = array(f32, nodes, dimension), array(f32, anchors)
    walk = (_key(), array(f32, walks, dimension), array(f32, anchors, dimension), weight)
    ends = (array(f32, around, dimension), points, array(flag, nodes))
    return (
        Call("walk_on", walk_on, walk, {"step": 0.3, "bias": 0.7, "bandwidth": 0.5}),
        Call("nearest_points", nearest_points, ends, {"count": nearest}),
    )


def _key() -> jax.Array:
    return jax.eval_shape(partial(jax.random.key, impl="threefry2x32"), 0)


def compile_ahead(calls: Iterable[Call]) -> None:
    """Compiles these for the default device; later calls with such shapes find it."""
    handed_over: set[tuple[tuple[int, ...], np.dtype[Any]]] = set()
    for call in calls:
        call.program.lower(*call.args, **call.scalars).compile()
        shapes = [leaf for leaf in jax.tree.leaves(call.args) if isinstance(leaf, jax.ShapeDtypeStruct)]
        handed_over |= {(one.shape, one.dtype) for one in shapes if one.dtype in (i32, u32)}
    for shape, dtype in handed_over:
        # `jnp.asarray` runs a little program of its own for each shape.
        jnp.asarray(np.zeros(shape, dtype))
    # So does what makes a key, and one of another.
    jax.random.fold_in(jax.random.key(np.uint32(0), impl="threefry2x32"), 0)
