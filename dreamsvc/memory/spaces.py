"""Spaces: memories of one owner, isolated from all others."""

from typing import NamedTuple

from dreamsvc.errors import EmbedderMismatch, NotFound, Violation, invalid
from dreamsvc.memory.sqlite import Connection

CLIENT = "client"
"""Embedder of a space whose vectors its clients send."""


class Space(NamedTuple):
    id: int
    name: str
    dimension: int  # 0 until the first vector
    embedder: str  # '' until the first vector


def find(connection: Connection, name: str) -> Space:
    """Raises NotFound."""
    row = connection.execute("SELECT id, name, dimension, embedder FROM spaces WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound(f'there is no space "{name}"; Remember or Import makes one')
    return Space(*row)


def find_or_make(connection: Connection, name: str, now_us: int) -> Space:
    connection.execute("INSERT INTO spaces (name, created_us) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, now_us))
    return find(connection, name)


def all_of(connection: Connection) -> list[Space]:
    return [Space(*row) for row in connection.execute("SELECT id, name, dimension, embedder FROM spaces ORDER BY id")]


def accept_vectors(connection: Connection, space: Space, embedder: str, dimension: int) -> Space:
    """Fixes the kind of vectors of a space at the first one; raises EmbedderMismatch for another kind later."""
    if space.dimension == 0:
        connection.execute(
            "UPDATE spaces SET dimension = ?, embedder = ? WHERE id = ?", (dimension, embedder, space.id)
        )
        return space._replace(dimension=dimension, embedder=embedder)
    if space.embedder != embedder:
        raise EmbedderMismatch(
            f'the vectors of space "{space.name}" were made by {space.embedder}, these by {embedder}; '
            "distances between the two mean nothing"
        )
    return space


def check_dimension(space: Space, path: str, size: int) -> None:
    if space.dimension and size != space.dimension:
        raise invalid(path, f'has {size} values; the vectors of space "{space.name}" have {space.dimension}')


def wrong_dimension(dimension: int, path: str, size: int) -> Violation:
    return Violation(path, f"has {size} values; the first vector has {dimension}")
