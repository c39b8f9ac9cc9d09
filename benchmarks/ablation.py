"""What each part of a night is worth: alone, and left out of the whole, for what a recall finds and how much is kept.

Each variant is a server of its own with the configuration of that variant. It imports every set into a space, sleeps
one night in each, and is asked the questions of the set over gRPC. The sets have no edges, so that what works on edges
has nothing to do in their first night; a second night of such a part alone, after a whole one, shows what it is worth.
A replay also learns from what recalls returned together: once it comes after the same questions, of which nobody said
what answers them.

Recall at 5 is the mean share of the facts that answer a question whose title and text are among the first five hits;
text is the same share among all hits that the token budget has room for, as the benchmark of retention has it.
"""

import shutil
import tempfile
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from dreamsvc_client import Client
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from benchmarks import evaluation_sets, harness
from benchmarks.ablation_variants import ALL, NOTHING, VARIANTS, Variant
from benchmarks.asking import RESAMPLES, SEED, Night, Space, nodes_of
from benchmarks.evaluation_sets import EvaluationSet
from benchmarks.lifts import MOST, Recalls, recalls
from benchmarks.retention import CALL_S, TOKEN_BUDGETS, Prepared, prepare
from benchmarks.serving import Server, ServerFailed, dreamsvc_command
from dreamsvc import clock
from dreamsvc.cli import output
from dreamsvc.v1.dream_pb2 import DreamPhase, DreamReport
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse

SETS = ("hotpotqa", "locomo_dev")
EMBEDDER = "wordllama"
# Questions of a set that are asked, drawn by SEED where it has more.
QUESTIONS = 400
# Until a server has opened its embedder.
EMBEDDER_S = 60.0
# Variants that are measured at the same time, each with a core to itself on two. What they find does not depend on it;
# the seconds of a night do.
AT_ONCE = 2
QUICK = (NOTHING, ALL, "then_replay")


# ── what is measured ────────────────────────────────────────────────────────────


class Found(NamedTuple):
    """Of the facts that answer each question the share that was returned."""

    first: Recalls  # among the first hits
    text: NDArray[np.float64]  # [q], within the token budget

    @property
    def r5_pct(self) -> float:
        return self.first.pct(5)

    @property
    def text_pct(self) -> float:
        return 100 * float(self.text.mean())


class Slept(NamedTuple):
    """A set after the night of a variant."""

    variant: Variant
    given: EvaluationSet
    night: Night | None
    stats: GetStatsResponse
    found: Found

    @property
    def seconds(self) -> float:
        return self.night.dream.report.seconds if self.night else 0.0

    @property
    def nodes_ratio(self) -> float:
        """Nodes after the night over those before any."""
        return nodes_of(self.stats) / len(self.given.facts)

    @property
    def note(self) -> str:
        """What is to be known of the variant, and what of its night was held back."""
        report = self.night.dream.report if self.night else DreamReport()
        refused = {
            "merging": report.compression.retention.refused,
            "links": report.exploration.linking.refused,
            "novel edges": report.exploration.edges_refused,
        }
        held = [f"{what} refused by the probe" for what, was_refused in refused.items() if was_refused]
        return "; ".join(filter(None, (self.variant.note, *held)))

    def line(self) -> str:
        """E.g. "all, hotpotqa: R@5 92.1 %, text 97.0 %, 296 nodes, 3,004 edges, 9.1 s"."""
        return (
            f"{self.variant.label}, {self.given.name}: R@5 {self.found.r5_pct:.1f} %, text {self.found.text_pct:.1f} %,"
            f" {nodes_of(self.stats):,} nodes, {self.stats.edges:,} edges, {self.seconds:.1f} s"
        )


def difference(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float, float]:
    """Points that a mean share rose by, in percent, with the 95 % interval of a paired bootstrap over questions."""
    rose = 100 * (after - before)
    drawn = np.random.default_rng(SEED).integers(0, len(rose), (RESAMPLES, len(rose)))
    low, high = np.percentile(rose[drawn].mean(axis=1), (2.5, 97.5))
    return float(rose.mean()), float(low), float(high)


def sampled(given: EvaluationSet, most: int) -> EvaluationSet:
    """At most so many of its questions, in their order."""
    if len(given.questions) <= most:
        return given
    drawn = np.random.default_rng(SEED).permutation(len(given.questions))[:most]
    return given._replace(questions=tuple(given.questions[int(place)] for place in np.sort(drawn)))


# ── one variant ─────────────────────────────────────────────────────────────────


