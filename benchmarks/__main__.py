"""`python -m benchmarks NAME [--data DIR] [--count N] [--out FILE] [--quick]`: runs one; without NAME lists them.

Ends with 0 when it ran, 1 when it could not be measured, 2 on wrong usage, and 77 when it was skipped, since the
evaluation sets that it reads are not there.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from benchmarks import harness
from benchmarks.evaluation_sets import DataAbsent
from benchmarks.serving import ServerFailed
from dreamsvc.cli import output

# What test drivers take for "skipped".
SKIPPED = 77


class Entry(NamedTuple):
    # The file in benchmarks/ that holds the benchmark.
    module: str
    summary: str


ENTRIES = {
    "wake": Entry("wake", "latency of what wakes a dream, anywhere in it, and of recalls meanwhile (20 min)"),
    "wakes": Entry("wakes", "10,000 wakes of nights at 100K, and whether their journals are the same (2 h)"),
    "soak": Entry("soak", "an hour of mixed load: memory, handles and latencies have to stay flat"),
    "load": Entry("load", "1,000 clients, 1,000 watchers, and mixed load while nights go by (15 min)"),
    "budget": Entry("budget", "what of the machine a cycle at 100K takes, in any second, seen from outside (8 min)"),
    "scale": Entry("scale", "a night at 100,000 and at a million memories: time, memory, wakes (30 min)"),
    "huge": Entry("huge", "a dreamer over ten million memories: its night, its memory, how it stops (25 min)"),
    "serve": Entry("serve", "GetStatus against a bare grpc.aio server (1 min)"),
    "security": Entry("security", "every method by callers that must not come in, TLS, floods: a table (1 min)"),
    "start": Entry("start", "time until the server answers, and its memory, also with all features on (40 s)"),
    "restarts": Entry("restarts", "a hundred restarts of one store: what is there, and what grows (2 min)"),
    "import": Entry("imports", "items a second of both import formats, and recalls meanwhile (2 min)"),
    "retention": Entry("retention", "facts still found after nights at 2, 5 and 10 to 1; needs --data (15 min)"),
    "planted": Entry("planted", "copies, near misses and updates of a made-up memory, after one night (1 min)"),
    "probe": Entry("probe", "the self-probe against what questions lose, in 140 configurations; needs --data (20 min)"),
    "compress": Entry("compress", "time and memory of each part of a night at 100K, beside plainer ways (5 min)"),
    "recall": Entry("recall", "recall@2/5/10 before and after dreaming, with controls; needs --data (15 min)"),
    "blindspots": Entry("blindspots", "how many finds are edges that were hidden; needs --data (3 min)"),
    "ablation": Entry("ablation", "each part of a dream alone, and all without it; needs --data (12 min)"),
    "faults": Entry("faults", "each file call of each act failing: nothing wrong without an error (5 min)"),
    "bitflips": Entry("bitflips", "bits that flip in any file of a store: harmless, or told (10 min)"),
    "fuzz": Entry("fuzz", "a million cases of what no honest caller sends, at every door (15 min)"),
    "powerloss": Entry("powerloss", "the power goes at any moment: what the next start finds (5 min)"),
    "kernel": Entry("geometry", "walks and fit of REM beside geoopt and gensim; fetches PyTorch, some GB (5 min)"),
    "crashpoints": Entry("crashpoints", "the process ends at any statement, write or sync of 14 operations (10 min)"),
    "crash": Entry("crash", "kill -9 of server and dreamer; what was acknowledged is there (10,000 kills: 40 min)"),
    "simulation": Entry(
        "simulation", "days of the service by seed, and all that can go wrong, on virtual time (20 min)"
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Runs one benchmark; lists them if none.")
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {', '.join(ENTRIES)}")
    parser.add_argument("--data", metavar="DIR", type=Path, help="evaluation sets, for benchmarks that read some")
    parser.add_argument("--count", metavar="N", type=int, help="how many kills, cases, minutes, for those that count")
    parser.add_argument("--out", metavar="FILE", type=Path, help="default: benchmarks/results/NAME.json")
    parser.add_argument("--quick", action="store_true", help="a small input; writes nothing unless --out is given")
    args = parser.parse_args(argv)
    console = output.console()
    if args.name is None:
        table = output.table("NAME", "what it measures")
        for name, entry in ENTRIES.items():
            table.add_row(name, entry.summary)
        table.add_row("", "kernels on a GPU: make bench-gpu")
        console.print(table)
        return 0
    if args.name not in ENTRIES:
        parser.error(f"there is no benchmark {args.name}; there are {', '.join(ENTRIES)}")
    if args.count is not None and args.count < 1:
        parser.error(f"--count is {args.count}; must be at least 1")
    return run(args.name, args.data, args.out, quick=args.quick, count=args.count)


def run(name: str, data: Path | None, out: Path | None, *, quick: bool, count: int | None = None) -> int:
    console = output.console()
    benchmark: harness.Benchmark = import_module(f"benchmarks.{ENTRIES[name].module}").BENCHMARK
    try:
        measured = _measured(name, benchmark, data, count, quick, console)
    except DataAbsent as error:
        console.print(f"{name} is skipped: {error}", markup=False)
        return SKIPPED
    except ServerFailed as error:
        console.print(f"{name} could not be measured: {error}", markup=False)
        return 1
    made = harness.result(name, measured, quick=quick, on_data=isinstance(benchmark.run, harness.OnData), count=count)
    console.print(harness.figure_table(made, benchmark))
    target = out or (None if quick else harness.RESULTS / f"{name}.json")
    if target is not None:
        harness.save(made, target)
        console.print(f"written to {target}")
    return 0


def _measured(
    name: str, benchmark: harness.Benchmark, data: Path | None, count: int | None, quick: bool, console: Console
) -> harness.Measured:
    if count is not None and not isinstance(benchmark.run, harness.Counted):
        console.print(f"{name} counts nothing; --count is not read")
    match benchmark.run:
        case harness.OnData(run_on):
            if data is None:
                raise DataAbsent("it reads evaluation sets; say where they are with --data DIR (make: DATA=DIR)")
            return run_on(quick, console, data)
        case harness.Counted(run_counted, _, full, few):
            return run_counted(count or (few if quick else full), console)
        case run_alone:
            if data is not None:
                console.print(f"{name} makes its own input; --data is not read")
            return run_alone(quick, console)


if __name__ == "__main__":
    sys.exit(main())
