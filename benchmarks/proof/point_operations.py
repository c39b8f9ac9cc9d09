"""What a crash at any point may interrupt: how each operation is made ready, done, and gone on with after the crash."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import apsw

from benchmarks.proof import acts
from benchmarks.proof.jumping_clock import DAY, SECOND, JumpingClock
from benchmarks.proof.ledger import Expected, Ledger
from benchmarks.proof.life import Life, digest
from benchmarks.proof.old_store import NOW_US, old_store
from benchmarks.proof.opened import SPACE, Opened
from dreamsvc import checkpoints, entropy
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint
from dreamsvc.errors import DreamsvcError
from dreamsvc.memory import backup, shelf
from dreamsvc.v1.dream_service_pb2 import RevertRequest
from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest

SEED = 7
DREAM_ID = entropy.uuid_for("dream", "interrupted")
# Says that points count from here on.
type Arm = Callable[[], None]


class Operation(NamedTuple):
    """All of it works on a store at a path, in a directory of its own that nobody else uses."""

    # Makes the store; gives what it must hold.
    prepare: Callable[[Path], Ledger]
    # The operation; the digest is what the export is at its end, None in the first run, which finds it out.
    run: Callable[[Path, Ledger, str | None, Arm], None]
    # After the recovery: what its user does then, until it is done, and whether that was anything; None where the
    # recovery did all there is to do.
    go_on: Callable[[Path, Ledger, str], bool] | None = None
    # What must hold beside the invariants, once the store is recovered.
    check: Callable[[Path], list[str]] = lambda _: []
    # The store has to become what it is at the end whatever happens: it was promised before.
    promised: bool = False
    # Once it is done there is nothing left that its user would go on with.
    ends: bool = True


# ── what users do ───────────────────────────────────────────────────────────────


def _act(name: str, *before: str, wait_us: int = 0) -> Operation:
    def prepare(path: Path) -> Ledger:
        life = _lived(path, *before)
        if wait_us:
            life.wait(wait_us)
        life.close()
        return life.ledger

    def run(path: Path, ledger: Ledger, after: str | None, arm: Arm) -> None:
        life = Life(path, seed=SEED, ledger=ledger, twin=False)
        planned = life.plan(name)
        arm()
        life.do(planned, after)

    def go_on(path: Path, ledger: Ledger, goal: str) -> bool:
        if digest(path) == goal:
            return False
        life = Life(path, seed=SEED, ledger=ledger, twin=False)
        life.do(life.plan(name), goal)
        life.close()
        return True

    return Operation(prepare, run, go_on)


def _lived(path: Path, *names: str) -> Life:
    life = Life(path, seed=SEED, twin=False)
    for name in names:
        life.act(name)
    return life


def _close(path: Path, ledger: Ledger, after: str | None, arm: Arm) -> None:
    life = Life(path, seed=SEED, ledger=ledger, twin=False)
    arm()
    life.close()


# ── what dreams do ──────────────────────────────────────────────────────────────


def _before_dream(path: Path) -> Ledger:
    life = _lived(path, "forget", "link")
    life.close()
    return life.ledger


def _stage(path: Path, ledger: Ledger, after: str | None, arm: Arm) -> None:
    """A dream in three pieces, a checkpoint with each; the recovery finds it interrupted."""
    opened = Opened(path, _clock(ledger))
    journal = acts.made_parts(opened, Random(SEED))
    arm()
    change, record = acts.begin(opened, DREAM_ID)
    for first in (0, 4, 8):
        part = journal[first : first + 4]
        acts.stage(
            opened, change, record, part, Checkpoint(format=checkpoints.FORMAT, seed=1, next_part=first + len(part))
        )
        ledger.kept(DREAM_ID, first + len(part))


def _staged(path: Path) -> Ledger:
    ledger = _before_dream(path)
    opened = Opened(path, _clock(ledger))
    journal = acts.made_parts(opened, Random(SEED))
    change, record = acts.begin(opened, DREAM_ID)
    acts.stage(opened, change, record, journal, Checkpoint(format=checkpoints.FORMAT, seed=1, next_part=len(journal)))
    ledger.kept(DREAM_ID, len(journal))
    opened.abandon()
    _before(path).write_text(digest(path))
    return ledger


def _seal(path: Path, ledger: Ledger, after: str | None, arm: Arm) -> None:
    opened = Opened(path, _clock(ledger), recover=False)
    arm()
    _seal_in(opened, ledger, after)


def _seal_in(opened: Opened, ledger: Ledger, after: str | None) -> None:
    row = opened.journal.dream(SPACE, DREAM_ID)
    acts.seal(opened, ledger, row.change, row.dream, after)


def _dream_on(path: Path, ledger: Ledger, goal: str) -> bool:
    """As the next trigger: goes on from the checkpoint, or begins anew where there is no dream yet."""
    if digest(path) == goal:
        return False
    opened = Opened(path, _clock(ledger))
    try:
        resumable = opened.journal.resumable(SPACE, 1.0)
        first = 0
        if resumable is None:
            change, record = acts.begin(opened, DREAM_ID)
        else:
            assert not resumable.unfit, resumable.unfit
            change, record = resumable.row.change, resumable.row.dream
            first = resumable.checkpoint.next_part if resumable.checkpoint is not None else 0
            assert first <= len(resumable.staged)
        # A dreamer plans by the snapshot of the beginning, which nothing has changed since.
        journal = acts.made_parts(opened, Random(SEED))
        acts.stage(
            opened,
            change,
            record,
            journal[first:],
            Checkpoint(format=checkpoints.FORMAT, seed=1, next_part=len(journal)),
        )
        acts.seal(opened, ledger, change, record, goal)
        opened.wait(opened.records.finish(opened.journal.dream(SPACE, DREAM_ID)))
    finally:
        opened.abandon()
    return True


def _sealed(path: Path) -> Ledger:
    ledger = _staged(path)
    opened = Opened(path, _clock(ledger), recover=False)
    _seal_in(opened, ledger, None)
    opened.abandon()
    return ledger


def _fold(path: Path, ledger: Ledger, after: str | None, arm: Arm) -> None:
    opened = Opened(path, _clock(ledger), recover=False)
    row = opened.journal.dream(SPACE, DREAM_ID)
    arm()
    opened.wait(opened.records.finish(row))


def _take_back(path: Path, ledger: Ledger, goal: str) -> bool:
    """However often it broke off, what was before the dream is known."""
    before = _before(path).read_text()
    opened = Opened(path, _clock(ledger))
    request = RevertRequest(space=SPACE, dream_id=DREAM_ID)
    with ledger.recorded({}, before):
        opened.journal.begin_revert(request).result(acts.PATIENCE_S)
    opened.wait(opened.records.take_back(opened.journal.dream(SPACE, DREAM_ID)))
    opened.abandon()
    assert digest(path) == before, "taking the dream back does not give what was before it"
    return True


def _before(path: Path) -> Path:
    return path.with_name("before.txt")


def _left_behind(path: Path) -> Ledger:
    """A sealed dream and a sealed import, neither folded, and of both kinds one that was not sealed."""
    ledger = _sealed(path)
    opened = Opened(path, _clock(ledger), recover=False)
    change, record = acts.begin(opened, entropy.uuid_for("dream", "second"))
    journal = acts.made_parts(opened, Random(SEED + 1))
    acts.stage(opened, change, record, journal, Checkpoint(format=checkpoints.FORMAT, seed=1, next_part=len(journal)))
    for keys, seal in ((("s1", "s2"), True), (("u1", "u2"), False)):
        memories = [Memory(key=key, text=f"text {key}", importance=0.5, vector=[0.5] * acts.DIMENSION) for key in keys]
        imported = opened.journal.begin_import(SPACE).result(acts.PATIENCE_S)[0]
        bodies = [RememberRequest(space=SPACE, memories=[memory]).SerializeToString() for memory in memories]
        opened.journal.stage_bytes(imported, 0, bodies).result(acts.PATIENCE_S)
        if seal:
            opened.journal.seal_import(imported, SPACE, "client", acts.DIMENSION).result(acts.PATIENCE_S)
            ledger.acked |= {memory.key: Expected(memory.text, 0.5, True) for memory in memories}
    opened.abandon()
    return ledger


def _start(path: Path, ledger: Ledger, after: str | None, arm: Arm) -> None:
    arm()
    Opened(path, _clock(ledger))


def _clock(ledger: Ledger) -> JumpingClock:
    return JumpingClock(ledger.now_us or 0)


# ── what keepers of stores do ───────────────────────────────────────────────────


def _old(path: Path) -> Ledger:
    old_store(path)
    texts = {key: Expected(f"{key} text", 0.5, key != "d") for key in "abcd"}
    return Ledger(acked=texts, now_us=NOW_US + SECOND)


def _old_copy_is_there(path: Path) -> list[str]:
    wrong = [f"{left.name} is left" for left in path.parent.glob("*.part")]
    copy = path.with_name(f"{path.name}.schema1.bak")
    if not copy.exists():
        return [*wrong, "there is no copy of the store from before the upgrade"]
    raw = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)
    if raw.execute("SELECT group_concat(key, '') FROM nodes").fetchone() != ("abcd",):
        wrong.append("the copy of the store from before the upgrade is not whole")
    raw.close()
    return wrong


def _backed_up(path: Path) -> Path:
    return path.with_name("backup")


def _make_backup(path: Path, ledger: Ledger, after: str | None, arm: Arm) -> None:
    """Beside a server, as always."""
    opened = Opened(path, _clock(ledger))
    arm()
    backup.make(path, _backed_up(path), now_us=opened.clock.now_us())


def _backup_is_whole(path: Path) -> list[str]:
    """Or absent: under its name there is never a part of one."""
    if not _backed_up(path).exists():
        return []
    wrong, held = _of_backup(path)
    return wrong if wrong or held == digest(path) else ["the backup holds something else than the store"]


def _of_backup(path: Path) -> tuple[list[str], str]:
    """What is wrong with it, and the digest of what it holds."""
    try:
        return [], backup.check(_backed_up(path)).content.spaces[0].digest
    except DreamsvcError as error:
        return [f"the backup: {error.message}"], ""


def _make_backup_again(path: Path, ledger: Ledger, goal: str) -> bool:
    if _backed_up(path).exists():
        return False
    backup.make(path, _backed_up(path), now_us=ledger.now_us or 0)
    assert not list(path.parent.glob(f"*{shelf.ASIDE}")), "what the first one left was not removed"
    return True


def _gone_on_after_backup(path: Path) -> Ledger:
    life = _lived(path, "dream", "forget")
    life.opened.store.keep_time().result()
    backup.make(path, _backed_up(path), now_us=life.clock.us)
    before = dict(life.ledger.acked)
    for name in ("remember", "forget", "update"):
        life.act(name)
    life.abandon()
    # All of it is given up for what was before, its last rows of the audit too.
    life.ledger.audited, life.ledger.change_seq = None, 0
    wanted = {key: before.get(key) for key in {*before, *life.ledger.acked}}
    _wanted(path).write_text(json.dumps(wanted))
    return life.ledger


def _wanted(path: Path) -> Path:
    return path.with_name("wanted.json")


def _restore(path: Path, ledger: Ledger, after: str | None, arm: Arm) -> None:
    states = {key: state and Expected(*state) for key, state in json.loads(_wanted(path).read_text()).items()}
    arm()
    with ledger.recorded(states, after):
        backup.restore(_backed_up(path), path, now_us=ledger.now_us or 0)


def _restore_again(path: Path, ledger: Ledger, goal: str) -> bool:
    if digest(path) == goal:
        return False
    _restore(path, ledger, goal, lambda: None)
    return True


OPERATIONS = {
    "remember": _act("remember", "dream"),
    "forget": _act("forget", "dream"),
    "import": _act("import", "dream"),
    "stage": Operation(_before_dream, _stage, _dream_on, ends=False),
    "seal": Operation(_staged, _seal, _dream_on),
    "fold": Operation(_sealed, _fold, _take_back, promised=True, ends=False),
    "revert": _act("revert", "dream"),
    "unmerge": _act("unmerge", "dream"),
    "purge": _act("purge", "dream", "forget", wait_us=31 * DAY),
    "close": Operation(lambda path: _act("forget", "dream").prepare(path), _close),
    "start": Operation(_left_behind, _start, promised=True),
    "migrate": Operation(_old, _start, check=_old_copy_is_there, promised=True),
    "backup": Operation(_before_dream, _make_backup, _make_backup_again, _backup_is_whole),
    "restore": Operation(_gone_on_after_backup, _restore, _restore_again, lambda path: _of_backup(path)[0]),
}