class Bench(NamedTuple):
    """Where variants are measured, and what of."""

    sets: Sequence[Prepared]
    directory: Path
    progress: Progress
    console: Console

    def store(self, variant: str, *, used: bool) -> Path:
        """A directory: of a variant's memory after its night, before or after it was asked."""
        return self.directory / (variant if used else f"{variant}.unused")


def measure(bench: Bench, variant: Variant, *, keep: bool) -> list[Slept]:
    """Every set after the night of a variant. keep: its stores are left for variants that come after this one.

    The nights are over before the first question is asked, and another server answers: what recalls return together is
    learnt from by a later night, and only a variant that says so may see the questions before.
    """
    store = bench.store(variant.name, used=True)
    if variant.after:
        shutil.copytree(bench.store(variant.after, used=variant.used), store)
    else:
        store.mkdir()
    nights = _sleep(bench, variant, store)
    if keep:
        shutil.copytree(store, bench.store(variant.name, used=False))
    slept = _ask(bench, variant, store, nights)
    if not keep:
        shutil.rmtree(store)
    return slept


def _sleep(bench: Bench, variant: Variant, store: Path) -> list[Night | None]:
    """The night of each set."""
    nights: list[Night | None] = []
    task = bench.progress.add_task(f"{variant.label}: sleeping", total=len(bench.sets))
    with _served(variant, store) as client:
        for given, file, queries in bench.sets:
            space = Space(client, given, queries, lambda: None)
            if not variant.after:
                space.fill(file)
            nights.append(None if variant.phase is None else space.dream(variant.phase))
            bench.progress.advance(task)
    bench.progress.remove_task(task)
    return nights


def _ask(bench: Bench, variant: Variant, store: Path, nights: Sequence[Night | None]) -> list[Slept]:
    made: list[Slept] = []
    total = sum(2 * len(prepared.given.questions) for prepared in bench.sets)
    task = bench.progress.add_task(f"{variant.label}: asking", total=total)
    with _served(variant, store) as client:
        _await_embedder(client)
        for (given, _, queries), night in zip(bench.sets, nights, strict=True):
            space = Space(client, given, queries, lambda: bench.progress.advance(task))
            stats = space.stats()
            found = Found(recalls(given, space.first(MOST)), space.read(by_text=True).shares)
            made.append(Slept(variant, given, night, stats, found))
            bench.console.print(made[-1].line(), markup=False)
    bench.progress.remove_task(task)
    return made


@contextmanager
def _served(variant: Variant, store: Path) -> Generator[Client]:
    command = dreamsvc_command(store, embedder=EMBEDDER, config=variant.config())
    with Server(command, store / "server.log") as server:
        with Client(server.target, timeout_s=CALL_S) as client:
            yield client
        server.stop()


def _await_embedder(client: Client) -> None:
    """Until it is open, questions are answered by words only."""
    deadline = clock.precise_s() + EMBEDDER_S
    while notice := client.status().embedder_notice:
        if clock.precise_s() > deadline:
            raise ServerFailed(f"after {EMBEDDER_S:g} s still: {notice}")
        clock.sleep_s(0.01)


# ── the benchmark ───────────────────────────────────────────────────────────────


