"""The power goes at any moment of a store's life: whatever the disk then holds, the next start finds all that was
acknowledged.

`states` counts images of disks that were opened, `wrong` those in which something was missing or wrong. Beside it, not
as a promise: what a disk does that says it synced and did not, and who notices.
"""

import contextlib
import copy
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from rich.console import Console
from rich.progress import Progress, TaskID

from benchmarks import harness
from benchmarks.harness import Benchmark, Counted, Measured, Target
from benchmarks.proof.faulty_disk import Disk, installed
from benchmarks.proof.life import ACTS, Ledger, Life, verify
from benchmarks.proof.power import Moment, Recorder, tear, write_image
from dreamsvc.errors import DreamsvcError
from dreamsvc.memory import backup, database
from dreamsvc.memory.doctor import examine

SEED = 6
# Of the calls that change a file, how many are moments, and how many disks are made of one.
OFTEN = 0.04
IMAGES = 4
# Share of the states in which the disk lies.
LYING = 0.1
MOST_SHOWN = 20


def run(count: int, console: Console) -> Measured:
    shared = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(prefix="dreamsvc-power-", dir=shared if shared.is_dir() else None))
    wrong: list[str] = []
    lying: Counter[str] = Counter()
    moments: Counter[str] = Counter()
    logging.disable(logging.CRITICAL)
    try:
        with installed() as disk, _busy_checkpoints(), harness.bar(console) as bar:
            task = bar.add_task("states", total=count)
            for state in _states(disk, home, count, moments):
                wrong += state
                bar.advance(task)
            task = bar.add_task("a disk that lies", total=max(1, int(count * LYING)))
            _lie(disk, home, lying, bar, task)
            backups, torn = _backups(disk, home, max(1, count // 20))
            wrong += torn
            if disk.broken:
                raise disk.broken[0]
    finally:
        logging.disable(logging.NOTSET)
        shutil.rmtree(home, ignore_errors=True)
    detail = {"moments": dict(sorted(moments.items())), "torn_backups": backups, "wrong": wrong[:MOST_SHOWN]}
    return Measured({"states": count, "wrong": len(wrong)}, {**detail, "a_disk_that_lies": dict(lying)})


def _states(disk: Disk, home: Path, count: int, moments: Counter[str]) -> Iterator[list[str]]:
    """Of so many disks, what is wrong with each."""
    done = 0
    for number, (act, moment) in enumerate(_moments(disk, home, lies=False)):
        moments[act] += 1
        for image in range(IMAGES):
            random = Random(f"{SEED} {number} {image}")
            write_image(moment, home / "image", random)
            found = verify(home / "image" / "memory.db", copy.deepcopy(moment.ledger))
            yield [f"moment {number} in {act}, image {image}: {'; '.join(found)}"] if found else []
            done += 1
            if done == count:
                return


def _moments(disk: Disk, home: Path, *, lies: bool) -> Iterator[tuple[str, Moment]]:
    """Moments of lives, without an end."""
    number = 0
    while True:
        number += 1
        random = Random(f"{SEED} {number} {lies}")
        path = home / "lived" / "memory.db"
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        ledger = Ledger()
        recorder = Recorder(path, lambda ledger=ledger: ledger, random, OFTEN)
        recorder.lies = lies
        disk.watcher = recorder
        stack = contextlib.ExitStack()
        stack.enter_context(recorder.seeing_syncs())
        life = Life(path, seed=SEED + number, ledger=ledger)
        try:
            for act in ("beginning", *random.sample(ACTS, len(ACTS)), "close", *random.sample(ACTS, len(ACTS))):
                if act != "beginning":
                    life.act(act)
                # With the last of them everything was acknowledged.
                yield from ((act, moment) for moment in recorder.take())
        finally:
            life.abandon()
            stack.close()
            disk.watcher = None
            recorder.require_faithful()


def _lie(disk: Disk, home: Path, lying: Counter[str], bar: Progress, task: TaskID) -> None:
    """What is there of a store on a disk that never synced, and who sees it."""
    most = bar.tasks[task].total or 1
    for number, (_, moment) in enumerate(_moments(disk, home, lies=True)):
        if number >= most:
            return
        path = home / "image" / "memory.db"
        write_image(moment, path.parent, Random(f"{SEED} lies {number}"))
        lying[_who_sees(path, moment.ledger)] += 1
        bar.advance(task)


def _who_sees(path: Path, ledger: Ledger) -> str:
    """Nobody but who knows what was acknowledged sees that a store is as it was some time ago."""
    if not path.exists():
        return "no store is left"
    try:
        seen = [finding.name for finding in examine(str(path)) if not finding.ok]
        found = verify(path, copy.deepcopy(ledger))
    except DreamsvcError:
        return "it does not open"
    if not found:
        return "nothing is lost"
    if any(why.startswith("the store does not open") for why in found):
        return "it does not open"
    return "the doctor sees it" if seen or any("the doctor" in why for why in found) else "the ledger alone sees it"


def _backups(disk: Disk, home: Path, count: int) -> tuple[int, list[str]]:
    """Backups that came to the disk in part: how many were looked at, and which were taken for whole ones."""
    path = home / "kept" / "memory.db"
    path.parent.mkdir()
    target = path.with_name("a backup")
    life = Life(path, seed=SEED)
    recorder = Recorder(path, Ledger, Random(SEED), 0.0)
    with recorder.seeing_syncs():
        backup.make(path, target, now_us=life.clock.now_us())
    (moment,) = recorder.take()
    life.abandon()
    wrong = [f"{name} of a backup was not synced" for name in moment.unsynced if name.startswith(target.name)]
    files = {one.name: one.read_bytes() for one in target.iterdir()}
    for number in range(count):
        random = Random(f"{SEED} backup {number}")
        torn = random.choice(sorted(files))
        content = tear(files[torn], random)
        if content == files[torn]:
            continue
        (target / torn).write_bytes(content)
        with contextlib.suppress(DreamsvcError):
            backup.check(target)
            wrong.append(f"a backup with half of {torn} was taken for a whole one")
        (target / torn).write_bytes(files[torn])
    return count, wrong


@contextlib.contextmanager
def _busy_checkpoints() -> Iterator[None]:
    """The log is moved into the database as soon as nobody writes for a moment: that is where syncs matter most."""
    changes: dict[str, Any] = {"QUIET_S": 0.002, "CHECKPOINT_PAGES": 20}
    with mock.patch.multiple(database, **changes):
        yield


BENCHMARK = Benchmark(
    figures=("states", "wrong"),
    targets={"wrong": (Target(most=0),)},
    run=Counted(run, "states", full=2000, quick=20),
)
