"""What every benchmark has in common: what it declares, what it gives back, and how that is written and shown."""

import json
import os
import platform
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dreamsvc.cli import output

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PERCENTILES = (50, 95, 99)


class Target(NamedTuple):
    """The most that a figure may be, or the least."""

    most: float | None = None
    # False: it is aimed at, and missing it breaks no promise.
    must: bool = True
    least: float | None = None

    def is_met(self, value: float) -> bool:
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    def __str__(self) -> str:
        bounds = (("<=", self.most), (">=", self.least))
        return ", ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


class Measured(NamedTuple):
    """What a run gives back; every figure is one number, everything else is detail."""

    figures: Mapping[str, float]
    detail: Mapping[str, Any]


# True asks for the same on a small input: it shows that the benchmark works, and measures nothing.
type Run = Callable[[bool, Console], Measured]


class OnData(NamedTuple):
    """A run that reads evaluation sets from a directory, which are no part of this project."""

    # Raises `evaluation_sets.DataAbsent`.
    run: Callable[[bool, Console, Path], Measured]


class Counted(NamedTuple):
    """A run that is as long as one likes: so many kills, cases, minutes."""

    run: Callable[[int, Console], Measured]
    # What is counted, e.g. "kills".
    unit: str
    # How many without --count, and with --quick.
    full: int
    quick: int


class Benchmark(NamedTuple):
    """What a benchmark's file declares as BENCHMARK."""

    # The figures that a run gives, all of them, in the order they are shown.
    figures: Sequence[str]
    targets: Mapping[str, Sequence[Target]]
    run: Run | OnData | Counted
    # Of the figures, those that a run may lack: where something that it can do without is missing.
    optional: Collection[str] = ()


def percentiles(values_ms: Sequence[float]) -> dict[str, float]:
    """Count, P50, P95, P99 and the largest of some latencies."""
    if not values_ms:
        return {"count": 0}
    found = np.percentile(values_ms, PERCENTILES)
    shown = {f"p{share}_ms": round(float(value), 3) for share, value in zip(PERCENTILES, found, strict=True)}
    return {"count": len(values_ms), **shown, "max_ms": round(max(values_ms), 3)}


def bar(console: Console) -> Progress:
    """A progress bar for the rounds of a benchmark."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def commit() -> str:
    """The commit that is measured, with "-dirty" where the files differ from it; results themselves do not count."""
    try:
        short = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{short}-dirty" if changed else short


def _git(*arguments: str) -> str:
    asked = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def machine() -> dict[str, Any]:
    """What it ran on; nothing that names the machine or its user."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def result(
    name: str, measured: Measured, *, quick: bool, on_data: bool = False, count: int | None = None
) -> dict[str, Any]:
    options = (" --data DIR" if on_data else "") + (" --quick" if quick else "")
    options += "" if count is None else f" --count {count}"
    return {
        "name": name,
        "commit": commit(),
        "machine": machine(),
        "command": f"python -m benchmarks {name}{options}",
        "figures": {key: round(value, 4) for key, value in measured.figures.items()},
        "detail": measured.detail,
    }


def save(made: Mapping[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def verdict(value: float, targets: Sequence[Target]) -> str:
    """E.g. "<= 100 met, <= 25 (aim) missed"."""
    return ", ".join(
        f"{target}{'' if target.must else ' (aim)'} {'met' if target.is_met(value) else 'missed'}" for target in targets
    )


def figure_table(made: Mapping[str, Any], benchmark: Benchmark) -> Table:
    table = output.table("figure", ">value", "target", title=f"{made['name']} at {made['commit']}")
    for key, value in made["figures"].items():
        table.add_row(key, f"{value:,.3f}".rstrip("0").rstrip("."), verdict(value, benchmark.targets.get(key, ())))
    return table
