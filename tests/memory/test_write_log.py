"""A log is looked at before SQLite reads it: what was torn is told from what was damaged."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc.errors import StoreCorrupt
from dreamsvc.memory import sqlite, write_log
from dreamsvc.memory.database import Database
from dreamsvc.memory.write_log import FRAME_HEADER, HEADER, LogState

FRAME = FRAME_HEADER + 8192


class Logged:
    """A store whose last changes are in the log alone, several commits of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path.with_name(f"{path.name}-wal")
        database = Database(path)
        database.write(lambda c: c.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, body BLOB)").fetchall()).result(10)
        database.close()
        self.reader = apsw.Connection(str(path))
        self.reader.execute("PRAGMA wal_autocheckpoint=0").fetchall()
        for number in range(8):
            with self.reader:
                self.reader.execute("INSERT INTO t (body) VALUES (randomblob(?))", (9000 * (number % 3 + 1),))
        self.database_bytes, self.bytes = path.read_bytes(), self.log.read_bytes()

    @property
    def frames(self) -> int:
        return (len(self.bytes) - HEADER) // FRAME

    def with_log(self, data: bytes | bytearray, database: bytes | None = None) -> LogState:
        place = self.path.with_name("copy.db")
        place.write_bytes(database or self.database_bytes)
        place.with_name("copy.db-wal").write_bytes(data)
        return write_log.look(place)

    def flipped(self, bit: int) -> LogState:
        data = bytearray(self.bytes)
        data[bit // 8] ^= 1 << bit % 8
        return self.with_log(data)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    made = Logged(tmp_path_factory.mktemp("log") / "memory.db")
    yield made
    made.reader.close()


def test_a_whole_log_is_told_to_be_one(logged: Logged) -> None:
    assert logged.frames > 20
    assert logged.with_log(logged.bytes) == LogState(frames=logged.frames)


def test_no_log_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    assert write_log.look(path) == LogState()
    path.write_bytes(b"")
    assert write_log.look(path) == LogState()
    path.with_name("memory.db-wal").write_bytes(b"")
    assert write_log.look(path) == LogState()


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_flipped_bit_is_found_wherever_it_is(logged: Logged, data: st.DataObject) -> None:
    state = logged.flipped(data.draw(st.integers(0, 8 * len(logged.bytes) - 1)))
    assert state.damage
    assert not state.spare


def test_a_flipped_bit_that_makes_a_frame_one_of_no_page_is_found(logged: Logged) -> None:
    # The first frame is of page 1, and there is no page 0.
    assert logged.flipped(8 * (HEADER + 3)).damage
    # Nor is there one so far behind the end that no file could hold it.
    assert logged.flipped(8 * HEADER + 7).damage


@pytest.mark.parametrize("byte", [*range(24), 24, 8191])
def test_a_flipped_bit_in_the_last_frame_is_no_torn_commit(logged: Logged, byte: int) -> None:
    for bit in (0, 3, 7):
        assert logged.flipped(8 * (HEADER + (logged.frames - 1) * FRAME + byte) + bit).damage


@pytest.mark.parametrize("byte", range(HEADER))
def test_a_flipped_bit_in_the_header_is_found(logged: Logged, byte: int) -> None:
    assert "its header is damaged" in logged.flipped(8 * byte + 2).damage


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_commit_that_was_cut_off_is_no_damage(logged: Logged, data: st.DataObject) -> None:
    """However much of the last commit reached the disk."""
    first = last_commit(logged)
    torn = bytearray(logged.bytes)
    for frame in range(first, logged.frames):
        at = HEADER + frame * FRAME
        kept = data.draw(st.sampled_from([0, 512, 4096, FRAME - 512, FRAME]))
        torn[at + kept : at + FRAME] = bytes(FRAME - kept)
    state = logged.with_log(torn[: data.draw(st.integers(HEADER + first * FRAME, len(torn)))])
    assert state.damage == ""


def last_commit(logged: Logged) -> int:
    """Its first frame."""
    ends = [
        frame
        for frame in range(logged.frames)
        if any(logged.bytes[HEADER + frame * FRAME + 4 : HEADER + frame * FRAME + 8])
    ]
    return ends[-2] + 1


def test_what_the_database_has_already_is_no_loss(logged: Logged, tmp_path: Path) -> None:
    for name in ("memory.db", "memory.db-wal"):
        shutil.copyfile(logged.path.with_name(name), tmp_path / name)
    raw = apsw.Connection(str(tmp_path / "memory.db"))
    raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    data, log = (tmp_path / "memory.db").read_bytes(), (tmp_path / "memory.db-wal").read_bytes()
    raw.close()
    header = bytearray(log)
    header[9] ^= 1
    # SQLite ignores it, and nothing is missed.
    assert logged.with_log(header, data) == LogState(logged.frames, spare=True)
    middle = bytearray(log)
    middle[HEADER + 5 * FRAME + 100] ^= 1
    # SQLite would read older pages from it than the database has: it must not be opened with it.
    state = logged.with_log(middle, data)
    assert (bool(state.damage), state.spare) == (True, True)


def test_frames_of_an_earlier_use_of_the_file_do_not_count(logged: Logged, tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    raw = apsw.Connection(str(path))
    for pragma in ("page_size=8192", "journal_mode=WAL", "wal_autocheckpoint=0"):
        raw.execute(f"PRAGMA {pragma}").fetchall()
    raw.execute("CREATE TABLE t (body)")
    for _ in range(6):
        raw.execute("INSERT INTO t VALUES (zeroblob(20000))")
    raw.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    raw.execute("INSERT INTO t VALUES (1)")
    state = write_log.look(path)
    assert state.frames > 10
    assert (state.left_out, state.damage) == (0, "")
    raw.close()


def test_a_store_with_a_damaged_log_is_not_opened(logged: Logged, tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    path.write_bytes(logged.database_bytes)
    damaged = bytearray(logged.bytes)
    damaged[HEADER + 3 * FRAME + 1000] ^= 1
    path.with_name("memory.db-wal").write_bytes(damaged)
    with pytest.raises(StoreCorrupt, match=r"frame 4 of .* is damaged, .* commits would be lost"):
        Database(path)
    # Nothing was changed by that.
    assert path.with_name("memory.db-wal").read_bytes() == bytes(damaged)
    path.with_name("memory.db-wal").write_bytes(logged.bytes)
    database = Database(path)
    assert database.read(lambda c: c.execute("SELECT count(*) FROM t").fetchone()) == (8,)
    database.close()


def test_without_looking_at_it_all_after_a_flipped_bit_would_be_dropped(
    logged: Logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "look_at_log", lambda _: LogState())
    path = tmp_path / "memory.db"
    path.write_bytes(logged.database_bytes)
    damaged = bytearray(logged.bytes)
    damaged[HEADER + 3 * FRAME + 1000] ^= 1
    path.with_name("memory.db-wal").write_bytes(damaged)
    database = Database(path)
    assert database.read(lambda c: c.execute("SELECT count(*) FROM t").fetchone())[0] < 8
    database.close()


@pytest.mark.parametrize("left", [0, HEADER, HEADER + FRAME, HEADER + FRAME + 100])
def test_a_log_that_is_cut_short_while_it_is_looked_at_ends_nobody(
    logged: Logged, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a service does that has moved it into the database; a look at mapped pages that are gone is a bus error."""
    place = logged.path.with_name("cut.db")
    place.write_bytes(logged.database_bytes)
    log = place.with_name("cut.db-wal")
    log.write_bytes(logged.bytes)
    sums, looked = write_log._frame_sums, list[int]()

    def cut(frames: Any, order: str) -> Any:
        if not looked:
            with log.open("r+b") as file:
                file.truncate(left)
        looked.append(len(frames))
        return sums(frames, order)

    monkeypatch.setattr(write_log, "_frame_sums", cut)
    monkeypatch.setattr(write_log, "SLICE", 2)
    assert write_log.look(place) == LogState()
    assert looked


def test_a_log_that_is_gone_when_it_is_looked_at_is_none(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(FileNotFoundError()))
    assert write_log.look(logged.path) == LogState()
