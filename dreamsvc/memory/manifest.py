"""What a backup says of itself: what it holds, of which moment of which store, and the checksum of its file.

It is JSON for people and programs, closed by a checksum of its own.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from dreamsvc.clock import from_iso, iso
from dreamsvc.errors import StoreCorrupt, StoreUnavailable
from dreamsvc.memory import export, spaces
from dreamsvc.memory.sqlite import SCHEMA_VERSION, Connection, change_seq, schema_of

FORMAT = 1
NAME = "manifest.json"


class SpaceContent(NamedTuple):
    """What lives in a space; the digest is that of its export."""

    name: str
    memories: int
    edges: int
    dreams: int
    digest: str


class Content(NamedTuple):
    """What a database holds at a moment."""

    schema: int
    change_seq: int
    # When the store was made; it tells one store from another wherever it lies. 0 for one that nobody used yet.
    begun_us: int
    # Rows of every table.
    tables: dict[str, int]
    # Empty where an older schema keeps this version from reading it.
    spaces: tuple[SpaceContent, ...]


class Manifest(NamedTuple):
    content: Content
    made_us: int
    # The dreamsvc that made it, and the store it was made of: host and path.
    version: str
    host: str
    source: str
    # Of the database file.
    bytes: int
    sha256: str

    @property
    def is_older(self) -> bool:
        """Of a store that the next start upgrades; what is in it nobody looked at."""
        return self.content.schema < SCHEMA_VERSION

    @property
    def memories(self) -> int:
        return sum(space.memories for space in self.content.spaces)

    @property
    def edges(self) -> int:
        return sum(space.edges for space in self.content.spaces)


def outline_of(connection: Connection) -> Content:
    """What takes no reading of every memory: `spaces` is empty."""
    names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    tables = {name: _number(connection, f'SELECT count(*) FROM "{name}"') for (name,) in connection.execute(names)}
    begun_us = _number(connection, "SELECT min(created_us) FROM spaces")
    return Content(schema_of(connection), change_seq(connection), begun_us, tables, ())


def content_of(connection: Connection, line_read: Callable[[int, int], None]) -> Content:
    """Reads all of one moment; `line_read` hears how many memories and edges there were, of about how many."""
    outline = outline_of(connection)
    if outline.schema != SCHEMA_VERSION:
        return outline
    found: list[SpaceContent] = []
    read, total = 0, outline.tables["nodes"] + outline.tables["edges"]
    for space in spaces.all_of(connection):
        counts = {"space": 0, "memory": 0, "edge": 0}
        digest = hashlib.sha256()
        for kind, line in export.lines(connection, space):
            counts[kind] += 1
            digest.update(line)
            read += 1
            line_read(read, total)
        nights = _number(connection, f"SELECT count(*) FROM changes WHERE kind = 'dream' AND space = {space.id}")
        found.append(SpaceContent(space.name, counts["memory"], counts["edge"], nights, digest.hexdigest()))
    line_read(total, total)
    return outline._replace(spaces=tuple(found))


def write(directory: Path, manifest: Manifest) -> None:
    (directory / NAME).write_text(text_of(manifest))


def read(directory: Path) -> Manifest:
    """Raises StoreUnavailable for what is no backup or a newer one's, StoreCorrupt where a byte of it changed."""
    path = directory / NAME
    try:
        body = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        what = "does not exist" if not directory.exists() else f"is no backup: there is no {NAME} in it"
        raise StoreUnavailable(f"{directory} {what}; `dreamsvc backup --list` shows those there are") from None
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error
    damaged = StoreCorrupt(f"{path} is damaged; use another backup")
    try:
        told = json.loads(body)
        number, sealed = told.pop("format"), told.pop("manifest_sha256")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise damaged from None
    # Also a newer format is sealed so.
    if sealed != seal(number, told):
        raise damaged
    if number != FORMAT:
        raise StoreUnavailable(
            f"{directory} was made by a newer dreamsvc (format {number}, this one knows {FORMAT}); upgrade"
        )
    try:
        manifest = _read(told)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise damaged from None
    # Not a byte may differ, though it reads the same.
    if body != text_of(manifest).encode():
        raise damaged
    return manifest


def text_of(manifest: Manifest) -> str:
    told = to_dict(manifest)
    return json.dumps({"format": FORMAT, **told, "manifest_sha256": seal(FORMAT, told)}, indent=1) + "\n"


def to_dict(manifest: Manifest) -> dict[str, Any]:
    content = manifest.content
    return {
        "made_at": iso(manifest.made_us),
        "dreamsvc": manifest.version,
        "host": manifest.host,
        "store": manifest.source,
        "store_begun_at": iso(content.begun_us),
        "schema": content.schema,
        "change_seq": content.change_seq,
        "bytes": manifest.bytes,
        "sha256": manifest.sha256,
        "spaces": [space._asdict() for space in content.spaces],
        "tables": content.tables,
    }


def _read(told: dict[str, Any]) -> Manifest:
    found = tuple(SpaceContent(**space) for space in told["spaces"])
    begun_us, made_us = from_iso(told["store_begun_at"]), from_iso(told["made_at"])
    content = Content(int(told["schema"]), int(told["change_seq"]), begun_us, dict(told["tables"]), found)
    return Manifest(content, made_us, told["dreamsvc"], told["host"], told["store"], int(told["bytes"]), told["sha256"])


def seal(number: Any, told: dict[str, Any]) -> str:
    """The checksum that closes a manifest."""
    return hashlib.sha256(json.dumps({"format": number, **told}, sort_keys=True).encode()).hexdigest()


def _number(connection: Connection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return int(row[0] or 0)
