"""Backups: a verified copy of one moment of a store, made beside a running server, and the way back.

A backup is a directory with two files: `memory.db`, a database that needs no log beside it, and `manifest.json`. It is
made under another name and gets its own only once everything in it was read back and found to be what the store held
at that moment, so a directory with a manifest and a proper name is whole.

Meanwhile a read transaction is held on the store, for as long as it takes to copy it and to look once at every row,
and as long again for rests. No recall and no write waits for it, but the log of the store cannot be begun anew until
then, and so grows by all that is written. Past HURRY_BYTES the rests are left out, past MOST_LOG_BYTES the backup is
given up. What is read after that is the copy.

    0 3 * * *  nice dreamsvc backup --keep 7

makes one a night from cron; a systemd timer with `OnCalendar=03:00` does the same with
`ExecStart=dreamsvc backup --keep 7` and `Nice=10` in its service.
"""

import contextlib
import hashlib
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dreamsvc import __version__, clock
from dreamsvc.errors import StoreCorrupt, StoreUnavailable
from dreamsvc.memory import audit, doctor, giving_way, locking, manifest, replacing, shelf, sqlite
from dreamsvc.memory.giving_way import Parts, Progress
from dreamsvc.memory.manifest import Content, Manifest
from dreamsvc.memory.sqlite import Connection

DATABASE = "memory.db"
SYNC_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20
# How long it takes to sum a file up, to have the doctor look at it, and to read all of it, in parts of each other.
_CHECKS = (1, 8, 12)


class Restored(NamedTuple):
    manifest: Manifest
    store: Path
    # The store that was there before.
    kept: Path | None


# ── making ──────────────────────────────────────────────────────────────────────


def make(source: Path, target: Path, *, now_us: int, progress: Progress | None = None) -> Manifest:
    """Copies a moment of a store, also of one that a server has open or that an older dreamsvc left.

    Raises StoreUnavailable (the target is there, no space, no store) or StoreCorrupt (the store or its copy is
    damaged); then nothing is left of it.
    """
    _require_store(source)
    if target.exists():
        inside = f", e.g. {target / shelf.default_target(source, now_us).name}" if target.is_dir() else ""
        raise StoreUnavailable(f"{target} is there already and is never overwritten; name another one{inside}")
    told = Parts(progress, 1, 2, 2, *_CHECKS)
    try:
        with shelf.unfinished(target) as aside:
            _copy(source, aside / DATABASE, told)
            size, sha256 = _size_and_sha256(aside / DATABASE, told.next())
            content = _verified(aside / DATABASE, told)
            # SQLite says nothing where it could not end a log.
            if left := [one.name for one in aside.iterdir() if one.name != DATABASE]:
                raise StoreUnavailable(f"{', '.join(left)} was left beside the copy; is the disk in order?")
            made = Manifest(content, now_us, __version__, platform.node(), str(source.absolute()), size, sha256)
            manifest.write(aside, made)
            replacing.sync(aside / manifest.NAME)
            replacing.sync(aside)
            # An empty directory that came meanwhile would be replaced, any other refuses.
            aside.rename(target)
            replacing.sync(target.parent)
    except OSError as error:
        raise StoreUnavailable(f"{target}: no backup was made: {error}") from error
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{target}: no backup was made: {error.message}") from error
    except StoreCorrupt as error:
        raise StoreCorrupt(
            f"{source}: no backup was made, as what was read is not in order ({error.message});"
            f" `dreamsvc doctor --store {source}` tells whether the store is"
        ) from error
    return made


def _copy(source: Path, target: Path, told: Parts) -> None:
    """Writes the database of a moment, and makes sure that its rows are those the store held at it."""
    with contextlib.closing(sqlite.open_read_only(source, oldest=1)) as connection, sqlite.translated():
        connection.execute("BEGIN")
        # The moment begins with the first read, not with BEGIN.
        need = sqlite.file_bytes(connection)
        giving_way.require_room(target.parent, need)
        rest = giving_way.Rest(source)
        handle = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            unsynced = 0
            tell = told.next()
            before = 0
            for done, total in sqlite.copy_pages(connection, target):
                unsynced += (done - before) * need // total
                before = done
                if unsynced > SYNC_BYTES:
                    # In small pieces: the server's own syncs wait for a large one.
                    os.fsync(handle)
                    unsynced = 0
                tell(done, total)
                rest.take()
            for log in ("-wal", "-shm"):
                # SQLite says nothing where it could not remove them, and the copy is no whole one with them.
                target.with_name(target.name + log).unlink(missing_ok=True)
            os.fsync(handle)
        finally:
            # Not earlier: closing a file ends the locks that SQLite has on it.
            os.close(handle)
        held = _digest_of_rows(connection, told.next(), rest.take)
    # From here on nothing holds the log of the store.
    with contextlib.closing(sqlite.open_read_only(target, oldest=1)) as copy, sqlite.translated():
        if _digest_of_rows(copy, told.next(), giving_way.Rest(None).take) != held:
            raise StoreCorrupt("the copy is not what the store held; is the disk of the backup in order?")


def _digest_of_rows(connection: Connection, tell: Progress, rest: Callable[[], None]) -> str:
    """Of all that a database holds, also what no export shows; it is compared and not kept."""
    outline = manifest.outline_of(connection)
    digest = hashlib.sha256(repr(outline).encode())
    done, total = 0, sum(outline.tables.values())
    for table in outline.tables:
        for row in connection.execute(f'SELECT * FROM "{table}"'):
            digest.update(repr(row).encode())
            done += 1
            if done % 100 == 0:
                rest()
                tell(done, total)
    tell(1, 1)
    return digest.hexdigest()