def figures_of(slept: Sequence[Slept]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in slept:
        of = f"{one.variant.name}_{one.given.name}"
        found[f"r5_pct_{of}"] = one.found.r5_pct
        found[f"text_pct_{of}"] = one.found.text_pct
        found[f"nodes_ratio_{of}"] = one.nodes_ratio
    return {key: found[key] for key in FIGURES if key in found}


def shown(one: Slept, nothing: Slept) -> dict[str, Any]:
    """A set after a variant's night, beside the same without one, as the detail has it."""
    before, after = nothing.found.first.five, one.found.first.five
    points, low, high = difference(before, after)
    made: dict[str, Any] = {
        "settings": one.variant.settings,
        "note": one.note,
        **one.found.first.shown(),
        "r5_points": round(points, 2),
        "r5_points_95": [round(low, 2), round(high, 2)],
        "text_points": round(one.found.text_pct - nothing.found.text_pct, 2),
        "questions_worse": int(np.count_nonzero(after < before)),
        "questions_better": int(np.count_nonzero(after > before)),
        "nodes": [len(one.given.facts), nodes_of(one.stats)],
        "edges": one.stats.edges,
        "expanded": one.stats.expanded,
    }
    if one.night is None:
        return made
    report = one.night.dream.report
    linking, exploration = report.exploration.linking, report.exploration
    return made | {
        "phase": DreamPhase.Name(one.night.dream.phase),
        **one.night.shown(len(one.given.facts)),
        "replays": report.replays,
        "edges_strengthened": report.edges_strengthened,
        "edges_weakened": report.edges_weakened,
        "edges_pruned": report.edges_pruned,
        "shortcuts": report.compression.shortcuts.created,
        "links": {
            "mentions": linking.mentions,
            "shared_entities": linking.shared_entities,
            "adjacent": linking.adjacent,
            "made": linking.links,
            "refused": linking.refused,
        },
        "pseudo_queries": {
            "single": [
                linking.probe.single,
                round(linking.probe.single_before, 4),
                round(linking.probe.single_after, 4),
            ],
            "pairs": [linking.probe.pairs, round(linking.probe.pairs_before, 4), round(linking.probe.pairs_after, 4)],
        },
        "finds_verified": exploration.verified,
        "novel_edges": exploration.novel_edges,
        "novel_edges_refused": exploration.edges_refused,
        "notices_rem": list(exploration.notices),
    }


def _table(slept: Sequence[Slept], name: str, console: Console) -> None:
    table = output.table(
        name, ">R@5 %", ">beside nothing", ">[95 %]", ">text %", ">nodes", ">of before", ">edges", ">seconds", "note"
    )
    of_set = [one for one in slept if one.given.name == name]
    nothing = of_set[0]
    for one in of_set:
        points, low, high = difference(nothing.found.first.five, one.found.first.five)
        beside = ("", "") if one is nothing else (f"{points:+.1f}", f"{low:+.1f} {high:+.1f}")
        table.add_row(
            one.variant.label,
            f"{one.found.r5_pct:.1f}",
            *beside,
            f"{one.found.text_pct:.1f}",
            f"{nodes_of(one.stats):,}",
            f"{one.nodes_ratio:.2f}",
            f"{one.stats.edges:,}",
            f"{one.seconds:.1f}" if one.night else "",
            one.note,
        )
    console.print(table)


def measure_all(bench: Bench, variants: Sequence[Variant]) -> list[Slept]:
    """In the order of the variants."""
    overall = bench.progress.add_task("variants", total=len(variants))
    leaders = {variant.after for variant in variants}

    def one(variant: Variant) -> list[Slept]:
        slept = measure(bench, variant, keep=variant.name in leaders)
        bench.progress.advance(overall)
        return slept

    made: list[Slept] = []
    for second in (False, True):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                for slept in pool.map(one, [variant for variant in variants if bool(variant.after) is second]):
                    made += slept
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return sorted(made, key=lambda slept: variants.index(slept.variant))


def run(quick: bool, console: Console, data: Path) -> harness.Measured:
    names = SETS[:1] if quick else SETS
    whole = [evaluation_sets.read(data, name, TOKEN_BUDGETS[name]) for name in names]
    sets = [sampled(given, QUESTIONS) for given in whole]
    variants = [variant for variant in VARIANTS if not quick or variant.name in QUICK]
    with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as name, harness.bar(console) as progress:
        prepared = prepare(sets, EMBEDDER, "", Path(name), progress)
        slept = measure_all(Bench(prepared, Path(name), progress, console), variants)
    for given in sets:
        _table(slept, given.name, console)
    by_name = {(one.variant.name, one.given.name): one for one in slept}
    detail: dict[str, Any] = {
        "measure": "mean share of gold facts among the first five hits (r5), and within the token budget (text)",
        "embedder": EMBEDDER,
        "token_budgets": {given.name: given.token_budget for given in sets},
        "facts": {given.name: len(given.facts) for given in sets},
        "questions": {
            given.name: {"asked": len(given.questions), "of": len(all_of.questions)}
            for given, all_of in zip(sets, whole, strict=True)
        },
        "seed": SEED,
        "variants_at_once": AT_ONCE,
        "sets": {
            given.name: {
                variant.name: shown(by_name[variant.name, given.name], by_name[NOTHING, given.name])
                for variant in variants
            }
            for given in sets
        },
    }
    figures = figures_of(slept)
    detail["figures_left_out"] = [key for key in FIGURES if key not in figures]
    return harness.Measured(figures, detail)


def _figures(variants: Sequence[Variant], sets: Sequence[str]) -> list[str]:
    return [
        f"{what}_{variant.name}_{name}"
        for variant in variants
        for name in sets
        for what in ("r5_pct", "text_pct", "nodes_ratio")
    ]


FIGURES = _figures(VARIANTS, SETS)
_ALWAYS_THERE = set(_figures([variant for variant in VARIANTS if variant.name in QUICK], SETS[:1]))
BENCHMARK = harness.Benchmark(
    figures=FIGURES,
    # What a quick run leaves out.
    optional=[figure for figure in FIGURES if figure not in _ALWAYS_THERE],
    targets={},
    run=harness.OnData(run),
)
