"""How awake each memory is, and how that is written down between batches."""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

import jax
import jax.numpy as jnp

from kernels.arrays import SrcState
from kernels.program import program

# A product and not a quotient: XLA divides less exactly on a GPU than on a CPU.
UNIT = 1.0 / 255.0
# Of a level, what is passed on from batch to batch.
KEPT_BITS = 0xFE


def at_rest(nodes: int) -> SrcState:
    """The state a dream begins with, for a capacity of `nodes`."""
    return SrcState(activation=jnp.zeros(nodes, jnp.float32), step=jnp.zeros((), jnp.int32))


@program(static=(), donated=("state",))
def activate(state: SrcState, rows: jax.Array, *, level: float | jax.Array) -> SrcState:
    """Wakes replayed memories to at least `level` (0..1); rows: i32[k], N in the empty places."""
    return state._replace(activation=state.activation.at[rows].max(level, mode="drop"))


@program(static=(), donated=())
def quantise(activation: jax.Array) -> jax.Array:
    """f32[N], 0..1, as u8[N] in units of 1/255: a checkpoint of a quarter of the size."""
    return jnp.round(jnp.clip(activation, 0.0, 1.0) * 255.0).astype(jnp.uint8)


@program(static=(), donated=())
def coarse(level: jax.Array) -> jax.Array:
    """u8[N] without the lowest bit: seven bits a memory, so that a checkpoint of a million stays below a megabyte
    whatever they are."""
    return level & jnp.uint8(KEPT_BITS)


@program(static=(), donated=())
def dequantise(level: jax.Array) -> jax.Array:
    """u8[N] in units of 1/255 as f32[N], 0..1; `quantise` undoes it exactly.

    A dream passes its activation through both, and through `coarse` between them, at the end of every batch, so that
    going on and resuming from the checkpoint read the same numbers.
    """
    return level.astype(jnp.float32) * UNIT
