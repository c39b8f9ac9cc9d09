"""Bits that flip in the files of a store: where, and what a start of the service then makes of them.

Two stores: one that was closed, with all that lies beside it, and one whose service died, with its last changes in the
log alone and a snapshot of an earlier change.
"""

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

from benchmarks.proof.acts import backup_path
from benchmarks.proof.jumping_clock import JumpingClock
from benchmarks.proof.life import Life
from benchmarks.proof.opened import SPACE, Opened
from dreamsvc import contract, snapshot_files
from dreamsvc.config import defaults
from dreamsvc.errors import DreamsvcError
from dreamsvc.memory import backup, manifest, recall
from dreamsvc.memory.doctor import examine
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import TriggerRequest
from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest

STORE = "memory.db"
SEED = 5
# What a line of the log has that tells of damage.
SAYS = ("torn", "damage", "not whole", "is gone", "could not", "COULD NOT", "cannot", "does not match")
# So often of a hundred flips.
WEIGHTS = {
    "database": 40,
    "database of a dead service": 10,
    "log": 20,
    "rows of an interrupted dream": 12,
    "start snapshot": 6,
    "older start snapshot": 4,
    "snapshot of a dream": 6,
    "backup": 2,
}
# Of a long body the beginning lies in one piece.
MOST_IN_PAGE = 1000
# One flip in so many is of several bits.
SEVERAL = 10
QUERIES = ("first fact", "k1 k2 k3", "long")
LONG = "a long text that takes several pages of its own "


class Flip(NamedTuple):
    """Bits of one file, by their number from its beginning."""

    target: str
    file: str
    bits: tuple[int, ...]


class Seen(NamedTuple):
    """What a start of the service and its readers saw."""

    # Digests of what was read, by what it is.
    content: dict[str, str]
    # What the log said of damage.
    told: tuple[str, ...]
    # What was refused, and why.
    refused: tuple[str, ...] = ()
    # Errors that no caller could understand.
    unclear: tuple[str, ...] = ()


class Verdict(NamedTuple):
    flip: Flip
    # harmless, told, refused, or what must not be: silent, doctor (nobody but the doctor said so), unclear.
    how: str
    why: str = ""


class Ground(NamedTuple):
    """The stores as they were before any bit flipped, and what they gave then."""

    home: Path
    whole: dict[str, Seen]
    # Where the file of the closed store holds what an interrupted dream goes on from.
    rows: list[tuple[int, int]]


# ── the stores ──────────────────────────────────────────────────────────────────


def build(home: Path) -> Ground:
    """Equal stores every time."""
    life = Life(home / "closed" / STORE, seed=SEED, twin=False)
    for name in ("remember", "remember", "link", "update", "import", "dream", "unmerge", "forget", "dream"):
        life.act(name)
    _remember(life.opened, Memory(text=LONG * 600))
    life.act("suspend")
    row = life.opened.journal.latest(SPACE, [Dream.STATE_SUSPENDED])
    assert row is not None
    store = life.opened.store
    snapshot_files.write(store.dream_snapshot_path(row.dream.id), *store.dream_snapshot(SPACE))
    life.act("backup")
    life.close()
    shutil.copytree(home / "closed", home / "dead")
    dead = Life(home / "dead" / STORE, seed=SEED, ledger=life.ledger, twin=False)
    for name in ("remember", "update", "link", "forget", "remember"):
        dead.act(name)
    dead.abandon()
    for name in ("closed", "dead"):
        # What depends on where a process stood, and not on what it stored.
        for left in (home / name).glob(f"{STORE}-shm"):
            left.unlink()
    ground = Ground(home, {}, [])
    for name in ("closed", "dead"):
        with contextlib.ExitStack() as stack:
            ground.whole[name] = look(copied(ground, name, stack))
            assert not ground.whole[name].refused
            assert not ground.whole[name].unclear
    ground.rows.extend(_rows(ground))
    return ground


def _remember(opened: Opened, memory: Memory) -> None:
    request = RememberRequest(space=SPACE, memories=[memory])
    contract.fill(request)
    opened.store.remember(request).result(10)


