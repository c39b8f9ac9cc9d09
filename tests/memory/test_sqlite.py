"""The one writer: who goes first, what shares a commit, what a failure leaves behind."""

import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest

from dreamsvc.errors import StoreCorrupt, StoreUnavailable
from dreamsvc.memory import sqlite
from dreamsvc.memory.database import Database, Priority
from dreamsvc.memory.sqlite import Connection
from dreamsvc.v1.memory_pb2 import Memory


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "memory.db")
    made.write(lambda c: c.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, body BLOB)").fetchall()).result(10)
    yield made
    made.close()


class Held:
    """While it is held, the writer is busy and what is queued waits together."""

    def __init__(self, database: Database) -> None:
        self._go, started = threading.Event(), threading.Event()

        def job(_: Connection) -> None:
            started.set()
            assert self._go.wait(10)

        self._job = database.write(job)
        assert started.wait(10)

    def release(self) -> None:
        self._go.set()
        self._job.result(10)


def insert(x: int, size: int = 1) -> Callable[[Connection], int]:
    def job(connection: Connection) -> int:
        connection.execute("INSERT INTO t VALUES (?, zeroblob(?))", (x, size))
        return x

    return job


def stored(database: Database) -> list[int]:
    return [row[0] for row in database.read(lambda c: c.execute("SELECT x FROM t ORDER BY x").fetchall())]


def count_commits(database: Database) -> list[int]:
    """Grows by one with every commit from now on."""
    commits: list[int] = []

    def hook() -> bool:
        commits.append(1)
        return False

    def job(connection: Any) -> None:
        connection.set_commit_hook(hook)

    database.write(job).result(10)
    commits.clear()
    return commits


def test_user_writes_overtake_background_writes_queued_before_them(database: Database) -> None:
    order: list[str] = []
    held = Held(database)
    jobs = [
        database.write(lambda _, name=name: order.append(name), priority=priority)
        for name, priority in [
            ("background 1", Priority.BACKGROUND),
            ("background 2", Priority.BACKGROUND),
            ("user 1", Priority.USER),
            ("background 3", Priority.BACKGROUND),
            ("user 2", Priority.USER),
        ]
    ]
    held.release()
    wait(jobs, 10)
    assert order == ["user 1", "user 2", "background 1", "background 2", "background 3"]


def test_a_user_write_gets_in_between_two_background_writes(database: Database) -> None:
    order: list[str] = []
    late: list[Future[None]] = []

    def first(_: Connection) -> None:
        order.append("background 1")
        late.append(database.write(lambda _: order.append("user")))

    held = Held(database)
    jobs = [database.write(first, priority=Priority.BACKGROUND)]
    jobs.append(database.write(lambda _: order.append("background 2"), priority=Priority.BACKGROUND))
    held.release()
    wait(jobs, 10)
    late[0].result(10)
    assert order == ["background 1", "user", "background 2"]


def test_writes_that_wait_together_share_one_commit(database: Database) -> None:
    commits = count_commits(database)
    held = Held(database)
    jobs = [database.write(insert(x)) for x in range(40)]
    held.release()
    assert [job.result(10) for job in jobs] == list(range(40))
    # One for the job that held the writer and one for all forty.
    assert len(commits) == 2


def test_one_failing_write_does_not_spoil_its_neighbours(database: Database) -> None:
    def bad(connection: Connection) -> None:
        insert(2)(connection)
        raise KeyError("mine")

    held = Held(database)
    before, failing, duplicate, after = (database.write(job) for job in (insert(1), bad, insert(1), insert(3)))
    held.release()
    assert before.result(10) == 1
    assert after.result(10) == 3
    with pytest.raises(KeyError, match="mine"):
        failing.result(10)
    with pytest.raises(Exception, match="UNIQUE"):
        duplicate.result(10)
    assert stored(database) == [1, 3]


def test_an_exception_leaves_no_trace_of_its_job(database: Database) -> None:
    def seq() -> int:
        return database.read(sqlite.change_seq)

    def bad(connection: Connection) -> None:
        sqlite.next_seq(connection)
        assert sqlite.take_ids(connection, "next_node", 10) == 1
        insert(1)(connection)
        raise ValueError

    before = seq()
    with pytest.raises(ValueError):
        database.write(bad).result(10)
    assert (seq(), stored(database)) == (before, [])
    assert database.write(lambda c: sqlite.take_ids(c, "next_node", 1)).result(10) == 1


