"""Folds what a dream merged and made into the memory, one part in one transaction (REQ-DREAM-007 to 009, 026, 036).

The successor of what is hidden is stored, linked and indexed in the commit that hides it. What a user changed since
the dream began keeps the user's state and is left out of whatever the dream planned with it. Every row that changes has
an image of what it was, every row that is made is listed: `reverting` needs no more.
"""

import json
from collections.abc import Sequence

import numpy as np

from dreamsvc.dreamer.v1.operations_pb2 import (
    Container,
    Containers,
    Elimination,
    Eliminations,
    NewMemories,
    NewMemory,
    NodeImage,
)
from dreamsvc.facet_codes import code_bytes
from dreamsvc.memory import rows, standing
from dreamsvc.memory.fold import Fold, memory_id
from dreamsvc.memory.graph import NEVER, NewNode, RoleChange
from dreamsvc.memory.merged_edges import move_edges
from dreamsvc.memory.sqlite import MOST_COUNTED, Connection, take_ids
from dreamsvc.memory.standing import CONTAINER, FACET, FOLDED, PLAIN, REPLACED, Standing
from dreamsvc.v1.memory_pb2 import PackedVector

MOST_ALIASES = 64


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
    wanted = sorted(set(elimination.copies) - {elimination.survivor})
    copies = [nodes[copy] for copy in wanted if fold.may_change(nodes.get(copy))]
    copies = [copy for copy in copies if copy.role in (PLAIN, FACET)]
    fold.before.skipped.extend(sorted(set(wanted) - {copy.id for copy in copies}))
    if survivor is None or not fold.may_change(survivor) or survivor.role not in (PLAIN, FACET):
        fold.before.skipped.extend([elimination.survivor, *(copy.id for copy in copies)])
        return
    if not copies:
        return
    nodes[survivor.id] = _inherit(fold, survivor, copies)
    codes = _take_along(fold, copies)
    for copy in copies:
        fold.before.nodes.append(image_of(copy, codes.get(copy.id)))
        nodes[copy.id] = copy._replace(deleted_us=fold.kept_us)
    fold.connection.executemany(
        f"UPDATE nodes SET role={FOLDED}, merged_into=?, deleted_us=?, changed_by=?, seq=? WHERE id=?",
        ((survivor.id, fold.kept_us, fold.change.id, fold.seq, copy.id) for copy in copies),
    )
    fold.delta.roles += [RoleChange(copy.id, FOLDED, survivor.id, False) for copy in copies]
    move_edges(fold, [copy.id for copy in copies], survivor.id)


def _take_along(fold: Fold, copies: Sequence[Standing]) -> dict[int, PackedVector]:
    """Facets whose originals were purged get what their codes remember: once folded they know no container any more.

    Gives the codes of these: an image with a code says that the vector was made here.
    """
    remembered = standing.remembered(fold.connection, [copy for copy in copies if copy.role == FACET])
    rows.put_vectors(fold.connection, remembered)
    return standing.read_packed(fold.connection, sorted(remembered))


def _inherit(fold: Fold, survivor: Standing, copies: Sequence[Standing]) -> Standing:
    """The survivor with the importance, history, time span and names of all."""
    everyone = [survivor, *copies]
    events = [time for node in everyone for time in (node.event_us, node.event_end_us) if time is not None]
    accesses = [node.accessed_us for node in everyone if node.accessed_us is not None]
    heir = survivor._replace(
        importance=max(node.importance for node in everyone),
        created_us=min(node.created_us for node in everyone),
        accessed_us=max(accesses, default=None),
        access_count=min(sum(node.access_count for node in everyone), MOST_COUNTED),
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


# ── containers ──────────────────────────────────────────────────────────────────


def fold_containers(fold: Fold, part: Containers) -> None:
    for container in part.containers:
        _merge(fold, container)


def _merge(fold: Fold, container: Container) -> None:
    nodes = standing.find(fold.connection, [*container.members, *container.replaces])
    replaced = _replaceable(fold, container, nodes)
    homes = {None, *(old.id for old in replaced)}
    places = [
        place
        for place, member in enumerate(container.members)
        if fold.may_change(nodes.get(member))
        and nodes[member].role in (PLAIN, FACET)
        and (nodes[member].merged_into if nodes[member].role == FACET else None) in homes
    ]
    kept = [nodes[container.members[place]] for place in places]
    fold.before.skipped.extend(sorted(set(container.members) - {node.id for node in kept}))
    alone = len({node.merged_into or node.id for node in kept}) < 2
    if alone or not _fits(fold, container) or _is_taken(fold, container.number):
        # A user was faster; what is left would be no container, or one that is there already.
        fold.before.skipped.extend(node.id for node in kept)
        return
    made = _insert_container(fold, container, kept)
    _put_codes(fold, container, places, kept, made)
    fold.connection.executemany(
        f"UPDATE nodes SET role={REPLACED}, merged_into=?, deleted_us=?, changed_by=?, seq=? WHERE id=?",
        ((made, fold.kept_us, fold.change.id, fold.seq, old.id) for old in replaced),
    )
    fold.before.nodes.extend(image_of(old) for old in replaced)
    fold.delta.roles += [RoleChange(old.id, REPLACED, made, False) for old in replaced]
    if replaced:
        move_edges(fold, [old.id for old in replaced], made)


def _replaceable(fold: Fold, container: Container, nodes: dict[int, Standing]) -> list[Standing]:
    """Containers that are as the dream found them, and so are all that they hold; others stay with all they hold."""
    old = [nodes[box] for box in container.replaces if fold.may_change(nodes.get(box)) and nodes[box].role == CONTAINER]
    members = set(container.members)
    bound = {
        node.merged_into
        for node in standing.merged_into(fold.connection, [box.id for box in old])
        if node.role == FACET and node.alive and not (node.id in members and fold.may_change(node))
    }
    return [box for box in old if box.id not in bound]


def _fits(fold: Fold, container: Container) -> bool:
    """Whether centroid and codes are of the space's vectors."""
    (dimension,) = fold.connection.execute("SELECT dimension FROM spaces WHERE id=?", (fold.change.space,)).fetchone()
    count = len(container.members)
    return (
        container.bits in (1, 2, 4, 8)
        and len(container.centroid) == dimension
        and len(container.codes) == count * code_bytes(dimension, container.bits)
        and len(container.scales) == 2 * count
    )


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
        if not _is_taken(fold, memory.number):
            _insert_node(fold, memory, role=PLAIN, created_us=fold.now_us, event_us=None, event_end_us=None)


def _is_taken(fold: Fold, number: int) -> bool:
    """Whether there is a memory with the id that one of this number would have."""
    query = "SELECT 1 FROM nodes WHERE space=? AND uid=?"
    row = fold.connection.execute(query, (fold.change.space, memory_id(fold.change, number))).fetchone()
    return row is not None


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
            *(
                memory.importance,
                rows.canonical(memory.metadata or "{}"),
                event_us,
                event_end_us,
                created_us,
                fold.now_us,
            ),
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
            event_end_us=NEVER if event_end_us is None else event_end_us,
        )
    )
    return node
