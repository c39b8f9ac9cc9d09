"""The only importer of the SQLite driver: connections, their errors, the schema and its upgrades.

Every page carries a checksum that SQLite's own extension checks whenever the page is read: without it a bit that
flips in a text or a weight on the disk would be read as if it were whole.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NewType, Protocol

import apsw
import apsw.sqlite_extra
from google.protobuf.message import DecodeError

from dreamsvc import clock
from dreamsvc.errors import StoreCorrupt, StoreUnavailable
from dreamsvc.memory import locking, replacing, write_log
from dreamsvc.memory.write_log import CHECKSUM_BYTES, LogState

ChangeId = NewType("ChangeId", int)
DriverError = apsw.Error

APPLICATION_ID = 0x64726D73  # "drms"
SCHEMA_VERSION = 4
# 3.7.0 to 3.51.2 can corrupt a database when a WAL is reset.
OLDEST_SQLITE = (3, 51, 3)
# The first schema whose pages end in a checksum.
CHECKED_SINCE = 4
CHECKSUM_VFS = "cksmvfs"
# The largest number that a column holds; a sum beyond it would be no whole number any more.
MOST_COUNTED = 2**63 - 1
# How long one step of a copy may take: meanwhile it holds the processor and the disk from those who serve.
STEP_S = 0.005
MOST_STEP_PAGES = 512


class Cursor(Protocol):
    """Rows of a statement; what a column holds, the schema says."""

    def __iter__(self) -> Iterator[Any]: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """What the rest of the store sees of the driver."""

    def execute(self, statements: str, bindings: Any = None) -> Cursor: ...
    def executemany(self, statements: str, sequenceofbindings: Iterable[Any]) -> Cursor: ...
    @property
    def in_transaction(self) -> bool: ...
    def close(self) -> None: ...
    def txn_state(self) -> int: ...


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Turns the driver's errors, and those of messages that cannot be read back, into the catalogue's."""
    try:
        yield
    except (apsw.Error, DecodeError) as error:
        known = translation(error)
        if known is None:
            raise
        raise known from error


DAMAGE = (apsw.CorruptError, apsw.NotADBError)
# What a disk or its permissions are the reason of.
REFUSALS = (
    *(apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError),
    *(apsw.ProtocolError, apsw.NoLFSError),
)


def translation(error: Exception) -> Exception | None:
    """The error of the catalogue for one of the driver's; None for what only a defect of ours can be."""
    match error:
        case DecodeError():
            # What is stored as a message and has no checksum of its own.
            return StoreCorrupt(f"what is stored cannot be read: {error}; run `dreamsvc doctor`")
        case apsw.CorruptError() | apsw.NotADBError():
            return _damaged(error)
        case apsw.IOError() if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA:
            return _damaged("a page does not match its checksum")
        case apsw.NoMemError():
            return StoreUnavailable(f"the store cannot take this: {error}")
        case apsw.BusyError() | apsw.LockedError():
            return StoreUnavailable(f"the database is locked by another program: {error}", retry_after_s=1)
        case _ if isinstance(error, REFUSALS):
            return StoreUnavailable(f"the store cannot take this: {error}; free space or mend permissions")
        case _:
            return None


def open_read_only(path: Path, *, oldest: int = SCHEMA_VERSION) -> Connection:
    """A connection that can look beside a running server; raises StoreUnavailable or StoreCorrupt."""
    if replacing.is_under_way(replacing.real(path)):
        raise StoreUnavailable(f"a restore of {path} runs or broke off; the next start of the service ends it")
    with translated():
        connection = connect(path, writable=False)
        try:
            version = _require_ours(connection, path)
            if version < oldest:
                raise StoreUnavailable(
                    f"{path} was written by an older dreamsvc (schema {version}); the next start of the service"
                    " upgrades it"
                    if version
                    else f"{path} is empty: no dreamsvc ever wrote to it"
                )
        except BaseException:
            connection.close()
            raise
        return connection


def open_unchecked(path: Path) -> Connection:
    """Like `open_read_only`, but what a page holds is taken though its checksum says that it is damaged."""
    with translated():
        connection = connect(path, writable=False, checked=False)
        try:
            version = _require_ours(connection, path, checked=False)
            if version != SCHEMA_VERSION:
                raise StoreUnavailable(f"{path} has schema {version}, this dreamsvc salvages {SCHEMA_VERSION} only")
        except BaseException:
            connection.close()
            raise
        return connection


def pages_without_checksum(path: Path, tell: Callable[[int, int], None]) -> tuple[int, int]:
    """How many pages a database file has, and how many of them end in no checksum that fits; its log is not read."""
    _load_checksums()
    with translated(), contextlib.closing(apsw.Connection(":memory:")) as connection, path.open("rb") as file:
        header = file.read(100)
        said = int.from_bytes(header[16:18], "big")
        page_bytes = 65_536 if said == 1 else said
        if len(header) < 100 or page_bytes < 512 or page_bytes & (page_bytes - 1):
            raise _damaged("its first page is none")
        total = path.stat().st_size // page_bytes
        wrong = 0
        file.seek(0)
        for number in range(1, total + 1):
            page = file.read(page_bytes)
            # A page that was never used is all zero, and that is its checksum too.
            fits = connection.execute("SELECT verify_checksum(?)", (page,)).fetchone()
            wrong += fits != (1,)
            tell(number, total)
    return total, wrong


