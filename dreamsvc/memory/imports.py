"""Reads the lines of an import into parts that can be staged; knows the formats and nothing of the store.

DREAMSVC_JSONL, one object a line:
    {"type": "space", "embedder": "wordllama-256"}        what made the vectors below; first, optional
    {"type": "memory", "id" or "key", "kind", "title", "text", ...}   fields of Memory, times as RFC 3339,
                                                          vector as base64 of little-endian float16
    {"type": "edge", "source", "target", "edge_type", "weight", "confidence", "origin", "create_time"}

MCP_MEMORY, the file of the MCP reference memory server:
    {"type": "entity", "name", "entityType", "observations": [...]}
    {"type": "relation", "from", "to", "relationType"}
An entity becomes a memory, each observation another with an edge has_observation between them.
"""

import base64
import binascii
import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np

from dreamsvc import contract, entropy, json_messages
from dreamsvc.clock import from_iso, to_timestamp
from dreamsvc.errors import InvalidFields
from dreamsvc.memory import rows
from dreamsvc.memory.spaces import CLIENT
from dreamsvc.memory.sqlite import MOST_COUNTED
from dreamsvc.v1 import memory_pb2
from dreamsvc.v1.memory_pb2 import Edge, EdgeOrigin, ImportReport, Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest

PART_ROWS = 2000
# A user's write may have to wait for one part.
PART_BYTES = 4 * 1024 * 1024
MOST_SHOWN = 100
# The longest text, every character of it escaped, and room for the rest.
LONGEST_LINE = 8 * 1024 * 1024
_TIMES = ("event_time", "event_end_time", "create_time", "update_time", "access_time")
_PLAIN = ("id", "key", "kind", "title", "text", "aliases", "importance", "pinned", "access_count", "replay_count")
# What Export says of a space that dreams have compressed.
_STANDING = ("merged_into", "kept_apart", "packed")
_MEMORY_FIELDS = {"type", "vector", "metadata", "role", *_TIMES, *_PLAIN, *_STANDING}
_EDGE_PLAIN = ("is_amortized_shortcut", "path", "evidence", "valid_from", "valid_to")
_EDGE_FIELDS = {"type", "source", "target", "edge_type", "weight", "confidence", "origin", "create_time", *_EDGE_PLAIN}
_ROLES = {
    None: memory_pb2.MEMORY_ROLE_UNSPECIFIED,
    "CONTAINER": memory_pb2.MEMORY_ROLE_CONTAINER,
    "FACET": memory_pb2.MEMORY_ROLE_FACET,
}
_ORIGIN = "EDGE_ORIGIN_"


class MalformedLineError(ValueError):
    """One line cannot be read; the message says why."""


