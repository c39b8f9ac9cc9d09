"""What REM phases know of memories, beside them: expansions, by which they are found, and positions in the ball.

All of it follows from texts, vectors and edges, so it can be dropped at any time: the next night makes it anew. It is
no part of an export and never in the way of a revert. What the words of a memory went into must not outlive them: when
a user forgets a memory or changes what it says, the expansions of all that it is linked to go with it, in the same
commit. An edge that is forgotten or pruned alone leaves them until the next night.
"""

import contextlib
import math
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from dreamsvc.dreamer.v1.operations_pb2 import (
    BeforeImages,
    Expansion,
    ExpansionImage,
    Expansions,
    PositionImage,
    Positions,
)
from dreamsvc.errors import StoreCorrupt
from dreamsvc.memory import rows
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.fold import Fold
from dreamsvc.memory.operations import Change
from dreamsvc.memory.sqlite import Connection

type Point = NDArray[np.float32]

# ── of dreams ───────────────────────────────────────────────────────────────────


def fold_expansions(fold: Fold, part: Expansions) -> None:
    """Gives memories new expansions, but those that a user changed since the dream began, or that are gone.

    Neither do those get one whose neighbours a user has forgotten or rewritten since: it would be made of old words.
    """
    told = {one.node: one for one in part.expansions}
    allowed = _unchanged(fold, told) - _linked_to_changed(fold, told.values())
    kept = {node: one for node, one in told.items() if node in allowed and is_sound(one)}
    fold.before.skipped.extend(node for node in told if node not in kept)
    query = "SELECT node, change, body, crc FROM expansions WHERE node IN (%s)"
    before = {row[0]: row[1:] for row in rows.chosen(fold.connection, query, kept)}
    for node in kept:
        image = ExpansionImage(node=node)
        if node in before and zlib.crc32(before[node][1]) == before[node][2]:
            image.changed_by = before[node][0]
            image.before.ParseFromString(before[node][1])
        fold.before.expansions.append(image)
    _put_expansions(fold.connection, [(fold.change.id, one) for one in kept.values()])
    fold.delta.expansions.update(kept)


def fold_positions(fold: Fold, part: Positions) -> None:
    """Places memories, but those that a user changed since the dream began, or that are gone."""
    count = len(part.node_ids)
    points = np.asarray(part.points, np.float32)
    points = points.reshape(count, -1) if points.size == count * part.dimension > 0 else np.ones((count, 1), np.float32)
    allowed = _unchanged(fold, part.node_ids)
    kept = {
        node: point for node, point in zip(part.node_ids, points, strict=True) if node in allowed and is_in_ball(point)
    }
    fold.before.skipped.extend(node for node in part.node_ids if node not in kept)
    query = "SELECT node, change, seq, body, crc FROM positions WHERE node IN (%s)"
    before = {row[0]: row[1:] for row in rows.chosen(fold.connection, query, kept)}
    for node in kept:
        image = PositionImage(node=node)
        if node in before and zlib.crc32(before[node][2]) == before[node][3]:
            image.changed_by, image.seq, body, _ = before[node]
            image.point.extend(read_point(body).tolist())
        fold.before.positions.append(image)
    _put_positions(fold.connection, [(node, fold.change.id, fold.seq, point) for node, point in kept.items()])


def undo(connection: Connection, change: Change, before: BeforeImages, delta: Delta) -> None:
    """Gives memories what a part of a dream found; call it while the edges that the part made are there.

    Nothing here is in the way of a revert. What a later night put in the place of the dream's may build on what goes
    now, so the memory has nothing then, and so have ends of edges that go. What was dropped since stays dropped: the
    neighbours it was made of may have been forgotten.
    """
    _undo_expansions(connection, change, before, delta)
    _undo_positions(connection, change, before)
    query = "SELECT n.id FROM edges e JOIN nodes n ON n.id IN (e.source, e.target) WHERE e.id IN (%s)"
    ends = {node for (node,) in rows.chosen(connection, query, before.born_edges)}
    query = f"SELECT node FROM expansions WHERE change>{change.id} AND node IN (%s)"
    _drop_expansions(connection, [node for (node,) in rows.chosen(connection, query, ends)], delta)


