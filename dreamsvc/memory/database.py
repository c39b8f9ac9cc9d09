"""A store's database: one prioritised writer, any number of readers.

All writes run in one thread. User writes overtake the writes of dreams and imports, and those that wait together share
one commit, so one sync serves many callers. Nothing is acknowledged before its commit is on disk.
"""

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from dreamsvc.errors import StoreCorrupt, StoreUnavailable
from dreamsvc.memory import locking, replacing, sqlite
from dreamsvc.memory.in_place import InPlace
from dreamsvc.memory.readers import Readers
from dreamsvc.memory.sqlite import Connection, change_seq, translated

logger = logging.getLogger(__name__)
MOST_JOINED = 64
CHECKPOINT_PAGES = 1000
QUIET_S = 0.2
# How long reads may be held up while a log that somebody removed is replaced.
REPLACE_WITHIN_S = 1.0


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
        sqlite.require_safe()
        locking.require_one_name(path)
        self.path = path
        self._lock_file = locking.hold(path, create=create)
        try:
            replaced = replacing.settle(replacing.real(path))
            self.log_was = sqlite.look_at_log(path)
            self.log_is_lost = replaced is None and sqlite.log_is_lost(path)
            with translated():
                self._writer = sqlite.connect(path, writable=True)
                sqlite.prepare(self._writer, path)
                if self.log_was.left_out:
                    # What is left of a torn commit must not look like damage to the next start.
                    self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._in_place = InPlace(path, locking.file_of(path), self._lock_file)
            self._foreign_version = sqlite.pragma(self._writer, "data_version")
            self._readers = Readers[Connection](self._connect_reader)
            # The log is there now, and from here on it may hold what the database does not.
            locking.note_open(self._lock_file, is_open=True)
        except BaseException:
            os.close(self._lock_file)
            raise
        # Why the last commit failed, if the store was the reason; '' while it takes changes.
        self.trouble = ""
        # What could not be read since this was opened, '' where nothing was: damage does not mend itself.
        self.damage = ""
        self._all_shown = True
        self._waiting: tuple[deque[_Job[Any]], deque[_Job[Any]]] = (deque(), deque())
        self._wanted = threading.Condition()
        self._closing = False
        self._begin_work()

    def _begin_work(self) -> None:
        """Has the queue worked off from now on; a simulation does that at moments of its own."""
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def _end_work(self) -> None:
        """Waits until what is queued is done."""
        self._thread.join()

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

    def waiting(self) -> dict[Priority, int]:
        """How many changes wait for the writer."""
        return {priority: len(self._waiting[priority]) for priority in Priority}

    def read[T](self, run: Callable[[Connection], T]) -> T:
        """Runs a query in the caller's thread; all of its rows have to be read in it."""
        with self._reading(), self._readers.one() as connection:
            return run(connection)

    @contextlib.contextmanager
    def moment(self) -> Generator[Connection]:
        """A connection of its own that sees the store as it is now, however long it reads."""
        with self._reading(), self._readers.new() as connection:
            connection.execute("BEGIN")
            try:
                # The moment begins with the first read, not with BEGIN.
                change_seq(connection)
                yield connection
            finally:
                # Where a page could not be read, SQLite has ended it by itself.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def shows_all(self) -> bool:
        """Whether all that is in the database went through this and on into the live arrays; in the writer's thread."""
        with translated():
            alone = sqlite.pragma(self._writer, "data_version") == self._foreign_version
        if not alone:
            logger.warning("another program wrote to %s while it was served", self.path)
        return alone and self._all_shown

    def close(self) -> None:
        """Finishes all queued writes, then closes; the file needs no recovery afterwards."""
        with self._wanted:
            if self._closing:
                return
            self._closing = True
            self._wanted.notify()
        self._end_work()
        try:
            self._readers.close()
            with contextlib.suppress(sqlite.DriverError, OSError):
                row = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if row is not None and row[0] == 0:
                    # The database holds all of it now, whatever becomes of the log.
                    locking.note_open(self._lock_file, is_open=False)
            with translated():
                self._writer.close()
        finally:
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
                self._rest()

    def _take(self) -> list[_Job[Any]]:
        """The next jobs to commit together; empty after a quiet moment and at the end."""
        user, background = self._waiting
        with self._wanted:
            if not user and not background and not self._closing:
                self._wanted.wait(timeout=QUIET_S)
            if user:
                return [user.popleft() for _ in range(min(len(user), MOST_JOINED))]
            return [background.popleft()] if background else []

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        done: list[tuple[_Job[Any], Any]] = []
        try:
            with translated():
                self._require_in_place()
                self._writer.execute("BEGIN IMMEDIATE")
                for job in jobs:
                    if not job.future.set_running_or_notify_cancel():
                        continue
                    self._writer.execute("SAVEPOINT job")
                    try:
                        result = job.run(self._writer)
                    except (*sqlite.DAMAGE, *sqlite.REFUSALS):
                        # The file itself is in trouble: nobody of this commit is served.
                        raise
                    except Exception as error:
                        if not self._writer.in_transaction:
                            # SQLite gave the whole commit up, e.g. for want of memory.
                            raise
                        self._writer.execute("ROLLBACK TO job")
                        job.future.set_exception(sqlite.translation(error) or error)
                    else:
                        done.append((job, result))
                    self._writer.execute("RELEASE job")
                self._writer.execute("COMMIT")
        except Exception as error:
            if self._writer.in_transaction:
                with contextlib.suppress(sqlite.DriverError):
                    self._writer.execute("ROLLBACK")
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)
            self._note_trouble(error)
            return
        # Whoever took a file away meanwhile took this commit with it.
        doubt = self._doubt()
        self._note_trouble(doubt)
        for job, result in done:
            try:
                if job.committed is not None:
                    job.committed(result)
            except Exception as error:
                # Durable but not visible in the live arrays: the caller has to know.
                self._all_shown = False
                logger.exception("a change is on disk and could not be shown; a restart of the service shows it")
                job.future.set_exception(error)
                continue
            if doubt is not None:
                job.future.set_exception(doubt)
            else:
                job.future.set_result(result)

    def _rest(self) -> None:
        """What is done while nobody writes."""
        if self.trouble or self._doubt() is not None:
            # Whether it takes changes again is known before somebody tries, and a log that is gone is replaced early.
            self._commit([_Job(_change_nothing, None)])
        else:
            self._checkpoint()

    def _note_trouble(self, error: Exception | None) -> None:
        before = self.trouble
        self.trouble = error.message if isinstance(error, (StoreUnavailable, StoreCorrupt)) else ""
        if self.trouble and not before:
            logger.warning("changes are refused until the store takes them again: %s", self.trouble)
        elif before and not self.trouble:
            logger.warning("the store takes changes again")

    @contextlib.contextmanager
    def _reading(self) -> Generator[None]:
        """Errors of SQLite as ours, and damage is remembered."""
        try:
            with translated():
                yield
        except StoreCorrupt as error:
            if error.message != self.damage:
                logger.error("the store is damaged; run dreamsvc doctor: %s", error.message)
            self.damage = error.message
            raise

    def _doubt(self) -> StoreUnavailable | None:
        """Why a commit of this moment would not be found by the next start."""
        try:
            self._require_in_place()
        except StoreUnavailable as error:
            return error
        return None

    def _require_in_place(self) -> None:
        """Raises StoreUnavailable where the files that are open are not those that the next start would open."""
        self._in_place.require_database()
        if not self._in_place.lock_is_there():
            self._hold_again()
        if not self._in_place.log_is_there():
            with translated():
                self._readers.replace(REPLACE_WITHIN_S, self._replace_log)
            self._in_place.require()

    def _hold_again(self) -> None:
        """Takes the lock anew whose file somebody removed; raises StoreUnavailable where another service came between.

        What that one writes is not in the live graphs here, so nothing more is written until this service starts anew.
        """
        lock = locking.file_of(self.path)
        try:
            handle = locking.hold(self.path, create=False)
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{lock} was removed under the running service, and {error.message}") from error
        try:
            with translated():
                if sqlite.pragma(self._writer, "data_version") != self._foreign_version:
                    raise StoreUnavailable(
                        f"{lock} was removed under the running service, and another process changed the store since:"
                        " restart this service, which does not know of that"
                    )
        except BaseException:
            os.close(handle)
            raise
        os.close(self._lock_file)
        locking.note_open(handle, is_open=True)
        self._lock_file = handle
        self._in_place.note_lock(handle)
        logger.warning("%s was removed; it is held again, and nobody came between", lock)

    def _replace_log(self) -> None:
        """Saves what is in a log that somebody removed, by the handle that is left of it, and begins another."""
        row = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if row is None or row[0] != 0:
            raise StoreUnavailable("another program reads the log that was removed; end it", retry_after_s=1)
        before = self._writer
        self._writer = sqlite.connect(self.path, writable=True)
        # A connection opens its log with its first look at the database.
        self._foreign_version = sqlite.pragma(self._writer, "data_version")
        before.close()
        self._in_place.note()
        logger.warning("%s-wal was removed; nothing was lost, and another one is used from now on", self.path)

    def _connect_reader(self) -> Connection:
        with translated():
            # With another log than the writer has it would read what was never written.
            self._in_place.require()
            connection = sqlite.connect(self.path, writable=False)
            try:
                sqlite.pragma(connection, "user_version")
                self._in_place.require()
            except BaseException:
                connection.close()
                raise
            return connection

    def _checkpoint(self) -> None:
        """Moves the log into the file while nobody writes: its sync is the slowest of all."""
        with contextlib.suppress(sqlite.DriverError):
            row = self._writer.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
            if row is not None and int(row[1]) - int(row[2]) > CHECKPOINT_PAGES:
                self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _change_nothing(connection: Connection) -> None:
    # There and back: SQLite writes nothing where a row is set to what it is.
    for step in (1, -1):
        connection.execute("UPDATE meta SET value = value + ? WHERE key = 'change_seq'", (step,)).fetchall()
