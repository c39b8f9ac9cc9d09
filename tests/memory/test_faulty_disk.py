"""The disk that fails: it is seen by SQLite as a real one, and what it does to a store is what a real one would do."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from random import Random

import apsw
import numpy as np
import pytest

from benchmarks.faults import Base, Trial, try_act
from benchmarks.proof import plain_disk
from benchmarks.proof.faulty_disk import EIO, PASS, Call, Disk, Fault, Faulty, Verdict, installed
from benchmarks.proof.life import Ledger, Life, verify
from benchmarks.proof.plain_disk import PlainFaulty
from benchmarks.proof.power import SECTOR, Change, File, Moment, Recorder, apply, tear, write_image
from dreamsvc import snapshot_files
from dreamsvc.errors import StoreCorrupt, StoreUnavailable
from dreamsvc.memory import sqlite, write_log
from dreamsvc.memory.database import Database, _Job
from dreamsvc.memory.sqlite import Connection


@pytest.fixture
def disk() -> Iterator[Disk]:
    with installed() as disk:
        yield disk
        assert disk.broken == []


@pytest.fixture
def place() -> Iterator[Path]:
    shared = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="dreamsvc-", dir=shared if shared.is_dir() else None))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def database(disk: Disk, place: Path) -> Iterator[Database]:
    made = Database(place / "memory.db")
    made.write(lambda c: c.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, body BLOB)").fetchall()).result(10)
    yield made
    disk.watcher = None
    made.close()


def insert(database: Database, x: int, size: int = 20_000) -> None:
    def job(connection: Connection) -> None:
        connection.execute("INSERT INTO t VALUES (?, zeroblob(?))", (x, size)).fetchall()

    database.write(job).result(10)


def stored(database: Database) -> list[int]:
    return [x for (x,) in database.read(lambda c: c.execute("SELECT x FROM t ORDER BY x").fetchall())]


# ── the disk ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["eio", "full", "short"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_write_that_fails_refuses_the_commit_and_leaves_what_was_there(
    disk: Disk, database: Database, place: Path, how: str, k: int
) -> None:
    insert(database, 1)
    disk.watcher = faulty = Faulty(place, Fault("write", k, how))
    with pytest.raises(StoreUnavailable, match="full" if how != "eio" else "I/O error"):
        insert(database, 2)
    assert faulty.injected == 1
    assert stored(database) == [1]
    insert(database, 3)
    assert stored(database) == [1, 3]


def test_a_sync_that_fails_refuses_the_commit(disk: Disk, database: Database, place: Path) -> None:
    disk.watcher = Faulty(place, Fault("sync", 1, "eio"))
    with pytest.raises(StoreUnavailable):
        insert(database, 1)
    insert(database, 2)
    assert stored(database) == [2]


def test_an_error_that_sqlite_goes_on_after_does_not_come_out_of_the_statement(
    disk: Disk, database: Database, place: Path
) -> None:
    """The log is cut to its limit when it begins anew, and it does not matter where that fails."""

    def limit_log(connection: Connection) -> None:
        connection.execute("PRAGMA journal_size_limit=1000").fetchall()

    database.write(limit_log).result(10)
    insert(database, 1)
    database._writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    disk.watcher = faulty = Faulty(place, Fault("truncate", 1, "eio", for_ever=True))
    insert(database, 2)
    assert faulty.injected
    assert stored(database) == [1, 2]


def test_what_fails_for_ever_fails_until_it_is_mended_and_the_store_says_so(
    disk: Disk, database: Database, place: Path
) -> None:
    disk.watcher = faulty = Faulty(place, Fault("write", 1, "full", for_ever=True))
    for x in (1, 2, 3):
        with pytest.raises(StoreUnavailable):
            insert(database, x)
    # It tries by itself.
    tried = faulty.injected
    soon(lambda: faulty.injected > tried + 2)
    assert "full" in database.trouble
    disk.watcher = None
    soon(lambda: not database.trouble)
    insert(database, 4)
    assert stored(database) == [4]


def test_reads_fail_by_the_catalogue(disk: Disk, place: Path) -> None:
    database = Database(place / "memory.db")
    database.write(lambda c: c.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, body BLOB)").fetchall()).result(10)
    insert(database, 1, 300_000)
    database.close()
    database = Database(place / "memory.db")
    disk.watcher = Faulty(place, Fault("read", 1, "eio", for_ever=True))
    with pytest.raises(StoreUnavailable):
        database.read(lambda c: c.execute("SELECT sum(length(body)), max(hex(body)) FROM t").fetchall())
    disk.watcher = None
    assert stored(database) == [1]
    database.close()


@pytest.mark.parametrize("kind", sorted(EIO))
def test_an_opening_that_fails_is_refused_by_the_catalogue_and_frees_the_store(
    disk: Disk, place: Path, kind: str
) -> None:
    for k in range(1, 30):
        disk.watcher = faulty = Faulty(place, Fault(kind, k, "eio"))
        with contextlib.suppress(StoreUnavailable, StoreCorrupt):
            Database(place / str(k) / "memory.db").close()
        disk.watcher = None
        Database(place / str(k) / "memory.db").close()
        if not faulty.injected:
            break


def test_calls_are_counted_by_kind_and_seen_with_their_bytes(disk: Disk, place: Path) -> None:
    class Seen:
        def __init__(self) -> None:
            self.calls: list[tuple[Call, bytes]] = []

        def before(self, call: Call) -> Verdict:
            self.calls.append((call, call.data() if call.kind == "write" else b""))
            return PASS

    disk.watcher = seen = Seen()
    connection = apsw.Connection(str(place / "a.db"))
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    written = [(call, data) for call, data in seen.calls if call.path == str(place / "a.db") and call.kind == "write"]
    content = bytearray()
    for call, data in written:
        apply(content, Change(call.offset, data))
    assert bytes(content) == (place / "a.db").read_bytes()
    assert {call.kind for call, _ in seen.calls} >= {"open", "read", "write", "sync", "size", "delete"}


def test_nothing_is_left_of_a_disk_that_was_taken_out(place: Path) -> None:
    with installed() as disk:
        early = apsw.Connection(str(place / "early.db"))
        early.execute("CREATE TABLE t (x)")
        disk.watcher = Faulty(place, Fault("open", 1, "eio", for_ever=True))
        with pytest.raises(apsw.CantOpenError):
            apsw.Connection(str(place / "late.db"))
    apsw.Connection(str(place / "late.db")).close()
    early.execute("INSERT INTO t VALUES (1)")
    early.close()


# ── other files ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", sorted(plain_disk.HOW))
def test_a_snapshot_that_cannot_be_written_leaves_the_one_before_or_none(place: Path, kind: str) -> None:
    arrays = {"a": np.arange(1000), "b": np.zeros(3)}
    for how in plain_disk.HOW[kind]:
        snapshot_files.write(place / "snapshot", 1, arrays)
        faulty = PlainFaulty(place, Fault(kind, 1, how))
        with plain_disk.installed(faulty), contextlib.suppress(OSError):
            snapshot_files.write(place / "snapshot", 2, arrays)
        assert snapshot_files.read(place / "snapshot", 3) is None
        if faulty.injected:
            assert snapshot_files.read(place / "snapshot", 2) is None


# ── whole acts ──────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    path = tmp_path_factory.mktemp("base") / "memory.db"
    life = Life(path, seed=3)
    life.act("remember")
    life.act("dream")
    life.close()
    return Base(path, life.ledger)


@pytest.mark.parametrize(
    "trial",
    [
        Trial("remember", Fault("sync", 1, "eio")),
        Trial("remember", Fault("write", 3, "short", for_ever=True)),
        Trial("dream", Fault("write", 60, "full")),
        Trial("dream", Fault("sync", 6, "eio")),
        Trial("revert", Fault("write", 5, "eio")),
        Trial("close", Fault("sync", 1, "eio", for_ever=True)),
        Trial("close", Fault("write", 1, "full"), plain=True),
        Trial("open", Fault("read", 3, "eio")),
        Trial("backup", Fault("delete", 1, "eio")),
        Trial("backup", Fault("sync", 4, "eio")),
        Trial("backup", Fault("sync", 2, "eio"), plain=True),
    ],
    ids=str,
)
def test_an_act_on_a_failing_disk_is_refused_clearly_or_done(disk: Disk, base: Base, place: Path, trial: Trial) -> None:
    outcome = try_act(disk, base, place, trial)
    assert outcome.injected
    assert outcome.wrong == ()


def test_a_commit_that_is_acknowledged_although_it_failed_is_seen(
    disk: Disk, base: Base, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof can fail: a store that swallows the disk's error is caught."""
    real = Database._commit

    def swallowing(self: Database, jobs: list[_Job[object]]) -> None:
        told = [job.future for job in jobs]
        for job in jobs:
            job.future = Future()
        real(self, jobs)
        for job, future in zip(jobs, told, strict=True):
            error = job.future.exception()
            if error is None or isinstance(error, StoreUnavailable):
                future.set_result(None if error else job.future.result())
            else:
                future.set_exception(error)

    monkeypatch.setattr(Database, "_commit", swallowing)
    outcome = try_act(disk, base, place, Trial("remember", Fault("write", 1, "full")))
    assert outcome.injected
    assert any(kind == "silent" for kind, _ in outcome.wrong)


