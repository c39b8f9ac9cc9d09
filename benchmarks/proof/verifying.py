"""What must hold of a store whatever happened to it: the invariants, each told as a sentence where it does not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.proof.acts import backup_path
from benchmarks.proof.jumping_clock import BEGINNING_US, JumpingClock
from benchmarks.proof.ledger import Audited, Call, Expected, Ledger
from benchmarks.proof.opened import SPACE, Opened
from benchmarks.proof.same import same_as_loaded
from dreamsvc.clock import Clock
from dreamsvc.errors import DreamsvcError
from dreamsvc.memory import backup, dreams, loading, operations
from dreamsvc.memory.doctor import examine
from dreamsvc.memory.standing import FACET, FOLDED, PLAIN
from dreamsvc.v1.dream_pb2 import Dream

MOST_SHOWN = 5


def verify(path: Path, ledger: Ledger, *, clock: Clock | None = None, reopen: bool = True) -> list[str]:
    """Opens the store as a start of the service does and looks at everything; [] where all holds.

    With `reopen` it is then closed as the service ends, and looked at as the snapshot of that shows it.
    What is found of calls in flight counts as acknowledged from then on: it is durable now.
    """
    clock = clock or JumpingClock(ledger.now_us or BEGINNING_US)
    try:
        opened = Opened(path, clock)
    except DreamsvcError as error:
        return [f"the store does not open: {error.message}"]
    try:
        wrong = [*_of_ledger(opened, ledger), *_of_store(opened), *_of_backup(path)]
        if not wrong:
            settle(opened, ledger)
        if reopen:
            opened.close()
            opened = Opened(path, clock)
            wrong += [f"from its snapshot, {why}" for why in _of_graphs(opened)]
    except Exception as error:
        # Whatever a broken store makes of its reader: it is broken.
        return [f"the store cannot be looked at: {type(error).__name__}: {error}"]
    finally:
        opened.abandon()
    return wrong


def settle(opened: Opened, ledger: Ledger) -> None:
    """Decides by what is there which calls in flight happened; raises AssertionError where one did in part."""
    found = _states(opened)
    digest = opened.digest() if any(call.digest for call in ledger.calls) else None
    for call in list(ledger.calls):
        if call.states and not _shows(found, call):
            assert _shows_not(found, call, ledger), "a call happened in part"
            ledger.calls.remove(call)
        elif not call.states and digest is not None and digest != call.digest:
            ledger.calls.remove(call)
        else:
            ledger.happened(call)


def last_audited(opened: Opened) -> Audited | None:
    found = opened.rows("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1")
    return Audited(*found[0]) if found else None


# ── what was promised ───────────────────────────────────────────────────────────


def _of_ledger(opened: Opened, ledger: Ledger) -> Iterator[str]:
    found = _states(opened)
    pending = ledger.pending
    for key, expected in ledger.acked.items():
        if key not in pending and found.get(key) != expected:
            yield f"memory {key} was acknowledged as {expected} and is {found.get(key)}"
    for key in found:
        if key not in ledger.acked and key not in pending:
            yield f"memory {key} is there and nobody stored it"
    happened: list[Call] = []
    for call in ledger.calls:
        if _shows(found, call):
            happened.append(call)
        elif not _shows_not(found, call, ledger):
            seen = {key: found.get(key) for key in call.states}
            yield f"a call happened in part: {_short(dict(call.states))} became {_short(seen)}"
    if ledger.digest is not None:
        yield from _of_digest(opened.digest(), ledger, happened)
    yield from _of_history(opened, ledger)


def _of_digest(digest: str, ledger: Ledger, happened: list[Call]) -> Iterator[str]:
    allowed = {call.digest for call in happened if call.states} or {
        ledger.digest,
        *(call.digest for call in ledger.calls if not call.states),
    }
    if None not in allowed and digest not in allowed:
        yield f"the export is {digest[:12]} and must be {' or '.join(one[:12] for one in allowed if one)}"


def _of_history(opened: Opened, ledger: Ledger) -> Iterator[str]:
    if ledger.audited is not None:
        kept = opened.rows("SELECT hash FROM audit WHERE id=?", ledger.audited.id)
        if kept != [(ledger.audited.hash,)]:
            yield f"row {ledger.audited.id} of the audit was acknowledged and is gone or another"
    seq = opened.rows("SELECT value FROM meta WHERE key='change_seq'")[0][0]
    if seq < ledger.change_seq:
        yield f"change {ledger.change_seq} was acknowledged and the last one is {seq}"
    for uid, count in ledger.staged.items():
        yield from _of_suspended(opened, uid, count)


def _of_suspended(opened: Opened, uid: str, count: int) -> Iterator[str]:
    row = opened.journal.dream(SPACE, uid)
    if row.dream.state == Dream.STATE_DISCARDED:
        yield f"dream {uid} was acknowledged as kept and is {row.dream.message}"
    if row.dream.state not in (Dream.STATE_RUNNING, Dream.STATE_SUSPENDED):
        return
    body = opened.store.database.read(lambda c: operations.staged(c, row.change, operations.STAGED))
    checkpoint, why = opened.store.database.read(lambda c: dreams.load_checkpoint(c, row.change))
    if len(body) < count:
        yield f"{count} parts of dream {uid} were acknowledged and {len(body)} are there"
    if checkpoint is None:
        yield f"dream {uid} has no checkpoint: {why or 'none was kept'}"


def _states(opened: Opened) -> dict[str, Expected]:
    query = "SELECT key, text, importance, deleted_us, role FROM nodes WHERE key IS NOT NULL AND purged=0"
    return {
        key: Expected(text, importance, deleted is None or role == FOLDED)
        for key, text, importance, deleted, role in opened.rows(query)
    }


def _shows(found: dict[str, Expected], call: Call) -> bool:
    return all(found.get(key) == state for key, state in call.states.items())


def _shows_not(found: dict[str, Expected], call: Call, ledger: Ledger) -> bool:
    return all(found.get(key) == ledger.acked.get(key) for key in call.states)


def _short(states: Any) -> str:
    text = str(states)
    return text if len(text) < 300 else text[:297] + "..."


# ── what holds of every store ───────────────────────────────────────────────────


def _of_store(opened: Opened) -> Iterator[str]:
    for finding in examine(str(opened.path)):
        if not finding.ok:
            yield f"the doctor: {finding.name}: {finding.detail}"
    query = (
        f"SELECT id FROM nodes WHERE deleted_us IS NULL AND key IS NOT NULL AND role IN ({PLAIN}, {FACET})"
        " AND id NOT IN (SELECT node FROM vectors UNION SELECT node FROM packed_vectors)"
    )
    for (node,) in opened.rows(query)[:MOST_SHOWN]:
        yield f"row {node} was stored with a vector and has none"
    yield from _of_graphs(opened)
    left = opened.rows("SELECT id, state FROM changes WHERE state IN ('sealed', 'reverting')")
    for change, state in left:
        yield f"change {change} is {state} after the recovery"


def _of_backup(path: Path) -> Iterator[str]:
    """One that has its name is whole."""
    if backup_path(path).exists():
        try:
            backup.check(backup_path(path))
        except DreamsvcError as error:
            yield f"the backup: {error.message}"


def _of_graphs(opened: Opened) -> Iterator[str]:
    for space in opened.store.space_names():
        fresh = opened.store.database.read(lambda c, name=space: loading.load(c, opened.store.space(name)))
        try:
            same_as_loaded(opened.store.graph(space).view, fresh.view)
        except AssertionError as error:
            lines = " ".join(str(error).split())
            yield f"the live graph of {space} is not what a full load gives: {lines[:300]}"