def change_alone(path: Path, run: Callable[[Connection], None]) -> None:
    """One change of a database that nobody else knows of yet."""
    with translated(), contextlib.closing(connect(path, writable=True)) as connection, _whole(connection):
        run(connection)


def copy_pages(source: Connection, target: Path) -> Generator[tuple[int, int]]:
    """Copies the database that a read transaction sees into a file, by SQLite's backup API; (pages done, all) a step.

    A step takes about STEP_S, and whoever asks for the next one decides when. Without the transaction every write of a
    server would begin the copy anew; with it the copy is of the moment at which the transaction began, and the log of
    the store grows meanwhile by all that is written. The copy is one file that needs no log beside it, and the caller
    syncs it.
    """
    assert isinstance(source, apsw.Connection)
    assert source.in_transaction
    with translated():
        with contextlib.closing(apsw.Connection(str(target))) as copy:
            # What lies in the log has no checksum yet: it gets one in a file that is known to have them.
            copy.execute(f"PRAGMA page_size={pragma(source, 'page_size')}").fetchall()
            copy.reserve_bytes("main", source.reserve_bytes("main"))
            copy.execute("PRAGMA user_version=1").fetchall()
        with contextlib.closing(apsw.Connection(str(target))) as copy:
            # Nobody reads it before it is whole and synced.
            for setting in ("journal_mode=OFF", "synchronous=OFF"):
                copy.execute(f"PRAGMA {setting}").fetchall()
            pages = 16
            with copy.backup("main", source, "main") as backup:
                while not backup.done:
                    began = clock.precise_s()
                    backup.step(pages)
                    took_s = clock.precise_s() - began
                    pages = max(1, pages // 2) if took_s > STEP_S else min(pages + 16, MOST_STEP_PAGES)
                    yield backup.page_count - backup.remaining, backup.page_count
        with contextlib.closing(apsw.Connection(str(target))) as copy:
            if copy.execute("PRAGMA journal_mode=DELETE").fetchone() != ("delete",):
                raise StoreUnavailable(f"{target} cannot be made one file: the disk does not take it")


def schema_of(connection: Connection) -> int:
    return pragma(connection, "user_version")


def file_bytes(connection: Connection) -> int:
    """How large the database is, with what lies in its log."""
    return pragma(connection, "page_count") * pragma(connection, "page_size")


def log_bytes(path: Path) -> int:
    """How large the log beside a database is."""
    try:
        real = replacing.real(path)
        return real.with_name(f"{real.name}-wal").stat().st_size
    except OSError:
        return 0


def require_safe() -> None:
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < OLDEST_SQLITE:
        raise StoreUnavailable(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt databases; install apsw with SQLite 3.51.3 or newer"
        )


def objects_of(connection: Connection) -> dict[str, str]:
    """The statements that tables, indexes and triggers were made by, by name."""
    return dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))


def expected_objects() -> dict[str, str]:
    """What `objects_of` gives for a store of this version."""
    with contextlib.closing(apsw.Connection(":memory:")) as connection:
        for step in range(1, SCHEMA_VERSION + 1):
            connection.execute(_script(step)).fetchall()
        return objects_of(connection)


def connect(path: Path, *, writable: bool, checked: bool = True) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE if writable else apsw.SQLITE_OPEN_READONLY
    _load_checksums()
    name = str(path)
    if not writable and _is_still(path):
        # SQLite would make a file beside it to share its log with others.
        name, flags = f"{replacing.real(path).as_uri()}?immutable=1", flags | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(name, flags=flags)
    connection.set_busy_timeout(5000)
    if not checked:
        # Before everything else: the next pragma reads the first page.
        connection.execute("PRAGMA checksum_verification=OFF").fetchall()
    # One by one: a multi-statement string would stop at the first row that comes back.
    for setting in ("foreign_keys=ON", "synchronous=FULL", "journal_size_limit=67108864", "wal_autocheckpoint=0"):
        connection.execute(f"PRAGMA {setting}").fetchall()
    connection.execute("PRAGMA temp_store=MEMORY").fetchall()
    return connection