# ── power ───────────────────────────────────────────────────────────────────────


def test_what_was_synced_survives_and_what_was_not_may_not(place: Path) -> None:
    old, new = b"old" * 1000, b"new" * 1000
    moment = Moment({"memory.db": File(old, (Change(0, new), Change(9000, b"more")))}, {}, frozenset(), Ledger())
    seen: set[bytes] = set()
    for number in range(200):
        write_image(moment, place / "image", Random(number))
        seen.add((place / "image" / "memory.db").read_bytes())
    assert old in seen
    assert new + bytes(6000) + b"more" in seen
    assert len(seen) > 20
    synced = Moment({"memory.db": File(new)}, {}, frozenset(), Ledger())
    for number in range(20):
        write_image(synced, place / "image", Random(number))
        assert (place / "image" / "memory.db").read_bytes() == new


def test_directories_that_are_made_for_a_store_are_synced(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    real = os.fsync

    def sync(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", sync)
    Database(place / "a" / "b" / "memory.db").close()
    assert {place.stat().st_ino, (place / "a").stat().st_ino} <= synced


def test_writes_are_torn_at_the_borders_of_sectors() -> None:
    data = os.urandom(20 * SECTOR + 7)
    for number in range(50):
        torn = tear(data, Random(number))
        for at in range(0, len(torn), SECTOR):
            piece = torn[at : at + SECTOR]
            assert piece in (data[at : at + SECTOR], bytes(len(piece)))


def test_what_is_recorded_is_what_lies_on_the_disk(disk: Disk, place: Path) -> None:
    ledger = Ledger()
    path = place / "lived" / "memory.db"
    path.parent.mkdir()
    disk.watcher = recorder = Recorder(path, lambda: ledger, Random(1), 0.1)
    life = Life(path, seed=1, ledger=ledger)
    for act in ("remember", "dream", "close", "update"):
        life.act(act)
    life.abandon()
    recorder.require_faithful()
    assert len(recorder.take()) > 10


def test_a_store_that_does_not_sync_its_commits_is_seen(
    disk: Disk, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof can fail: without the sync of a commit the power takes what was acknowledged."""
    real = sqlite.connect

    def careless(path: Path, *, writable: bool) -> apsw.Connection:
        connection = real(path, writable=writable)
        connection.execute("PRAGMA synchronous=NORMAL").fetchall()
        return connection

    assert found_after_power_loss(disk, place / "sound") == []
    monkeypatch.setattr(sqlite, "connect", careless)
    assert any("was acknowledged" in why for why in found_after_power_loss(disk, place / "careless"))


def found_after_power_loss(disk: Disk, place: Path) -> list[str]:
    """What is wrong in any of some images of a store's disk after a few acts."""
    place.mkdir()
    ledger = Ledger()
    path = place / "lived" / "memory.db"
    path.parent.mkdir()
    disk.watcher = recorder = Recorder(path, lambda: ledger, Random(2), 0.0)
    life = Life(path, seed=2, ledger=ledger)
    life.act("remember")
    (moment,) = recorder.take()
    disk.watcher = None
    life.abandon()
    wrong: list[str] = []
    for number in range(12):
        write_image(moment, place / "image", Random(number))
        wrong += verify(place / "image" / "memory.db", moment.ledger)
    return wrong


def test_a_torn_frame_that_is_one_bit_off_by_chance_is_no_damage_where_no_commit_follows(place: Path) -> None:
    database = Database(place / "memory.db")
    database.write(lambda c: c.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, body BLOB)").fetchall()).result(10)
    log = place / "memory.db-wal"
    before = log.stat().st_size
    insert(database, 1, 60_000)
    cut = place / "cut" / "memory.db"
    cut.parent.mkdir()
    shutil.copy(place / "memory.db", cut)
    frame = 24 + 8192
    content = bytearray(log.read_bytes()[:-frame])
    content[before + frame // 2] ^= 1
    Path(f"{cut}-wal").write_bytes(content)
    database.close()
    assert write_log.look(cut).damage == ""
    reopened = Database(cut)
    assert stored(reopened) == []
    reopened.close()


def soon(ask: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if ask():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")
