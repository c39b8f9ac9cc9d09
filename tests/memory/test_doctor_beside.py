"""What the doctor finds of dreams, requests, the audit's end, and beside the database; each with a way to mend it."""

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from dreamsvc import checkpoints, snapshot_files
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint
from dreamsvc.memory import doctor
from dreamsvc.memory.doctor import Finding, examine
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.memory_pb2 import Edge, Memory

AUDIT = "the end of the audit is there"
ANSWERS = "first answers to requests can be read"
BESIDE = "what lies beside the store is known"
CHECKPOINTS = "checkpoints are whole and belong to dreams that can go on"
COUNTERS = "ids and change numbers only grow"
EDGES = "living edges have living ends"
FORGOTTEN = "what is forgotten is kept for its days and gone after"
NIGHTS = "snapshots of dreams are whole"
RECORDS = "records of dreams agree with what became of them"
SCHEMA = "tables, indexes and triggers are this version's"
SNAPSHOTS = "snapshots for the next start show what the rows say"
UNSEALED = "what was not sealed changed nothing"


@pytest.fixture
def lived(room: Any, part: Any) -> Any:
    """Two spaces, a folded dream (change 1), an interrupted one (2) with a checkpoint, a request with its answer."""
    room.remember(
        *(Memory(key=key, text=f"{key} text", vector=[1, i]) for i, key in enumerate("abc")),
        edges=[Edge(source="a", target="b"), Edge(source="b", target="c")],
        request_id="r",
    )
    room.remember(Memory(key="x", text="x"), space="other")
    room.dream(part.weights(0, {1: 0.75}))
    change, dream = room.begin_dream()
    dream.state = Dream.STATE_SUSPENDED
    checkpoint = Checkpoint(format=checkpoints.FORMAT, next_part=1)
    room.journal.stage_dream(change, [part.weights(0, {1: 0.5})], checkpoint, dream).result(10)
    room.interrupted = dream.id
    assert wrong(room) == {}
    return room


def wrong(room: Any) -> dict[str, Finding]:
    found = [one for one in examine(str(room.path)) if not one.ok]
    assert all(one.mend for one in found), found
    return {one.name: one for one in found}


def notes(room: Any) -> str:
    return "; ".join(one.detail for one in examine(str(room.path)) if one.ok)


DREAM = zlib.crc32(b"\xff")


@pytest.mark.parametrize(
    ("statements", "name", "detail", "mend"),
    [
        (["DROP TRIGGER audit_no_delete"], SCHEMA, "audit_no_delete is missing", "what else wrote"),
        (["DROP INDEX nodes_key", "CREATE INDEX nodes_key ON nodes (key)"], SCHEMA, "nodes_key was changed", ""),
        (
            ["DROP TRIGGER audit_no_delete", "DELETE FROM audit WHERE id > 1"],
            AUDIT,
            "a user changed nodes at change 2, and the last line is of change 1",
            "",
        ),
        (
            ["DROP TRIGGER audit_no_delete", "DELETE FROM audit WHERE action = 'seal'"],
            AUDIT,
            "change 1 is folded, and no line says seal",
            "",
        ),
        (
            ["DROP TRIGGER audit_no_delete", "DELETE FROM audit WHERE action = 'fold'"],
            AUDIT,
            "change 1 is folded, and no line says fold",
            "",
        ),
        (["DELETE FROM change_parts WHERE change = 1"], AUDIT, "change 1 was sealed with 1 parts and has 0", ""),
        (["UPDATE nodes SET changed_by = 2 WHERE id = 1"], UNSEALED, "row 1 of nodes comes from change 2", "restore"),
        (["UPDATE edges SET born_in = 2 WHERE id = 1"], UNSEALED, "row 1 of edges comes from change 2", "restore"),
        (["UPDATE dreams SET body = x'ff' WHERE change = 2"], RECORDS, "cannot be read", "start the service"),
        (["UPDATE dreams SET config = x'ff' WHERE change = 1"], RECORDS, "cannot be read", "history"),
        (["UPDATE dreams SET state = 2 WHERE change = 2"], RECORDS, "is that of another dream or state", "start"),
        (
            ["UPDATE changes SET state = 'dropped' WHERE id = 2"],
            RECORDS,
            "is suspended and its change 2 is dropped",
            "",
        ),
        (["DELETE FROM dreams WHERE change = 1"], RECORDS, "change 1 is a dream without a record", ""),
        (["UPDATE checkpoints SET change = 1"], CHECKPOINTS, "left over: dream", "start the service"),
        (["UPDATE requests SET answer = x'ff'"], ANSWERS, 'RememberRequest "r" of space "default"', "new request_id"),
        (["UPDATE requests SET method = 'Nothing'"], ANSWERS, 'Nothing "r"', ""),
        (["UPDATE spaces SET user_changes = 0 WHERE id = 1"], COUNTERS, 'space "default" was changed less often', ""),
        (["UPDATE edges SET space = 2 WHERE id = 1"], EDGES, "edge 1 leads to another space", ""),
        (
            ["UPDATE nodes SET purged = 1, text = '', title = '', deleted_us = 1 WHERE id = 3", "DELETE FROM edges"],
            FORGOTTEN,
            "row 3 was purged while it could still be restored",
            "restore",
        ),
    ],
)
def test_each_damage_is_found_named_and_can_be_mended(
    lived: Any, statements: list[str], name: str, detail: str, mend: str
) -> None:
    lived.close()
    raw = apsw.Connection(str(lived.path))
    for statement in statements:
        raw.execute(statement).fetchall()
    raw.close()
    found = wrong(lived)[name]
    assert detail in found.detail
    assert mend in found.mend
    lived.path = lived.path.with_name("fresh.db")
    lived.open()


