"""Builds the live graph of a space from the rows of the store."""

import logging
from itertools import batched

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.v1.operations_pb2 import Expansion
from dreamsvc.errors import StoreCorrupt
from dreamsvc.memory import derived, standing
from dreamsvc.memory.edges import SUPERSEDES
from dreamsvc.memory.graph import NEVER, NewEdge, NewNode, SpaceGraph
from dreamsvc.memory.rows import read_aliases, unpack_vector
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection
from dreamsvc.memory.standing import CONTAINER, PLAIN

SLICE = 20_000

logger = logging.getLogger(__name__)


def load(connection: Connection, space: Space) -> SpaceGraph:
    """All of a space; a damaged vector or expansion is left out and logged, `dreamsvc doctor` names it."""
    graph = SpaceGraph()
    _load_nodes(connection, space, graph)
    _load_vectors(connection, space, graph)
    _load_containers(connection, space, graph)
    _load_expansions(connection, space, graph)
    _load_edges(connection, space, graph)
    return graph


def _load_nodes(connection: Connection, space: Space, graph: SpaceGraph) -> None:
    cursor = connection.execute(
        "SELECT id, deleted_us IS NULL, kind, title, text, aliases, importance, created_us, ifnull(event_us, ?),"
        " ifnull(accessed_us, ?), role, ifnull(merged_into, ?), ifnull(event_end_us, ?) FROM nodes WHERE space = ?"
        " ORDER BY id",
        (NEVER, NEVER, NEVER, NEVER, space.id),
    )
    for rows in batched(cursor, SLICE):
        graph.add_nodes([NewNode._make((*row[:5], _aliases(row[0], row[5]), *row[6:])) for row in rows])


def _aliases(node: int, text: str) -> list[str]:
    try:
        return read_aliases(text)
    except ValueError:
        logger.error("the aliases of memory row %d cannot be read; it is found without them", node)
        return []


def _load_vectors(connection: Connection, space: Space, graph: SpaceGraph) -> None:
    cursor = connection.execute(
        "SELECT v.node, v.body, v.crc FROM vectors v JOIN nodes n ON n.id = v.node"
        # What lies in a container is read by its code.
        f" WHERE n.space = ? AND n.role = {PLAIN} AND n.deleted_us IS NULL AND length(v.body) > 0 ORDER BY v.node",
        (space.id,),
    )
    for rows in batched(cursor, SLICE):
        whole: dict[int, NDArray[np.float16]] = {}
        for node, body, crc in rows:
            try:
                whole[node] = unpack_vector(body, crc, node)
            except StoreCorrupt as error:
                # One damaged vector must not keep all other memories from being found; its own is found by words.
                logger.error("%s", error.message)
        if whole:
            graph.set_vectors(list(whole), np.stack(list(whole.values())).astype(np.float32))


def _load_expansions(connection: Connection, space: Space, graph: SpaceGraph) -> None:
    cursor = connection.execute(
        "SELECT x.body, x.crc, x.node FROM expansions x JOIN nodes n ON n.id = x.node WHERE n.space = ?"
        " AND n.deleted_us IS NULL ORDER BY x.node",
        (space.id,),
    )
    for rows in batched(cursor, SLICE):
        whole: list[Expansion] = []
        for row in rows:
            try:
                whole.append(derived.read_expansion(*row))
            except StoreCorrupt as error:
                logger.error("%s", error.message)
        graph.set_expansions(whole)


def _load_edges(connection: Connection, space: Space, graph: SpaceGraph) -> None:
    cursor = connection.execute(
        "SELECT id, source, target, weight, confidence, deleted_us IS NULL, type,"
        " type IS (SELECT id FROM edge_types WHERE name = ?) FROM edges WHERE space = ? ORDER BY id",
        (SUPERSEDES, space.id),
    )
    for rows in batched(cursor, SLICE * 5):
        graph.add_edges([NewEdge._make((*row[:5], bool(row[5]), row[6], bool(row[7]))) for row in rows])


def _load_containers(connection: Connection, space: Space, graph: SpaceGraph) -> None:
    cursor = connection.execute(
        f"SELECT id FROM nodes WHERE space = ? AND role = {CONTAINER} AND deleted_us IS NULL ORDER BY id", (space.id,)
    )
    for rows in batched(cursor.fetchall(), SLICE):
        ids = [row[0] for row in rows]
        try:
            graph.add_containers(standing.containers(connection, ids))
        except StoreCorrupt:
            for container in ids:
                try:
                    graph.add_containers(standing.containers(connection, [container]))
                except StoreCorrupt as error:
                    # Its facets are found by words.
                    logger.error("%s", error.message)