def _undo_expansions(connection: Connection, change: Change, before: BeforeImages, delta: Delta) -> None:
    images = {image.node: image for image in before.expansions}
    query = "SELECT node, change FROM expansions WHERE node IN (%s)"
    now: dict[int, int] = dict(rows.chosen(connection, query, images))
    back = [images[node] for node, by in now.items() if by == change.id and images[node].HasField("before")]
    _put_expansions(connection, [(image.changed_by, image.before) for image in back])
    delta.expansions.update((image.node, image.before) for image in back)
    _drop_expansions(connection, now.keys() - {image.node for image in back}, delta)


def _undo_positions(connection: Connection, change: Change, before: BeforeImages) -> None:
    images = {image.node: image for image in before.positions}
    query = "SELECT node, change FROM positions WHERE node IN (%s)"
    now: dict[int, int] = dict(rows.chosen(connection, query, images))
    back = [images[node] for node, by in now.items() if by == change.id and images[node].point]
    _put_positions(
        connection,
        [(image.node, image.changed_by, image.seq, np.asarray(image.point, np.float32)) for image in back],
    )
    gone = now.keys() - {image.node for image in back}
    rows.chosen(connection, "DELETE FROM positions WHERE node IN (%s) RETURNING node", gone)


def _unchanged(fold: Fold, nodes: Iterable[int]) -> set[int]:
    """Those of some memories that live and that no user has changed since the dream began; pinned ones too."""
    query = (
        f"SELECT id FROM nodes WHERE space={fold.change.space} AND deleted_us IS NULL"
        f" AND user_seq<={fold.change.base_seq} AND id IN (%s)"
    )
    return {node for (node,) in rows.chosen(fold.connection, query, nodes)}


def _linked_to_changed(fold: Fold, expansions: Iterable[Expansion]) -> set[int]:
    """Memories that a user's forgetting or rewriting of a neighbour, since the dream began, has taken the words from.

    Or the rejecting of what joined the two. Neighbours are peers, and what an edge leads to: not every memory whose
    words count is among the peers.
    """
    connection, base = fold.connection, fold.change.base_seq
    told = list(expansions)
    changed = (
        f"n.user_seq>{base} AND (n.deleted_us IS NOT NULL"
        f" OR EXISTS (SELECT 1 FROM node_versions v WHERE v.node=n.id AND v.seq>{base}))"
    )
    found = {
        node
        for side, other in (("source", "target"), ("target", "source"))
        for (node,) in rows.chosen(
            connection,
            f"SELECT e.{side} FROM edges e JOIN nodes n ON n.id=e.{other} WHERE ({changed}"
            f" OR (e.deleted_us IS NOT NULL AND e.user_seq>{base})) AND e.{side} IN (%s)",
            [one.node for one in told],
        )
    }
    query = f"SELECT id FROM nodes n WHERE space={fold.change.space} AND NOT ({changed}) AND id IN (%s)"
    sound = {node for (node,) in rows.chosen(connection, query, {peer for one in told for peer in one.peers})}
    return found | {one.node for one in told if not sound.issuperset(one.peers)}


# ── of users ────────────────────────────────────────────────────────────────────


def drop_linked(connection: Connection, nodes: Iterable[int], delta: Delta) -> None:
    """Takes the expansions away from all that some memories are or were linked to; call it when their words go."""
    wanted = list(nodes)
    found = {
        node
        for side, other in (("source", "target"), ("target", "source"))
        for (node,) in rows.chosen(
            connection,
            f"SELECT x.node FROM edges e JOIN expansions x ON x.node=e.{other} WHERE e.{side} IN (%s)",
            wanted,
        )
    }
    _drop_expansions(connection, found, delta)


