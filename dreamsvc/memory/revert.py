"""Takes a folded dream back: its before-images, folded backwards, each checked against its hash (REQ-DREAM-026).

Begun in one transaction that refuses where something was changed again later; then part by part
like a fold, resumable after a crash, behind user writes.
"""

import hashlib
from typing import NamedTuple

from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import BeforeImages, ReplayMarks
from dreamsvc.errors import ChangedLater, StoreCorrupt
from dreamsvc.memory import audit, blind_spots, coactivation, derived, operations, rows, standing_revert
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.graph import NewEdge
from dreamsvc.memory.operations import Change
from dreamsvc.memory.sqlite import ChangeId, Connection, next_seq
from dreamsvc.memory.standing_revert import Touched

MOST_SHOWN = 20


class Restored(NamedTuple):
    edges: int
    memories: int
    # What the part had made, gone again.
    memories_removed: int = 0
    edges_removed: int = 0


def begin(connection: Connection, change_id: ChangeId, now_us: int) -> None:
    """From here on the change is taken back, whatever happens. Raises ChangedLater with what is in the way."""
    change = operations.find(connection, change_id)
    if connection.execute("SELECT purged_us FROM changes WHERE id=?", (change_id,)).fetchone() != (None,):
        raise ChangedLater("its images of what was before have been purged, so it cannot be taken back any more")
    if change.state != "folded":
        raise ChangedLater(f"only what was applied can be taken back; this change is {change.state}")
    touched = _touched(connection, change)
    obstacles = _obstacles(connection, change, touched)
    if obstacles:
        later = _later_dreams(connection, change, touched)
        shown = "; ".join(obstacles[:MOST_SHOWN])
        by = f", among others by dream {', '.join(later)}" if later else ""
        raise ChangedLater(
            f"{len(obstacles)} of its edges and memories were changed again later{by}: {shown}",
            metadata={"obstacles": str(len(obstacles)), "later_dreams": ",".join(later)},
        )
    seq = next_seq(connection)
    connection.execute("UPDATE changes SET state='reverting', reverted_seq=? WHERE id=?", (seq, change_id))
    audit.record(
        connection,
        now_us=now_us,
        actor="user",
        action="revert",
        space=change.space,
        seq=seq,
        change=change.uid.hex(),
    )


def begin_undo(connection: Connection, change_id: ChangeId, now_us: int) -> None:
    """From here on a sealed change that cannot be folded to its end is taken back as far as it was applied.

    Nothing is in the way of that: what users changed meanwhile is left as they have it.
    """
    change = operations.find(connection, change_id)
    seq = next_seq(connection)
    connection.execute(
        "UPDATE changes SET state='reverting', reverted_seq=? WHERE id=? AND state='sealed'", (seq, change_id)
    )
    audit.record(
        connection,
        now_us=now_us,
        actor="service",
        action="revert",
        space=change.space,
        seq=seq,
        change=change.uid.hex(),
    )


def next_part(connection: Connection, change_id: ChangeId, now_us: int, kept_us: int, delta: Delta) -> Restored | None:
    """Takes the last part that is still applied back; None once the change is taken back whole."""
    change = operations.find(connection, change_id)
    if change.fold_cursor == 0:
        connection.execute("UPDATE changes SET state='reverted', ended_us=? WHERE id=?", (kept_us, change_id))
        coactivation.give_back(connection, change)
        audit.record(
            connection,
            now_us=now_us,
            actor="service",
            action="reverted",
            space=change.space,
            seq=next_seq(connection),
            change=change.uid.hex(),
        )
        return None
    part = change.fold_cursor - 1
    before = _image(connection, change, part)
    marks = operations.part_at(connection, change, part).replay_marks
    derived.undo(connection, change, before, delta)
    blind_spots.undo(connection, change, before)
    undone = standing_revert.undo(connection, change, before, now_us, kept_us, delta)
    restored = Restored(
        edges=_restore_edges(connection, change, before, delta) + undone.edges,
        memories=_restore_marks(connection, marks, set(before.node_ids)) + undone.memories,
        memories_removed=len(before.born_nodes),
        edges_removed=len(before.born_edges),
    )
    _hide_loose(connection, [*before.edge_ids, *(image.id for image in before.edges)], delta)
    connection.execute("UPDATE changes SET fold_cursor=? WHERE id=?", (part, change_id))
    return restored


