"""Crashes every operation at every point, one after the other: `python -m benchmarks.proof.point_rounds [OPTIONS]`.

A process of its own, since it forks: nothing else may run in it. Says what it does as JSON lines, one a point.

1. The store of an operation is made once, and copied for every point.
2. A first run goes through to the end. It gives the number of points and the digest that all others must lead to.
3. In every other run a child is ended at its point. What it had acknowledged until then lies in a file.
4. The store is recovered and looked at, its user goes on until the operation is done, and it is looked at again.
"""

import argparse
import copy
import itertools
import json
import logging
import os
import pickle
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.proof.ledger import Ledger
from benchmarks.proof.life import digest
from benchmarks.proof.point_operations import OPERATIONS, Operation
from benchmarks.proof.points import CRASHED, Points
from benchmarks.proof.verifying import verify

ROUND_S = 120
# What follows from the recovered store alone, its next snapshot, is looked at after one point in so many.
REOPENED = 5
STORE = "memory.db"


@dataclass
class ToldLedger(Ledger):
    """Lies in a file, so that it outlives the process that keeps it."""

    handle: int = -1
    counts: Counter[str] = field(default_factory=Counter[str])

    def changed(self) -> None:
        plain = Ledger(**{one.name: getattr(self, one.name) for one in fields(Ledger)})
        data = pickle.dumps((plain, self.counts))
        os.pwrite(self.handle, len(data).to_bytes(8) + data, 0)


class Told(NamedTuple):
    """What a child left: how it ended, its ledger, and its points by kind."""

    code: int
    ledger: Ledger
    counts: Counter[str]


class Reference(NamedTuple):
    """The run that nothing interrupts."""

    points: int
    counts: Counter[str]
    # After the operation and the recovery, and once its user has gone on.
    after: str
    goal: str


class Rounds:
    """All crashes of one operation."""

    def __init__(self, operation: Operation, base: Path) -> None:
        self._operation = operation
        self._template = base / "template"
        self._place = base / "place"
        self._template.mkdir(parents=True)
        self._before = operation.prepare(self._template / STORE)
        if not operation.promised:
            self._before.digest = digest(shutil.copytree(self._template, self._place) / STORE)

    def refer(self) -> tuple[Reference, list[str]]:
        told = self._run(0, None)
        if told.code != 0:
            return Reference(0, told.counts, "", ""), [f"without a crash it ended with {told.code}"]
        path = self._place / STORE
        wrong = verify(path, told.ledger) + self._operation.check(path)
        after = goal = digest(path)
        if self._operation.go_on is not None and not self._operation.ends:
            # No digest is "": there is something left to do.
            self._operation.go_on(path, self._again(told.ledger), "")
            goal = digest(path)
        if self._operation.promised:
            self._before.digest = after
        return Reference(sum(told.counts.values()), told.counts, after, goal), wrong

    def crash(self, point: int, reference: Reference) -> tuple[bool, list[str]]:
        """Whether there was such a point, and what is wrong after it."""
        told = self._run(point, reference.after)
        path = self._place / STORE
        if told.code not in (0, CRASHED):
            return True, [f"it ended with {told.code}"]
        try:
            reopen = point % REOPENED == 0
            wrong = verify(path, told.ledger, reopen=reopen) + self._operation.check(path)
            if not wrong and self._operation.go_on is not None:
                again = self._again(told.ledger)
                if self._operation.go_on(path, again, reference.goal):
                    wrong = verify(path, again, reopen=reopen) + self._operation.check(path)
                    wrong = [f"once it was done again, {one}" for one in wrong]
            if not wrong and digest(path) != reference.goal:
                wrong = ["it does not lead to what a run without a crash leads to"]
        except Exception:
            wrong = [f"it cannot be gone on with: {traceback.format_exc()}"]
        return told.code == CRASHED, wrong

    def _again(self, ledger: Ledger) -> Ledger:
        """For the same act, at the same time."""
        again = copy.deepcopy(ledger)
        again.acts, again.now_us = self._before.acts, self._before.now_us
        return again

    def _run(self, point: int, after: str | None) -> Told:
        shutil.rmtree(self._place, ignore_errors=True)
        shutil.copytree(self._template, self._place)
        with tempfile.TemporaryFile(dir=self._place.parent) as file:
            code = _in_child(lambda: self._child(file.fileno(), point, after))
            file.seek(0)
            data = file.read()
        ledger, counts = copy.deepcopy(self._before), Counter[str]()
        if data:
            ledger, counts = pickle.loads(data[8 : 8 + int.from_bytes(data[:8])])
        return Told(code, ledger, counts)

    def _child(self, handle: int, point: int, after: str | None) -> None:
        points = Points()
        points.install()
        ledger = ToldLedger(**vars(self._before), handle=handle)
        ledger.counts = points.counts
        self._operation.run(self._place / STORE, ledger, after, lambda: points.arm(point))
        points.disarm()
        ledger.changed()


def _in_child(work: Callable[[], None]) -> int:
    """The exit code of a process that works and ends without any clean-up; below 0 the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(ROUND_S)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def points_of(total: int, count: int) -> Iterable[int]:
    """One point after the other, however many there prove to be, or `count` of them, evenly spread."""
    if not count or count >= total:
        return itertools.count(1)
    return [1 + (2 * i + 1) * total // (2 * count) for i in range(count)]


def crash(
    name: str, base: Path, points: Callable[[int], Iterable[int]], tell: Callable[[dict[str, Any]], None]
) -> None:
    """Tells of the reference, then of every one of the points that are chosen of their number."""
    rounds = Rounds(OPERATIONS[name], base)
    reference, wrong = rounds.refer()
    kinds = dict(sorted(reference.counts.items()))
    tell({"operation": name, "points": reference.points, "kinds": kinds, "wrong": wrong})
    if wrong:
        return
    for point in points(reference.points):
        there, wrong = rounds.crash(point, reference)
        tell({"operation": name, "point": point, "there": there, "wrong": wrong})
        if not there and point > reference.points:
            return


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proof.point_rounds")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(OPERATIONS)}; all without one")
    parser.add_argument("--count", type=int, default=0, help="so many points of each operation at most; 0: all")
    parser.add_argument("--at", type=int, nargs="+", default=[], metavar="K", help="at these points alone")
    args = parser.parse_args(argv)
    # A start says what it found, and here it always finds something.
    logging.getLogger("dreamsvc").setLevel(logging.ERROR)
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="dreamsvc-points-", dir=shm if shm.is_dir() else None) as base:
        for name in args.names or OPERATIONS:
            crash(
                name,
                Path(base, name),
                lambda total: args.at or points_of(total, args.count),
                lambda said: print(json.dumps(said), flush=True),
            )
            shutil.rmtree(Path(base, name))


if __name__ == "__main__":
    main(sys.argv[1:])
