"""What of a memory crosses to the process that dreams: columns of the live graph, then texts and vectors."""

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from dreamsvc import facet_blocks
from dreamsvc.memory import standing
from dreamsvc.memory.graph import GraphView
from dreamsvc.memory.rows import unpack_vector
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection
from dreamsvc.memory.standing import FACET
from dreamsvc.snapshot_files import DREAM_EDGES, DREAM_NODES, Arrays
from dreamsvc.v1 import memory_pb2
from dreamsvc.v1.blind_spot_pb2 import BlindSpot

NEVER = -1
_TRUSTED = (memory_pb2.EDGE_ORIGIN_USER_CREATED, memory_pb2.EDGE_ORIGIN_IMPORTED_DATA)
# In the order in which they lie: by an index of the space every row would be looked up by itself.
_DREAMT = "SELECT id FROM edges NOT INDEXED WHERE space=? AND origin NOT IN (?, ?) AND deleted_us IS NULL"
SLICE = 2_000


def graph_columns(view: GraphView) -> Arrays:
    """Copies of what may change in place; call it where nothing changes the graph, i.e. in the writer's thread."""
    arrays: Arrays = {name: getattr(view, name)[: view.n].copy() for name in DREAM_NODES}
    arrays |= {name: getattr(view, name)[: view.m].copy() for name in DREAM_EDGES}
    # Blocks are replaced whole, so the dictionary is all that has to be copied here.
    return arrays | facet_blocks.pack(dict(view.dense.blocks), view.dense.dimension)


def contents(connection: Connection, space: Space, node_ids: NDArray[np.int64]) -> Arrays:
    """Of each node: id, names and texts, what may not be done with it, its original vector in float16.

    In slices, so that a query never waits long for the interpreter. A facet whose original was purged has the vector
    that its code remembers. What was changed since the columns were copied is newer than the dream, which leaves it
    alone; a node that is gone altogether has nothing.
    """
    n = len(node_ids)
    place = {int(node): row for row, node in enumerate(node_ids.tolist())}
    uids = np.zeros((n, 16), np.uint8)
    pinned, apart = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    event = np.full(n, NEVER, np.int64)
    kinds: dict[str, int] = {}
    kind = np.zeros(n, np.int32)
    titles, texts, names, entities = [b""] * n, [b""] * n, [b"[]"] * n, [b"[]"] * n
    sessions: dict[str, int] = {}
    session = np.full(n, NEVER, np.int32)
    changed = np.zeros(n, np.bool_)
    expansions = [b""] * n
    vectors = np.zeros((n, space.dimension), np.float16)
    after = -1
    while True:
        found = connection.execute(
            "SELECT n.id, n.uid, n.kind, n.title, n.text, n.pinned, n.apart, ifnull(n.event_end_us, n.event_us),"
            " v.body, v.crc, n.aliases, n.metadata, n.user_seq > ifnull(p.seq, -1), x.body, x.crc FROM nodes n"
            " LEFT JOIN vectors v ON v.node = n.id LEFT JOIN positions p ON p.node = n.id"
            " LEFT JOIN expansions x ON x.node = n.id"
            " WHERE n.space = ? AND n.id > ? AND n.deleted_us IS NULL ORDER BY n.id LIMIT ?",
            (space.id, after, SLICE),
        ).fetchall()
        if not found:
            break
        after = found[-1][0]
        for node, uid, name, title, text, is_pinned, is_apart, event_us, body, crc, *rest in found:
            row = place.get(node)
            if row is None:
                continue
            uids[row] = np.frombuffer(uid, np.uint8)
            kind[row] = kinds.setdefault(name, len(kinds))
            aliases, metadata, is_new, derived, derived_crc = rest
            titles[row], texts[row] = title.encode(), text.encode()
            pinned[row], apart[row] = bool(is_pinned), bool(is_apart)
            event[row] = NEVER if event_us is None else event_us
            names[row] = aliases.encode()
            changed[row] = bool(is_new)
            if derived and zlib.crc32(derived) == derived_crc:
                expansions[row] = derived
            told = _told(metadata)
            entities[row] = json.dumps(told.entities, ensure_ascii=False).encode()
            if told.session:
                session[row] = sessions.setdefault(told.session, len(sessions))
            if body and len(body) == 2 * space.dimension:
                vectors[row] = unpack_vector(body, crc, node)
    _remember(connection, space, vectors, place)
    types = [row[0] for row in connection.execute("SELECT name FROM edge_types ORDER BY id")]
    return {
        "uids": uids,
        "pinned": pinned,
        "apart": apart,
        "event_us": event,
        "kinds": kind,
        "kind_names": _joined(list(kinds)),
        "titles": np.frombuffer(b"".join(titles), np.uint8),
        "title_ends": np.cumsum([len(title) for title in titles], dtype=np.int64),
        "texts": np.frombuffer(b"".join(texts), np.uint8),
        "text_ends": np.cumsum([len(text) for text in texts], dtype=np.int64),
        "vectors": vectors,
        "dreamt_edges": np.array([row[0] for row in connection.execute(_DREAMT, (space.id, *_TRUSTED))], np.int64),
        # Types are numbered from 1.
        "type_names": _joined(["", *types]),
        **_texts("names", names),
        **_texts("entities", entities),
        "sessions": session,
        "changed": changed,
        **_texts("expansions", expansions),
        "points": _points(connection, space, place),
        **_pairs(connection, space, place),
    }


