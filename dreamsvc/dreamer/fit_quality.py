"""How well points in the Poincare ball tell what is linked: mean average precision.

n: rows. d: numbers of a point. N: capacity for rows.
"""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

import jax
import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.merging import Pairs, Rows, Search, Step
from kernels.ball_walks import distances_from
from kernels.padding import capacity

# Rows that are judged: at most this, and so many that this many distances are computed.
SAMPLE, DISTANCES = 500, 20_000_000
LEAST_SAMPLE = 100
# With more links than this it is quicker to sort all distances than to count for each.
COUNTED = 64


def sample_of(linked: Rows, n: int, rng: np.random.Generator) -> Rows:
    """Rows that stand for all that are linked, ascending."""
    size = min(len(linked), SAMPLE, max(LEAST_SAMPLE, DISTANCES // max(1, n)))
    return np.sort(rng.choice(linked, size, replace=False))


def average_precision(
    points: NDArray[np.float32], there: NDArray[np.bool_], pairs: Pairs, sample: Rows, *, around: int
) -> Search[float]:
    """Mean over the sample of the precision at each linked row, when all rows are ranked by distance; 0..1.

    points: f32[n, d]; there: [n], which of them are. sample: rows with links. Of two rows that are equally far away the
    one that is not linked comes first, so that points that are all one are worth nothing.
    """
    n = len(points)
    room = np.zeros((capacity(n), points.shape[1]), np.float32)
    room[:n] = np.where(there[:, None], points, 0.0)
    known = np.zeros(len(room), np.bool_)
    known[:n] = there
    table, mask = jax.device_put(room), jax.device_put(known)
    total = 0.0
    yield Step("quality of positions", 0, len(sample))
    for start in range(0, len(sample), around):
        rows = sample[start : start + around]
        centres = np.zeros((around, points.shape[1]), np.float32)
        centres[: len(rows)] = points[rows]
        apart = np.asarray(distances_from(jax.device_put(centres), table, mask))
        yield Step("quality of positions", start, len(sample))
        for row, distances in zip(rows.tolist(), apart, strict=False):
            links = pairs.neighbour[pairs.indptr[row] : pairs.indptr[row + 1]]
            total += _precision(distances, row, links)
            yield Step("quality of positions", start, len(sample))
    return total / max(1, len(sample))


def _precision(distances: NDArray[np.float32], row: int, links: Rows) -> float:
    """Mean over the links of the share of links among what is as near as that one."""
    near = np.sort(distances[links])
    if len(near) > COUNTED:
        ranks = np.searchsorted(np.sort(distances), near, side="right")
    else:
        ranks = np.array([np.count_nonzero(distances <= one) for one in near])
    # The row itself is as near as can be, and no find.
    ranks = np.maximum(ranks - (distances[row] <= near), 1)
    return float(np.mean(np.arange(1, len(near) + 1) / np.maximum(ranks, np.arange(1, len(near) + 1))))
