"""The part of a revert that gives memories back what they stood for, and takes away what a dream had made."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import BeforeImages, EdgeImage, NodeImage
from dreamsvc.memory import blind_spots, coactivation, derived, rows, standing
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.forget import close
from dreamsvc.memory.graph import NEVER, NewEdge, RoleChange
from dreamsvc.memory.known import Author
from dreamsvc.memory.operations import Change
from dreamsvc.memory.sqlite import Connection, next_seq
from dreamsvc.memory.standing import CONTAINER, FACET, FOLDED, Standing


class Undone(NamedTuple):
    edges: int
    memories: int


class Touched(NamedTuple):
    """Rows that a change has images of, or made."""

    edges: dict[int, int]  # to the change number when they were folded last
    nodes: set[int]
    born: set[int]  # nodes among them
    born_edges: set[int]

    def note(self, before: BeforeImages, change: Change) -> None:
        """Adds what a part touched; parts come in their order."""
        edges = (*before.edge_ids, *(image.id for image in before.edges), *before.born_edges)
        # Images of earlier versions do not know when they were made.
        self.edges.update(dict.fromkeys(edges, before.seq or change.base_seq))
        self.nodes.update(image.id for image in before.nodes)
        self.nodes.update(before.born_nodes)
        self.born.update(before.born_nodes)
        self.born_edges.update(before.born_edges)


def obstacles(connection: Connection, change: Change, touched: Touched) -> list[str]:
    """Memories of a change that a user or a later dream changed since, and foreign edges at what the dream made."""
    _, nodes, born, born_edges = touched
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
    query = "SELECT id, uid FROM nodes WHERE merged_into IN (%s) ORDER BY id"
    found += [
        f"memory {entropy.uuid_text(uid)}"
        for node, uid in rows.chosen(connection, query, sorted(born))
        if node not in nodes
    ]
    return found


def undo(
    connection: Connection, change: Change, before: BeforeImages, now_us: int, kept_us: int, delta: Delta
) -> Undone:
    """Takes one part's merging and making back; does nothing where it did neither.

    What a user changed after the part was folded, while the dream was still folded or is taken back, stays.
    """
    if not (before.nodes or before.edges or before.born_nodes or before.born_edges):
        return Undone(0, 0)
    since = before.seq or change.base_seq
    seq = next_seq(connection)
    query = f"DELETE FROM edges WHERE user_seq<={since} AND id IN (%s) RETURNING id, source, target, weight, confidence"
    delta.changed_edges += [NewEdge(*row, alive=False) for row in rows.chosen(connection, query, before.born_edges)]
    _restore_edges(connection, before.edges, since, seq, delta)
    _restore_nodes(connection, change, before.nodes, since, seq, delta)
    _release_edges(connection, {image.id for image in before.nodes}, seq, delta)
    for node in standing.find(connection, before.born_nodes).values():
        _take_away(connection, node, since, Author(now_us, kept_us, seq, None), delta)
    return Undone(len(before.edges), len({image.id for image in before.nodes}))


def _restore_edges(connection: Connection, before: Iterable[EdgeImage], since: int, seq: int, delta: Delta) -> None:
    # Backwards: of an edge that changed twice the first image is what it was.
    images = list(before)[::-1]
    query = f"SELECT id, source, target FROM edges WHERE user_seq<={since} AND id IN (%s)"
    ends = {edge: (source, target) for edge, source, target in rows.chosen(connection, query, {i.id for i in images})}
    images = [image for image in images if image.id in ends]
    connection.executemany(
        f"UPDATE edges SET weight=?, confidence=?, deleted_us=?, hidden_by=?, changed_by=?, seq={seq} WHERE id=?",
        (
            (
                *(image.weight, image.confidence, image.deleted_us or None, image.hidden_by or None),
                *(image.changed_by or None, image.id),
            )
            for image in images
        ),
    )
    delta.changed_edges += [
        NewEdge(image.id, *ends[image.id], image.weight, image.confidence, not image.deleted_us) for image in images
    ]


def _release_edges(connection: Connection, nodes: Iterable[int], seq: int, delta: Delta) -> None:
    """Edges that wait for a memory which lives again are back, or wait for their other end.

    There is no image of an edge that a user had hidden with its other end before the dream, and brought back since.
    """
    living = [node.id for node in standing.find(connection, nodes).values() if node.alive]
    waiting = {
        row[0]: row
        for side in ("source", "target")
        for row in rows.chosen(
            connection,
            f"SELECT id, source, target, weight, confidence, hidden_by FROM edges WHERE hidden_by={side}"
            f" AND {side} IN (%s)",
            living,
        )
    }
    others = {edge: source + target - hider for edge, source, target, _, _, hider in waiting.values()}
    gone = {node.id for node in standing.find(connection, others.values()).values() if not node.alive}
    for edge, other in others.items():
        if other in gone:
            connection.execute("UPDATE edges SET hidden_by=? WHERE id=?", (other, edge))
            continue
        connection.execute("UPDATE edges SET deleted_us=NULL, hidden_by=NULL, seq=? WHERE id=?", (seq, edge))
        delta.changed_edges.append(NewEdge(*waiting[edge][:5], alive=True))


def _restore_nodes(
    connection: Connection, change: Change, images: Iterable[NodeImage], since: int, seq: int, delta: Delta
) -> None:
    ordered = list(reversed(list(images)))
    was = standing.find(connection, [image.id for image in ordered])
    left = Counter(image.id for image in ordered)
    back: set[int] = set()
    touched: set[int] = set()
    respoken: set[int] = set()
    for image in ordered:
        node = was.get(image.id)
        if node is None or node.changed_by != change.id:
            # A user made it stand for itself meanwhile.
            continue
        told = _as_user_left_it(node, image) if node.user_seq > since else image
        connection.execute(
            "UPDATE nodes SET role=?, merged_into=?, deleted_us=?, changed_by=?, importance=?, created_us=?,"
            " accessed_us=?, access_count=?, event_us=?, event_end_us=?, aliases=?, seq=? WHERE id=?",
            (
                *(image.role, image.merged_into or None, told.deleted_us or None, image.changed_by or None),
                *(told.importance, image.created_us, _accessed(node, image), node.access_count - image.access_added),
                *(_time(told.event_us), _time(told.event_end_us), told.aliases, seq, image.id),
            ),
        )
        if image.HasField("packed"):
            if node.role == FOLDED:
                # It had no original any more; what its code remembered was put in the place of one.
                connection.execute("DELETE FROM vectors WHERE node=?", (image.id,))
            standing.put_packed(connection, [(image.id, image.packed)])
        elif image.role not in (FACET, CONTAINER):
            standing.drop_packed(connection, [image.id])
        back.add(image.id)
        if not node.alive or node.role == CONTAINER or node.aliases != told.aliases:
            respoken.add(image.id)
        touched |= {held for held in (image.merged_into, node.merged_into) if held}
        left[image.id] -= 1
        if left[image.id]:
            was |= standing.find(connection, [image.id])
    _show(connection, back, respoken, touched, delta)


def _as_user_left_it(node: Standing, image: NodeImage) -> NodeImage:
    told = NodeImage()
    told.CopyFrom(image)
    told.deleted_us = node.deleted_us or 0
    told.importance, told.aliases = node.importance, node.aliases
    told.event_us = NEVER if node.event_us is None else node.event_us
    told.event_end_us = NEVER if node.event_end_us is None else node.event_end_us
    return told


def _take_away(connection: Connection, node: Standing, since: int, author: Author, delta: Delta) -> None:
    """What the dream made is gone, unless a user made something of it: then a memory stays, a container is hidden."""
    held = standing.merged_into(connection, [node.id])
    used = connection.execute("SELECT 1 FROM edges WHERE source=?1 OR target=?1", (node.id,)).fetchone() is not None
    if not (held or used or node.user_seq > since):
        standing.drop_packed(connection, [node.id])
        coactivation.drop(connection, [node.id])
        blind_spots.drop(connection, [node.id])
        derived.drop(connection, [node.id])
        connection.execute("DELETE FROM vectors WHERE node=?", (node.id,))
        connection.execute("DELETE FROM nodes WHERE id=?", (node.id,))
        delta.hidden_nodes.append(node.id)
    elif node.role == CONTAINER and not any(row.alive and row.role == FACET for row in held):
        close(connection, node.id, author, delta)


def _accessed(node: Standing, image: NodeImage) -> int | None:
    """The time of the last recall: what it was, unless it was recalled again."""
    known = NEVER if node.accessed_us is None else node.accessed_us
    return _time(image.accessed_us) if known == image.accessed_after_us else node.accessed_us


def _time(value: int) -> int | None:
    return None if value == NEVER else value


def _show(connection: Connection, nodes: set[int], respoken: set[int], containers: set[int], delta: Delta) -> None:
    """The live graph learns what some memories stand for now. respoken: those whose words it has to read anew."""
    now = standing.find(connection, nodes | containers)
    for node in (now[key] for key in sorted(nodes)):
        if node.alive:
            delta.inherited.append(node.live())
        if node.alive and node.id in respoken:
            delta.changed_nodes.append(node.live())
        else:
            into = NEVER if node.merged_into is None else node.merged_into
            delta.roles.append(RoleChange(node.id, node.role, into, node.alive))
    derived.show(connection, sorted(respoken), delta)
    alone = [key for key in sorted(nodes) if now[key].alive and now[key].role not in (FACET, CONTAINER)]
    delta.vectors.update(
        {node: vector.astype(np.float32) for node, vector in standing.stored_vectors(connection, alone).items()}
    )
    held = {key for key in containers | nodes if key in now and now[key].alive and now[key].role == CONTAINER}
    delta.containers.update(standing.containers(connection, sorted(held)))