def test_ids_are_handed_out_once(database: Database) -> None:
    taken = [database.write(lambda c, n=n: sqlite.take_ids(c, "next_edge", n)).result(10) for n in (3, 1, 5, 1)]
    assert taken == [1, 4, 5, 10]


def test_what_follows_a_commit_runs_before_the_caller_hears_of_it(database: Database) -> None:
    shown: list[int] = []
    for x in range(20):
        assert database.write(insert(x), committed=shown.append).result(10) == x
        assert shown[-1] == x


def test_a_failure_to_show_a_change_is_told_although_the_change_is_durable(database: Database) -> None:
    def cannot(_: int) -> None:
        raise RuntimeError("not shown")

    with pytest.raises(RuntimeError, match="not shown"):
        database.write(insert(1), committed=cannot).result(10)
    assert stored(database) == [1]
    assert database.write(insert(2)).result(10) == 2


def test_a_write_that_was_cancelled_while_it_waited_never_runs(database: Database) -> None:
    held = Held(database)
    waiting, other = database.write(insert(1)), database.write(insert(2))
    assert waiting.cancel()
    held.release()
    assert other.result(10) == 2
    assert stored(database) == [2]


def test_closing_finishes_what_is_queued_and_takes_nothing_more(tmp_path: Path) -> None:
    database = Database(tmp_path / "memory.db")
    database.write(lambda c: c.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, body BLOB)").fetchall())
    jobs = [database.write(insert(x), priority=Priority(x % 2)) for x in range(100)]
    database.close()
    assert sorted(job.result(0) for job in jobs) == list(range(100))
    with pytest.raises(StoreUnavailable, match="closed"):
        database.write(insert(1000)).result(0)
    database.close()
    assert not Path(f"{database.path}-wal").exists()


def test_a_second_opener_is_refused_with_the_holders_pid(tmp_path: Path, database: Database) -> None:
    with pytest.raises(StoreUnavailable, match=rf"held by process {os.getpid()}\b"):
        Database(database.path)
    assert database.write(insert(1)).result(10) == 1


def test_a_second_name_of_the_file_is_refused(tmp_path: Path, database: Database) -> None:
    other = tmp_path / "other.db"
    other.hardlink_to(database.path)
    with pytest.raises(StoreUnavailable, match="has 2 names"):
        Database(other)
    other.unlink()
    database.close()
    Database(database.path).close()


def test_a_directory_is_told_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(StoreUnavailable, match=r"is a directory; name the file in it, e\.g\. .*store/memory\.db"):
        Database(tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_closed_database_can_be_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        Database(tmp_path / "deep" / "memory.db").close()


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="another program"):
        Database(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a database, but somebody needs it " * 100)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="damaged"):
        Database(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    Database(path).close()
    raw = apsw.Connection(str(path))
    raw.execute(f"PRAGMA user_version={sqlite.SCHEMA_VERSION + 1}")
    raw.close()
    with pytest.raises(StoreUnavailable, match="newer dreamsvc"):
        Database(path)


def test_a_path_that_cannot_hold_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        Database(tmp_path / "file" / "memory.db")
    (tmp_path / "directory").mkdir()
    with pytest.raises(StoreUnavailable):
        Database(tmp_path / "directory")


def test_a_refused_open_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreCorrupt):
        Database(path)
    path.unlink()
    Database(path).close()


def test_a_moment_sees_the_store_as_it_was_when_it_began(database: Database) -> None:
    database.write(insert(1)).result(10)
    with database.moment() as connection:
        database.write(insert(2)).result(10)
        assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]
        database.write(insert(3)).result(10)
        assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]
    assert stored(database) == [1, 2, 3]


