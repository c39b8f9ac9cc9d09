"""Counts of a space as the store holds them."""

from typing import NamedTuple

from dreamsvc.facet_codes import code_bytes
from dreamsvc.memory import blind_spots, coactivation, spaces
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection, change_seq
from dreamsvc.memory.standing import CONTAINER, FACET, FOLDED, PLAIN, REPLACED
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse


class Size(NamedTuple):
    """How large a memory is, in the terms of a compression."""

    active: int  # memories that stand for themselves, and containers
    facets: int
    containers: int
    # As queries read them: float32 numbers, for containers int8 numbers and a step, for facets codes and a scale.
    vector_bytes: int
    text_bytes: int
    linked: int  # pairs of active memories that an edge joins


def stats(connection: Connection, space: Space) -> GetStatsResponse:
    living = "FROM nodes WHERE space=? AND deleted_us IS NULL"
    vectors = "FROM vectors v JOIN nodes n ON n.id=v.node WHERE n.space=? AND n.deleted_us IS NULL"
    number = _Numbers(connection, space.id)
    now = size(connection, space)
    return GetStatsResponse(
        space=space.name,
        memories=now.active - now.containers + now.facets,
        memories_forgotten=number.of(
            "SELECT count(*) FROM nodes WHERE space=? AND deleted_us IS NOT NULL"
            f" AND purged=0 AND role NOT IN ({FOLDED}, {REPLACED})"
        ),
        edges=number.of("SELECT count(*) FROM edges WHERE space=? AND deleted_us IS NULL"),
        edges_pruned=number.of(
            "SELECT count(*) FROM edges WHERE space=? AND deleted_us IS NOT NULL AND hidden_by IS NULL"
        ),
        vectors=number.of(
            f"SELECT count(*) {living} AND role IN ({PLAIN}, {FACET}) AND (EXISTS (SELECT 1 FROM vectors v"
            " WHERE v.node=nodes.id AND length(v.body) > 0) OR EXISTS (SELECT 1 FROM packed_vectors p"
            " WHERE p.node=nodes.id))"
        ),
        dimension=space.dimension,
        embedder=space.embedder,
        vector_bytes=now.vector_bytes,
        text_bytes=now.text_bytes,
        dreams=number.of("SELECT count(*) FROM changes WHERE kind='dream' AND space=?"),
        change_seq=change_seq(connection),
        spaces=[other.name for other in spaces.all_of(connection)],
        containers=now.containers,
        facets=now.facets,
        folded=number.of(
            f"SELECT count(*) FROM nodes WHERE space=? AND role IN ({FOLDED}, {REPLACED}) AND purged=0"
            " AND deleted_us IS NOT NULL"
        ),
        kept_vector_bytes=number.of(f"SELECT sum(length(v.body)) {vectors} AND n.role={FACET}"),
        pinned=number.of(f"SELECT count(*) {living} AND pinned=1"),
        placed=number.of(f"SELECT count(*) {living} AND EXISTS (SELECT 1 FROM positions p WHERE p.node=nodes.id)"),
        expanded=number.of(f"SELECT count(*) {living} AND EXISTS (SELECT 1 FROM expansions x WHERE x.node=nodes.id)"),
        blind_spots=blind_spots.count(connection, space),
        coactivations=coactivation.count(connection, space),
    )


def size(connection: Connection, space: Space) -> Size:
    number = _Numbers(connection, space.id)
    living = "FROM nodes WHERE space=? AND deleted_us IS NULL AND role="
    plain, containers, facets = (number.of(f"SELECT count(*) {living}{role}") for role in (PLAIN, CONTAINER, FACET))
    dimension = space.dimension
    whole = number.of(
        f"SELECT count(*) {living}{PLAIN} AND EXISTS (SELECT 1 FROM vectors v WHERE v.node=nodes.id"
        " AND length(v.body) > 0)"
    )
    codes = 0
    for bits in (1, 2, 4, 8):
        count = number.of(
            f"SELECT count(*) {living}{FACET} AND EXISTS (SELECT 1 FROM packed_vectors p WHERE p.node=nodes.id"
            f" AND p.bits={bits})"
        )
        codes += count * (code_bytes(dimension, bits) + 2)
    return Size(
        active=plain + containers,
        facets=facets,
        containers=containers,
        vector_bytes=whole * 4 * dimension + containers * (dimension + 4) + codes,
        text_bytes=number.of(
            "SELECT sum(length(CAST(title AS BLOB)) + length(CAST(text AS BLOB))) FROM nodes WHERE space=?"
            " AND deleted_us IS NULL"
        ),
        linked=number.of(_LINKED),
    )


# Facets are looked at as their container.
_LINKED = f"""
SELECT count(*) FROM (
    SELECT DISTINCT min(a, b), max(a, b) FROM (
        SELECT iif(s.role = {FACET}, s.merged_into, s.id) AS a, iif(t.role = {FACET}, t.merged_into, t.id) AS b
        FROM edges e JOIN nodes s ON s.id = e.source JOIN nodes t ON t.id = e.target
        WHERE e.space = ? AND e.deleted_us IS NULL
    ) WHERE a <> b
)
"""


class _Numbers:
    def __init__(self, connection: Connection, space: int) -> None:
        self._connection = connection
        self._space = space

    def of(self, sql: str) -> int:
        row = self._connection.execute(sql, (self._space,)).fetchone()
        return int(row[0] or 0) if row is not None else 0
