"""Stores memories and edges inside a transaction: new ones inserted, known ones changed or left."""

import contextlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dreamsvc import entropy
from dreamsvc.clock import from_timestamp
from dreamsvc.errors import InvalidFields, StoreCorrupt, Violation
from dreamsvc.memory import derived, rows, spaces, standing
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.edges import revive_edges, write_edges
from dreamsvc.memory.forget import close_if_empty, forgotten_with, stand_up
from dreamsvc.memory.graph import NEVER, NewNode
from dreamsvc.memory.known import COLUMNS, Author, Known
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection, take_ids
from dreamsvc.memory.standing_import import imported_standing
from dreamsvc.v1.memory_pb2 import Edge, Memory


class Stored(NamedTuple):
    ids: list[str]
    memories_created: int
    memories_updated: int
    memories_unchanged: int
    edges_created: int
    edges_updated: int
    edges_unchanged: int


NOTHING = Stored([], 0, 0, 0, 0, 0, 0)


def store(
    connection: Connection,
    space: Space,
    memories: Sequence[Memory],
    edges: Sequence[Edge],
    author: Author,
    delta: Delta,
) -> Stored:
    """Upserts a batch; raises InvalidFields or EmbedderMismatch, and then nothing of it may be committed."""
    uids, known = identify(connection, space, memories, author)
    ids = _write_nodes(connection, space, memories, uids, known, author, delta)
    _write_vectors(connection, space, memories, [ids[uid] for uid in uids], known, author, delta)
    if author.change is not None:
        made = {uid: memory for uid, memory in zip(reversed(uids), reversed(memories), strict=True) if uid not in known}
        imported_standing(connection, space, [(ids[uid], memory) for uid, memory in made.items()], delta)
    created = len(ids) - len(known)
    edges_created, edges_updated = write_edges(connection, space, edges, author, delta)
    return Stored(
        ids=[entropy.uuid_text(uid) for uid in uids],
        memories_created=created,
        memories_updated=len(known) if author.updates else 0,
        memories_unchanged=0 if author.updates else len(memories) - created,
        edges_created=edges_created,
        edges_updated=edges_updated,
        edges_unchanged=len(edges) - edges_created - edges_updated,
    )


def identify(
    connection: Connection, space: Space, memories: Sequence[Memory], author: Author
) -> tuple[list[bytes], dict[bytes, Known]]:
    """The id of each memory, and which of them are stored already (by id)."""
    by_key = {
        row[2]: Known(row[0], row[1], row[2], row[3] is not None, row[4])
        for row in rows.chosen(
            connection,
            f"SELECT {COLUMNS} FROM nodes WHERE space = {space.id} AND key IN (%s)",
            {memory.key for memory in memories if memory.key},
        )
    }
    uids: list[bytes] = []
    wrong: list[Violation] = []
    for i, memory in enumerate(memories):
        uid = entropy.uuid_bytes(memory.id) if memory.id else _made_id(space, memory, by_key, author)
        if uid is None:
            wrong.append(Violation(f"memories[{i}].id", f'"{memory.id[:40]}" is no UUID'))
            uid = b""
        elif memory.key in by_key and by_key[memory.key].uid != uid:
            if not author.updates:
                uids.append(by_key[memory.key].uid)
                continue
            wrong.append(Violation(f"memories[{i}].key", f'"{memory.key[:80]}" is the key of another memory'))
        uids.append(uid)
    known = {
        row[1]: Known(row[0], row[1], row[2], row[3] is not None, row[4])
        for row in rows.chosen(
            connection, f"SELECT {COLUMNS} FROM nodes WHERE space = {space.id} AND uid IN (%s)", uids
        )
    }
    for i, memory in enumerate(memories):
        if not memory.id and uids[i] in known and known[uids[i]].key != memory.key:
            # The memory that the id was made for goes by another key now.
            uids[i] = _fresh_id(author)
    known = {uid: known[uid] for uid in uids if uid in known}
    if author.updates:
        # What an import brings was checked when it came; of two lines that prove to be one memory the first counts.
        wrong += _repeats("id", uids) + _repeats("key", [memory.key for memory in memories])
        unfit = ((i, rows.unfit(memory)) for i, memory in enumerate(memories))
        wrong += [Violation(f"memories[{i}].metadata", why) for i, why in unfit if why]
        wrong += _of_containers(memories, [known.get(uid) for uid in uids])
    if wrong:
        raise InvalidFields(wrong)
    return uids, known


