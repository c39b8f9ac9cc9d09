"""What the store keeps as bytes, damaged: read back it is as it was, or is refused with a reason.

Two kinds of damage: a disk's, which no checksum fits, and nonsense that was written with its checksum.
"""

import hashlib
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.proof import acts, fuzz_world
from benchmarks.proof.fuzz_draws import Draws
from benchmarks.proof.fuzz_watch import Broken, Watch
from benchmarks.proof.jumping_clock import JumpingClock
from benchmarks.proof.opened import SPACE, Opened
from dreamsvc import entropy
from dreamsvc.errors import ChangedLater, DreamsvcError, NotFound
from dreamsvc.memory import loading, revert, snapshot
from dreamsvc.memory.doctor import examine
from dreamsvc.snapshot_files import Arrays
from dreamsvc.v1.dream_service_pb2 import DiffDreamRequest, GetDreamMapRequest, ListBlindSpotsRequest, ListDreamsRequest
from dreamsvc.v1.memory_service_pb2 import GetMemoryRequest


class Blob(NamedTuple):
    """A column of bytes, the column of its checksum, and what is read of it."""

    table: str
    column: str
    crc: str
    reads: tuple[str, ...]
    array: bool = False
    # It is left out where it is damaged, and the next night makes it anew.
    derived: bool = False


# Messages are also damaged so that their checksum fits; of arrays a disk alone makes such.
BLOBS = (
    Blob("checkpoints", "body", "crc", ("resumable",)),
    Blob("change_parts", "body", "crc", ("resumable", "diff", "map")),
    Blob("change_parts", "before", "", ("diff", "revert")),
    Blob("dreams", "body", "", ("resumable", "dreams", "dream", "diff")),
    Blob("dreams", "config", "", ("resumable", "dreams", "dream")),
    Blob("blind_spots", "body", "", ("spots",)),
    Blob("edges", "detail", "", ("memory", "export", "map")),
    Blob("vectors", "body", "crc", ("load", "memory", "snapshot", "export"), array=True),
    Blob("packed_vectors", "body", "crc", ("load", "memory", "snapshot", "export"), array=True),
    Blob("expansions", "body", "crc", ("load", "snapshot"), derived=True),
    Blob("positions", "body", "crc", ("map", "snapshot"), array=True, derived=True),
)


# One damaged vector does not keep the others from being found: it is left out, and the log says so.
LENIENT = ("load", "snapshot")


class BlobsTarget:
    name = "blobs"
    size = 1500

    def __init__(self) -> None:
        self._world = fuzz_world.World()

    def close(self) -> None:
        self._world.close()

    def batch(self, watch: Watch, cases: int) -> None:
        path = self._world.copy()
        opened = Opened(path, JumpingClock())
        try:
            draws = Draws(f"blobs {watch.seed}")
            before = fuzz_world.digest(opened.store, SPACE)
            reader = _Reader(opened)
            while watch.cases < cases:
                blob = draws.choice(BLOBS)
                with watch.case(f"{blob.table}.{blob.column}"):
                    watch.ended(reader.damage_and_read(blob, draws))
            with watch.case("afterwards"):
                fuzz_world.require_order(opened.store)
                if fuzz_world.digest(opened.store, SPACE) != before:
                    raise Broken("reading what is damaged has changed something")
        finally:
            opened.abandon()
            self._world.forget(path)


