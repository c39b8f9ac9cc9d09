"""Memories whose text has no vector yet: which they are, and how they come to one."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.memory import rows, spaces, standing
from dreamsvc.memory.graph import words_of
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection, next_seq

# A container has a centroid, and what it holds has codes.
_WAITS = (
    f"space=? AND deleted_us IS NULL AND role={standing.PLAIN}"
    " AND NOT EXISTS (SELECT 1 FROM vectors WHERE node=nodes.id)"
)


class Waiting(NamedTuple):
    """A memory whose text has no vector yet."""

    node: int
    text: str


def count(connection: Connection, space: Space) -> int:
    row = connection.execute(f"SELECT count(*) FROM nodes WHERE {_WAITS}", (space.id,)).fetchone()
    return int(row[0])


def page(connection: Connection, space: Space, after: int, limit: int) -> list[Waiting]:
    """By row id from `after` on."""
    query = f"SELECT id, title, text FROM nodes WHERE {_WAITS} AND id>? ORDER BY id LIMIT ?"
    found = connection.execute(query, (space.id, after, limit)).fetchall()
    return [Waiting(node, words_of(title, text)) for node, title, text in found]


def put(
    connection: Connection,
    space: Space,
    embedder: str,
    dimension: int,
    made: Mapping[int, NDArray[np.float32]],
    texts: Mapping[int, str],
) -> dict[int, bytes]:
    """Stores the vectors that an embedder made of texts, where text and vector are still as they were; gives those.

    A zero vector marks a text that has none. Raises EmbedderMismatch.
    """
    spaces.accept_vectors(connection, space, embedder, dimension)
    present = {row[0] for row in rows.chosen(connection, "SELECT node FROM vectors WHERE node IN (%s)", made)}
    # What lies in a container is read by its code, and a memory that a night made may be gone with it.
    query = (
        f"SELECT id, title, text FROM nodes WHERE role NOT IN ({standing.CONTAINER}, {standing.FACET})"
        " AND purged=0 AND id IN (%s)"
    )
    now = {node: words_of(title, text) for node, title, text in rows.chosen(connection, query, made)}
    packed = {
        node: rows.pack_vector(vector, "vector") if vector.any() else b""
        for node, vector in made.items()
        if node not in present and now.get(node) == texts[node]
    }
    rows.put_vectors(connection, packed)
    seq = next_seq(connection)
    connection.executemany("UPDATE nodes SET seq=? WHERE id=?", ((seq, node) for node in packed))
    return packed
