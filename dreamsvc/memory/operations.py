"""Stage, seal, fold: how a dream's or an import's work becomes part of the memory.

1. `stage` keeps parts of at most 2,000 rows as they come. They change nothing and are a
   checkpoint's pending work.
2. `seal` is one tiny transaction, the atomic point: before it nothing of the change is applied,
   after it all of it will be, whatever crashes.
3. `fold_next` applies one part in a transaction of its own, with the cursor in it, so folding
   goes on where it stopped, and user writes get in between.
"""

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.v1.operations_pb2 import BeforeImages, EdgeDetail, EdgeWeights, Operations, ReplayMarks
from dreamsvc.errors import StoreCorrupt
from dreamsvc.memory import audit, rows
from dreamsvc.memory.sqlite import ChangeId, Connection, next_seq
from dreamsvc.v1 import memory_pb2

PART_ROWS = 2000
# What a column of a part can hold.
MOST_UINT32 = 2**32 - 1
STAGED, COMPACTED = 0, 1


class Change(NamedTuple):
    """A row of `changes`."""

    id: ChangeId
    uid: bytes
    space: int
    kind: str
    state: str
    base_seq: int
    generation: int
    fold_cursor: int
    embedder: str


_COLUMNS = "id, uid, space, kind, state, base_seq, generation, fold_cursor, embedder"


def begin(connection: Connection, uid: bytes, space: int, kind: str, base_seq: int, now_us: int) -> ChangeId:
    row = connection.execute(
        "INSERT INTO changes (uid, space, kind, state, base_seq, base_changes, created_us)"
        " SELECT ?, id, ?, 'staging', ?, user_changes, ? FROM spaces WHERE id = ? RETURNING id",
        (uid, kind, base_seq, now_us, space),
    ).fetchone()
    assert row is not None
    return ChangeId(row[0])


def find(connection: Connection, change: ChangeId) -> Change:
    row = connection.execute(f"SELECT {_COLUMNS} FROM changes WHERE id = ?", (change,)).fetchone()
    if row is None:
        raise StoreCorrupt(f"change {change} has no row")
    return Change(*row)


def in_state(connection: Connection, state: str) -> list[Change]:
    query = f"SELECT {_COLUMNS} FROM changes WHERE state = ? ORDER BY id"
    return [Change(*row) for row in connection.execute(query, (state,))]


def reverted_since(connection: Connection, space: int, seq: int) -> bool:
    """Whether a change of a space was taken back after a change number."""
    query = "SELECT 1 FROM changes WHERE space = ? AND reverted_seq > ?"
    return connection.execute(query, (space, seq)).fetchone() is not None


def stage(connection: Connection, change: ChangeId, parts: Iterable[tuple[int, bytes]], generation: int) -> None:
    """Keeps parts by number; a part that comes again replaces itself."""
    connection.executemany(
        "INSERT OR REPLACE INTO change_parts (change, generation, part, body, crc) VALUES (?,?,?,?,?)",
        ((change, generation, number, body, zlib.crc32(body)) for number, body in parts),
    )


def staged(connection: Connection, change: ChangeId, generation: int) -> list[Operations]:
    """The parts of a dream in order; raises StoreCorrupt where one does not match its checksum."""
    found: list[Operations] = []
    for number, body, crc in connection.execute(
        "SELECT part, body, crc FROM change_parts WHERE change = ? AND generation = ? ORDER BY part",
        (change, generation),
    ):
        found.append(Operations.FromString(checked(change, number, body, crc)))
    return found


