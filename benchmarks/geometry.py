"""The geometry of a REM phase at 100,000 memories, beside geoopt and gensim.

Walks: 100 of 5 steps and the memories nearest to their ends, against the same with geoopt in single precision. The fit:
positions from the pairs of a made taxonomy, against gensim's PoincareModel with its own settings; both are judged by
how well the points rank what is linked. And a night's positions: 100,000 memories placed for the first time, and again
when one in a hundred is new. A ratio of 3 says that the other way takes three times as long.

geoopt and gensim live in an environment of their own in build/, which the first run makes: geoopt needs PyTorch, which
pip fetches with all it has for GPUs (some GB). What cannot be fetched is not measured.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import harness
from benchmarks.dream_arrays import dream_arrays
from benchmarks.laps import Laps, cpu_s
from dreamsvc import clock
from dreamsvc import config as configuration
from dreamsvc.cli import output
from dreamsvc.dreamer import memories as memory_columns
from dreamsvc.dreamer import placement
from dreamsvc.dreamer.compiling import rem_calls_of
from dreamsvc.dreamer.exploring import ANCHORS, BANDWIDTH, NEAREST, Explored, explore
from dreamsvc.dreamer.fit_quality import average_precision
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Edges, Pairs, Search, joined
from dreamsvc.dreamer.positions import Placed, around_at_once, place
from dreamsvc.v1.config_pb2 import RemConfig
from kernels.compile_ahead import compile_ahead

SEED = 29
NODES, QUICK_NODES = 100_000, 2_000
TAXONOMY_NODES, QUICK_TAXONOMY_NODES = 1_180, 200
# Children that a node of the taxonomy has, about.
CHILDREN = (2, 6)
# Vectors of the memories, and how those of a community lie; links of a memory, of which one in ten leads anywhere.
VECTOR, COMMUNITY_NODES, LINKS_A_NODE, ASTRAY = 64, 50, 2, 0.1
NEW_EVERY = 100
EPOCHS = 50
ROUNDS = 3
VENV = harness.ROOT / "build" / "geometry_venv"
OTHERS = harness.ROOT / "benchmarks" / "geometry_others.py"
FETCH_S, TASK_S = 1800.0, 900.0
NEEDED = {"walks": "geoopt", "fit": "gensim"}
QUICK = "a quick run compares with nothing"


class Timed[T](NamedTuple):
    """What a search found, and what it took."""

    found: T
    seconds: float
    longest_ms: float


class Taxonomy(NamedTuple):
    """A made tree, and everything that is below something else in it."""

    nodes: int
    pairs: NDArray[np.int32]  # [p, 2], the one below and the one above


class NotMeasured(Exception):
    """Why the other way could not be measured."""


# ── what is measured ────────────────────────────────────────────────────────────


def taxonomy(nodes: int) -> Taxonomy:
    rng = np.random.default_rng([SEED, nodes])
    above = np.array([-1, *((row - 1) // int(rng.integers(*CHILDREN)) for row in range(1, nodes))])
    pairs: list[tuple[int, int]] = []
    for row in range(1, nodes):
        higher = int(above[row])
        while higher >= 0:
            pairs.append((row, higher))
            higher = int(above[higher])
    return Taxonomy(nodes, np.array(pairs, np.int32))


def remembered(nodes: int, vectors: NDArray[np.floating]) -> Memories:
    """Memories of no words with these vectors, of every importance."""
    importance = np.random.default_rng([SEED, 1]).random(nodes, np.float32)
    return memory_columns.read(dream_arrays([""] * nodes, [""] * nodes, vectors))._replace(importance=importance)


def communities(nodes: int) -> tuple[Memories, NDArray[np.int32], NDArray[np.int32]]:
    """Memories in communities of about COMMUNITY_NODES, and who is linked to whom; the first ones of each to most."""
    rng = np.random.default_rng([SEED, nodes])
    count = max(1, nodes // COMMUNITY_NODES)
    community = np.sort(rng.integers(0, count, nodes))
    vectors = rng.standard_normal((count, VECTOR))[community] + rng.standard_normal((nodes, VECTOR))
    first, size = np.searchsorted(community, np.arange(count)), np.bincount(community, minlength=count)
    src = rng.integers(0, nodes, LINKS_A_NODE * nodes)
    own = community[src]
    dst = first[own] + (size[own] * rng.random(len(src)) ** 2).astype(np.int64)
    dst = np.where(rng.random(len(src)) < ASTRAY, rng.integers(0, nodes, len(src)), dst)
    return remembered(nodes, vectors), src.astype(np.int32), dst.astype(np.int32)


def timed[T](search: Search[T]) -> Timed[T]:
    laps, found = Laps(), list[T]()

    def noted() -> Generator[str]:
        while True:
            try:
                yield next(search).stage
            except StopIteration as end:
                found.append(end.value)
                return

    steps = noted()
    began = clock.precise_s()
    while True:
        step_began, cpu_began = clock.precise_s(), cpu_s()
        stage = next(steps, None)
        laps.add("all", clock.precise_s() - step_began, cpu_s() - cpu_began, stage or "the end")
        if stage is None:
            break
    return Timed(found[0], clock.precise_s() - began, float(laps.shown()["all"]["longest_ms"]))


def quickest[T](runs: list[Timed[T]]) -> Timed[T]:
    """The run that took least, with the longest step of all."""
    return min(runs, key=lambda run: run.seconds)._replace(longest_ms=max(run.longest_ms for run in runs))


# ── the other ways ──────────────────────────────────────────────────────────────


def fetched(package: str) -> None:
    """Brings a package into the environment in build/. Raises NotMeasured."""
    python = str(VENV / "bin" / "python")
    try:
        if not Path(python).exists():
            subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True, capture_output=True, timeout=FETCH_S)
        if subprocess.run([python, "-c", f"import {package}"], capture_output=True, timeout=FETCH_S).returncode:
            wanted = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
            subprocess.run(wanted, check=True, capture_output=True, text=True, timeout=FETCH_S)
    except subprocess.CalledProcessError as error:
        raise NotMeasured(f"{package} could not be fetched: {str(error.stderr).strip()[-300:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMeasured(f"{package} could not be fetched: {error}") from error


def other_way(task: str, given: Mapping[str, Any]) -> tuple[float, dict[str, NDArray[Any]]]:
    """Seconds and arrays of a task of `geometry_others`. Raises NotMeasured."""
    fetched(NEEDED[task])
    with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as name:
        read, written = Path(name) / "given.npz", Path(name) / "made.npz"
        np.savez(read, allow_pickle=False, **given)
        command = [str(VENV / "bin" / "python"), str(OTHERS), task, str(read), str(written)]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=TASK_S)
        except subprocess.TimeoutExpired as error:
            raise NotMeasured(f"{NEEDED[task]} took more than {TASK_S:g} s") from error
        if ended.returncode:
            raise NotMeasured(f"{NEEDED[task]} ended with {ended.returncode}: {ended.stderr.strip()[-300:]}")
        with np.load(written) as made:
            return float(json.loads(ended.stdout.splitlines()[-1])["seconds"]), dict(made)


def geoopt_walks(points: NDArray[np.float32], ours: Explored, config: RemConfig) -> tuple[float, float]:
    """Seconds of as many walks from the same origins, and the share of memories near our ends that both name."""
    rows = np.sort(np.random.default_rng(SEED).choice(len(points), min(ANCHORS, len(points)), replace=False))
    given = {
        "points": points,
        "anchors": points[rows],
        "origins": points[ours.origins],
        "ends": ours.paths[:, -1],
        "step": config.step_size,
        "bias": config.exploration_bias,
        "bandwidth": BANDWIDTH,
        "steps": config.walk_length,
        "nearest": NEAREST,
    }
    seconds, made = other_way("walks", given)
    pairs = zip(ours.nearest, made["rows"], strict=True)
    return seconds, float(np.mean([len(np.intersect1d(left, right)) / NEAREST for left, right in pairs]))


def judged(points: NDArray[np.float32], pairs: Pairs) -> float:
    """Mean average precision over all rows with links."""
    every = np.flatnonzero(np.diff(pairs.indptr))
    around = around_at_once(points.shape[1])
    search = average_precision(points, np.ones(len(points), np.bool_), pairs, every, around=around)
    return timed(search).found


# ── the figures ─────────────────────────────────────────────────────────────────


def run(quick: bool, console: Console) -> harness.Measured:
    placement.cache_compiled()
    config = configuration.defaults().dream.rem
    missing: dict[str, str] = {}
    with harness.bar(console) as progress:
        shown = progress.add_task("positions", total=4)
        found, placed, detail = _night(QUICK_NODES if quick else NODES, config)
        progress.update(shown, advance=1, description="walks")
        more, walks = _walks(placed, config, quick, missing)
        progress.update(shown, advance=2, description="a taxonomy")
        fits = _fits(taxonomy(QUICK_TAXONOMY_NODES if quick else TAXONOMY_NODES), config, quick, missing)
    found |= more | fits
    for name, why in missing.items():
        console.print(f"{name} is not measured: {why}", markup=False)
    console.print(
        f"{config.synthetic_query_count} queries over {len(placed[1].points):,} memories took {found['walks_s']:.2f} s"
    )
    console.print(_table(found))
    return harness.Measured(
        {key: found[key] for key in FIGURES if key in found},
        {**detail, **walks, "taxonomy_pairs": "everything below and above each other", "missing": missing},
    )


def _night(nodes: int, config: RemConfig) -> tuple[dict[str, float], tuple[Memories, Placed], dict[str, Any]]:
    """All memories placed for the first time, and again when some are new."""
    memories, src, dst = communities(nodes)
    compile_ahead(rem_calls_of(memories, config))
    strength = np.ones(len(src), np.float32)
    first = timed(place(memories, src, dst, strength, config, seed=SEED))
    again = memories._replace(points=first.found.points, changed=np.arange(nodes) % NEW_EVERY == 0)
    second = timed(place(again, src, dst, strength, config, seed=SEED + 1))
    figures = {
        "place_s": first.seconds,
        "place_again_s": second.seconds,
        "place_map_pct": 100 * first.found.fit.mean_average_precision,
        "place_chance_pct": 100 * first.found.fit.chance,
        "longest_step_ms": max(first.longest_ms, second.longest_ms),
    }
    detail = {
        "nodes": nodes,
        "links": len(src),
        "dimension": config.dimension,
        "placed_again": len(second.found.fitted),
    }
    return figures, (memories, first.found), detail


def _walks(
    placed: tuple[Memories, Placed], config: RemConfig, quick: bool, missing: dict[str, str]
) -> tuple[dict[str, float], dict[str, Any]]:
    memories, points = placed[0], placed[1].points
    temperature = config.exploration_temperature
    ours = quickest(
        [timed(explore(memories, points, config, temperature=temperature, seed=SEED)) for _ in range(ROUNDS)]
    )
    figures = {"walks_s": ours.seconds, "walks_longest_step_ms": ours.longest_ms}
    detail = {"walks": len(ours.found.origins), "steps": config.walk_length}
    try:
        if quick:
            raise NotMeasured(QUICK)
        seconds, same = geoopt_walks(points, ours.found, config)
    except NotMeasured as why:
        missing["geoopt"] = str(why)
        return figures, detail
    figures |= {"walks_geoopt_s": seconds, "ratio_walks_geoopt": seconds / ours.seconds}
    return figures, {**detail, "nearest_that_geoopt_names_too": round(same, 4)}


def _fits(made: Taxonomy, config: RemConfig, quick: bool, missing: dict[str, str]) -> dict[str, float]:
    memories = remembered(made.nodes, np.zeros((made.nodes, 1)))
    src, dst = made.pairs.T
    strength = np.ones(len(src), np.float32)
    pairs = timed(joined([Edges(src.astype(np.int64), dst.astype(np.int64), strength)], made.nodes)).found
    compile_ahead(rem_calls_of(memories, config))
    ours = timed(place(memories, src, dst, strength, config, seed=SEED))
    figures = {
        "fit_s": ours.seconds,
        "fit_map_pct": 100 * judged(ours.found.points, pairs),
        "fit_chance_pct": 100 * ours.found.fit.chance,
    }
    given = {"pairs": made.pairs, "nodes": made.nodes, "dimension": config.dimension, "epochs": EPOCHS}
    try:
        if quick:
            raise NotMeasured(QUICK)
        seconds, theirs = other_way("fit", given)
    except NotMeasured as why:
        missing["gensim"] = str(why)
        return figures
    ratio = {"fit_gensim_s": seconds, "ratio_fit_gensim": seconds / ours.seconds}
    return figures | ratio | {"fit_gensim_map_pct": 100 * judged(theirs["points"], pairs)}


def _table(found: Mapping[str, float]) -> Any:
    table = output.table("compared", ">ours s", ">theirs s", ">ratio", ">ours MAP %", ">theirs MAP %")
    compared = {
        "walks, geoopt": ("walks_s", "walks_geoopt_s", "ratio_walks_geoopt"),
        "a fit, gensim": ("fit_s", "fit_gensim_s", "ratio_fit_gensim", "fit_map_pct", "fit_gensim_map_pct"),
    }
    for name, figures in compared.items():
        if figures[1] in found:
            shown = [f"{found[figure]:.2f}" for figure in figures]
            table.add_row(name, *shown, *[""] * (5 - len(shown)))
    return table


COMPARED: Mapping[str, str] = {
    "walks_geoopt_s": "geoopt",
    "ratio_walks_geoopt": "geoopt",
    "fit_gensim_s": "gensim",
    "ratio_fit_gensim": "gensim",
    "fit_gensim_map_pct": "gensim",
}
FIGURES = (
    *("walks_s", "walks_geoopt_s", "ratio_walks_geoopt", "walks_longest_step_ms"),
    *("fit_s", "fit_gensim_s", "ratio_fit_gensim", "fit_map_pct", "fit_gensim_map_pct", "fit_chance_pct"),
    *("place_s", "place_again_s", "place_map_pct", "place_chance_pct", "longest_step_ms"),
)
BENCHMARK = harness.Benchmark(
    figures=FIGURES,
    # What a quick run, or one that has not the packages for it, does not compare.
    optional=list(COMPARED),
    # A REM phase has two minutes.
    targets={"walks_s": (harness.Target(120), harness.Target(1, must=False))},
    run=run,
)
