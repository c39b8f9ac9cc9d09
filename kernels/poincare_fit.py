"""Points in the Poincare ball that tell what is linked, by a ranking loss and optax (REQ-DREAM-010).

What a row is linked to shall lie nearer than its rivals, all that it is not linked to (Nickel, Kiela 2017). Both ends
of a pair feel its loss. Rows that move together are each other's rivals in groups, where a sum over rows and one over
columns are all there is. What a row is linked to may be anywhere and stands still meanwhile; its loss is felt as if it
were as great as the row's own. So nothing is scattered or added up in an order that a GPU does not keep, and the same
seed gives the same points on the same kind of device. Between kinds they differ: these round `tanh` and `asinh`
differently.

N: capacity for rows. R: rows of a block. P: links of a row that a step looks at. S: rivals of a row that do not move.
d: numbers of a point.
"""

# optax has no types of its own, and JAX leaves some out.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from kernels.arrays import BallFit, FitInfo
from kernels.poincare import RADIUS, distance, length, project, to_ball, to_free
from kernels.program import program

# What a distance counts in the ranking. At 1 a ball of radius 6.2 has no room for thousands of rivals, and all is
# pressed to its edge; on trees and on communities 3 ranks best.
SHARP = 3.0
# Rows of a block that are compared with each other.
GROUP = 64
# The logarithm of a rival that is always there, so that a row without others has a loss.
NO_RIVAL = -80.0


@program(static=(), donated=())
def fit_begin(points: jax.Array) -> BallFit:
    """The state before the first step; points: f32[N, d], 0 for rows that are not there."""
    free = to_free(points)
    return BallFit(free, project(points), optax.adam(0.0).init(free))


@program(static=(), donated=("state",))
def fit_block(
    state: BallFit,
    rows: jax.Array,
    linked: jax.Array,
    strength: jax.Array,
    mutual: jax.Array,
    fixed: jax.Array,
    standing: jax.Array,
    *,
    turn: int | jax.Array,
    all_moving: int | jax.Array,
    all_fixed: int | jax.Array,
    learning_rate: float | jax.Array,
    pull: float | jax.Array,
) -> tuple[BallFit, FitInfo]:
    """One step of Adam for a block of rows.

    rows: i32[R], each once, N in the empty places; R is a multiple of GROUP, and the rows of a group are each other's
    rivals. linked: i32[R, P], N for none, and strength f32[R, P], 0 for none; mutual: f32[R, P], how many
    times as much of its loss the other end has in the pair. fixed: i32[R, S], rivals of each row among those that do
    not move, N for none. What is linked is no rival. standing: f32[R], 0..1, how strongly each is
    drawn to the centre: `pull` times its distance from it is part of the loss. turn: steps that these rows have made
    before. all_moving, all_fixed: rows of either kind, for which those compared with stand.
    """
    nodes = state.points.shape[0]
    at = partial(_rows_of, state.points)
    near_by, far_off = at(linked), at(fixed)
    rival = _rivals(rows, linked, nodes)
    stays = (fixed < nodes) & (fixed[:, :, None] != linked[:, None, :]).all(axis=2)
    shares = jnp.concatenate([_share(rival, all_moving), _share(stays, all_fixed)], axis=1)
    compared = jnp.concatenate([rival, stays], axis=1)

    def loss_of(free: jax.Array) -> tuple[jax.Array, jax.Array]:
        points = to_ball(free)
        groups = points.reshape(-1, GROUP, points.shape[1])
        inside = distance(groups[:, :, None], groups[:, None]).reshape(-1, GROUP)
        apart = jnp.concatenate([inside, distance(points[:, None], far_off)], axis=1)
        far = jnp.logaddexp(jax.nn.logsumexp(shares - SHARP * apart, axis=1, where=compared), NO_RIVAL)
        near = distance(points[:, None], near_by)
        # The same number; this end moves for the loss of the other end too.
        near += mutual * (near - jax.lax.stop_gradient(near))
        ranking = jax.nn.softplus(far[:, None] + SHARP * near)
        each = (strength * ranking).sum(axis=1) / jnp.maximum(strength.sum(axis=1), 1e-6)
        return (each + pull * standing * length(free)).sum(), each

    moving = _rows_of(state.free, rows)
    slope, each = jax.grad(loss_of, has_aux=True)(moving)
    # Adam counts its own steps; a row's are those of its block.
    held = jax.tree.map(partial(_held, rows=rows, turn=turn), state.adam)
    change, held = optax.adam(learning_rate).update(slope, held, moving)
    moved = cast("jax.Array", optax.apply_updates(moving, change))
    moved = moved * jnp.minimum(1.0, RADIUS / length(moved))[:, None]

    def put(whole: Any, part: Any) -> Any:
        return whole.at[rows].set(part, mode="drop") if whole.ndim else part

    counted = (rows < nodes) & (strength.sum(axis=1) > 0.0)
    info = FitInfo(
        loss=jnp.where(counted, each, 0.0).sum(),
        rows=counted.sum(dtype=jnp.int32),
        finite=jnp.isfinite(jnp.where((rows < nodes)[:, None], moved, 0.0)).all(),
    )
    after = BallFit(put(state.free, moved), put(state.points, to_ball(moved)), jax.tree.map(put, state.adam, held))
    return after, info


def _rivals(rows: jax.Array, linked: jax.Array, nodes: int) -> jax.Array:
    """Which rows of its group are rivals of each, bool[R, GROUP]: those that neither is linked to the other."""
    groups = rows.reshape(-1, 1, GROUP)
    joined = (linked.reshape(-1, GROUP, 1, linked.shape[1]) == groups[..., None]).any(axis=3)
    there = (groups < nodes) & (groups != groups.transpose(0, 2, 1))
    # A row with more links than it could be given is known to those that have fewer.
    return (there & ~joined & ~joined.transpose(0, 2, 1)).reshape(-1, GROUP)


def _share(compared: jax.Array, all_: int | jax.Array) -> jax.Array:
    """The logarithm of how many rows each stands for, f32 like `compared`."""
    count = jnp.maximum(compared.sum(axis=1, keepdims=True), 1)
    return jnp.broadcast_to(jnp.log(jnp.maximum(all_, 1) / count), compared.shape)


def _held(leaf: jax.Array, *, rows: jax.Array, turn: int | jax.Array) -> jax.Array:
    """What Adam knows of these rows, and in place of its count how often they moved."""
    return _rows_of(leaf, rows) if leaf.ndim else jnp.asarray(turn, leaf.dtype)


def _rows_of(table: jax.Array, rows: jax.Array) -> jax.Array:
    """These rows of it, zero for those past its end; nothing is learned through them."""
    return jax.lax.stop_gradient(table.at[rows].get(mode="fill", fill_value=0))
