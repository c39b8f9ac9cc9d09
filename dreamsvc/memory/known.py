"""Who writes, and what the store has already of the memories they name."""

from typing import NamedTuple

from dreamsvc import entropy
from dreamsvc.memory import rows, spaces
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection


class Author(NamedTuple):
    """Who writes: decides what happens to what is known already, and what is kept of times."""

    now_us: int
    # What is hidden ages from here.
    kept_us: int
    seq: int
    # Row of `changes` for an import, None for a user.
    change: int | None
    # What made the vectors that are sent along.
    embedder: str = spaces.CLIENT

    @property
    def updates(self) -> bool:
        """False: what is known stays as it is, so that an import is a no-op the second time."""
        return self.change is None


class Known(NamedTuple):
    id: int
    uid: bytes
    key: str | None
    deleted: bool
    role: int = 0


COLUMNS = "id, uid, key, deleted_us, role"


def find_nodes(connection: Connection, space: Space, names: set[str]) -> dict[str, Known]:
    """Memories by id or key; a name that is stored nowhere is left out."""
    found: dict[str, Known] = {}
    spellings: dict[bytes, list[str]] = {}
    for name in names:
        if (uid := entropy.uuid_bytes(name)) is not None:
            spellings.setdefault(uid, []).append(name)
    for node, uid, key, deleted, role in rows.chosen(
        connection, f"SELECT {COLUMNS} FROM nodes WHERE space = {space.id} AND uid IN (%s)", spellings
    ):
        found |= dict.fromkeys(spellings[uid], Known(node, uid, key, deleted is not None, role))
    for node, uid, key, deleted, role in rows.chosen(
        connection,
        f"SELECT {COLUMNS} FROM nodes WHERE space = {space.id} AND key IN (%s)",
        names - found.keys(),
    ):
        found[key] = Known(node, uid, key, deleted is not None, role)
    return found
