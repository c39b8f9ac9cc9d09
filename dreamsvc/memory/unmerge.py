"""Takes apart what dreams merged, by a user's wish; dreams keep it apart from then on."""

from typing import NamedTuple

from dreamsvc import entropy
from dreamsvc.errors import NotFound, invalid
from dreamsvc.memory import standing
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.forget import alone, close, close_if_empty, show, stand_up
from dreamsvc.memory.known import Author, find_nodes
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection
from dreamsvc.memory.standing import CONTAINER, FACET, FOLDED


class Apart(NamedTuple):
    ids: list[str]
    approximate: int  # vectors that had to be read back from a code


def unmerge(connection: Connection, space: Space, name: str, author: Author, delta: Delta) -> Apart:
    """A container falls apart, a facet leaves its container, a survivor gets its copies back beside it.

    Raises NotFound, and InvalidFields for a memory that stands for itself alone.
    """
    known = find_nodes(connection, space, {name}).get(name)
    if known is None or known.deleted:
        raise NotFound(f'no memory "{name[:80]}" in space "{space.name}"')
    node = standing.find(connection, [known.id])[known.id]
    merged = standing.merged_into(connection, [node.id])
    approximate = 0
    if node.role == CONTAINER:
        freed = [row for row in merged if row.role == FACET and row.alive]
        approximate = sum(alone(connection, row, author) for row in freed)
        close(connection, node.id, author, delta)
        show(connection, [row.id for row in freed], delta)
    elif copies := [row for row in merged if row.role == FOLDED and not row.purged]:
        freed = [*copies, node]
        stand_up(connection, [row.id for row in copies], author, delta)
    elif node.role == FACET:
        freed = [node]
        approximate = int(alone(connection, node, author))
        show(connection, [node.id], delta)
        close_if_empty(connection, node.merged_into, author, delta)
    else:
        raise invalid("id", "stands for itself: it lies in no container and no copies were folded into it")
    connection.executemany(
        "UPDATE nodes SET apart=1, seq=?, user_seq=? WHERE id=?", ((author.seq, author.seq, row.id) for row in freed)
    )
    return Apart([entropy.uuid_text(row.uid) for row in freed], approximate)
