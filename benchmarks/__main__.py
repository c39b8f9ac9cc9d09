"""`python -m benchmarks NAME [--data DIR] [--out FILE] [--quick]`: runs one benchmark; without NAME lists them."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from benchmarks import harness
from benchmarks.serving import ServerFailed
from dreamsvc.cli import output


class Entry(NamedTuple):
    # The file in benchmarks/ that holds the benchmark.
    module: str
    summary: str


ENTRIES = {
    "wake": Entry("wake", "latency of 300 aborts and 300 recalls that wake a dream, and of recalls meanwhile (8 min)"),
    "serve": Entry("serve", "GetStatus against a bare grpc.aio server (1 min)"),
    "start": Entry("start", "time until the server answers, and its memory (20 s)"),
    "import": Entry("imports", "items a second of both import formats, and recalls meanwhile (2 min)"),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Runs one benchmark; lists them if none.")
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {', '.join(ENTRIES)}")
    parser.add_argument(
        "--data", metavar="DIR", type=Path, help="input of benchmarks that read one; none of these does"
    )
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
    if args.data is not None:
        console.print(f"{args.name} makes its own input; --data is not read")
    return run(args.name, args.out, quick=args.quick)


def run(name: str, out: Path | None, *, quick: bool) -> int:
    console = output.console()
    benchmark: harness.Benchmark = import_module(f"benchmarks.{ENTRIES[name].module}").BENCHMARK
    try:
        measured = benchmark.run(quick, console)
    except ServerFailed as error:
        console.print(f"{name} could not be measured: {error}")
        return 1
    made = harness.result(name, measured, quick=quick)
    console.print(harness.figure_table(made, benchmark))
    target = out or (None if quick else harness.RESULTS / f"{name}.json")
    if target is not None:
        harness.save(made, target)
        console.print(f"written to {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
