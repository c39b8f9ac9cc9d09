"""Folds what a dream merged and made into the memory, one part in one transaction (REQ-DREAM-007 to 009, 026, 036).

The successor of what is hidden is stored, linked and indexed in the commit that hides it. What a user changed since
the dream began keeps the user's state and is left out of whatever the dream planned with it. Every row that changes has
an image of what it was, every row that is made is listed: `reverting` needs no more.
"""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import (
    BeforeImages,
    Container,
    Containers,
    EdgeImage,
    Elimination,
    Eliminations,
    NewEdges,
    NewMemories,
    NewMemory,
    NodeImage,
)
from dreamsvc.memory import rows, standing
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.edges import SUPERSEDES, type_ids
from dreamsvc.memory.graph import NEVER, NewEdge, NewNode, RoleChange
from dreamsvc.memory.operations import Change
from dreamsvc.memory.sqlite import Connection, take_ids
from dreamsvc.memory.standing import CONTAINER, FACET, FOLDED, PLAIN, REPLACED, Standing
from dreamsvc.v1.memory_pb2 import PackedVector

MOST_ALIASES = 64


class Fold(NamedTuple):
    """What folding a part works with."""

    connection: Connection
    change: Change
    now_us: int
    seq: int
    before: BeforeImages
    delta: Delta

    def may_change(self, node: Standing | None) -> bool:
        """Whether a node is still as the dream found it."""
        return node is not None and node.alive and not node.pinned and node.user_seq <= self.change.base_seq


def memory_id(change: Change, number: int) -> bytes:
    """The id of a memory that a dream makes: it follows from the dream's, so that a later part can name it."""
    made = entropy.uuid_bytes(entropy.uuid_for(entropy.uuid_text(change.uid), str(number)))
    assert made is not None
    return made


def image_of(node: Standing, packed: PackedVector | None = None) -> NodeImage:
    image = NodeImage(
        id=node.id,
        role=node.role,  # pyright: ignore[reportArgumentType] # what the column holds
        merged_into=node.merged_into or 0,
        deleted_us=node.deleted_us or 0,
        changed_by=node.changed_by or 0,
        importance=node.importance,
        created_us=node.created_us,
        accessed_us=NEVER if node.accessed_us is None else node.accessed_us,
        event_us=NEVER if node.event_us is None else node.event_us,
        event_end_us=NEVER if node.event_end_us is None else node.event_end_us,
        aliases=node.aliases,
        accessed_after_us=NEVER if node.accessed_us is None else node.accessed_us,
    )
    if packed is not None:
        image.packed.CopyFrom(packed)
    return image


# ── copies ──────────────────────────────────────────────────────────────────────


def fold_eliminations(fold: Fold, part: Eliminations) -> None:
    nodes = standing.find(fold.connection, (n for e in part.eliminations for n in (e.survivor, *e.copies)))
    for elimination in part.eliminations:
        _eliminate(fold, elimination, nodes)


def _eliminate(fold: Fold, elimination: Elimination, nodes: dict[int, Standing]) -> None:
    survivor = nodes.get(elimination.survivor)
    copies = [nodes[copy] for copy in elimination.copies if fold.may_change(nodes.get(copy))]
    copies = [copy for copy in copies if copy.role in (PLAIN, FACET)]
    fold.before.skipped.extend(set(elimination.copies) - {copy.id for copy in copies})
    if survivor is None or not fold.may_change(survivor) or survivor.role not in (PLAIN, FACET):
        fold.before.skipped.extend([elimination.survivor, *(copy.id for copy in copies)])
        return
    if not copies:
        return
    nodes[survivor.id] = _inherit(fold, survivor, copies)
    for copy in copies:
        fold.before.nodes.append(image_of(copy))
        nodes[copy.id] = copy._replace(deleted_us=fold.now_us)
    fold.connection.executemany(
        f"UPDATE nodes SET role={FOLDED}, merged_into=?, deleted_us=?, changed_by=?, seq=? WHERE id=?",
        ((survivor.id, fold.now_us, fold.change.id, fold.seq, copy.id) for copy in copies),
    )
    fold.delta.roles += [RoleChange(copy.id, FOLDED, survivor.id, False) for copy in copies]
    move_edges(fold, [copy.id for copy in copies], survivor.id)


