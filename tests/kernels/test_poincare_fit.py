import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import poincare, poincare_fit
from kernels.arrays import BallFit
from kernels.ball_walks import distances_from, nearest_points, walk_on
from kernels.compile_ahead import Call, ball_walk_calls, compile_ahead, fit_calls
from kernels.padding import capacity, pad_column
from kernels.poincare import LIMIT, distance
from kernels.poincare_fit import GROUP, fit_begin, fit_block

N, R, P, D, FIXED = 256, GROUP, 4, 3, 8
# Shapes that no other test uses, so that nothing is compiled yet.
AHEAD = (
    *fit_calls(nodes=768, dimension=D, rows=2 * GROUP, links=P, fixed=FIXED, around=7),
    *ball_walk_calls(nodes=768, dimension=D, walks=24, anchors=96, around=7, nearest=5),
)


def begun(count: int, nodes: int = N) -> BallFit:
    points = np.zeros((nodes, D), np.float32)
    points[:count] = np.random.default_rng(2).normal(size=(count, D)) * 0.05
    return fit_begin(jax.device_put(points))


def step(state: BallFit, links: dict[int, list[int]], *, turn=0, fixed=(), pull=0.0, degrees=None):
    """One step for these rows and what each is linked to; fixed: rivals of all of them."""
    degree = {row: len(others) for row, others in links.items()} | (degrees or {})
    rows = pad_column(np.array(list(links), np.int32), N, size=R)
    linked, weight, mutual = np.full((R, P), N, np.int32), *np.zeros((2, R, P), np.float32)
    for place, (row, others) in enumerate(links.items()):
        linked[place, : len(others)], weight[place, : len(others)] = others, 1.0
        mutual[place, : len(others)] = [degree[row] / degree.get(other, np.inf) for other in others]
    stays = np.full((R, FIXED), N, np.int32)
    stays[:, : len(fixed)] = fixed
    columns = (rows, linked, weight, mutual, stays, np.ones(R, np.float32))
    sizes = {"all_moving": len(links), "all_fixed": len(fixed)}
    return fit_block(
        state, *(jax.device_put(column) for column in columns), turn=turn, **sizes, learning_rate=0.1, pull=pull
    )


# Ten pairs.
PAIRS = {row: [row ^ 1] for row in range(20)}


def test_what_is_linked_comes_near_and_the_rest_goes_apart():
    state = begun(20)
    losses = []
    for turn in range(60):
        state, info = step(state, PAIRS, turn=turn)
        losses.append(float(info.loss))
        assert bool(info.finite)
        assert int(info.rows) == 20
    assert losses[-1] < 0.2 * losses[0]
    points = np.asarray(state.points)[:20]
    apart = np.asarray(distance(points[:, None], points[None])) + np.eye(20) * 99
    assert (apart.argmin(axis=1) == np.arange(20) ^ 1).all()
    assert np.linalg.norm(points, axis=1).max() <= LIMIT + 1e-6


def test_only_the_rows_of_the_block_move():
    before = np.asarray(begun(20).points)
    state, info = step(begun(20), {3: [4, 7], 9: [4]})
    after = np.asarray(state.points)
    assert int(info.rows) == 2
    assert np.flatnonzero((after != before).any(axis=1)).tolist() == [3, 9]


def test_the_same_steps_give_the_same_points_whatever_the_order_of_the_rows():
    runs = []
    for links in (PAIRS, PAIRS, dict(reversed(PAIRS.items()))):
        state = begun(20)
        for turn in range(3):
            state, _ = step(state, links, turn=turn)
        runs.append(np.asarray(state.points))
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_allclose(runs[0], runs[2], atol=1e-5)


@jax.jit
def loss_of_two_pairs(free: jax.Array) -> jax.Array:
    """For rows 0 to 3, of which 0 and 1, 2 and 3 are linked: each has two rivals, who stand for four."""
    x = poincare.to_ball(free)
    apart = poincare_fit.SHARP * poincare.distance(x[:, None], x[None])
    rivals = jnp.array([[2, 3], [2, 3], [0, 1], [0, 1]])
    pushed = jax.nn.logsumexp(jnp.log(2.0) - jnp.take_along_axis(apart, rivals, axis=1), axis=1)
    return jax.nn.softplus(pushed + apart[jnp.arange(4), jnp.arange(4) ^ 1]).sum()


def test_a_step_goes_down_the_slope_of_the_whole_loss():
    # A rectangle, so that both ends of each pair have as great a loss.
    corners = np.array([[0.2, 0.3, 0.0], [-0.2, 0.3, 0.0], [0.2, -0.3, 0.0], [-0.2, -0.3, 0.0]], np.float32)
    points = np.zeros((N, D), np.float32)
    points[:4] = corners
    state = fit_begin(jax.device_put(points))
    free = np.asarray(state.free)[:4]
    state, info = step(state, {row: [row ^ 1] for row in range(4)})
    assert float(info.loss) == pytest.approx(float(loss_of_two_pairs(free)), rel=1e-5)
    # After one step the mean of slopes that Adam keeps is a tenth of the first one.
    slope = np.asarray(state.adam[0].mu)[:4] / 0.1
    np.testing.assert_allclose(slope, jax.grad(loss_of_two_pairs)(free), rtol=1e-4, atol=1e-5)