def _of_containers(memories: Sequence[Memory], known: Sequence[Known | None]) -> list[Violation]:
    """What cannot be said of containers."""
    found: list[Violation] = []
    for i, (memory, old) in enumerate(zip(memories, known, strict=True)):
        if old is not None and old.role == standing.REPLACED:
            found.append(Violation(f"memories[{i}].id", "is a container that another replaced or that was taken apart"))
        elif old is not None and old.role == standing.CONTAINER and memory.vector:
            found.append(Violation(f"memories[{i}].vector", "is that of a container: the mean of what it holds"))
    return found


def _made_id(space: Space, memory: Memory, by_key: dict[str, Known], author: Author) -> bytes | None:
    if not memory.key:
        return _fresh_id(author)
    if memory.key in by_key:
        return by_key[memory.key].uid
    return entropy.uuid_bytes(entropy.uuid_for(space.name, memory.key))


def _fresh_id(author: Author) -> bytes:
    made = entropy.uuid_bytes(entropy.uuid7(author.now_us))
    assert made is not None
    return made


def _repeats(name: str, values: Sequence[Any]) -> list[Violation]:
    first: dict[Any, int] = {}
    found: list[Violation] = []
    for i, value in enumerate(values):
        if value and first.setdefault(value, i) != i:
            found.append(Violation(f"memories[{i}].{name}", f"repeats memories[{first[value]}].{name}"))
    return found


def _write_nodes(
    connection: Connection,
    space: Space,
    memories: Sequence[Memory],
    uids: Sequence[bytes],
    known: dict[bytes, Known],
    author: Author,
    delta: Delta,
) -> dict[bytes, int]:
    new: dict[bytes, Memory] = {}
    for uid, memory in zip(uids, memories, strict=True):
        if uid not in known:
            new.setdefault(uid, memory)
    fresh = list(new.items())
    first = take_ids(connection, "next_node", len(fresh)) if fresh else 0
    ids = {uid: first + i for i, (uid, _) in enumerate(fresh)} | {uid: old.id for uid, old in known.items()}
    connection.executemany(
        "INSERT INTO nodes (id, space, uid, key, kind, title, text, aliases, importance, pinned, metadata, event_us,"
        " created_us, updated_us, accessed_us, access_count, replay_count, deleted_us, born_in, seq, user_seq,"
        " event_end_us, apart)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (_new_row(ids[uid], space, uid, memory, author) for uid, memory in fresh),
    )
    delta.new_nodes += [_live(ids[uid], memory, author) for uid, memory in fresh]
    if author.updates:
        for uid, memory in zip(uids, memories, strict=True):
            if uid in known:
                _update_node(connection, known[uid], memory, author, delta)
    return ids


def _new_row(node: int, space: Space, uid: bytes, memory: Memory, author: Author) -> tuple[Any, ...]:
    # Only an import brings times and counts of its own; what a user sends begins now.
    own = author.change is not None
    return (
        node,
        space.id,
        uid,
        memory.key or None,
        *_content(memory),
        from_timestamp(memory.create_time) if own and memory.HasField("create_time") else author.now_us,
        from_timestamp(memory.update_time) if own and memory.HasField("update_time") else author.now_us,
        from_timestamp(memory.access_time) if own and memory.HasField("access_time") else None,
        memory.access_count if own else 0,
        memory.replay_count if own else 0,
        None,
        author.change,
        author.seq,
        author.seq,
        from_timestamp(memory.event_end_time) if own and memory.HasField("event_end_time") else None,
        int(memory.kept_apart) if own else 0,
    )


def _content(memory: Memory) -> tuple[Any, ...]:
    """What a memory says, in the order of the columns kind to event_us."""
    return (
        memory.kind,
        memory.title,
        memory.text,
        json.dumps(list(memory.aliases), ensure_ascii=False),
        memory.importance,
        int(memory.pinned),
        rows.metadata_json(memory),
        rows.event_us(memory),
    )


