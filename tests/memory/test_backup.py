"""A backup is one moment of a store, verified or not there at all; a restore is all or nothing and loses nothing."""

import contextlib
import itertools
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc.errors import StoreCorrupt, StoreUnavailable
from dreamsvc.memory import backup, giving_way, locking, manifest, replacing, shelf, sqlite
from dreamsvc.memory.database import Database
from dreamsvc.memory.doctor import examine
from dreamsvc.memory.manifest import SpaceContent
from dreamsvc.v1.memory_pb2 import Edge, Memory
from tests.memory.test_migration import old_store

NOW_US = 1_772_366_400_000_000  # 2026-03-01T12:00:00Z


@pytest.fixture
def filled(room: Any, part: Any) -> Any:
    """Two spaces, something forgotten, a folded dream."""
    room.remember(
        *(Memory(key=key, text=f"{key} text", vector=[1, i]) for i, key in enumerate("abcd")),
        edges=[Edge(source=s, target=t) for s, t in ("ab", "bc", "cd", "da")],
    )
    room.remember(Memory(key="x", text="in another space"), space="other")
    room.forget("d")
    room.dream(part.weights(0, {1: 0.75, 2: 0.1}, pruned=[2]), part.marks(1, {1: 1}))
    return room


@pytest.fixture
def place(room: Any) -> Path:
    return room.path.parent / "backups"


def make(room: Any, target: Path, now_us: int = NOW_US, **more: Any) -> manifest.Manifest:
    return backup.make(room.path, target, now_us=now_us, **more)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def copied(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def restored_room(room: Any, made: Path) -> backup.Restored:
    """The room's store replaced and open again."""
    room.close()
    try:
        return backup.restore(made, room.path, now_us=NOW_US + 1)
    finally:
        room.open()


# ── making ──────────────────────────────────────────────────────────────────────


def test_a_backup_says_what_the_store_held_and_is_a_store_itself(filled: Any, place: Path) -> None:
    told: list[tuple[int, int]] = []
    made = make(filled, place / "one", progress=lambda done, total: told.append((done, total)))
    assert [space.name for space in made.content.spaces] == ["default", "other"]
    assert made.content.spaces[0] == SpaceContent("default", 3, 1, 1, filled.digest())
    assert made.content.spaces[1].digest == filled.digest("other")
    assert (made.memories, made.edges, made.made_us) == (4, 1, NOW_US)
    assert made.content.change_seq == filled.store.database.read(sqlite.change_seq)
    assert made.content.tables["nodes"] == 5
    assert made.source == str(filled.path)
    assert names(place) == {"one"}
    assert names(place / "one") == {"memory.db", "manifest.json"}
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (place / "one", place / "one" / "memory.db")]
    assert modes == [0o700, 0o600]
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    assert backup.check(place / "one") == made
    assert names(place / "one") == {"memory.db", "manifest.json"}, "a look leaves nothing beside it"
    assert [found for found in examine(str(place / "one" / "memory.db")) if not found.ok] == []


def test_what_is_written_meanwhile_is_not_in_it_and_does_not_begin_it_anew(filled: Any, place: Path) -> None:
    filled.remember(*(Memory(key=f"big {i}", text=f"{i} " + "word " * 2000) for i in range(300)))
    before, seq = filled.digest(), filled.store.database.read(sqlite.change_seq)
    shares: list[int] = []

    def meanwhile(done: int, _: int) -> None:
        shares.append(done)
        filled.remember(Memory(key=f"big {len(shares) % 300}", text=f"changed {len(shares)}"))

    made = make(filled, place / "one", progress=meanwhile)
    # While pages were copied, too.
    assert sum(0 < share < 1000 for share in shares) >= 3
    assert (made.content.spaces[0].digest, made.content.change_seq) == (before, seq)
    assert filled.digest() != before


