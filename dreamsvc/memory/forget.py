"""Hides memories softly and brings them back, with the edges that went along (REQ-DREAM-026)."""

from collections.abc import Sequence
from typing import NamedTuple

from dreamsvc.errors import InvalidFields, Violation
from dreamsvc.memory import rows
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.edges import revive_edges
from dreamsvc.memory.graph import NEVER, NewEdge, NewNode
from dreamsvc.memory.known import Author, find_nodes
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection


class Outcome(NamedTuple):
    changed: int
    unchanged: int


def forget(connection: Connection, space: Space, names: Sequence[str], author: Author, delta: Delta) -> Outcome:
    """Soft-deletes memories by id or key; raises InvalidFields for one that is not stored."""
    nodes = _require(connection, space, names)
    living = [node for node, deleted in nodes.items() if not deleted]
    for node in living:
        connection.execute(
            "UPDATE nodes SET deleted_us=?, seq=?, user_seq=? WHERE id=?",
            (author.now_us, author.seq, author.seq, node),
        )
        hidden = connection.execute(
            "UPDATE edges SET deleted_us=?, hidden_by=?, seq=?, user_seq=? WHERE (source=? OR target=?)"
            " AND deleted_us IS NULL RETURNING id, source, target, weight, confidence",
            (author.now_us, node, author.seq, author.seq, node, node),
        ).fetchall()
        delta.changed_edges += [NewEdge(*edge, alive=False) for edge in hidden]
    delta.hidden_nodes += living
    return Outcome(len(living), len(nodes) - len(living))


def restore(connection: Connection, space: Space, names: Sequence[str], author: Author, delta: Delta) -> Outcome:
    """Brings forgotten memories back; an edge whose other end is still forgotten waits for that one."""
    nodes = _require(connection, space, names)
    hidden = [node for node, deleted in nodes.items() if deleted]
    for node in hidden:
        connection.execute(
            "UPDATE nodes SET deleted_us=NULL, seq=?, user_seq=? WHERE id=?", (author.seq, author.seq, node)
        )
    for node in hidden:
        revive_edges(connection, node, author, delta)
    memories = {
        row[0]: (row, rows.read_memory(row, space.name))
        for row in rows.chosen(connection, f"SELECT {rows.MEMORY_COLUMNS} FROM nodes WHERE id IN (%s)", hidden)
    }
    delta.changed_nodes += [
        NewNode(
            id=node,
            alive=True,
            kind=memory.kind,
            title=memory.title,
            text=memory.text,
            aliases=list(memory.aliases),
            importance=memory.importance,
            created_us=row[11],
            event_us=NEVER if row[10] is None else row[10],
            accessed_us=NEVER if row[13] is None else row[13],
        )
        for node, (row, memory) in memories.items()
    ]
    delta.vectors |= {
        node: rows.unpack_vector(body, crc, node)
        for node, body, crc in rows.chosen(
            connection, "SELECT node, body, crc FROM vectors WHERE length(body) > 0 AND node IN (%s)", hidden
        )
    }
    return Outcome(len(hidden), len(nodes) - len(hidden))


def _require(connection: Connection, space: Space, names: Sequence[str]) -> dict[int, bool]:
    """Row ids of memories, and whether each is forgotten."""
    found = find_nodes(connection, space, set(names))
    wrong = [
        Violation(f"ids[{i}]", f'no memory "{name[:80]}" in space "{space.name}"')
        for i, name in enumerate(names)
        if name not in found
    ]
    if wrong:
        raise InvalidFields(wrong)
    return {node.id: node.deleted for node in found.values()}