def _is_still(path: Path) -> bool:
    """Whether a database that was closed lies where nobody can change it."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY) and not log_bytes(path)
    except OSError:
        return False


def prepare(connection: apsw.Connection, path: Path) -> None:
    """Makes a new file ours, brings an old one to this version, refuses a newer or a foreign one."""
    version = _require_ours(connection, path)
    if version == 0:
        connection.execute("PRAGMA page_size=8192").fetchall()
        connection.reserve_bytes("main", CHECKSUM_BYTES)
        # What a purge frees can go back to the disk in slices; only a new file can be told so.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL").fetchall()
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}").fetchall()
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    # A restored store had no log until now, and a connection opens its log with its first look at the database.
    pragma(connection, "user_version")
    if 0 < version < SCHEMA_VERSION:
        _back_up(connection, path, version)
    for step in range(version + 1, SCHEMA_VERSION + 1):
        if step == CHECKED_SINCE and not pragma(connection, "checksum_verification"):
            _give_checksums(connection)
        script = _script(step)
        with _whole(connection):
            connection.execute(script).fetchall()
            connection.execute(f"PRAGMA user_version={step}").fetchall()


def _script(step: int) -> str:
    """What makes a store of version `step` of one of the version before."""
    return resources.files("dreamsvc.memory.schema").joinpath(f"{step:04}.sql").read_text(encoding="utf-8")


@contextlib.contextmanager
def _whole(connection: Connection) -> Generator[None]:
    """A transaction; where it fails, by what made it fail, also where SQLite has rolled it back by itself."""
    assert isinstance(connection, apsw.Connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(apsw.Error):
                connection.execute("ROLLBACK")
        raise


def _back_up(connection: apsw.Connection, path: Path, version: int) -> None:
    """A copy of the store as the older dreamsvc left it, for the way back; the upgrade waits until it is on disk."""
    wanted = path.with_name(f"{path.name}.schema{version}.bak")
    aside = wanted.with_name(wanted.name + ".part")
    try:
        aside.unlink(missing_ok=True)
        connection.execute("VACUUM INTO ?", (str(aside),)).fetchall()
        shutil.copymode(path, aside)
        with aside.open("rb") as copy:
            os.fsync(copy.fileno())
        aside.replace(wanted)
        replacing.sync(path.parent)
    except OSError as error:
        raise StoreUnavailable(f"{wanted}: no copy could be made before the upgrade: {error.strerror}") from error


def _require_ours(connection: Connection, path: Path, *, checked: bool = True) -> int:
    """The schema's version, 0 for an empty file; checked: pages must be compared with their checksums."""
    version = pragma(connection, "user_version")
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    if not empty and pragma(connection, "application_id") != APPLICATION_ID:
        raise StoreCorrupt(f"{path} is a database of another program")
    if version > SCHEMA_VERSION:
        raise StoreUnavailable(
            f"{path} was written by a newer dreamsvc (schema {version}, this one knows {SCHEMA_VERSION}); upgrade"
        )
    if checked and version >= CHECKED_SINCE and not pragma(connection, "checksum_verification"):
        raise _damaged(f"the header of {path} says that its pages have no checksums")
    return version


def look_at_log(path: Path) -> LogState:
    """What the log was worth before it was read; raises StoreCorrupt where reading it would lose changes."""
    real = replacing.real(path)
    try:
        state = write_log.look(real)
    except OSError as error:
        raise StoreUnavailable(f"{real}-wal: {error.strerror}") from error
    if state.damage:
        raise _damaged(f"its log {real}-wal: {state.damage}")
    return state


def log_is_lost(path: Path) -> bool:
    """Whether somebody took the log away that a store was left with when its service was killed."""
    real = replacing.real(path)
    return real.exists() and locking.left_open(path) and not real.with_name(f"{real.name}-wal").exists()


def _load_checksums() -> None:
    """Lays the checksums of pages over SQLite's way to the disk: from then on for all databases of this process."""
    if CHECKSUM_VFS in apsw.vfs_names():
        return
    connection = apsw.Connection(":memory:")
    try:
        apsw.sqlite_extra.load(connection, "cksumvfs")
    except (apsw.sqlite_extra.NotAvailable, LookupError) as error:
        raise StoreUnavailable("this apsw lacks SQLite's checksums of pages; install it from PyPI") from error
    finally:
        connection.close()


def _give_checksums(connection: apsw.Connection) -> None:
    """Writes a database of an older version anew, with a checksum in every page; all of it or nothing."""
    connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    connection.reserve_bytes("main", CHECKSUM_BYTES)
    connection.execute("VACUUM").fetchall()
    connection.execute("PRAGMA journal_mode=WAL").fetchall()


def _damaged(why: object) -> StoreCorrupt:
    return StoreCorrupt(
        f"the database is damaged: {why};"
        " `dreamsvc doctor` names what is, `dreamsvc restore --backup` puts a backup in place"
    )


def pragma(connection: Connection, name: str) -> int:
    row = connection.execute(f"PRAGMA {name}").fetchone()
    return int(row[0]) if row is not None else 0


def next_seq(connection: Connection) -> int:
    """Numbers a change; grows by one with every change that is committed."""
    return _take_from(connection, "change_seq", 1) + 1


def take_ids(connection: Connection, counter: str, count: int) -> int:
    """Reserves `count` row ids and gives the first; an id is never used twice."""
    return _take_from(connection, counter, count)


def change_seq(connection: Connection) -> int:
    return int(_one(connection, "SELECT value FROM meta WHERE key = 'change_seq'"))


def _take_from(connection: Connection, counter: str, count: int) -> int:
    return int(
        _one(connection, "UPDATE meta SET value = value + ? WHERE key = ? RETURNING value - ?", count, counter, count)
    )


def _one(connection: Connection, sql: str, *values: Any) -> Any:
    row = connection.execute(sql, values).fetchone()
    if row is None:
        raise StoreCorrupt("a counter of the store is missing")
    return row[0]
