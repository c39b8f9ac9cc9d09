"""Checks the invariants of a store; reads only, also beside a running server."""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dreamsvc.errors import DreamsvcError
from dreamsvc.memory import audit, operations, rows
from dreamsvc.memory.sqlite import Connection, open_read_only

MOST_SHOWN = 5


class Finding(NamedTuple):
    """One check: what was looked at, whether it holds, and what to do where it does not."""

    name: str
    ok: bool
    detail: str


def examine(path: str) -> list[Finding]:
    """All checks; the first alone where the store cannot be opened."""
    place = Path(path).expanduser()
    if not place.exists():
        return [Finding("the store opens", False, f"{place} does not exist")]
    try:
        connection = open_read_only(place)
    except DreamsvcError as error:
        return [Finding("the store opens", False, error.message)]
    found = [Finding("the store opens", True, str(place))]
    for name, check in _CHECKS:
        try:
            problems = list(check(connection))
        except DreamsvcError as error:
            problems = [error.message]
        except Exception as error:
            problems = [f"{type(error).__name__}: {error}"]
        more = f" (and {len(problems) - MOST_SHOWN} more)" if len(problems) > MOST_SHOWN else ""
        found.append(Finding(name, not problems, "; ".join(problems[:MOST_SHOWN]) + more))
    connection.close()
    return found


def _integrity(connection: Connection) -> Iterator[str]:
    for (line,) in connection.execute("PRAGMA integrity_check(20)"):
        if line != "ok":
            yield f"{line}; restore a backup"
    for row in connection.execute("PRAGMA foreign_key_check"):
        yield f"a row of {row[0]} points at nothing"


def _vectors(connection: Connection) -> Iterator[str]:
    query = (
        "SELECT v.node, v.body, v.crc, s.dimension FROM vectors v LEFT JOIN nodes n ON n.id = v.node"
        " LEFT JOIN spaces s ON s.id = n.space"
    )
    for node, body, crc, dimension in connection.execute(query):
        if dimension is None:
            yield f"the vector of row {node} has no memory"
            continue
        try:
            rows.unpack_vector(body, crc, node)
        except DreamsvcError as error:
            yield error.message
        if body and len(body) != 2 * dimension:
            yield f"the vector of row {node} has {len(body) // 2} values, its space {dimension}"


def _edges(connection: Connection) -> Iterator[str]:
    query = (
        "SELECT e.id FROM edges e JOIN nodes s ON s.id = e.source JOIN nodes t ON t.id = e.target"
        " WHERE e.deleted_us IS NULL AND (s.deleted_us IS NOT NULL OR t.deleted_us IS NOT NULL)"
    )
    for (edge,) in connection.execute(query):
        yield f"edge {edge} is alive and has a forgotten end"
    query = "SELECT e.id FROM edges e JOIN nodes n ON n.id = e.hidden_by WHERE n.deleted_us IS NULL"
    for (edge,) in connection.execute(query):
        yield f"edge {edge} waits for a memory that is not forgotten"


def _audit(connection: Connection) -> Iterator[str]:
    broken = audit.broken_at(connection)
    if broken is not None:
        yield f"row {broken} does not follow from the one before; rows were changed outside of dreamsvc"


def _reversal(connection: Connection) -> Iterator[str]:
    query = "SELECT change, part, before, reversal_hash FROM change_parts WHERE before IS NOT NULL"
    for change, part, before, digest in connection.execute(query):
        if hashlib.sha256(before).digest() != digest:
            yield f"part {part} of change {change} does not match its reversal hash"


def _parts(connection: Connection) -> Iterator[str]:
    for state in ("staging", "sealed"):
        for change in operations.in_state(connection, state):
            query = "SELECT part, body, crc FROM change_parts WHERE change = ?"
            for part, body, crc in connection.execute(query, (change.id,)):
                if zlib.crc32(body) != crc:
                    yield f"part {part} of change {change.id} does not match its checksum"
            if state == "sealed":
                yield f"change {change.id} is sealed and not yet folded; the next start finishes it"


def _counters(connection: Connection) -> Iterator[str]:
    highest = "SELECT (SELECT value FROM meta WHERE key = ?) > ifnull((SELECT max({0}) FROM {1}), -1)"
    for counter, column, table in (("next_node", "id", "nodes"), ("next_edge", "id", "edges")):
        if connection.execute(highest.format(column, table), (counter,)).fetchone() != (1,):
            yield f"{counter} is not above every id of {table}"
    for table in ("nodes", "edges"):
        query = f"SELECT ifnull(max(seq), 0) <= (SELECT value FROM meta WHERE key = 'change_seq') FROM {table}"
        if connection.execute(query).fetchone() != (1,):
            yield f"a row of {table} is newer than the last change"


_CHECKS: tuple[tuple[str, Callable[[Connection], Iterator[str]]], ...] = (
    ("the database is whole", _integrity),
    ("vectors match their checksums and memories", _vectors),
    ("living edges have living ends", _edges),
    ("the audit chain is unbroken", _audit),
    ("reversal hashes match", _reversal),
    ("no sealed work is left over", _parts),
    ("ids and change numbers only grow", _counters),
)
