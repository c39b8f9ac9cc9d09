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


def absent(name: str) -> NotFound:
    """The error for a space that is not there, or that the caller may not know of."""
    return NotFound(f'there is no space "{name}"; Remember or Import makes one')


def find(connection: Connection, name: str) -> Space:
    """Raises NotFound."""
    row = connection.execute("SELECT id, name, dimension, embedder FROM spaces WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise absent(name)
    return Space(*row)


def find_or_make(connection: Connection, name: str, now_us: int) -> Space:
    connection.execute("INSERT INTO spaces (name, created_us) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, now_us))
    return find(connection, name)


# A space that an import announced and nothing was ever put into; only the default one is made in another way.
_ANNOUNCED = (
    "name <> 'default' AND NOT EXISTS (SELECT 1 FROM nodes WHERE space = spaces.id) AND NOT EXISTS"
    " (SELECT 1 FROM changes WHERE space = spaces.id AND (kind <> 'import' OR state IN ('sealed', 'folded')))"
)


def all_of(connection: Connection) -> list[Space]:
    query = f"SELECT id, name, dimension, embedder FROM spaces WHERE NOT ({_ANNOUNCED}) ORDER BY id"
    return [Space(*row) for row in connection.execute(query)]


def forget_announced(connection: Connection, space: int) -> None:
    """Takes a space back that was made for imports, once the last of them is dropped and it holds nothing."""
    waiting = "SELECT 1 FROM changes WHERE space = ?1 AND state = 'staging'"
    if connection.execute(
        f"SELECT 1 FROM spaces WHERE id = ?1 AND {_ANNOUNCED} AND NOT EXISTS ({waiting})", (space,)
    ).fetchone():
        connection.execute("DELETE FROM changes WHERE space = ?", (space,))
        connection.execute("DELETE FROM spaces WHERE id = ?", (space,))


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
    if space.dimension != dimension:
        raise EmbedderMismatch(
            f'the vectors of space "{space.name}" have {space.dimension} values, these have {dimension}'
        )
    return space


def check_dimension(space: Space, path: str, size: int) -> None:
    if space.dimension and size != space.dimension:
        raise invalid(path, f'has {size} values; the vectors of space "{space.name}" have {space.dimension}')


def wrong_dimension(dimension: int, path: str, size: int) -> Violation:
    return Violation(path, f"has {size} values; the first vector has {dimension}")


def count_changes(connection: Connection, space: Space, count: int) -> None:
    """Notes that users changed so many memories and edges; an interrupted dream is judged by it."""
    connection.execute("UPDATE spaces SET user_changes = user_changes + ? WHERE id = ?", (count, space.id))
