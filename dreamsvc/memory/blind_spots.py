"""Blind spots as rows: what REM phases found, what somebody decided about it, and the edge that follows from that.

A find is about a pair of memories, whichever of the two comes first. Of a pair that was known as a hypothesis and is
verified by a later night there are two rows, so that taking that night back leaves the hypothesis; the newer one
counts, and a decision is written into both. Rows that somebody decided about stay for good, also when their night is
taken back.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dreamsvc import entropy
from dreamsvc.clock import to_timestamp
from dreamsvc.dreamer.v1.operations_pb2 import BeforeImages, EdgeDetail, FoundBlindSpot, FoundBlindSpots
from dreamsvc.errors import NotFound, invalid
from dreamsvc.memory import derived, rows, standing
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.edges import type_ids
from dreamsvc.memory.fold import Fold
from dreamsvc.memory.graph import NewEdge
from dreamsvc.memory.known import Author
from dreamsvc.memory.operations import Change
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection, take_ids
from dreamsvc.memory.standing import FOLDED, REPLACED
from dreamsvc.v1.blind_spot_pb2 import BlindSpot, BlindSpotEnd
from dreamsvc.v1.memory_pb2 import EDGE_ORIGIN_DREAM_DISCOVERY

# The type of the edges that blind spots become (REQ-DREAM-013).
DISCOVERED = "DREAM_DISCOVERED"
# Of the edge that an accepted hypothesis becomes; as a dream makes them.
WEIGHT = 0.3
SHOWN = 160

type Pair = tuple[int, int]

_COLUMNS = "b.id, b.uid, c.uid, b.source, b.target, b.state, b.body, b.created_us"
_ROWS = "blind_spots b JOIN changes c ON c.id = b.change"
# Names another row of the same pair, newer than b.
_NEWER = (
    "SELECT 1 FROM blind_spots o WHERE o.id > b.id AND o.space = b.space"
    " AND ((o.source = b.source AND o.target = b.target) OR (o.source = b.target AND o.target = b.source))"
)
# What was folded into another memory is shown as that one; what was forgotten is not shown.
_BOTH_THERE = (
    "NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id IN (b.source, b.target) AND n.deleted_us IS NOT NULL"
    f" AND n.role NOT IN ({FOLDED}, {REPLACED}))"
)


class _Spot(NamedTuple):
    """A row of `blind_spots`."""

    id: int
    uid: bytes
    dream: bytes
    source: int
    target: int
    state: int
    body: bytes
    created_us: int


# ── of dreams ───────────────────────────────────────────────────────────────────


def fold_blind_spots(fold: Fold, found: FoundBlindSpots) -> None:
    """Keeps the finds of a dream, but for pairs that lost an end, that somebody rejected, or that are known.

    A find between copies is one between what stands for them. A known hypothesis that is verified now is kept anew.
    """
    connection, change = fold.connection, fold.change
    named = {end for one in found.blind_spots for end in (one.source, one.target)}
    ends = standing.living(connection, named, change.space)
    told = {node for one in found.blind_spots for node in one.meeting}
    # What is shown of a find is of its own space.
    meeting = {node for node, row in standing.find(connection, told).items() if row.space == change.space}
    states = _states(connection, change.space, set(ends.values()))
    for one in found.blind_spots:
        source, target = ends.get(one.source, 0), ends.get(one.target, 0)
        known = states.get(_pair(source, target), set[int]())
        if not source or not target or source == target or BlindSpot.STATE_REJECTED in known:
            fold.before.skipped.append(one.source)
            continue
        if known and not (one.verified and known == {BlindSpot.STATE_HYPOTHESIS}):
            continue
        one.meeting[:] = [node for node in one.meeting if node in meeting]
        state = BlindSpot.STATE_VERIFIED if one.verified else BlindSpot.STATE_HYPOTHESIS
        states.setdefault(_pair(source, target), set()).add(state)
        row = connection.execute(
            "INSERT INTO blind_spots (uid, space, change, source, target, state, body, created_us, seq)"
            " VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (uid) DO NOTHING RETURNING id",
            (
                *(_uid(change, one.number), change.space, change.id, source, target, state),
                *(one.SerializeToString(deterministic=True), fold.now_us, fold.seq),
            ),
        ).fetchone()
        if row is not None:
            fold.before.born_blind_spots.append(row[0])


def undo(connection: Connection, change: Change, before: BeforeImages) -> None:
    """Takes away what a part had kept; what somebody accepted or rejected since stays as that was decided."""
    query = f"DELETE FROM blind_spots WHERE change={change.id} AND user_seq=0 AND id IN (%s) RETURNING id"
    rows.chosen(connection, query, before.born_blind_spots)


def rejected(connection: Connection, space: int, pairs: Iterable[Pair]) -> set[Pair]:
    """Those of some pairs of living memories that somebody rejected, also as copies that they stand for."""
    wanted = list(pairs)
    states = _states(connection, space, {end for pair in wanted for end in pair})
    return {pair for pair in wanted if BlindSpot.STATE_REJECTED in states.get(_pair(*pair), set())}


def decided_edges(connection: Connection, edges: Iterable[int]) -> set[int]:
    """Those of some edges that join the ends of a find which somebody accepted or rejected."""
    query = (
        "SELECT e.id FROM edges e JOIN edge_types k ON k.id = e.type JOIN blind_spots b ON"
        " (b.source = e.source AND b.target = e.target) OR (b.source = e.target AND b.target = e.source)"
        f" WHERE b.user_seq > 0 AND k.name = '{DISCOVERED}' AND e.id IN (%s)"
    )
    return {row[0] for row in rows.chosen(connection, query, edges)}


def strip(connection: Connection, nodes: Iterable[int]) -> None:
    """Lets go of what finds say in words of memories whose content is purged; the finds themselves stay."""
    wanted = list(nodes)
    held = {
        row[0]: row[1]
        for side in ("source", "target")
        for row in rows.chosen(connection, f"SELECT id, body FROM blind_spots WHERE {side} IN (%s)", wanted)
    }
    for spot, body in held.items():
        told = FoundBlindSpot.FromString(body)
        told.ClearField("evidence")
        connection.execute("UPDATE blind_spots SET body=? WHERE id=?", (told.SerializeToString(), spot))


def drop(connection: Connection, nodes: Iterable[int]) -> None:
    """Lets go of all finds of memories whose rows are about to be deleted."""
    wanted = list(nodes)
    for side in ("source", "target"):
        rows.chosen(connection, f"DELETE FROM blind_spots WHERE {side} IN (%s) RETURNING id", wanted)


# ── of users ────────────────────────────────────────────────────────────────────


def page(
    connection: Connection, space: Space, states: Sequence[int], change: int | None, before: int | None, size: int
) -> list[tuple[int, BlindSpot]]:
    """Up to `size` finds, the newest first, older than row `before`, each with its row id.

    Of a pair the newest find counts, unless it is asked for those of one dream (`change`).
    """
    where, values = f"b.space = ? AND {_BOTH_THERE}", [space.id]
    if states:
        where += f" AND b.state IN ({','.join('?' * len(states))})"
        values += states
    if change is None:
        where += f" AND NOT EXISTS ({_NEWER})"
    else:
        where += " AND b.change = ?"
        values.append(change)
    if before is not None:
        where += " AND b.id < ?"
        values.append(before)
    query = f"SELECT {_COLUMNS} FROM {_ROWS} WHERE {where} ORDER BY b.id DESC LIMIT ?"
    found = [_Spot(*row) for row in connection.execute(query, (*values, size))]
    return [(spot.id, message) for spot, message in zip(found, _messages(connection, space, found), strict=True)]


def accept(connection: Connection, space: Space, name: str, author: Author, delta: Delta) -> BlindSpot:
    """A find is right: its edge is the user's from now on, fully trusted, and is made where there is none.

    Raises NotFound, and InvalidFields where a memory of it is gone.
    """
    spot = _find(connection, space, name)
    ends = standing.living(connection, (spot.source, spot.target))
    for end in (spot.source, spot.target):
        if end not in ends:
            raise invalid("id", f"one of its memories is forgotten; restore {_id_of(connection, end)} first")
    source, target = ends[spot.source], ends[spot.target]
    if source == target:
        raise invalid("id", "is between memories that are copies of one another by now")
    _trust(connection, space, (source, target), spot, author, delta)
    return _decided(connection, space, spot, BlindSpot.STATE_ACCEPTED, author)


def reject(connection: Connection, space: Space, name: str, author: Author, delta: Delta) -> BlindSpot:
    """A find is wrong: its edge goes, softly, and no dream proposes the pair again. Raises NotFound.

    With the edge goes what its ends are found by; the next night makes that anew of the edges that are left.
    """
    spot = _find(connection, space, name)
    ends = standing.living(connection, (spot.source, spot.target))
    pairs = {(spot.source, spot.target), (ends.get(spot.source, spot.source), ends.get(spot.target, spot.target))}
    kind = type_ids(connection, {DISCOVERED})[DISCOVERED]
    for one, other in sorted(pairs):
        # One that waits for a forgotten memory to come back goes for good.
        gone = connection.execute(
            "UPDATE edges SET deleted_us=ifnull(deleted_us, ?1), hidden_by=NULL, seq=?2, user_seq=?2 WHERE type=?3"
            " AND ((source=?4 AND target=?5) OR (source=?5 AND target=?4))"
            " RETURNING id, source, target, weight, confidence",
            (author.now_us, author.seq, kind, one, other),
        ).fetchall()
        delta.changed_edges += [NewEdge(*edge, alive=False) for edge in gone]
        if gone:
            derived.part_from(connection, (one, other), delta)
    return _decided(connection, space, spot, BlindSpot.STATE_REJECTED, author)


def count(connection: Connection, space: Space) -> int:
    """Pairs that REM phases found and nobody rejected."""
    query = f"SELECT count(*) FROM blind_spots b WHERE b.space=? AND b.state<>? AND NOT EXISTS ({_NEWER})"
    return int(connection.execute(query, (space.id, BlindSpot.STATE_REJECTED)).fetchone()[0])


def _find(connection: Connection, space: Space, name: str) -> _Spot:
    query = f"SELECT {_COLUMNS} FROM {_ROWS} WHERE b.uid = ? AND b.space = ?"
    row = connection.execute(query, (entropy.uuid_bytes(name), space.id)).fetchone()
    if row is None:
        raise NotFound(f'no blind spot "{name[:40]}" in space "{space.name}"; ListBlindSpots lists those there are')
    return _Spot(*row)


def _trust(
    connection: Connection, space: Space, ends: tuple[int, int], spot: _Spot, author: Author, delta: Delta
) -> None:
    kind = type_ids(connection, {DISCOVERED})[DISCOVERED]
    edge = connection.execute(
        "SELECT id, source, target, weight, deleted_us FROM edges WHERE type=?1"
        " AND ((source=?2 AND target=?3) OR (source=?3 AND target=?2)) ORDER BY deleted_us IS NOT NULL, id LIMIT 1",
        (kind, *ends),
    ).fetchone()
    if edge is not None:
        row, source, target, weight, deleted_us = edge
        # One that was pruned since had lost its weight.
        weight = weight if deleted_us is None else max(weight, WEIGHT)
        connection.execute(
            "UPDATE edges SET weight=?, confidence=1.0, deleted_us=NULL, hidden_by=NULL, seq=?, user_seq=? WHERE id=?",
            (weight, author.seq, author.seq, row),
        )
        delta.changed_edges.append(NewEdge(row, source, target, weight, 1.0, True, kind))
        return
    row = take_ids(connection, "next_edge", 1)
    detail = EdgeDetail(evidence="; ".join(FoundBlindSpot.FromString(spot.body).evidence))
    connection.execute(
        "INSERT INTO edges (id, space, source, target, type, weight, confidence, origin, created_us, seq, user_seq,"
        " detail) VALUES (?,?,?,?,?,?,1.0,?,?,?,?,?)",
        (
            *(row, space.id, *ends, kind, WEIGHT, EDGE_ORIGIN_DREAM_DISCOVERY),
            *(author.now_us, author.seq, author.seq, detail.SerializeToString(deterministic=True) or None),
        ),
    )
    delta.new_edges.append(NewEdge(row, *ends, WEIGHT, 1.0, True, kind))


def _decided(connection: Connection, space: Space, spot: _Spot, state: int, author: Author) -> BlindSpot:
    connection.execute(
        "UPDATE blind_spots SET state=?1, seq=?2, user_seq=?2 WHERE space=?3"
        " AND ((source=?4 AND target=?5) OR (source=?5 AND target=?4))",
        (state, author.seq, space.id, spot.source, spot.target),
    )
    return _messages(connection, space, [spot._replace(state=state)])[0]


# ── rows and messages ───────────────────────────────────────────────────────────


def _messages(connection: Connection, space: Space, found: Sequence[_Spot]) -> list[BlindSpot]:
    bodies = [FoundBlindSpot.FromString(spot.body) for spot in found]
    named = {end for spot in found for end in (spot.source, spot.target)}
    named |= {node for body in bodies for node in body.meeting}
    ends = _ends(connection, named)
    return [
        BlindSpot(
            id=entropy.uuid_text(spot.uid),
            space=space.name,
            dream_id=entropy.uuid_text(spot.dream),
            state=spot.state,  # pyright: ignore[reportArgumentType]
            source=ends.get(spot.source),
            target=ends.get(spot.target),
            semantic_distance=body.semantic_distance,
            causal_overlap=body.causal_overlap,
            confidence=body.confidence,
            evidence=body.evidence,
            meeting=[ends[node] for node in body.meeting if node in ends],
            walk=body.walk,
            dimension=body.dimension,
            create_time=to_timestamp(spot.created_us),
        )
        for spot, body in zip(found, bodies, strict=True)
    ]


def _ends(connection: Connection, nodes: Iterable[int]) -> dict[int, BlindSpotEnd]:
    """How memories are shown, by row id; a copy as what stands for it."""
    wanted = set(nodes)
    now = standing.living(connection, wanted)
    query = "SELECT id, uid, key, title, substr(text, 1, ?) FROM nodes WHERE id IN (%s)".replace("?", str(4 * SHOWN))
    shown = {
        row: BlindSpotEnd(id=entropy.uuid_text(uid), key=key or "", text=short(title, text))
        for row, uid, key, title, text in rows.chosen(connection, query, {now.get(node, node) for node in wanted})
    }
    return {node: shown[row] for node in wanted if (row := now.get(node, node)) in shown}


def short(title: str, text: str) -> str:
    """The title, or the beginning of the text, on one line."""
    line = " ".join((title or text).split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def _states(connection: Connection, space: int, living: set[int]) -> dict[Pair, set[int]]:
    """States of all finds among some living memories, the copies that these stand for among them, by their pair."""
    stands = {node: node for node in living}
    further = living
    while further:
        hidden = [one for one in standing.merged_into(connection, further) if not one.alive]
        heirs = {one.id: stands[one.merged_into or 0] for one in hidden if one.role in (FOLDED, REPLACED)}
        further = heirs.keys() - stands.keys()
        stands |= {node: heirs[node] for node in further}
    query = f"SELECT source, target, state FROM blind_spots WHERE space={space} AND source IN (%s)"
    found: dict[Pair, set[int]] = {}
    # Whichever end a pair was found from, both are among them.
    for source, target, state in rows.chosen(connection, query, stands):
        if target in stands:
            found.setdefault(_pair(stands[source], stands[target]), set()).add(state)
    return found


def _pair(one: int, other: int) -> Pair:
    return (one, other) if one < other else (other, one)


def _uid(change: Change, number: int) -> bytes:
    """Follows from the dream's, so that equal dreams give equal ids."""
    made = entropy.uuid_bytes(entropy.uuid_for(entropy.uuid_text(change.uid), f"blind spot {number}"))
    assert made is not None
    return made


def _id_of(connection: Connection, node: int) -> str:
    return entropy.uuid_text(standing.find(connection, [node])[node].uid)
