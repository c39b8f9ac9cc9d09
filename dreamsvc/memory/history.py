"""The history of dreams (REQ-DREAM-029): the last ones of each space are kept, older ones go.

Never one that can still be taken back, that goes on, or that waits for somebody's word: what goes is the record of a
night whose journal was let go of before. The row of its change stays, and so whatever it made is still known as its.
"""

from collections.abc import Sequence

from dreamsvc.errors import DreamKept
from dreamsvc.memory import audit
from dreamsvc.memory.dreams import DreamRow, state_word
from dreamsvc.memory.sqlite import ChangeId, Connection, next_seq

SLICE = 500
# Of a row of changes. What was dropped never changed anything.
_NEEDED_NO_MORE = "(purged_us IS NOT NULL OR state = 'dropped')"


def prune_next(connection: Connection, keep: int, held: Sequence[str], now_us: int) -> int:
    """Drops a slice of the records beyond the newest `keep` of their space; how many it were."""
    marks = ",".join("?" * len(held))
    found = connection.execute(
        "SELECT change FROM ("
        " SELECT d.change, c.state, c.purged_us,"
        " row_number() OVER (PARTITION BY c.space ORDER BY d.change DESC) AS place"
        " FROM dreams d JOIN changes c ON c.id = d.change JOIN spaces s ON s.id = c.space"
        f" WHERE s.name NOT IN ({marks})"
        f") WHERE place > ? AND {_NEEDED_NO_MORE} LIMIT {SLICE}",
        (*held, keep),
    ).fetchall()
    if found:
        _drop(connection, [change for (change,) in found], now_us)
        seq = next_seq(connection)
        audit.record(connection, now_us=now_us, actor="service", action="prune", space=None, seq=seq, dreams=len(found))
    return len(found)


def delete(connection: Connection, row: DreamRow, now_us: int) -> None:
    """Drops the record of one dream on request (API-4); raises DreamKept where it is needed."""
    uid = row.dream.id
    query = f"SELECT space, {_NEEDED_NO_MORE} FROM changes WHERE id=?"
    space, needed_no_more = connection.execute(query, (row.change,)).fetchone()
    if not needed_no_more:
        state = state_word(row.dream)
        raise DreamKept(f"dream {uid} is {state}, and what it did is kept: its record goes when that has gone")
    _drop(connection, [row.change], now_us)
    seq = next_seq(connection)
    audit.record(connection, now_us=now_us, actor="user", action="delete_dream", space=space, seq=seq, dream=uid)


def _drop(connection: Connection, changes: Sequence[ChangeId], now_us: int) -> None:
    # So that nobody misses the record.
    purged = ((now_us, change) for change in changes)
    connection.executemany("UPDATE changes SET purged_us=? WHERE id=? AND purged_us IS NULL", purged)
    connection.executemany("DELETE FROM dreams WHERE change=?", ((change,) for change in changes))