def _verified(database: Path, told: Parts) -> Content:
    """What a copy holds, once everything about it was found to be in order."""
    with contextlib.closing(sqlite.open_read_only(database, oldest=1)) as connection, sqlite.translated():
        if sqlite.schema_of(connection) == sqlite.SCHEMA_VERSION:
            # Work that is sealed and not folded, or taken back in part, the next start finishes.
            tell = told.next()
            found = doctor.examine(str(database), progress=lambda _, number, total: tell(number, total))
            problems = [f"{one.name}: {one.detail}" for one in found if not one.ok and one.name != doctor.LEFT_OVER]
        else:
            told.next()
            problems = [line for (line,) in connection.execute("PRAGMA integrity_check(20)") if line != "ok"]
        if problems:
            raise StoreCorrupt(f"{database}: {'; '.join(problems)}")
        return manifest.content_of(connection, told.next())


# ── checking ────────────────────────────────────────────────────────────────────


def check(backup: Path, *, progress: Progress | None = None) -> Manifest:
    """Reads all of a backup; raises StoreUnavailable for what is none and StoreCorrupt for one that is damaged."""
    return _check(backup, Parts(progress, *_CHECKS))


def _check(backup: Path, told: Parts) -> Manifest:
    made = manifest.read(backup)
    if made.content.schema > sqlite.SCHEMA_VERSION:
        raise StoreUnavailable(
            f"{backup} is of a newer dreamsvc (schema {made.content.schema}, this one knows {sqlite.SCHEMA_VERSION});"
            " upgrade"
        )
    database = backup / DATABASE
    try:
        for suffix in replacing.LOGS:
            log = database.with_name(database.name + suffix)
            if log.exists():
                raise StoreCorrupt(f"{log} is no part of the backup: something opened its database; remove that file")
        found = _size_and_sha256(database, told.next())
        if found != (made.bytes, made.sha256):
            raise StoreCorrupt(f"{database} is damaged: it is not what was verified at {clock.iso(made.made_us)}")
    except OSError as error:
        raise StoreUnavailable(f"{database}: {error.strerror}") from error
    if _verified(database, told) != made.content:
        raise StoreCorrupt(f"{backup}: the database does not hold what {manifest.NAME} says")
    return made


def _size_and_sha256(path: Path, tell: Progress) -> tuple[int, str]:
    digest = hashlib.sha256()
    total = max(1, path.stat().st_size)
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            tell(done, total)
    return done, digest.hexdigest()


# ── the way back ────────────────────────────────────────────────────────────────


def restore(backup: Path, store: Path, *, now_us: int, progress: Progress | None = None) -> Restored:
    """Puts a backup in the place of a store that no server has open, and keeps what was there.

    Raises StoreUnavailable (a server holds the store, no space, no backup, a newer one) or StoreCorrupt (a damaged
    backup); then the store is as it was. Killed at any moment, either the old store is there or the next start, or
    the same restore again, ends what was begun.
    """
    manifest.read(backup)
    store = replacing.real(store)
    if store.parent == backup.resolve():
        raise StoreUnavailable(f"{store} lies in the backup itself; name the store that it shall replace")
    if store.is_dir():
        raise StoreUnavailable(f"{store} is a directory; name the file in it that shall be replaced")
    told = Parts(progress, *_CHECKS, 1)
    with locking.held(store) as lock:
        replaced = replacing.settle(store)
        if replaced is not None:
            _note_no_log(lock)
        made = _check(backup, told)
        if replaced is not None and replaced.backup == made.sha256:
            return Restored(made, store, replaced.kept)
        try:
            giving_way.require_room(store.parent, made.bytes)
            _bring(backup / DATABASE, replacing.incoming(store), made, told.next())
            sqlite.change_alone(replacing.incoming(store), lambda c: _record(c, made, now_us))
            owned = store if store.exists() else store.parent
            if store.exists():
                shutil.copymode(store, replacing.incoming(store))
            for path in (replacing.incoming(store), locking.file_of(store)):
                replacing.own_like(path, owned)
            replacing.begin(store, made.sha256)
        except BaseException as error:
            begun = replacing.is_under_way(store)
            if not begun:
                with contextlib.suppress(OSError):
                    replacing.clear(store)
            if isinstance(error, OSError):
                then = "; the next start does what is left" if begun else ""
                raise StoreUnavailable(f"{store}: the backup cannot be put there: {error}{then}") from error
            raise
        replaced = replacing.settle(store)
        _note_no_log(lock)
        assert replaced is not None
        return Restored(made, store, replaced.kept)


def _note_no_log(lock: int) -> None:
    """What took the place of a store never had a log, whatever the one before was left with."""
    with contextlib.suppress(OSError):
        locking.note_open(lock, is_open=False)


def _bring(database: Path, incoming: Path, made: Manifest, tell: Progress) -> None:
    """Copies the database of a backup beside the store; what came is what was checked."""
    digest = hashlib.sha256()
    done = 0
    handle = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with database.open("rb") as source, os.fdopen(handle, "wb") as target:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
            done += len(chunk)
            tell(done, made.bytes)
        target.flush()
        os.fsync(target.fileno())
    if digest.hexdigest() != made.sha256:
        raise StoreCorrupt(f"{database} changed while it was restored; the store is as it was")


def _record(connection: Connection, made: Manifest, now_us: int) -> None:
    """The audit goes on where the backup ended, and says so."""
    audit.record(
        connection,
        now_us=now_us,
        actor="user",
        action="restore_backup",
        space=None,
        seq=sqlite.next_seq(connection),
        sha256=made.sha256,
        made_at=clock.iso(made.made_us),
        change_seq=made.content.change_seq,
    )


def _require_store(source: Path) -> None:
    if not source.is_file() and not replacing.is_under_way(replacing.real(source)):
        raise StoreUnavailable(f"there is no store at {source}; name it with --store")
