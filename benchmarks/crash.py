"""kill -9 of the real server and the real dreamer, thousands of times, and a look at everything after each.

Lives of a store run side by side, one on each core. In most of them a server is killed again and again under the load
of several clients, at random moments and in the middle of folds, reverts, imports, backups, starts and shutdowns. In
nights the server lives longer, and its dreamers are killed in every part of a dream.

The stores lie in the directory for temporary files: syncs belong to what is proven, so that should be a disk;
TMPDIR=/dev/shm is faster and proves less. The seed is printed; SEED=N draws everything from N again.
"""

import faulthandler
import itertools
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from random import Random, SystemRandom
from typing import NamedTuple

from rich.console import Console

from benchmarks import harness
from benchmarks.proof import crash_nights, crash_template
from benchmarks.proof.crash_aims import Tally
from benchmarks.proof.crash_nights import Attack, Night
from benchmarks.proof.crash_rounds import Rounds
from benchmarks.proof.crash_template import FULL, NREM, Template

# Kills of one store; then a new one, since a store grows.
LIFE = 50
# Of all kills, those in nights: a night takes half a minute, a round with a server a third of a second.
IN_NIGHTS = 0.02
ATTACKS = 8
# From here on a run dreams whole cycles; below it has no time for that.
FEW = 300
FIGURES = (
    *("kills", "acked_writes", "acked_lost", "torn"),
    *("server_kills", "dreamer_kills", "dreams_folded", "dreams_reverted", "digest_mismatches"),
    *("checks", "replayed", "answers_compared", "graphs_compared", "shutdowns", "backups_made", "nights"),
    "kills_per_s",
)


class Job(NamedTuple):
    """One life of a store, in a process of its own."""

    directory: Path
    seed: str
    # Of a life with servers alone.
    kills: int
    # Of a night.
    attacks: list[Attack]


def live(template: Template, job: Job) -> Tally:
    # A process that a signal ends says where; the pool only tells that it has gone.
    faulthandler.enable()
    if job.attacks:
        tally = Night(template, job.directory, job.seed).run(job.attacks)
    else:
        tally = Rounds(template, job.directory, job.seed).run(job.kills)
    if not tally.wrong:
        shutil.rmtree(job.directory)
    return tally


def run(count: int, console: Console) -> harness.Measured:
    """Ends the process with exit code 1, the stores kept, where anything was wrong."""
    seed = int(os.environ.get("SEED") or SystemRandom().randrange(1 << 32))
    base = Path(tempfile.mkdtemp(prefix="dreamsvc-crash-"))
    console.print(f"seed {seed}; stores in {base.parent}")
    phases = [NREM, NREM] if count < FEW else [NREM] * 4 + [FULL] * 2
    with harness.bar(console) as progress:
        task = progress.add_task("dreaming what will be folded", total=len(phases) + 1)
        night = NREM if count < FEW else FULL
        template = crash_template.prepare(base / "template", seed, phases, night, lambda: progress.advance(task))
        task = progress.add_task("killing", total=count)
        began_s = time.perf_counter()
        tally, broken = _all(template, base, seed, count, lambda kills: progress.advance(task, kills))
        seconds = time.perf_counter() - began_s
    figures = {name: float(tally.counts[name]) for name in FIGURES}
    figures["kills_per_s"] = tally.counts["kills"] / seconds
    if broken:
        for job, found in broken:
            where = f"seed {seed}, life {job.seed!r} after {found.counts['kills']} kills, store {job.directory}"
            console.print(f"WRONG: {where}", *found.wrong[:5], sep="\n  ", markup=False)
        console.print({name: value for name, value in figures.items() if value})
        sys.exit(1)
    shutil.rmtree(base)
    moments = {name: number for name, number in sorted(tally.counts.items()) if name not in FIGURES}
    return harness.Measured(figures, {"seed": seed, "moments": moments})


def _all(
    template: Template, base: Path, seed: int, count: int, killed: Callable[[int], object]
) -> tuple[Tally, list[tuple[Job, Tally]]]:
    """Lives until there are so many kills, or until one was wrong; gives those that were."""
    total, broken = Tally(), list[tuple[Job, Tally]]()
    each = 1 if count < FEW else ATTACKS
    nights = crash_nights.attacks(max(2, round(count * IN_NIGHTS / ATTACKS)), each, template.night.phase, Random(seed))
    running: dict[Future[Tally], Job] = {}
    cores = len(os.sched_getaffinity(0))
    # A fork of this process would inherit threads that it does not have.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, mp_context=context) as pool:
        numbers = itertools.count()
        while True:
            while len(running) < cores and not broken:
                missing = count - total.counts["kills"] - sum(job.kills or len(job.attacks) for job in running.values())
                if not nights and missing <= 0:
                    break
                number = next(numbers)
                attacks = nights.pop() if nights else []
                job = Job(base / str(number), f"{seed} {number}", 0 if attacks else min(LIFE, missing), attacks)
                running[pool.submit(live, template, job)] = job
            if not running:
                return total, broken
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                job, tally = running.pop(done), done.result()
                total.add(tally)
                killed(tally.counts["kills"])
                if tally.wrong:
                    broken.append((job, tally))


BENCHMARK = harness.Benchmark(
    figures=FIGURES,
    targets={
        "acked_lost": [harness.Target(0)],
        "torn": [harness.Target(0)],
        "digest_mismatches": [harness.Target(0)],
    },
    run=harness.Counted(run, "kills", full=10_000, quick=200),
)
