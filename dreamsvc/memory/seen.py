"""What a walk over memories has come to know of, and which of it is left to walk to.

p: memories seen. D: numbers in a vector.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dreamsvc import scoring, two_stage
from dreamsvc.memory.graph import GraphView

# A memory so near to one that was walked says the same, and gives way to others.
SAME = 0.97
# Memories taken in by their importance.
IMPORTANT = 32

type Places = NDArray[np.int64]
type Vector = NDArray[np.float32]


class Seen:
    """Memories, each at a place of its own that it keeps; the columns grow with every memory added."""

    def __init__(self, view: GraphView, allowed: NDArray[np.bool_]) -> None:
        """allowed: rows that can be walked, [n]."""
        self._view = view
        self._allowed = allowed
        self._place: dict[int, int] = {}
        self._rows = np.zeros(0, np.int64)
        self._vectors = np.zeros((0, view.dense.dimension), np.float32)
        self._known = np.zeros(0, np.bool_)
        self._is_left = np.zeros(0, np.bool_)  # neither walked nor the same as what was
        self.walked: list[int] = []

    @property
    def rows(self) -> NDArray[np.int64]:
        """[p], by place."""
        return self._rows[: len(self._place)]

    @property
    def vectors(self) -> Vector:
        """[p, D], unit length; zero where a memory has none."""
        return self._vectors[: len(self._place)]

    @property
    def known(self) -> NDArray[np.bool_]:
        """[p], has a vector."""
        return self._known[: len(self._place)]

    def left(self) -> Places:
        """Places not walked yet; what says the same as one that was walked only where nothing else is left."""
        places = np.flatnonzero(self._is_left[: len(self._place)])
        return places if places.size else np.setdiff1d(np.arange(len(self._place)), self.walked)

    def walk_to(self, place: int) -> None:
        """Notes that a memory was walked, and what says the same as it."""
        self.walked.append(place)
        self._is_left[: len(self._place)] &= self.vectors @ self.vectors[place] < SAME
        self._is_left[place] = False

    def add(self, rows: Iterable[int]) -> None:
        """Takes in those that can be walked and that say what still holds."""
        self._add(row for row in rows if row not in self._view.superseded_by)

    def add_most_important(self) -> None:
        """For where nothing else is left: some memories, also such as do not hold any more."""
        unseen = self._allowed.copy()
        unseen[self.rows] = False
        importance = np.where(unseen, self._view.importance[: self._view.n], np.float32(-1))
        best = scoring.best(importance, IMPORTANT)
        self._add(best[unseen[best]].tolist())

    def _add(self, rows: Iterable[int]) -> None:
        fresh = [row for row in dict.fromkeys(rows) if row not in self._place and row < self._view.n]
        fresh = [row for row in fresh if self._allowed[row]]
        if not fresh:
            return
        vectors = two_stage.vectors_of(self._view.dense, fresh)
        said = vectors @ self.vectors[self.walked].T >= SAME
        at = slice(len(self._place), len(self._place) + len(fresh))
        if at.stop > len(self._rows):
            # Twice as long, so that a long walk does not copy all at every step.
            room = ((0, max(256, at.stop, len(self._rows))),)
            self._rows, self._vectors = np.pad(self._rows, room), np.pad(self._vectors, (*room, (0, 0)))
            self._known, self._is_left = np.pad(self._known, room), np.pad(self._is_left, room)
        self._rows[at], self._vectors[at] = fresh, vectors
        self._known[at], self._is_left[at] = vectors.any(axis=1), ~said.any(axis=1)
        self._place.update(zip(fresh, range(at.start, at.stop), strict=True))
