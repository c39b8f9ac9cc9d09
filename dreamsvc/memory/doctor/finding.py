"""What a check says: that something is wrong and how to mend it, or only that something is there."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dreamsvc import entropy
from dreamsvc.memory.sqlite import Connection

RESTORE = (
    "restore a backup: dreamsvc restore --backup BACKUP; without one, dreamsvc salvage makes a store of what is left,"
    " and dreamsvc export still reads what is whole"
)
START = "start the service: it finishes this by itself"
NEXT_NIGHT = "nothing is lost: the next dream makes it anew"
DISCARD = "drop that dream: dreamsvc abort --discard; nothing of it was applied"
CHANGED_OUTSIDE = "nothing of dreamsvc does that: find what else wrote to the file, then restore a backup"


class Finding(NamedTuple):
    """One check: what was looked at, whether it holds, and what to do where it does not."""

    name: str
    ok: bool
    detail: str
    # '' where nothing has to be done.
    mend: str = ""


class Problem(NamedTuple):
    """Something that must not be."""

    what: str
    mend: str


class Note(NamedTuple):
    """Something worth telling that is in order, or that the next start puts in order."""

    what: str


type Said = Iterator[Problem | Note]


class Place(NamedTuple):
    """The store that is looked at."""

    connection: Connection
    path: Path
    # The process that serves it; None where none does.
    holder: int | None


type Check = Callable[[Place], Said]


def named(connection: Connection, node: int) -> str:
    """A memory as its owner knows it, e.g. `memory "k1" of space "default"`; '' where that cannot be read."""
    row = connection.execute(
        "SELECT n.key, n.uid, s.name FROM nodes n JOIN spaces s ON s.id = n.space WHERE n.id = ?", (node,)
    ).fetchone()
    if row is None:
        return ""
    key, uid, space = row
    return f'memory "{key or entropy.uuid_text(uid)}" of space "{space}"'


def remember_again(connection: Connection, node: int) -> str:
    """How to mend a vector."""
    what = named(connection, node)
    return f"remember {what} again: its vector is made anew" if what else RESTORE
