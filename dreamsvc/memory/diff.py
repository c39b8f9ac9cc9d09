"""Every edit of a dream in words that a person can judge: of a proposal what it would do, else what it did."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import BeforeImages, EdgeWeights, Operations
from dreamsvc.errors import ChangedLater
from dreamsvc.memory import fold, operations, rows
from dreamsvc.memory.operations import COMPACTED, Change
from dreamsvc.memory.sqlite import Connection
from dreamsvc.memory.standing import FOLDED, REPLACED
from dreamsvc.v1.dream_service_pb2 import DreamEdit, EditedMemory

SHOWN = 160
# An edit's place is its part and its number there; no part has so many.
PLACES = 1 << 24

type Placed = Iterator[tuple[int, DreamEdit]]


class _Part(NamedTuple):
    """A part of the journal; `before` once it is folded."""

    connection: Connection
    change: Change
    body: Operations
    before: BeforeImages | None

    def happened(self, nodes: Iterable[int]) -> list[int]:
        """Those of some memories that it changed, or would change."""
        if self.before is None:
            return list(nodes)
        changed = {image.id for image in self.before.nodes}
        return [node for node in nodes if node in changed]


def edits(
    connection: Connection, change: Change, *, weights: bool, first: int, limit: int
) -> list[tuple[int, DreamEdit]]:
    """Up to `limit` edits from place `first` on, each with its place, ascending; places stay the same for ever.

    Raises ChangedLater where the journal was let go.
    """
    purged = connection.execute("SELECT purged_us FROM changes WHERE id=?", (change.id,)).fetchone()
    if purged != (None,):
        raise ChangedLater("the journal of this dream has been purged; its report is what is left")
    return list(islice(_edits(connection, change, weights=weights, first=first), limit))


def _edits(connection: Connection, change: Change, *, weights: bool, first: int) -> Placed:
    number = first // PLACES
    while True:
        row = connection.execute(
            "SELECT part, body, crc, before FROM change_parts WHERE change=? AND generation=? AND part>=?"
            " ORDER BY part LIMIT 1",
            (change.id, change.generation or COMPACTED, number),
        ).fetchone()
        if row is None:
            return
        number, body, crc, before = row
        told = Operations.FromString(operations.checked(change.id, number, body, crc))
        part = _Part(connection, change, told, None if before is None else BeforeImages.FromString(before))
        for place, edit in _edits_of(part, weights=weights):
            if number * PLACES + place >= first:
                yield number * PLACES + place, edit
        number += 1


def _edits_of(part: _Part, *, weights: bool) -> Placed:
    match part.body.WhichOneof("kind"):
        case "edge_weights" if weights:
            yield from _weights(part, part.body.edge_weights)
        case "eliminations":
            yield from _eliminations(part)
        case "containers":
            yield from _containers(part)
        case "new_memories":
            yield from _new_memories(part)
        case "new_edges":
            yield from _new_edges(part)
        case _:
            pass


def _eliminations(part: _Part) -> Placed:
    all_of = part.body.eliminations.eliminations
    known = _memories(part.connection, [node for one in all_of for node in (one.survivor, *one.copies)])
    for place, one in enumerate(all_of):
        copies = part.happened(one.copies)
        if not copies:
            continue
        nearest = min(one.cosines, default=0.0)
        yield (
            place,
            DreamEdit(
                kind=DreamEdit.KIND_ELIMINATED,
                what="copies",
                memories=[known[node] for node in (one.survivor, *copies) if node in known],
                why=f"cosine {nearest:.3f}" if nearest > 0 else "the same text",
            ),
        )


def _containers(part: _Part) -> Placed:
    all_of = part.body.containers.containers
    known = _memories(part.connection, [node for one in all_of for node in one.members])
    for place, one in enumerate(all_of):
        members = part.happened(one.members)
        if not members:
            continue
        yield (
            place,
            DreamEdit(
                kind=DreamEdit.KIND_MERGED,
                what=one.title,
                stage=one.stage,
                memories=[known[node] for node in members if node in known],
                why=f"mean cosine {one.cohesion:.2f}",
            ),
        )


def _new_memories(part: _Part) -> Placed:
    for place, memory in enumerate(part.body.new_memories.memories):
        uid = entropy.uuid_text(fold.memory_id(part.change, memory.number))
        shown = EditedMemory(id=uid, text=_short(memory.title, memory.text))
        yield (
            place,
            DreamEdit(kind=DreamEdit.KIND_MEMORY_MADE, what=memory.kind, memories=[shown], why=_short("", memory.text)),
        )


def _new_edges(part: _Part) -> Placed:
    made = part.body.new_edges
    known = _memories(part.connection, [end for end in (*made.sources, *made.targets) if end > 0])
    left_out = _left_out(part)
    for place, (source, target) in enumerate(zip(made.sources, made.targets, strict=True)):
        if place in left_out:
            continue
        ends: list[EditedMemory] = []
        for end in (source, target):
            if end < 0:
                uid = entropy.uuid_text(fold.memory_id(part.change, -end))
                ends.append(EditedMemory(id=uid, text="(made by this dream)"))
            else:
                ends.append(known.get(end, EditedMemory()))
        yield (
            place,
            DreamEdit(
                kind=DreamEdit.KIND_EDGE_MADE,
                what=made.types[place],
                memories=ends,
                weight_after=made.weights[place],
                why=made.details[place].evidence,
            ),
        )


def _left_out(part: _Part) -> set[int]:
    """Places of edges that were not made, e.g. as an end was forgotten meanwhile; of a dream that is applied."""
    connection, made = part.connection, part.body.new_edges
    if part.before is None or part.change.state != "folded":
        return set()
    query = "SELECT e.source, e.target, k.name FROM edges e JOIN edge_types k ON k.id = e.type WHERE e.id IN (%s)"
    born = {tuple(row) for row in rows.chosen(connection, query, part.before.born_edges)}
    # One between copies became one between what stands for them; what the dream itself made has no row id here.
    query = f"SELECT id FROM nodes WHERE role IN ({FOLDED}, {REPLACED}) AND id IN (%s)"
    elsewhere = {node for (node,) in rows.chosen(connection, query, {*made.sources, *made.targets})}
    return {
        place
        for place, edge in enumerate(zip(made.sources, made.targets, made.types, strict=True))
        if edge not in born and min(edge[:2]) > 0 and not elsewhere.intersection(edge[:2])
    }


def _weights(part: _Part, edges: EdgeWeights) -> Placed:
    connection = part.connection
    if part.before is not None:
        was = dict(zip(part.before.edge_ids, part.before.weights, strict=True))
    else:
        query = "SELECT id, weight FROM edges WHERE deleted_us IS NULL AND id IN (%s)"
        was = dict(rows.chosen(connection, query, edges.edge_ids))
    query = "SELECT e.id, e.source, e.target, k.name FROM edges e JOIN edge_types k ON k.id = e.type WHERE e.id IN (%s)"
    ends = {row[0]: row[1:] for row in rows.chosen(connection, query, edges.edge_ids)}
    known = _memories(connection, {node for source, target, _ in ends.values() for node in (source, target)})
    for place, (edge, weight, pruned) in enumerate(zip(edges.edge_ids, edges.weights, edges.pruned, strict=True)):
        if edge not in was or edge not in ends:
            continue
        source, target, kind = ends[edge]
        change = DreamEdit.KIND_EDGE_STRENGTHENED if weight > was[edge] else DreamEdit.KIND_EDGE_WEAKENED
        yield (
            place,
            DreamEdit(
                kind=DreamEdit.KIND_EDGE_PRUNED if pruned else change,
                what=kind,
                memories=[known[node] for node in (source, target) if node in known],
                weight_before=was[edge],
                weight_after=weight,
            ),
        )


def _memories(connection: Connection, nodes: Iterable[int]) -> dict[int, EditedMemory]:
    query = "SELECT id, uid, key, title, text FROM nodes WHERE id IN (%s)"
    return {
        node: EditedMemory(id=entropy.uuid_text(uid), key=key or "", text=_short(title, text))
        for node, uid, key, title, text in rows.chosen(connection, query, set(nodes))
    }


def _short(title: str, text: str) -> str:
    """The title with the beginning of the text."""
    joined = " ".join(f"{title}: {text}".split()) if title and text else title or " ".join(text.split())
    return joined if len(joined) <= SHOWN else joined[: SHOWN - 1] + "…"