def reword(connection: Connection, node: int, delta: Delta) -> None:
    """A memory says something else from now on: neither its own expansion nor those that it went into hold."""
    drop_linked(connection, [node], delta)
    _drop_expansions(connection, [node], delta)


def part_from(connection: Connection, nodes: Iterable[int], delta: Delta) -> None:
    """An edge between some memories proved wrong: what they are found by since then may come over it."""
    query = "SELECT node FROM expansions WHERE node IN (%s)"
    _drop_expansions(connection, [node for (node,) in rows.chosen(connection, query, set(nodes))], delta)


def show(connection: Connection, nodes: Iterable[int], delta: Delta) -> None:
    """The live graph learns what memories that come back are expanded by."""
    query = "SELECT node, body, crc FROM expansions WHERE node IN (%s)"
    for node, body, crc in rows.chosen(connection, query, nodes):
        if zlib.crc32(body) == crc:
            delta.expansions[node] = Expansion.FromString(body)


def drop(connection: Connection, nodes: Iterable[int]) -> None:
    """Lets go of all that is derived of hidden memories whose rows or whose content are about to go."""
    wanted = list(nodes)
    for table in ("expansions", "positions"):
        rows.chosen(connection, f"DELETE FROM {table} WHERE node IN (%s) RETURNING node", wanted)


def _drop_expansions(connection: Connection, nodes: Iterable[int], delta: Delta) -> None:
    wanted = sorted(nodes)
    rows.chosen(connection, "DELETE FROM expansions WHERE node IN (%s) RETURNING node", wanted)
    delta.expansions.update((node, Expansion(node=node)) for node in wanted)


# ── rows ────────────────────────────────────────────────────────────────────────


def read_expansion(body: bytes, crc: int, node: int) -> Expansion:
    """Raises StoreCorrupt where it does not match its checksum, or is none of that memory whatever that says."""
    if zlib.crc32(body) != crc:
        raise StoreCorrupt(
            f"the expansion of memory row {node} does not match its checksum; the next dream makes it anew"
        )
    with contextlib.suppress(DecodeError):
        expansion = Expansion.FromString(body)
        if expansion.node == node and is_sound(expansion):
            return expansion
    raise StoreCorrupt(
        f"the expansion of memory row {node} is of another or cannot be counted with; the next dream makes it anew"
    )


def read_point(body: bytes) -> Point:
    return np.frombuffer(body, "<f4")


def is_sound(expansion: Expansion) -> bool:
    """Whether columns are of equal length and all numbers can be counted with."""
    return (
        len(expansion.words) == len(expansion.gains)
        and len(expansion.peers) == len(expansion.shares)
        and all(0 < gain < math.inf for gain in expansion.gains)
        and all(map(math.isfinite, expansion.shares))
        and (0 < expansion.length < math.inf or not expansion.peers)
    )


def is_in_ball(point: Point) -> bool:
    return point.size > 0 and bool(np.isfinite(point).all()) and float(np.linalg.norm(point.astype(np.float64))) < 1


def _put_expansions(connection: Connection, expansions: Sequence[tuple[int, Expansion]]) -> None:
    """Each with the dream that it comes from."""
    bodies = [(one.node, change, one.SerializeToString(deterministic=True)) for change, one in expansions]
    connection.executemany(
        "INSERT OR REPLACE INTO expansions (node, change, body, crc) VALUES (?,?,?,?)",
        ((*row, zlib.crc32(row[2])) for row in bodies),
    )


def _put_positions(connection: Connection, positions: Sequence[tuple[int, int, int, Point]]) -> None:
    """Each with the memory, the dream that it comes from, and when that placed it."""
    bodies = [point.astype("<f4").tobytes() for *_, point in positions]
    connection.executemany(
        "INSERT OR REPLACE INTO positions (node, change, seq, body, crc) VALUES (?,?,?,?,?)",
        ((*row, body, zlib.crc32(body)) for (*row, _), body in zip(positions, bodies, strict=True)),
    )
