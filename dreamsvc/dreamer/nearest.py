"""Which rows lie nearest to each: exact for a few thousand, by cells beyond.

n: rows. D: numbers in a vector.
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dreamsvc.dreamer.merging import Edges, Rows, Search, Step, Vectors, means_of

# Up to here every row is compared with every other.
EXACT_ROWS = 6_000
# Beyond, on 100,000 rows in isotropic clusters of ten (the worst case: no cell has a natural border) the pairs of a
# cluster share one of 8 cells of 64 rows in 91 %, of 4 cells of 256 rows in 70 %, at the same cost; of 10 cells of
# 256 rows probed around a row's own, 29 %.
CELL_ROWS = 64
CELLS_EACH = 8
CELLS_MOST = 4_096
CELL_PASSES = 3
WINDOW_ROWS = 4_096
# Cosines closer than this are taken as equal.
WHIM = 1e-5
# Numbers of a tile of products: about 5 ms with what is made of it.
TILE_NUMBERS = 1 << 18


def nearest_rows(vectors: Vectors, nearest: int, floor: float, *, seed: int) -> Search[Edges]:
    """For each row its `nearest` rows by dot product, those of at least `floor`; as edges of weight 0.

    vectors: [n, D], of unit length or shorter. Up to EXACT_ROWS rows this is exact. Beyond, rows are compared that
    share a cell: each is in the CELLS_EACH cells whose centres are nearest, of about CELL_ROWS x CELLS_EACH rows each
    (an inverted file, Jégou et al. 2011, with several lists a row).
    """
    n = len(vectors)
    # Among rows that are all alike everyone would otherwise name the same few; now each names others.
    whims = np.random.default_rng(seed).uniform(0.0, WHIM, 2 * max(n, TILE_NUMBERS)).astype(np.float32)
    tiles = (yield from _cell_tiles(vectors, seed)) if n > EXACT_ROWS else list(_tiles(np.arange(n), n))
    row = np.full((n, nearest), -1)
    value = np.full((n, nearest), -np.inf, np.float32)
    yield Step("neighbours", 0, len(tiles))
    for done, (rows, others) in enumerate(tiles):
        scores = vectors[rows] @ vectors[others].T
        scores += sliding_window_view(whims, len(others))[: len(rows)]
        scores[rows[:, None] == others] = -np.inf
        best = np.argpartition(-scores, min(nearest, len(others)) - 1, axis=1)[:, :nearest]
        known = np.concatenate([row[rows], others[best]], axis=1)
        values = np.concatenate([value[rows], np.take_along_axis(scores, best, axis=1)], axis=1)
        # A neighbour met in two cells stands twice; sorted by row the second follows the first.
        order = np.argsort(known, axis=1, kind="stable")
        known, values = np.take_along_axis(known, order, axis=1), np.take_along_axis(values, order, axis=1)
        values[:, 1:][known[:, 1:] == known[:, :-1]] = -np.inf
        best = np.argsort(-values, axis=1, kind="stable")[:, :nearest]
        row[rows], value[rows] = np.take_along_axis(known, best, axis=1), np.take_along_axis(values, best, axis=1)
        yield Step("neighbours", done + 1, len(tiles))
    sources: list[Rows] = [np.zeros(0, np.int64)]
    targets: list[Rows] = [np.zeros(0, np.int64)]
    for start in range(0, n, WINDOW_ROWS):
        part = slice(start, start + WINDOW_ROWS)
        kept = (value[part] >= floor) & (row[part] >= 0)
        sources.append(start + np.nonzero(kept)[0])
        targets.append(row[part][kept])
        yield Step("neighbours", len(tiles), len(tiles))
    src = np.concatenate(sources)
    return Edges(src, np.concatenate(targets), np.zeros(len(src), np.float32))


def _tiles(rows: Rows, columns: int) -> Iterator[tuple[Rows, Rows]]:
    """These rows against each other in tiles of TILE_NUMBERS products, of at most `columns` rows around each tile."""
    columns = min(columns, len(rows))
    step = max(1, TILE_NUMBERS // max(1, columns))
    for start in range(0, len(rows), step):
        first = max(0, min(start - (columns - step) // 2, len(rows) - columns))
        yield rows[start : start + step], rows[first : first + columns]


def _cell_tiles(vectors: Vectors, seed: int) -> Search[list[tuple[Rows, Rows]]]:
    """The rows of each cell against each other; spherical k-means (Dhillon, Modha 2001) lays the cells."""
    n, rng = len(vectors), np.random.default_rng(seed)
    cells = min(n // CELL_ROWS, CELLS_MOST)
    centres = vectors[np.sort(rng.choice(n, cells, replace=False))].copy()
    for _ in range(CELL_PASSES - 1):
        own = yield from _nearest_centres(vectors, centres, 1)
        taken, label = np.unique(own[:, 0], return_inverse=True)
        moved = yield from means_of(vectors, label, np.bincount(label))
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        centres[taken] = np.where(length > 1e-6, moved / np.maximum(length, 1e-6), centres[taken])
    top = yield from _nearest_centres(vectors, centres, CELLS_EACH)
    tiles: list[tuple[Rows, Rows]] = []
    # By way of int16, which numpy sorts in linear time.
    order = np.argsort(top.ravel(), kind="stable") // CELLS_EACH
    for rows in np.split(order, np.cumsum(np.bincount(top.ravel(), minlength=cells))[:-1]):
        # A cell of very many rows, all alike, is looked at through a window.
        tiles.extend(_tiles(rows, WINDOW_ROWS))
    return tiles


def _nearest_centres(vectors: Vectors, centres: Vectors, count: int) -> Search[NDArray[np.int16]]:
    """The `count` nearest cells of each row, [n, count]."""
    n = len(vectors)
    nearest = np.empty((n, count), np.int16)
    step = max(1, TILE_NUMBERS // len(centres))
    for start in range(0, n, step):
        scores = vectors[start : start + step] @ centres.T
        if count == 1:
            nearest[start : start + step, 0] = scores.argmax(axis=1)
        else:
            nearest[start : start + step] = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        yield Step("cells", min(start + step, n), n)
    return nearest
