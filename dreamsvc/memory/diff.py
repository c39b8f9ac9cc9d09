"""Every edit of a dream in words that a person can judge: of a proposal what it would do, else what it did."""

from collections.abc import Iterator, Sequence
from itertools import islice

from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import BeforeImages, EdgeWeights, Operations
from dreamsvc.errors import ChangedLater
from dreamsvc.memory import merges, rows
from dreamsvc.memory.operations import COMPACTED, Change
from dreamsvc.memory.sqlite import Connection
from dreamsvc.v1.dream_service_pb2 import DreamEdit, EditedMemory

SHOWN = 160


def edits(connection: Connection, change: Change, *, weights: bool, after: int, limit: int) -> list[DreamEdit]:
    """Up to `limit` edits from number `after` on; raises ChangedLater where the journal was let go."""
    return list(islice(_edits(connection, change, weights=weights), after, after + limit))


def _edits(connection: Connection, change: Change, *, weights: bool) -> Iterator[DreamEdit]:
    generation = change.generation or COMPACTED
    found = connection.execute(
        "SELECT body, before FROM change_parts WHERE change=? AND generation=? ORDER BY part", (change.id, generation)
    ).fetchall()
    purged = connection.execute("SELECT purged_us FROM changes WHERE id=?", (change.id,)).fetchone()
    if purged != (None,):
        raise ChangedLater("the journal of this dream has been purged; its report is what is left")
    for body, before in found:
        part = Operations.FromString(body)
        match part.WhichOneof("kind"):
            case "edge_weights" if weights:
                yield from _weights(connection, part.edge_weights, before)
            case "eliminations":
                yield from _eliminations(connection, part)
            case "containers":
                yield from _containers(connection, part)
            case "new_memories":
                for memory in part.new_memories.memories:
                    uid = entropy.uuid_text(merges.memory_id(change, memory.number))
                    shown = EditedMemory(id=uid, text=_short(memory.title, memory.text))
                    yield DreamEdit(
                        kind=DreamEdit.KIND_MEMORY_MADE, what=memory.kind, memories=[shown], why=memory.text[:SHOWN]
                    )
            case "new_edges":
                yield from _new_edges(connection, change, part)
            case _:
                pass


def _eliminations(connection: Connection, part: Operations) -> Iterator[DreamEdit]:
    all_of = part.eliminations.eliminations
    known = _memories(connection, [node for one in all_of for node in (one.survivor, *one.copies)])
    for one in all_of:
        nearest = min(one.cosines, default=0.0)
        yield DreamEdit(
            kind=DreamEdit.KIND_ELIMINATED,
            what="copies",
            memories=[known[node] for node in (one.survivor, *one.copies) if node in known],
            why=f"cosine {nearest:.3f}" if nearest > 0 else "the same text",
        )


def _containers(connection: Connection, part: Operations) -> Iterator[DreamEdit]:
    all_of = part.containers.containers
    known = _memories(connection, [node for one in all_of for node in one.members])
    for one in all_of:
        yield DreamEdit(
            kind=DreamEdit.KIND_MERGED,
            what=one.title,
            stage=one.stage,
            memories=[known[node] for node in one.members if node in known],
            why=f"mean cosine {one.cohesion:.2f}",
        )


def _new_edges(connection: Connection, change: Change, part: Operations) -> Iterator[DreamEdit]:
    made = part.new_edges
    known = _memories(connection, [end for end in (*made.sources, *made.targets) if end > 0])
    for i, (source, target) in enumerate(zip(made.sources, made.targets, strict=True)):
        ends: list[EditedMemory] = []
        for end in (source, target):
            if end < 0:
                uid = entropy.uuid_text(merges.memory_id(change, -end))
                ends.append(EditedMemory(id=uid, text="(made by this dream)"))
            else:
                ends.append(known.get(end, EditedMemory()))
        yield DreamEdit(
            kind=DreamEdit.KIND_EDGE_MADE,
            what=made.types[i],
            memories=ends,
            weight_after=made.weights[i],
            why=made.details[i].evidence,
        )


def _weights(connection: Connection, part: EdgeWeights, before: bytes | None) -> Iterator[DreamEdit]:
    if before is not None:
        image = BeforeImages.FromString(before)
        was = dict(zip(image.edge_ids, image.weights, strict=True))
    else:
        was = dict(rows.chosen(connection, "SELECT id, weight FROM edges WHERE id IN (%s)", part.edge_ids))
    query = "SELECT e.id, e.source, e.target, k.name FROM edges e JOIN edge_types k ON k.id = e.type WHERE e.id IN (%s)"
    ends = {row[0]: row[1:] for row in rows.chosen(connection, query, part.edge_ids)}
    known = _memories(connection, {node for source, target, _ in ends.values() for node in (source, target)})
    for edge, weight, pruned in zip(part.edge_ids, part.weights, part.pruned, strict=True):
        if edge not in was or edge not in ends:
            continue
        source, target, kind = ends[edge]
        change = DreamEdit.KIND_EDGE_STRENGTHENED if weight > was[edge] else DreamEdit.KIND_EDGE_WEAKENED
        yield DreamEdit(
            kind=DreamEdit.KIND_EDGE_PRUNED if pruned else change,
            what=kind,
            memories=[known[node] for node in (source, target) if node in known],
            weight_before=was[edge],
            weight_after=weight,
        )


def _memories(connection: Connection, nodes: Sequence[int] | set[int]) -> dict[int, EditedMemory]:
    query = "SELECT id, uid, key, title, text FROM nodes WHERE id IN (%s)"
    return {
        node: EditedMemory(id=entropy.uuid_text(uid), key=key or "", text=_short(title, text))
        for node, uid, key, title, text in rows.chosen(connection, query, set(nodes))
    }


def _short(title: str, text: str) -> str:
    """The title with the beginning of the text."""
    joined = " ".join(f"{title}: {text}".split()) if title and text else title or " ".join(text.split())
    return joined if len(joined) <= SHOWN else joined[: SHOWN - 1] + "…"