class LineReader:
    """Takes a file in chunks, gives parts of memories as they fill, and the parts of edges at the end."""

    def __init__(self, space: str, file_format: memory_pb2.ImportFormat.ValueType) -> None:
        self.report = ImportReport()
        self.embedder = CLIENT
        self._read_line = _READERS[file_format]
        self._space = space
        self._rest = bytearray()
        # Inside a line that is too long: what comes before its end is not kept.
        self._skipping = False
        self._memories: list[Memory] = []
        self._edges: list[tuple[int, Edge]] = []
        # Line of each name that the file gives to a memory, ids and keys alike.
        self._names: dict[str, int] = {}
        # Id and key, by either, of memories that have both.
        self._both: dict[str, tuple[str, str]] = {}
        self._dimension = 0

    def feed(self, chunk: bytes) -> Iterator[RememberRequest]:
        first, *lines = chunk.split(b"\n")
        # In place: a long line in small chunks would be copied for each of them.
        self._rest += first
        for line in lines:
            self._take(bytes(self._rest))
            self._rest[:] = line
        if len(self._rest) > LONGEST_LINE:
            self._skipping = True
            self._rest.clear()
        yield from self._full_parts(PART_ROWS)

    def finish(self, stored: Callable[[set[str]], set[str]]) -> Iterator[RememberRequest]:
        """The rest of the memories, then all edges; `stored` says which of some names the space has."""
        if self._skipping or self._rest.strip():
            self._take(bytes(self._rest))
        yield from self._full_parts(1)
        for _, edge in self._edges:
            edge.source, edge.target = self._as_named(edge.source), self._as_named(edge.target)
        ends = {name for _, edge in self._edges for name in (edge.source, edge.target)}
        outside = ends - self._names.keys()
        keys = {self._both[name][1] for name in ends & self._both.keys()}
        present = stored(outside | keys) if outside or keys else set[str]()
        missing = outside - present
        # A key that is stored stands for the memory that has it, whatever id the file gives.
        lasting = {name: key if key in present else uid for name, (uid, key) in self._both.items()}
        for _, edge in self._edges:
            edge.source = lasting.get(edge.source, edge.source)
            edge.target = lasting.get(edge.target, edge.target)
        good: list[Edge] = []
        for line, edge in self._edges:
            lost = next((name for name in (edge.source, edge.target) if name in missing), None)
            if lost is None:
                good.append(edge)
            else:
                self._refuse(line, f'names a memory that is neither here nor stored: "{lost[:80]}"')
        for start in range(0, len(good), PART_ROWS):
            yield RememberRequest(edges=good[start : start + PART_ROWS])

    def _full_parts(self, least: int) -> Iterator[RememberRequest]:
        while self._memories:
            count = size = 0
            for memory in self._memories[:PART_ROWS]:
                size += memory.ByteSize()
                if count and size > PART_BYTES:
                    break
                count += 1
            if count == len(self._memories) and count < least:
                return
            part, self._memories = self._memories[:count], self._memories[count:]
            yield RememberRequest(memories=part)

    def _as_named(self, name: str) -> str:
        """A memory's id as its own line spells it."""
        if name in self._names:
            return name
        uid = entropy.uuid_bytes(name)
        own = name if uid is None else entropy.uuid_text(uid)
        return own if own in self._names else name

    def _take(self, line: bytes) -> None:
        self.report.lines += 1
        number = self.report.lines
        if self._skipping or len(line) > LONGEST_LINE:
            self._skipping = False
            self._refuse(number, f"is longer than {LONGEST_LINE} bytes")
            return
        if not line.strip():
            return
        try:
            memories, edges = self._read_line(self, json.loads(line.removeprefix(codecs.BOM_UTF8).decode()), number)
            for item in (*memories, *edges):
                contract.fill(item)
                contract.check(item)
            self._check_vectors(memories)
        except UnicodeError:
            # Bytes that are none, or an escaped half of a surrogate pair.
            self._refuse(number, "is no UTF-8")
        except json.JSONDecodeError as error:
            self._refuse(number, f"is no JSON: {error.msg} at column {error.colno}")
        except RecursionError:
            self._refuse(number, "is nested too deeply")
        except (MalformedLineError, InvalidFields) as error:
            self._refuse(number, str(error))
        except ValueError as error:
            # A number of more digits than Python reads.
            self._refuse(number, f"is no JSON: {error}")
        else:
            for memory in memories:
                for name in (memory.id, memory.key):
                    if name:
                        self._names[name] = number
                        if memory.id and memory.key:
                            self._both[name] = (memory.id, memory.key)
            self._memories += memories
            self._edges += [(number, edge) for edge in edges]

    def _check_vectors(self, memories: list[Memory]) -> None:
        for memory in memories:
            # A centroid has as many numbers as the vectors that it is the mean of.
            size = len(memory.vector) or (memory.role == _ROLES["CONTAINER"] and len(memory.packed.code))
            if size and self._dimension and size != self._dimension:
                raise MalformedLineError(f"vector has {size} values, the first one of the file {self._dimension}")
            self._dimension = self._dimension or size

    @property
    def dimension(self) -> int:
        """Of the file's vectors; 0 if it has none."""
        return self._dimension

    def _refuse(self, line: int, reason: str) -> None:
        self.report.malformed += 1
        if len(self.report.malformed_lines) < MOST_SHOWN:
            # What it quotes may be half of a surrogate pair, which no message can hold.
            self.report.malformed_lines.add(line=line, reason=reason.encode(errors="replace").decode())

    def own_line(self, value: Any, number: int) -> tuple[list[Memory], list[Edge]]:
        """A line of DREAMSVC_JSONL."""
        match _object(value).get("type"):
            case "space":
                embedder = value.get("embedder", "")
                if not isinstance(embedder, str) or number != 1:
                    raise MalformedLineError("the space's line must be the first, its embedder a text")
                self.embedder = embedder or CLIENT
                return [], []
            case "memory":
                return [self._own_memory(value)], []
            case "edge":
                return [], [_own_edge(value)]
            case other:
                raise MalformedLineError(f'"type" is {other!r:.40}; must be "memory", "edge" or "space"')

    def _own_memory(self, value: dict[str, Any]) -> Memory:
        _only(value, _MEMORY_FIELDS)
        known = (*_PLAIN, *_STANDING)
        memory = _parsed({name: value[name] for name in known if value.get(name) is not None}, Memory())
        role = value.get("role")
        if not (role is None or isinstance(role, str)) or role not in _ROLES:
            raise MalformedLineError(f'"role" is {role!r:.40}; must be CONTAINER or FACET, or absent')
        memory.role = _ROLES[role]
        if memory.role or memory.HasField("packed"):
            _check_packed(memory, vector=bool(value.get("vector")))
        if not memory.id and not memory.key:
            raise MalformedLineError('needs an "id" or a "key", so that importing again changes nothing')
        if memory.id:
            uid = entropy.uuid_bytes(memory.id)
            if uid is None:
                raise MalformedLineError(f'"id" is no UUID: "{memory.id[:40]}"')
            memory.id = entropy.uuid_text(uid)
        for name in (memory.id, memory.key):
            if name and name in self._names:
                raise MalformedLineError(f'repeats the memory of line {self._names[name]}: "{name[:80]}"')
        if not (memory.title or memory.text or value.get("vector") or memory.packed.code):
            raise MalformedLineError('needs a "text", a "title" or a "vector"')
        if max(memory.access_count, memory.replay_count) > MOST_COUNTED:
            raise MalformedLineError('"access_count" or "replay_count" is beyond 2**63 - 1')
        for name in _TIMES:
            if value.get(name) is not None:
                getattr(memory, name).CopyFrom(to_timestamp(_time(value[name], name)))
        if value.get("metadata"):
            _parsed(value["metadata"], memory.metadata)
            if why := rows.unfit(memory):
                raise MalformedLineError(f'"metadata" {why}')
        if value.get("vector") is not None:
            memory.vector.extend(_vector(value["vector"]))
        return memory

    def mcp_line(self, value: Any, number: int) -> tuple[list[Memory], list[Edge]]:
        """A line of MCP_MEMORY."""
        match _object(value).get("type"):
            case "entity":
                return self._mcp_entity(value, number)
            case "relation":
                return [], [
                    Edge(
                        source=_mcp_key(_text(value, "from")),
                        target=_mcp_key(_text(value, "to")),
                        type=_text(value, "relationType"),
                        origin=memory_pb2.EDGE_ORIGIN_IMPORTED_DATA,
                    )
                ]
            case other:
                raise MalformedLineError(f'"type" is {other!r:.40}; must be "entity" or "relation"')

    def _mcp_entity(self, value: dict[str, Any], number: int) -> tuple[list[Memory], list[Edge]]:
        name = _text(value, "name")
        key = _mcp_key(name)
        if key in self._names:
            raise MalformedLineError(f'repeats the entity of line {self._names[key]}: "{name[:80]}"')
        given = value.get("observations", [])
        if not isinstance(given, list):
            raise MalformedLineError('"observations" must be a list')
        observations = [one for one in cast("list[Any]", given) if isinstance(one, str) and one.strip()]
        if len(observations) < len(cast("list[Any]", given)):
            raise MalformedLineError("an observation is no text")
        memories = [Memory(key=key, kind=_text(value, "entityType"), title=name)]
        edges: list[Edge] = []
        for observation in dict.fromkeys(observations):
            own = _mcp_key(name, observation)
            memories.append(Memory(key=own, kind="observation", title=name, text=observation))
            edges.append(Edge(source=key, target=own, type="has_observation"))
        return memories, edges


