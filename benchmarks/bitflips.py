"""Bits that flip anywhere in the files of a store: each is harmless, or told before a wrong answer is given.

After each flip the service starts as always, everything is read through its graphs and from its rows and compared with
the undamaged store: the export, recalls, every table, what an interrupted dream goes on with; of a backup, what its
check says. `silent` counts flips after which content differs, or is lost, although neither an error nor the log of the
service said so; it does not help if the doctor would have found them. `unclear` counts errors that no caller could
understand, and checks of the doctor that stumbled.
"""

import contextlib
import multiprocessing
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import harness
from benchmarks.harness import Benchmark, Counted, Measured, Target
from benchmarks.proof import flips
from benchmarks.proof.flips import Verdict

# One flip in so many is also shown to the doctor.
DOCTOR = 20
SLICE = 25
MOST_SHOWN = 20
WRONG = {"silent": "silent", "doctor": "silent", "unclear": "unclear"}


def run(count: int, console: Console) -> Measured:
    shared = Path("/dev/shm")
    home = tempfile.mkdtemp(prefix="dreamsvc-flips-", dir=shared if shared.is_dir() else None)
    asked = [(home, range(at, min(at + SLICE, count))) for at in range(0, count, SLICE)]
    workers = min(len(asked), harness.machine()["cores"] or 1)
    verdicts: list[Verdict] = []
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        bar = stack.enter_context(harness.bar(console))
        pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(workers))
        task = bar.add_task("flips", total=count)
        for some in pool.imap_unordered(judged, asked):
            verdicts += some
            bar.update(task, completed=len(verdicts))
    return _measured(verdicts)


def judged(asked: tuple[str, Sequence[int]]) -> list[Verdict]:
    """Flips by number, in a process of its own, which makes its stores once."""
    home, numbers = asked
    if not _GROUNDS:
        place = Path(home, str(os.getpid()))
        (place / "closed").mkdir(parents=True)
        _GROUNDS.append(flips.build(place))
    ground = _GROUNDS[0]
    return [flips.judge(ground, flips.draw(ground, n), with_doctor=n % DOCTOR == 0) for n in numbers]


# Of this process.
_GROUNDS: list[flips.Ground] = []


def _measured(verdicts: Sequence[Verdict]) -> Measured:
    found = Counter(WRONG.get(one.how, one.how) for one in verdicts)
    figures = {"flips": len(verdicts), **{how: found[how] for how in BENCHMARK.figures[1:]}}
    by_file = {
        target: Counter(one.how for one in verdicts if one.flip.target == target).most_common()
        for target in flips.WEIGHTS
    }
    wrong = sorted(f"{one.how}: {one.why}; {one.flip}" for one in verdicts if one.how in WRONG)
    detail = {"by_file": {name: dict(counts) for name, counts in by_file.items()}, "wrong": wrong[:MOST_SHOWN]}
    return Measured(figures, detail)


BENCHMARK = Benchmark(
    figures=("flips", "silent", "unclear", "refused", "told", "harmless"),
    targets={"silent": (Target(0),), "unclear": (Target(0),)},
    run=Counted(run, "flips", full=20_000, quick=60),
)
