"""What a memory stands for: rows of nodes with their role, and the packed vectors of containers and facets."""

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from dreamsvc.errors import StoreCorrupt
from dreamsvc.facet_codes import Bits, Centroid, FacetCodes, decode_centroid, decode_facets
from dreamsvc.memory import rows
from dreamsvc.memory.graph import NEVER, NewNode, PackedContainer
from dreamsvc.memory.sqlite import Connection
from dreamsvc.v1 import memory_pb2
from dreamsvc.v1.memory_pb2 import Memory, PackedVector

PLAIN = memory_pb2.MEMORY_ROLE_UNSPECIFIED
CONTAINER = memory_pb2.MEMORY_ROLE_CONTAINER
FACET = memory_pb2.MEMORY_ROLE_FACET
FOLDED = memory_pb2.MEMORY_ROLE_FOLDED
REPLACED = memory_pb2.MEMORY_ROLE_REPLACED

_COLUMNS = (
    "id, space, uid, kind, title, text, aliases, importance, pinned, event_us, event_end_us, created_us, accessed_us,"
    " access_count, deleted_us, role, merged_into, changed_by, apart, user_seq, purged"
)


class Standing(NamedTuple):
    """A row of `nodes` as merging, reverting and unmerging read it."""

    id: int
    space: int
    uid: bytes
    kind: str
    title: str
    text: str
    aliases: str
    importance: float
    pinned: int
    event_us: int | None
    event_end_us: int | None
    created_us: int
    accessed_us: int | None
    access_count: int
    deleted_us: int | None
    role: int
    merged_into: int | None
    changed_by: int | None
    apart: int
    user_seq: int
    purged: int

    @property
    def alive(self) -> bool:
        return self.deleted_us is None

    def live(self) -> NewNode:
        """The row as the live graph needs it."""
        return NewNode(
            id=self.id,
            alive=self.alive,
            kind=self.kind,
            title=self.title,
            text=self.text,
            aliases=rows.read_aliases(self.aliases),
            importance=self.importance,
            created_us=self.created_us,
            event_us=NEVER if self.event_us is None else self.event_us,
            accessed_us=NEVER if self.accessed_us is None else self.accessed_us,
            role=self.role,
            merged_into=NEVER if self.merged_into is None else self.merged_into,
            event_end_us=NEVER if self.event_end_us is None else self.event_end_us,
        )


def find(connection: Connection, nodes: Iterable[int]) -> dict[int, Standing]:
    """Rows by id, those that exist."""
    query = f"SELECT {_COLUMNS} FROM nodes WHERE id IN (%s)"
    return {row[0]: Standing(*row) for row in rows.chosen(connection, query, nodes)}


def merged_into(connection: Connection, nodes: Iterable[int]) -> list[Standing]:
    """What was merged into any of some nodes, by id, the hidden included."""
    query = f"SELECT {_COLUMNS} FROM nodes WHERE merged_into IN (%s) ORDER BY id"
    return [Standing(*row) for row in rows.chosen(connection, query, nodes)]


def stored_vectors(connection: Connection, nodes: Iterable[int]) -> dict[int, NDArray[np.float16]]:
    """Original vectors of some nodes, those that have one."""
    query = "SELECT node, body, crc FROM vectors WHERE length(body) > 0 AND node IN (%s)"
    return {node: rows.unpack_vector(body, crc, node) for node, body, crc in rows.chosen(connection, query, nodes)}


def living(connection: Connection, nodes: Iterable[int], space: int | None = None) -> dict[int, int]:
    """What lives of some memories, or the living one that stands for them, by their row; nothing of forgotten ones.

    space: only memories of this one.
    """
    found: dict[int, int] = {}
    wanted: dict[int, int] = {node: node for node in nodes}
    seen: set[tuple[int, int]] = set()
    while wanted:
        now = find(connection, set(wanted.values()))
        seen |= wanted.items()
        further: dict[int, int] = {}
        for name, row in wanted.items():
            node = now.get(row)
            if node is not None and space not in (None, node.space):
                continue
            if node is not None and node.alive:
                found[name] = row
            elif node is not None and node.role in (FOLDED, REPLACED) and node.merged_into is not None:
                further[name] = node.merged_into
        wanted = dict(further.items() - seen)
    return found


