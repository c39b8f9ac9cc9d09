"""Which memories say anew what older ones said, kept from the edges that tell so."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class Superseding:
    """Of all such edges of a space, dead ones too, since an edge may come back; the store's writer changes it."""

    def __init__(self) -> None:
        # Row of the older memory to row of the newer; readers look at it while it changes, one entry at a time.
        self.newer_of: dict[int, int] = {}
        self._ends: dict[int, tuple[int, int]] = {}  # row of the edge to (newer, older)
        self._of_older: dict[int, list[int]] = {}  # rows of edges, ascending

    @property
    def edges(self) -> NDArray[np.int32]:
        """Rows of the edges, ascending."""
        return np.fromiter(self._ends, np.int32, len(self._ends))

    def add(self, edge: int, newer: int, older: int, edges_alive: NDArray[np.bool_]) -> None:
        """Notes an edge; edges are added in the order of their rows."""
        self._ends[edge] = (newer, older)
        self._of_older.setdefault(older, []).append(edge)
        self._look(older, edges_alive)

    def notice(self, edges: Iterable[int], edges_alive: NDArray[np.bool_]) -> None:
        """Looks again at what some edges, of any type, may have said or say now."""
        if self._ends:
            for edge in edges:
                if edge in self._ends:
                    self._look(self._ends[edge][1], edges_alive)

    def _look(self, older: int, edges_alive: NDArray[np.bool_]) -> None:
        """Of several that supersede one memory the last counts."""
        living = [edge for edge in self._of_older[older] if edges_alive[edge]]
        if living:
            self.newer_of[older] = self._ends[living[-1]][0]
        else:
            self.newer_of.pop(older, None)
