"""Every act of a store's life, with the k-th file call of it failing: an I/O error, a full disk, half a write.

Each act either fails with an error of the catalogue or has truly happened. With the fault gone the same open store goes
on, and the next start finds all that was acknowledged. `silent` counts what is missing or wrong after that, `unclear`
errors that no caller could understand, `stopped` stores that did not go on.
"""

import contextlib
import copy
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from benchmarks import harness
from benchmarks.harness import Benchmark, Counted, Measured, Target
from benchmarks.proof import plain_disk
from benchmarks.proof.acts import backup_path
from benchmarks.proof.faulty_disk import Disk, Fault, Faulty, installed
from benchmarks.proof.jumping_clock import DAY
from benchmarks.proof.life import ACTS, Impossible, Ledger, Life, verify
from benchmarks.proof.plain_disk import PlainFaulty
from benchmarks.proof.same import same_as_loaded
from dreamsvc.errors import StoreCorrupt, StoreUnavailable
from dreamsvc.memory import backup, loading
from dreamsvc.memory.graph import GraphView

CLEAR = (StoreUnavailable, StoreCorrupt)
OPEN, CLOSE = "open", "close"
# How a call of each kind can fail.
HOW = {
    "write": ("eio", "full", "short"),
    "sync": ("eio",),
    "read": ("eio",),
    "truncate": ("eio",),
    "open": ("eio",),
    "size": ("eio",),
    "delete": ("eio",),
}
SEED = 4
MOST_SHOWN = 20


class Trial(NamedTuple):
    act: str
    fault: Fault
    # Whether it meets files that SQLite does not write.
    plain: bool = False

    @property
    def way(self) -> str:
        return f"{'plain ' if self.plain else ''}{self.fault.kind} {self.fault.how}"


class Outcome(NamedTuple):
    """What became of one act and one fault."""

    injected: int
    # Whether the act raised.
    refused: bool
    # "silent", "unclear" or "stopped", with a sentence.
    wrong: tuple[tuple[str, str], ...]


class Base(NamedTuple):
    """A closed store in which every act is possible."""

    path: Path
    ledger: Ledger


def run(count: int, console: Console) -> Measured:
    shared = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(prefix="dreamsvc-faults-", dir=shared if shared.is_dir() else None))
    injected: Counter[str] = Counter()
    refused = 0
    wrong: Counter[str] = Counter()
    shown: list[str] = []
    # What the store complains of is meant here.
    logging.disable(logging.CRITICAL)
    try:
        base = _base(home)
        with installed() as disk, harness.bar(console) as bar:
            trials = list(_trials(disk, base, home, count))
            task = bar.add_task("faults", total=len(trials))
            for trial in trials:
                outcome = try_act(disk, base, home, trial)
                injected[trial.way] += bool(outcome.injected)
                refused += outcome.refused
                for kind, why in outcome.wrong:
                    wrong[kind] += 1
                    shown.append(f"{trial.act}, {trial.fault}: {kind}: {why}")
                bar.advance(task)
            if disk.broken:
                raise disk.broken[0]
    finally:
        logging.disable(logging.NOTSET)
        shutil.rmtree(home, ignore_errors=True)
    figures = {"injected": injected.total(), **{kind: wrong[kind] for kind in ("silent", "unclear", "stopped")}}
    detail = {
        "acts": len({trial.act for trial in trials}),
        "refused": refused,
        "by_kind": dict(sorted(injected.items())),
    }
    return Measured(figures, {**detail, "wrong": shown[:MOST_SHOWN]})


def try_act(disk: Disk, base: Base, home: Path, trial: Trial) -> Outcome:
    """One act on a copy of the store, with one fault, and what the store is like after it."""
    act, fault, plain = trial
    path, ledger = _copied(base, home / "tried")
    watcher = PlainFaulty(path.parent, fault) if plain else Faulty(path.parent, fault)
    faulty = _watched(disk, watcher) if isinstance(watcher, Faulty) else plain_disk.installed(watcher)
    if act == OPEN:
        return _try_opening(faulty, watcher, path, ledger)
    life = Life(path, seed=SEED, ledger=ledger)
    # A fold tries again by itself; where the fault is for ever, that only takes time.
    life.opened.config.fault.recovery_strategy = "abort" if fault.for_ever else "retry"
    do = _prepared(life, act)
    wrong: list[tuple[str, str]] = []
    raised: Exception | None = None
    with faulty:
        try:
            do()
        except Exception as error:
            raised = error
            if not isinstance(error, CLEAR):
                wrong.append(("unclear", f"{type(error).__name__}: {error}"))
        if act != CLOSE and watcher.injected:
            wrong += _while_it_lasts(life, fault)
    if act == "backup" and raised is None:
        wrong += _check_backup(life)
    if act != CLOSE:
        wrong += _afterwards(life)
        life.abandon()
    elif raised is not None:
        life.abandon()
    wrong += [("silent", why) for why in verify(path, ledger)]
    return Outcome(watcher.injected, raised is not None, tuple(wrong))


