"""The audit log: who did what, chained, and never rewritten."""

import json
from typing import Any

import apsw
import pytest

from dreamsvc.memory import audit
from dreamsvc.v1.memory_pb2 import Memory


@pytest.fixture
def busy(room: Any) -> Any:
    for key in "abc":
        room.remember(Memory(key=key, text="a secret text"))
    room.forget("a")
    room.restore("a")
    return room


def broken(room: Any) -> int | None:
    return room.store.database.read(audit.broken_at)


def test_every_change_by_a_user_is_a_row_of_an_unbroken_chain(busy: Any) -> None:
    assert [row[0] for row in busy.rows("SELECT action FROM audit ORDER BY id")] == [
        "remember",
        "remember",
        "remember",
        "forget",
        "restore",
    ]
    assert broken(busy) is None
    seqs = [row[0] for row in busy.rows("SELECT seq FROM audit ORDER BY id")]
    assert seqs == sorted(set(seqs))


def test_the_log_holds_ids_and_no_content(busy: Any) -> None:
    details = [row[0] for row in busy.rows("SELECT detail FROM audit")]
    assert not any("secret" in detail for detail in details)
    assert json.loads(details[0])["memories"]["first"] == [busy.get("a").memory.id]


def test_a_long_list_is_told_by_count_and_digest() -> None:
    names = [str(i) for i in range(1000)]
    summary = audit.summary(names)
    assert (summary["count"], summary["first"]) == (1000, names[:20])
    assert summary["sha256"] != audit.summary(names[::-1])["sha256"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'nobody' WHERE id = 2",
        "DELETE FROM audit WHERE id = 2",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT id, 0, actor, action, space, detail, seq, previous, hash FROM audit",
        "REPLACE INTO audit SELECT * FROM audit WHERE id = 5",
        "UPDATE OR REPLACE audit SET id = 1 WHERE id = 2",
    ],
)
def test_rows_cannot_be_changed_or_taken_away(busy: Any, statement: str) -> None:
    before = busy.rows("SELECT * FROM audit")
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        busy.execute(statement)
    assert busy.rows("SELECT * FROM audit") == before


@pytest.mark.parametrize(
    ("column", "value"),
    [("at_us", 1), ("actor", "x"), ("action", "x"), ("space", 9), ("detail", "{}"), ("seq", 99), ("hash", bytes(32))],
)
def test_a_row_that_was_changed_behind_the_triggers_is_found(busy: Any, column: str, value: Any) -> None:
    busy.execute("DROP TRIGGER audit_no_update")
    busy.execute(f"UPDATE audit SET {column} = ? WHERE id = 3", value)
    # A forged hash shows at its own row, as any other change does.
    assert broken(busy) == 3


def test_a_row_that_was_taken_away_is_found(busy: Any) -> None:
    busy.execute("DROP TRIGGER audit_no_delete")
    busy.execute("DELETE FROM audit WHERE id = 2")
    assert broken(busy) == 3


def test_the_chain_goes_on_after_a_restart(busy: Any) -> None:
    busy.reopen()
    busy.remember(Memory(text="later"))
    assert broken(busy) is None
    assert busy.rows("SELECT count(*) FROM audit") == [(6,)]