def test_what_is_linked_to_one_only_lies_around_it_and_not_upon_it():
    # The first has more links than one step can look at.
    star = {0: [1, 2, 3, 4], **{row: [0] for row in range(1, 20)}}
    state = begun(20)
    for turn in range(60):
        state, _ = step(state, star, turn=turn, degrees={0: 19})
    radius = np.linalg.norm(np.asarray(state.points)[:20], axis=1)
    assert radius[0] < 0.4
    assert radius[1:].min() > 0.7


def test_rows_keep_away_from_rivals_that_do_not_move():
    state = begun(20)
    before = np.asarray(state.points)
    for turn in range(30):
        state, _ = step(state, {0: [1], 1: [0]}, turn=turn, fixed=range(10, 18))
    after = np.asarray(state.points)
    np.testing.assert_array_equal(after[2:], before[2:])
    apart = np.asarray(distance(after[:2, None], after[None, 10:18]))
    assert apart.min() > 2 * float(distance(after[0], after[1]))


def test_a_row_that_has_no_link_counts_for_no_loss_and_stays_a_number():
    state, info = step(begun(20), {3: [], 5: [6]}, pull=0.1)
    assert int(info.rows) == 1
    assert bool(info.finite)
    assert np.isfinite(np.asarray(state.points)).all()


def test_two_rows_that_have_only_each_other_stay_numbers():
    state, info = step(begun(2), {0: [1], 1: [0]})
    assert np.isfinite(np.asarray(state.points)).all()
    assert np.isfinite(float(info.loss))


def test_rows_at_one_point_have_a_slope():
    state = fit_begin(jnp.zeros((N, D)))
    for turn in range(2):
        state, info = step(state, PAIRS, turn=turn)
        assert bool(info.finite)
    assert np.isfinite(np.asarray(state.points)).all()


def test_a_number_that_is_none_is_told():
    points = np.zeros((N, D), np.float32)
    points[4] = np.nan
    _, info = step(fit_begin(jax.device_put(points)), {3: [4]})
    assert not bool(info.finite)


def test_pull_brings_rows_nearer_the_centre():
    radii = []
    for pull in (0.0, 1.0):
        state = begun(20)
        for turn in range(40):
            state, _ = step(state, PAIRS, turn=turn, pull=pull)
        radii.append(np.linalg.norm(np.asarray(state.points)[:20], axis=1).mean())
    assert radii[1] < radii[0] - 0.05


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """The names of what JAX traces or compiles from here on."""
    seen: list[str] = []

    def listen(event: str, _: float, **labels: str | int) -> None:
        if event in ("/jax/core/compile/backend_compile_duration", "/jax/core/compile/jaxpr_trace_duration"):
            seen.append(re.sub(r"jit\((.*)\)", r"\1", str(labels["fun_name"])))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def dreamt(rows: int) -> None:
    """One call of each kernel, as the dreamer makes it, for so many memories."""
    nodes = capacity(rows)
    key = jax.random.fold_in(jax.random.key(np.uint32(1), impl="threefry2x32"), np.uint32(2))
    state = fit_begin(jax.device_put(np.zeros((nodes, D), np.float32)))
    size = 2 * GROUP
    share = np.zeros((size, P), np.float32)
    columns = (
        np.full(size, nodes, np.int32),
        np.full((size, P), nodes, np.int32),
        *(share, share),
        np.full((size, FIXED), nodes, np.int32),
        np.zeros(size, np.float32),
    )
    for turn in range(2):
        placed = [jax.device_put(column) for column in columns]
        rate = 0.1 / (turn + 1)
        state, info = fit_block(
            state, *placed, turn=turn, all_moving=rows, all_fixed=turn, learning_rate=rate, pull=0.1
        )
        assert info.finite
    here, there = jax.device_put(np.zeros((7, D), np.float32)), jax.device_put(np.ones(nodes, np.bool_))
    distances_from(here, state.points, there)
    nearest_points(here, state.points, there, count=5)
    walks, anchors = jax.device_put(np.zeros((24, D), np.float32)), jax.device_put(np.zeros((96, D), np.float32))
    walk_on(key, walks, anchors, jax.device_put(np.ones(96, np.float32)), step=0.2, bias=0.5, bandwidth=0.5)


def test_what_was_compiled_ahead_compiles_nothing_later_whatever_number_of_rows_there_is(compiled):
    compile_ahead(AHEAD)
    assert {call.name for call in AHEAD} <= set(compiled)
    compiled.clear()
    dreamt(600)
    dreamt(700)
    assert compiled == []


@pytest.mark.parametrize("call", AHEAD, ids=lambda call: call.name)
def test_a_kernel_lowers_for_a_gpu_without_a_scatter_that_adds_up(call: Call):
    exported = jax.export.export(call.program, platforms=["cuda"])(*call.args, **call.scalars)
    scatters = re.findall(r'"stablehlo\.scatter"\(.*?\}\) :', exported.mlir_module(), flags=re.DOTALL)
    # Points and their logarithms, and the two means that Adam keeps: each row is set once.
    assert len(scatters) == (4 if call.name == "fit_block" else 0)
    assert not any(re.search(r"stablehlo\.(add|multiply|subtract) ", scatter) for scatter in scatters)
