"""`python -m benchmarks.proof.fuzz_run TARGET [--seed N] [--batches N] [--cases N]`: fuzzes targets, or replays.

Prints one line of JSON for each batch. A batch follows from its seed alone, so `--seed` replays it whole.
"""

import argparse
import contextlib
import json
import logging
import resource
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.proof.fuzz_watch import HANG_S, Target, Watch, as_json, guard, note_in, resident_mb

# By name the module, and the class in it.
TARGETS: dict[str, tuple[str, str]] = {
    "calls": ("fuzz_calls", "CallsTarget"),
    "channel": ("fuzz_channel", "ChannelTarget"),
    "imports": ("fuzz_imports", "ImportsTarget"),
    "lines": ("fuzz_imports", "LinesTarget"),
    "blobs": ("fuzz_blobs", "BlobsTarget"),
    "snapshots": ("fuzz_snapshots", "SnapshotsTarget"),
    "toml": ("fuzz_toml", "TomlTarget"),
    "parts": ("fuzz_parts", "PartsTarget"),
    "night": ("fuzz_night", "NightTarget"),
    "dreamer": ("fuzz_dreamer", "DreamerTarget"),
    "endpoint": ("fuzz_endpoint", "EndpointTarget"),
}


# Cases of the smallest batch.
LEAST = 20


def target_of(name: str) -> Target:
    return _kind_of(name)()


def size_of(name: str) -> int:
    """Cases of a batch."""
    return _kind_of(name).size


def _kind_of(name: str) -> Any:
    module, kind = TARGETS[name]
    return getattr(import_module(f"benchmarks.proof.{module}"), kind)


class Batches(NamedTuple):
    """What to run of a target: so many batches, each by a seed of its own."""

    target: str
    seeds: Sequence[int]
    # Of each batch; None for as many as the target has by itself.
    cases: int | None


def run(plan: Iterable[Batches], note_path: Path | None) -> int:
    """Tells of each batch in a line of JSON; how many cases failed."""
    running: Watch | None = None
    failed = 0
    guard(lambda: running)
    with contextlib.ExitStack() as stack:
        note = stack.enter_context(note_in(note_path)) if note_path is not None else None
        for name, seeds, cases in plan:
            target = target_of(name)
            try:
                for seed in seeds:
                    running = Watch(name, seed, note)
                    began = time.perf_counter()
                    target.batch(running, target.size if cases is None else cases)
                    failed += len(running.failures)
                    _tell(running, time.perf_counter() - began)
            finally:
                running = None
                target.close()
    return failed


def _tell(watch: Watch, seconds: float) -> None:
    said = {
        "target": watch.target,
        "seed": watch.seed,
        "cases": watch.cases,
        "seconds": round(seconds, 3),
        "ends": dict(watch.ends),
        "resident_mb": round(resident_mb(), 1),
        "failures": [as_json(failure) for failure in watch.failures],
    }
    print(json.dumps(said), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proof.fuzz_run", description="Fuzzes targets.")
    parser.add_argument("targets", nargs="+", choices=TARGETS, metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seed", type=int, default=0, help="of the first batch")
    parser.add_argument("--batches", type=int, default=1)
    parser.add_argument("--cases", type=int, help=f"of each batch; no case may take longer than {HANG_S:g} s")
    parser.add_argument("--share", type=float, help="in place of --cases: of what a batch has by itself")
    parser.add_argument("--note", type=Path, help="a file in which the running case stands")
    args = parser.parse_args(argv)
    # What is refused is logged by the thousand.
    logging.disable(logging.CRITICAL)
    # As in the tests: a warning is a defect that is not noticed yet.
    warnings.simplefilter("error")
    # An end by a signal leaves no gigabytes behind.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seeds = range(args.seed, args.seed + args.batches)
    plan = (
        Batches(name, seeds, args.cases if args.share is None else max(LEAST, round(args.share * size_of(name))))
        for name in args.targets
    )
    return 1 if run(plan, args.note) else 0


if __name__ == "__main__":
    sys.exit(main())