def _inherit(fold: Fold, survivor: Standing, copies: Sequence[Standing]) -> Standing:
    """The survivor with the importance, history, time span and names of all."""
    everyone = [survivor, *copies]
    events = [time for node in everyone for time in (node.event_us, node.event_end_us) if time is not None]
    accesses = [node.accessed_us for node in everyone if node.accessed_us is not None]
    heir = survivor._replace(
        importance=max(node.importance for node in everyone),
        created_us=min(node.created_us for node in everyone),
        accessed_us=max(accesses, default=None),
        access_count=sum(node.access_count for node in everyone),
        event_us=min(events, default=None),
        event_end_us=max(events) if events and max(events) > min(events) else survivor.event_end_us,
        aliases=_names(survivor, copies),
        changed_by=fold.change.id,
    )
    image = image_of(survivor)
    image.access_added = heir.access_count - survivor.access_count
    image.accessed_after_us = NEVER if heir.accessed_us is None else heir.accessed_us
    fold.before.nodes.append(image)
    write_inherited(fold.connection, heir, fold.seq)
    if heir.aliases != survivor.aliases and heir.role == PLAIN:
        # New names have to be indexed; the row's vector goes with it.
        fold.delta.changed_nodes.append(heir.live())
        fold.delta.vectors.update(standing.stored_vectors(fold.connection, [heir.id]))
    fold.delta.inherited.append(heir.live())
    return heir


def write_inherited(connection: Connection, heir: Standing, seq: int) -> None:
    connection.execute(
        "UPDATE nodes SET importance=?, created_us=?, accessed_us=?, access_count=?, event_us=?, event_end_us=?,"
        " aliases=?, changed_by=?, seq=? WHERE id=?",
        (
            *(heir.importance, heir.created_us, heir.accessed_us, heir.access_count, heir.event_us, heir.event_end_us),
            *(heir.aliases, heir.changed_by, seq, heir.id),
        ),
    )


def _names(survivor: Standing, copies: Sequence[Standing]) -> str:
    """The survivor's aliases and, where it stands alone, the other names of its copies."""
    own = rows.read_aliases(survivor.aliases)
    if survivor.role != PLAIN:
        return survivor.aliases
    known = {name.casefold() for name in (survivor.title, *own)}
    for copy in copies:
        for name in (copy.title, *rows.read_aliases(copy.aliases)):
            if name and name.casefold() not in known and len(own) < MOST_ALIASES:
                known.add(name.casefold())
                own.append(name)
    return json.dumps(own, ensure_ascii=False)


# ── edges ───────────────────────────────────────────────────────────────────────


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


