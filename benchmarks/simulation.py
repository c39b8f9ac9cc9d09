"""Deterministic simulation: days of the service in a second, by seed, with everything that can go wrong.

Scheduler, nights, store and journal run as they are over a real SQLite file; time, threads, the dreamer, the users, the
disk and the end of the process are simulated (`proof/simulated_world.py`). A seed that finds something replays exactly:

    python -m benchmarks.simulation SEED

prints what happened, to the last event.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from rich.console import Console

from benchmarks import harness
from benchmarks.proof.simulated_world import Outcome, World

# Every so many seeds one is lived through twice, and has to give the same to the last event.
TWICE_EVERY = 20
# Seeds that one process takes at a time.
SEEDS_AT_ONCE = 4
MOST_SHOWN = 20
SECONDS_A_DAY = 86_400


def replay(seed: int) -> Outcome:
    """Lives through a seed's world and tells of it line by line."""
    world = World(seed, keep_lines=True)
    outcome = world.run()
    print(*(world.lines or []), *outcome.wrong, sep="\n")
    return outcome


def lived(seed: int) -> Outcome:
    """What comes of a seed; of some, whether it comes of it again."""
    outcome = World(seed).run()
    if seed % TWICE_EVERY == 0 and World(seed).run().trace != outcome.trace:
        outcome.wrong.append("it went another way the second time")
    return outcome


def _outcomes(count: int) -> Iterator[Outcome]:
    workers = min(os.process_cpu_count() or 1, count // SEEDS_AT_ONCE)
    if workers < 2:
        yield from map(lived, range(count))
        return
    # Fresh processes: what a simulation patches is its own.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(lived, range(count), chunksize=SEEDS_AT_ONCE)


def run(count: int, console: Console) -> harness.Measured:
    totals: Counter[str] = Counter()
    wrong: list[Outcome] = []
    simulated_s = 0.0
    with harness.bar(console) as progress:
        task = progress.add_task("seeds", total=count)
        for outcome in _outcomes(count):
            totals += outcome.count
            simulated_s += outcome.simulated_s
            if outcome.wrong:
                wrong.append(outcome)
                console.print(told(outcome), markup=False)
            progress.advance(task)
    return harness.Measured(
        {"seeds": count, "wrong": len(wrong)},
        {
            "simulated_days": round(simulated_s / SECONDS_A_DAY, 1),
            "events": totals["events"],
            "calls": totals["calls"],
            "dreams": totals["nights"],
            "begun_by_themselves": totals["by themselves"],
            "wakes": totals["wakes"],
            "crashes": totals["crashes"],
            "starts": totals["starts"],
            "dreams_by_outcome": {
                name.removeprefix("STATE_").lower(): number
                for name, number in sorted(totals.items())
                if name.startswith("STATE_")
            },
            "lived_twice": len(range(0, count, TWICE_EVERY)),
            "wrong": [told(outcome) for outcome in wrong[:MOST_SHOWN]],
        },
    )


def told(outcome: Outcome) -> str:
    """What went wrong, and how to see it happen."""
    return f"seed {outcome.seed}: {outcome.wrong[0]}; replay: python -m benchmarks.simulation {outcome.seed}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description="Replays one seed.")
    parser.add_argument("seed", metavar="SEED", type=int)
    return 1 if replay(parser.parse_args(argv).seed).wrong else 0


BENCHMARK = harness.Benchmark(
    figures=("seeds", "wrong"),
    targets={"wrong": (harness.Target(0),)},
    run=harness.Counted(run, "seeds", full=2000, quick=4),
)


if __name__ == "__main__":
    sys.exit(main())
