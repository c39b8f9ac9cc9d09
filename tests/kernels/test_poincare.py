import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import poincare
from kernels.ball_walks import distances_from, nearest_points, walk_on
from kernels.poincare import LIMIT, RADIUS

# One program instead of one for each of their operations.
distance, exp_step, log_direction = (
    jax.jit(kernel) for kernel in (poincare.distance, poincare.exp_step, poincare.log_direction)
)
mobius_add, project, to_ball, to_free = (
    jax.jit(kernel) for kernel in (poincare.mobius_add, poincare.project, poincare.to_ball, poincare.to_free)
)
sparse_direction = jax.jit(poincare.sparse_direction)

SEEDS = st.integers(0, 2**32 - 1)


def in_ball(seed: int, count: int, d: int = 5) -> np.ndarray:
    """Points at every distance from the centre, many of them at the very edge."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal((count, d))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = np.minimum(np.tanh(rng.uniform(0, RADIUS + 1, count) / 2), LIMIT)
    return (direction * radius[:, None]).astype(np.float32)


def directions(seed: int, count: int, d: int = 5) -> np.ndarray:
    drawn = np.random.default_rng([seed, 1]).standard_normal((count, d))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def exact_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """By acosh in double precision, another formula than the kernel's."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    room = (1 - (x**2).sum(-1)) * (1 - (y**2).sum(-1))
    return np.arccosh(1 + 2 * ((x - y) ** 2).sum(-1) / room)


def test_known_distances_in_the_disk():
    x = jnp.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.0]])
    y = jnp.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.0]])
    assert distance(x, y) == pytest.approx([np.log(3), 2 * np.log(3), 0.0], abs=1e-6)


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_distances_agree_with_double_precision_up_to_the_edge(seed):
    x, y = in_ball(seed, 200), in_ball(seed + 1, 200)
    np.testing.assert_allclose(distance(x, y), exact_distance(x, y), rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_no_detour_is_shorter_and_the_way_back_is_as_long(seed):
    x, y, z = (jnp.asarray(in_ball(seed + i, 200)) for i in range(3))
    assert (np.asarray(distance(x, z)) <= np.asarray(distance(x, y) + distance(y, z)) + 2e-3).all()
    np.testing.assert_array_equal(distance(x, y), distance(y, x))


def test_what_is_projected_is_in_the_ball_and_what_was_there_stays():
    points = jnp.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    assert np.asarray(project(points)) == pytest.approx(np.array([[0.6 * LIMIT, 0.8 * LIMIT], [0.3, 0.4], [0, 0]]))


def test_adding_the_opposite_leads_to_the_centre_and_the_centre_adds_nothing():
    x = jnp.asarray(in_ball(3, 50))
    assert np.abs(mobius_add(-x, x)).max() < 1e-3
    np.testing.assert_allclose(mobius_add(jnp.zeros_like(x), x), x, rtol=1e-6)


def test_a_free_vector_is_as_long_as_its_point_is_far_from_the_centre():
    free = jnp.array([[0.3, -0.4], [3.0, 4.0], [0.0, 0.0], [60.0, 0.0]])
    points = to_ball(free)
    assert distance(jnp.zeros_like(points), points) == pytest.approx([0.5, 5.0, 0.0, RADIUS], abs=1e-3)
    assert np.asarray(to_free(points))[:3] == pytest.approx(np.asarray(free)[:3], abs=1e-3)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(0.01, 5.0))
def test_a_step_has_its_length_and_stays_in_the_ball(seed, step):
    x, direction = in_ball(seed, 100), directions(seed, 100)
    # Straight out of the ball, straight in, and along its edge.
    direction[:10] = x[:10] / np.linalg.norm(x[:10], axis=1, keepdims=True)
    direction[10:20] = -x[10:20] / np.linalg.norm(x[10:20], axis=1, keepdims=True)
    after = np.asarray(exp_step(jnp.asarray(x), jnp.asarray(direction), step))
    assert np.linalg.norm(after, axis=1).max() <= LIMIT + 1e-6
    np.testing.assert_allclose(exact_distance(x, after), step, rtol=2e-3, atol=2e-4)


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_the_direction_to_a_point_and_its_distance_lead_there(seed):
    x, y = jnp.asarray(in_ball(seed, 100) * np.float32(0.9)), jnp.asarray(in_ball(seed + 1, 100) * np.float32(0.9))
    arrived = exp_step(x, log_direction(x, y), distance(x, y)[:, None])
    assert exact_distance(np.asarray(arrived), np.asarray(y)).max() < 2e-3


