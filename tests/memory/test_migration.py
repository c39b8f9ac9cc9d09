"""A store that an older dreamsvc left: it is copied, brought up to date, and goes on."""

import json
import shutil
import stat
from importlib import resources
from typing import Any

import apsw
import pytest

from benchmarks.proof.old_store import old_store
from dreamsvc.dreamer.v1.operations_pb2 import Expansion, Expansions, Operations, Positions
from dreamsvc.errors import StoreCorrupt, StoreUnavailable
from dreamsvc.memory import sqlite
from dreamsvc.memory.database import Database
from dreamsvc.memory.doctor import examine
from dreamsvc.v1.memory_pb2 import Memory


@pytest.fixture
def old(rooms: Any) -> Any:
    """Gives a room at an old store."""
    with rooms() as room:
        room.close()
        room.path = room.path.with_name("old.db")
        old_store(room.path)
        yield room


def test_an_old_store_opens_and_goes_on(old: Any, part: Any) -> None:
    old.open()
    assert old.rows("PRAGMA user_version") == [(sqlite.SCHEMA_VERSION,)]
    assert {memory["key"] for memory in map(json.loads, old.export().splitlines()) if "key" in memory} == set("abc")
    assert old.edges() == {("a", "b", "related"): 0.25}
    old.in_order()
    before = old.export()
    change = old.dream(part.eliminations(0, (1, [2])), part.containers(1, part.container(1, old.vectors([1, 3]))))
    assert old.memory("a").role != 0
    old.in_order()
    old.revert(change)
    assert old.export() == before
    old.restore("d")
    old.remember(Memory(key="e", text="new"))
    old.in_order()
    old.clock.us += 400 * 86_400_000_000
    old.forget("a")
    old.clock.us += 31 * 86_400_000_000
    assert old.purge().memories == 1
    old.in_order()


def test_an_old_store_knows_nothing_derived_until_it_dreams(old: Any) -> None:
    old.open()
    for table in ("expansions", "positions", "blind_spots", "coactivations"):
        assert old.rows(f"SELECT * FROM {table}") == []
    assert [hit.node for hit in old.find("a") if hit.lexical] == [1]
    change = old.dream(
        Operations(expansions=Expansions(expansions=[Expansion(node=2, words=["a"], gains=[0.5])])),
        Operations(part=1, positions=Positions(node_ids=[1], dimension=2, points=[0, 0.5])),
    )
    assert [hit.node for hit in old.find("a") if hit.lexical] == [1, 2]
    old.in_order()
    old.revert(change)
    assert [hit.node for hit in old.find("a") if hit.lexical] == [1]
    old.in_order()


def test_the_old_file_is_kept_beside_it(old: Any) -> None:
    old.path.chmod(0o600)
    old.open()
    copy = old.path.with_name("old.db.schema1.bak")
    assert not list(old.path.parent.glob("*.part"))
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    raw = apsw.Connection(str(copy))
    assert raw.execute("PRAGMA user_version").fetchone() == (1,)
    assert raw.execute("PRAGMA application_id").fetchone() == (sqlite.APPLICATION_ID,)
    assert raw.execute("SELECT group_concat(key, '') FROM nodes").fetchone() == ("abcd",)
    raw.close()
    # It is a store: put back in place it opens again, and a later start makes no copy.
    data = copy.read_bytes()
    old.close()
    copy.unlink()
    old.open()
    assert not copy.exists()
    old.close()
    for file in old.path.parent.glob("old.db*"):
        if file.is_file():
            file.unlink()
    old.path.write_bytes(data)
    old.open()
    assert old.edges() == {("a", "b", "related"): 0.25}


def test_what_lies_in_the_log_only_is_in_the_copy(old: Any) -> None:
    raw = apsw.Connection(str(old.path))
    raw.execute("PRAGMA wal_autocheckpoint=0").fetchall()
    raw.execute("UPDATE nodes SET text = 'late' WHERE id = 1")
    # As a crash leaves it: nobody moved the log into the file.
    wal = old.path.with_name("old.db-wal")
    content = old.path.read_bytes(), wal.read_bytes()
    raw.close()
    old.path.write_bytes(content[0])
    wal.write_bytes(content[1])
    old.path.with_name("old.db-shm").unlink(missing_ok=True)
    old.open()
    assert old.memory("a").text == "late"
    raw = apsw.Connection(str(old.path.with_name("old.db.schema1.bak")))
    assert raw.execute("SELECT text FROM nodes WHERE id = 1").fetchone() == ("late",)
    raw.close()


def test_without_a_copy_nothing_is_upgraded(old: Any) -> None:
    blocked = old.path.with_name("old.db.schema1.bak")
    (blocked / "in the way").mkdir(parents=True)
    with pytest.raises(StoreUnavailable, match="no copy could be made before the upgrade"):
        Database(old.path)
    raw = apsw.Connection(str(old.path))
    assert raw.execute("PRAGMA user_version").fetchone() == (1,)
    raw.close()
    (blocked / "in the way").rmdir()
    blocked.rmdir()
    old.open()
    assert old.edges()


def test_an_upgrade_that_broke_off_is_begun_anew(old: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = resources.files

    def broken(package: str) -> Any:
        raise OSError("no script")

    monkeypatch.setattr(resources, "files", broken)
    with pytest.raises(OSError, match="no script"):
        Database(old.path)
    monkeypatch.setattr(resources, "files", real)
    old.open()
    assert old.edges()


def test_an_upgraded_store_has_a_checksum_in_every_page(old: Any) -> None:
    old.open()
    old.close()
    data = bytearray(old.path.read_bytes())
    for page in range(0, len(data), 8192):
        # A page that is not in use has none, and needs none.
        if any(data[page + 8184 : page + 8192]):
            data[page + 5000] ^= 1
    old.path.write_bytes(data)
    with pytest.raises(StoreCorrupt, match="does not match its checksum"):
        Database(old.path)
    for page in range(0, len(data), 8192):
        if any(data[page + 8184 : page + 8192]):
            data[page + 5000] ^= 1
    data[data.index(b"b text")] ^= 1
    old.path.write_bytes(data)
    shutil.rmtree(old.snapshots)
    with pytest.raises(StoreCorrupt, match="does not match its checksum"):
        old.open()
    old.path.write_bytes(b"")
    old.open()


def test_the_doctor_waits_for_the_upgrade_and_a_newer_store_is_refused(old: Any) -> None:
    (found,) = examine(str(old.path))
    assert not found.ok
    assert "older dreamsvc (schema 1); the next start of the service upgrades it" in found.detail
    newer = old.path.with_name("newer.db")
    old_store(newer, sqlite.SCHEMA_VERSION + 1)
    with pytest.raises(StoreUnavailable, match="newer dreamsvc"):
        Database(newer)
    assert not list(newer.parent.glob("newer.db*.bak"))
    old.open()