def copied(ground: Ground, name: str, stack: contextlib.ExitStack, flip: Flip | None = None) -> Path:
    """A store of its own, with a flip if there is one."""
    place = ground.home / f"flipped-{name}"
    shutil.rmtree(place, ignore_errors=True)
    own = {STORE, f"{STORE}-wal", f"{STORE}.lock"} | (set() if flip is None else {flip.file})
    with_backup = flip is not None and flip.target == "backup"
    for folder, _, names in os.walk(ground.home / name):
        there = folder.replace(str(ground.home / name), str(place), 1)
        if with_backup or backup_path(Path(STORE)).name not in there:
            os.makedirs(there, exist_ok=True)
            for one in names:
                # Other files are replaced or removed as a whole.
                is_own = f"{there}/{one}".removeprefix(f"{place}/") in own
                (shutil.copyfile if is_own else os.link)(f"{folder}/{one}", f"{there}/{one}")
    stack.callback(shutil.rmtree, place, ignore_errors=True)
    if flip is not None:
        _turn(place / flip.file, flip.bits)
    return place / STORE


# ── where ───────────────────────────────────────────────────────────────────────


def draw(ground: Ground, number: int) -> Flip:
    """The same for the same number."""
    random = Random(f"{SEED} {number}")
    target = random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    folder = ground.home / _store_of(target)
    several = random.randrange(2, 9) if random.randrange(SEVERAL) == 0 else 1
    match target:
        case "database" | "database of a dead service":
            file = folder / STORE
        case "log":
            file = folder / f"{STORE}-wal"
        case "rows of an interrupted dream":
            file = folder / STORE
            first, last = random.choice(ground.rows)
            bits = tuple(random.randrange(8 * first, 8 * last) for _ in range(several))
            return Flip(target, str(file.relative_to(folder)), bits)
        case "backup":
            file = random.choice(sorted(path for path in backup_path(folder / STORE).rglob("*") if path.stat().st_size))
        case _:
            pattern = "dream-*" if target == "snapshot of a dream" else "start-*"
            (snapshot,) = (folder / f"{STORE}.snapshots").glob(pattern)
            file = random.choice(sorted(path for path in snapshot.iterdir() if path.stat().st_size))
    size = 8 * file.stat().st_size
    return Flip(target, str(file.relative_to(folder)), tuple(random.randrange(size) for _ in range(several)))


def _store_of(target: str) -> str:
    return "dead" if target in ("log", "database of a dead service", "older start snapshot") else "closed"


def _rows(ground: Ground) -> list[tuple[int, int]]:
    """First and last byte of the checkpoint and the staged parts of the interrupted dream."""
    with contextlib.ExitStack() as stack:
        opened = Opened(copied(ground, "closed", stack), JumpingClock(), recover=False)
        stack.callback(opened.abandon)
        query = "SELECT p.body FROM {} p JOIN dreams d ON d.change = p.change WHERE d.state = ?"
        bodies = [
            body
            for table in ("checkpoints", "change_parts")
            for (body,) in opened.rows(query.format(table), Dream.STATE_SUSPENDED)
        ]
    data = (ground.home / "closed" / STORE).read_bytes()
    places = ((data.find(body[:64]), len(body)) for body in bodies)
    found = [(at, at + min(length, MOST_IN_PAGE)) for at, length in places if at >= 0]
    assert found
    return found


