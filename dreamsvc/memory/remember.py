"""Stores memories and edges inside a transaction: new ones inserted, known ones changed or left."""

import json
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dreamsvc import entropy
from dreamsvc.clock import from_timestamp
from dreamsvc.errors import InvalidFields, Violation
from dreamsvc.memory import rows, spaces
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.graph import NEVER, NewEdge, NewNode
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection, take_ids
from dreamsvc.v1 import memory_pb2
from dreamsvc.v1.memory_pb2 import Edge, Memory


class Author(NamedTuple):
    """Who writes: decides what happens to what is known already, and what is kept of times."""

    now_us: int
    seq: int
    # Row of `changes` for an import, None for a user.
    change: int | None
    # What made the vectors that are sent along.
    embedder: str = spaces.CLIENT

    @property
    def updates(self) -> bool:
        """False: what is known stays as it is, so that an import is a no-op the second time."""
        return self.change is None


class Stored(NamedTuple):
    ids: list[str]
    memories_created: int
    memories_updated: int
    memories_unchanged: int
    edges_created: int
    edges_updated: int
    edges_unchanged: int


NOTHING = Stored([], 0, 0, 0, 0, 0, 0)


class _Known(NamedTuple):
    id: int
    uid: bytes
    key: str | None
    deleted: bool


def store(
    connection: Connection,
    space: Space,
    memories: Sequence[Memory],
    edges: Sequence[Edge],
    author: Author,
    delta: Delta,
) -> Stored:
    """Upserts a batch; raises InvalidFields or EmbedderMismatch, and then nothing of it may be committed."""
    uids, known = _identify(connection, space, memories, author)
    ids = _write_nodes(connection, space, memories, uids, known, author, delta)
    _write_vectors(connection, space, memories, [ids[uid] for uid in uids], known, author, delta)
    created = len(ids) - len(known)
    edges_created, edges_updated = _write_edges(connection, space, edges, author, delta)
    return Stored(
        ids=[entropy.uuid_text(uid) for uid in uids],
        memories_created=created,
        memories_updated=len(known) if author.updates else 0,
        memories_unchanged=0 if author.updates else len(memories) - created,
        edges_created=edges_created,
        edges_updated=edges_updated,
        edges_unchanged=len(edges) - edges_created - edges_updated,
    )