def _image(connection: Connection, change: Change, part: int) -> BeforeImages:
    row = connection.execute(
        "SELECT before, reversal_hash FROM change_parts WHERE change=? AND generation=? AND part=?",
        (change.id, change.generation, part),
    ).fetchone()
    if row is None or row[0] is None:
        raise StoreCorrupt(f"part {part} of change {change.id} has no image of what was before")
    if hashlib.sha256(row[0]).digest() != row[1]:
        raise StoreCorrupt(f"part {part} of change {change.id} does not match its reversal hash")
    return BeforeImages.FromString(row[0])


def _touched(connection: Connection, change: Change) -> Touched:
    touched = Touched({}, set(), set(), set())
    for part in range(change.fold_cursor):
        touched.note(_image(connection, change, part), change)
    return touched


def _later_dreams(connection: Connection, change: Change, touched: Touched) -> list[str]:
    """Ids of dreams that changed the same edges and memories since, the last one first: they go before this one."""
    found: set[int] = set()
    for table, held in (("edges", touched.edges), ("nodes", touched.nodes)):
        query = f"SELECT DISTINCT changed_by FROM {table} WHERE changed_by>{change.id} AND id IN (%s)"
        found.update(row[0] for row in rows.chosen(connection, query, held))
    query = "SELECT id, uid FROM changes WHERE id IN (%s)"
    return [entropy.uuid_text(uid) for _, uid in sorted(rows.chosen(connection, query, found), reverse=True)]


def _obstacles(connection: Connection, change: Change, touched: Touched) -> list[str]:
    """Edges and memories of the change that a user or a later dream changed since."""
    # What somebody said of a find stays said: its edge is theirs now, and nothing of it has to be put back.
    decided = blind_spots.decided_edges(connection, touched.edges)
    query = "SELECT id, changed_by, user_seq FROM edges WHERE id IN (%s)"
    changed = [
        edge
        for edge, changed_by, user_seq in rows.chosen(connection, query, sorted(touched.edges.keys() - decided))
        if changed_by != change.id or user_seq > touched.edges[edge]
    ]
    found = [
        f"{edge.source} -> {edge.target} ({edge.type})"
        for edge in map(rows.read_edge, rows.chosen(connection, f"{rows.EDGE_QUERY} WHERE e.id IN (%s)", changed))
    ]
    return found + standing_revert.obstacles(connection, change, touched)


def _restore_edges(connection: Connection, change: Change, before: BeforeImages, delta: Delta) -> int:
    """Gives edges their old weights; one that a user changed while this runs keeps the user's."""
    current = {
        row[0]: row
        for row in rows.chosen(
            connection,
            f"SELECT id, source, target, confidence FROM edges WHERE user_seq<={change.base_seq} AND id IN (%s)",
            before.edge_ids,
        )
    }
    seq = next_seq(connection)
    updates: list[tuple[float, int | None, int | None, int, int]] = []
    for edge, weight, deleted_us, changed_by in zip(
        before.edge_ids, before.weights, before.deleted_us, before.changed_by, strict=True
    ):
        if edge in current:
            updates.append((weight, deleted_us or None, changed_by or None, seq, edge))
            _, source, target, confidence = current[edge]
            delta.changed_edges.append(NewEdge(edge, source, target, weight, confidence, not deleted_us))
    connection.executemany("UPDATE edges SET weight=?, deleted_us=?, changed_by=?, seq=? WHERE id=?", updates)
    return len(updates)


def _hide_loose(connection: Connection, edges: list[int], delta: Delta) -> None:
    """Edges that are back, of a memory that a user forgot meanwhile, wait for it."""
    query = (
        "SELECT e.id, e.source, e.target, e.weight, e.confidence, d.id, d.deleted_us FROM edges e JOIN nodes d"
        " ON d.id IN (e.source, e.target) WHERE e.deleted_us IS NULL AND d.deleted_us IS NOT NULL AND e.id IN (%s)"
    )
    for *edge, hider, deleted_us in rows.chosen(connection, query, edges):
        connection.execute("UPDATE edges SET deleted_us=?, hidden_by=? WHERE id=?", (deleted_us, hider, edge[0]))
        delta.changed_edges.append(NewEdge(*edge, alive=False))


def _restore_marks(connection: Connection, marks: ReplayMarks, folded: set[int]) -> int:
    """Takes counts of replays off again, of memories that had got them; those of later dreams stay."""
    seq = next_seq(connection)
    taken = [(count, seq, node) for node, count in zip(marks.node_ids, marks.counts, strict=True) if node in folded]
    connection.executemany("UPDATE nodes SET replay_count=max(0, replay_count-?), seq=? WHERE id=?", taken)
    return len(taken)
