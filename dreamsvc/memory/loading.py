"""Builds the live graph of a space from the rows of the store."""

import json
from itertools import batched

import numpy as np

from dreamsvc.memory.graph import NEVER, NewEdge, NewNode, SpaceGraph
from dreamsvc.memory.rows import unpack_vector
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection

SLICE = 20_000


def load(connection: Connection, space: Space) -> SpaceGraph:
    """Raises StoreCorrupt where a vector does not match its checksum."""
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
        vectors = np.stack([unpack_vector(body, crc, node) for node, body, crc in rows])
        graph.set_vectors([row[0] for row in rows], vectors.astype(np.float32))


def _load_edges(connection: Connection, space: Space, graph: SpaceGraph) -> None:
    cursor = connection.execute(
        "SELECT id, source, target, weight, confidence, deleted_us IS NULL FROM edges WHERE space = ? ORDER BY id",
        (space.id,),
    )
    for rows in batched(cursor, SLICE * 5):
        graph.add_edges([NewEdge(*row[:5], alive=bool(row[5])) for row in rows])
