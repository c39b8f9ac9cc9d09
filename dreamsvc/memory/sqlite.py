"""The only importer of the SQLite driver: one prioritised writer, any number of readers.

All writes run in one thread. User writes overtake the writes of dreams and imports, and those
that wait together share one commit, so one sync serves many callers. Nothing is acknowledged
before its commit is on disk.
"""

import contextlib
import fcntl
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from importlib import resources
from pathlib import Path
from typing import Any, NewType, Protocol

import apsw

from dreamsvc.errors import StoreCorrupt, StoreUnavailable

ChangeId = NewType("ChangeId", int)

APPLICATION_ID = 0x64726D73  # "drms"
SCHEMA_VERSION = 3
# 3.7.0 to 3.51.2 can corrupt a database when a WAL is reset.
OLDEST_SQLITE = (3, 51, 3)
MOST_JOINED = 64
CHECKPOINT_PAGES = 1000


class Cursor(Protocol):
    """Rows of a statement; what a column holds, the schema says."""

    def __iter__(self) -> Iterator[Any]: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """What the rest of the store sees of the driver."""

    def execute(self, statements: str, bindings: Any = None) -> Cursor: ...
    def executemany(self, statements: str, sequenceofbindings: Iterable[Any]) -> Cursor: ...
    def close(self) -> None: ...


class Priority(IntEnum):
    USER = 0
    BACKGROUND = 1


@dataclass(slots=True)
class _Job[T]:
    run: Callable[[Connection], T]
    # Runs in the writer's thread once the commit is durable, before the caller hears of it.
    committed: Callable[[T], None] | None
    future: Future[T] = field(default_factory=lambda: Future())


class Database:
    """One open database file, held by this process alone."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Raises StoreUnavailable (held by another process, no permission, disk) or StoreCorrupt."""
        _require_safe_sqlite()
        self.path = path
        self._lock_file = _hold(path, create=create)
        try:
            with translated():
                self._writer = _connect(path, writable=True)
                _prepare(self._writer, path)
        except BaseException:
            os.close(self._lock_file)
            raise
        self._local = threading.local()
        self._readers: list[Connection] = []
        self._readers_lock = threading.Lock()
        self._waiting: tuple[deque[_Job[Any]], deque[_Job[Any]]] = (deque(), deque())
        self._wanted = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def write[T](
        self,
        run: Callable[[Connection], T],
        *,
        committed: Callable[[T], None] | None = None,
        priority: Priority = Priority.USER,
    ) -> Future[T]:
        """Queues a change; the future holds its result once it is durable, or why it did not happen."""
        job = _Job(run, committed)
        with self._wanted:
            if self._closing:
                job.future.set_exception(StoreUnavailable("the store is closed"))
                return job.future
            self._waiting[priority].append(job)
            self._wanted.notify()
        return job.future

    def read[T](self, run: Callable[[Connection], T]) -> T:
        """Runs a query in the caller's thread, on a connection of that thread."""
        connection: Connection | None = getattr(self._local, "connection", None)
        with translated():
            if connection is None:
                connection = _connect(self.path, writable=False)
                self._local.connection = connection
                with self._readers_lock:
                    self._readers.append(connection)
            return run(connection)

    @contextlib.contextmanager
    def moment(self) -> Generator[Connection]:
        """A connection of its own that sees the store as it is now, however long it reads."""
        with translated():
            connection = _connect(self.path, writable=False)
            try:
                connection.execute("BEGIN")
                # The moment begins with the first read, not with BEGIN.
                change_seq(connection)
                yield connection
            finally:
                connection.close()

    def close(self) -> None:
        """Finishes all queued writes, then closes; the file needs no recovery afterwards."""
        with self._wanted:
            if self._closing:
                return
            self._closing = True
            self._wanted.notify()
        self._thread.join()
        for reader in self._readers:
            reader.close()
        with contextlib.suppress(apsw.Error):
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._writer.close()
        os.close(self._lock_file)

    def _work(self) -> None:
        while True:
            jobs = self._take()
            if jobs:
                self._commit(jobs)
                del jobs
            elif self._closing:
                return
            else:
                self._checkpoint()

    def _take(self) -> list[_Job[Any]]:
        """The next jobs to commit together; empty after a quiet moment and at the end."""
        user, background = self._waiting
        with self._wanted:
            if not user and not background and not self._closing:
                self._wanted.wait(timeout=0.2)
            if user:
                return [user.popleft() for _ in range(min(len(user), MOST_JOINED))]
            return [background.popleft()] if background else []

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        done: list[tuple[_Job[Any], Any]] = []
        try:
            with translated():
                self._writer.execute("BEGIN IMMEDIATE")
                for job in jobs:
                    if not job.future.set_running_or_notify_cancel():
                        continue
                    self._writer.execute("SAVEPOINT job")
                    try:
                        result = job.run(self._writer)
                    except (apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CorruptError):
                        # The file itself is in trouble: nobody of this commit is served.
                        raise
                    except Exception as error:
                        if not self._writer.in_transaction:
                            # SQLite gave the whole commit up, e.g. for want of memory.
                            raise
                        self._writer.execute("ROLLBACK TO job")
                        job.future.set_exception(error)
                    else:
                        done.append((job, result))
                    self._writer.execute("RELEASE job")
                self._writer.execute("COMMIT")
        except Exception as error:
            if self._writer.in_transaction:
                with contextlib.suppress(apsw.Error):
                    self._writer.execute("ROLLBACK")
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)
            return
        for job, result in done:
            try:
                if job.committed is not None:
                    job.committed(result)
                job.future.set_result(result)
            except Exception as error:
                # Durable but not visible in the live arrays: the caller has to know.
                job.future.set_exception(error)

    def _checkpoint(self) -> None:
        """Moves the log into the file while nobody writes: its sync is the slowest of all."""
        with contextlib.suppress(apsw.Error):
            row = self._writer.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
            if row is not None and int(row[1]) - int(row[2]) > CHECKPOINT_PAGES:
                self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Turns the driver's errors into the catalogue's."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreCorrupt(f"the database is damaged: {error}; run `dreamsvc doctor`") from error
    except (apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CantOpenError, apsw.NoMemError) as error:
        raise StoreUnavailable(f"the store cannot take this: {error}; free space or mend permissions") from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise StoreUnavailable(f"the database is locked by another program: {error}", retry_after_s=1) from error