_READERS = {
    memory_pb2.IMPORT_FORMAT_DREAMSVC_JSONL: LineReader.own_line,
    memory_pb2.IMPORT_FORMAT_MCP_MEMORY: LineReader.mcp_line,
}


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedLineError("is no JSON object")
    return cast("dict[str, Any]", value)


def _only(value: dict[str, Any], allowed: set[str]) -> None:
    unknown = value.keys() - allowed
    if unknown:
        raise MalformedLineError(f"has unknown fields: {', '.join(sorted(unknown))[:200]}")


def _parsed[M: (Memory, Edge, Any)](value: Any, into: M) -> M:
    try:
        json_messages.read(value, into)
    except (ValueError, TypeError) as error:
        raise MalformedLineError(str(error)[:300]) from error
    return into


def _own_edge(value: dict[str, Any]) -> Edge:
    _only(value, _EDGE_FIELDS)
    known = ("source", "target", "weight", "confidence", *_EDGE_PLAIN)
    fields = {name: value[name] for name in known if value.get(name) is not None}
    if value.get("edge_type"):
        fields["type"] = value["edge_type"]
    edge = _parsed(fields, Edge())
    origin = value.get("origin")
    if origin is not None:
        try:
            edge.origin = EdgeOrigin.Value(f"{_ORIGIN}{origin}")
        except ValueError as error:
            raise MalformedLineError(f'"origin" is {origin!r:.40}, which is no origin') from error
    if value.get("create_time") is not None:
        edge.create_time.CopyFrom(to_timestamp(_time(value["create_time"], "create_time")))
    if edge.source == edge.target:
        raise MalformedLineError("source and target are the same")
    return edge


