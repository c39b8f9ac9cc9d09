"""Checks the invariants of a store; reads only, also beside a running server."""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dreamsvc.errors import DreamsvcError
from dreamsvc.facet_codes import code_bytes
from dreamsvc.memory import audit, derived, operations, rows, standing
from dreamsvc.memory.sqlite import Connection, open_read_only
from dreamsvc.memory.standing import CONTAINER, FACET, FOLDED, PLAIN, REPLACED

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


def _packed(connection: Connection) -> Iterator[str]:
    query = (
        "SELECT p.node, p.bits, p.scale, p.body, p.crc, n.role, s.dimension FROM packed_vectors p"
        " LEFT JOIN nodes n ON n.id = p.node LEFT JOIN spaces s ON s.id = n.space"
    )
    for *row, role, dimension in connection.execute(query):
        node, bits, _, body, _ = row
        if dimension is None or role == PLAIN:
            yield f"the packed vector of row {node} has no memory that needs one"
            continue
        try:
            list(standing.unpack_rows([row]))
        except DreamsvcError as error:
            yield error.message
        centroid = role in (CONTAINER, REPLACED)
        if len(body) != (dimension if centroid else code_bytes(dimension, bits)) or (centroid and bits != 8):
            yield f"the packed vector of row {node} has {len(body)} bytes of {bits} bits, its space {dimension} values"
    query = (
        f"SELECT id FROM nodes WHERE role IN ({CONTAINER}, {FACET}) AND deleted_us IS NULL"
        " AND id NOT IN (SELECT node FROM packed_vectors)"
    )
    for (node,) in connection.execute(query):
        yield f"row {node} lies in a container or is one, and has no packed vector"
    query = f"SELECT v.node FROM vectors v JOIN nodes n ON n.id = v.node WHERE n.role IN ({CONTAINER}, {REPLACED})"
    for (node,) in connection.execute(query):
        yield f"row {node} is a container and has a vector of its own"
    query = (
        "SELECT n.merged_into FROM nodes n JOIN packed_vectors p ON p.node = n.id"
        f" WHERE n.role = {FACET} AND n.deleted_us IS NULL GROUP BY n.merged_into HAVING count(DISTINCT p.bits) > 1"
    )
    for (node,) in connection.execute(query):
        yield f"the facets of container {node} have codes of several widths"


def _derived(connection: Connection) -> Iterator[str]:
    nodes: set[int] = {node for (node,) in connection.execute("SELECT id FROM nodes")}
    for node, body, crc in connection.execute("SELECT node, body, crc FROM expansions"):
        if node not in nodes:
            yield f"the expansion of row {node} has no memory"
        try:
            expansion = derived.read_expansion(body, crc, node)
        except DreamsvcError as error:
            yield error.message
            continue
        if not derived.is_sound(expansion):
            yield f"the expansion of row {node} has numbers that cannot be counted with"
        for peer in expansion.peers:
            if peer not in nodes:
                yield f"the expansion of row {node} names row {peer} as a peer, which there is not"
    for node, body, crc in connection.execute("SELECT node, body, crc FROM positions"):
        if node not in nodes:
            yield f"the position of row {node} has no memory"
        if zlib.crc32(body) != crc:
            yield f"the position of row {node} does not match its checksum; the next dream places it anew"
        elif len(body) % 4 or not derived.is_in_ball(derived.read_point(body)):
            yield f"the position of row {node} is not inside the ball"


def _standing(connection: Connection) -> Iterator[str]:
    query = (
        "SELECT f.id FROM nodes f LEFT JOIN nodes c ON c.id = f.merged_into AND c.space = f.space"
        f" WHERE f.role = {FACET} AND f.deleted_us IS NULL"
        f" AND NOT ifnull(c.role = {CONTAINER} AND c.deleted_us IS NULL, 0)"
    )
    for (node,) in connection.execute(query):
        yield f"facet {node} lies in no living container"
    query = f"SELECT id FROM nodes WHERE role IN ({FOLDED}, {REPLACED}) AND deleted_us IS NULL"
    for (node,) in connection.execute(query):
        yield f"row {node} is stood for by another and is not hidden"
    query = (
        f"SELECT id FROM nodes WHERE (role IN ({FACET}, {FOLDED})) <> (merged_into IS NOT NULL) AND role <> {REPLACED}"
    )
    for (node,) in connection.execute(query):
        yield f"row {node} does not say what stands for it, or says so without need"
    query = "SELECT id FROM nodes WHERE purged = 1 AND (deleted_us IS NULL OR text <> '' OR title <> '')"
    for (node,) in connection.execute(query):
        yield f"row {node} was purged and still has content"
    yield from _circles(dict(connection.execute("SELECT id, merged_into FROM nodes WHERE merged_into IS NOT NULL")))


def _circles(merged_into: dict[int, int]) -> Iterator[str]:
    sound: set[int] = set()
    for start in merged_into:
        way: list[int] = []
        at = start
        while at in merged_into and at not in sound and at not in way:
            way.append(at)
            at = merged_into[at]
        if at in way:
            yield f"row {at} stands for itself in the end"
        sound.update(way)


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
    query = (
        "SELECT p.change, p.part FROM change_parts p JOIN changes c ON c.id = p.change AND c.generation = p.generation"
        " WHERE c.kind = 'dream' AND p.before IS NULL AND (c.state IN ('folded', 'reverting', 'reverted')"
        " OR (c.state = 'sealed' AND p.part < c.fold_cursor))"
    )
    for change, part in connection.execute(query):
        yield f"part {part} of change {change} was applied and has no image of what was before"


def _parts(connection: Connection) -> Iterator[str]:
    for state in ("staging", "sealed"):
        for change in operations.in_state(connection, state):
            query = "SELECT part, body, crc FROM change_parts WHERE change = ?"
            for part, body, crc in connection.execute(query, (change.id,)):
                if zlib.crc32(body) != crc:
                    yield f"part {part} of change {change.id} does not match its checksum"
            if state == "sealed":
                yield f"change {change.id} is sealed and not yet folded; the next start finishes it"
    for change in operations.in_state(connection, "reverting"):
        yield f"change {change.id} is taken back in part; the next start finishes it"


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
    ("packed vectors match their checksums and memories", _packed),
    ("what stands for others lives", _standing),
    ("what dreams derived matches its checksums and memories", _derived),
    ("living edges have living ends", _edges),
    ("the audit chain is unbroken", _audit),
    ("reversal hashes match", _reversal),
    ("no sealed work is left over", _parts),
    ("ids and change numbers only grow", _counters),
)
