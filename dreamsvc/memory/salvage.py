"""Makes a sound store of what a damaged one still holds; the damaged one is only read.

What a checksum refuses may be whole all the same: a program that does not know of checksums moved the log into the
file, or one bit of the log itself is wrong. All that SQLite can read is copied, every page gets a checksum, and the
copy counts only if the doctor finds nothing wrong with it. Whether a text is the one that was written is vouched for by
its page's checksum and nothing else, so it is told how many pages had none that fits.
"""

import contextlib
from pathlib import Path
from typing import NamedTuple

from dreamsvc.errors import StoreCorrupt, StoreUnavailable
from dreamsvc.memory import doctor, giving_way, replacing, shelf, sqlite, write_log
from dreamsvc.memory.giving_way import Parts, Progress

# How long it takes to read all pages, to copy them and to look at the copy, in parts of each other.
_PARTS = (1, 2, 8)


class Salvaged(NamedTuple):
    """What came of it."""

    store: Path
    pages: int
    # Pages whose checksum does not fit: what they hold was taken as it is.
    unvouched: int
    # What is wrong with the log, of which all before that was taken; '' where nothing is.
    log: str
    memories: int
    edges: int


def salvage(source: Path, target: Path, *, progress: Progress | None = None) -> Salvaged:
    """Raises StoreUnavailable (the target is there, no space, no store) or StoreCorrupt where too much is damaged.

    Then nothing is left of the target, and a backup or what `dreamsvc export --from` still reads is the way.
    """
    if not source.is_file():
        raise StoreUnavailable(f"there is no store at {source}; name it with --store")
    if target.exists():
        raise StoreUnavailable(f"{target} is there already and is never overwritten; name another one")
    told = Parts(progress, *_PARTS)
    try:
        log = write_log.look(replacing.real(source)).damage
        pages, unvouched = sqlite.pages_without_checksum(source, told.next())
        with shelf.unfinished(target) as aside:
            made = aside / "memory.db"
            _copy(source, made, told.next())
            memories, edges = _looked_over(made, told.next())
            replacing.sync(made)
            made.rename(target)
            replacing.sync(target.parent)
            aside.rmdir()
    except OSError as error:
        raise StoreUnavailable(f"{target}: nothing was salvaged: {error}") from error
    return Salvaged(target, pages, unvouched, log, memories, edges)


def _copy(source: Path, target: Path, tell: Progress) -> None:
    with contextlib.closing(sqlite.open_unchecked(source)) as connection, sqlite.translated():
        connection.execute("BEGIN")
        # The moment begins with the first read, not with BEGIN.
        giving_way.require_room(target.parent, sqlite.file_bytes(connection))
        for done, total in sqlite.copy_pages(connection, target):
            tell(done, total)


def _looked_over(made: Path, tell: Progress) -> tuple[int, int]:
    """Memories and edges of a copy that is in order."""
    found = doctor.examine(str(made), progress=lambda _, number, total: tell(number, total))
    if wrong := [f"{one.name}: {one.detail}" for one in found if not one.ok and one.name != doctor.LEFT_OVER]:
        raise StoreCorrupt(f"what can be read is not in order, nothing was salvaged: {'; '.join(wrong)}")
    with contextlib.closing(sqlite.open_read_only(made)) as connection, sqlite.translated():
        memories, edges = (
            connection.execute(f"SELECT count(*) FROM {table} WHERE deleted_us IS NULL").fetchone()[0]
            for table in ("nodes", "edges")
        )
    return memories, edges
