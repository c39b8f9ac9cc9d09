"""What the benchmark of recall found: its figures, its targets, its tables."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks import harness, lifts
from benchmarks.asking import Night
from benchmarks.evaluation_sets import EvaluationSet
from benchmarks.exported import Edge
from benchmarks.lifts import Pair, Recalls, lift_pct, macro, macro_interval, worse_pct
from dreamsvc.cli import output

SETS = ("hotpotqa", "2wiki", "locomo_dev")
FEW_LINKS = (50, 250)
CYCLES = (5, 10)
SECOND = "_minilm"
# The way whose lift is the headline.
WHOLE = "after"
CONTROLS = ("shuffled", "nearest")


class Outcome(NamedTuple):
    """A set after the nights of a way."""

    way: str
    given: EvaluationSet
    after: Recalls
    nights: list[Night]
    edges: list[Edge]  # that there are then
    before: Recalls | None  # of the service without edges; None where it was not asked

    def shown(self, fair: Recalls) -> dict[str, Any]:
        linking = self.nights[-1].dream.report.exploration.linking
        probe = linking.probe
        return {
            **self.after.shown(),
            **lifts.shown(Pair(fair.five, self.after.five)),
            "edges": len(self.edges),
            "points_per_100_edges": round(self.points_per_edge(fair) * 100, 3),
            "seconds": [round(night.dream.report.seconds, 2) for night in self.nights],
            "memories_a_node": round(self.node_ratio, 2),
            "links": [linking.mentions, linking.shared_entities, linking.adjacent],
            "expanded": linking.expanded,
            "refused": linking.refused,
            "novel_edges": self.nights[-1].dream.report.exploration.novel_edges,
            "pseudo_queries": {
                "single": [probe.single, round(probe.single_before, 4), round(probe.single_after, 4)],
                "pairs": [probe.pairs, round(probe.pairs_before, 4), round(probe.pairs_after, 4)],
            },
            "notices": [
                *self.nights[-1].dream.report.exploration.notices,
                *self.nights[-1].dream.report.compression.notices,
            ],
        }

    @property
    def node_ratio(self) -> float:
        return len(self.given.facts) / self.nights[-1].nodes

    def points_per_edge(self, fair: Recalls) -> float:
        return (self.after.pct(5) - fair.pct(5)) / len(self.edges) if self.edges else 0.0


class Measures(NamedTuple):
    """What one embedder's sets gave."""

    baselines: Mapping[str, Mapping[str, Recalls]]  # by set, then "dense", "bm25", "plain"
    outcomes: Mapping[tuple[str, str], Outcome]  # by way and set

    def fair(self, name: str) -> Recalls:
        found = self.outcomes[WHOLE, name].before
        assert found is not None
        return found

    def pair(self, way: str, name: str) -> Pair:
        return Pair(self.fair(name).five, self.outcomes[way, name].after.five)

    @property
    def sets(self) -> list[str]:
        return [name for name in SETS if (WHOLE, name) in self.outcomes]

    def ways(self, name: str) -> list[str]:
        return [way for way, of in self.outcomes if of == name]


# ── figures ─────────────────────────────────────────────────────────────────────


def figures_of(measures: Measures, suffix: str = "") -> dict[str, float]:
    """A macro figure only where all sets were measured."""
    found: dict[str, float] = {}
    for name in measures.sets:
        after, fair = measures.outcomes[WHOLE, name].after, measures.fair(name)
        for count in lifts.AT:
            found[f"r{count}_fair_{name}{suffix}"] = fair.pct(count)
            found[f"r{count}_after_{name}{suffix}"] = after.pct(count)
        found[f"r5_before_{name}{suffix}"] = measures.baselines[name]["plain"].pct(5)
        found |= {f"r5_{way}_{name}{suffix}": measures.baselines[name][way].pct(5) for way in ("dense", "bm25")}
        found[f"lift_pct_{name}{suffix}"] = lift_pct(measures.pair(WHOLE, name))
        found[f"worse_pct_{name}{suffix}"] = worse_pct(measures.pair(WHOLE, name))
        for way in measures.ways(name):
            if way not in (WHOLE, *CONTROLS):
                found[f"r5_{way}_{name}{suffix}"] = measures.outcomes[way, name].after.pct(5)
            if way.startswith("cycle"):
                found[f"memories_a_node_{way}_{name}{suffix}"] = measures.outcomes[way, name].node_ratio
                found[f"loss_pct_{way}_{name}{suffix}"] = -lift_pct(measures.pair(way, name))
    if len(measures.sets) == len(SETS):
        pairs = [measures.pair(WHOLE, name) for name in SETS]
        found[f"lift_pct_macro{suffix}"] = macro(map(lift_pct, pairs))
        found[f"lift_ci_low_macro{suffix}"] = macro_interval(pairs)[0]
        found[f"worse_pct_macro{suffix}"] = macro(map(worse_pct, pairs))
        for kind in CONTROLS:
            if all((kind, name) in measures.outcomes for name in SETS):
                found[f"{kind}_pct_macro{suffix}"] = macro(lift_pct(measures.pair(kind, name)) for name in SETS)
    return found


