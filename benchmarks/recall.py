"""What a night of linking lifts: recall@2, 5 and 10 before and after it, from zero edges, for three sets of questions.

Of the facts that answer a question the share that is among the first k hits. One configuration for all sets, the
service's defaults; nothing is trained, and no label is seen before the questions are asked. Columns:

    dense, BM25, plain   vectors alone, words alone, and both without aliases; computed beside the service
    fair                 the service before any dream, which is what every lift is counted against
    after                the same service after one REM phase

Beside these: the best 50 and 250 links alone and all that texts speak for, without time, so what each edge is worth; as
many edges shuffled among their ends, and nearest neighbours, both remembered as edges of a user and learnt by the index
in the same way; and full cycles that compress to 5 and 10 to 1 and link. Everything that the service answers is asked
over gRPC of a server of its own. Vectors are made once a set and imported from then on.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dreamsvc_client import Client
from rich.console import Console
from rich.progress import Progress

from benchmarks import evaluation_sets, exported, harness, lifts, minilm_weights
from benchmarks.asking import SEED, Space
from benchmarks.exported import Edge
from benchmarks.lifts import MOST, recalls
from benchmarks.recall_figures import (
    CONTROLS,
    CYCLES,
    FEW_LINKS,
    FIGURES,
    OPTIONAL,
    SECOND,
    SETS,
    TARGETS,
    WHOLE,
    Measures,
    Outcome,
    detail_of,
    figures_of,
    tables,
)
from benchmarks.retention import CALL_S, Prepared, prepare
from benchmarks.serving import BY_REQUEST_ONLY, ServerFailed, serving
from dreamsvc.v1.dream_pb2 import DREAM_PHASE_FULL_CYCLE, DREAM_PHASE_REM, DreamPhase

SHUFFLED_SEED = 23

_FAST = "[dream.resources]\nmax_gpu_usage = 1\n"
_NO_WALKS = "[dream.rem]\nexplore = false\n"


class Way(NamedTuple):
    """How a server is set up, and how it dreams."""

    name: str
    config: str
    phase: DreamPhase.ValueType = DREAM_PHASE_REM
    ratio: float = 1  # nights go on until so many memories are one node

    def whole_config(self, minilm: str) -> str:
        embedder = f"[embedder]\npath = {json.dumps(minilm)}\n" if minilm else ""
        return BY_REQUEST_ONLY + _FAST + self.config + embedder


WHOLE_NIGHT = Way(WHOLE, "")
ALL_LINKS = Way("links", "[dream.linking]\nadjacency = false\n" + _NO_WALKS)
# The edges are those of the user; of them the index learns as of links.
CONTROLLED = Way(
    "controls", "[dream.linking]\nmentions = false\nshared_entities = false\nadjacency = false\n" + _NO_WALKS
)


def few_links(count: int, memories: int) -> Way:
    per_memory = (count + 0.5) / memories
    config = f"[dream.linking]\nadjacency = false\nlinks_per_memory = {per_memory}\n" + _NO_WALKS
    return Way(f"links{count}", config)


def cycle(ratio: int) -> Way:
    config = f"[dream.quality]\ntarget_compression_ratio = {ratio}\n"
    return Way(f"cycle{ratio}", config, DREAM_PHASE_FULL_CYCLE, ratio)


class Bench(NamedTuple):
    """Where the servers of one embedder are started from."""

    embedder: str
    minilm: str
    directory: Path
    progress: Progress


# ── asking ──────────────────────────────────────────────────────────────────────


def dream(bench: Bench, way: Way, sets: Sequence[Prepared], *, ask_before: bool = False) -> list[Outcome]:
    """Each set in a space of one server: filled, maybe asked, put to sleep, asked."""
    steps = sum(2 + (1 + ask_before) * len(one.given.questions) for one in sets)
    task = bench.progress.add_task(way.name, total=steps)
    out: list[Outcome] = []
    with (
        serving(embedder=bench.embedder, config=way.whole_config(bench.minilm)) as server,
        Client(server.target, timeout_s=CALL_S) as client,
    ):
        for one in sets:
            bench.progress.update(task, description=f"{way.name}, {bench.embedder}: {one.given.name}")
            space = Space(client, one.given, one.queries, lambda: bench.progress.advance(task))
            space.fill(one.file)
            before = recalls(one.given, space.first(MOST)) if ask_before else None
            nights = space.sleep(way.ratio, way.phase)
            after = recalls(one.given, space.first(MOST))
            file = bench.directory / "exported.jsonl"
            client.export_to(file, one.given.name)
            out.append(Outcome(way.name, one.given, after, nights, exported.read(file), before))
            bench.progress.console.print(
                f"{one.given.name}, {way.name}, {bench.embedder}: recall@5 {after.pct(5):.1f}", markup=False
            )
    return out


def joined(bench: Bench, one: Prepared, name: str, edges: Sequence[Edge]) -> Prepared:
    """The same set, joined by some edges, as one of its own."""
    given = one.given._replace(name=f"{one.given.name}.{name}")
    file = bench.directory / f"{given.name}.{bench.embedder}.jsonl"
    exported.write(one.file, edges, file)
    return Prepared(given, file, one.queries)


def controls(
    bench: Bench, sets: Sequence[Prepared], linked: Mapping[str, Outcome], kinds: Sequence[str]
) -> list[Outcome]:
    """As many edges as the nights made, of other kinds."""
    made: list[Prepared] = []
    for one in sets:
        edges = linked[one.given.name].edges
        kind_edges: dict[str, Callable[[], list[Edge]]] = {
            "shuffled": lambda edges=edges: exported.shuffled(edges, seed=SHUFFLED_SEED),
            "nearest": lambda one=one, edges=edges: exported.nearest(one.given, exported.vectors(one.file), len(edges)),
        }
        made += [joined(bench, one, kind, kind_edges[kind]()) for kind in kinds]
    out: list[Outcome] = []
    for outcome in dream(bench, CONTROLLED, made):
        name, _, kind = outcome.given.name.rpartition(".")
        out.append(outcome._replace(way=kind, given=outcome.given._replace(name=name)))
    return out


def measure(bench: Bench, sets: Sequence[Prepared], *, quick: bool, whole_only: bool) -> Measures:
    """Everything of one embedder, or only the columns of the first table."""
    baselines = {one.given.name: lifts.baselines(one.given, exported.vectors(one.file), one.queries) for one in sets}
    found = dream(bench, WHOLE_NIGHT, sets, ask_before=True)
    linked = {outcome.given.name: outcome for outcome in found}
    if not whole_only:
        found += controls(bench, sets, linked, CONTROLS[:1] if quick else CONTROLS)
    if not (whole_only or quick):
        found += dream(bench, ALL_LINKS, sets)
        for one in sets:
            for count in FEW_LINKS:
                found += dream(bench, few_links(count, len(one.given.facts)), [one])
        for ratio in CYCLES:
            found += dream(bench, cycle(ratio), sets)
    return Measures(baselines, {(outcome.way, outcome.given.name): outcome for outcome in found})


# ── the benchmark ───────────────────────────────────────────────────────────────


def run(quick: bool, console: Console, data: Path) -> harness.Measured:
    # No budget of tokens bounds these answers.
    sets = [evaluation_sets.read(data, name, 0) for name in SETS]
    minilm = "" if quick else minilm_weights.directory_if_any(console)
    figures: dict[str, float] = {}
    detail: dict[str, Any] = {
        "measure": "share of the facts that answer a question among the first k hits of Recall",
        "facts": {given.name: len(given.facts) for given in sets},
        "questions": {given.name: len(given.questions) for given in sets},
        "seeds": {"nights": SEED, "shuffled": SHUFFLED_SEED},
    }
    with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as name, harness.bar(console) as progress:
        for embedder in ("wordllama", "minilm") if minilm else ("wordllama",):
            is_second = embedder == "minilm"
            bench = Bench(embedder, minilm if is_second else "", Path(name), progress)
            prepared = prepare(sets, embedder, minilm, bench.directory, progress)
            if not prepared:
                raise ServerFailed(f"no vectors of {embedder} were made in time")
            measures = measure(bench, prepared, quick=quick, whole_only=is_second)
            tables(measures, embedder, console)
            figures |= figures_of(measures, SECOND if is_second else "")
            detail[embedder] = detail_of(measures)
    detail["figures_left_out"] = [key for key in FIGURES if key not in figures]
    return harness.Measured({key: figures[key] for key in FIGURES if key in figures}, detail)


BENCHMARK = harness.Benchmark(figures=FIGURES, optional=OPTIONAL, targets=TARGETS, run=harness.OnData(run))
