"""Edges that a dream moves from what it hides to what stands for that, and those that it makes."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dreamsvc.dreamer.v1.operations_pb2 import EdgeImage, NewEdges
from dreamsvc.memory import blind_spots, rows, standing
from dreamsvc.memory.edges import SUPERSEDES, type_ids
from dreamsvc.memory.fold import Fold, memory_id
from dreamsvc.memory.graph import NewEdge
from dreamsvc.memory.sqlite import take_ids


class _EdgeRow(NamedTuple):
    id: int
    source: int
    target: int
    type: int
    weight: float
    confidence: float
    origin: int
    created_us: int
    deleted_us: int | None
    hidden_by: int | None
    changed_by: int | None
    detail: bytes | None
    user_seq: int


_EDGE_COLUMNS = (
    "id, source, target, type, weight, confidence, origin, created_us, deleted_us, hidden_by, changed_by, detail,"
    " user_seq"
)


def _image_of_edge(edge: _EdgeRow) -> EdgeImage:
    return EdgeImage(
        id=edge.id,
        weight=edge.weight,
        confidence=edge.confidence,
        deleted_us=edge.deleted_us or 0,
        hidden_by=edge.hidden_by or 0,
        changed_by=edge.changed_by or 0,
    )


def move_edges(fold: Fold, sources: Sequence[int], heir: int) -> None:
    """The edges of hidden memories go over to the one that stands for them; of equal edges the stronger counts.

    The old edge stays where it was, hidden with its memory, so that bringing that back brings its edges back.
    """
    connection, moved = fold.connection, set(sources)
    found = {
        row[0]: _EdgeRow(*row)
        for side in ("source", "target")
        for row in rows.chosen(
            connection, f"SELECT {_EDGE_COLUMNS} FROM edges WHERE deleted_us IS NULL AND {side} IN (%s)", sources
        )
    }
    if not found:
        return
    own = {
        (row[1], row[2], row[3]): _EdgeRow(*row)
        for side in ("source", "target")
        for row in rows.chosen(connection, f"SELECT {_EDGE_COLUMNS} FROM edges WHERE {side} IN (%s)", [heir])
    }
    wanted: dict[tuple[int, int, int], _EdgeRow] = {}
    hiders: list[tuple[int, int]] = []
    for edge in sorted(found.values()):
        fold.before.edges.append(_image_of_edge(edge))
        hiders.append((edge.source if edge.source in moved else edge.target, edge.id))
        fold.delta.changed_edges.append(_live(edge, alive=False))
        source = heir if edge.source in moved else edge.source
        target = heir if edge.target in moved else edge.target
        name = (source, target, edge.type)
        if source != target and (name not in wanted or edge.weight > wanted[name].weight):
            wanted[name] = edge
    hidden = f"deleted_us={fold.now_us}, changed_by={fold.change.id}, seq={fold.seq}"
    connection.executemany(f"UPDATE edges SET {hidden}, hidden_by=? WHERE id=?", hiders)
    names = [name for name in sorted(wanted) if name not in own]
    _insert_edges(fold, [wanted[name]._replace(source=name[0], target=name[1]) for name in names])
    for name in sorted(wanted.keys() & own.keys()):
        _strengthen(fold, own[name], wanted[name])


def _strengthen(fold: Fold, edge: _EdgeRow, by: _EdgeRow) -> None:
    """An edge that the heir has already takes the stronger of both weights; one that was hidden is back."""
    if edge.user_seq > fold.change.base_seq:
        fold.before.skipped.append(edge.id)
        return
    weight, confidence = max(edge.weight, by.weight), max(edge.confidence, by.confidence)
    if edge.deleted_us is not None:
        weight, confidence = by.weight, by.confidence
    elif (weight, confidence) == (edge.weight, edge.confidence):
        return
    fold.before.edges.append(_image_of_edge(edge))
    fold.connection.execute(
        "UPDATE edges SET weight=?, confidence=?, deleted_us=NULL, hidden_by=NULL, changed_by=?, seq=? WHERE id=?",
        (weight, confidence, fold.change.id, fold.seq, edge.id),
    )
    fold.delta.changed_edges.append(_live(edge._replace(weight=weight, confidence=confidence), alive=True))


def _insert_edges(fold: Fold, edges: Sequence[_EdgeRow]) -> None:
    """Stores edges of new names; gives them their ids."""
    if not edges:
        return
    first = take_ids(fold.connection, "next_edge", len(edges))
    (superseding,) = fold.connection.execute("SELECT max(id) FROM edge_types WHERE name=?", (SUPERSEDES,)).fetchone()
    made = [edge._replace(id=first + i) for i, edge in enumerate(edges)]
    fold.connection.executemany(
        "INSERT INTO edges (id, space, source, target, type, weight, confidence, origin, created_us, changed_by,"
        " born_in, seq, user_seq, detail) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,0,?)",
        (
            (
                *(edge.id, fold.change.space, edge.source, edge.target, edge.type, edge.weight, edge.confidence),
                *(edge.origin, edge.created_us, fold.change.id, fold.change.id, fold.seq, edge.detail),
            )
            for edge in made
        ),
    )
    fold.before.born_edges.extend(edge.id for edge in made)
    fold.delta.new_edges += [_live(edge, alive=True)._replace(supersedes=edge.type == superseding) for edge in made]


def _live(edge: _EdgeRow, *, alive: bool) -> NewEdge:
    return NewEdge(edge.id, edge.source, edge.target, edge.weight, edge.confidence, alive, type=edge.type)


def fold_new_edges(fold: Fold, part: NewEdges) -> None:
    """Stores the edges of a dream; one that exists already, or has lost an end, is left out."""
    ends = _ends(fold, {*part.sources, *part.targets})
    kinds = type_ids(fold.connection, set(part.types))
    rows_: list[_EdgeRow] = []
    names: set[tuple[int, int, int]] = set()
    for i, (source, target, kind) in enumerate(zip(part.sources, part.targets, part.types, strict=True)):
        if source not in ends or target not in ends or ends[source] == ends[target]:
            fold.before.skipped.append(source)
            continue
        name = (ends[source], ends[target], kinds[kind])
        if name in names:
            continue
        names.add(name)
        detail = part.details[i].SerializeToString(deterministic=True)
        edge = _EdgeRow(
            *(0, *name, part.weights[i], part.confidences[i], part.origins[i], fold.now_us, None, None, None, detail, 0)
        )
        rows_.append(edge)
    present = {
        tuple(row)
        for row in rows.chosen(
            fold.connection, "SELECT source, target, type FROM edges WHERE source IN (%s)", {e.source for e in rows_}
        )
    }
    present |= _rejected(fold, rows_, kinds.get(blind_spots.DISCOVERED))
    fresh = [edge for edge in rows_ if (edge.source, edge.target, edge.type) not in present]
    fold.before.skipped.extend(e.source for e in rows_ if (e.source, e.target, e.type) in present)
    _insert_edges(fold, fresh)


def _rejected(fold: Fold, edges: Iterable[_EdgeRow], kind: int | None) -> set[tuple[int, ...]]:
    """Names of edges between the ends of a find that somebody rejected, e.g. while the dream ran."""
    pairs = {(edge.source, edge.target) for edge in edges if edge.type == kind}
    if not pairs:
        return set()
    refused = blind_spots.rejected(fold.connection, fold.change.space, pairs)
    return {
        (*pair, edge.type) for edge in edges if edge.type == kind and (pair := (edge.source, edge.target)) in refused
    }


def _ends(fold: Fold, names: Iterable[int]) -> dict[int, int]:
    """Row ids of living ends, by the name a part gives them; a copy's survivor stands for it."""
    made = {name: memory_id(fold.change, -name) for name in names if name < 0}
    query = f"SELECT uid, id FROM nodes WHERE space={fold.change.space} AND deleted_us IS NULL AND uid IN (%s)"
    by_uid = dict(rows.chosen(fold.connection, query, made.values()))
    found = {name: by_uid[uid] for name, uid in made.items() if uid in by_uid}
    found |= standing.living(fold.connection, [name for name in names if name >= 0], fold.change.space)
    return found
