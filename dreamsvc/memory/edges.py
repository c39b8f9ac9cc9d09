"""Stores edges inside a transaction, and brings back those that went along with a forgotten memory."""

from collections.abc import Sequence

from dreamsvc.clock import from_timestamp
from dreamsvc.dreamer.v1.operations_pb2 import EdgeDetail
from dreamsvc.errors import InvalidFields, Violation
from dreamsvc.memory import rows
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.graph import NewEdge
from dreamsvc.memory.known import Author, find_nodes
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection, take_ids
from dreamsvc.v1 import memory_pb2
from dreamsvc.v1.memory_pb2 import Edge

# Leads from a newer fact to the older one that does not hold any more.
SUPERSEDES = "SUPERSEDES"


def write_edges(
    connection: Connection, space: Space, edges: Sequence[Edge], author: Author, delta: Delta
) -> tuple[int, int]:
    if not edges:
        return 0, 0
    ends = find_nodes(connection, space, {name for edge in edges for name in (edge.source, edge.target)})
    wrong: list[Violation] = []
    named: dict[tuple[int, int, str], Edge] = {}
    for i, edge in enumerate(edges):
        for side, name in (("source", edge.source), ("target", edge.target)):
            if name not in ends:
                wrong.append(Violation(f"edges[{i}].{side}", f'no memory "{name[:80]}" in space "{space.name}"'))
            elif ends[name].deleted:
                wrong.append(Violation(f"edges[{i}].{side}", f'"{name[:80]}" is forgotten; restore it first'))
        if edge.source not in ends or edge.target not in ends:
            continue
        name = (ends[edge.source].id, ends[edge.target].id, edge.type)
        if name[0] == name[1]:
            wrong.append(Violation(f"edges[{i}].target", "is the same memory as the source"))
        elif name in named:
            wrong.append(Violation(f"edges[{i}]", "has the source, target and type of an edge before it"))
        elif not (ends[edge.source].deleted or ends[edge.target].deleted):
            named[name] = edge
    # An import was checked when it came: what users forgot since then gets no edges, of equal ones the first counts.
    if wrong and author.updates:
        raise InvalidFields(wrong)
    types = type_ids(connection, {edge.type for edge in edges})
    return _upsert_edges(
        connection, space, {(s, t, types[kind]): edge for (s, t, kind), edge in named.items()}, author, delta
    )


def _upsert_edges(
    connection: Connection, space: Space, named: dict[tuple[int, int, int], Edge], author: Author, delta: Delta
) -> tuple[int, int]:
    present = {
        (source, target, kind): edge
        for edge, source, target, kind in rows.chosen(
            connection,
            "SELECT id, source, target, type FROM edges WHERE source IN (%s)",
            {source for source, _, _ in named},
        )
    }
    fresh = [(name, edge) for name, edge in named.items() if name not in present]
    first = take_ids(connection, "next_edge", len(fresh)) if fresh else 0
    superseding = type_ids(connection, {SUPERSEDES})[SUPERSEDES]
    details = _details(connection, space, [edge for _, edge in fresh], author)
    connection.executemany(
        "INSERT INTO edges (id, space, source, target, type, weight, confidence, origin, created_us, born_in, seq,"
        " user_seq, detail) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            (
                *(first + i, space.id, *name, edge.weight, edge.confidence, _origin(edge, author)),
                *(_edge_created(edge, author), author.change, author.seq, author.seq, details[i]),
            )
            for i, (name, edge) in enumerate(fresh)
        ),
    )
    delta.new_edges += [
        NewEdge(first + i, *name[:2], edge.weight, edge.confidence, True, name[2], name[2] == superseding)
        for i, (name, edge) in enumerate(fresh)
    ]
    old = [(name, edge) for name, edge in named.items() if name in present] if author.updates else []
    connection.executemany(
        "UPDATE edges SET weight=?, confidence=?, deleted_us=NULL, hidden_by=NULL, seq=?, user_seq=? WHERE id=?",
        ((edge.weight, edge.confidence, author.seq, author.seq, present[name]) for name, edge in old),
    )
    delta.changed_edges += [
        NewEdge(present[name], *name[:2], edge.weight, edge.confidence, True, name[2], name[2] == superseding)
        for name, edge in old
    ]
    return len(fresh), len(old)


def _details(connection: Connection, space: Space, edges: Sequence[Edge], author: Author) -> list[bytes | None]:
    """What an import says of edges beside their weights; a user says no more than that."""
    if author.change is None:
        return [None] * len(edges)
    ends = find_nodes(connection, space, {name for edge in edges for name in edge.path})
    found: list[bytes | None] = []
    for edge in edges:
        detail = EdgeDetail(
            is_amortized_shortcut=edge.is_amortized_shortcut,
            path=[ends[name].id for name in edge.path] if all(name in ends for name in edge.path) else [],
            evidence=edge.evidence,
        )
        if edge.HasField("valid_from"):
            detail.valid_from_us = from_timestamp(edge.valid_from)
        if edge.HasField("valid_to"):
            detail.valid_to_us = from_timestamp(edge.valid_to)
        found.append(detail.SerializeToString(deterministic=True) or None)
    return found


def _origin(edge: Edge, author: Author) -> int:
    if author.change is None:
        return memory_pb2.EDGE_ORIGIN_USER_CREATED
    return edge.origin or memory_pb2.EDGE_ORIGIN_IMPORTED_DATA


def _edge_created(edge: Edge, author: Author) -> int:
    own = author.change is not None and edge.HasField("create_time")
    return from_timestamp(edge.create_time) if own else author.now_us


def type_ids(connection: Connection, names: set[str]) -> dict[str, int]:
    connection.executemany(
        "INSERT INTO edge_types (name) VALUES (?) ON CONFLICT DO NOTHING", ((name,) for name in sorted(names))
    )
    return {
        name: number
        for number, name in rows.chosen(connection, "SELECT id, name FROM edge_types WHERE name IN (%s)", names)
    }


def revive_edges(connection: Connection, node: int, author: Author, delta: Delta) -> None:
    """Brings back the edges that went with a memory; those whose other end is gone are handed to that end."""
    connection.execute(
        "UPDATE edges SET hidden_by = (SELECT n.id FROM nodes n WHERE n.id IN (edges.source, edges.target)"
        " AND n.id <> ?1 AND n.deleted_us IS NOT NULL) WHERE hidden_by = ?1 AND EXISTS (SELECT 1 FROM nodes n"
        " WHERE n.id IN (edges.source, edges.target) AND n.id <> ?1 AND n.deleted_us IS NOT NULL)",
        (node,),
    )
    revived = connection.execute(
        "UPDATE edges SET deleted_us=NULL, hidden_by=NULL, seq=?1, user_seq=iif(user_seq=0, 0, ?1) WHERE hidden_by=?2"
        " RETURNING id, source, target, weight, confidence",
        (author.seq, node),
    ).fetchall()
    # The live graph knows an edge's type since it was added.
    delta.changed_edges += [NewEdge(*edge, alive=True) for edge in revived]
