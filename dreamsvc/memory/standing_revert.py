"""The part of a revert that gives memories back what they stood for, and takes away what a dream had made."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import BeforeImages, EdgeImage, NodeImage
from dreamsvc.memory import rows, standing
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.graph import NEVER, NewEdge, RoleChange
from dreamsvc.memory.operations import Change
from dreamsvc.memory.sqlite import Connection, next_seq
from dreamsvc.memory.standing import CONTAINER, FACET, Standing


class Undone(NamedTuple):
    edges: int
    memories: int


def obstacles(connection: Connection, change: Change, images: Iterable[BeforeImages]) -> list[str]:
    """Memories of a change that a user or a later dream changed since, and foreign edges at what the dream made."""
    nodes: set[int] = set()
    born: set[int] = set()
    born_edges: set[int] = set()
    for before in images:
        nodes |= {image.id for image in before.nodes} | set(before.born_nodes)
        born |= set(before.born_nodes)
        born_edges |= set(before.born_edges)
    query = (
        f"SELECT uid, title FROM nodes WHERE (changed_by IS NOT {change.id} OR user_seq>{change.base_seq})"
        " AND id IN (%s) ORDER BY id"
    )
    found = [f"memory {entropy.uuid_text(uid)}" for uid, _ in rows.chosen(connection, query, sorted(nodes))]
    for side in ("source", "target"):
        query = f"{rows.EDGE_QUERY} WHERE e.{side} IN (%s)"
        found += [
            f"{edge.source} -> {edge.target} ({edge.type})"
            for row in rows.chosen(connection, query, sorted(born))
            if row[0] not in born_edges and (edge := rows.read_edge(row))
        ]
    return found


def undo(connection: Connection, change: Change, before: BeforeImages, delta: Delta) -> Undone:
    """Takes one part's merging and making back; does nothing where it did neither."""
    if not (before.nodes or before.edges or before.born_nodes or before.born_edges):
        return Undone(0, 0)
    seq = next_seq(connection)
    query = "DELETE FROM edges WHERE id IN (%s) RETURNING id, source, target, weight, confidence"
    delta.changed_edges += [NewEdge(*row, alive=False) for row in rows.chosen(connection, query, before.born_edges)]
    _restore_edges(connection, before.edges, seq, delta)
    _restore_nodes(connection, before.nodes, seq, delta)
    born = [(node,) for node in before.born_nodes]
    for statement in (
        "DELETE FROM packed_vectors WHERE node=?",
        "DELETE FROM vectors WHERE node=?",
        "DELETE FROM nodes WHERE id=?",
    ):
        connection.executemany(statement, born)
    delta.hidden_nodes += before.born_nodes
    return Undone(len(before.edges), len({image.id for image in before.nodes}))


def _restore_edges(connection: Connection, images: Iterable[EdgeImage], seq: int, delta: Delta) -> None:
    # Backwards: of an edge that changed twice the first image is what it was.
    for image in reversed(list(images)):
        row = connection.execute(
            "UPDATE edges SET weight=?, confidence=?, deleted_us=?, hidden_by=?, changed_by=?, seq=? WHERE id=?"
            " RETURNING source, target",
            (
                *(image.weight, image.confidence, image.deleted_us or None, image.hidden_by or None),
                *(image.changed_by or None, seq, image.id),
            ),
        ).fetchone()
        if row is not None:
            source, target = row
            edge = NewEdge(image.id, source, target, image.weight, image.confidence, not image.deleted_us)
            delta.changed_edges.append(edge)


def _restore_nodes(connection: Connection, images: Iterable[NodeImage], seq: int, delta: Delta) -> None:
    ordered = list(reversed(list(images)))
    if not ordered:
        return
    was = standing.find(connection, [image.id for image in ordered])
    touched: set[int] = set()
    for image in ordered:
        node = was[image.id]
        connection.execute(
            "UPDATE nodes SET role=?, merged_into=?, deleted_us=?, changed_by=?, importance=?, created_us=?,"
            " accessed_us=?, access_count=?, event_us=?, event_end_us=?, aliases=?, seq=? WHERE id=?",
            (
                *(image.role, image.merged_into or None, image.deleted_us or None, image.changed_by or None),
                *(image.importance, image.created_us, _accessed(node, image), node.access_count - image.access_added),
                *(_time(image.event_us), _time(image.event_end_us), image.aliases, seq, image.id),
            ),
        )
        if image.HasField("packed"):
            standing.put_packed(connection, [(image.id, image.packed)])
        elif image.role not in (FACET, CONTAINER):
            standing.drop_packed(connection, [image.id])
        touched |= {held for held in (image.merged_into, node.merged_into) if held}
        was[image.id] = standing.find(connection, [image.id])[image.id]
    _show(connection, {image.id for image in ordered}, touched, delta)


def _accessed(node: Standing, image: NodeImage) -> int | None:
    """The time of the last recall: what it was, unless it was recalled again."""
    known = NEVER if node.accessed_us is None else node.accessed_us
    return _time(image.accessed_us) if known == image.accessed_after_us else node.accessed_us


def _time(value: int) -> int | None:
    return None if value == NEVER else value


def _show(connection: Connection, nodes: set[int], containers: set[int], delta: Delta) -> None:
    """The live graph learns what some memories stand for now."""
    now = standing.find(connection, nodes | containers)
    for node in (now[key] for key in sorted(nodes)):
        if node.alive:
            # It may have left the index of words; its content puts it back.
            delta.changed_nodes.append(node.live())
            delta.inherited.append(node.live())
        else:
            into = NEVER if node.merged_into is None else node.merged_into
            delta.roles.append(RoleChange(node.id, node.role, into, False))
    alone = [key for key in sorted(nodes) if now[key].alive and now[key].role not in (FACET, CONTAINER)]
    delta.vectors.update(
        {node: vector.astype(np.float32) for node, vector in standing.stored_vectors(connection, alone).items()}
    )
    held = {key for key in containers | nodes if key in now and now[key].alive and now[key].role == CONTAINER}
    delta.containers.update(standing.containers(connection, sorted(held)))
