"""What compressing 100,000 memories takes: time and memory of every part of a night, and its longest single steps.

A dream stops between two steps, so the longest one is what a wake may have to wait for. Everything runs in processes of
their own, one after the other. Four parts are also done in the straightforward way, in the same run: near-duplicates by
numpy tiles and by faiss, clusters by networkx and scipy, shortcuts by walks over dictionaries, codes of facets
one by one. A ratio of 3 says that the straightforward way takes three times as long. Clusters are compared on a part
of the memory, since scipy would need 80 GB for all of it; nothing is extrapolated.
"""

import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import harness
from benchmarks.compress_night import STEPS
from benchmarks.dream_arrays import MadeEdges, dream_arrays
from benchmarks.laps import one_core_less
from benchmarks.made_memory import MadeMemory
from benchmarks.serving import ServerFailed
from benchmarks.straightforward import PACKAGES
from dreamsvc import snapshot_files
from dreamsvc.cli import output
from dreamsvc.dreamer import placement

DIMENSION = 256
EDGES_A_NODE = 8
SEED = 23
# Every so manieth memory says what the one before it says, and tells where somebody lives.
COPY_EVERY, FACT_EVERY = 20, 50
# Standard deviation of what a copy's vector is off by, where the one of the original is 1.4: cosines about 0.98.
COPY_NOISE = 0.3
# Three or four edges of these may pass for a shortcut, or not.
CONFIDENCES = (0.8, 1.0)
TASK_S, FETCH_S = 1800.0, 300.0
# Without what they declare: numpy is here already.
WANTED = ("faiss-cpu==1.15.1", "networkx==3.7")
NIGHT = "benchmarks.compress_night"
WAYS = "benchmarks.straightforward"


class Compared(NamedTuple):
    """A part of a night and the straightforward way to do the same, by the tasks of `straightforward`."""

    ours: str
    theirs: str
    needs: str = ""  # the package that theirs needs


COMPARED = {
    "near_duplicates_numpy": Compared("near_duplicates", "near_duplicates_numpy"),
    "near_duplicates_faiss": Compared("near_duplicates", "near_duplicates_faiss", "faiss"),
    "clusters_networkx": Compared("clusters", "clusters_networkx", "networkx"),
    "clusters_scipy": Compared("clusters", "clusters_scipy"),
    "paths_networkx": Compared("paths", "paths_networkx", "networkx"),
    "containers_loop": Compared("containers", "containers_loop"),
}


# What a quick run compares.
ALWAYS = "near_duplicates_numpy"


# ── the memory ──────────────────────────────────────────────────────────────────


def write_snapshot(directory: Path, nodes: int) -> None:
    """A made memory as the dream's snapshot, with copies and with facts that newer ones contradict."""
    made = MadeMemory(nodes, EDGES_A_NODE * nodes, DIMENSION)
    file = directory.with_name("memory.jsonl")
    made.write(file)
    texts: list[str] = []
    vectors = np.empty((nodes, DIMENSION), np.float32)
    weights: list[float] = []
    with file.open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            if line["type"] == "edge":
                weights.append(line["weight"])
            else:
                vectors[len(texts)] = np.frombuffer(base64.b64decode(line["vector"]), "<f2")
                texts.append(line["text"])
    file.unlink()
    rng = np.random.default_rng([SEED, nodes])
    _say_again(texts, vectors, rng)
    _tell_facts(texts)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    edges = MadeEdges(made.sources, made.targets, np.array(weights), rng.uniform(*CONFIDENCES, len(weights)), "near")
    snapshot_files.write(directory, 1, dream_arrays([""] * nodes, texts, vectors, edges))


def _say_again(texts: list[str], vectors: NDArray[np.float32], rng: np.random.Generator) -> None:
    for row in range(COPY_EVERY, len(texts), COPY_EVERY):
        texts[row] = f"{texts[row - 1].capitalize()}."
        vectors[row] = vectors[row - 1] + COPY_NOISE * rng.standard_normal(vectors.shape[1], np.float32)


def _tell_facts(texts: list[str]) -> None:
    """Somebody lives somewhere, and later somewhere else."""
    rows = range(FACT_EVERY + 1, len(texts), FACT_EVERY)
    for number, row in enumerate(rows):
        words = texts[row].split()
        who, where = texts[rows[number - number % 2]].split()[0], words[-1]
        texts[row] = f"{who.capitalize()} lives in {where.capitalize()}."


# ── the processes ───────────────────────────────────────────────────────────────


def _tell(module: str, *arguments: str) -> dict[str, Any]:
    """What a process of its own tells. Raises ServerFailed."""
    command = [sys.executable, "-m", module, *arguments]
    try:
        ended = subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True, timeout=TASK_S)
    except subprocess.TimeoutExpired as error:
        raise ServerFailed(f"{' '.join(arguments[:1])} took more than {TASK_S:g} s") from error
    if ended.returncode:
        raise ServerFailed(f"{module} {arguments[0]} ended with {ended.returncode}: {ended.stderr[-2000:]}")
    return json.loads(ended.stdout.splitlines()[-1])


