"""What a crash at any point of any operation leaves: the process ends at every statement, write and sync in turn.

A point covered is one at which a process ended, after which the store was recovered and found to be in order, and at
which going on led to the same digest as a run without a crash. `python -m benchmarks.proof.point_rounds NAME` does one
operation alone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console

from benchmarks import harness
from benchmarks.proof.point_operations import OPERATIONS
from benchmarks.serving import ServerFailed
from dreamsvc.cli import output

# More than any operation has.
EVERY_POINT = 1_000_000
MOST_SHOWN = 20


@dataclass
class Crashed:
    """Of one operation."""

    points: int = 0
    kinds: dict[str, int] = field(default_factory=dict[str, int])
    covered: int = 0
    wrong: list[str] = field(default_factory=list[str])


def run(count: int, console: Console) -> harness.Measured:
    found = {name: Crashed() for name in OPERATIONS}
    with harness.bar(console) as bar:
        task = bar.add_task("points", total=None)
        for said in _rounds(count):
            one = found[said["operation"]]
            if "point" in said:
                _note(one, said)
            else:
                one.points, one.kinds = said["points"], said["kinds"]
                one.wrong += [f"without a crash: {wrong}" for wrong in said["wrong"]]
            bar.update(task, description=said["operation"], completed=sum(one.covered for one in found.values()))
    _show(found, console)
    points = sum(one.points for one in found.values())
    covered = sum(one.covered for one in found.values())
    figures = {
        "points": points,
        "covered_pct": 100 * covered / points,
        "wrong": sum(len(one.wrong) for one in found.values()),
    }
    return harness.Measured(figures, {name: asdict(one) for name, one in found.items()})


def _note(one: Crashed, said: dict[str, Any]) -> None:
    one.covered += said["there"]
    # How often the machine lets a thread in first may differ from run to run, and so may the number of points.
    one.points = max(one.points, said["point"] if said["there"] else 0)
    one.wrong += [f"point {said['point']}: {wrong}" for wrong in said["wrong"]]


def _rounds(count: int) -> Iterator[dict[str, Any]]:
    """What the process that forks says. It has one thread: those of numeric libraries would be there too."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.proof.point_rounds",
        "--count",
        str(0 if count == EVERY_POINT else count),
    ]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=alone, cwd=harness.ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise ServerFailed(f"the process that crashes others ended with {process.returncode}")


def _show(found: dict[str, Crashed], console: Console) -> None:
    table = output.table("operation", ">points", ">covered", ">wrong", "of them")
    for name, one in found.items():
        kinds = ", ".join(f"{number} {kind}" for kind, number in one.kinds.items())
        table.add_row(name, str(one.points), str(one.covered), str(len(one.wrong)), kinds)
    console.print(table)
    wrong = [f"{name}: {what}" for name, one in found.items() for what in one.wrong]
    for what in wrong[:MOST_SHOWN]:
        console.print(what, markup=False)


BENCHMARK = harness.Benchmark(
    figures=("points", "covered_pct", "wrong"),
    targets={"covered_pct": (harness.Target(least=100),), "wrong": (harness.Target(0),)},
    run=harness.Counted(run, "points of each operation", full=EVERY_POINT, quick=1),
)
