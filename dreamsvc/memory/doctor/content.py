"""Memories, what stands for others, edges, what dreams derived: each row against its checksum and its neighbours."""

import json
import zlib

from dreamsvc.errors import DreamsvcError
from dreamsvc.facet_codes import code_bytes
from dreamsvc.memory import derived, rows, standing
from dreamsvc.memory.doctor.finding import (
    CHANGED_OUTSIDE,
    NEXT_NIGHT,
    RESTORE,
    Note,
    Place,
    Problem,
    Said,
    named,
    remember_again,
)
from dreamsvc.memory.standing import CONTAINER, FACET, FOLDED, PLAIN, REPLACED


def vectors(place: Place) -> Said:
    query = (
        "SELECT v.node, v.body, v.crc, s.dimension FROM vectors v LEFT JOIN nodes n ON n.id = v.node"
        " LEFT JOIN spaces s ON s.id = n.space"
    )
    for node, body, crc, dimension in place.connection.execute(query):
        if dimension is None:
            yield Problem(f"the vector of row {node} has no memory", CHANGED_OUTSIDE)
            continue
        try:
            rows.unpack_vector(body, crc, node)
        except DreamsvcError as error:
            yield Problem(error.message, remember_again(place.connection, node))
        if body and len(body) != 2 * dimension:
            yield Problem(
                f"the vector of row {node} has {len(body) // 2} values, its space {dimension}",
                remember_again(place.connection, node),
            )


def written(place: Place) -> Said:
    """Of what memories say, the part that is JSON."""
    query = "SELECT id, aliases, metadata FROM nodes WHERE aliases <> '[]' OR metadata <> '{}'"
    for node, aliases, metadata in place.connection.execute(query):
        try:
            rows.read_aliases(aliases)
            rows.canonical(metadata)
        except ValueError:
            what = named(place.connection, node)
            yield Problem(f"aliases or metadata of row {node}, {what}, cannot be read", CHANGED_OUTSIDE)


def packed(place: Place) -> Said:
    connection = place.connection
    query = (
        "SELECT p.node, p.bits, p.scale, p.body, p.crc, n.role, s.dimension, n.deleted_us FROM packed_vectors p"
        " LEFT JOIN nodes n ON n.id = p.node LEFT JOIN spaces s ON s.id = n.space"
    )
    for *row, role, dimension, deleted_us in connection.execute(query):
        node, bits, _, body, _ = row
        if dimension is None or role == PLAIN:
            yield Problem(f"the packed vector of row {node} has no memory that needs one", CHANGED_OUTSIDE)
            continue
        try:
            list(standing.unpack_rows([row]))
        except DreamsvcError as error:
            if deleted_us is not None:
                # Taking a container apart is how it was mended.
                yield Note(f"{error.message}; it is forgotten, and goes for good when its days are over")
                continue
            yield Problem(error.message, _unmerge(place, node))
        centroid = role in (CONTAINER, REPLACED)
        if len(body) != (dimension if centroid else code_bytes(dimension, bits)) or (centroid and bits != 8):
            yield Problem(
                f"the packed vector of row {node} has {len(body)} bytes of {bits} bits, its space {dimension} values",
                _unmerge(place, node),
            )
    query = (
        f"SELECT id FROM nodes WHERE role IN ({CONTAINER}, {FACET}) AND deleted_us IS NULL"
        " AND id NOT IN (SELECT node FROM packed_vectors)"
    )
    for (node,) in connection.execute(query):
        yield Problem(f"row {node} lies in a container or is one, and has no packed vector", _unmerge(place, node))
    query = f"SELECT v.node FROM vectors v JOIN nodes n ON n.id = v.node WHERE n.role IN ({CONTAINER}, {REPLACED})"
    for (node,) in connection.execute(query):
        yield Problem(f"row {node} is a container and has a vector of its own", CHANGED_OUTSIDE)
    query = (
        "SELECT n.merged_into FROM nodes n JOIN packed_vectors p ON p.node = n.id"
        f" WHERE n.role = {FACET} AND n.deleted_us IS NULL GROUP BY n.merged_into HAVING count(DISTINCT p.bits) > 1"
    )
    for (node,) in connection.execute(query):
        yield Problem(f"the facets of container {node} have codes of several widths", _unmerge(place, node))


def _unmerge(place: Place, node: int) -> str:
    what = named(place.connection, node)
    return (
        f"take {what} apart: dreamsvc unmerge; what it is made of keeps its own vectors for 30 days"
        if what
        else RESTORE
    )


