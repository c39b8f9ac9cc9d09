"""A snapshot's memories on the host, as the steps after the replay read them. n: rows. e: edges. D: dimensions."""

import json
from collections.abc import Container, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dreamsvc import entropy, facet_blocks, snapshot_files, two_stage
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER, MEMORY_ROLE_FACET, MEMORY_ROLE_UNSPECIFIED

NEVER = -1
NOWHERE = -1
# Vectors that are read in one piece.
READ_ROWS = 8192
# Types of edges that say something about memories: no step from one of them to the next.
NOT_WALKED = ("SUPERSEDES", "ABSTRACTS")


class _Joined:
    """Bytes of rows, read where they lie."""

    def __init__(self, body: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        """body: of all rows one after the other. ends: [n], where each ends."""
        self._body = body
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends)

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each row, [n]."""
        return np.diff(self._ends, prepend=0)

    def _bytes_of(self, row: int) -> bytes:
        start = int(self._ends[row - 1]) if row else 0
        return self._body[start : int(self._ends[row])].tobytes()


class Texts(_Joined):
    """Texts of rows, UTF-8; nothing is decoded before it is asked for."""

    def __getitem__(self, row: int) -> str:
        return self._bytes_of(row).decode("utf-8")


def listed(column: Texts, row: int) -> list[str]:
    """What callers said in a column of JSON lists."""
    text = column[row]
    return [] if text in ("", "[]") else [one for one in json.loads(text) if isinstance(one, str)]


class Bodies(_Joined):
    """Serialised messages of rows."""

    def __getitem__(self, row: int) -> bytes:
        return self._bytes_of(row)


class UnitVectors(Protocol):
    """Vectors of unit length by their rows, float32; an array is one, and so is what reads them from a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]: ...


class MappedVectors:
    """Reads float16 where it lies and gives what it is asked for at unit length; zero where there is none."""

    def __init__(self, packed: NDArray[np.float16]) -> None:
        """packed: [n, D], mapped."""
        self._packed = packed
        # [n]; all of the file is read once for it, piece by piece.
        self.lengths = np.empty(len(packed), np.float32)
        for start in range(0, len(packed), READ_ROWS):
            part = packed[start : start + READ_ROWS].astype(np.float32)
            self.lengths[start : start + len(part)] = np.sqrt(np.einsum("nd,nd->n", part, part))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._packed.shape

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        vectors = self._packed[rows].astype(np.float32)
        vectors /= np.maximum(self.lengths[rows], 1e-12)[..., None]
        return vectors


class Memories(NamedTuple):
    """Columns of n memories and e edges; row i of one is row i of all."""

    node_ids: NDArray[np.int64]  # [n], ascending
    uids: NDArray[np.uint8]  # [n, 16]
    alive: NDArray[np.bool_]  # [n], neither forgotten nor folded nor replaced
    roles: NDArray[np.int8]  # [n], MemoryRole
    merged_into: NDArray[np.int32]  # [n], row, NOWHERE for none
    untouchable: NDArray[np.bool_]  # [n], pinned
    apart: NDArray[np.bool_]  # [n], not to be merged
    kinds: NDArray[np.int32]  # [n], place in kind_names
    kind_names: Sequence[str]
    importance: NDArray[np.float32]  # [n]
    created_us: NDArray[np.int64]  # [n]
    event_us: NDArray[np.int64]  # [n], NEVER for none
    accessed_us: NDArray[np.int64]  # [n], NEVER for none
    titles: Texts
    texts: Texts
    vectors: UnitVectors  # [n, D], of the original where it is kept; zero where there is none
    embedded: NDArray[np.bool_]  # [n]
    containers: dict[int, two_stage.Block]  # by row
    edge_ids: NDArray[np.int64]  # [e]
    src: NDArray[np.int32]  # [e], rows
    dst: NDArray[np.int32]  # [e], rows
    weights: NDArray[np.float32]  # [e], as the replay left them
    weights_before: NDArray[np.float32]  # [e], as it found them
    confidences: NDArray[np.float32]  # [e]
    edges_alive: NDArray[np.bool_]  # [e], as the replay left them
    edges_alive_before: NDArray[np.bool_]  # [e], as it found them
    trusted: NDArray[np.bool_]  # [e], a user or an import made it, no dream
    types: NDArray[np.int32]  # [e], place in type_names
    type_names: Sequence[str]
    names: Texts  # aliases of each, as JSON lists
    entities: Texts  # what callers say that each is about, as JSON lists
    sessions: NDArray[np.int32]  # [n], equal for memories of one conversation, NOWHERE where none is told
    changed: NDArray[np.bool_]  # [n], new, or changed by a user since a REM phase read it
    expansions: Bodies  # what the index knows about each for what it is linked to; empty for nothing
    points: NDArray[np.float32]  # [n, d], in the Poincare ball, all NaN for none; d may be 0
    together: NDArray[np.int32]  # [p, 2], rows that were of use together since the last dream
    recalled: NDArray[np.int32]  # [p], how often recalls returned both
    confirmed: NDArray[np.int32]  # [p], how often a caller said that both were of use
    rejected: NDArray[np.int32]  # [r, 2], rows of finds that somebody rejected

    @property
    def expanded(self) -> NDArray[np.bool_]:
        """Rows that the index knows more about for what they are linked to, [n]."""
        return self.expansions.sizes() > 0

    @property
    def findable(self) -> NDArray[np.bool_]:
        """Rows that recall may answer with, [n]: what stands for itself, and facets."""
        return self.alive & ((self.roles == MEMORY_ROLE_UNSPECIFIED) | (self.roles == MEMORY_ROLE_FACET))

    @property
    def active(self) -> NDArray[np.bool_]:
        """Rows that count as nodes, [n]: what stands for itself, and containers."""
        return self.alive & ((self.roles == MEMORY_ROLE_UNSPECIFIED) | (self.roles == MEMORY_ROLE_CONTAINER))

    def owners(self) -> NDArray[np.int32]:
        """For each row the row that stands for it now, [n]: its own, or at the end of what it was merged into."""
        own = np.arange(len(self.node_ids), dtype=np.int32)
        up = np.where(self.merged_into >= 0, self.merged_into, own)
        while True:
            higher = up[up]
            if np.array_equal(higher, up):
                return up
            up = higher

    def types_named(self, names: Container[str]) -> list[int]:
        """Places in `type_names` of some types; one that no edge has is left out."""
        return [place for place, name in enumerate(self.type_names) if name in names]

    def words(self, row: int) -> str:
        """Title and text as a memory is found by."""
        title, text = self.titles[row], self.texts[row]
        return f"{title}\n{text}" if title and text else title or text

    def id_of(self, row: int) -> str:
        """The public id of a memory."""
        return entropy.uuid_text(self.uids[row].tobytes())