_EDGE_COLUMNS = (
    "id, source, target, type, weight, confidence, origin, created_us, deleted_us, hidden_by, changed_by, detail"
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
    for edge in sorted(found.values()):
        fold.before.edges.append(_image_of_edge(edge))
        hider = edge.source if edge.source in moved else edge.target
        connection.execute(
            "UPDATE edges SET deleted_us=?, hidden_by=?, changed_by=?, seq=? WHERE id=?",
            (fold.now_us, hider, fold.change.id, fold.seq, edge.id),
        )
        fold.delta.changed_edges.append(_live(edge, alive=False))
        source = heir if edge.source in moved else edge.source
        target = heir if edge.target in moved else edge.target
        name = (source, target, edge.type)
        if source != target and (name not in wanted or edge.weight > wanted[name].weight):
            wanted[name] = edge
    fresh = [name for name in sorted(wanted) if name not in own]
    first = take_ids(connection, "next_edge", len(fresh)) if fresh else 0
    for i, (source, target, kind) in enumerate(fresh):
        edge = wanted[source, target, kind]._replace(id=first + i, source=source, target=target)
        _insert_edge(fold, edge)
    for name in sorted(wanted.keys() & own.keys()):
        _strengthen(fold, own[name], wanted[name])


def _strengthen(fold: Fold, edge: _EdgeRow, by: _EdgeRow) -> None:
    """An edge that the heir has already takes the stronger of both weights; one that was hidden is back."""
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


def _insert_edge(fold: Fold, edge: _EdgeRow, *, supersedes: bool = False) -> None:
    fold.connection.execute(
        "INSERT INTO edges (id, space, source, target, type, weight, confidence, origin, created_us, changed_by,"
        " born_in, seq, user_seq, detail) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,0,?)",
        (
            *(edge.id, fold.change.space, edge.source, edge.target, edge.type, edge.weight, edge.confidence),
            *(edge.origin, edge.created_us, fold.change.id, fold.change.id, fold.seq, edge.detail),
        ),
    )
    fold.before.born_edges.append(edge.id)
    fold.delta.new_edges.append(_live(edge, alive=True)._replace(supersedes=supersedes))


def _live(edge: _EdgeRow, *, alive: bool) -> NewEdge:
    return NewEdge(edge.id, edge.source, edge.target, edge.weight, edge.confidence, alive, type=edge.type)


def fold_new_edges(fold: Fold, part: NewEdges) -> None:
    """Stores the edges of a dream; one that exists already, or has lost an end, is left out."""
    ends = _ends(fold, {*part.sources, *part.targets})
    kinds = type_ids(fold.connection, set(part.types))
    superseding = kinds.get(SUPERSEDES)
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
            *(0, *name, part.weights[i], part.confidences[i], part.origins[i], fold.now_us, None, None, None, detail)
        )
        rows_.append(edge)
    present = {
        tuple(row)
        for row in rows.chosen(
            fold.connection, "SELECT source, target, type FROM edges WHERE source IN (%s)", {e.source for e in rows_}
        )
    }
    fresh = [edge for edge in rows_ if (edge.source, edge.target, edge.type) not in present]
    fold.before.skipped.extend(e.source for e in rows_ if (e.source, e.target, e.type) in present)
    first = take_ids(fold.connection, "next_edge", len(fresh)) if fresh else 0
    for i, edge in enumerate(fresh):
        _insert_edge(fold, edge._replace(id=first + i), supersedes=edge.type == superseding)


def _ends(fold: Fold, names: Iterable[int]) -> dict[int, int]:
    """Row ids of living ends, by the name a part gives them; a copy's survivor stands for it."""
    made = {name: memory_id(fold.change, -name) for name in names if name < 0}
    query = f"SELECT uid, id FROM nodes WHERE space={fold.change.space} AND deleted_us IS NULL AND uid IN (%s)"
    by_uid = dict(rows.chosen(fold.connection, query, made.values()))
    found = {name: by_uid[uid] for name, uid in made.items() if uid in by_uid}
    wanted = {name: name for name in names if name >= 0}
    while wanted:
        nodes = standing.find(fold.connection, set(wanted.values()))
        further: dict[int, int] = {}
        for name, row in wanted.items():
            node = nodes.get(row)
            if node is not None and node.alive:
                found[name] = row
            elif node is not None and node.role in (FOLDED, REPLACED) and node.merged_into is not None:
                further[name] = node.merged_into
        wanted = further
    return found


# ── containers ──────────────────────────────────────────────────────────────────


def fold_containers(fold: Fold, part: Containers) -> None:
    for container in part.containers:
        _merge(fold, container)


def _merge(fold: Fold, container: Container) -> None:
    nodes = standing.find(fold.connection, [*container.members, *container.replaces])
    replaced = [nodes[old] for old in container.replaces if old in nodes and nodes[old].role == CONTAINER]
    old_ids = {old.id for old in replaced}
    places = [
        place
        for place, member in enumerate(container.members)
        if fold.may_change(nodes.get(member))
        and (nodes[member].role == PLAIN or (nodes[member].role == FACET and nodes[member].merged_into in old_ids))
    ]
    kept = [nodes[container.members[place]] for place in places]
    fold.before.skipped.extend(set(container.members) - {node.id for node in kept})
    left_behind = [
        node.id
        for node in standing.merged_into(fold.connection, old_ids)
        if node.role == FACET and node.alive and node not in kept
    ]
    if len(kept) < 2 or left_behind or not all(map(fold.may_change, replaced)):
        # A user was faster; what is left would be no container, or would leave facets without one.
        fold.before.skipped.extend(node.id for node in kept)
        return
    made = _insert_container(fold, container, kept)
    _put_codes(fold, container, places, kept, made)
    fold.connection.executemany(
        f"UPDATE nodes SET role={REPLACED}, merged_into=?, deleted_us=?, changed_by=?, seq=? WHERE id=?",
        ((made, fold.now_us, fold.change.id, fold.seq, old.id) for old in replaced),
    )
    fold.before.nodes.extend(image_of(old) for old in replaced)
    fold.delta.roles += [RoleChange(old.id, REPLACED, made, False) for old in replaced]
    if replaced:
        move_edges(fold, [old.id for old in replaced], made)


