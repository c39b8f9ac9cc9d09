"""The Poincare disk: points of the ball brought to it, and the shortest ways between them."""

import numpy as np
from numpy.typing import NDArray

type Array = NDArray[np.float64]

# Nearer to the rim than this, arc hyperbolic tangents are not worth their digits.
_RIM = 1 - 1e-9
# Twice the area of the triangle with the centre below which a way is drawn straight: its circle would be as large as
# the numbers are exact.
_STRAIGHT = 1e-6


def axes_of(points: Array) -> Array:
    """The two directions in which most points spread, [d, 2]; points: [n, d] in the ball.

    Principal components of the tangent vectors at the origin, 2 artanh(|x|) x / |x|, about the origin itself, so that
    it stays the centre. In two dimensions the axes stay as they are.
    """
    _, d = points.shape
    if d <= 2:
        return np.eye(d, 2)
    radii = np.linalg.norm(points, axis=1, keepdims=True)
    tangents = points * (2 * np.arctanh(np.minimum(radii, _RIM)) / np.maximum(radii, 1e-12))
    _, vectors = np.linalg.eigh(tangents.T @ tangents)
    axes = vectors[:, :-3:-1]
    # An eigenvector is one up to its sign.
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    return axes * signs


def to_disk(points: Array, axes: Array) -> Array:
    """Points [..., d] in the disk, [..., 2], each as far from the centre as in the ball."""
    flat = points @ axes
    lengths = np.linalg.norm(flat, axis=-1, keepdims=True)
    radii = np.linalg.norm(points, axis=-1, keepdims=True)
    # What lies across both axes has no direction of its own there.
    flat = np.where(lengths > 1e-12, flat / np.maximum(lengths, 1e-12), np.array([1.0, 0.0]))
    return flat * radii


def centers(starts: Array, ends: Array) -> Array:
    """Centres [m, 2] of the circles through pairs of points that meet the rim at right angles; NaN for straight ways.

    Such a circle has its centre c where |c|^2 = 1 + r^2, so that c.u = (1 + |u|^2) / 2 for each point u on it.
    """
    twice_area = starts[:, 0] * ends[:, 1] - starts[:, 1] * ends[:, 0]
    straight = np.abs(twice_area) < _STRAIGHT
    a = (1 + (starts**2).sum(axis=1)) / 2
    b = (1 + (ends**2).sum(axis=1)) / 2
    across = np.stack([a * ends[:, 1] - b * starts[:, 1], b * starts[:, 0] - a * ends[:, 0]], axis=1)
    return np.where(straight[:, None], np.nan, across / np.where(straight, 1.0, twice_area)[:, None])


def geodesics(starts: Array, ends: Array, count: int) -> Array:
    """The shortest ways between pairs of points, [m, count, 2], ends included."""
    share = np.linspace(0.0, 1.0, count)[None, :, None]
    ways = starts[:, None] * (1 - share) + ends[:, None] * share
    center = centers(starts, ends)
    curved = np.isfinite(center[:, 0])
    if not curved.any():
        return ways
    center, u, v = center[curved], starts[curved], ends[curved]
    from_angle = np.arctan2(*(u - center).T[::-1])
    # The shorter side of the circle is the one inside the disk.
    turn = (np.arctan2(*(v - center).T[::-1]) - from_angle + np.pi) % (2 * np.pi) - np.pi
    angles = from_angle[:, None] + turn[:, None] * share[..., 0]
    radius = np.linalg.norm(u - center, axis=1)[:, None]
    arcs = center[:, None] + np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=2)
    # Exactly where the points are drawn.
    arcs[:, 0], arcs[:, -1] = u, v
    ways[curved] = arcs
    return ways
