"""A space as JSON lines that an import reads back; equal stores give equal bytes.

What dreams derived of memories beside them (expansions, positions, blind spots, what was of use together) is no part of
it: it follows from what is, and the next dream of the store that reads the file makes it anew.
"""

import base64
import contextlib
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dreamsvc import entropy
from dreamsvc.clock import from_timestamp, iso
from dreamsvc.memory import rows, spaces, standing
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection, open_read_only, translated
from dreamsvc.v1.memory_pb2 import Edge, EdgeOrigin, MemoryRole
from dreamsvc.v1.memory_service_pb2 import ExportSummary

CHUNK_BYTES = 1 << 18


def chunks(connection: Connection, space: Space) -> Iterator[bytes | ExportSummary]:
    """The file in chunks, then its summary."""
    summary = ExportSummary()
    digest = hashlib.sha256()
    held = bytearray()
    for kind, line in lines(connection, space):
        summary.memories += kind == "memory"
        summary.edges += kind == "edge"
        digest.update(line)
        held += line
        if len(held) >= CHUNK_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
    summary.digest = digest.hexdigest()
    yield summary


def read(path: Path, name: str) -> Iterator[bytes | ExportSummary]:
    """The same of a space of a database file, beside a server too; raises NotFound, StoreUnavailable, StoreCorrupt."""
    with contextlib.closing(open_read_only(path)) as connection, translated():
        connection.execute("BEGIN")
        yield from chunks(connection, spaces.find(connection, name))


def lines(connection: Connection, space: Space) -> Iterator[tuple[str, bytes]]:
    """("space" | "memory" | "edge", line): what lives in the space, in an order that depends on it alone.

    Reads in one transaction of the connection's, so that the file shows one moment.
    """
    yield "space", _line({"type": "space", "embedder": space.embedder})
    yield from (("memory", line) for line in _memories(connection, space))
    yield from (("edge", line) for line in _edges(connection, space))


def _memories(connection: Connection, space: Space) -> Iterator[bytes]:
    query = (
        f"SELECT {rows.MEMORY_COLUMNS}, v.body, v.crc, p.bits, p.scale, p.body, p.crc"
        " FROM nodes LEFT JOIN vectors v ON v.node = nodes.id LEFT JOIN packed_vectors p ON p.node = nodes.id"
        # Containers first, so that an import knows them when their facets come.
        f" WHERE space = ? AND deleted_us IS NULL ORDER BY role <> {standing.CONTAINER}, uid"
    )
    for row in connection.execute(query, (space.id,)):
        (node, uid, key, kind, title, text, aliases, importance, pinned, metadata) = row[:10]
        event, created, updated, accessed, access_count, replay_count, _, role, into, event_end, apart = row[10:21]
        vector, crc, *packed = row[21:]
        times = {"event_time": event, "event_end_time": event_end, "create_time": created, "update_time": updated}
        times["access_time"] = accessed
        if vector:
            rows.unpack_vector(vector, crc, node)
        yield _line(
            {
                "type": "memory",
                "id": entropy.uuid_text(uid),
                "key": key,
                "kind": kind,
                "title": title,
                "text": text,
                "aliases": json.loads(aliases),
                "importance": importance,
                "pinned": bool(pinned),
                "metadata": json.loads(metadata),
                **{name: None if value is None else iso(value) for name, value in times.items()},
                "access_count": access_count,
                "replay_count": replay_count,
                "vector": base64.b64encode(vector).decode() if vector else None,
                "role": MemoryRole.Name(role).removeprefix("MEMORY_ROLE_") if role else None,
                "merged_into": entropy.uuid_text(into) if into else None,
                "kept_apart": bool(apart),
                "packed": _packed(node, packed) if packed[0] is not None else None,
            }
        )


def _edges(connection: Connection, space: Space) -> Iterator[bytes]:
    query = f"{rows.EDGE_QUERY} WHERE e.space = ? AND e.deleted_us IS NULL ORDER BY s.uid, t.uid, k.name"
    hidden: set[str] | None = None
    for row in connection.execute(query, (space.id,)):
        _, source, target, kind, weight, confidence, origin, created, _, _, detail = row
        more = rows.read_edges(connection, [row])[0] if detail else Edge()
        if more.path and hidden is None:
            hidden = _hidden(connection, space)
        yield _line(
            {
                "type": "edge",
                "source": entropy.uuid_text(source),
                "target": entropy.uuid_text(target),
                "edge_type": kind,
                "weight": weight,
                "confidence": confidence,
                "origin": EdgeOrigin.Name(origin).removeprefix("EDGE_ORIGIN_") if origin else None,
                "create_time": iso(created),
                "is_amortized_shortcut": more.is_amortized_shortcut,
                # One that leads over a memory that is not in the file could not be read back.
                "path": [] if hidden and hidden.intersection(more.path) else list(more.path),
                "evidence": more.evidence,
                "valid_from": iso(from_timestamp(more.valid_from)) if more.HasField("valid_from") else None,
                "valid_to": iso(from_timestamp(more.valid_to)) if more.HasField("valid_to") else None,
            }
        )


def _hidden(connection: Connection, space: Space) -> set[str]:
    query = "SELECT uid FROM nodes WHERE space = ? AND deleted_us IS NOT NULL"
    return {entropy.uuid_text(uid) for (uid,) in connection.execute(query, (space.id,))}


def _packed(node: int, row: list[Any]) -> dict[str, Any]:
    _, packed = next(iter(standing.unpack_rows([(node, *row)])))
    return {"bits": packed.bits, "scale": packed.scale, "code": base64.b64encode(packed.code).decode()}


def _line(value: dict[str, Any]) -> bytes:
    """Canonical JSON without what is empty, so that a field added later changes no old digest."""
    kept = {
        name: item
        for name, item in value.items()
        if item is not None and item is not False and (isinstance(item, (int, float)) or item)
    }
    assert all(math.isfinite(item) for item in kept.values() if isinstance(item, float))
    return json.dumps(kept, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