def what_dreams_derived(place: Place) -> Said:
    connection = place.connection
    nodes: set[int] = {node for (node,) in connection.execute("SELECT id FROM nodes")}
    for node, body, crc in connection.execute("SELECT node, body, crc FROM expansions"):
        if node not in nodes:
            yield Problem(f"the expansion of row {node} has no memory", CHANGED_OUTSIDE)
        try:
            expansion = derived.read_expansion(body, crc, node)
        except DreamsvcError as error:
            yield Problem(error.message, NEXT_NIGHT)
            continue
        if not derived.is_sound(expansion):
            yield Problem(f"the expansion of row {node} has numbers that cannot be counted with", NEXT_NIGHT)
        for peer in expansion.peers:
            if peer not in nodes:
                yield Problem(f"the expansion of row {node} names row {peer} as a peer, which there is not", NEXT_NIGHT)
    for node, body, crc in connection.execute("SELECT node, body, crc FROM positions"):
        if node not in nodes:
            yield Problem(f"the position of row {node} has no memory", CHANGED_OUTSIDE)
        if zlib.crc32(body) != crc:
            yield Problem(f"the position of row {node} does not match its checksum", NEXT_NIGHT)
        elif len(body) % 4 or not derived.is_in_ball(derived.read_point(body)):
            yield Problem(f"the position of row {node} is not inside the ball", NEXT_NIGHT)


def what_stands_for_others(place: Place) -> Said:
    connection = place.connection
    query = (
        "SELECT f.id FROM nodes f LEFT JOIN nodes c ON c.id = f.merged_into AND c.space = f.space"
        f" WHERE f.role = {FACET} AND f.deleted_us IS NULL"
        f" AND NOT ifnull(c.role = {CONTAINER} AND c.deleted_us IS NULL, 0)"
    )
    for (node,) in connection.execute(query):
        yield Problem(f"facet {node} lies in no living container", RESTORE)
    query = f"SELECT id FROM nodes WHERE role IN ({FOLDED}, {REPLACED}) AND deleted_us IS NULL"
    for (node,) in connection.execute(query):
        yield Problem(f"row {node} is stood for by another and is not hidden", RESTORE)
    query = (
        f"SELECT id FROM nodes WHERE (role IN ({FACET}, {FOLDED})) <> (merged_into IS NOT NULL) AND role <> {REPLACED}"
    )
    for (node,) in connection.execute(query):
        yield Problem(f"row {node} does not say what stands for it, or says so without need", RESTORE)
    merged_into = dict(connection.execute("SELECT id, merged_into FROM nodes WHERE merged_into IS NOT NULL"))
    for node in _circles(merged_into):
        yield Problem(f"row {node} stands for itself in the end", RESTORE)


def _circles(merged_into: dict[int, int]) -> list[int]:
    found: list[int] = []
    sound: set[int] = set()
    for start in merged_into:
        way: dict[int, None] = {}
        at = start
        while at in merged_into and at not in sound and at not in way:
            way[at] = None
            at = merged_into[at]
        if at in way:
            found.append(at)
        sound.update(way)
    return found


def what_is_forgotten(place: Place) -> Said:
    """I12: what can still be restored has its content, what was purged has none."""
    connection = place.connection
    query = "SELECT id FROM nodes WHERE purged = 1 AND (deleted_us IS NULL OR text <> '' OR title <> '')"
    for (node,) in connection.execute(query):
        yield Problem(f"row {node} was purged and still has content", CHANGED_OUTSIDE)
    told = [json.loads(detail) for (detail,) in connection.execute("SELECT detail FROM audit WHERE action = 'purge'")]
    # An older dreamsvc did not say up to when it purged.
    if all("hidden_before_us" in one for one in told):
        latest_us = max((one["hidden_before_us"] for one in told), default=0)
        for (node,) in connection.execute("SELECT id FROM nodes WHERE purged = 1 AND deleted_us >= ?", (latest_us,)):
            yield Problem(f"row {node} was purged while it could still be restored", RESTORE)
    query = "SELECT n.id FROM nodes n JOIN node_versions v ON v.node = n.id WHERE n.purged = 1"
    for (node,) in connection.execute(query):
        yield Problem(f"row {node} was purged and what it said before is still there", CHANGED_OUTSIDE)


def edges(place: Place) -> Said:
    connection = place.connection
    query = (
        "SELECT e.id FROM edges e JOIN nodes s ON s.id = e.source JOIN nodes t ON t.id = e.target"
        " WHERE e.deleted_us IS NULL AND (s.deleted_us IS NOT NULL OR t.deleted_us IS NOT NULL)"
    )
    for (edge,) in connection.execute(query):
        yield Problem(f"edge {edge} is alive and has a forgotten end", "forget that end again, or restore it")
    query = "SELECT e.id FROM edges e JOIN nodes n ON n.id = e.hidden_by WHERE n.deleted_us IS NULL"
    for (edge,) in connection.execute(query):
        yield Problem(f"edge {edge} waits for a memory that is not forgotten", "forget that memory and restore it")
    query = (
        "SELECT e.id FROM edges e JOIN nodes s ON s.id = e.source JOIN nodes t ON t.id = e.target"
        " WHERE s.space <> e.space OR t.space <> e.space"
    )
    for (edge,) in connection.execute(query):
        yield Problem(f"edge {edge} leads to another space", RESTORE)
