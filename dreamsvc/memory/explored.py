"""What the store says a dream linked and found, after the commit."""

from typing import NamedTuple

from dreamsvc.memory.blind_spots import DISCOVERED
from dreamsvc.memory.sqlite import ChangeId, Connection
from dreamsvc.v1.blind_spot_pb2 import BlindSpot

# Edges that evidence between memories speaks for.
LINKS = ("MENTIONS", "SHARES_ENTITY", "FOLLOWS")


class Explored(NamedTuple):
    """Counts of rows as they are stored."""

    links: int
    novel_edges: int
    expanded: int
    verified: int
    hypotheses: int


def explored(connection: Connection, change: ChangeId) -> Explored:
    """What there is of one dream."""

    def edges(*types: str) -> int:
        query = (
            "SELECT count(*) FROM edges e JOIN edge_types k ON k.id = e.type WHERE e.born_in=? AND e.deleted_us IS NULL"
            f" AND k.name IN ({','.join('?' * len(types))})"
        )
        return int(connection.execute(query, (change, *types)).fetchone()[0])

    def spots(state: int) -> int:
        query = "SELECT count(*) FROM blind_spots WHERE change=? AND state=?"
        return int(connection.execute(query, (change, state)).fetchone()[0])

    expanded = connection.execute("SELECT count(*) FROM expansions WHERE change=?", (change,)).fetchone()[0]
    return Explored(
        links=edges(*LINKS),
        novel_edges=edges(DISCOVERED),
        expanded=int(expanded),
        verified=spots(BlindSpot.STATE_VERIFIED),
        hypotheses=spots(BlindSpot.STATE_HYPOTHESIS),
    )