def remembered(connection: Connection, facets: Iterable[Standing]) -> dict[int, bytes]:
    """What the codes of facets remember of originals that were purged: float16 of unit length, by id."""
    of = {row.id: row.merged_into for row in facets if row.merged_into is not None}
    bare = of.keys() - stored_vectors(connection, of).keys()
    packed = read_packed(connection, bare | {of[node] for node in bare})
    found: dict[int, bytes] = {}
    for node in sorted(bare):
        if node in packed and of[node] in packed:
            vector = decoded(packed[of[node]], packed[node]).astype(np.float64)
            unit = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype("<f2")
            if unit.any():
                found[node] = unit.tobytes()
    return found


def add_vectors(connection: Connection, memories: dict[int, Memory]) -> None:
    """Puts vectors into messages, by row id: as stored, else as a code or a centroid remembers them."""
    rows.add_vectors(connection, memories)
    packed_roles = (CONTAINER, FACET)
    bare = {node: memory for node, memory in memories.items() if not memory.vector and memory.role in packed_roles}
    if not bare:
        return
    holders = {row.id: row.merged_into for row in find(connection, bare).values() if row.merged_into is not None}
    packed = read_packed(connection, {*bare, *holders.values()})
    for node, memory in bare.items():
        if node not in packed:
            continue
        if memory.role == CONTAINER:
            memory.vector.extend(decode_centroid(as_centroid(packed[node])).tolist())
        elif holders.get(node) in packed:
            memory.vector.extend(decoded(packed[holders[node]], packed[node]).tolist())


# ── packed vectors ──────────────────────────────────────────────────────────────


def put_packed(connection: Connection, packed: Iterable[tuple[int, PackedVector]]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO packed_vectors (node, bits, scale, body, crc) VALUES (?,?,?,?,?)",
        ((node, one.bits, one.scale, one.code, _crc(one.scale, one.code)) for node, one in packed),
    )


def read_packed(connection: Connection, nodes: Iterable[int]) -> dict[int, PackedVector]:
    """Packed vectors of some nodes; raises StoreCorrupt for one that does not match its checksum."""
    query = "SELECT node, bits, scale, body, crc FROM packed_vectors WHERE node IN (%s)"
    return dict(unpack_rows(rows.chosen(connection, query, nodes)))


def unpack_rows(found: Iterable[Sequence[Any]]) -> Iterable[tuple[int, PackedVector]]:
    for node, bits, scale, body, crc in found:
        if _crc(scale, body) != crc:
            raise StoreCorrupt(
                f"the packed vector of memory row {node} does not match its checksum; run `dreamsvc doctor`"
            )
        yield node, PackedVector(bits=bits, scale=scale, code=body)


def drop_packed(connection: Connection, nodes: Iterable[int]) -> None:
    connection.executemany("DELETE FROM packed_vectors WHERE node=?", ((node,) for node in nodes))


def containers(connection: Connection, ids: Iterable[int]) -> dict[int, PackedContainer]:
    """Living containers with the codes of their living facets, by id; one whose centroid is gone is left out."""
    wanted = list(ids)
    query = (
        f"SELECT merged_into, id FROM nodes WHERE role={FACET} AND deleted_us IS NULL AND merged_into IN (%s)"
        " ORDER BY id"
    )
    members: dict[int, list[int]] = {container: [] for container in wanted}
    for container, node in rows.chosen(connection, query, wanted):
        members[container].append(node)
    packed = read_packed(connection, [*wanted, *(node for held in members.values() for node in held)])
    return {
        container: pack(packed[container], held, packed) for container, held in members.items() if container in packed
    }


def pack(centroid: PackedVector, members: Sequence[int], packed: dict[int, PackedVector]) -> PackedContainer:
    """A container of those members that have a code, all of one width as a container's are."""
    held = [node for node in members if node in packed]
    bits = packed[held[0]].bits if held else 4
    held = [node for node in held if packed[node].bits == bits and len(packed[node].code) == len(packed[held[0]].code)]
    width = len(packed[held[0]].code) if held else 0
    codes = np.frombuffer(b"".join(packed[node].code for node in held), np.uint8).reshape(len(held), width)
    scales = np.array([packed[node].scale for node in held], np.float16)
    return PackedContainer(held, FacetCodes(codes, scales), cast("Bits", bits), as_centroid(centroid))


def as_centroid(packed: PackedVector) -> Centroid:
    return Centroid(np.frombuffer(packed.code, np.int8), np.float32(packed.scale))


def decoded(centroid: PackedVector, facet: PackedVector) -> NDArray[np.float32]:
    """A facet's vector as its code remembers it, [D]."""
    codes = FacetCodes(np.frombuffer(facet.code, np.uint8)[None], np.array([facet.scale], np.float16))
    return decode_facets(codes, decode_centroid(as_centroid(centroid)), bits=cast("Bits", facet.bits))[0]


def _crc(scale: float, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<d", scale)))