def _check_packed(memory: Memory, *, vector: bool) -> None:
    packed = memory.packed
    if packed.bits not in (1, 2, 4, 8) or not packed.code or len(packed.code) > 65536:
        raise MalformedLineError('"packed" needs "bits" of 1, 2, 4 or 8 and a "code"')
    if not 0 <= packed.scale <= 65504:
        raise MalformedLineError('"packed" has a scale outside 0 to 65504')
    if memory.role == memory_pb2.MEMORY_ROLE_CONTAINER and (packed.bits != 8 or vector):
        raise MalformedLineError("a container has a centroid of 8 bits and no vector of its own")
    if not memory.role:
        raise MalformedLineError('"packed" is of a CONTAINER or a FACET only')
    if memory.role == memory_pb2.MEMORY_ROLE_FACET and entropy.uuid_bytes(memory.merged_into) is None:
        raise MalformedLineError('a facet needs the id of its container as "merged_into"')


def _time(value: Any, name: str) -> int:
    try:
        return from_iso(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise MalformedLineError(f'"{name}" is no RFC 3339 time: {value!r:.60}') from error


def _vector(value: Any) -> list[float]:
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise MalformedLineError('"vector" is no base64') from error
    if not raw or len(raw) % 2:
        raise MalformedLineError('"vector" holds no whole float16 values')
    vector = np.frombuffer(raw, "<f2")
    if not np.isfinite(vector).all() or not vector.any():
        raise MalformedLineError('"vector" is not finite, or all zero')
    return vector.astype(np.float32).tolist()


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text.strip():
        raise MalformedLineError(f'"{name}" must be a text')
    return text


def _mcp_key(*names: str) -> str:
    """A name of any length as a key that fits."""
    readable = f"mcp:{names[0]}"
    return readable if len(names) == 1 and len(readable.encode()) <= 512 else f"mcp:{entropy.uuid_for(*names)}"