def read(arrays: snapshot_files.Arrays) -> Memories:
    """The memories of a dream's snapshot, where they are mapped."""
    vectors = MappedVectors(np.asarray(arrays["vectors"]))
    return Memories(
        node_ids=np.asarray(arrays["node_ids"]),
        uids=np.asarray(arrays["uids"]),
        alive=np.array(arrays["alive"], np.bool_),
        roles=np.asarray(arrays["roles"]),
        merged_into=np.asarray(arrays["merged_into"]),
        untouchable=np.asarray(arrays["pinned"]),
        apart=np.asarray(arrays["apart"]),
        kinds=np.asarray(arrays["kinds"]),
        kind_names=_names(arrays["kind_names"]),
        importance=np.asarray(arrays["importance"]),
        created_us=np.asarray(arrays["created_us"]),
        event_us=np.asarray(arrays["event_us"]),
        accessed_us=np.asarray(arrays["accessed_us"]),
        titles=Texts(np.asarray(arrays["titles"]), np.asarray(arrays["title_ends"])),
        texts=Texts(np.asarray(arrays["texts"]), np.asarray(arrays["text_ends"])),
        vectors=vectors,
        embedded=vectors.lengths > 0,
        containers=facet_blocks.unpack(arrays),
        edge_ids=np.asarray(arrays["edge_ids"]),
        src=np.asarray(arrays["sources"]),
        dst=np.asarray(arrays["targets"]),
        weights=np.array(arrays["weights"], np.float32),
        weights_before=np.asarray(arrays["weights"]),
        confidences=np.asarray(arrays["confidences"]),
        edges_alive=np.array(arrays["edges_alive"], np.bool_),
        edges_alive_before=np.asarray(arrays["edges_alive"]),
        trusted=~np.isin(arrays["edge_ids"], arrays["dreamt_edges"]),
        types=np.asarray(arrays["types"]),
        type_names=_names(arrays["type_names"]),
        names=Texts(np.asarray(arrays["names"]), np.asarray(arrays["names_ends"])),
        entities=Texts(np.asarray(arrays["entities"]), np.asarray(arrays["entities_ends"])),
        sessions=np.asarray(arrays["sessions"]),
        changed=np.asarray(arrays["changed"]),
        expansions=Bodies(np.asarray(arrays["expansions"]), np.asarray(arrays["expansions_ends"])),
        points=np.asarray(arrays["points"]),
        together=np.asarray(arrays["together"]),
        recalled=np.asarray(arrays["together_recalled"]),
        confirmed=np.asarray(arrays["together_confirmed"]),
        rejected=np.asarray(arrays["rejected"]),
    )


def _names(joined: NDArray[np.uint8]) -> list[str]:
    return bytes(joined).decode("utf-8").split("\0")