def _try_opening(
    faulty: contextlib.AbstractContextManager[None], watcher: Faulty | PlainFaulty, path: Path, ledger: Ledger
) -> Outcome:
    wrong: list[tuple[str, str]] = []
    raised = False
    with faulty:
        try:
            Life(path, seed=SEED, ledger=copy.deepcopy(ledger), twin=False).abandon()
        except CLEAR:
            raised = True
        except Exception as error:
            raised = True
            wrong.append(("unclear", f"{type(error).__name__}: {error}"))
    wrong += [("silent", why) for why in verify(path, ledger)]
    return Outcome(watcher.injected, raised, tuple(wrong))


def _while_it_lasts(life: Life, fault: Fault) -> Iterator[tuple[str, str]]:
    """Reads go on, unless it is them that fail."""
    try:
        life.opened.rows("SELECT count(*) FROM nodes")
        life.opened.store.graph("default")
    except CLEAR as error:
        if fault.kind not in ("read", "open", "size"):
            yield "stopped", f"a read fails: {error}"
    except Exception as error:
        yield "unclear", f"a read: {type(error).__name__}: {error}"


def _afterwards(life: Life) -> Iterator[tuple[str, str]]:
    """The same open store, after the fault: what was begun is brought to its end as the next dream would, then more."""
    try:
        life.opened.wait(life.opened.records.recover())
        life.act("remember")
        for space in life.opened.store.space_names():
            same_as_loaded(life.opened.store.graph(space).view, _loaded(life, space))
    except AssertionError as error:
        yield "silent", f"what queries read is not what is stored: {' '.join(str(error).split())[:300]}"
    except Exception as error:
        yield "stopped", f"{type(error).__name__}: {error}"


def _loaded(life: Life, space: str) -> GraphView:
    """The graph as the next start would load it."""
    store = life.opened.store
    place = store.space(space)
    return store.database.read(lambda connection: loading.load(connection, place)).view


def _trials(disk: Disk, base: Base, home: Path, most: int) -> Iterator[Trial]:
    """At most so many faults for each act, as many of each way in which its calls can fail, evenly over those calls."""
    for act in (OPEN, *ACTS):
        counts, plain_counts = _counted(disk, base, home, act)
        ways = [
            (kind, how, for_ever, plain, made[kind])
            for plain, kinds, made in ((False, HOW, counts), (True, plain_disk.HOW, plain_counts))
            for kind, hows in kinds.items()
            for how in hows
            for for_ever in (False, True)
            if made[kind]
        ]
        chosen = [ways[i - 1] for i in _evenly(len(ways), most)]
        for kind, how, for_ever, plain, calls in chosen:
            for k in _evenly(calls, most // len(chosen)):
                yield Trial(act, Fault(kind, k, how, for_ever), plain)


def _counted(disk: Disk, base: Base, home: Path, act: str) -> tuple[dict[str, int], dict[str, int]]:
    """How many calls of each kind an act makes, by SQLite and otherwise."""
    path, ledger = _copied(base, home / "counted")
    watcher, plain = Faulty(path.parent), PlainFaulty(path.parent)
    with contextlib.ExitStack() as stack:
        if act == OPEN:
            stack.enter_context(_watched(disk, watcher))
            stack.enter_context(plain_disk.installed(plain))
            life = Life(path, seed=SEED, ledger=ledger, twin=False)
        else:
            life = Life(path, seed=SEED, ledger=ledger)
            do = _prepared(life, act)
            stack.enter_context(_watched(disk, watcher))
            stack.enter_context(plain_disk.installed(plain))
            do()
    life.abandon()
    return watcher.counts, plain.counts


def _evenly(count: int, most: int) -> list[int]:
    """Up to so many of the numbers from 1 to a count, evenly over them."""
    return sorted({1 + int((i + 0.5) * count / most) for i in range(most)}) if count > most else [*range(1, count + 1)]


def _base(home: Path) -> Base:
    path = home / "base" / "memory.db"
    path.parent.mkdir()
    life = Life(path, seed=SEED)
    for act in ("remember", "forget", "dream"):
        life.act(act)
    life.close()
    return Base(path, life.ledger)


def _copied(base: Base, to: Path) -> tuple[Path, Ledger]:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(base.path.parent, to)
    return to / base.path.name, copy.deepcopy(base.ledger)


def _prepared(life: Life, act: str) -> Callable[[], None]:
    """The act, ready to be done."""
    if act == CLOSE:
        return life.close
    if act == "purge":
        life.wait(31 * DAY)
    try:
        planned = life.plan(act)
    except Impossible as error:
        raise AssertionError(f"{act} is not possible in the store that is tried: {error}") from error
    return lambda: life.do(planned)


def _check_backup(life: Life) -> Iterator[tuple[str, str]]:
    """One that was made is whole."""
    try:
        backup.check(backup_path(life.path))
    except CLEAR as error:
        yield "silent", f"a backup was made and is none: {error}"


@contextlib.contextmanager
def _watched(disk: Disk, watcher: Faulty) -> Iterator[None]:
    disk.watcher = watcher
    try:
        yield
    finally:
        disk.watcher = None


NONE = (Target(most=0),)
BENCHMARK = Benchmark(
    figures=("injected", "silent", "unclear", "stopped"),
    targets={"silent": NONE, "unclear": NONE, "stopped": NONE},
    run=Counted(run, "faults for each act", full=60, quick=1),
)
