"""Between rows of the store and the messages of the API, and nothing else."""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from dreamsvc import entropy, json_messages
from dreamsvc.clock import from_timestamp, to_timestamp
from dreamsvc.dreamer.v1.operations_pb2 import EdgeDetail
from dreamsvc.errors import StoreCorrupt, invalid
from dreamsvc.memory.sqlite import Connection
from dreamsvc.v1.memory_pb2 import Edge, Hit, Memory
from dreamsvc.v1.memory_service_pb2 import RecallResponse

MEMORY_COLUMNS = (
    "id, uid, key, kind, title, text, aliases, importance, pinned, metadata, event_us, created_us, updated_us, "
    "accessed_us, access_count, replay_count, deleted_us, role, "
    "(SELECT m.uid FROM nodes m WHERE m.id = nodes.merged_into), event_end_us, apart"
)
# Most parameters of one statement that every SQLite build takes.
SLICE = 500


def read_memory(row: Sequence[Any], space: str) -> Memory:
    """The message of a row of MEMORY_COLUMNS, without its vector."""
    (_, uid, key, kind, title, text, aliases, importance, pinned, metadata, event, created, updated, accessed) = row[
        :14
    ]
    memory = Memory(
        id=entropy.uuid_text(uid),
        key=key or "",
        space=space,
        kind=kind,
        title=title,
        text=text,
        aliases=read_aliases(aliases),
        importance=importance,
        pinned=bool(pinned),
        create_time=to_timestamp(created),
        update_time=to_timestamp(updated),
        access_count=row[14],
        replay_count=row[15],
    )
    if metadata != "{}":
        json_messages.read(json.loads(metadata), memory.metadata)
    deleted, role, merged_into, event_end, apart = row[16:21]
    memory.role = role
    memory.kept_apart = bool(apart)
    if merged_into is not None:
        memory.merged_into = entropy.uuid_text(merged_into)
    times = (
        ("event_time", event),
        ("event_end_time", event_end),
        ("access_time", accessed),
        ("delete_time", deleted),
    )
    for name, value in times:
        if value is not None:
            getattr(memory, name).CopyFrom(to_timestamp(value))
    return memory


def read_aliases(text: str) -> list[str]:
    found: list[str] = json.loads(text)
    return found


def metadata_json(memory: Memory) -> str:
    """Canonical text of a memory's metadata: equal metadata, equal text."""
    if not memory.HasField("metadata"):
        return "{}"
    return json.dumps(json_messages.write(memory.metadata), sort_keys=True, ensure_ascii=False)


def canonical(metadata: str) -> str:
    """The text of a JSON object as `metadata_json` would give it, e.g. with every number a float."""
    memory = Memory()
    json_messages.read(json.loads(metadata), memory.metadata)
    return metadata_json(memory) if memory.metadata.fields else "{}"


def unfit(memory: Memory) -> str:
    """Why a memory's metadata could not be stored or not be sent back; '' where it can."""
    if not memory.HasField("metadata"):
        return ""
    try:
        metadata_json(memory)
        # As deep as an answer holds it.
        RecallResponse.FromString(RecallResponse(hits=[Hit(memory=memory)]).SerializeToString())
    except DecodeError:
        return "is nested too deeply"
    except ValueError:
        return "has a number that is not finite"
    return ""


def event_us(memory: Memory) -> int | None:
    return from_timestamp(memory.event_time) if memory.HasField("event_time") else None


def pack_vector(vector: Sequence[float] | NDArray[np.float32], path: str) -> bytes:
    """float16 bytes of a vector; raises InvalidFields where it does not fit into float16 or is all zero."""
    wide = np.asarray(vector, dtype=np.float32)
    with np.errstate(over="ignore"):
        packed = wide.astype("<f2")
    if not np.isfinite(packed).all():
        raise invalid(path, "has a value beyond 65504; scale the vector")
    if not packed.any():
        raise invalid(path, "is all zero, so it points nowhere")
    return packed.tobytes()