def detail_of(measures: Measures) -> dict[str, Any]:
    return {
        name: {
            **{way: one.shown() for way, one in measures.baselines[name].items()},
            "fair": measures.fair(name).shown(),
            **{way: measures.outcomes[way, name].shown(measures.fair(name)) for way in measures.ways(name)},
            "by_kind": {kind: _kind_shown(pair) for kind, pair in _kinds(measures, name).items()},
        }
        for name in measures.sets
    }


def _kinds(measures: Measures, name: str) -> dict[str, Pair]:
    return lifts.by_kind(measures.outcomes[WHOLE, name].given, measures.pair(WHOLE, name))


def _kind_shown(pair: Pair) -> dict[str, Any]:
    before, after = 100 * float(pair.before.mean()), 100 * float(pair.after.mean())
    return {"questions": len(pair.before), "fair": round(before, 2), "after": round(after, 2), **lifts.shown(pair)}


def tables(measures: Measures, embedder: str, console: Console) -> None:
    columns = output.table(
        "set", ">dense", ">BM25", ">plain", ">fair", ">after", ">lift %", ">95 %", ">worse %",
        title=f"recall@5, {embedder}",
    )  # fmt: skip
    others = output.table("set", "way", ">edges", ">recall@5", ">lift %", ">points/100 edges", ">memories a node")
    kinds = output.table("set", "kind", ">questions", ">fair", ">after", ">lift %")
    for name in measures.sets:
        fair, pair = measures.fair(name), measures.pair(WHOLE, name)
        low, high = macro_interval([pair])
        alone = [f"{measures.baselines[name][way].pct(5):.1f}" for way in ("dense", "bm25", "plain")]
        after = measures.outcomes[WHOLE, name].after
        columns.add_row(
            *(name, *alone, f"{fair.pct(5):.1f}", f"{after.pct(5):.1f}", f"{lift_pct(pair):+.1f}"),
            *(f"{low:+.1f} .. {high:+.1f}", f"{worse_pct(pair):.1f}"),
        )
        for way in measures.ways(name):
            outcome = measures.outcomes[way, name]
            refused = outcome.nights[-1].dream.report.exploration.linking.refused
            others.add_row(
                *(name, f"{way}{' (refused)' if refused else ''}", str(len(outcome.edges))),
                *(f"{outcome.after.pct(5):.1f}", f"{lift_pct(measures.pair(way, name)):+.1f}"),
                *(f"{100 * outcome.points_per_edge(fair):.2f}", f"{outcome.node_ratio:.1f}"),
            )
        for kind, of_kind in _kinds(measures, name).items():
            shown = _kind_shown(of_kind)
            kinds.add_row(
                *(name, kind, str(shown["questions"])),
                *(f"{shown['fair']:.1f}", f"{shown['after']:.1f}", f"{shown['lift_pct']:+.1f}"),
            )
    for table in (columns, others, kinds):
        if table.row_count:
            console.print(table)


# ── what is declared ────────────────────────────────────────────────────────────


def _of_sets(what: str, suffix: str = "") -> list[str]:
    return [f"{what}_{name}{suffix}" for name in SETS]


_COLUMNS = ("r5_fair", "r5_before", "r5_after", "lift_pct", "worse_pct", "r5_dense", "r5_bm25")
_AT_OTHERS = [f"r{count}_{when}" for count in lifts.AT if count != 5 for when in ("fair", "after")]
_MACRO = ("lift_pct_macro", "lift_ci_low_macro", "worse_pct_macro")
_MAIN = [
    *(key for name in SETS for key in (f"{what}_{name}" for what in _COLUMNS)),
    *_MACRO,
    "shuffled_pct_macro",
    *(key for what in _AT_OTHERS for key in _of_sets(what)),
]
# What a quick run, and one without the second embedder, leaves out.
OPTIONAL = [
    "nearest_pct_macro",
    *(key for way in (*(f"links{count}" for count in FEW_LINKS), "links") for key in _of_sets(f"r5_{way}")),
    *(
        key
        for ratio in CYCLES
        for what in (f"r5_cycle{ratio}", f"loss_pct_cycle{ratio}", f"memories_a_node_cycle{ratio}")
        for key in _of_sets(what)
    ),
    *(key for what in (*_COLUMNS, *_AT_OTHERS) for key in _of_sets(what, SECOND)),
    *(f"{key}{SECOND}" for key in _MACRO),
]
FIGURES = [*_MAIN, *OPTIONAL]
TARGETS = {
    "lift_pct_macro": (harness.Target(least=15), harness.Target(least=20, must=False)),
    "shuffled_pct_macro": (harness.Target(1),),
    **{key: (harness.Target(least=8),) for key in _of_sets("lift_pct")},
    **{key: (harness.Target(4, must=False),) for key in _of_sets("worse_pct")},
}
