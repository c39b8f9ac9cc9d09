"""What of a memory crosses to the process that dreams: columns of the live graph, then texts and vectors."""

from typing import Any

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
    titles, texts = [b""] * n, [b""] * n
    vectors = np.zeros((n, space.dimension), np.float16)
    after = -1
    while True:
        found = connection.execute(
            "SELECT n.id, n.uid, n.kind, n.title, n.text, n.pinned, n.apart, ifnull(n.event_end_us, n.event_us),"
            " v.body, v.crc FROM nodes n LEFT JOIN vectors v ON v.node = n.id WHERE n.space = ? AND n.id > ?"
            " AND n.deleted_us IS NULL ORDER BY n.id LIMIT ?",
            (space.id, after, SLICE),
        ).fetchall()
        if not found:
            break
        after = found[-1][0]
        for node, uid, name, title, text, is_pinned, is_apart, event_us, body, crc in found:
            row = place.get(node)
            if row is None:
                continue
            uids[row] = np.frombuffer(uid, np.uint8)
            kind[row] = kinds.setdefault(name, len(kinds))
            titles[row], texts[row] = title.encode(), text.encode()
            pinned[row], apart[row] = bool(is_pinned), bool(is_apart)
            event[row] = NEVER if event_us is None else event_us
            if body and len(body) == 2 * space.dimension:
                vectors[row] = unpack_vector(body, crc, node)
    _remember(connection, space, vectors, place)
    names = [row[0] for row in connection.execute("SELECT name FROM edge_types ORDER BY id")]
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
        "type_names": _joined(["", *names]),
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