def _update_node(connection: Connection, old: Known, memory: Memory, author: Author, delta: Delta) -> None:
    was = standing.find(connection, [old.id])[old.id]
    keep_version(connection, old.id, author)
    if was.role not in (standing.PLAIN, standing.CONTAINER):
        # What a user rewrites stands for itself.
        connection.execute("UPDATE nodes SET role=0, merged_into=NULL, changed_by=NULL WHERE id=?", (old.id,))
        standing.drop_packed(connection, [old.id])
    connection.execute(
        "UPDATE nodes SET key=?, kind=?, title=?, text=?, aliases=?, importance=?, pinned=?, metadata=?, event_us=?,"
        " updated_us=?, deleted_us=NULL, event_end_us=NULL, purged=0, seq=?, user_seq=? WHERE id=?",
        (
            memory.key or old.key,
            *_content(memory),
            author.now_us,
            author.seq,
            author.seq,
            old.id,
        ),
    )
    delta.changed_nodes.append(_live(old.id, memory, author, old.role))
    if (was.title, was.text, rows.read_aliases(was.aliases)) != (memory.title, memory.text, list(memory.aliases)):
        derived.reword(connection, old.id, delta)
    else:
        derived.show(connection, [old.id], delta)
    if old.deleted:
        revive_edges(connection, old.id, author, delta)
        # A container comes back with what was forgotten with it.
        stand_up(connection, forgotten_with(connection, [was], {old.id}), author, delta)
    if was.role == standing.FACET:
        close_if_empty(connection, was.merged_into, author, delta)


def keep_version(connection: Connection, node: int, author: Author) -> None:
    """Puts what a memory said until now beside it, before it changes."""
    row = connection.execute(f"SELECT {rows.MEMORY_COLUMNS} FROM nodes WHERE id = ?", (node,)).fetchone()
    memory = rows.read_memory(row, "")
    # Remembering a memory again is how a damaged vector is mended: that it cannot be kept must not be in the way.
    with contextlib.suppress(StoreCorrupt):
        standing.add_vectors(connection, {node: memory})
    connection.execute(
        "INSERT INTO node_versions VALUES (?,?,?,?)", (node, author.seq, author.now_us, memory.SerializeToString())
    )


def _live(node: int, memory: Memory, author: Author, role: int = standing.PLAIN) -> NewNode:
    own = author.change is not None
    event = rows.event_us(memory)
    return NewNode(
        id=node,
        alive=True,
        kind=memory.kind,
        title=memory.title,
        text=memory.text,
        aliases=list(memory.aliases),
        importance=memory.importance,
        created_us=from_timestamp(memory.create_time) if own and memory.HasField("create_time") else author.now_us,
        event_us=NEVER if event is None else event,
        accessed_us=from_timestamp(memory.access_time) if own and memory.HasField("access_time") else NEVER,
        # A container stays one whatever it is called.
        role=standing.CONTAINER if standing.CONTAINER in (role, memory.role if own else role) else standing.PLAIN,
        event_end_us=from_timestamp(memory.event_end_time) if own and memory.HasField("event_end_time") else NEVER,
    )


def _write_vectors(
    connection: Connection,
    space: Space,
    memories: Sequence[Memory],
    ids: Sequence[int],
    known: dict[bytes, Known],
    author: Author,
    delta: Delta,
) -> None:
    stored = {old.id for old in known.values()}
    if author.updates and stored:
        # A new text needs a new vector.
        connection.executemany("DELETE FROM vectors WHERE node = ?", ((node,) for node in stored))
    given = [i for i, memory in enumerate(memories) if memory.vector and (author.updates or ids[i] not in stored)]
    if not given:
        return
    dimension = space.dimension or len(memories[given[0]].vector)
    wrong = [
        spaces.wrong_dimension(dimension, f"memories[{i}].vector", len(memories[i].vector))
        for i in given
        if len(memories[i].vector) != dimension
    ]
    if wrong:
        raise InvalidFields(wrong)
    spaces.accept_vectors(connection, space, author.embedder, dimension)
    packed: dict[int, bytes] = {}
    for i in given:
        if ids[i] not in packed:
            packed[ids[i]] = rows.pack_vector(memories[i].vector, f"memories[{i}].vector")
    rows.put_vectors(connection, packed)
    delta.vectors |= {node: np.frombuffer(body, dtype="<f2") for node, body in packed.items()}
