"""Memories that were of use together: what recalls and callers say of pairs, for the next dream to replay.

A pair counts until a dream has replayed it; new use after that starts a new count, so that no use counts twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from dreamsvc.memory import rows
from dreamsvc.memory.operations import Change
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection

type Pair = tuple[int, int]
"""Row ids, the lower one first."""

# Hits of a recall that count as returned together: who reads further down was not answered by the first.
FIRST_HITS = 5
# Memories of one feedback whose pairs count. That so many were of use at once says little of any two of them, and all
# pairs of a thousand would hold up the writer for seconds.
MOST_USED = 100


def pairs_of(nodes: Iterable[int]) -> list[Pair]:
    """All pairs of some memories, each memory counted once."""
    return list(combinations(sorted(set(nodes)), 2))


def recalled_pairs(hits: Sequence[int]) -> list[Pair]:
    """Pairs that a recall returned together; hits: row ids, the best first."""
    return pairs_of(hits[:FIRST_HITS])


def note(connection: Connection, space: Space, counts: Mapping[Pair, tuple[int, int]], now_us: int, seq: int) -> None:
    """Adds to how often pairs were recalled together, and how often a caller confirmed that.

    Pairs of which a memory is not stored any more are left out.
    """
    connection.executemany(
        "INSERT INTO coactivations (space, source, target, recalled, confirmed, at_us, seq)"
        " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE (SELECT count(*) FROM nodes WHERE id IN (?2, ?3)) = 2"
        " ON CONFLICT (space, source, target) DO UPDATE SET"
        " recalled = iif(used_by IS NULL, recalled, 0) + excluded.recalled,"
        " confirmed = iif(used_by IS NULL, confirmed, 0) + excluded.confirmed,"
        " at_us = excluded.at_us, seq = excluded.seq, used_by = NULL",
        (
            (space.id, source, target, recalled, confirmed, now_us, seq)
            for (source, target), (recalled, confirmed) in sorted(counts.items())
        ),
    )


def consume(connection: Connection, change: Change) -> None:
    """A dream has replayed what was used before it began; call it where the dream is folded to its end.

    What a caller confirmed waits for an edge to learn it: a dream that was short of time, or that had too few memories,
    made none.
    """
    connection.execute(
        "UPDATE coactivations AS c SET used_by=?1 WHERE space=?2 AND seq<=?3 AND used_by IS NULL"
        " AND (confirmed = 0 OR EXISTS (SELECT 1 FROM edges e WHERE e.source = c.source AND e.target = c.target)"
        " OR EXISTS (SELECT 1 FROM edges e WHERE e.source = c.target AND e.target = c.source))",
        (change.id, change.space, change.base_seq),
    )


def give_back(connection: Connection, change: Change) -> None:
    """A dream is taken back, so the next one replays the same pairs; pairs that were used since have newer counts."""
    connection.execute("UPDATE coactivations SET used_by=NULL WHERE space=?2 AND used_by=?1", (change.id, change.space))


def drop(connection: Connection, nodes: Iterable[int]) -> None:
    """Lets go of all pairs of memories whose rows or whose content are about to go."""
    wanted = list(nodes)
    for side in ("source", "target"):
        rows.chosen(connection, f"DELETE FROM coactivations WHERE {side} IN (%s) RETURNING source", wanted)


def count(connection: Connection, space: Space) -> int:
    """Pairs that were used since the last dream."""
    query = "SELECT count(*) FROM coactivations WHERE space=? AND used_by IS NULL"
    return int(connection.execute(query, (space.id,)).fetchone()[0])