def coalesce(parts: Sequence[Operations]) -> list[Operations]:
    """The same journal with one operation for each edge and memory, sorted by row id, in parts of equal size.

    The last weight of an edge counts, replays add up. So the result does not depend on where a
    dream was interrupted, and equal dreams give equal bytes.
    """
    weights: dict[int, tuple[float, bool]] = {}
    marks: dict[int, int] = {}
    # Of these each comes once, in an order that the dream depends on.
    made: list[Operations] = []
    for part in parts:
        if part.WhichOneof("kind") not in ("edge_weights", "replay_marks"):
            made.append(part)
            continue
        edges = part.edge_weights
        weights.update(zip(edges.edge_ids, zip(edges.weights, edges.pruned, strict=True), strict=True))
        for node, count in zip(part.replay_marks.node_ids, part.replay_marks.counts, strict=True):
            marks[node] = min(marks.get(node, 0) + count, MOST_UINT32)
    out: list[Operations] = []
    edge_ids = sorted(weights)
    for start in range(0, len(edge_ids), PART_ROWS):
        ids = edge_ids[start : start + PART_ROWS]
        out.append(
            Operations(
                part=len(out),
                edge_weights=EdgeWeights(
                    edge_ids=ids, weights=[weights[i][0] for i in ids], pruned=[weights[i][1] for i in ids]
                ),
            )
        )
    node_ids = sorted(marks)
    for start in range(0, len(node_ids), PART_ROWS):
        ids = node_ids[start : start + PART_ROWS]
        out.append(Operations(part=len(out), replay_marks=ReplayMarks(node_ids=ids, counts=[marks[i] for i in ids])))
    for part in made:
        copy = Operations()
        copy.CopyFrom(part)
        copy.part = len(out)
        out.append(copy)
    return out


def journal_digest(parts: Sequence[Operations]) -> str:
    """SHA-256 over coalesced parts, hex."""
    digest = hashlib.sha256()
    for part in parts:
        if part.WhichOneof("kind") not in ("edge_weights", "replay_marks"):
            digest.update(part.SerializeToString(deterministic=True))
            continue
        edges = part.edge_weights
        digest.update(np.asarray(edges.edge_ids, "<i8").tobytes())
        digest.update(np.asarray(edges.weights, "<f4").tobytes())
        digest.update(np.asarray(edges.pruned, "u1").tobytes())
        digest.update(np.asarray(part.replay_marks.node_ids, "<i8").tobytes())
        digest.update(np.asarray(part.replay_marks.counts, "<u4").tobytes())
    return digest.hexdigest()


def size(parts: Sequence[Operations]) -> int:
    """How many rows a journal touches."""
    return sum(map(_rows_of, parts))


def _rows_of(part: Operations) -> int:
    merged = sum(1 + len(one.copies) for one in part.eliminations.eliminations)
    held = sum(1 + len(one.members) + len(one.replaces) for one in part.containers.containers)
    made = len(part.new_memories.memories) + len(part.new_edges.sources)
    derived = len(part.expansions.expansions) + len(part.positions.node_ids)
    found = len(part.blind_spots.blind_spots) + len(part.walks.walks)
    weighed = len(part.edge_weights.edge_ids) + len(part.replay_marks.node_ids)
    return weighed + merged + held + made + derived + found


def seal(connection: Connection, change: ChangeId, generation: int, now_us: int) -> None:
    """From here on the change will be applied, whatever happens."""
    connection.execute(
        "UPDATE changes SET state='sealed', generation=?, fold_cursor=0 WHERE id=? AND state='staging'",
        (generation, change),
    )
    # There is nothing to go on from any more.
    connection.execute("DELETE FROM checkpoints WHERE change = ?", (change,))
    row = find(connection, change)
    audit.record(
        connection,
        now_us=now_us,
        actor=f"{row.kind}:{row.uid.hex()}",
        action="seal",
        space=row.space,
        seq=next_seq(connection),
        parts=_count(connection, change, generation),
    )


def drop(connection: Connection, change: ChangeId, now_us: int) -> bool:
    """Gives up a change that was not sealed; nothing of it was applied. False, and no effect, where it was sealed."""
    dropped = connection.execute(
        "UPDATE changes SET state='dropped', ended_us=? WHERE id=? AND state='staging' RETURNING id", (now_us, change)
    ).fetchall()
    if not dropped:
        return False
    connection.execute("DELETE FROM change_parts WHERE change = ?", (change,))
    connection.execute("DELETE FROM checkpoints WHERE change = ?", (change,))
    return True