def test_a_vector_is_mended_by_remembering_it_again(lived: Any) -> None:
    lived.execute("UPDATE vectors SET crc = crc + 1 WHERE node = 2")
    found = wrong(lived)["vectors match their checksums and memories"]
    assert 'remember memory "b" of space "default" again' in found.mend
    lived.remember(Memory(key="b", text="b text", vector=[1, 1]))
    assert wrong(lived) == {}


def test_purged_memories_are_in_order(lived: Any) -> None:
    lived.forget("c")
    for _ in range(400):
        lived.clock.us += 86_400_000_000 // 2
        lived.store.keep_time().result()
    assert lived.purge().memories == 1
    assert wrong(lived) == {}


# ── beside the database ─────────────────────────────────────────────────────────


def torn(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_torn_snapshot_is_told_and_can_be_deleted(lived: Any) -> None:
    lived.reopen()
    lived.close()
    torn(lived.snapshots / "start-1" / "importance.npy")
    found = wrong(lived)[SNAPSHOTS]
    assert found.detail == 'that of space "default" is torn'
    assert found.mend == f"delete {lived.snapshots / 'start-1'}, nothing is lost: the next start builds it anew"
    lived.open()
    assert wrong(lived) == {}


def test_one_of_an_earlier_change_or_that_was_being_replaced_is_no_damage(lived: Any) -> None:
    lived.reopen()
    lived.remember(Memory(text="more"))
    assert wrong(lived) == {}
    assert 'that of space "default" shows change ' in notes(lived)
    (lived.snapshots / "start-2" / "importance.npy").unlink()
    assert wrong(lived) == {}
    assert 'that of space "other" was being replaced; the next start builds it anew' in notes(lived)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE nodes SET importance = 0.75 WHERE id = 1", "importance"),
        ("UPDATE edges SET weight = 0.125 WHERE id = 1", "weights"),
        ("UPDATE nodes SET text = 'another' WHERE id = 1", "words"),
        ("UPDATE edges SET deleted_us = 1 WHERE id = 2", "living edges"),
        (
            "UPDATE vectors SET body = x'003c003c', crc = {crc} WHERE node = 1".format(crc=zlib.crc32(b"\0<\0<")),
            "vectors",
        ),
    ],
)
def test_a_snapshot_that_shows_something_else_than_the_rows_is_found(lived: Any, statement: str, what: str) -> None:
    lived.close()
    raw = apsw.Connection(str(lived.path))
    raw.execute(statement).fetchall()
    raw.close()
    found = wrong(lived)[SNAPSHOTS]
    assert f"has other {what} than the rows" in found.detail
    assert "delete" in found.mend
    lived.open()


def test_snapshots_of_dreams_are_told(lived: Any) -> None:
    assert f"dream {lived.interrupted} was interrupted and its snapshot is gone" in notes(lived)
    snapshot_files.write(lived.store.dream_snapshot_path(lived.interrupted), *lived.store.dream_snapshot("default"))
    assert "snapshot is gone" not in notes(lived)
    assert f"dream {lived.interrupted} can be resumed" in notes(lived)
    torn(lived.store.dream_snapshot_path(lived.interrupted) / "weights.npy")
    found = wrong(lived)[NIGHTS]
    assert found.detail == f"the snapshot of dream {lived.interrupted} is torn"
    assert "dreamsvc abort --discard" in found.mend
    snapshot_files.remove(lived.store.dream_snapshot_path(lived.interrupted))
    (lived.snapshots / "dream-of-nobody").mkdir(parents=True)
    assert f"no dream needs {lived.snapshots / 'dream-of-nobody'}; the next start removes it" in notes(lived)


def test_what_broke_off_is_told_and_is_no_damage(lived: Any) -> None:
    lived.close()
    for name in ("memory.db.schema1.bak", "memory.db.schema1.bak.part", "memory.db.before-restore-1"):
        lived.path.with_name(name).write_bytes(b"x")
    (lived.snapshots / "start-1.new").mkdir()
    assert wrong(lived) == {}
    told = next(one.detail for one in examine(str(lived.path)) if one.name == BESIDE)
    assert "memory.db.schema1.bak is the store as an older dreamsvc left it" in told
    assert "memory.db.schema1.bak.part broke off; it can be deleted" in told
    assert "memory.db.before-restore-1 was replaced by a backup" in told
    assert "start-1.new broke off; the next snapshot takes its place" in told
    lived.open()


