"""SRC: sparse, random, clustered activation, the walk of the sleeping mind through the graph (REQ-DREAM-014)."""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp

from kernels.activation import quantise
from kernels.arrays import Graph, SrcInfo, SrcState
from kernels.draws import below, chance, words
from kernels.program import program

# How often a place looks for a waking node before it takes a random one; with 5 % awake it finds one in 19 % of cases.
TRIES = 4


class Rates(NamedTuple):
    """The scalars of a step, as `src_chunk` explains them; each f32[]."""

    sparsity: float | jax.Array
    randomness: float | jax.Array
    clustering: float | jax.Array
    decay_rate: float | jax.Array
    amplitude: float | jax.Array
    floor: float | jax.Array


class Candidates(NamedTuple):
    """The nodes a step wakes; S places, those past the step's number are empty."""

    row: jax.Array  # i32[S], N where empty
    level: jax.Array  # f32[S], the activation the node is offered
    followed: jax.Array  # bool[S], reached through an edge
    inside: jax.Array  # bool[S], reached through an edge, and awake already


def choose(key: jax.Array, awake: jax.Array, graph: Graph, weight: jax.Array, rates: Rates, slots: int) -> Candidates:
    """Fills the places of one step; awake: f32[N] after decay, weight: f32[E]."""
    nodes = awake.shape[0]
    explore, follow, pick, anywhere, *seek = words(key, slots, 4 + TRIES)

    tried = graph.alive_rows[below(jnp.stack(seek, axis=1), graph.alive_count)]
    found = awake.at[tried].get(mode="fill", fill_value=0.0) > rates.floor
    origin = jnp.take_along_axis(tried, found.argmax(axis=1, keepdims=True), axis=1)[:, 0]
    first = graph.indptr[origin]
    degree = graph.indptr[origin + 1] - first
    place = first + below(pick, degree)
    edge = graph.via[place]

    filled = jnp.arange(slots) < jnp.round(rates.sparsity * graph.alive_count.astype(jnp.float32)).astype(jnp.int32)
    followed = filled & ~chance(explore, rates.randomness) & found.any(axis=1) & chance(follow, rates.clustering)
    # An edge pruned earlier in this dream still has its place in the adjacency.
    followed &= (degree > 0) & graph.edge_alive.at[edge].get(mode="fill", fill_value=False)

    row = jnp.where(followed, graph.neighbour[place], graph.alive_rows[below(anywhere, graph.alive_count)])
    level = jnp.where(followed, awake[origin] * weight[edge], rates.amplitude * graph.importance[row])
    return Candidates(
        row=jnp.where(filled, row, nodes),
        level=level,
        followed=followed,
        inside=followed & (awake.at[row].get(mode="fill", fill_value=0.0) > rates.floor),
    )


@program(static=("slots",), donated=("state",))
def src_chunk(
    key: jax.Array,
    state: SrcState,
    graph: Graph,
    weight: jax.Array,
    n_steps: int | jax.Array,
    *,
    sparsity: float | jax.Array,
    randomness: float | jax.Array,
    clustering: float | jax.Array,
    decay_rate: float | jax.Array,
    amplitude: float | jax.Array,
    floor: float | jax.Array,
    slots: int,
) -> tuple[SrcState, SrcInfo]:
    """Takes `n_steps` SRC steps; n chunks of one step and one chunk of n are the same dream.

    A step multiplies every activation by decay_rate, then fills round(sparsity x living nodes) places. With probability
    `randomness` a place takes a random living node. Otherwise it looks for a waking node and, finding one, follows with
    probability `clustering` one of its edges, all equally likely; failing either it takes a random node. A random node
    is woken to amplitude x importance, a neighbour to the activation it was reached from x the weight of the edge; a
    node already more awake stays so. Activation at or below `floor` (0.01 in the specification) becomes 0.

    key: one for the dream; step i draws from fold_in(key, i). weight: f32[E]. n_steps: i32[], traced, so that a chunk
    can be made to last milliseconds without compiling again. Rates: 0..1. slots: places compiled for, an upper bound to
    round(sparsity x living nodes); what is beyond it is not filled, as `SrcInfo.candidates` shows. To have edges pruned
    in this dream left alone, pass the graph with the Hebbian state's `edge_alive`.
    """
    rates = Rates(sparsity, randomness, clustering, decay_rate, amplitude, floor)

    def step(_: jax.Array, carry: tuple[SrcState, jax.Array]) -> tuple[SrcState, jax.Array]:
        now, counts = carry
        awake = now.activation * rates.decay_rate
        chosen = choose(jax.random.fold_in(key, now.step), awake, graph, weight, rates, slots)
        # A maximum, because its result does not depend on the order in which a device gets round to the places.
        woken = awake.at[chosen.row].max(chosen.level, mode="drop")
        rested = jnp.where(woken > rates.floor, woken, 0.0)
        counted = jnp.stack([chosen.row < awake.shape[0], chosen.followed, chosen.inside])
        return SrcState(rested, now.step + 1), counts + counted.sum(axis=1, dtype=jnp.int32)

    begin = (state, jnp.zeros(3, jnp.int32))
    state, counts = cast("tuple[SrcState, jax.Array]", jax.lax.fori_loop(0, n_steps, step, begin))
    living = jnp.where(graph.alive, state.activation, 0.0)
    return state, SrcInfo(
        active=(living > 0.0).sum(dtype=jnp.int32),
        activation_sum=quantise(living).sum(dtype=jnp.uint32),
        candidates=counts[0],
        traversals=counts[1],
        inside=counts[2],
    )