class _Told(NamedTuple):
    """What metadata says for dreams to read."""

    session: str
    entities: list[str]


def _told(metadata: str) -> _Told:
    if '"session"' not in metadata and '"entities"' not in metadata:
        return _Told("", [])
    held: dict[str, Any] = json.loads(metadata)
    session, entities = held.get("session"), held.get("entities")
    names = cast("list[Any]", entities) if isinstance(entities, list) else []
    return _Told(session if isinstance(session, str) else "", [name for name in names if isinstance(name, str)])


def _points(connection: Connection, space: Space, place: dict[int, int]) -> NDArray[np.float32]:
    """Positions, [n, d], all NaN for a memory that has none; d is that of most, 0 where nothing has one."""
    query = "SELECT p.node, p.body, p.crc FROM positions p JOIN nodes n ON n.id = p.node WHERE n.space = ?"
    found = [
        (place[node], body)
        for node, body, crc in connection.execute(query, (space.id,))
        if node in place and zlib.crc32(body) == crc
    ]
    widths = Counter(len(body) for _, body in found)
    width = max(widths, key=widths.__getitem__, default=0)
    points = np.full((len(place), width // 4), np.nan, np.float32)
    for row, body in found:
        if len(body) == width:
            points[row] = np.frombuffer(body, "<f4")
    return points


def _pairs(connection: Connection, space: Space, place: dict[int, int]) -> Arrays:
    """Rows of memories that were of use together since the last dream, with the counts; and of finds that somebody
    rejected."""
    query = "SELECT source, target, recalled, confirmed FROM coactivations WHERE space = ? AND used_by IS NULL"
    together = _known(connection.execute(query, (space.id,)), place)
    query = "SELECT source, target FROM blind_spots WHERE space = ? AND state = ?"
    rejected = _known(connection.execute(query, (space.id, BlindSpot.STATE_REJECTED)), place)
    return {
        "together": np.array([row[:2] for row in together], np.int32).reshape(-1, 2),
        "together_recalled": np.array([row[2] for row in together], np.int32),
        "together_confirmed": np.array([row[3] for row in together], np.int32),
        "rejected": np.array(rejected, np.int32).reshape(-1, 2),
    }


def _known(found: Iterable[Sequence[int]], place: dict[int, int]) -> list[tuple[int, ...]]:
    return [(place[row[0]], place[row[1]], *row[2:]) for row in found if row[0] in place and row[1] in place]


def _texts(name: str, encoded: list[bytes]) -> Arrays:
    return {
        name: np.frombuffer(b"".join(encoded), np.uint8),
        f"{name}_ends": np.cumsum([len(text) for text in encoded], dtype=np.int64),
    }


def _remember(connection: Connection, space: Space, vectors: NDArray[np.float16], place: dict[int, int]) -> None:
    """Facets without an original get what their code remembers."""
    bare = connection.execute(
        f"SELECT id, merged_into FROM nodes WHERE space=? AND role={FACET} AND deleted_us IS NULL AND NOT EXISTS"
        " (SELECT 1 FROM vectors WHERE node = nodes.id AND length(body) > 0) ORDER BY merged_into, id",
        (space.id,),
    ).fetchall()
    for start in range(0, len(bare), SLICE):
        part = bare[start : start + SLICE]
        packed = standing.read_packed(connection, {node for pair in part for node in pair})
        for node, container in part:
            if node in packed and container in packed and node in place:
                vectors[place[node]] = standing.decoded(packed[container], packed[node])


def _joined(names: list[str]) -> NDArray[Any]:
    return np.frombuffer("\0".join(names).encode(), np.uint8)