def test_who_serves_it_is_told(lived: Any) -> None:
    assert f"process {os.getpid()} serves it" in notes(lived)
    lived.close()
    assert "no process serves it" in notes(lived)
    # The lock file of a service that died names a process that is no more, or another one by now.
    lived.path.with_name("memory.db.lock").write_text("4194304")
    assert "no process serves it" in notes(lived)
    lived.open()


def test_a_service_of_another_user_is_told_too(lived: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    assert f"process {os.getpid()} serves it" in notes(lived)
    lived.close()
    assert "no process serves it" in notes(lived)
    lived.open()


def test_a_damaged_log_is_told_with_the_way_out(lived: Any) -> None:
    lived.remember(Memory(text="late"))
    data = lived.path.with_name("memory.db-wal").read_bytes()
    database = lived.path.read_bytes()
    lived.close()
    place = lived.path.with_name("copy.db")
    damaged = bytearray(data)
    damaged[32 + 500] ^= 1
    place.write_bytes(database)
    place.with_name("copy.db-wal").write_bytes(damaged)
    (found,) = [one for one in examine(str(place)) if one.name == doctor.LOG]
    assert "frame 1 of" in found.detail
    assert "restore" in found.mend
    # What the database has already is no loss.
    raw = apsw.Connection(str(place.with_name("whole.db")))
    raw.close()
    place.write_bytes(database)
    place.with_name("copy.db-wal").write_bytes(data)
    raw = apsw.Connection(str(place))
    raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    behind = place.with_name("copy.db-wal").read_bytes(), place.read_bytes()
    raw.close()
    damaged = bytearray(behind[0])
    damaged[32 + 500] ^= 1
    place.write_bytes(behind[1])
    place.with_name("copy.db-wal").write_bytes(damaged)
    (found,) = [one for one in examine(str(place)) if one.name == doctor.LOG]
    assert "nothing is lost: the database has all that it holds" in found.mend
    lived.open()


# ── as a whole ──────────────────────────────────────────────────────────────────


def test_all_checks_see_one_moment(lived: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While users write: what one check read before a change and another after it would not agree."""
    before = doctor.CHECKS[1][1]

    def meanwhile(place: Any) -> Any:
        lived.remember(Memory(key="new", text="new"), edges=[Edge(source="new", target="a")])
        lived.forget("b")
        yield from before(place)

    monkeypatch.setattr(doctor, "CHECKS", (doctor.CHECKS[0], (doctor.CHECKS[1][0], meanwhile), *doctor.CHECKS[2:]))
    assert wrong(lived) == {}


def test_progress_is_told_check_by_check(lived: Any) -> None:
    heard: list[tuple[str, int, int]] = []
    found = examine(str(lived.path), progress=lambda *told: heard.append(told))
    assert [name for name, _, _ in heard] == [one.name for one in found]
    assert [number for _, number, _ in heard] == list(range(1, len(found) + 1))
    assert {total for _, _, total in heard} == {len(found)}


def test_a_row_that_no_check_foresaw_is_a_finding_and_no_traceback(lived: Any) -> None:
    lived.execute("UPDATE audit SET detail = '{' WHERE 0")
    lived.close()
    raw = apsw.Connection(str(lived.path))
    raw.execute("DROP TRIGGER audit_no_update").fetchall()
    raw.execute("UPDATE audit SET detail = '{' WHERE action = 'seal'").fetchall()
    raw.close()
    assert "JSONDecodeError" in wrong(lived)[AUDIT].detail
    lived.path = lived.path.with_name("fresh.db")
    lived.open()


# ── the command ─────────────────────────────────────────────────────────────────


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    from dreamsvc.__main__ import main

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(["doctor", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def test_the_command_tells_what_is_wrong_and_how_to_mend_it(lived: Any, run: Any) -> None:
    code, out, _ = run("--store", str(lived.path))
    assert code == 0
    assert out.endswith("nothing is wrong\n")
    assert "WRONG" not in out
    lived.execute("UPDATE vectors SET crc = crc + 1 WHERE node = 2")
    code, out, _ = run("--store", str(lived.path))
    assert code == 1
    assert "WRONG  vectors match their checksums and memories: the vector of memory row 2" in out
    assert '\n       to mend it: remember memory "b" of space "default" again' in out
    assert out.endswith("something is wrong, see above\n")


def test_the_command_gives_json(lived: Any, run: Any) -> None:
    lived.execute("UPDATE vectors SET crc = crc + 1 WHERE node = 2")
    code, out, err = run("--store", str(lived.path), "--json")
    told = json.loads(out)
    assert (code, told["ok"], err) == (1, False, "")
    assert all(finding.keys() == {"name", "ok", "detail", "mend"} for finding in told["findings"])
    (found,) = [finding for finding in told["findings"] if not finding["ok"]]
    assert found["mend"].startswith("remember memory")


def test_the_command_says_what_it_does(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert "says how to mend" in out.replace("\n", " ")
    assert "0 nothing is wrong, 1 something is wrong, 2 wrong usage" in out


def test_a_store_that_is_not_there_is_told(run: Any, tmp_path: Path) -> None:
    code, out, _ = run("--store", str(tmp_path / "none.db"))
    assert code == 1
    assert "does not exist" in out
    assert "--store" in out