def _turn(path: Path, bits: Sequence[int]) -> None:
    with path.open("r+b") as file:
        for bit in bits:
            file.seek(bit // 8)
            (byte,) = file.read(1)
            file.seek(bit // 8)
            file.write(bytes([byte ^ 1 << bit % 8]))


# ── what comes of it ────────────────────────────────────────────────────────────


def judge(ground: Ground, flip: Flip, *, with_doctor: bool = False) -> Verdict:
    """with_doctor: the doctor looks at it in any case, and must not stumble."""
    if flip.target == "backup":
        return _judge_backup(ground, flip)
    name = _store_of(flip.target)
    with contextlib.ExitStack() as stack:
        store = copied(ground, name, stack, flip)
        findings = _examined(store) if with_doctor else []
        seen = look(store, resume="dream" in flip.target)
    stumbled = [found for found in findings if "Error: " in found]
    if seen.unclear or stumbled:
        return Verdict(flip, "unclear", "; ".join((*seen.unclear, *stumbled)))
    whole = ground.whole[name]
    changed = [what for what, digest in whole.content.items() if seen.content.get(what, digest) != digest]
    if seen.refused:
        # What was served beside the refusal must be as it was, but for what the log says was given up.
        return Verdict(flip, "refused" if not changed or seen.told != whole.told else "silent", seen.refused[0])
    if not changed:
        return Verdict(flip, "harmless" if seen.told == whole.told else "told")
    if seen.told != whole.told:
        return Verdict(flip, "told", "; ".join(set(seen.told) - set(whole.told)))
    with contextlib.ExitStack() as stack:
        store = copied(ground, name, stack, flip)
        findings = findings or _examined(store)
    return Verdict(flip, "doctor" if findings else "silent", f"{', '.join(changed)} changed; {'; '.join(findings)}")


def _examined(store: Path) -> list[str]:
    return [f"{found.name}: {found.detail}" for found in examine(str(store)) if not found.ok]


def _judge_backup(ground: Ground, flip: Flip) -> Verdict:
    with contextlib.ExitStack() as stack:
        store = copied(ground, "closed", stack, flip)
        whole = manifest.read(backup_path(ground.home / "closed" / STORE))
        try:
            read = backup.check(backup_path(store))
        except DreamsvcError as error:
            return Verdict(flip, "refused", error.message)
        except Exception as error:
            return Verdict(flip, "unclear", f"{type(error).__name__}: {error}")
        return Verdict(flip, "harmless" if read == whole else "silent", "the backup's manifest changed")


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        # How large the memory is, is no word about what it lost.
        if record.levelno >= logging.WARNING or any(word in line for word in SAYS):
            self.lines.append(line)


@contextlib.contextmanager
def _logged() -> Iterator[list[str]]:
    logger, log = logging.getLogger("dreamsvc"), _Log()
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(log)
    try:
        yield log.lines
    finally:
        logger.removeHandler(log)
        logger.level, logger.propagate = before


def look(store: Path, *, resume: bool = True) -> Seen:
    """Starts as the service does and reads everything there is, through the graph and from the rows.

    resume: what an interrupted dream goes on with too.
    """
    content: dict[str, str] = {}
    refused: list[str] = []
    unclear: list[str] = []
    with _logged() as told:
        try:
            opened = Opened(store, JumpingClock())
        except DreamsvcError as error:
            return Seen({}, tuple(told), (error.message,))
        except Exception as error:
            return Seen({}, tuple(told), (), (f"start: {type(error).__name__}: {error}",))
        try:
            for what, read in _reads(opened, resume):
                try:
                    content[what] = hashlib.sha256(repr(read()).encode()).hexdigest()
                except DreamsvcError as error:
                    refused.append(f"{what}: {error.message}")
                except Exception as error:
                    unclear.append(f"{what}: {type(error).__name__}: {error}")
        finally:
            opened.abandon()
    return Seen(content, tuple(told), tuple(refused), tuple(unclear))


def _reads(opened: Opened, resume: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "export", opened.digest
    for query in QUERIES:
        yield f"recall of {query}", lambda query=query: _recalled(opened, query)
    for (table,) in opened.rows("SELECT name FROM sqlite_schema WHERE type='table' ORDER BY name"):
        yield f"table {table}", lambda table=table: opened.rows(f'SELECT * FROM "{table}"')
    if resume:
        yield "the interrupted dream", lambda: _resumed(opened)


def _recalled(opened: Opened, text: str) -> list[Any]:
    settings = defaults().recall
    vector = np.random.default_rng(len(text)).normal(size=opened.store.space(SPACE).dimension).astype(np.float32)
    found = recall.find(opened.store.graph(SPACE).view, recall.Query(text, vector, 50, (), None, None), settings)
    memories = opened.store.memories_by_row(SPACE, [one.node for one in found], with_vectors=True)
    return [(one.node, round(one.score, 4), memories[one.node].SerializeToString(deterministic=True)) for one in found]


def _resumed(opened: Opened) -> Any:
    """What the next dream of the space would begin with."""
    begun = opened.wait(opened.records.begin(TriggerRequest(space=SPACE), dream_pb2.TRIGGERED_BY_REQUEST))
    plan = begun.plan
    assert plan is not None
    if not begun.response.resumed:
        return "a fresh one"
    arrays = snapshot_files.read(opened.store.dream_snapshot_path(plan.dream.id))
    assert arrays is not None
    return plan, [hashlib.sha256(np.ascontiguousarray(array)).hexdigest() for array in arrays.values()]
