"""Lets go, in slices, of what can be restored no longer (REQ-DREAM-026): after `restore_days` content goes, not before.

Audit rows stay, and so does the row of a memory, without its content: edges and old ids still lead to what stands for
it. A space on hold is left alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

from dreamsvc.memory import audit, blind_spots, coactivation, derived, rows
from dreamsvc.memory.sqlite import Connection, next_seq
from dreamsvc.memory.standing import FACET

SLICE = 500
# Of a journal, each up to 4 MB.
PARTS = 16
FREED_PAGES = 256


class Purged(NamedTuple):
    """What a slice let go of."""

    journals: int  # nights that can be reverted no longer, and imports
    parts: int  # of such journals
    memories: int  # forgotten or folded memories whose content is gone
    vectors: int  # originals of facets, which are read by their codes

    @property
    def total(self) -> int:
        return sum(self)


def next_slice(connection: Connection, cutoff_us: int, held: Sequence[str], now_us: int) -> Purged:
    """Purges a slice of what was hidden or merged before `cutoff_us`; all zero once nothing is left."""
    marks = ",".join("?" * len(held))
    spaces = f"(SELECT id FROM spaces WHERE name NOT IN ({marks}))"
    purged = Purged(
        journals=_journals(connection, cutoff_us, spaces, held, now_us),
        parts=_parts(connection, spaces, held),
        memories=_memories(connection, cutoff_us, spaces, held),
        vectors=_vectors(connection, spaces, held),
    )
    if purged.total:
        audit.record(
            connection,
            now_us=now_us,
            actor="service",
            action="purge",
            space=None,
            seq=next_seq(connection),
            hidden_before_us=cutoff_us,
            **purged._asdict(),
        )
        connection.execute(f"PRAGMA incremental_vacuum({FREED_PAGES})").fetchall()
    return purged


def _journals(connection: Connection, cutoff_us: int, spaces: str, held: Sequence[str], now_us: int) -> int:
    """From here on a night cannot be reverted. The journal of an import, which holds the whole file, goes too."""
    return len(
        connection.execute(
            "UPDATE changes SET purged_us=? WHERE state IN ('folded', 'reverted') AND purged_us IS NULL"
            f" AND ended_us < ? AND space IN {spaces} RETURNING id",
            (now_us, cutoff_us, *held),
        ).fetchall()
    )


def _parts(connection: Connection, spaces: str, held: Sequence[str]) -> int:
    return len(
        connection.execute(
            "DELETE FROM change_parts WHERE (change, generation, part) IN (SELECT p.change, p.generation, p.part"
            " FROM changes c JOIN change_parts p ON p.change = c.id WHERE c.purged_us IS NOT NULL"
            f" AND c.space IN {spaces} LIMIT {PARTS}) RETURNING part",
            held,
        ).fetchall()
    )


def _memories(connection: Connection, cutoff_us: int, spaces: str, held: Sequence[str]) -> int:
    found = connection.execute(
        # What a night hid can be brought back for as long as that night can be reverted. A container is needed for as
        # long as something may have to be read by its code.
        "SELECT n.id FROM nodes n LEFT JOIN changes c ON c.id = n.changed_by WHERE n.deleted_us < ? AND n.purged=0"
        f" AND (c.id IS NULL OR c.purged_us IS NOT NULL) AND n.space IN {spaces}"
        f" AND NOT EXISTS (SELECT 1 FROM nodes f WHERE f.merged_into = n.id AND f.role={FACET} AND f.purged=0)"
        f" LIMIT {SLICE}",
        (cutoff_us, *held),
    ).fetchall()
    seq = next_seq(connection) if found else 0
    connection.executemany(
        "UPDATE nodes SET key=NULL, title='', text='', aliases='[]', metadata='{}', purged=1, seq=? WHERE id=?",
        ((seq, node) for (node,) in found),
    )
    for table in ("vectors", "packed_vectors", "node_versions"):
        connection.executemany(f"DELETE FROM {table} WHERE node=?", found)
    nodes = [node for (node,) in found]
    derived.drop(connection, nodes)
    coactivation.drop(connection, nodes)
    # Why an edge of it was made may quote it, and so may what a find says of it.
    blind_spots.strip(connection, nodes)
    connection.executemany(
        "UPDATE edges SET detail=NULL WHERE (source=?1 OR target=?1) AND deleted_us IS NOT NULL", found
    )
    return len(found)


def _vectors(connection: Connection, spaces: str, held: Sequence[str]) -> int:
    found = connection.execute(
        # A facet that no night has changed came with an import.
        "SELECT n.id FROM nodes n JOIN changes c ON c.id = ifnull(n.changed_by, n.born_in)"
        " JOIN vectors v ON v.node = n.id"
        f" WHERE n.role={FACET} AND n.deleted_us IS NULL AND c.purged_us IS NOT NULL AND n.space IN {spaces}"
        f" AND EXISTS (SELECT 1 FROM packed_vectors p WHERE p.node = n.id) LIMIT {SLICE}",
        held,
    ).fetchall()
    rows.chosen(connection, "DELETE FROM vectors WHERE node IN (%s) RETURNING node", (node for (node,) in found))
    return len(found)
