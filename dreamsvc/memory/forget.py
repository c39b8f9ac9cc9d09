"""Hides memories softly and brings them back, with the edges that went along (REQ-DREAM-026)."""

from collections.abc import Sequence
from typing import NamedTuple

from dreamsvc.errors import InvalidFields, Violation
from dreamsvc.memory import derived, rows, standing
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.edges import revive_edges
from dreamsvc.memory.graph import NEVER, NewEdge, RoleChange
from dreamsvc.memory.known import Author, Known, find_nodes
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection
from dreamsvc.memory.standing import CONTAINER, FACET, FOLDED, PLAIN, REPLACED, Standing


class Outcome(NamedTuple):
    changed: int
    unchanged: int


def forget(connection: Connection, space: Space, names: Sequence[str], author: Author, delta: Delta) -> Outcome:
    """Soft-deletes memories by id or key; raises InvalidFields for one that is not stored."""
    found = _require(connection, space, names)
    nodes = {node.id: node.deleted for node in found}
    living = [node for node, deleted in nodes.items() if not deleted]
    # A container goes with what it holds.
    boxes = [node.id for node in found if node.role == CONTAINER and not node.deleted]
    held = [node.id for node in standing.merged_into(connection, boxes) if node.alive and node.role == FACET]
    living += [node for node in held if node not in nodes]
    for node in living:
        connection.execute(
            "UPDATE nodes SET deleted_us=?, seq=?, user_seq=? WHERE id=?",
            (author.kept_us, author.seq, author.seq, node),
        )
        _hide_edges(connection, node, author, delta)
    delta.hidden_nodes += living
    derived.drop_linked(connection, living, delta)
    # A revert would bring back what is wanted gone.
    connection.executemany(
        "UPDATE nodes SET seq=?, user_seq=? WHERE id=?",
        ((author.seq, author.seq, node.id) for node in found if node.deleted and node.role == FOLDED),
    )
    return Outcome(len(living), sum(nodes.values()))


def _hide_edges(connection: Connection, node: int, author: Author, delta: Delta) -> None:
    """A memory takes its edges along. Those that dreams made stay theirs, so that a night can still be taken back."""
    hidden = connection.execute(
        "UPDATE edges SET deleted_us=?1, hidden_by=?2, seq=?3, user_seq=iif(user_seq=0, 0, ?3)"
        " WHERE (source=?2 OR target=?2) AND deleted_us IS NULL RETURNING id, source, target, weight, confidence",
        (author.kept_us, node, author.seq),
    ).fetchall()
    delta.changed_edges += [NewEdge(*edge, alive=False) for edge in hidden]


def close(connection: Connection, container: int, author: Author, delta: Delta) -> None:
    """A container that was taken apart goes, with the edges that were its own."""
    connection.execute(
        f"UPDATE nodes SET role={REPLACED}, merged_into=NULL, deleted_us=?, seq=?, user_seq=? WHERE id=?",
        (author.kept_us, author.seq, author.seq, container),
    )
    _hide_edges(connection, container, author, delta)
    delta.roles.append(RoleChange(container, REPLACED, NEVER, False))


def close_if_empty(connection: Connection, container: int | None, author: Author, delta: Delta) -> None:
    """After a facet has left for good; one that was only forgotten may come back."""
    box = standing.find(connection, [container]).get(container) if container is not None else None
    if box is None or box.role != CONTAINER or not box.alive:
        return
    if not any(row.role == FACET and not row.purged for row in standing.merged_into(connection, [box.id])):
        close(connection, box.id, author, delta)


def restore(connection: Connection, space: Space, names: Sequence[str], author: Author, delta: Delta) -> Outcome:
    """Brings forgotten memories back; an edge whose other end is still forgotten waits for that one."""
    found = _require(connection, space, names)
    nodes = {node.id: node.deleted for node in found}
    rows_ = standing.find(connection, nodes)
    _refuse_unrestorable(names, found, rows_)
    hidden = [node for node, deleted in nodes.items() if deleted]
    hidden += forgotten_with(connection, [rows_[node] for node in hidden], set(hidden))
    stand_up(connection, hidden, author, delta)
    return Outcome(len(hidden), len(nodes) - sum(nodes.values()))


