"""Builds the live graph of a space from the rows of the store."""

import json
import logging
from itertools import batched

import numpy as np
from numpy.typing import NDArray

from dreamsvc.errors import StoreCorrupt
from dreamsvc.memory.graph import NEVER, NewEdge, NewNode, SpaceGraph
from dreamsvc.memory.rows import unpack_vector
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection

SLICE = 20_000

logger = logging.getLogger(__name__)


def load(connection: Connection, space: Space) -> SpaceGraph:
    """All of a space; a damaged vector is left out and logged, `dreamsvc doctor` names it."""
    graph = SpaceGraph()
    _load_nodes(connection, space, graph)
    _load_vectors(connection, space, graph)
    _load_edges(connection, space, graph)
    return graph


def _load_nodes(connection: Connection, space: Space, graph: SpaceGraph) -> None:
    cursor = connection.execute(
        "SELECT id, deleted_us IS NULL, kind, title, text, aliases, importance, created_us, ifnull(event_us, ?),"
        " ifnull(accessed_us, ?) FROM nodes WHERE space = ? ORDER BY id",
        (NEVER, NEVER, space.id),
    )
    for rows in batched(cursor, SLICE):
        graph.add_nodes([NewNode._make((*row[:5], json.loads(row[5]), *row[6:])) for row in rows])


def _load_vectors(connection: Connection, space: Space, graph: SpaceGraph) -> None:
    cursor = connection.execute(
        "SELECT v.node, v.body, v.crc FROM vectors v JOIN nodes n ON n.id = v.node"
        " WHERE n.space = ? AND length(v.body) > 0 ORDER BY v.node",
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


def _load_edges(connection: Connection, space: Space, graph: SpaceGraph) -> None:
    cursor = connection.execute(
        "SELECT id, source, target, weight, confidence, deleted_us IS NULL FROM edges WHERE space = ? ORDER BY id",
        (space.id,),
    )
    for rows in batched(cursor, SLICE * 5):
        graph.add_edges([NewEdge(*row[:5], alive=bool(row[5])) for row in rows])