def put_vectors(connection: Connection, packed: Mapping[int, bytes]) -> None:
    """Stores what `pack_vector` gave, by row id; an empty body marks a text that has no vector."""
    connection.executemany(
        "INSERT OR REPLACE INTO vectors VALUES (?,?,?)",
        ((node, body, zlib.crc32(body)) for node, body in packed.items()),
    )


def unpack_vector(body: bytes, crc: int, node: int) -> NDArray[np.float16]:
    if zlib.crc32(body) != crc:
        raise StoreCorrupt(f"the vector of memory row {node} does not match its checksum; run `dreamsvc doctor`")
    return np.frombuffer(body, dtype="<f2")


def add_vectors(connection: Connection, memories: dict[int, Memory]) -> None:
    """Puts stored vectors into messages, by row id."""
    for node, body, crc in chosen(connection, "SELECT node, body, crc FROM vectors WHERE node IN (%s)", memories):
        memories[node].vector.extend(unpack_vector(body, crc, node).astype(np.float32).tolist())


def chosen(connection: Connection, sql: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Rows of a statement with an `IN (%s)`, for any number of values."""
    wanted = list(values)
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(wanted), SLICE):
        part = wanted[start : start + SLICE]
        rows += connection.execute(sql % ",".join("?" * len(part)), part).fetchall()
    return rows


EDGE_QUERY = """
SELECT e.id, s.uid, t.uid, k.name, e.weight, e.confidence, e.origin, e.created_us, e.deleted_us, c.uid, e.detail
FROM edges e JOIN nodes s ON s.id = e.source JOIN nodes t ON t.id = e.target JOIN edge_types k ON k.id = e.type
LEFT JOIN changes c ON c.id = e.changed_by
"""


def edges_at(connection: Connection, nodes: Iterable[int]) -> list[Edge]:
    """All edges of some memories, the forgotten included, in the order they were made."""
    ends = list(nodes)
    found = {
        row[0]: row
        for side in ("source", "target")
        for row in chosen(connection, f"{EDGE_QUERY} WHERE e.{side} IN (%s)", ends)
    }
    return read_edges(connection, (found[edge] for edge in sorted(found)))


def read_edges(connection: Connection, found: Iterable[Sequence[Any]]) -> list[Edge]:
    """The messages of rows of EDGE_QUERY, with the paths that shortcuts stand for."""
    edges: list[Edge] = []
    paths: dict[int, list[int]] = {}
    for row in found:
        if row[10] and (path := EdgeDetail.FromString(row[10]).path):
            paths[len(edges)] = list(path)
        edges.append(read_edge(row))
    if paths:
        query = "SELECT id, uid FROM nodes WHERE id IN (%s)"
        uids = dict(chosen(connection, query, {node for path in paths.values() for node in path}))
        for place, path in paths.items():
            edges[place].path.extend(entropy.uuid_text(uids[node]) for node in path if node in uids)
    return edges


def read_edge(row: Sequence[Any]) -> Edge:
    """The message of a row of EDGE_QUERY, without its path."""
    _, source, target, kind, weight, confidence, origin, created, deleted, dream, detail = row
    edge = Edge(
        source=entropy.uuid_text(source),
        target=entropy.uuid_text(target),
        type=kind,
        weight=weight,
        confidence=confidence,
        origin=origin,
        create_time=to_timestamp(created),
        changed_by_dream=entropy.uuid_text(dream) if dream is not None else "",
    )
    if deleted is not None:
        edge.delete_time.CopyFrom(to_timestamp(deleted))
    if detail:
        known = EdgeDetail.FromString(detail)
        edge.is_amortized_shortcut = known.is_amortized_shortcut
        edge.evidence = known.evidence
        if known.valid_from_us:
            edge.valid_from.CopyFrom(to_timestamp(known.valid_from_us))
        if known.valid_to_us:
            edge.valid_to.CopyFrom(to_timestamp(known.valid_to_us))
    return edge