def test_a_store_most_of_which_lies_in_its_log_is_copied_with_sound_checksums(
    room: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages in the log have none; more of them than SQLite keeps in memory are written before the first page is."""
    monkeypatch.setattr("dreamsvc.memory.database.CHECKPOINT_PAGES", 1_000_000)
    for part in range(4):
        room.remember(*(Memory(key=f"{part} {i}", text=f"{part} {i} " + "word " * 1000) for i in range(500)))
    assert sqlite.log_bytes(room.path) > 10_000_000
    assert make(room, place / "one").memories == 2000
    assert backup.check(place / "one").memories == 2000


def test_without_a_held_moment_nothing_is_copied(filled: Any, place: Path) -> None:
    with contextlib.closing(sqlite.open_read_only(filled.path)) as connection, pytest.raises(AssertionError):
        next(sqlite.copy_pages(connection, place))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_backup_at_any_moment_of_a_busy_writer_lies_between_two_acknowledged_writes(rooms: Any, data: Any) -> None:
    """Each write makes two memories and an edge and changes an older one: all of it is in the copy, or nothing."""
    large = data.draw(st.booleans(), "large texts")
    backups = data.draw(st.lists(st.floats(0, 0.02), min_size=1, max_size=3), "waits")
    with rooms() as room:
        room.remember(Memory(key="counter", text="0"))
        acknowledged, ending = [0], threading.Event()

        def write() -> None:
            for number in itertools.count(1):
                if ending.is_set():
                    return
                text = f"{number} " + "word " * (400 if large else 1)
                room.remember(
                    Memory(key=f"one {number}", text=text),
                    Memory(key=f"two {number}", text=text),
                    Memory(key="counter", text=str(number)),
                    edges=[Edge(source=f"one {number}", target=f"two {number}")],
                )
                acknowledged[0] = number

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number, wait_s in enumerate(backups):
                ending.wait(wait_s)
                before = acknowledged[0]
                made = make(room, room.path.parent / "backups" / str(number))
                between(room.path.parent / "backups" / str(number), before, acknowledged[0] + 1, made)
        finally:
            ending.set()
            writer.join()


def between(made: Path, least: int, most: int, said: manifest.Manifest) -> None:
    raw = apsw.Connection(str(made / "memory.db"), flags=apsw.SQLITE_OPEN_READONLY)
    last = int(raw.execute("SELECT text FROM nodes WHERE key = 'counter'").fetchone()[0])
    numbers = [number for (number,) in raw.execute("SELECT substr(key, 5) + 0 FROM nodes WHERE key LIKE 'one %'")]
    edges = raw.execute("SELECT count(*) FROM edges").fetchone()[0]
    raw.close()
    assert least <= last <= most
    assert sorted(numbers) == list(range(1, last + 1))
    assert (said.memories, said.edges) == (2 * last + 1, edges)
    assert edges == last


def test_the_log_of_the_store_may_grow_only_so_far(filled: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving_way, "MOST_LOG_BYTES", 100_000)
    monkeypatch.setattr(sqlite, "STEP_S", 0)

    def meanwhile(*_: int) -> None:
        filled.remember(Memory(key="a", text="word " * 20_000))

    with pytest.raises(StoreUnavailable, match=r"bytes were written to .* make it when less is written"):
        make(filled, place / "one", progress=meanwhile)
    assert not list(place.glob("*.part"))


def test_a_long_log_leaves_out_the_rests(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    monkeypatch.setattr(sqlite, "STEP_S", 0)
    monkeypatch.setattr(giving_way.clock, "sleep_s", rests.append)
    rest = giving_way.Rest(filled.path)
    rest.take()
    assert len(rests) == 1
    monkeypatch.setattr(giving_way, "HURRY_BYTES", 0)
    filled.remember(Memory(key="a", text="word " * 200_000))
    rest.take()
    assert len(rests) == 1


def test_an_existing_place_is_never_overwritten(filled: Any, place: Path) -> None:
    make(filled, place / "one")
    before = (place / "one" / "memory.db").read_bytes()
    with pytest.raises(StoreUnavailable, match="one is there already and is never overwritten; name another one"):
        make(filled, place / "one")
    (place / "file").write_text("mine")
    with pytest.raises(StoreUnavailable, match="is there already"):
        make(filled, place / "file")
    # What people expect of a directory is told.
    with pytest.raises(StoreUnavailable, match=r"e\.g\. .*/backups/memory\.db-20260301T120000Z"):
        make(filled, place)
    assert (place / "one" / "memory.db").read_bytes() == before
    assert names(place) == {"one", "file"}


def test_what_is_no_store_is_refused(room: Any, place: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"there is no store at .*gone\.db; name it with --store"):
        backup.make(room.path.with_name("gone.db"), place / "one", now_us=NOW_US)
    room.path.with_name("empty.db").touch()
    with pytest.raises(StoreUnavailable, match="is empty: no dreamsvc ever wrote to it"):
        backup.make(room.path.with_name("empty.db"), place / "one", now_us=NOW_US)
    other = apsw.Connection(str(room.path.with_name("other.db")))
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(StoreCorrupt, match="a database of another program"):
        backup.make(room.path.with_name("other.db"), place / "one", now_us=NOW_US)
    assert names(place) == set()


def test_a_damaged_store_is_not_backed_up_and_the_doctor_is_named(filled: Any, place: Path) -> None:
    filled.execute("UPDATE nodes SET deleted_us = 1 WHERE key = 'a'")
    with pytest.raises(StoreCorrupt, match=r"not in order \(.*forgotten end.*`dreamsvc doctor --store") as caught:
        make(filled, place / "one")
    assert str(filled.path) in caught.value.message
    filled.execute("UPDATE nodes SET deleted_us = NULL WHERE key = 'a'")
    assert names(place) == set()


def test_a_copy_that_is_not_the_moment_is_thrown_away(
    filled: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it differs in what no export shows."""
    real = sqlite.copy_pages

    def careless(source: Any, target: Path) -> Iterator[tuple[int, int]]:
        yield from real(source, target)
        sqlite.change_alone(target, lambda c: c.execute("UPDATE nodes SET text = 'else' WHERE key = 'd'"))

    monkeypatch.setattr(sqlite, "copy_pages", careless)
    with pytest.raises(StoreCorrupt, match="the copy is not what the store held"):
        make(filled, place / "one")
    assert names(place) == set()


def test_a_disk_without_room_is_told_before_anything_is_written(room: Any, place: Path) -> None:
    room.close()
    # A store of a petabyte, most of it a hole.
    huge = room.path.with_name("huge.db")
    shutil.copy(room.path, huge)
    with huge.open("r+b") as file:
        file.seek(28)
        file.write((1 << 30).to_bytes(4))
        file.truncate((1 << 30) * 8192)
    with_its_checksum(huge)
    with pytest.raises(StoreUnavailable, match=r"bytes are needed and .* are free; free space, or name another place"):
        backup.make(huge, place / "one", now_us=NOW_US)
    assert names(place) == set()
    huge.unlink()
    room.open()


def with_its_checksum(path: Path) -> None:
    """Sums the first page up as SQLite's extension does: two interleaved sums of 32-bit words."""
    with path.open("r+b") as file:
        page = bytearray(file.read(8192))
        first = second = 0
        for at in range(0, 8184, 8):
            first = (first + int.from_bytes(page[at : at + 4], "little") + second) & 0xFFFFFFFF
            second = (second + int.from_bytes(page[at + 4 : at + 8], "little") + first) & 0xFFFFFFFF
        file.seek(8184)
        file.write(first.to_bytes(4, "little") + second.to_bytes(4, "little"))


def test_a_disk_that_fills_up_leaves_nothing_of_a_backup(filled: Any, place: Path) -> None:
    filled.remember(*(Memory(key=f"big {i}", text="word " * 2000) for i in range(100)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(StoreUnavailable, match="one: no backup was made: "):
            make(filled, place / "one")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(place) == set()
    make(filled, place / "one")


def test_what_a_killed_backup_left_is_removed_by_the_next_and_one_that_runs_is_not(filled: Any, place: Path) -> None:
    left = place / f"killed{shelf.ASIDE}"
    left.mkdir(parents=True)
    (left / "memory.db").write_bytes(b"half")
    with shelf.unfinished(place / "running") as running:
        with pytest.raises(StoreUnavailable, match="another backup is being written at"):
            make(filled, place / "running")
        make(filled, place / "one")
        assert names(place) == {"one", running.name}
    assert names(place) == {"one"}


def test_sealed_work_that_waits_is_part_of_a_backup_and_goes_on_after_a_restore(
    filled: Any, place: Path, part: Any
) -> None:
    filled.remember(Memory(key="e", text="e"), edges=[Edge(source="e", target="a", weight=0.3)])
    edge = filled.rows("SELECT max(id) FROM edges")[0][0]
    change = filled.dream(part.weights(0, {edge: 0.9}), part.marks(1, {2: 1}), fold=False)
    filled.fold(change, slices=1)
    half = filled.digest()
    made = make(filled, place / "one")
    filled.fold(change)
    whole = filled.digest()
    assert made.content.spaces[0].digest == half
    assert backup.check(place / "one") == made
    restored_room(filled, place / "one")
    assert filled.digest() == half
    filled.fold(change)
    assert filled.digest() == whole
    filled.in_order()


# ── checking ────────────────────────────────────────────────────────────────────


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_bit_that_flips_anywhere_in_a_backup_is_found(sound: Path, data: Any) -> None:
    path = sound / data.draw(st.sampled_from(["memory.db", "manifest.json"]), "file")
    body = path.read_bytes()
    at = data.draw(st.integers(0, len(body) - 1), "byte")
    bit = data.draw(st.integers(0, 7), "bit")
    try:
        path.write_bytes(body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :])
        with pytest.raises(StoreCorrupt, match=f"{path.name} is damaged"):
            backup.check(sound)
    finally:
        path.write_bytes(body)


@pytest.fixture(scope="module")
def sound(rooms: Any) -> Iterator[Path]:
    """A backup that outlives its store."""
    with rooms() as room:
        room.remember(*(Memory(key=key, text=f"{key} text", vector=[1, i]) for i, key in enumerate("abcd")))
        make(room, room.path.parent / "sound")
        yield room.path.parent / "sound"


def cut(one: Path) -> None:
    os.truncate(one / "memory.db", 8192)


def lengthened(one: Path) -> None:
    with (one / "memory.db").open("ab") as file:
        file.write(b"\0")


def no_database(one: Path) -> None:
    (one / "memory.db").unlink()


def no_manifest(one: Path) -> None:
    (one / "manifest.json").unlink()


def a_log_beside_it(one: Path) -> None:
    (one / "memory.db-wal").write_bytes(b"x")


def foreign(one: Path) -> None:
    (one / "manifest.json").write_text('{"name": "some web page"}')


def newer_format(one: Path) -> None:
    forge(one, lambda told: told, number=manifest.FORMAT + 1)


def newer_schema(one: Path) -> None:
    forge(one, lambda told: told | {"schema": sqlite.SCHEMA_VERSION + 1})


def says_what_is_not(one: Path) -> None:
    forge(one, lambda told: told | {"change_seq": 1})


def forge(one: Path, change: Callable[[dict[str, Any]], dict[str, Any]], number: int = manifest.FORMAT) -> None:
    """A manifest with another content and the seal that belongs to it, as another version writes it."""
    told = change(manifest.to_dict(manifest.read(one)))
    body = {"format": number, **told, "manifest_sha256": manifest.seal(number, told)}
    (one / "manifest.json").write_text(json.dumps(body, indent=1) + "\n")


WRONG = {
    cut: "memory.db is damaged: it is not what was verified at 2026-03-01T12:00:00",
    lengthened: "memory.db is damaged",
    no_database: "memory.db: No such file",
    no_manifest: "is no backup: there is no manifest.json in it; `dreamsvc backup --list` shows",
    a_log_beside_it: "memory.db-wal is no part of the backup: something opened its database; remove that file",
    foreign: "manifest.json is damaged; use another backup",
    newer_format: "was made by a newer dreamsvc (format 2, this one knows 1); upgrade",
    newer_schema: "is of a newer dreamsvc (schema",
    says_what_is_not: "the database does not hold what manifest.json says",
}


@pytest.mark.parametrize("spoil", WRONG, ids=lambda spoil: spoil.__name__)
def test_a_backup_that_is_none_is_refused_and_the_store_stays(
    filled: Any, place: Path, spoil: Callable[[Path], None]
) -> None:
    make(filled, place / "one")
    spoil(place / "one")
    before = filled.digest()
    filled.close()
    there = names(filled.path.parent)
    for refuse in (
        lambda: backup.check(place / "one"),
        lambda: backup.restore(place / "one", filled.path, now_us=NOW_US),
    ):
        with pytest.raises((StoreCorrupt, StoreUnavailable)) as caught:
            refuse()
        assert WRONG[spoil] in caught.value.message
        assert str(place / "one") in caught.value.message
    assert names(filled.path.parent) == there
    filled.open()
    assert filled.digest() == before


def test_a_directory_that_is_not_there_is_told(place: Path) -> None:
    with pytest.raises(StoreUnavailable, match="does not exist"):
        backup.check(place / "gone")


# ── restore ─────────────────────────────────────────────────────────────────────


def test_a_restore_brings_the_moment_back_and_keeps_what_was_there(filled: Any, place: Path) -> None:
    made = make(filled, place / "one")
    filled.path.chmod(0o640)
    filled.remember(Memory(key="late", text="written after the backup"))
    filled.forget("a")
    later = filled.digest()
    restored = restored_room(filled, place / "one")
    assert restored == (made, filled.path, filled.path.with_name("memory.db.before-restore-1"))
    assert [filled.digest(name) for name in ("default", "other")] == [space.digest for space in made.content.spaces]
    assert stat.S_IMODE(filled.path.stat().st_mode) == 0o640
    filled.in_order()
    # The audit goes on, and says what happened.
    assert filled.rows("SELECT actor, action, at_us FROM audit ORDER BY id DESC LIMIT 1") == [
        ("user", "restore_backup", NOW_US + 1)
    ]
    filled.remember(Memory(key="new", text="it goes on"))
    # Once more, with another number; and what was there first is a store that opens.
    restored = restored_room(filled, place / "one")
    assert restored.kept is not None
    assert restored.kept.name == "memory.db.before-restore-2"
    assert filled.digest() == made.content.spaces[0].digest
    assert not list(filled.path.parent.glob("*.part"))
    filled.close()
    filled.path = filled.path.with_name("memory.db.before-restore-1")
    filled.open()
    assert filled.digest() == later
    filled.in_order()


def test_the_log_of_a_crashed_store_is_kept_with_it(filled: Any, place: Path) -> None:
    make(filled, place / "one")
    filled.remember(Memory(key="late", text="in the log only"))
    wal = filled.path.with_name("memory.db-wal")
    crashed = filled.path.read_bytes(), wal.read_bytes()
    later = filled.digest()
    filled.close()
    filled.path.write_bytes(crashed[0])
    wal.write_bytes(crashed[1])
    backup.restore(place / "one", filled.path, now_us=NOW_US)
    assert not wal.exists(), "the log of another store would be read as this one's"
    filled.path = filled.path.with_name("memory.db.before-restore-1")
    filled.open()
    assert filled.digest() == later


def test_what_was_derived_of_the_old_store_goes(filled: Any, place: Path) -> None:
    make(filled, place / "one")
    filled.close()
    assert filled.snapshots.is_dir()
    backup.restore(place / "one", filled.path, now_us=NOW_US)
    assert not filled.snapshots.exists()
    filled.open()
    filled.in_order()


def test_a_restore_by_a_link_leaves_nothing_that_was_derived_of_the_old_store(filled: Any, place: Path) -> None:
    link = filled.path.with_name("link.db")
    link.symlink_to(filled.path)
    filled.close()
    filled.path = link
    filled.open()
    make(filled, place / "one")
    before = filled.digest()
    # As many changes as the audit of a restore makes.
    filled.remember(Memory(key="later", text="what was remembered later"))
    restored_room(filled, place / "one")
    assert filled.digest() == before
    filled.in_order()
    assert filled.find("later") == []


def test_the_log_of_a_store_is_found_by_a_link(filled: Any) -> None:
    link = filled.path.parent / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(filled.path)
    assert sqlite.log_bytes(link) == sqlite.log_bytes(filled.path) > 0


def test_a_directory_is_not_replaced_by_a_backup(filled: Any, place: Path) -> None:
    make(filled, place / "one")
    filled.close()
    with pytest.raises(StoreUnavailable, match="is a directory; name the file in it"):
        backup.restore(place / "one", filled.path.parent, now_us=NOW_US)
    filled.open()
    filled.in_order()


def test_a_store_that_is_damaged_beyond_opening_is_replaced_and_kept(filled: Any, place: Path) -> None:
    made = make(filled, place / "one")
    filled.close()
    filled.path.write_bytes(b"rubble" * 10_000)
    restored = backup.restore(place / "one", filled.path, now_us=NOW_US)
    assert restored.kept is not None
    assert restored.kept.read_bytes() == b"rubble" * 10_000
    filled.open()
    assert filled.digest() == made.content.spaces[0].digest


def test_a_restore_to_where_nothing_was_makes_a_store(filled: Any, place: Path) -> None:
    made = make(filled, place / "one")
    filled.close()
    elsewhere = filled.path.parent / "new" / "deep" / "memory.db"
    assert backup.restore(place / "one", elsewhere, now_us=NOW_US) == (made, elsewhere, None)
    filled.path = elsewhere
    filled.open()
    assert filled.digest() == made.content.spaces[0].digest


def test_a_store_that_a_server_has_open_is_left_alone(filled: Any, place: Path) -> None:
    make(filled, place / "one")
    before = filled.digest()
    with pytest.raises(StoreUnavailable, match=rf"is held by process {os.getpid()}; stop that server"):
        backup.restore(place / "one", filled.path, now_us=NOW_US)
    link = filled.path.with_name("link.db")
    link.symlink_to(filled.path)
    with pytest.raises(StoreUnavailable, match=rf"is held by process {os.getpid()}"):
        backup.restore(place / "one", link, now_us=NOW_US)
    assert filled.digest() == before


def test_a_link_is_no_second_store(filled: Any) -> None:
    link = filled.path.with_name("link.db")
    link.symlink_to(filled.path)
    with pytest.raises(StoreUnavailable, match=rf"held by process {os.getpid()}"):
        Database(link)


def test_a_backup_does_not_replace_itself(filled: Any, place: Path) -> None:
    make(filled, place / "one")
    with pytest.raises(StoreUnavailable, match="lies in the backup itself"):
        backup.restore(place / "one", place / "one" / "memory.db", now_us=NOW_US)
    assert names(place / "one") == {"memory.db", "manifest.json"}


def test_a_disk_that_fills_up_leaves_the_store_as_it_was(filled: Any, place: Path) -> None:
    filled.remember(*(Memory(key=f"big {i}", text="word " * 2000) for i in range(100)))
    make(filled, place / "one")
    filled.remember(Memory(key="late", text="late"))
    before = filled.digest()
    filled.close()
    there = names(filled.path.parent)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(StoreUnavailable, match=r"memory\.db: the backup cannot be put there: .*File too large"):
            backup.restore(place / "one", filled.path, now_us=NOW_US)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(filled.path.parent) == there
    filled.open()
    assert filled.digest() == before


def test_a_disk_that_fails_after_the_atomic_point_does_not_undo_it(
    filled: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(filled, place / "one")
    filled.remember(Memory(key="late", text="late"))
    filled.close()
    real = replacing.sync

    def failing(path: Path) -> None:
        if replacing.is_under_way(filled.path):
            raise OSError(5, "Input/output error")
        real(path)

    monkeypatch.setattr(replacing, "sync", failing)
    with pytest.raises(StoreUnavailable, match="Input/output error; the next start does what is left"):
        backup.restore(place / "one", filled.path, now_us=NOW_US)
    monkeypatch.setattr(replacing, "sync", real)
    filled.open()
    assert filled.digest() == made.content.spaces[0].digest


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_restores_belongs_to_whom_the_store_belonged(filled: Any, place: Path) -> None:
    make(filled, place / "one")
    filled.close()
    os.chown(filled.path, 1234, 1235)
    backup.restore(place / "one", filled.path, now_us=NOW_US)
    for path in (filled.path, locking.file_of(filled.path)):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)
    filled.open()


def test_a_store_of_an_older_dreamsvc_is_backed_up_restored_and_upgraded(room: Any, place: Path) -> None:
    room.close()
    room.path = room.path.with_name("old.db")
    old_store(room.path)
    made = make(room, place / "one")
    assert (made.content.schema, made.content.spaces, made.content.tables["nodes"]) == (1, (), 4)
    assert backup.check(place / "one") == made
    backup.restore(place / "one", room.path, now_us=NOW_US)
    room.open()
    assert room.edges() == {("a", "b", "related"): 0.25}
    room.in_order()


# ── many ────────────────────────────────────────────────────────────────────────


def test_the_oldest_of_the_same_store_go_and_nothing_else(filled: Any, rooms: Any, place: Path) -> None:
    with rooms() as other:
        other.remember(Memory(key="a", text="of another store"))
        backup.make(other.path, place / "theirs", now_us=0)
    for number in range(5):
        make(filled, place / str(number), now_us=NOW_US + number)
    (place / "notes").mkdir()
    spoilt = copied(place / "0", place / "spoilt")
    foreign(spoilt)
    assert shelf.drop_older(place / "4", 2) == [place / "2", place / "1", place / "0"]
    assert names(place) == {"4", "3", "theirs", "notes", "spoilt"}
    listed = shelf.listed(place)
    assert [one.path.name for one in listed] == ["4", "3", "theirs", "spoilt"]
    assert listed[-1].problem == f"{spoilt}/manifest.json is damaged; use another backup"


def test_a_clock_that_was_set_back_does_not_make_the_newest_the_oldest(filled: Any, place: Path) -> None:
    make(filled, place / "future", now_us=NOW_US + 10)
    make(filled, place / "now", now_us=NOW_US)
    assert shelf.drop_older(place / "now", 1) == [place / "future"]
    assert names(place) == {"now"}


def test_backups_from_when_the_clock_was_ahead_go_first(filled: Any, place: Path) -> None:
    far = NOW_US + 10**15
    for number in range(3):
        make(filled, place / f"far{number}", far + number)
    for number in range(3):
        make(filled, place / f"now{number}", NOW_US + number)
        shelf.drop_older(place / f"now{number}", 3)
    assert names(place) == {"now0", "now1", "now2"}


def test_a_place_without_backups_lists_none(place: Path) -> None:
    assert shelf.listed(place) == []


# ── ends of the process ─────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("work", "stride", "least"),
    [("restore", 2, 30), ("restore-again", 7, 8), ("backup", 2, 8), ("upgrade", 9, 8)],
)
def test_wherever_the_process_ends_nothing_is_lost(work: str, stride: int, least: int) -> None:
    """Before renames, removals, syncs and changing statements; what holds then stands in `deaths`."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as directory:
        ended = subprocess.run(
            [sys.executable, "-m", "tests.memory.deaths", work, directory, str(stride)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr[-2000:]
    told = json.loads(ended.stdout)
    assert (told["ended"], told["wrong"]) == (0, [])
    assert told["deaths"] >= least


def test_a_store_in_mid_restore_is_no_store_for_those_who_look(filled: Any, place: Path) -> None:
    made = make(filled, place / "one")
    filled.close()
    shutil.copy(place / "one" / "memory.db", replacing.incoming(filled.path))
    replacing.begin(filled.path, made.sha256)
    filled.path.rename(filled.path.with_name("memory.db.before-restore-1"))
    assert any(not found.ok for found in examine(str(filled.path)))
    with pytest.raises(StoreUnavailable, match=r"a restore of .* runs or broke off; the next start of the service"):
        make(filled, place / "two")
    # The same restore again knows that it was all but done.
    assert backup.restore(place / "one", filled.path, now_us=NOW_US).kept == filled.path.with_name(
        "memory.db.before-restore-1"
    )
    filled.open()
    assert filled.digest() == made.content.spaces[0].digest


def test_a_restore_whose_copy_vanished_is_told_and_no_empty_store_takes_its_place(filled: Any, place: Path) -> None:
    made = make(filled, place / "one")
    filled.close()
    replacing.incoming(filled.path).write_bytes(b"to come")
    replacing.begin(filled.path, made.sha256)
    kept = filled.path.with_name("memory.db.before-restore-1")
    filled.path.rename(kept)
    replacing.incoming(filled.path).unlink()
    with pytest.raises(StoreUnavailable, match=r"restore again, or rename .*before-restore-1 back to"):
        Database(filled.path)
    assert not filled.path.exists()
    marker = filled.path.with_name("memory.db.restoring")
    text = marker.read_text()
    marker.write_text(text[:-3])
    with pytest.raises(StoreUnavailable, match=r"memory\.db\.restoring is damaged"):
        Database(filled.path)
    marker.unlink()
    kept.rename(filled.path)
    filled.open()
