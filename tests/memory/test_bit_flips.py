"""A bit that flips in any file of a store is harmless or told, and no wrong answer is given before (REQ-DREAM-028)."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from benchmarks.proof import flips
from benchmarks.proof.flips import Flip, Ground
from dreamsvc import snapshot_files
from dreamsvc.errors import StoreCorrupt
from dreamsvc.memory import sqlite
from dreamsvc.memory.database import Database
from dreamsvc.memory.doctor import examine
from dreamsvc.v1.memory_pb2 import Memory

SHM = Path("/dev/shm")


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    home = Path(tempfile.mkdtemp(prefix="dreamsvc-test-", dir=SHM if SHM.is_dir() else None))
    (home / "closed").mkdir()
    try:
        yield flips.build(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_an_undamaged_store_is_read_alike_every_time(ground: Ground) -> None:
    for name in ("closed", "dead"):
        with contextlib.ExitStack() as stack:
            assert flips.look(flips.copied(ground, name, stack)) == ground.whole[name]


@pytest.mark.parametrize("number", range(40))
def test_a_flip_anywhere_is_harmless_or_told(ground: Ground, number: int) -> None:
    verdict = flips.judge(ground, flips.draw(ground, number), with_doctor=True)
    assert verdict.how in ("harmless", "told", "refused"), verdict


def test_without_checksums_of_pages_a_flipped_text_would_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof can fail: it sees what it is there to see."""
    monkeypatch.setattr(sqlite, "_load_checksums", lambda: None)
    monkeypatch.setattr(sqlite, "CHECKED_SINCE", 99)
    monkeypatch.setattr(sqlite, "CHECKSUM_BYTES", 0)
    (tmp_path / "closed").mkdir()
    ground = flips.build(tmp_path)
    data = (tmp_path / "closed" / flips.STORE).read_bytes()
    at = data.index(flips.LONG.encode())
    verdict = flips.judge(ground, Flip("database", flips.STORE, (8 * at,)))
    assert verdict.how == "silent", verdict
    assert "export" in verdict.why


@pytest.fixture
def two(room: Any) -> Any:
    room.remember(*(Memory(key=f"k{number}", text=f"{number} " * 40, vector=[1, number]) for number in range(300)))
    return room


def damaged(room: Any, table: str) -> int:
    """Flips one bit in the last page of a table; gives the page."""
    room.close()
    raw = apsw.Connection(str(room.path))
    (page,) = raw.execute("SELECT max(pageno) FROM dbstat WHERE name = ? AND pagetype = 'leaf'", (table,)).fetchone()
    raw.close()
    data = bytearray(room.path.read_bytes())
    data[page * 8192 - 3000] ^= 16
    room.path.write_bytes(data)
    return page


def test_the_doctor_names_the_memories_on_a_damaged_page(two: Any) -> None:
    page = damaged(two, "nodes")
    (found,) = [one for one in examine(str(two.path)) if one.name == "the database is whole"]
    assert f"page {page}" in found.detail
    assert "nodes: rows " in found.detail
    assert 'cannot be read, with the memories "k' in found.detail
    assert "dreamsvc restore" in found.mend
    two.path.unlink()
    two.open()


def test_what_lies_on_other_pages_is_served(two: Any) -> None:
    damaged(two, "nodes")
    # From its snapshot: the rows are read one by one.
    two.open()
    assert two.memory("k0").text == "0 " * 40
    with pytest.raises(StoreCorrupt, match="does not match its checksum"):
        two.export()
    # A failed read leaves nothing behind that the next one stumbles over.
    with pytest.raises(StoreCorrupt, match="does not match its checksum"):
        two.export()
    assert two.memory("k1").text == "1 " * 40
    two.close()
    two.path.unlink()
    two.open()


def test_a_damaged_header_is_refused(two: Any) -> None:
    two.close()
    whole = two.path.read_bytes()
    for offset in (16, 18, 20, 24, 28, 60, 68, 95, 100, 107):
        data = bytearray(whole)
        data[offset] ^= 1
        two.path.write_bytes(data)
        with pytest.raises(StoreCorrupt):
            Database(two.path)
        assert not all(found.ok for found in examine(str(two.path)))
    two.path.write_bytes(whole)
    two.open()


def test_a_page_that_another_program_wrote_is_told(two: Any) -> None:
    two.close()
    plain = apsw.Connection(str(two.path), vfs="unix")
    plain.execute("UPDATE nodes SET text = 'theirs' WHERE key = 'k7'").fetchall()
    plain.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    plain.close()
    shutil.rmtree(two.snapshots)
    with pytest.raises(StoreCorrupt, match="does not match its checksum"):
        two.open()
    two.path.unlink()
    two.open()


def test_a_snapshot_whose_number_was_turned_into_the_right_one_is_not_taken(two: Any) -> None:
    two.reopen()
    two.close()
    manifest = two.snapshots / "start-1" / snapshot_files.MANIFEST
    told = json.loads(manifest.read_text())
    right = told["seq"]
    assert snapshot_files.read(manifest.parent, right) is not None
    told["seq"] = right + 1
    manifest.write_text(json.dumps(told))
    assert snapshot_files.read(manifest.parent, right + 1) is None
    two.open()