def stand_up(connection: Connection, hidden: Sequence[int], author: Author, delta: Delta) -> None:
    """Brings hidden memories back: facets into their container where that lives, copies to stand for themselves."""
    before = standing.find(connection, hidden)
    holders = standing.find(connection, {row.merged_into for row in before.values() if row.merged_into is not None})
    back = set(before)
    for row in before.values():
        holder = holders.get(row.merged_into or 0)
        kept = row.role == FACET and holder is not None and (holder.alive or holder.id in back)
        if row.role not in (PLAIN, CONTAINER) and not kept:
            alone(connection, row, author)
        connection.execute(
            "UPDATE nodes SET deleted_us=NULL, seq=?, user_seq=? WHERE id=?", (author.seq, author.seq, row.id)
        )
    for node in hidden:
        revive_edges(connection, node, author, delta)
    show(connection, hidden, delta)


def alone(connection: Connection, row: Standing, author: Author) -> bool:
    """From here on a facet or a copy stands for itself; True where its vector had to be read back from its code."""
    remembered = standing.remembered(connection, [row]) if row.role == FACET else {}
    rows.put_vectors(connection, remembered)
    standing.drop_packed(connection, [row.id])
    connection.execute(
        f"UPDATE nodes SET role={PLAIN}, merged_into=NULL, changed_by=NULL, seq=?, user_seq=? WHERE id=?",
        (author.seq, author.seq, row.id),
    )
    return bool(remembered)


def show(connection: Connection, nodes: Sequence[int], delta: Delta) -> None:
    """The live graph learns of memories that are alive and may not have been, or stood for something else."""
    now = standing.find(connection, nodes)
    delta.changed_nodes += [now[node].live() for node in nodes]
    plain = [node for node in nodes if now[node].role == PLAIN]
    delta.vectors.update(standing.stored_vectors(connection, plain))
    boxes = {node for node in nodes if now[node].role == CONTAINER}
    boxes |= {row.merged_into for row in now.values() if row.role == FACET and row.merged_into is not None}
    delta.containers.update(standing.containers(connection, sorted(boxes)))
    derived.show(connection, nodes, delta)


def forgotten_with(connection: Connection, found: Sequence[Standing], already: set[int]) -> list[int]:
    """What was forgotten together with some containers."""
    times = {row.id: row.deleted_us for row in found if row.role == CONTAINER}
    return [
        row.id
        for row in standing.merged_into(connection, times)
        if row.role == FACET
        and row.deleted_us == times[row.merged_into or 0]
        and not row.purged
        and row.id not in already
    ]


def _refuse_unrestorable(names: Sequence[str], found: Sequence[Known], nodes: dict[int, Standing]) -> None:
    place = {name: i for i, name in reversed(list(enumerate(names)))}
    wrong: list[Violation] = []
    for name, known in zip(names, found, strict=True):
        if nodes[known.id].purged:
            wrong.append(Violation(f"ids[{place[name]}]", "was purged: its content is gone"))
        elif nodes[known.id].role == REPLACED:
            wrong.append(
                Violation(
                    f"ids[{place[name]}]",
                    "is a container that another replaced, or that was taken apart; a dream is taken back by Revert",
                )
            )
    if wrong:
        raise InvalidFields(wrong)


def _require(connection: Connection, space: Space, names: Sequence[str]) -> list[Known]:
    """The memories of some names, in their order; raises InvalidFields for one that is not stored."""
    found = find_nodes(connection, space, set(names))
    wrong = [
        Violation(f"ids[{i}]", f'no memory "{name[:80]}" in space "{space.name}"')
        for i, name in enumerate(names)
        if name not in found
    ]
    if wrong:
        raise InvalidFields(wrong)
    return [found[name] for name in names]
