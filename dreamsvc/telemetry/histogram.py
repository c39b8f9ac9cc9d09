"""Values counted by size."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Exemplar(NamedTuple):
    """One of the values, and the trace that it belongs to (32 hex digits)."""

    value: float
    trace_id: str
    at_s: float


class Bucket(NamedTuple):
    # Values up to and including this; inf for the last.
    edge: float
    # Values of this bucket and all before it.
    up_to: int
    exemplar: Exemplar | None


class Histogram:
    """Bounded however many values come."""

    def __init__(self, edges: Sequence[float]) -> None:
        """edges: ascending; values above the last one are counted too."""
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)
        self._exemplars: list[Exemplar | None] = [None] * (len(edges) + 1)
        self.sum = 0.0

    def note(self, value: float, exemplar: Exemplar | None = None) -> None:
        place = bisect_left(self._edges, value)
        self._counts[place] += 1
        self.sum += value
        if exemplar is not None:
            self._exemplars[place] = exemplar

    def buckets(self) -> Iterator[Bucket]:
        so_far = 0
        for edge, count, exemplar in zip((*self._edges, float("inf")), self._counts, self._exemplars, strict=True):
            so_far += count
            yield Bucket(edge, so_far, exemplar)