def next_part(connection: Connection, change: Change) -> bytes | None:
    """Body of the part at the fold cursor; None when all are folded."""
    row = connection.execute(
        "SELECT body, crc FROM change_parts WHERE change=? AND generation=? AND part=?",
        (change.id, change.generation, change.fold_cursor),
    ).fetchone()
    return None if row is None else checked(change.id, change.fold_cursor, *row)


def is_last(connection: Connection, change: Change) -> bool:
    """Whether no part comes after the one at the fold cursor."""
    query = "SELECT 1 FROM change_parts WHERE change=? AND generation=? AND part=?"
    return connection.execute(query, (change.id, change.generation, change.fold_cursor + 1)).fetchone() is None


def part_at(connection: Connection, change: Change, part: int) -> Operations:
    """A dream's part by number; raises StoreCorrupt where it is gone or damaged."""
    body = next_part(connection, change._replace(fold_cursor=part))
    if body is None:
        raise StoreCorrupt(f"part {part} of change {change.id} is gone")
    return Operations.FromString(body)


def advance(connection: Connection, change: Change, before: BeforeImages) -> None:
    """Notes that the part at the cursor is folded, and what its rows were."""
    body = before.SerializeToString(deterministic=True)
    connection.execute(
        "UPDATE change_parts SET before=?, reversal_hash=? WHERE change=? AND generation=? AND part=?",
        (body, hashlib.sha256(body).digest(), change.id, change.generation, change.fold_cursor),
    )
    connection.execute("UPDATE changes SET fold_cursor = fold_cursor + 1 WHERE id = ?", (change.id,))


def finish(connection: Connection, change: Change, now_us: int, kept_us: int) -> None:
    """Closes a change whose parts are all folded; what was staged on the way is not needed any more."""
    connection.execute("UPDATE changes SET state='folded', ended_us=? WHERE id=?", (kept_us, change.id))
    connection.execute("DELETE FROM change_parts WHERE change=? AND generation<>?", (change.id, change.generation))
    audit.record(
        connection,
        now_us=now_us,
        actor=f"{change.kind}:{change.uid.hex()}",
        action="fold",
        space=change.space,
        seq=next_seq(connection),
        parts=_count(connection, change.id, change.generation),
    )


class ReadBack(NamedTuple):
    """What the store says a dream did to its edges, after the commit."""

    strengthened: int
    weakened: int
    pruned: int
    skipped: int
    replayed: int
    average_delta: float


def read_back(connection: Connection, change: ChangeId) -> ReadBack:
    """Compares each row as it is stored now with its image from before; raises StoreCorrupt for a bad image."""
    row = find(connection, change)
    strengthened = weakened = pruned = skipped = replayed = 0
    total = 0.0
    for number, part, body, digest in connection.execute(
        "SELECT part, body, before, reversal_hash FROM change_parts WHERE change=? AND generation=?"
        " AND before IS NOT NULL",
        (change, row.generation),
    ).fetchall():
        if hashlib.sha256(body).digest() != digest:
            raise StoreCorrupt(f"part {number} of change {change} does not match its reversal hash")
        before = BeforeImages.FromString(body)
        # What was left out of merging, and of what REM phases tell, is counted by `made`.
        skipped += len(before.skipped) if _is_replay(part) else 0
        replayed += len(before.node_ids)
        if not before.edge_ids:
            continue
        # As float32, which is what a dream reads and writes.
        was = dict(zip(before.edge_ids, np.asarray(before.weights, np.float32).tolist(), strict=True))
        # What a user changed since then is not the dream's any more.
        query = (
            # An edge that went into hiding with a copy was not pruned.
            "SELECT id, weight, deleted_us IS NOT NULL AND hidden_by IS NULL FROM edges"
            f" WHERE changed_by={change} AND user_seq<={row.base_seq}"
            " AND id IN (%s)"
        )
        for edge, weight, is_pruned in rows.chosen(connection, query, was):
            pruned += bool(is_pruned)
            strengthened += not is_pruned and weight > was[edge]
            weakened += not is_pruned and weight < was[edge]
            total += weight - was[edge]
    changed = strengthened + weakened + pruned
    return ReadBack(strengthened, weakened, pruned, skipped, replayed, total / changed if changed else 0.0)


