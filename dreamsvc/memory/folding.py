"""Folds a dream's parts into the memory, one in one transaction; what they were before goes into an image."""

from google.protobuf.message import DecodeError

from dreamsvc.dreamer.v1.operations_pb2 import BeforeImages, EdgeWeights, Operations, ReplayMarks
from dreamsvc.errors import StoreCorrupt
from dreamsvc.memory import blind_spots, coactivation, derived, merged_edges, merges, operations, rows
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.fold import Fold
from dreamsvc.memory.graph import NewEdge
from dreamsvc.memory.operations import Change
from dreamsvc.memory.sqlite import MOST_COUNTED, Connection, next_seq
from dreamsvc.v1.dream_pb2 import DREAM_PHASE_REM, Dream


def fold_dream_part(
    connection: Connection, change: Change, body: bytes, now_us: int, kept_us: int, delta: Delta
) -> BeforeImages:
    """Applies one part of a dream; an edge that a user changed since the dream began keeps the user's value."""
    part = Operations.FromString(body)
    before = BeforeImages(seq=next_seq(connection))
    fold = Fold(connection, change, now_us, kept_us, before.seq, before, delta)
    match part.WhichOneof("kind"):
        case "edge_weights":
            _fold_weights(fold, part.edge_weights)
        case "replay_marks":
            _fold_marks(fold, part.replay_marks)
        case "eliminations":
            merges.fold_eliminations(fold, part.eliminations)
        case "containers":
            merges.fold_containers(fold, part.containers)
        case "new_memories":
            merges.fold_memories(fold, part.new_memories)
        case "new_edges":
            merged_edges.fold_new_edges(fold, part.new_edges)
        case "expansions":
            derived.fold_expansions(fold, part.expansions)
        case "positions":
            derived.fold_positions(fold, part.positions)
        case "blind_spots":
            blind_spots.fold_blind_spots(fold, part.blind_spots)
        case "walks":
            # They lie in the journal for whoever draws them.
            pass
        case None:
            raise StoreCorrupt(f"a part of change {change.id} is empty, or of a newer dreamsvc")
    if operations.is_last(connection, change) and _replays(connection, change):
        coactivation.consume(connection, change)
    return before


def _replays(connection: Connection, change: Change) -> bool:
    """Whether a dream learned from what was of use together: REM alone leaves that to the next replay."""
    row = connection.execute("SELECT body FROM dreams WHERE change=?", (change.id,)).fetchone()
    try:
        return row is None or Dream.FromString(row[0]).phase != DREAM_PHASE_REM
    except DecodeError:
        # What was of use together counts once and no more, whatever became of the dream.
        return True


def _fold_weights(fold: Fold, edges: EdgeWeights) -> None:
    connection, change, _, kept_us, seq, before, delta = fold
    stored = {
        row[0]: row
        for row in rows.chosen(
            connection,
            "SELECT id, source, target, weight, confidence, deleted_us, changed_by, user_seq FROM edges"
            f" WHERE space={change.space} AND id IN (%s)",
            edges.edge_ids,
        )
    }
    updates: list[tuple[float, int | None, int, int, int]] = []
    for edge, weight, pruned in zip(edges.edge_ids, edges.weights, edges.pruned, strict=True):
        row = stored.get(edge)
        if row is None or row[5] is not None or row[7] > change.base_seq:
            before.skipped.append(edge)
            continue
        before.edge_ids.append(edge)
        before.weights.append(row[3])
        before.deleted_us.append(row[5] or 0)
        before.changed_by.append(row[6] or 0)
        updates.append((weight, kept_us if pruned else None, change.id, seq, edge))
        delta.changed_edges.append(NewEdge(edge, row[1], row[2], weight, row[4], not pruned))
    connection.executemany("UPDATE edges SET weight=?, deleted_us=?, changed_by=?, seq=? WHERE id=?", updates)


def _fold_marks(fold: Fold, marks: ReplayMarks) -> None:
    connection, change, before = fold.connection, fold.change, fold.before
    query = f"SELECT id, replay_count FROM nodes WHERE space={change.space} AND id IN (%s)"
    counts = dict(rows.chosen(connection, query, marks.node_ids))
    updates: list[tuple[int, int, int]] = []
    for node, count in zip(marks.node_ids, marks.counts, strict=True):
        # An import may bring any count; what is beyond the last one could not be taken back.
        if node not in counts or counts[node] > MOST_COUNTED - count:
            before.skipped.append(node)
            continue
        before.node_ids.append(node)
        before.replay_counts.append(counts[node])
        updates.append((count, fold.seq, node))
    connection.executemany("UPDATE nodes SET replay_count = replay_count + ?, seq=? WHERE id=?", updates)
