"""A store whose files are taken away while they are open acknowledges nothing that the next start would not find."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from dreamsvc.errors import StoreUnavailable
from dreamsvc.memory import backup, locking, sqlite
from dreamsvc.memory.database import Database
from dreamsvc.memory.doctor import examine
from dreamsvc.memory.sqlite import Connection
from dreamsvc.v1.memory_pb2 import Memory


@pytest.fixture
def place() -> Iterator[Path]:
    shared = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="dreamsvc-", dir=shared if shared.is_dir() else None))
    yield made
    shutil.rmtree(made)


def insert(database: Database, x: int) -> None:
    def job(connection: Connection) -> None:
        connection.execute("INSERT INTO t VALUES (?, zeroblob(20000))", (x,)).fetchall()

    database.write(job).result(10)


def stored(database: Database) -> list[int]:
    return [x for (x,) in database.read(lambda c: c.execute("SELECT x FROM t ORDER BY x").fetchall())]


def soon(ask: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if ask():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


@pytest.mark.parametrize("name", ["memory.db", "link.db"])
def test_a_log_that_was_removed_is_saved_and_replaced(place: Path, name: str) -> None:
    Database(place / "memory.db").close()
    (place / "link.db").symlink_to(place / "memory.db")
    database = Database(place / name)
    database.write(lambda c: c.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, body BLOB)").fetchall()).result(10)
    insert(database, 1)
    (place / "memory.db-wal").unlink()
    soon((place / "memory.db-wal").exists)
    copied = place / "copied.db"
    # All that was in the log is in the file by now.
    shutil.copy(place / "memory.db", copied)
    assert Connected(copied).stored() == [1]
    insert(database, 2)
    assert stored(database) == [1, 2]
    database.close()
    assert Connected(place / "memory.db").stored() == [1, 2]


def test_a_read_that_takes_long_keeps_a_removed_log_from_being_replaced_and_nothing_is_acknowledged_meanwhile(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreamsvc.memory.database.REPLACE_WITHIN_S", 0.01)
    database = Database(place / "memory.db")
    database.write(lambda c: c.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, body BLOB)").fetchall()).result(10)
    insert(database, 1)
    with database.moment() as moment:
        (place / "memory.db-wal").unlink()
        with pytest.raises(StoreUnavailable, match="removed"):
            insert(database, 2)
        assert moment.execute("SELECT x FROM t").fetchall() == [(1,)]
        assert stored(database) == [1]
    soon((place / "memory.db-wal").exists)
    insert(database, 3)
    assert stored(database) == [1, 3]
    database.close()


def test_without_its_file_a_store_is_read_by_any_number_of_threads_and_not_written(place: Path) -> None:
    database = Database(place / "memory.db")
    database.write(lambda c: c.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, body BLOB)").fetchall()).result(10)
    insert(database, 1)
    (place / "memory.db").rename(place / "elsewhere.db")
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(stored(database))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [[1]] * 8
    with pytest.raises(StoreUnavailable, match="put it back"):
        insert(database, 2)
    (place / "elsewhere.db").rename(place / "memory.db")
    insert(database, 3)
    assert stored(database) == [1, 3]
    database.close()


def test_a_lock_that_was_removed_is_held_again(place: Path) -> None:
    database = Database(place / "memory.db")
    database.write(lambda c: c.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, body BLOB)").fetchall()).result(10)
    insert(database, 1)
    lock = place / "memory.db.lock"
    lock.unlink()
    # Also where nobody writes.
    soon(lock.exists)
    with pytest.raises(StoreUnavailable, match="held by process"):
        Database(place / "memory.db")
    (place / "memory.db-wal").unlink()
    insert(database, 2)
    lock.unlink()
    insert(database, 3)
    assert lock.exists()
    assert stored(database) == [1, 2, 3]
    database.close()


def test_where_another_took_the_store_nothing_is_acknowledged_that_it_does_not_know(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreamsvc.memory.database.QUIET_S", 30)
    database = Database(place / "memory.db")
    database.write(lambda c: c.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, body BLOB)").fetchall()).result(10)
    (place / "memory.db.lock").unlink()
    other = Database(place / "memory.db")
    with pytest.raises(StoreUnavailable, match=r"lock was removed under the running service, and .* held by process"):
        insert(database, 1)
    insert(other, 2)
    other.close()
    # Its live arrays lack what the other wrote.
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="restart this service"):
            insert(database, 3)
    assert stored(database) == [2]
    database.close()


class Connected:
    """A database file alone, without the log beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def stored(self) -> list[int]:
        connection = apsw.Connection(str(self._path))
        found = [x for (x,) in connection.execute("SELECT x FROM t ORDER BY x")]
        connection.close()
        return found


def test_a_log_that_was_removed_after_a_crash_is_missed(place: Path) -> None:
    Database(place / "memory.db").close()
    serving = Database(place / "memory.db")
    serving.write(lambda c: c.execute("UPDATE meta SET value = value + 1 WHERE key = 'change_seq'").fetchall()).result(
        10
    )
    path = place / "crashed.db"
    for suffix in ("", "-wal", ".lock"):
        path.with_name(path.name + suffix).write_bytes(Path(f"{serving.path}{suffix}").read_bytes())
    serving.close()
    log = path.with_name(f"{path.name}-wal")
    assert not [one.detail for one in examine(str(path)) if not one.ok]
    held = log.read_bytes()
    log.unlink()
    (missed,) = [one for one in examine(str(path)) if not one.ok]
    assert "-wal is gone" in missed.detail
    log.write_bytes(held)
    assert not [one.detail for one in examine(str(path)) if not one.ok]
    log.unlink()
    database = Database(path)
    assert database.log_is_lost
    database.close()
    # Told once: from here on the database is all there is.
    assert not locking.left_open(path)
    again = Database(path)
    assert not again.log_is_lost
    again.close()


def test_a_store_that_was_closed_or_replaced_misses_no_log(room: Any) -> None:
    room.remember(Memory(key="a", text="acknowledged"))
    assert locking.left_open(room.path)
    target = room.path.parent / "backup"
    backup.make(room.path, target, now_us=1)
    room.store.close()
    assert not locking.left_open(room.path)
    assert not room.path.with_name(f"{room.path.name}-wal").exists()
    assert not sqlite.log_is_lost(room.path)
    room.path.with_name(f"{room.path.name}.lock").write_text("1 open")
    backup.restore(target, room.path, now_us=2)
    assert not sqlite.log_is_lost(room.path)
    assert not [one.detail for one in examine(str(room.path)) if not one.ok]
