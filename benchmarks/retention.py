"""What a compression loses: the share of known facts whose text a recall returns within a token budget, before and
after nights that make 2, 5 and 10 memories one.

Each set is asked as it is, and with every fact told three times. The same questions go to the same reader before and
after: text, as users ask (the headline), and the query's vector alone, which shows what the codes of vectors lose. A
loss of 10 % means that of ten facts that were found nine still are; a negative one that more are found than before.
Everything goes over gRPC to a server of its own. Vectors are made once a set and imported from then on.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from dreamsvc_client import Client
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from benchmarks import evaluation_sets, harness, minilm_weights, repeats
from benchmarks.asking import SEED, Asked, Night, Read, Space, interval, loss_pct, nodes_of, products, write
from benchmarks.evaluation_sets import EvaluationSet
from benchmarks.kept_vectors import TooSlow, vectors_of
from benchmarks.serving import BY_REQUEST_ONLY, ServerFailed, serving
from dreamsvc import clock
from dreamsvc.cli import output
from dreamsvc.memory.embedder_opening import open_embedder
from dreamsvc.memory.graph import words_of
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse

# Tokens that an answer may be read from: of chat turns about twenty, of passages about ten.
TOKEN_BUDGETS = {"locomo_dev": 512, "hotpotqa": 1024}
TOLD = 3
# Of the repeats; the benchmark of the self-probe has the same.
REPEATS_SEED = 41
SETS = [f"{name}{suffix}" for suffix in ("", f"_x{TOLD}") for name in TOKEN_BUDGETS]
CALL_S = 600.0
# Most time that the vectors of one embedder may take.
EMBED_S = 600.0
# Questions by which a space is known to read as the one that was measured before.
CHECKED = 20


class Plan(NamedTuple):
    """How a server is set up, and what is asked of it after the nights."""

    name: str
    ratio: float  # memories a node aimed at; 1: only copies are eliminated
    bits: int
    embedder: str
    # Whether the memory is measured before its nights; else it is what another plan of this embedder measured.
    is_first: bool
    dense: bool  # whether the vectors alone are asked too

    def config(self, minilm: str) -> str:
        merging = self.ratio > 1
        lines = [
            f"[dream.resources]\nmax_gpu_usage = 1\n[dream.quality]\ntarget_compression_ratio = {self.ratio}",
            f"[dream.consolidation]\nfacet_bits = {self.bits}",
            "" if merging else "enabled = false\ntopics = false",
            f"[embedder]\npath = {json.dumps(minilm)}" if self.embedder == "minilm" else "",
        ]
        return BY_REQUEST_ONLY + "\n".join(filter(None, lines)) + "\n"


RATIOS = (10, 5, 2)
FLAT_ONLY = "copies only"
PLANS = (
    *(Plan(str(ratio), ratio, 4, "wordllama", ratio == RATIOS[0], True) for ratio in RATIOS),
    Plan("10_2bit", 10, 2, "wordllama", False, False),
    Plan(FLAT_ONLY, 1, 4, "wordllama", False, False),
)
MINILM_PLAN = Plan("minilm_10", 10, 4, "minilm", True, True)


class Compared(NamedTuple):
    """A set before and after the nights of a plan."""

    plan: Plan
    given: EvaluationSet
    before: Asked
    after: Asked
    nights: list[Night]
    stats_before: GetStatsResponse
    stats_after: GetStatsResponse

    @property
    def node_ratio(self) -> float:
        return len(self.given.facts) / nodes_of(self.stats_after)

    @property
    def bytes_ratio(self) -> float:
        return self.stats_before.vector_bytes / self.stats_after.vector_bytes

    @property
    def cost_ratio(self) -> float:
        return products(self.stats_before) / products(self.stats_after)

    def line(self) -> str:
        """E.g. "hotpotqa, 10: found 0.853, then 0.834 at 10.0 to 1"."""
        found, then = self.before.text.share, self.after.text.share
        return f"{self.given.name}, {self.plan.name}: found {found:.3f}, then {then:.3f} at {self.node_ratio:.1f} to 1"

    def shown(self) -> dict[str, Any]:
        told = len(self.given.facts)
        readers = {"text": (self.before.text, self.after.text)}
        if self.before.dense is not None and self.after.dense is not None:
            readers["dense"] = self.before.dense, self.after.dense
        return {
            "nights": [night.shown(told) for night in self.nights],
            "nodes": [told, nodes_of(self.stats_after)],
            "node_ratio": round(self.node_ratio, 2),
            "facets": self.stats_after.facets,
            "containers": self.stats_after.containers,
            "folded": self.stats_after.folded,
            "vector_bytes": [self.stats_before.vector_bytes, self.stats_after.vector_bytes],
            "bytes_ratio": round(self.bytes_ratio, 2),
            "products_a_query": [round(products(self.stats_before)), round(products(self.stats_after))],
            **{name: _readers_shown(*pair) for name, pair in readers.items()},
        }


def _readers_shown(before: Read, after: Read) -> dict[str, Any]:
    low, high = interval(before.shares, after.shares)
    return {
        "share_before": round(before.share, 4),
        "share_after": round(after.share, 4),
        "loss_pct": round(loss_pct(before.shares, after.shares), 2),
        "loss_95_pct": [round(low, 2), round(high, 2)],
        "questions_worse": int(np.count_nonzero(after.shares < before.shares)),
        "questions_better": int(np.count_nonzero(after.shares > before.shares)),
        "latency_before": harness.percentiles(before.latencies_ms),
        "latency_after": harness.percentiles(after.latencies_ms),
    }


# ── vectors, once a set ─────────────────────────────────────────────────────────


class Prepared(NamedTuple):
    """A set with its vectors."""

    given: EvaluationSet
    file: Path  # with the vectors of its facts, as Export writes it
    queries: NDArray[np.float32]  # [q, D]


def prepare(
    sets: Sequence[EvaluationSet], kind: str, minilm: str, directory: Path, progress: Progress
) -> list[Prepared]:
    """Embeds the sets with the embedder that the service would take, once for all of its spaces.

    Sets of which the vectors are not made in time are left out; those that were made are kept for the next run.
    """
    until_s = clock.precise_s() + EMBED_S
    embedder = open_embedder(kind, path=minilm, url="", model="", api_key_env="", timeout_s=0)
    assert embedder is not None
    made: list[Prepared] = []
    for given in sets:
        task = progress.add_task(f"{given.name}: vectors of {kind}", total=len(given.facts))
        texts = [words_of(fact.title, fact.text) for fact in given.facts]
        asked = [question.text for question in given.questions]
        try:
            vectors = vectors_of(
                embedder, texts, lambda done, task=task: progress.update(task, completed=done), until_s=until_s
            )
            questions = vectors_of(embedder, asked, lambda _: None, until_s=until_s)
        except TooSlow as error:
            progress.console.print(f"without {given.name}: {error}; the next run goes on from there", markup=False)
            continue
        file = directory / f"{given.name}.{kind}.jsonl"
        write(given, embedder.id, vectors, file)
        made.append(Prepared(given, file, questions))
    return made


# ── plans ───────────────────────────────────────────────────────────────────────


def compare(
    plan: Plan, sets: Sequence[Prepared], before: dict[str, Asked], minilm: str, progress: Progress
) -> list[Compared]:
    """What the nights of a plan do to each set; adds to `before` where the plan is the first."""
    readers = 1 + plan.dense
    steps = sum(2 + (readers * (1 + plan.is_first)) * len(prepared.given.questions) for prepared in sets)
    task = progress.add_task(plan.name, total=steps)
    made: list[Compared] = []
    with (
        serving(embedder=plan.embedder, config=plan.config(minilm)) as server,
        Client(server.target, timeout_s=CALL_S) as client,
    ):
        for prepared in sets:
            name = prepared.given.name
            progress.update(task, description=f"{plan.name.replace('_', ', ')}: {name}")
            space = Space(client, prepared.given, prepared.queries, lambda: progress.advance(task))
            space.fill(prepared.file)
            if plan.is_first:
                before[name] = space.ask(dense=plan.dense)
            elif not _reads_alike(space, before[name]):
                raise ServerFailed(f"{name} reads otherwise than the same memory did before")
            stats = space.stats()
            nights = space.sleep(plan.ratio)
            after = space.ask(dense=plan.dense)
            made.append(Compared(plan, prepared.given, before[name], after, nights, stats, space.stats()))
            progress.console.print(made[-1].line(), markup=False)
    return made


def _reads_alike(space: Space, before: Asked) -> bool:
    return np.array_equal(space.read(by_text=True, first=CHECKED).shares, before.text.shares[:CHECKED])


# ── the benchmark ───────────────────────────────────────────────────────────────


def figures_of(compared: Sequence[Compared]) -> dict[str, float]:
    by_plan = {(one.plan.name, one.given.name): one for one in compared}
    found: dict[str, float] = {}
    for (plan, name), one in by_plan.items():
        if plan == FLAT_ONLY:
            continue
        before, after = one.before.text.shares, one.after.text.shares
        found[f"loss_pct_{plan}_{name}"] = loss_pct(before, after)
        if one.before.dense is not None and one.after.dense is not None:
            dense = loss_pct(one.before.dense.shares, one.after.dense.shares)
            found[f"loss_pct_dense_{plan}_{name}"] = dense
        if plan != MINILM_PLAN.name:
            found[f"bytes_ratio_{plan}_{name}"] = one.bytes_ratio
        if plan == "10":
            found[f"query_cost_ratio_10_{name}"] = one.cost_ratio
        if plan == "10" and (FLAT_ONLY, name) in by_plan:
            found[f"loss_vs_dedup_pct_10_{name}"] = loss_pct(_better(by_plan[FLAT_ONLY, name]), after)
    return {key: found[key] for key in FIGURES if key in found}


def _better(alone: Compared) -> NDArray[np.float64]:
    """Shares of what found more: the memory as it was, or less its copies only."""
    return max(alone.before.text, alone.after.text, key=lambda read: read.share).shares


def _table(compared: Sequence[Compared], console: Console) -> None:
    shown = output.table(
        "set", "plan", ">nights", ">node ratio", ">bytes ratio", ">found before", ">after", ">loss %", ">dense loss %",
        ">self-probe %",
    )  # fmt: skip
    for one in compared:
        text, dense = (one.before.text, one.after.text), (one.before.dense, one.after.dense)
        reached = one.node_ratio >= one.plan.ratio
        shown.add_row(
            one.given.name,
            one.plan.name,
            str(len(one.nights)),
            f"{one.node_ratio:.2f}{'' if reached else ' (missed)'}",
            f"{one.bytes_ratio:.1f}",
            f"{text[0].share:.3f}",
            f"{text[1].share:.3f}",
            f"{loss_pct(text[0].shares, text[1].shares):.1f}",
            "" if dense[0] is None or dense[1] is None else f"{loss_pct(dense[0].shares, dense[1].shares):.1f}",
            f"{100 * one.nights[-1].dream.report.compression.retention.information_loss:.1f}",
        )
    console.print(shown)


def run(quick: bool, console: Console, data: Path) -> harness.Measured:
    plain = [evaluation_sets.read(data, name, budget) for name, budget in TOKEN_BUDGETS.items()]
    sets = [*plain, *(repeats.repeated(given, TOLD, seed=REPEATS_SEED) for given in plain)]
    plans = [plan for plan in PLANS if not quick or plan.is_first]
    minilm = "" if quick else minilm_weights.directory_if_any(console)
    if minilm:
        plans.append(MINILM_PLAN)
    compared: list[Compared] = []
    with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as name, harness.bar(console) as progress:
        prepared: list[Prepared] = []
        before: dict[str, Asked] = {}
        for plan in plans:
            if plan.is_first:
                prepared = prepare(sets, plan.embedder, minilm, Path(name), progress)
                before = {}
            compared += compare(plan, prepared, before, minilm, progress)
    compared.sort(key=lambda one: SETS.index(one.given.name))
    _table(compared, console)
    detail: dict[str, Any] = {
        "measure": "share of gold facts whose title and text are among what Recall returns within the token budget",
        "token_budgets": TOKEN_BUDGETS,
        "facts": {given.name: len(given.facts) for given in sets},
        "questions": {given.name: len(given.questions) for given in sets},
        "seeds": {"nights": SEED, "repeats": REPEATS_SEED},
        "sets": {
            given.name: {one.plan.name: one.shown() for one in compared if one.given.name == given.name}
            for given in sets
        },
    }
    figures = figures_of(compared)
    detail["figures_left_out"] = [key for key in FIGURES if key not in figures]
    return harness.Measured(figures, detail)


_WITH_MINILM = [f"loss_pct{how}_minilm_10_{name}" for name in SETS for how in ("", "_dense")]
_WITH_OTHER_PLANS = [
    *(f"loss_vs_dedup_pct_10_{name}" for name in SETS),
    *(
        f"{what}_{ratio}_{name}"
        for ratio in RATIOS[1:]
        for name in SETS
        for what in ("loss_pct", "loss_pct_dense", "bytes_ratio")
    ),
    *(f"{what}_10_2bit_{name}" for name in SETS for what in ("loss_pct", "bytes_ratio")),
]
_AT_TEN = ("loss_pct", "loss_pct_dense", "bytes_ratio", "query_cost_ratio")
FIGURES = [*(f"{what}_10_{name}" for name in SETS for what in _AT_TEN), *_WITH_OTHER_PLANS, *_WITH_MINILM]
BENCHMARK = harness.Benchmark(
    figures=FIGURES,
    # What a quick run, and one without MiniLM, leaves out.
    optional=[*_WITH_OTHER_PLANS, *_WITH_MINILM],
    targets={
        **{f"loss_pct_10_{name}": (harness.Target(15), harness.Target(5, must=False)) for name in SETS},
        **{f"loss_pct_10_2bit_{name}": (harness.Target(8, must=False),) for name in SETS},
        **{f"bytes_ratio_10_2bit_{name}": (harness.Target(least=10, must=False),) for name in SETS},
    },
    run=harness.OnData(run),
)