def open_read_only(path: Path) -> Connection:
    """A connection that can look beside a running server; raises StoreUnavailable or StoreCorrupt."""
    with translated():
        connection = _connect(path, writable=False)
        version = _require_ours(connection, path)
        if version < SCHEMA_VERSION:
            raise StoreUnavailable(
                f"{path} was written by an older dreamsvc (schema {version}); the next start of the service upgrades it"
            )
        return connection


def _require_safe_sqlite() -> None:
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < OLDEST_SQLITE:
        raise StoreUnavailable(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt databases; install apsw with SQLite 3.51.3 or newer"
        )


def _hold(path: Path, *, create: bool) -> int:
    """Takes the lock file beside the database; the system frees it however this process ends."""
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise StoreUnavailable(
            f"{path} is held by process {holder}; stop that server, or give this one another --store"
        ) from error
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except OSError as error:
        os.close(handle)
        raise StoreUnavailable(f"{path}.lock: {error.strerror}") from error
    return handle


def _connect(path: Path, *, writable: bool) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE if writable else apsw.SQLITE_OPEN_READONLY
    connection = apsw.Connection(str(path), flags=flags)
    connection.set_busy_timeout(5000)
    # One by one: a multi-statement string would stop at the first row that comes back.
    for pragma in ("foreign_keys=ON", "synchronous=FULL", "journal_size_limit=67108864", "wal_autocheckpoint=0"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("PRAGMA temp_store=MEMORY").fetchall()
    return connection


def _prepare(connection: apsw.Connection, path: Path) -> None:
    """Makes a new file ours, brings an old one to this version, refuses a newer or a foreign one."""
    version = _require_ours(connection, path)
    if version == 0:
        connection.execute("PRAGMA page_size=8192").fetchall()
        # What a purge frees can go back to the disk in slices; only a new file can be told so.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL").fetchall()
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}").fetchall()
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    if 0 < version < SCHEMA_VERSION:
        _back_up(connection, path, version)
    for step in range(version + 1, SCHEMA_VERSION + 1):
        script = resources.files("dreamsvc.memory.schema").joinpath(f"{step:04}.sql").read_text(encoding="utf-8")
        with connection:
            connection.execute(script).fetchall()
            connection.execute(f"PRAGMA user_version={step}").fetchall()


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
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StoreUnavailable(f"{wanted}: no copy could be made before the upgrade: {error.strerror}") from error


def _require_ours(connection: Connection, path: Path) -> int:
    """The schema's version, 0 for an empty file."""
    version = _pragma(connection, "user_version")
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    if not empty and _pragma(connection, "application_id") != APPLICATION_ID:
        raise StoreCorrupt(f"{path} is a database of another program")
    if version > SCHEMA_VERSION:
        raise StoreUnavailable(
            f"{path} was written by a newer dreamsvc (schema {version}, this one knows {SCHEMA_VERSION}); upgrade"
        )
    return version


def _pragma(connection: Connection, name: str) -> int:
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
