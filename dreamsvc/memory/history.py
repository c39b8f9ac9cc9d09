"""The history of dreams (REQ-DREAM-029): the last ones of each space are kept, older ones go.

Never one that can still be taken back, that goes on, or that waits for somebody's word: what goes is the record of a
night whose journal was let go of before. The row of its change stays, and so whatever it made is still known as its.
"""

from collections.abc import Sequence

from dreamsvc.memory import audit
from dreamsvc.memory.sqlite import Connection, next_seq

SLICE = 500


def prune_next(connection: Connection, keep: int, held: Sequence[str], now_us: int) -> int:
    """Drops a slice of the records beyond the newest `keep` of their space; how many it were."""
    marks = ",".join("?" * len(held))
    found = connection.execute(
        "SELECT change FROM ("
        " SELECT d.change, c.state, c.purged_us,"
        " row_number() OVER (PARTITION BY c.space ORDER BY d.change DESC) AS place"
        " FROM dreams d JOIN changes c ON c.id = d.change JOIN spaces s ON s.id = c.space"
        f" WHERE s.name NOT IN ({marks})"
        # What was dropped never changed anything.
        f") WHERE place > ? AND (purged_us IS NOT NULL OR state = 'dropped') LIMIT {SLICE}",
        (*held, keep),
    ).fetchall()
    if found:
        # So that nobody misses the record.
        purged = ((now_us, change) for (change,) in found)
        connection.executemany("UPDATE changes SET purged_us=? WHERE id=? AND purged_us IS NULL", purged)
        connection.executemany("DELETE FROM dreams WHERE change=?", found)
        seq = next_seq(connection)
        audit.record(connection, now_us=now_us, actor="service", action="prune", space=None, seq=seq, dreams=len(found))
    return len(found)