class _Reader:
    """Damages one value after the other, reads it, and puts it back."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._sound: dict[tuple[str, str], bytes] = {}
        query = "SELECT uid FROM changes WHERE kind='dream' AND space=1 ORDER BY id"
        self._dreams = [entropy.uuid_text(uid) for (uid,) in opened.rows(query)]

    def damage_and_read(self, blob: Blob, draws: Draws) -> str:
        dream = draws.choice(self._dreams)
        sound = [self._answer(name, dream) for name in blob.reads]
        key = "rowid" if blob.table != "change_parts" else "change*1000000+generation*10000+part"
        query = f"SELECT {key}, {blob.column}, {blob.crc or 0} FROM {blob.table} WHERE length({blob.column})>0"
        found = self._opened.rows(query)
        row, body, checksum = draws.choice(found)
        # Nothing at all stands for a text without a vector.
        damaged = draws.damaged(body, draws.choice(found)[1]) or bytes(len(body))
        rot = blob.array or draws.maybe(0.5)
        self._write(blob, key, row, damaged, checksum if rot else zlib.crc32(damaged))
        try:
            ends = [self._read(name, dream) for name in blob.reads]
            if draws.maybe(0.02) and any("Error: " in one.detail for one in examine(str(self._opened.path))):
                raise Broken("the doctor fell ill")
        finally:
            self._write(blob, key, row, body, checksum)
        checked = rot and blob.crc and not blob.derived
        told = zip(blob.reads, ends, sound, strict=True)
        wrong = [name for name, end, was in told if end not in (None, was) and name not in LENIENT]
        if checked and wrong:
            raise Broken(f"{wrong} answered by what is damaged")
        return "refused" if None in ends else "answered otherwise" if wrong else "harmless"

    def _answer(self, name: str, dream: str) -> bytes:
        """As it is while all is sound."""
        if (name, dream) not in self._sound:
            self._sound[name, dream] = READS[name](self._opened, dream)
        return self._sound[name, dream]

    def _read(self, name: str, dream: str) -> bytes | None:
        """None where it is refused with a reason."""
        try:
            return READS[name](self._opened, dream)
        except DreamsvcError as error:
            if not error.message:
                raise Broken("it is refused and nothing says why") from error
            return None

    def _write(self, blob: Blob, key: str, row: int, body: bytes, crc: int) -> None:
        sets, values = f"{blob.column}=?", [body]
        if blob.crc:
            sets, values = f"{sets}, {blob.crc}=?", [body, crc]
        statement = f"UPDATE {blob.table} SET {sets} WHERE {key}=?"
        database = self._opened.store.database
        database.write(lambda c: c.execute(statement, (*values, row)).fetchall()).result(acts.PATIENCE_S)


# ── what is read ────────────────────────────────────────────────────────────────


def _resumable(opened: Opened, dream: str) -> bytes:
    found = opened.journal.resumable(SPACE, 1.0)
    if found is None or found.unfit:
        raise NotFound(found.unfit if found else "nothing is left to go on with")
    checkpoint = found.checkpoint.SerializeToString(deterministic=True) if found.checkpoint else b""
    return b"".join([checkpoint, *(part.SerializeToString(deterministic=True) for part in found.staged)])


def _revert(opened: Opened, dream: str) -> bytes:
    """The images of what was before, as taking a dream back reads them; nothing is taken back."""

    def look(connection: Any) -> None:
        revert.begin(connection, opened.journal.dream(SPACE, dream).change, 0)
        raise _Enough

    try:
        opened.store.database.write(look).result(acts.PATIENCE_S)
    except _Enough:
        pass
    except ChangedLater as error:
        return error.message.encode()
    return b"it can be taken back"


class _Enough(Exception):
    """Nothing of it is to be kept."""


def _load(opened: Opened, dream: str) -> bytes:
    graph = opened.store.database.read(lambda connection: loading.load(connection, opened.store.space(SPACE)))
    return _hash(snapshot.start_arrays(graph))


def _hash(arrays: Arrays) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.digest()


def _memories(opened: Opened, dream: str) -> bytes:
    said: list[bytes] = []
    for (key,) in opened.rows("SELECT key FROM nodes WHERE key IS NOT NULL AND purged=0 AND space=1"):
        request = GetMemoryRequest(space=SPACE, id=key, with_vector=True, with_edges=True)
        said.append(opened.store.get_memory(request).SerializeToString(deterministic=True))
    return b"".join(said)


def _diff(opened: Opened, dream: str) -> bytes:
    request = DiffDreamRequest(space=SPACE, dream_id=dream, page_size=1000, with_weights=True)
    return opened.journal.diff(request).SerializeToString(deterministic=True)


def _map(opened: Opened, dream: str) -> bytes:
    request = GetDreamMapRequest(space=SPACE, dream_id=dream, max_memories=100)
    return opened.store.dream_map(request).SerializeToString(deterministic=True)


def _dreams(opened: Opened, dream: str) -> bytes:
    return opened.journal.list_dreams(ListDreamsRequest(space=SPACE, page_size=100)).SerializeToString(
        deterministic=True
    )


def _spots(opened: Opened, dream: str) -> bytes:
    request = ListBlindSpotsRequest(space=SPACE, page_size=100)
    return opened.store.list_blind_spots(request).SerializeToString(deterministic=True)


READS: dict[str, Callable[[Opened, str], bytes]] = {
    "resumable": _resumable,
    "diff": _diff,
    "map": _map,
    "revert": _revert,
    "dreams": _dreams,
    "dream": lambda opened, dream: opened.journal.dream(SPACE, dream).dream.SerializeToString(deterministic=True),
    "load": _load,
    "memory": _memories,
    "snapshot": lambda opened, _: _hash(opened.store.dream_snapshot(SPACE)[1]),
    "export": lambda opened, _: fuzz_world.digest(opened.store, SPACE).encode(),
    "spots": _spots,
}
