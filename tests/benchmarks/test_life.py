"""The life of a small store and what is verified of it: all acts are possible, and whatever is broken is told."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.proof.life import ACTS, Expected, Ledger, Life, digest, twin_path, verify
from dreamsvc.memory import sqlite


@pytest.fixture
def path() -> Iterator[Path]:
    shm = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="dreamsvc-test-", dir=shm if shm.is_dir() else None))
    try:
        yield directory / "memory.db"
    finally:
        shutil.rmtree(directory)


def lived(path: Path, *names: str) -> Ledger:
    life = Life(path, seed=1)
    for name in names:
        life.act(name)
    life.abandon()
    return life.ledger


@pytest.mark.parametrize("name", ACTS)
def test_every_act_leaves_what_the_ledger_says(name: str, path: Path) -> None:
    ledger = lived(path, name)
    known = ledger.digest
    assert verify(path, ledger) == []
    assert ledger.digest == digest(path) == known
    assert not twin_path(path).exists()


def test_all_acts_follow_one_another_in_one_life_and_in_several(path: Path) -> None:
    ledger = lived(path, *ACTS, *reversed(ACTS))
    assert verify(path, ledger) == []
    life = Life(path, seed=1, ledger=ledger)
    for name in ("dream", "revert", "dream", "unmerge", "restore", "purge"):
        life.act(name)
    life.close()
    assert verify(path, life.ledger) == []


def test_equal_lives_give_equal_stores(path: Path) -> None:
    ledgers = [lived(path.with_name(f"{name}.db"), "dream", "import", "forget", "unmerge") for name in "ab"]
    assert ledgers[0].digest is not None
    assert ledgers[0].digest == ledgers[1].digest
    assert ledgers[0].acked == ledgers[1].acked


def test_a_dream_that_is_taken_back_at_once_leaves_what_was_before_it(path: Path) -> None:
    life = Life(path, seed=1)
    life.act("link")
    before = life.ledger.digest
    life.act("dream")
    assert life.ledger.digest != before
    life.act("revert")
    assert life.ledger.digest == before
    life.abandon()
    assert verify(path, life.ledger) == []


def test_a_suspended_dream_is_kept_and_changes_nothing(path: Path) -> None:
    life = Life(path, seed=1)
    before = life.opened.digest()
    life.act("suspend")
    life.abandon()
    assert list(life.ledger.staged.values()) == [4]
    assert verify(path, life.ledger) == []
    assert digest(path) == before


def change(path: Path, sql: str) -> None:
    """What nobody may do to a store, the checksums of its pages included."""
    with contextlib.closing(sqlite.connect(path, writable=True)) as raw:
        for trigger in ("audit_no_update", "audit_no_delete", "audit_no_replace"):
            raw.execute(f"DROP TRIGGER {trigger}")
        raw.execute(sql)


BROKEN: dict[str, tuple[str, str]] = {
    "a memory is gone": ("UPDATE nodes SET key=NULL WHERE id=3", "was acknowledged as"),
    "a text is another": ("UPDATE nodes SET text='other' WHERE id=3", "was acknowledged as"),
    "a forgotten memory is back": ("UPDATE nodes SET deleted_us=NULL WHERE deleted_us IS NOT NULL", "and is Expected"),
    "somebody stored what nobody sent": (
        "UPDATE nodes SET key='stray' WHERE id=(SELECT min(id) FROM nodes WHERE key IS NULL)",
        "nobody stored it",
    ),
    "an edge weighs something else": ("UPDATE edges SET weight=0.99 WHERE id=1", "the export is"),
    "a vector is gone": ("DELETE FROM vectors WHERE node=1", "has none"),
    "the audit ends too early": ("DELETE FROM audit WHERE id=(SELECT max(id) FROM audit)", "of the audit"),
    "a row of the audit is another": ("UPDATE audit SET actor='x' WHERE id=1", "the audit chain"),
    "changes are counted anew": ("UPDATE meta SET value=1 WHERE key='change_seq'", "was acknowledged and the last one"),
    "a staged part is gone": ("DELETE FROM change_parts WHERE generation=0 AND part=2", "as kept and is given up"),
    "a checkpoint is gone": ("DELETE FROM checkpoints", "as kept and is given up"),
    "an image of before is another": (
        "UPDATE change_parts SET before=x'00' WHERE before IS NOT NULL",
        "reversal hash",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_whatever_is_broken_is_told(what: str, path: Path) -> None:
    ledger = lived(path, "dream", "forget", "suspend")
    statement, said = BROKEN[what]
    change(path, statement)
    found = verify(path, ledger)
    assert any(said in one for one in found), found


def test_a_call_in_flight_happens_whole_or_not_at_all(path: Path) -> None:
    ledger = lived(path)
    old = ledger.acked["m1-0"]
    new = Expected("sent", 0.5, True)
    for states, wrong in (
        ({"m1-0": old, "m1-1": ledger.acked["m1-1"]}, False),
        ({"m1-0": old, "new": new}, False),
        ({"m1-0": new, "m1-1": new}, False),
    ):
        with pytest.raises(OSError, match="in the middle"), ledger.recorded(states):
            raise OSError("in the middle")
        assert bool(verify(path, ledger)) == wrong
        assert ledger.calls == []
    with pytest.raises(OSError, match="in the middle"), ledger.recorded({"m1-0": new, "m1-1": new}):
        raise OSError("in the middle")
    change(path, "UPDATE nodes SET text='sent', importance=0.5 WHERE key='m1-0'")
    assert any("happened in part" in one for one in verify(path, ledger))


def test_a_store_that_does_not_open_is_told(path: Path) -> None:
    ledger = lived(path)
    path.write_bytes(b"nothing of a database" * 1000)
    found = verify(path, ledger)
    assert len(found) == 1
    assert "does not open" in found[0]


def test_after_a_fault_the_life_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(path, seed=1)

    def broken(*_: object) -> None:
        raise OSError("a fault")

    real: Callable[..., object] = life.opened.store.forget
    monkeypatch.setattr(life.opened.store, "forget", broken)
    with pytest.raises(OSError, match="a fault"):
        life.act("forget")
    monkeypatch.setattr(life.opened.store, "forget", real)
    life.act("forget")
    life.act("dream")
    life.abandon()
    assert verify(path, life.ledger) == []