def test_a_lock_of_another_program_is_told_as_unavailable(database: Database) -> None:
    def impatient(connection: Any) -> None:
        connection.set_busy_timeout(20)

    database.write(impatient).result(10)
    # By the same library: another copy of it in this process would not see the locks.
    other = apsw.Connection(str(database.path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked") as caught:
        database.write(insert(1)).result(10)
    assert caught.value.retry_after_s == 1
    other.execute("ROLLBACK")
    other.close()
    assert database.write(insert(1)).result(10) == 1


def test_a_full_disk_refuses_the_whole_commit_and_keeps_what_was_there(database: Database) -> None:
    database.write(insert(1)).result(10)
    pages = database.read(lambda c: c.execute("PRAGMA page_count").fetchone())[0]
    database.write(lambda c: c.execute(f"PRAGMA max_page_count={pages + 2}").fetchall()).result(10)
    held = Held(database)
    jobs = [database.write(job) for job in (insert(2), insert(3, 1_000_000), insert(4))]
    held.release()
    for job in jobs:
        with pytest.raises(StoreUnavailable, match="full"):
            job.result(10)
    # Nobody may have been told "no" and yet be stored.
    assert stored(database) == [1]
    with pytest.raises(StoreUnavailable):
        database.write(insert(5, 1_000_000)).result(10)
    assert stored(database) == [1]
    database.write(lambda c: c.execute("PRAGMA max_page_count=1000000").fetchall()).result(10)
    assert database.write(insert(6, 1_000_000)).result(10) == 6
    assert stored(database) == [1, 6]


def test_a_file_that_cannot_grow_refuses_and_recovers(database: Database) -> None:
    database.write(insert(1)).result(10)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        with pytest.raises(StoreUnavailable):
            database.write(insert(2, 3_000_000)).result(10)
        assert stored(database) == [1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert database.write(insert(3, 3_000_000)).result(10) == 3
    assert stored(database) == [1, 3]
    assert database.read(lambda c: c.execute("PRAGMA integrity_check").fetchall()) == [("ok",)]


def test_acknowledged_writes_survive_the_death_of_the_process(tmp_path: Path) -> None:
    script = """
        import os, sys
        from pathlib import Path
        from dreamsvc.memory.database import Database
        database = Database(Path(sys.argv[1]))
        database.write(lambda c: c.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, body BLOB)").fetchall()).result()
        jobs = [database.write(lambda c, x=x: c.execute("INSERT INTO t VALUES (?, 0)", (x,)).fetchall())
                for x in range(300)]
        for x, job in enumerate(jobs[:250]):
            job.result()
        os.write(1, b"250")
        os._exit(9)
    """
    path = tmp_path / "memory.db"
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], capture_output=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (9, b"250"), ended.stderr
    database = Database(path)
    found = stored(database)
    database.close()
    assert found[:250] == list(range(250))
    # What was not acknowledged may be there or not, but in order, as it was queued.
    assert found == list(range(len(found)))


def test_checkpoints_move_the_log_into_the_file_while_nobody_writes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreamsvc.memory.database.CHECKPOINT_PAGES", 10)
    database.write(insert(1, 2_000_000)).result(10)
    deadline = threading.Event()
    for _ in range(100):
        if database.path.stat().st_size > 2_000_000:
            break
        deadline.wait(0.05)
    assert database.path.stat().st_size > 2_000_000
    assert stored(database) == [1]


def test_a_full_disk_leaves_the_live_graph_as_the_store_is(room: Any) -> None:
    room.remember(Memory(key="a", text="first"))
    pages = room.rows("PRAGMA page_count")[0][0]
    room.execute(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(StoreUnavailable):
        room.remember(*(Memory(key=f"big {i}", text="word " * 200_000) for i in range(3)))
    assert [found.node for found in room.find("first")] == [room.row_of("a")]
    assert room.store.graph("default").view.n == 1
    room.execute("PRAGMA max_page_count=1000000")
    room.remember(Memory(key="b", text="second"))
    assert [found.node for found in room.find("second")] == [room.row_of("b")]


def test_a_store_on_a_disk_that_nobody_can_write_to_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Database(tmp_path / "memory.db").close()
    before = {path.name for path in tmp_path.iterdir()}
    monkeypatch.setattr(sqlite.os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    with contextlib.closing(sqlite.open_read_only(tmp_path / "memory.db")) as connection:
        assert sqlite.change_seq(connection) == 0
        # Nothing was made to share a log with others.
        assert {path.name for path in tmp_path.iterdir()} == before