def _identify(
    connection: Connection, space: Space, memories: Sequence[Memory], author: Author
) -> tuple[list[bytes], dict[bytes, _Known]]:
    """The id of each memory, and which of them are stored already (by id)."""
    by_key = {
        row[2]: _Known(row[0], row[1], row[2], row[3] is not None)
        for row in rows.chosen(
            connection,
            f"SELECT id, uid, key, deleted_us FROM nodes WHERE space = {space.id} AND key IN (%s)",
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
        row[1]: _Known(row[0], row[1], row[2], row[3] is not None)
        for row in rows.chosen(
            connection, f"SELECT id, uid, key, deleted_us FROM nodes WHERE space = {space.id} AND uid IN (%s)", uids
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
    if wrong:
        raise InvalidFields(wrong)
    return uids, known


def _made_id(space: Space, memory: Memory, by_key: dict[str, _Known], author: Author) -> bytes | None:
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
    known: dict[bytes, _Known],
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
        " created_us, updated_us, accessed_us, access_count, replay_count, deleted_us, born_in, seq, user_seq)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (_new_row(ids[uid], space, uid, memory, author) for uid, memory in fresh),
    )
    delta.new_nodes += [_live(ids[uid], memory, author) for uid, memory in fresh]
    if author.updates:
        for uid, memory in zip(uids, memories, strict=True):
            if uid in known:
                _update_node(connection, known[uid], memory, author)
                delta.changed_nodes.append(_live(known[uid].id, memory, author))
                if known[uid].deleted:
                    revive_edges(connection, known[uid].id, author, delta)
    return ids


def _new_row(node: int, space: Space, uid: bytes, memory: Memory, author: Author) -> tuple[Any, ...]:
    # Only an import brings times and counts of its own; what a user sends begins now.
    own = author.change is not None
    return (
        node,
        space.id,
        uid,
        memory.key or None,
        memory.kind,
        memory.title,
        memory.text,
        json.dumps(list(memory.aliases), ensure_ascii=False),
        memory.importance,
        int(memory.pinned),
        rows.metadata_json(memory),
        rows.event_us(memory),
        from_timestamp(memory.create_time) if own and memory.HasField("create_time") else author.now_us,
        from_timestamp(memory.update_time) if own and memory.HasField("update_time") else author.now_us,
        from_timestamp(memory.access_time) if own and memory.HasField("access_time") else None,
        memory.access_count if own else 0,
        memory.replay_count if own else 0,
        None,
        author.change,
        author.seq,
        author.seq,
    )


def _update_node(connection: Connection, old: _Known, memory: Memory, author: Author) -> None:
    keep_version(connection, old.id, author)
    connection.execute(
        "UPDATE nodes SET key=?, kind=?, title=?, text=?, aliases=?, importance=?, pinned=?, metadata=?, event_us=?,"
        " updated_us=?, deleted_us=NULL, seq=?, user_seq=? WHERE id=?",
        (
            memory.key or old.key,
            memory.kind,
            memory.title,
            memory.text,
            json.dumps(list(memory.aliases), ensure_ascii=False),
            memory.importance,
            int(memory.pinned),
            rows.metadata_json(memory),
            rows.event_us(memory),
            author.now_us,
            author.seq,
            author.seq,
            old.id,
        ),
    )


def keep_version(connection: Connection, node: int, author: Author) -> None:
    """Puts what a memory said until now beside it, before it changes."""
    row = connection.execute(f"SELECT {rows.MEMORY_COLUMNS} FROM nodes WHERE id = ?", (node,)).fetchone()
    memory = rows.read_memory(row, "")
    rows.add_vectors(connection, {node: memory})
    connection.execute(
        "INSERT INTO node_versions VALUES (?,?,?,?)", (node, author.seq, author.now_us, memory.SerializeToString())
    )


def _live(node: int, memory: Memory, author: Author) -> NewNode:
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
    )


def _write_vectors(
    connection: Connection,
    space: Space,
    memories: Sequence[Memory],
    ids: Sequence[int],
    known: dict[bytes, _Known],
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
    put_vectors(connection, packed)
    delta.vectors |= {node: np.frombuffer(body, dtype="<f2") for node, body in packed.items()}


def put_vectors(connection: Connection, packed: dict[int, bytes]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO vectors VALUES (?,?,?)",
        ((node, body, zlib.crc32(body)) for node, body in packed.items()),
    )


def _write_edges(
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
    types = _type_ids(connection, {edge.type for edge in edges})
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
    connection.executemany(
        "INSERT INTO edges (id, space, source, target, type, weight, confidence, origin, created_us, born_in, seq,"
        " user_seq) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            (
                *(first + i, space.id, *name, edge.weight, edge.confidence, _origin(edge, author)),
                *(_edge_created(edge, author), author.change, author.seq, author.seq),
            )
            for i, (name, edge) in enumerate(fresh)
        ),
    )
    delta.new_edges += [
        NewEdge(first + i, name[0], name[1], edge.weight, edge.confidence, True) for i, (name, edge) in enumerate(fresh)
    ]
    old = [(name, edge) for name, edge in named.items() if name in present] if author.updates else []
    connection.executemany(
        "UPDATE edges SET weight=?, confidence=?, deleted_us=NULL, hidden_by=NULL, seq=?, user_seq=? WHERE id=?",
        ((edge.weight, edge.confidence, author.seq, author.seq, present[name]) for name, edge in old),
    )
    delta.changed_edges += [
        NewEdge(present[name], name[0], name[1], edge.weight, edge.confidence, True) for name, edge in old
    ]
    return len(fresh), len(old)


def _origin(edge: Edge, author: Author) -> int:
    if author.change is None:
        return memory_pb2.EDGE_ORIGIN_USER_CREATED
    return edge.origin or memory_pb2.EDGE_ORIGIN_IMPORTED_DATA


def _edge_created(edge: Edge, author: Author) -> int:
    own = author.change is not None and edge.HasField("create_time")
    return from_timestamp(edge.create_time) if own else author.now_us


def _type_ids(connection: Connection, names: set[str]) -> dict[str, int]:
    connection.executemany(
        "INSERT INTO edge_types (name) VALUES (?) ON CONFLICT DO NOTHING", ((name,) for name in sorted(names))
    )
    return {
        name: number
        for number, name in rows.chosen(connection, "SELECT id, name FROM edge_types WHERE name IN (%s)", names)
    }


def find_nodes(connection: Connection, space: Space, names: set[str]) -> dict[str, _Known]:
    """Memories by id or key; a name that is stored nowhere is left out."""
    found: dict[str, _Known] = {}
    spellings: dict[bytes, list[str]] = {}
    for name in names:
        if (uid := entropy.uuid_bytes(name)) is not None:
            spellings.setdefault(uid, []).append(name)
    for node, uid, key, deleted in rows.chosen(
        connection, f"SELECT id, uid, key, deleted_us FROM nodes WHERE space = {space.id} AND uid IN (%s)", spellings
    ):
        found |= dict.fromkeys(spellings[uid], _Known(node, uid, key, deleted is not None))
    for node, uid, key, deleted in rows.chosen(
        connection,
        f"SELECT id, uid, key, deleted_us FROM nodes WHERE space = {space.id} AND key IN (%s)",
        names - found.keys(),
    ):
        found[key] = _Known(node, uid, key, deleted is not None)
    return found


def revive_edges(connection: Connection, node: int, author: Author, delta: Delta) -> None:
    """Brings back the edges that went with a memory; those whose other end is gone are handed to that end."""
    connection.execute(
        "UPDATE edges SET hidden_by = (SELECT n.id FROM nodes n WHERE n.id IN (edges.source, edges.target)"
        " AND n.id <> ?1 AND n.deleted_us IS NOT NULL) WHERE hidden_by = ?1 AND EXISTS (SELECT 1 FROM nodes n"
        " WHERE n.id IN (edges.source, edges.target) AND n.id <> ?1 AND n.deleted_us IS NOT NULL)",
        (node,),
    )
    revived = connection.execute(
        "UPDATE edges SET deleted_us=NULL, hidden_by=NULL, seq=?, user_seq=? WHERE hidden_by=?"
        " RETURNING id, source, target, weight, confidence",
        (author.seq, author.seq, node),
    ).fetchall()
    delta.changed_edges += [NewEdge(*edge, alive=True) for edge in revived]


class Foresight:
    """What an import would do, part by part; writes nothing and remembers what the parts before would have made."""

    def __init__(self) -> None:
        self._made: set[bytes] = set()
        self._named: dict[str, bytes] = {}
        self._forgotten: set[bytes] = set()
        self._edges: set[tuple[bytes, bytes, str]] = set()

    def of(self, connection: Connection, space: Space, memories: Sequence[Memory], edges: Sequence[Edge]) -> Stored:
        """What `store` would give for the next part."""
        author = Author(now_us=0, seq=0, change=0)
        uids, known = _identify(connection, space, memories, author)
        made = set(uids) - known.keys() - self._made
        self._made |= made
        self._forgotten |= {uid for uid, old in known.items() if old.deleted}
        for uid, memory in zip(uids, memories, strict=True):
            self._named |= {name: uid for name in (entropy.uuid_text(uid), memory.id, memory.key) if name}
        created = self._new_edges(connection, space, edges)
        return Stored([], len(made), 0, len(memories) - len(made), created, 0, len(edges) - created)

    def _new_edges(self, connection: Connection, space: Space, edges: Sequence[Edge]) -> int:
        ends = find_nodes(connection, space, {name for edge in edges for name in (edge.source, edge.target)})
        uids = {name: self._named[name] for edge in edges for name in (edge.source, edge.target) if name in self._named}
        uids |= {name: end.uid for name, end in ends.items()}
        forgotten = self._forgotten | {end.uid for end in ends.values() if end.deleted}
        of_row = {end.id: end.uid for end in ends.values()}
        present = {
            (of_row[source], of_row.get(target), kind)
            for source, target, kind in rows.chosen(
                connection,
                "SELECT e.source, e.target, k.name FROM edges e JOIN edge_types k ON k.id = e.type"
                " WHERE e.source IN (%s)",
                of_row,
            )
        }
        wanted = {
            (uids[edge.source], uids[edge.target], edge.type)
            for edge in edges
            if edge.source in uids and edge.target in uids
        }
        new = {
            (source, target, kind)
            for source, target, kind in wanted - present - self._edges
            if source != target and not {source, target} & forgotten
        }
        self._edges |= new
        return len(new)
