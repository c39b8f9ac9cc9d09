"""What fires together wires together: the weight update of the replay (REQ-DREAM-006)."""

# optax has no types of its own, and JAX leaves some out.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from kernels.arrays import Graph, HebbianInfo, HebbianState
from kernels.program import program

# A schedule must be a `jax.tree_util.Partial`, which may cross into a compiled function; its counter starts at 0.
type Rate = float | jax.Array | jax.tree_util.Partial


def forgetting(decay_rate: float | jax.Array) -> optax.GradientTransformation:
    """Takes decay_rate x weight off each update; updates and weights must not be negative.

    The two maxima change no such number. They stand between the products and the subtraction, where a compiler would
    otherwise use a fused multiply-add on machines that have one, and the weights would depend on the machine.
    """

    def fade(update: Any, weight: Any) -> jax.Array:
        return jnp.maximum(update, 0.0) - jnp.maximum(decay_rate * weight, 0.0)

    return optax.stateless_with_tree_map(fade)


def hebbian_rule(learning_rate: Rate, decay_rate: float | jax.Array) -> optax.GradientTransformation:
    """Turns pre x post, f32[E], into the change of weight learning_rate x pre x post - decay_rate x weight."""
    return optax.chain(optax.scale_by_learning_rate(learning_rate, flip_sign=False), forgetting(decay_rate))


def hebbian_begin(weight: jax.Array, graph: Graph, *, learning_rate: Rate) -> HebbianState:
    """The state before the first update; weight: f32[E], learning_rate: of the same kind as in the updates."""
    # Copies, because the updates take over the memory of their state, and the graph is read until the dream ends.
    own = jnp.array(weight, jnp.float32)
    return HebbianState(own, graph.edge_alive.copy(), hebbian_rule(learning_rate, 0.0).init(own))


@program(static=(), donated=())
def touched_by(graph: Graph, rows: jax.Array) -> jax.Array:
    """The living edges with an end among `rows` i32[k] (N in the empty places), bool[E]."""
    replayed = jnp.zeros(graph.alive.shape, jnp.bool_).at[rows].set(True, mode="drop")
    ends = [replayed.at[end].get(mode="fill", fill_value=False) for end in (graph.src, graph.dst)]
    return graph.edge_alive & (ends[0] | ends[1])


@program(static=(), donated=("state",))
def hebbian_update(
    state: HebbianState,
    graph: Graph,
    activation: jax.Array,
    touched: jax.Array,
    *,
    learning_rate: Rate,
    decay_rate: float | jax.Array,
    floor: float | jax.Array,
    cap: float | jax.Array,
) -> tuple[HebbianState, HebbianInfo]:
    """Moves each living touched edge to clip(weight x (1 - decay_rate) + learning_rate x pre x post, floor, cap).

    An edge whose new weight, before the clip, is at or below `floor` is pruned instead: it is alive no longer and keeps
    the weight it had. activation: f32[N], 0..1. touched: bool[E]. Rates, floor and cap: 0..1.
    """
    pre, post = (activation.at[end].get(mode="fill", fill_value=0.0) for end in (graph.src, graph.dst))
    # The barrier has them gathered once; XLA would do it again for each of the results below, at twice the time.
    together = jax.lax.optimization_barrier(pre * post)
    change, opt_state = hebbian_rule(learning_rate, decay_rate).update(together, state.opt_state, state.weight)
    raw = cast("jax.Array", optax.apply_updates(state.weight, change))

    learning = touched & state.edge_alive
    pruned = learning & (raw <= floor)
    # A projection and not a link of the chain: the prune reads the weight before it, and w + (limit - w) is not always
    # the limit in floating point.
    clipped: jax.Array = optax.projections.projection_box(raw, floor, cap)
    weight = jnp.where(learning & ~pruned, clipped, state.weight)
    edges = jnp.maximum(learning.sum(dtype=jnp.int32), 1).astype(jnp.float32)
    return HebbianState(weight, state.edge_alive & ~pruned, opt_state), HebbianInfo(
        strengthened=(weight > state.weight).sum(dtype=jnp.int32),
        weakened=(weight < state.weight).sum(dtype=jnp.int32),
        pruned=pruned.sum(dtype=jnp.int32),
        mean_delta=(weight - state.weight).sum() / edges,
    )