def _insert_container(fold: Fold, container: Container, kept: Sequence[Standing]) -> int:
    events = [time for node in kept for time in (node.event_us, node.event_end_us) if time is not None]
    made = _insert_node(
        fold,
        NewMemory(
            number=container.number,
            kind="container",
            title=container.title,
            text=container.text,
            importance=max(node.importance for node in kept),
        ),
        role=CONTAINER,
        created_us=min(node.created_us for node in kept),
        event_us=min(events, default=None),
        event_end_us=max(events, default=None),
    )
    centroid = PackedVector(bits=8, scale=container.centroid_scale, code=container.centroid)
    standing.put_packed(fold.connection, [(made, centroid)])
    return made


def _put_codes(fold: Fold, container: Container, places: list[int], kept: Sequence[Standing], made: int) -> None:
    width = len(container.codes) // len(container.members)
    scales = np.frombuffer(container.scales, "<f2")
    old = standing.read_packed(fold.connection, [node.id for node in kept])
    codes = [
        PackedVector(
            bits=container.bits,
            scale=float(scales[place]),
            code=container.codes[place * width : (place + 1) * width],
        )
        for place in places
    ]
    fold.before.nodes.extend(image_of(node, old.get(node.id)) for node in kept)
    packed = {node.id: code for node, code in zip(kept, codes, strict=True)}
    standing.put_packed(fold.connection, packed.items())
    fold.connection.executemany(
        f"UPDATE nodes SET role={FACET}, merged_into=?, changed_by=?, seq=? WHERE id=?",
        ((made, fold.change.id, fold.seq, node.id) for node in kept),
    )
    fold.delta.roles += [RoleChange(node.id, FACET, made, True) for node in kept]
    centroid = PackedVector(bits=8, scale=container.centroid_scale, code=container.centroid)
    fold.delta.containers[made] = standing.pack(centroid, [node.id for node in kept], packed)


# ── memories ────────────────────────────────────────────────────────────────────


def fold_memories(fold: Fold, part: NewMemories) -> None:
    for memory in part.memories:
        _insert_node(fold, memory, role=PLAIN, created_us=fold.now_us, event_us=None, event_end_us=None)


def _insert_node(
    fold: Fold, memory: NewMemory, *, role: int, created_us: int, event_us: int | None, event_end_us: int | None
) -> int:
    node = take_ids(fold.connection, "next_node", 1)
    fold.connection.execute(
        "INSERT INTO nodes (id, space, uid, kind, title, text, importance, metadata, event_us, event_end_us,"
        " created_us, updated_us, born_in, seq, user_seq, role, changed_by, apart)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,0,?,?,?)",
        (
            *(node, fold.change.space, memory_id(fold.change, memory.number), memory.kind, memory.title, memory.text),
            *(memory.importance, memory.metadata or "{}", event_us, event_end_us, created_us, fold.now_us),
            # What a dream made of others is not merged with them.
            *(fold.change.id, fold.seq, role, fold.change.id, int(role == PLAIN)),
        ),
    )
    fold.before.born_nodes.append(node)
    fold.delta.new_nodes.append(
        NewNode(
            *(node, True, memory.kind, memory.title, memory.text, [], memory.importance, created_us),
            *(NEVER if event_us is None else event_us, NEVER),
            role=role,
        )
    )
    return node
