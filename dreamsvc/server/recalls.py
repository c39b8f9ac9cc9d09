"""What recalls of the last hour had returned, so that a caller can say later what of it was of use."""

from array import array
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

KEPT = 10_000
KEPT_S = 3600.0


class _Recalled(NamedTuple):
    space: str
    at_s: float
    # Row ids in eight bytes each: ten thousand recalls of a thousand hits have to fit.
    nodes: "array[int]"


class Recalls:
    """The newest recalls by their ids; times are seconds of any clock that only grows."""

    def __init__(self, kept: int = KEPT, kept_s: float = KEPT_S) -> None:
        self._kept = kept
        self._kept_s = kept_s
        self._recalled: OrderedDict[str, _Recalled] = OrderedDict()

    def __len__(self) -> int:
        return len(self._recalled)

    def note(self, recall_id: str, space: str, nodes: Iterable[int], now_s: float) -> None:
        """Keeps what a recall returned, and lets go of what is too old or too much."""
        self._recalled[recall_id] = _Recalled(space, now_s, array("q", nodes))
        self._expire(now_s)
        while len(self._recalled) > self._kept:
            self._recalled.popitem(last=False)

    def returned(self, recall_id: str, space: str, now_s: float) -> frozenset[int] | None:
        """Row ids that a recall in a space returned; None where it is not known, or not any more."""
        self._expire(now_s)
        found = self._recalled.get(recall_id)
        return None if found is None or found.space != space else frozenset(found.nodes)

    def _expire(self, now_s: float) -> None:
        # They lie in the order in which they came.
        while self._recalled and next(iter(self._recalled.values())).at_s <= now_s - self._kept_s:
            self._recalled.popitem(last=False)