def test_the_sparse_direction_is_away_from_the_only_anchor():
    x, anchor = jnp.array([[0.2, 0.1]]), jnp.array([[0.6, -0.3], [0.0, 0.9]])
    away = sparse_direction(x, anchor, jnp.array([1.0, 0.0]), bandwidth=0.5)
    assert np.asarray(away) == pytest.approx(-np.asarray(log_direction(x, anchor[:1])), abs=1e-5)


def test_the_sparse_direction_is_that_in_which_the_density_falls_fastest():
    x, anchors = in_ball(5, 20)[:, :3] * 0.8, in_ball(6, 300, 3) * np.float32(0.7)
    x, bandwidth, little = np.ascontiguousarray(x), 0.7, 1e-4
    found = np.asarray(sparse_direction(jnp.asarray(x), jnp.asarray(anchors), jnp.ones(300), bandwidth=bandwidth))
    slope = np.empty_like(x, np.float64)
    for axis in range(3):
        shift = np.eye(3)[axis] * little
        # A logarithm does not change where it falls fastest, and keeps far kernels above 0.
        above, below = (
            np.log(np.exp(-(exact_distance(at[:, None], anchors[None]) ** 2) / (2 * bandwidth**2)).sum(axis=1))
            for at in (x.astype(np.float64) + shift, x.astype(np.float64) - shift)
        )
        slope[:, axis] = above - below
    # Angles in the ball are those of the space around it.
    expected = -slope / np.linalg.norm(slope, axis=1, keepdims=True)
    assert (found * expected).sum(axis=1).min() > 0.999


def test_equal_densities_all_around_give_no_direction_and_far_ones_still_do():
    around = jnp.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
    x = jnp.array([[0.0, 0.0]])
    assert np.abs(sparse_direction(x, around, jnp.ones(4), bandwidth=0.5)).max() < 1e-3
    far = sparse_direction(jnp.array([[-0.99, 0.0]]), jnp.array([[0.99, 0.0]]), jnp.ones(1), bandwidth=0.01)
    assert np.asarray(far)[0] == pytest.approx([-1.0, 0.0], abs=1e-4)


def test_a_walk_without_chance_leaves_the_crowd_and_one_of_chance_goes_anywhere():
    crowd = jnp.asarray(in_ball(1, 500)) * 0.2 + jnp.array([0.3, 0, 0, 0, 0])
    x = jnp.tile(jnp.array([[0.4, 0.0, 0.0, 0.0, 0.0]]), (64, 1))
    moves = {"step": 0.3, "bandwidth": 0.5}
    away = np.asarray(walk_on(jax.random.key(0), x, crowd, jnp.ones(500), bias=0.0, **moves))
    anywhere = np.asarray(walk_on(jax.random.key(0), x, crowd, jnp.ones(500), bias=1.0, **moves))
    assert (away == away[0]).all()
    assert away[0, 0] > 0.4
    assert 10 < (anywhere[:, 0] > 0.4).sum() < 54
    for after in (away, anywhere):
        np.testing.assert_allclose(exact_distance(np.asarray(x), after), 0.3, rtol=1e-3)
    assert (np.asarray(walk_on(jax.random.key(1), x, crowd, jnp.ones(500), bias=1.0, **moves)) != anywhere).any()


def test_a_walk_where_there_is_no_direction_goes_by_chance():
    x, anchors = jnp.zeros((64, 5)), jnp.zeros((500, 5))
    after = np.asarray(walk_on(jax.random.key(0), x, anchors, jnp.ones(500), step=0.3, bias=0.0, bandwidth=0.5))
    np.testing.assert_allclose(exact_distance(np.zeros((64, 5)), after), 0.3, rtol=1e-3)


@settings(deadline=None, max_examples=15)
@given(SEEDS)
def test_the_nearest_are_those_of_a_plain_search(seed):
    points, x = in_ball(seed, 1024), in_ball(seed + 1, 3)
    there = np.random.default_rng(seed).random(1024) < 0.7
    apart, rows = nearest_points(jnp.asarray(x), jnp.asarray(points), jnp.asarray(there), count=8)
    every = np.asarray(distances_from(jnp.asarray(x), jnp.asarray(points), jnp.asarray(there)))
    assert np.isinf(every[:, ~there]).all()
    np.testing.assert_allclose(every[:, there], exact_distance(x[:, None], points[None, there]), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(apart, np.sort(every, axis=1)[:, :8])
    np.testing.assert_array_equal(np.take_along_axis(every, np.asarray(rows), axis=1), apart)


def test_where_there_are_fewer_points_than_asked_for_the_rest_is_none():
    points, there = in_ball(1, 256), np.arange(256) == 70
    apart, rows = nearest_points(jnp.asarray(points[:1]), jnp.asarray(points), jnp.asarray(there), count=3)
    assert np.asarray(rows).tolist() == [[70, 256, 256]]
    assert np.isinf(np.asarray(apart)[0, 1:]).all()
