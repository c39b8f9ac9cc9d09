"""The geometry of the picture: ways that are shortest, points that keep their distance from the centre."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc.cli.disk import axes_of, centers, geodesics, to_disk


def in_ball(seed: int, n: int, d: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    points = draw.normal(size=(n, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True) * draw.uniform(0, 0.996, size=(n, 1))


def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Hyperbolic, along the last axis."""
    gap = ((x - y) ** 2).sum(axis=-1) / ((1 - (x**2).sum(axis=-1)) * (1 - (y**2).sum(axis=-1)))
    return 2 * np.arcsinh(np.sqrt(gap))


@given(st.integers(0, 1 << 30))
@settings(max_examples=30, deadline=None)
def test_ways_are_arcs_that_meet_the_rim_at_right_angles(seed: int) -> None:
    u, v = in_ball(seed, 50, 2), in_ball(seed + 1, 50, 2)
    center = centers(u, v)
    curved = np.isfinite(center[:, 0])
    assert curved.sum() > 40
    radius = np.linalg.norm(u - center, axis=1)
    # Circles cross at right angles where the squares of their radii add up to that of the distance of their centres.
    np.testing.assert_allclose((center[curved] ** 2).sum(axis=1), 1 + radius[curved] ** 2, rtol=1e-6)
    ways = geodesics(u, v, 25)
    on = np.linalg.norm(ways - center[:, None], axis=2)
    np.testing.assert_allclose(on[curved], np.broadcast_to(radius[:, None], on.shape)[curved], rtol=1e-6)


@given(st.integers(0, 1 << 30))
@settings(max_examples=30, deadline=None)
def test_a_way_begins_and_ends_where_it_should_and_is_the_shortest(seed: int) -> None:
    u, v = in_ball(seed, 30, 2), in_ball(seed + 1, 30, 2)
    ways = geodesics(u, v, 200)
    np.testing.assert_array_equal(ways[:, 0], u)
    np.testing.assert_array_equal(ways[:, -1], v)
    assert (np.linalg.norm(ways, axis=2) < 1).all()
    along = distance(ways[:, :-1], ways[:, 1:]).sum(axis=1)
    np.testing.assert_allclose(along, distance(u, v), rtol=2e-3)


def test_a_way_through_the_centre_is_straight() -> None:
    u, v = np.array([[0.3, 0.6], [0.0, 0.0], [0.2, 0.1]]), np.array([[-0.2, -0.4], [0.5, 0.1], [0.2, 0.1]])
    assert not np.isfinite(centers(u, v)).any()
    ways = geodesics(u, v, 3)
    np.testing.assert_allclose(ways[:, 1], (u + v) / 2)


def test_a_way_worked_out_by_hand() -> None:
    # On the circle about (5/4, 0) with radius 3/4, which crosses the rim at (4/5, +-3/5).
    u, v = np.array([[1.25 - 0.75 * 0.8, 0.45]]), np.array([[1.25 - 0.75 * 0.8, -0.45]])
    np.testing.assert_allclose(centers(u, v), [[1.25, 0.0]])
    np.testing.assert_allclose(geodesics(u, v, 3)[0, 1], [0.5, 0.0], atol=1e-12)


@given(st.integers(0, 1 << 30), st.integers(1, 16))
@settings(max_examples=40, deadline=None)
def test_each_point_keeps_its_distance_from_the_centre(seed: int, d: int) -> None:
    points = in_ball(seed, 20, d)
    points[3] = 0
    flat = to_disk(points, axes_of(points))
    assert flat.shape == (20, 2)
    np.testing.assert_allclose(np.linalg.norm(flat, axis=1), np.linalg.norm(points, axis=1), atol=1e-12)


def test_two_dimensions_stay_as_they_are() -> None:
    points = in_ball(5, 20, 2)
    np.testing.assert_allclose(to_disk(points, axes_of(points)), points)


@pytest.mark.parametrize("turned", [False, True])
def test_the_axes_are_those_along_which_most_points_lie(turned: bool) -> None:
    points = in_ball(6, 300, 5) * np.array([0.05, 0.9, 0.05, 0.5, 0.05])
    axes = axes_of(-points if turned else points)
    np.testing.assert_allclose(np.abs(axes[[1, 3], [0, 1]]), 1, atol=0.02)
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-12)
    # Turning every point about the centre turns nothing of the axes: the sign of an axis is not left to chance.
    np.testing.assert_allclose(axes, axes_of(points), atol=1e-9)