class Made(NamedTuple):
    """What the store says a dream merged and made, after the commit."""

    eliminated: int
    facets: int
    schemas: int
    shortcuts: int
    superseded: int
    skipped: int


def made(connection: Connection, change: ChangeId) -> Made:
    """Counts rows as they are stored now."""

    def number(sql: str) -> int:
        return int(connection.execute(sql, (change,)).fetchone()[0])

    born = "FROM edges e JOIN edge_types k ON k.id = e.type WHERE e.born_in=? AND e.deleted_us IS NULL AND k.name"
    shortcuts = 0
    query = "SELECT detail FROM edges WHERE born_in=? AND deleted_us IS NULL AND detail IS NOT NULL"
    for (detail,) in connection.execute(query, (change,)):
        shortcuts += EdgeDetail.FromString(detail).is_amortized_shortcut
    skipped = 0
    query = "SELECT body, before FROM change_parts WHERE change=? AND before IS NOT NULL"
    for part, before in connection.execute(query, (change,)):
        # Edges whose weight a user changed are counted by `read_back`.
        skipped += 0 if _is_replay(part) else len(BeforeImages.FromString(before).skipped)
    return Made(
        eliminated=number(f"SELECT count(*) FROM nodes WHERE changed_by=? AND role={memory_pb2.MEMORY_ROLE_FOLDED}"),
        # Also a facet that survived copies where it was is changed by the dream, but not made by it.
        facets=number(
            "SELECT count(*) FROM nodes f JOIN nodes c ON c.id = f.merged_into WHERE c.born_in=?"
            f" AND f.role={memory_pb2.MEMORY_ROLE_FACET}"
        ),
        schemas=number("SELECT count(*) FROM nodes WHERE born_in=? AND kind='schema'"),
        shortcuts=shortcuts,
        superseded=number(f"SELECT count(*) {born} = 'SUPERSEDES'"),
        skipped=skipped,
    )


def _is_replay(body: bytes) -> bool:
    return Operations.FromString(body).WhichOneof("kind") in ("edge_weights", "replay_marks")


def checked(change: ChangeId, number: int, body: bytes, crc: int) -> bytes:
    """The body of a part; raises StoreCorrupt where it does not match its checksum."""
    if zlib.crc32(body) != crc:
        raise StoreCorrupt(f"part {number} of change {change} does not match its checksum; run `dreamsvc doctor`")
    return body


def _count(connection: Connection, change: ChangeId, generation: int) -> int:
    row = connection.execute(
        "SELECT count(*) FROM change_parts WHERE change=? AND generation=?", (change, generation)
    ).fetchone()
    return int(row[0]) if row is not None else 0


def foresee(parts: Sequence[Operations], edge_ids: NDArray[np.int64], weights: NDArray[np.float32]) -> ReadBack:
    """What `read_back` will say of a coalesced journal if nothing else changes meanwhile."""
    strengthened = weakened = pruned = replayed = skipped = 0
    total = 0.0
    for part in parts:
        edges = part.edge_weights
        named = np.asarray(edges.edge_ids, np.int64)
        # What the snapshot does not hold would be left out.
        known = np.isin(named, edge_ids)
        skipped += int(np.count_nonzero(~known))
        before = weights[np.searchsorted(edge_ids, named[known])]
        after = np.asarray(edges.weights, np.float32)[known]
        gone = np.asarray(edges.pruned, np.bool_)[known]
        strengthened += int(np.count_nonzero(~gone & (after > before)))
        weakened += int(np.count_nonzero(~gone & (after < before)))
        pruned += int(np.count_nonzero(gone))
        total += float((after.astype(np.float64) - before).sum())
        replayed += len(part.replay_marks.node_ids)
    changed = strengthened + weakened + pruned
    return ReadBack(strengthened, weakened, pruned, skipped, replayed, total / changed if changed else 0.0)
