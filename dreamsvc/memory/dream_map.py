"""Where memories lie in the Poincare ball, and what a dream walked and made there: the data of a picture."""

import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import EdgeDetail, Operations, Walk
from dreamsvc.memory import operations, rows
from dreamsvc.memory.blind_spots import DISCOVERED, short
from dreamsvc.memory.operations import COMPACTED, Change
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import ChangeId, Connection
from dreamsvc.v1.dream_service_pb2 import GetDreamMapResponse, MapEdge, MapMemory, MapWalk

# A picture of more shows nothing.
MOST_EDGES = 5_000
# Of a text, in characters; what is shown of it is shorter.
READ = 640


class _Made(NamedTuple):
    """An edge that a dream made."""

    source: int
    target: int
    type: str
    origin: int
    evidence: str


def read(connection: Connection, space: Space, dream: ChangeId | None, most: int) -> GetDreamMapResponse:
    """The map of a space: memories that walks and edges of a dream touch, and the most important up to `most`.

    What has no position, or one of another dimension than most have, is on no map. Edges are the strongest first, finds
    before links.
    """
    width, placed = _width(connection, space)
    answer = GetDreamMapResponse(dimension=width // 4, memories_placed=placed)
    if not placed:
        return answer
    change = None if dream is None else operations.find(connection, dream)
    edges = _made(connection, change) if change is not None else []
    walks = _walks(connection, change, answer.dimension) if change is not None else []
    touched = {node for edge in edges for node in (edge.source, edge.target)} | {walk.origin for walk in walks}
    points = _points(connection, space, width, touched, most)
    place = {node: i for i, node in enumerate(points)}
    answer.memories.extend(_memories(connection, points))
    answer.walks.extend(MapWalk(origin=place[one.origin], points=one.points) for one in walks if one.origin in place)
    answer.edges.extend(
        MapEdge(
            source=place[edge.source],
            target=place[edge.target],
            type=edge.type,
            origin=edge.origin,  # pyright: ignore[reportArgumentType]
            evidence=edge.evidence,
        )
        for edge in edges
        if edge.source in place and edge.target in place
    )
    return answer


def _width(connection: Connection, space: Space) -> tuple[int, int]:
    """Bytes of a position, as most memories have it, and how many have it."""
    row = connection.execute(
        "SELECT length(p.body), count(*) FROM positions p JOIN nodes n ON n.id = p.node WHERE n.space=?"
        " AND n.deleted_us IS NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1",
        (space.id,),
    ).fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def _points(
    connection: Connection, space: Space, width: int, touched: Iterable[int], most: int
) -> dict[int, NDArray[np.float32]]:
    """Positions by row id, ascending; one that does not match its checksum is left out, a night will mend it."""
    living = f"FROM positions p JOIN nodes n ON n.id = p.node WHERE n.space={space.id} AND n.deleted_us IS NULL"
    query = f"SELECT p.node, p.body, p.crc {living} AND length(p.body)={width}"
    found = rows.chosen(connection, f"{query} AND p.node IN (%s)", sorted(touched))
    known = {row[0] for row in found}
    # As many more as could be needed if none of them were among the touched.
    best = connection.execute(f"{query} ORDER BY n.importance DESC, n.id LIMIT ?", (most,)).fetchall()
    found += [row for row in best if row[0] not in known][: max(0, most - len(found))]
    return {node: np.frombuffer(body, "<f4") for node, body, crc in sorted(found) if zlib.crc32(body) == crc}


def _memories(connection: Connection, points: dict[int, NDArray[np.float32]]) -> list[MapMemory]:
    query = f"SELECT id, uid, title, substr(text, 1, {READ}), kind, importance FROM nodes WHERE id IN (%s)"
    told = {row[0]: row[1:] for row in rows.chosen(connection, query, points)}
    found: list[MapMemory] = []
    for node, point in points.items():
        uid, title, text, kind, importance = told[node]
        found.append(
            MapMemory(
                id=entropy.uuid_text(uid),
                text=short(title, text),
                kind=kind,
                importance=importance,
                point=point.tolist(),
            )
        )
    return found


def _made(connection: Connection, change: Change) -> list[_Made]:
    """Edges of a dream that live; of one that is not applied yet those that it would make between what is there."""
    if change.state == "staging":
        return _would_make(connection, change)
    query = (
        "SELECT e.source, e.target, k.name, e.origin, e.detail FROM edges e JOIN edge_types k ON k.id = e.type"
        " WHERE e.space=? AND e.born_in=? AND e.deleted_us IS NULL"
        " ORDER BY k.name <> ?, e.confidence DESC, e.weight DESC, e.id LIMIT ?"
    )
    return [
        _Made(source, target, kind, origin, EdgeDetail.FromString(detail).evidence if detail else "")
        for source, target, kind, origin, detail in connection.execute(
            query, (change.space, change.id, DISCOVERED, MOST_EDGES)
        )
    ]


def _would_make(connection: Connection, change: Change) -> list[_Made]:
    ranked: list[tuple[tuple[bool, float, float], _Made]] = []
    for part in _parts(connection, change, "new_edges"):
        made = part.new_edges
        for i, (source, target, kind) in enumerate(zip(made.sources, made.targets, made.types, strict=True)):
            edge = _Made(source, target, kind, made.origins[i], made.details[i].evidence)
            ranked.append(((kind != DISCOVERED, -made.confidences[i], -made.weights[i]), edge))
    # Memories that only the dream would make have no position.
    there = [(rank, edge) for rank, edge in ranked if edge.source > 0 and edge.target > 0]
    return [edge for _, edge in sorted(there, key=lambda one: one[0])[:MOST_EDGES]]


def _walks(connection: Connection, change: Change, dimension: int) -> list[Walk]:
    """Walks of a dream in its journal; none once that was let go, or where they are of another dimension."""
    return [
        walk
        for part in _parts(connection, change, "walks")
        if part.walks.dimension == dimension
        for walk in part.walks.walks
        if len(walk.points) % dimension == 0
    ]


def _parts(connection: Connection, change: Change, kind: str) -> Sequence[Operations]:
    bodies = connection.execute(
        "SELECT part, body, crc FROM change_parts WHERE change=? AND generation=? ORDER BY part",
        (change.id, change.generation or COMPACTED),
    )
    told = [Operations.FromString(operations.checked(change.id, *row)) for row in bodies]
    return [part for part in told if part.WhichOneof("kind") == kind]
