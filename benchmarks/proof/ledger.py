"""What a store must hold: what it acknowledged, and what calls that were never answered may have made of it."""

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dreamsvc.errors import ChangedLater, InvalidFields, NotFound

REFUSED = (ChangedLater, InvalidFields, NotFound)


class Expected(NamedTuple):
    """What a memory must be."""

    text: str
    importance: float
    # False: a user forgot it. A copy that another memory stands for is alive: it can be brought back.
    alive: bool


# By key; None: there is no such memory.
type States = Mapping[str, Expected | None]


class Call(NamedTuple):
    """A call that was sent and not answered: all of it happened, or nothing."""

    states: States
    # Of the export once it happened, None where that is not known.
    digest: str | None


class Audited(NamedTuple):
    """The last row of the audit at some time; it has to stay."""

    id: int
    hash: bytes


@dataclass
class Ledger:
    """Kept beside a store by whoever writes to it."""

    acked: dict[str, Expected] = field(default_factory=dict[str, Expected])
    calls: list[Call] = field(default_factory=list[Call])
    # Of the export as acknowledged, which sealed dreams are part of; None where it is not known.
    digest: str | None = None
    # Parts and checkpoint that were acknowledged of dreams that wait, by id: how many parts.
    staged: dict[str, int] = field(default_factory=dict[str, int])
    audited: Audited | None = None
    change_seq: int = 0
    # When the last act happened: recovery at another time folds the same, but notes other times.
    now_us: int | None = None
    # How many acts there were; no two make the same memories.
    acts: int = 0

    @property
    def pending(self) -> dict[str, list[Expected | None]]:
        """What calls in flight may have made of memories, by key."""
        found: dict[str, list[Expected | None]] = {}
        for call in self.calls:
            for key, state in call.states.items():
                found.setdefault(key, []).append(state)
        return found

    @contextlib.contextmanager
    def recorded(self, states: States, digest: str | None = None) -> Generator[None]:
        """Around one call: acknowledged where it ends well, in flight for good where it raises.

        But where it was refused, as impossible at any time, nothing happened.
        """
        call = Call(dict(states), digest)
        self.calls.append(call)
        self.changed()
        try:
            yield
        except REFUSED:
            self.calls.remove(call)
            self.changed()
            raise
        self.happened(call)

    def happened(self, call: Call) -> None:
        self.calls.remove(call)
        for key, state in call.states.items():
            if state is None:
                self.acked.pop(key, None)
            else:
                self.acked[key] = state
        self.digest = call.digest
        self.changed()

    def kept(self, dream_id: str, parts: int) -> None:
        """So many parts of a dream that waits were acknowledged, with a checkpoint."""
        self.staged[dream_id] = parts
        self.changed()

    def changed(self) -> None:
        """For a ledger that is written down elsewhere."""
