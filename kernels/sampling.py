"""Which memories are replayed: weighted sampling without replacement by Gumbel top-k (REQ-DREAM-005)."""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

import jax
import jax.numpy as jnp

from kernels.program import program


def gumbel(key: jax.Array, count: int) -> jax.Array:
    """Standard Gumbel draws, f32[count]; draw i depends on the key and i alone.

    Written out because `jax.random.gumbel` makes its largest draws, the ones that win, from 23 bits: at a million
    nodes they tie. Here the winners are those with u near 0, where a float has bits to spare.
    """
    u = (jax.random.bits(key, (count,), jnp.uint32).astype(jnp.float32) + 0.5) * 2.0**-32
    return -jnp.log(-jnp.log1p(-jnp.minimum(u, 1.0 - 2.0**-24)))


@program(static=("k",), donated=())
def sample_replay(
    key: jax.Array,
    importance: jax.Array,
    age_h: jax.Array,
    eligible: jax.Array,
    *,
    recency_bias: float | jax.Array,
    k: int,
) -> tuple[jax.Array, jax.Array]:
    """Draws up to `k` memories without replacement, each with weight importance x recency_bias^(age/24 h).

    importance: f32[N], 0 means never. age_h: f32[N], hours. eligible: bool[N]; a NaN in either column makes a node
    ineligible. recency_bias: (0, 1]. Returns rows i32[k], ascending with N in the empty places, and their number i32[].
    Ascending, because two devices may round a logarithm differently and so disagree on the order of two near-equal
    draws, though practically never on which k were drawn. Source: Kool et al. 2019, Gumbel top-k.
    """
    nodes = importance.shape[0]
    log_weight = jnp.log(importance) + age_h / 24.0 * jnp.log(recency_bias)
    possible = eligible & (importance > 0.0) & jnp.isfinite(log_weight)
    score = jnp.where(possible, log_weight + gumbel(key, nodes), -jnp.inf)
    best, rows = jax.lax.top_k(score, min(k, nodes))
    drawn = best > -jnp.inf
    rows = jnp.sort(jnp.where(drawn, rows, nodes))
    empty = jnp.full(k - rows.shape[0], nodes, jnp.int32)
    return jnp.concatenate([rows, empty]), drawn.sum(dtype=jnp.int32)
