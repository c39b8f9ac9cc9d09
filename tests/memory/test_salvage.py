"""What a damaged store still holds becomes a sound one, or nothing is made; the damaged one is only read."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dreamsvc.errors import StoreCorrupt, StoreUnavailable
from dreamsvc.memory import salvage, write_log
from dreamsvc.memory.doctor import examine
from dreamsvc.memory.export import read
from dreamsvc.memory.sqlite import open_read_only
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import ExportSummary

PAGE = 8192


@pytest.fixture
def crashed(room: Any) -> Path:
    """A store whose service was killed: all that was changed lies in its log."""
    keys = [f"k{number}" for number in range(40)]
    room.remember(
        *(Memory(key=key, text=f"{key} {'text ' * 100}", vector=[1, number]) for number, key in enumerate(keys)),
        edges=[Edge(source="k0", target=key) for key in keys[1:]],
    )
    path = room.path.with_name("crashed.db")
    for suffix in ("", "-wal"):
        path.with_name(path.name + suffix).write_bytes(Path(f"{room.path}{suffix}").read_bytes())
    return path


def contents(path: Path) -> ExportSummary:
    *_, summary = read(path, "default")
    assert isinstance(summary, ExportSummary)
    return summary


def wrong(path: Path) -> list[str]:
    return [f"{one.name}: {one.detail}" for one in examine(str(path)) if not one.ok]


def test_a_log_that_a_plain_sqlite_moved_into_the_file_is_salvaged(crashed: Path, tmp_path: Path) -> None:
    held = contents(crashed)
    connection = sqlite3.connect(crashed)
    connection.execute("SELECT count(*) FROM nodes").fetchone()
    connection.close()
    assert wrong(crashed)
    before = crashed.read_bytes()
    made = salvage.salvage(crashed, tmp_path / "new.db")
    assert (made.memories, made.edges, made.log) == (40, 39, "")
    assert 0 < made.unvouched <= made.pages == len(before) // PAGE
    assert crashed.read_bytes() == before
    assert contents(made.store) == held
    assert not wrong(made.store)
    assert {path.name for path in tmp_path.iterdir()} >= {"new.db"}
    assert not list(tmp_path.glob("new.db?*"))


def test_of_a_log_with_a_flipped_bit_all_before_it_is_taken(crashed: Path, tmp_path: Path, room: Any) -> None:
    room.remember(Memory(key="late", text="in the last commit"))
    log = crashed.with_name(f"{crashed.name}-wal")
    raw = bytearray(Path(f"{room.path}-wal").read_bytes())
    first_commits = len(log.read_bytes())
    raw[first_commits + write_log.FRAME_HEADER + 100] ^= 1
    log.write_bytes(raw)
    made = salvage.salvage(crashed, tmp_path / "new.db")
    assert "is damaged" in made.log
    assert made.memories == 40
    assert not wrong(made.store)


def test_where_too_much_is_damaged_nothing_is_made(room: Any, tmp_path: Path) -> None:
    room.remember(*(Memory(key=f"k{number}", text="text " * 200) for number in range(40)))
    room.store.close()
    raw = bytearray(room.path.read_bytes())
    with open_read_only(room.path) as connection:  # type: ignore[attr-defined]
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'nodes'").fetchone()
    raw[(root - 1) * PAGE : root * PAGE] = bytes(PAGE)
    room.path.write_bytes(raw)
    with pytest.raises(StoreCorrupt):
        salvage.salvage(room.path, tmp_path / "new.db")
    assert not list(tmp_path.glob("new.db*"))


def test_nothing_is_overwritten_and_what_is_no_store_is_named(room: Any, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"mine")
    with pytest.raises(StoreUnavailable, match="never overwritten"):
        salvage.salvage(room.path, tmp_path / "there")
    with pytest.raises(StoreUnavailable, match="no store"):
        salvage.salvage(tmp_path / "absent", tmp_path / "new.db")
    assert (tmp_path / "there").read_bytes() == b"mine"
    with pytest.raises(StoreCorrupt):
        salvage.salvage(tmp_path / "there", tmp_path / "new.db")
