"""Every kernel compiled before the dream begins: a first trace in mid-dream would stall the process for a moment."""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from kernels.activation import activate, at_rest, dequantise, quantise
from kernels.arrays import Graph, HebbianState, SrcState
from kernels.hebbian import Rate, hebbian_begin, hebbian_update, touched_by
from kernels.program import Program
from kernels.sampling import sample_replay
from kernels.src import src_chunk


class Sizes(NamedTuple):
    """The shapes of a dream; all but the last two from `kernels.padding.capacity`."""

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


def calls(sizes: Sizes, *, learning_rate: Rate) -> tuple[Call, ...]:
    """The calls a dream of these sizes makes; learning_rate: of the same kind as in the dream."""

    def array(dtype: jax.typing.DTypeLike, *shape: int) -> jax.Array:
        # A shape in place of an array, as `lower` takes it; the tuples that hold it speak of arrays.
        return cast("jax.Array", jax.ShapeDtypeStruct(shape, dtype))

    f32, i32, flag = jnp.float32, jnp.int32, jnp.bool_
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
    key: jax.Array = jax.eval_shape(jax.random.key, 0)
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
        Call("dequantise", dequantise, (array(jnp.uint8, nodes),), {}),
        Call("touched_by", touched_by, (graph, array(i32, batch)), {}),
        Call("hebbian_update", hebbian_update, (learned, graph, activation, array(flag, edges)), hebbian_rates),
    )


def compile_ahead(sizes: Sizes, *, learning_rate: Rate) -> None:
    """Compiles what a dream of these sizes calls, for the default device; later calls with such shapes find it."""
    for call in calls(sizes, learning_rate=learning_rate):
        call.program.lower(*call.args, **call.scalars).compile()