def fetched() -> str:
    """Brings the packages that we compare with into build/; gives what went wrong, or nothing."""
    if (PACKAGES / "networkx").is_dir():
        return ""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        subprocess.run(
            [*command, "--upgrade", "--target", str(PACKAGES), *WANTED], check=True, capture_output=True, text=True,
            timeout=FETCH_S,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        return f"they could not be fetched: {error.stderr.strip()[-300:]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"they could not be fetched: {error}"
    return ""


# ── the figures ─────────────────────────────────────────────────────────────────


def run(quick: bool, console: Console) -> harness.Measured:
    nodes = 1_000 if quick else 100_000
    wanted = [ALWAYS] if quick else list(COMPARED)
    placement.cache_compiled()  # for the processes
    lacking = "" if quick else fetched()
    missing: dict[str, str] = {}
    told: dict[str, dict[str, Any]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as directory,
        harness.bar(console) as progress,
        one_core_less(),
    ):
        shown = progress.add_task("a memory", total=len(wanted) + 2)
        snapshot = Path(directory) / "snapshot"
        write_snapshot(snapshot, nodes)
        for name in wanted:
            progress.update(shown, advance=1, description=name)
            pair = COMPARED[name]
            if why := _compare(pair, snapshot, told, lacking):
                missing[name] = why
                console.print(f"without {name}: {why}", markup=False)
        progress.update(shown, advance=1, description="a night")
        night = _tell(NIGHT, str(snapshot))
    compared = {name: COMPARED[name] for name in wanted if name not in missing}
    steps: dict[str, dict[str, Any]] = night.pop("steps")
    console.print(_night_table(steps))
    console.print(_ways_table(compared, told))
    detail: dict[str, Any] = {
        "nodes": nodes,
        "edges": EDGES_A_NODE * nodes,
        "dimension": DIMENSION,
        "steps": steps,
        "night": night,
        "compared": told,
        "missing": missing,
    }
    return harness.Measured(figures_of(steps, compared, told), detail)


def _compare(pair: Compared, snapshot: Path, told: dict[str, dict[str, Any]], lacking: str) -> str:
    """Adds what both ways tell, each once; gives why theirs could not be measured, or nothing."""
    if pair.needs and lacking:
        return lacking
    if pair.ours not in told:
        told[pair.ours] = _tell(WAYS, pair.ours, str(snapshot))
    try:
        told[pair.theirs] = _tell(WAYS, pair.theirs, str(snapshot))
    except ServerFailed as error:
        if not pair.needs:
            raise
        return str(error)[-300:]
    return ""


def figures_of(
    steps: dict[str, dict[str, Any]], compared: dict[str, Compared], told: dict[str, dict[str, Any]]
) -> dict[str, float]:
    # The snapshot is read and kernels are compiled before a dream begins; a stop need not wait for that.
    dreamt = [step for name, step in steps.items() if name not in ("snapshot", "compiling")]
    found = {f"seconds_{name}": float(step["seconds"]) for name, step in steps.items()}
    found["seconds_total"] = sum(step["seconds"] for step in steps.values())
    found["longest_step_ms"] = max(step["longest_ms"] for step in dreamt)
    found["peak_mb"] = max(step["peak_mb"] for step in steps.values())
    for name, pair in compared.items():
        found[f"ratio_{name}"] = told[pair.theirs]["seconds"] / told[pair.ours]["seconds"]
    return {key: found[key] for key in FIGURES if key in found}


def _night_table(steps: dict[str, dict[str, Any]]) -> Any:
    table = output.table(
        "part",
        ">seconds",
        ">cpu s",
        ">steps",
        ">p50 ms",
        ">p99 ms",
        ">longest ms",
        "in",
        ">longest cpu ms",
        "in",
        ">over 10 ms",
        ">peak MB",
    )
    for name, step in steps.items():
        table.add_row(
            name,
            *(f"{step[key]:.2f}" for key in ("seconds", "cpu_s")),
            str(step["steps"]),
            *(f"{step[key]:.1f}" for key in ("p50_ms", "p99_ms", "longest_ms")),
            step["longest_stage"],
            f"{step['longest_cpu_ms']:.1f}",
            step["longest_cpu_stage"],
            str(step["steps_over_10_ms"]),
            f"{step['peak_mb']:.0f}",
        )
    return table


def _ways_table(compared: dict[str, Compared], told: dict[str, dict[str, Any]]) -> Any:
    table = output.table(
        "compared", ">ours s", ">theirs s", ">ratio", ">ours MB", ">theirs MB", "found by ours / theirs"
    )
    for name, (ours, theirs, _) in compared.items():
        left, right = told[ours], told[theirs]
        table.add_row(
            name,
            *(f"{one['seconds']:.2f}" for one in (left, right)),
            f"{right['seconds'] / left['seconds']:.1f}",
            *(f"{one['peak_mb']:.0f}" for one in (left, right)),
            f"{_found(left)} / {_found(right)}",
        )
    return table


def _found(told: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in told.items() if key not in ("seconds", "peak_mb"))


FIGURES: Sequence[str] = (
    *(f"seconds_{name}" for name in STEPS),
    *("seconds_total", "longest_step_ms", "peak_mb"),
    *(f"ratio_{name}" for name in COMPARED),
)
BENCHMARK = harness.Benchmark(
    figures=FIGURES,
    # What a quick run, or one that has not the packages for it, does not compare.
    optional=[f"ratio_{name}" for name in COMPARED if name != ALWAYS],
    targets={},
    run=run,
)
