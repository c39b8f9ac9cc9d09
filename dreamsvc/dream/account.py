"""What a start found and did, told in one line of the log."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from dreamsvc.memory.starting import Loaded
from dreamsvc.memory.store import Store

_SNAPSHOTS: dict[Loaded, tuple[str, str]] = {
    Loaded.TORN: ("1 snapshot was torn and is built anew", "{} snapshots were torn and are built anew"),
    Loaded.OLDER: ("1 snapshot was of an earlier change and is built anew", "{} snapshots were of an earlier change"),
    Loaded.NONE: ("1 space had no snapshot", "{} spaces had no snapshot"),
}
# What can become of something that a crash left, in the order in which it is told.
_DEEDS: dict[str, tuple[str, str]] = {
    "folded": ("1 dream was folded to its end", "{} dreams were folded to their end"),
    "reverted": ("1 dream was taken back to its end", "{} dreams were taken back to their end"),
    "resumable": ("1 dream can be resumed", "{} dreams can be resumed"),
    "proposed": ("1 dream waits for approval", "{} dreams wait for approval"),
    "dropped": ("1 dream was dropped", "{} dreams were dropped"),
    "failed": ("1 dream failed", "{} dreams failed"),
    "import": ("1 import was folded to its end", "{} imports were folded to their end"),
    "unfinished": ("1 unfinished import was dropped", "{} unfinished imports were dropped"),
    "checkpoint": ("1 old checkpoint was removed", "{} old checkpoints were removed"),
    "left": ("1 CHANGE COULD NOT BE FINISHED", "{} CHANGES COULD NOT BE FINISHED"),
}


class Account:
    """Counts what a start does."""

    def __init__(self) -> None:
        self._deeds: Counter[str] = Counter()

    def note(self, deed: str, count: int = 1) -> None:
        assert deed in _DEEDS
        self._deeds[deed] += count

    def line(self, store: Store) -> str:
        return "start: " + "; ".join([_size(store), *_found(store), self._done()])

    def _done(self) -> str:
        told = [_counted(self._deeds[deed], words) for deed, words in _DEEDS.items() if self._deeds[deed]]
        return ", ".join(told) or "nothing was left over"


def _size(store: Store) -> str:
    views = [store.graph(name).view for name in store.space_names()]
    memories = sum(int(np.count_nonzero(view.alive[: view.n])) for view in views)
    edges = sum(int(np.count_nonzero(view.edges_alive[: view.m])) for view in views)
    return " and ".join(
        (
            _counted(memories, ("1 memory", "{} memories")),
            _counted(edges, ("1 edge", "{} edges")) + " in " + _counted(len(views), ("1 space", "{} spaces")),
        )
    )


def _found(store: Store) -> Iterator[str]:
    """What was not as a quiet end leaves it."""
    left_out = store.database.log_was.left_out
    if left_out:
        yield f"the log ended in a commit that was not whole, whose {left_out} frames were left out"
    if store.database.log_is_lost:
        yield (
            "THE LOG THAT THE KILLED SERVICE LEFT IS GONE: somebody removed it, and what was acknowledged last may have"
            " been in it alone; put it back with the service stopped, or restore a backup"
        )
    how = Counter(store.loaded)
    yield from (_counted(how[one], words) for one, words in _SNAPSHOTS.items() if how[one])


def _counted(number: int, words: tuple[str, str]) -> str:
    one, many = words
    return one if number == 1 else many.format(f"{number:,}")
