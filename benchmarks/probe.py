"""The self-probe against the truth: what a night believes it lost, and what questions with known answers lost.

Sets of questions, each as it is and with everything told three times, are merged in many ways: as a night does, at
several ratios, bits and numbers of opened containers, and in ways that destroy, so that there are large losses to see:
centroids with one text, three facets a container, clusters of memories that have nothing to do with each other.

true loss = 1 - after / before, where both are the share of gold facts whose text is read within the token budget; facts
are known by what they say, so a repeat counts as well. probe loss = what `self_probe` reports, exactly as in a night,
without a label. The gate would accept a way if the upper end of the probe's interval is within the bound.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import evaluation_sets, harness, minilm_weights, repeats, scatter
from benchmarks.dream_arrays import dream_arrays, finished
from benchmarks.evaluation_sets import EvaluationSet
from dreamsvc import config as configuration
from dreamsvc import two_stage
from dreamsvc.cli import output
from dreamsvc.dreamer import consolidation
from dreamsvc.dreamer import memories as memory_columns
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.probes import self_probe
from dreamsvc.dreamer.probes.self_probe import Cues
from dreamsvc.dreamer.reading_index import index_before, index_of
from dreamsvc.dreamer.readings import Readings
from dreamsvc.dreamer.redundancy import find_copies
from dreamsvc.dreamer.refusals import Refusals
from dreamsvc.evidence import signature
from dreamsvc.facet_codes import Bits, decode_centroid, encode_centroid, encode_facets
from dreamsvc.memory.embedder import Embedder, EmbedderUnavailable
from dreamsvc.memory.embedder_opening import open_embedder
from dreamsvc.tokens import count_tokens
from dreamsvc.two_stage import Block, Index
from dreamsvc.v1.config_pb2 import Config

SEED = 41
# Names, and tokens of text that answers are read from: chat turns are shorter than passages.
SETS = {"locomo_dev": 512, "hotpotqa": 1024}
TIMES = 3
VECTORS = harness.ROOT / "build" / "vectors"
# Rows ranked for a question at first; more where its budget is not used up by them.
RANKED = 32
ROUNDING = 1e-5
EMBEDDED = 256


class Way(NamedTuple):
    """One way to merge, and to read what was merged."""

    clusters: Literal["topics", "random"]
    ratio: int  # memories before over after that is aimed at
    keeps: Literal["all", "three", "one"] = "all"  # facets whose texts can be read
    bits: Bits = 4
    opened: int = 20


WAYS = (
    *(Way("topics", ratio) for ratio in (2, 3, 5, 7, 10, 15)),
    *(Way("topics", 10, bits=bits) for bits in (8, 2, 1)),
    *(Way("topics", ratio, opened=5) for ratio in (3, 10)),
    *(Way("topics", ratio, keeps="three", bits=8) for ratio in (3, 10)),
    *(Way("topics", ratio, keeps="one") for ratio in (2, 5)),
    *(Way("random", ratio) for ratio in (2, 5, 10)),
)
FEW_WAYS = (Way("topics", 3), Way("topics", 5, keeps="three"), Way("topics", 5, keeps="one"), Way("random", 5))


class Asked(NamedTuple):
    """A set in the vectors of one embedder."""

    given: EvaluationSet
    embedder: str
    vectors: NDArray[np.float32]  # [n, D], of the facts
    queries: NDArray[np.float32]  # [q, D], of the questions, of unit length


class Point(NamedTuple):
    """What one way lost in one set."""

    set: str
    embedder: str
    way: Way
    nodes_before: int
    nodes_after: int
    true_before: float  # share of gold facts read
    true_after: float
    probe_before: float  # share of cues found
    probe_after: float
    probe_loss: float
    loss_low: float
    loss_high: float

    @property
    def true_loss(self) -> float:
        """Negative for a gain."""
        return 1 - self.true_after / self.true_before


# ── one set ─────────────────────────────────────────────────────────────────────


class _Merged(NamedTuple):
    """A memory after a night."""

    found_by: Index
    stands_for: NDArray[np.int32]  # [n]


class Night:
    """What all ways to merge one set have in common: the memory, what was found in it before, and the cues."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        facts = asked.given.facts
        arrays = dream_arrays([fact.title for fact in facts], [fact.text for fact in facts], asked.vectors)
        self.memories: Memories = memory_columns.read(arrays)
        self.config: Config = configuration.defaults()
        self._readings = Readings(self.memories)
        self._copies = finished(
            find_copies(self.memories, self._readings, self.config.dream.redundancy, seed=SEED)
        ).groups
        self.before = finished(index_before(self.memories))
        self.cues: Cues = finished(
            self_probe.calibrate(self.memories, self.before, self.config.dream.quality, self.config.recall, seed=SEED)
        )
        self._truth = Truth(self.memories, asked, self.config.recall.similar)
        self.true_before = self._truth.share(self.before, self.config.recall.open_containers)
        self._plans: dict[int, Sequence[consolidation.Cluster]] = {}

    def point(self, way: Way) -> Point:
        merged = self._merged(way)
        recall = self.config.recall
        recall.open_containers = way.opened
        reading = finished(self_probe.measure(self.memories, self.cues, merged.found_by, merged.stands_for, recall))
        bound = self.config.dream.quality.max_information_loss
        report = finished(self_probe.retention(self.cues, reading, max_information_loss=bound))
        return Point(
            set=self.asked.given.name,
            embedder=self.asked.embedder,
            way=way,
            nodes_before=self.before.size,
            nodes_after=merged.found_by.size,
            true_before=self.true_before,
            true_after=self._truth.share(merged.found_by, way.opened),
            probe_before=report.before,
            probe_after=report.after,
            probe_loss=report.information_loss,
            loss_low=report.loss_low,
            loss_high=report.loss_high,
        )

    def _merged(self, way: Way) -> _Merged:
        """Copies are eliminated first, as in every night."""
        memories = self.memories
        n = len(memories.node_ids)
        stands = np.arange(n, dtype=np.int32)
        for group in self._copies:
            stands[group.copies] = group.survivor
        clusters: list[NDArray[np.int64]] = []
        if way.clusters == "random":
            clusters += random_clusters(np.flatnonzero(stands == np.arange(n)), way.ratio)
        else:
            for cluster in self._planned(way.ratio):
                for fold in cluster.folds:
                    stands[list(fold.copies)] = fold.survivor
                clusters.append(cluster.rows)
        # A survivor may have folded into another.
        stands = stands[stands]
        alone = memories.embedded & (stands == np.arange(n))
        blocks: dict[int, Block] = {}
        for rows in clusters:
            if len(rows) > 1:
                alone[rows] = False
                blocks[n + len(blocks)] = block_of(memories.vectors[rows], rows, way)
        return _Merged(finished(index_of(memories, alone, blocks, n + len(blocks))), stands)

    def _planned(self, ratio: int) -> Sequence[consolidation.Cluster]:
        if ratio not in self._plans:
            dream = self.config.dream
            dream.quality.target_compression_ratio = ratio
            gone = np.zeros(len(self.memories.node_ids), np.bool_)
            for group in self._copies:
                gone[group.copies] = True
            search = consolidation.plan(
                *(self.memories, self._readings, gone, dream.consolidation, dream.quality),
                *(dream.redundancy.min_active, Refusals()),
                seed=SEED,
            )
            self._plans[ratio] = finished(search).clusters
        return self._plans[ratio]


def random_clusters(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Clusters of so many memories that have nothing to do with each other, ascending."""
    drawn = np.random.default_rng([SEED, size]).permutation(rows)
    return [np.sort(drawn[start : start + size]) for start in range(0, len(drawn), size)]


def block_of(vectors: NDArray[np.float32], rows: NDArray[np.int64], way: Way) -> Block:
    """A container of which only some facets are left; a single one is read by the centroid alone."""
    centroid = encode_centroid(vectors.mean(axis=0))
    middle = decode_centroid(centroid)
    kept = np.arange(len(rows))
    if way.keeps != "all":
        central = np.argsort(-(vectors @ middle), kind="stable")
        kept = np.sort(central[: 3 if way.keeps == "three" else 1])
    held = middle[None] if way.keeps == "one" else vectors[kept]
    return Block(rows[kept].astype(np.int32), encode_facets(held, middle, bits=way.bits), way.bits, centroid)


# ── the truth ───────────────────────────────────────────────────────────────────


class Truth:
    """Which gold facts of real questions are read; written apart from the probe's reader, and by the same rules."""

    def __init__(self, memories: Memories, asked: Asked, similar: float) -> None:
        self._n = len(memories.node_ids)
        self._similar = similar - ROUNDING
        self._budget = asked.given.token_budget
        self._queries = asked.queries
        words = [memories.words(row) for row in range(self._n)]
        self._tokens: list[int] = [count_tokens(text) for text in words]
        said = [signature(text).key for text in words]
        tellings: dict[str, set[int]] = {}
        for row, key in enumerate(said):
            tellings.setdefault(key, set()).add(row)
        row_of = {fact.key: row for row, fact in enumerate(asked.given.facts)}
        # By question and gold fact, the rows that tell it.
        self._gold: list[list[set[int]]] = [
            [set[int]().union(*(tellings[said[row_of[key]]] for key in keys)) for keys in question.gold]
            for question in asked.given.questions
        ]

    def share(self, index: Index, opened: int) -> float:
        """Of all gold facts of all questions those whose text is read within the budget."""
        found = asked = 0
        for query, gold in zip(self._queries, self._gold, strict=True):
            read = self._read(index, query, opened)
            found += sum(not tellings.isdisjoint(read) for tellings in gold)
            asked += len(gold)
        return found / asked

    def _read(self, index: Index, query: NDArray[np.float32], opened: int) -> set[int]:
        scores = two_stage.score(index, query, self._n, opened=opened)
        # A facet's own text stands in its container; a container has none.
        ranked = np.where(scores.known, scores.values, np.float32(-np.inf))
        order: NDArray[np.int64] = np.argsort(-ranked, kind="stable")[: int(scores.known.sum())]
        read: list[int] = []
        vectors = np.zeros((0, index.dimension), np.float32)
        used = 0
        for start in range(0, len(order), RANKED):
            part = order[start : start + RANKED]
            together = np.concatenate([vectors, two_stage.vectors_of(index, part)])
            near = together @ together.T >= self._similar
            taken = list(range(len(vectors)))
            rows: list[int] = part.tolist()
            for place, row in enumerate(rows, len(vectors)):
                if near[place, taken].any():
                    continue
                used += self._tokens[row]
                if used > self._budget:
                    return set(read)
                read.append(row)
                taken.append(place)
            vectors = together[taken]
        return set(read)


# ── the sets ────────────────────────────────────────────────────────────────────


def _embedders(quick: bool, console: Console) -> Iterator[tuple[str, Embedder]]:
    """Those that can be had; the others are named."""
    kinds: tuple[tuple[str, Callable[[], str]], ...] = (
        ("wordllama", lambda: ""),
        ("minilm", minilm_weights.directory),
    )
    for kind, path in kinds[:1] if quick else kinds:
        try:
            embedder = open_embedder(kind, path=path(), url="", model="", api_key_env="", timeout_s=0.0)
        except EmbedderUnavailable as error:
            console.print(f"without {kind}: {error}")
        else:
            assert embedder is not None
            yield kind, embedder


def _embedded(
    embedder: Embedder, texts: Sequence[str], title: str, console: Console, *, kept: bool
) -> NDArray[np.float32]:
    """Vectors of texts, [n, D]; kept: in build/, for embedders that take minutes."""
    name = hashlib.sha256("\0".join([embedder.id, *texts]).encode()).hexdigest()[:24]
    file = VECTORS / f"{name}.npy"
    if kept and file.is_file():
        return np.load(file)
    parts: list[NDArray[np.float32]] = []
    with harness.bar(console) as progress:
        task = progress.add_task(title, total=len(texts))
        for start in range(0, len(texts), EMBEDDED):
            parts.append(embedder.embed(texts[start : start + EMBEDDED]))
            progress.advance(task, len(parts[-1]))
    vectors = np.concatenate(parts)
    if kept:
        VECTORS.mkdir(parents=True, exist_ok=True)
        np.save(file, vectors)
    return vectors


def _read_sets(quick: bool, console: Console, data: Path) -> Iterator[Asked]:
    plain = [evaluation_sets.read(data, name, budget) for name, budget in SETS.items()]
    sets = [made for given in plain for made in (given, repeats.repeated(given, TIMES, seed=SEED))]
    for kind, embedder in _embedders(quick, console):
        kept = kind == "minilm"
        for given in sets[:1] if quick else sets:
            title = f"{kind} reads {given.name}"
            facts, questions = [f"{fact.title}\n{fact.text}" for fact in given.facts], given.questions
            vectors = _embedded(embedder, facts, title, console, kept=kept)
            queries = _embedded(embedder, [question.text for question in questions], title, console, kept=kept)
            yield Asked(given, kind, vectors, queries)


# ── the figures ─────────────────────────────────────────────────────────────────


def _pearson(left: Sequence[float], right: Sequence[float]) -> float:
    """0 where one of the two is always the same."""
    if len(set(left)) < 2 or len(set(right)) < 2:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])


def figures_of(points: Sequence[Point], bound: float) -> dict[str, float]:
    """Agreement over all points. A gain counts as no loss: the probe does not tell how much better it became."""
    true = [max(0.0, point.true_loss) for point in points]
    told = [point.probe_loss for point in points]
    accepted = [point.loss_high <= bound for point in points]
    lost = [loss > bound for loss in true]
    share = 100 / len(points)
    return {
        "pearson": _pearson(told, true),
        "mae_pct": 100 * float(np.mean(np.abs(np.subtract(told, true)))),
        "false_accept_pct": share * sum(yes and bad for yes, bad in zip(accepted, lost, strict=True)),
        "false_reject_pct": share * sum(not yes and not bad for yes, bad in zip(accepted, lost, strict=True)),
        "configurations": len(points),
    }


def _detail(points: Sequence[Point], cues: dict[str, Any], bound: float) -> dict[str, Any]:
    true, told = [max(0.0, point.true_loss) for point in points], [point.probe_loss for point in points]
    within = [point for point in points if point.way.keeps == "all" and point.way.clusters == "topics"]
    signed = [1 - point.probe_after / point.probe_before for point in points]
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(f"{point.set}, {point.embedder}", []).append(point)
    return {
        "max_information_loss": bound,
        "bias_pct": round(100 * float(np.mean(np.subtract(told, true))), 3),
        "pearson_with_gains": round(_pearson(signed, [point.true_loss for point in points]), 4),
        "as_a_night_merges": _rounded(figures_of(within, bound)),
        "by_set": {name: _rounded(figures_of(held, bound)) for name, held in groups.items()},
        "cues": cues,
        "points": [_shown(point, bound) for point in points],
    }


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in figures.items()}


def _shown(point: Point, bound: float) -> dict[str, Any]:
    shown = point._asdict() | {"true_loss": point.true_loss}
    shown |= point.way._asdict() | {"accepted": point.loss_high <= bound}
    del shown["way"]
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in shown.items()}


def _table(points: Iterable[Point], bound: float) -> Any:
    table = output.table("set", "embedder", "way", ">ratio", ">true %", ">probe %", ">upper %", "gate")
    for point in points:
        way, verdict = point.way, "accepts" if point.loss_high <= bound else "refuses"
        wrong = (point.loss_high <= bound) == (point.true_loss > bound)
        table.add_row(
            point.set,
            point.embedder,
            f"{way.clusters} {way.ratio}, {way.keeps}, {way.bits} bits, T {way.opened}",
            f"{point.nodes_before / point.nodes_after:.1f}",
            *(f"{100 * loss:.1f}" for loss in (point.true_loss, point.probe_loss, point.loss_high)),
            f"{verdict}{', wrongly' if wrong else ''}",
        )
    return table


def _drawn(points: Iterable[Point], bound: float) -> str:
    dots = [
        scatter.Dot(100 * point.true_loss, 100 * point.probe_loss, f"{point.set}, {point.embedder}") for point in points
    ]
    return scatter.drawn(
        dots, x="true loss in %", y="loss that the self-probe tells, in %", most=100, bound=100 * bound
    )


def run(quick: bool, console: Console, data: Path) -> harness.Measured:
    ways = FEW_WAYS if quick else WAYS
    bound = configuration.defaults().dream.quality.max_information_loss
    points: list[Point] = []
    cues: dict[str, Any] = {}
    for asked in _read_sets(quick, console, data):
        with harness.bar(console) as progress:
            name = f"{asked.given.name}, {asked.embedder}"
            task = progress.add_task(name, total=len(ways))
            night = Night(asked)
            cues[name] = {
                "cues": len(night.cues.golds),
                "s": round(night.cues.s, 3),
                "found_before": round(float(night.cues.found.mean()), 4),
                "token_budget": night.cues.token_budget,
                "token_budget_of_questions": asked.given.token_budget,
            }
            for way in ways:
                points.append(night.point(way))
                progress.advance(task)
    console.print(_table(points, bound))
    if not quick:
        drawing = harness.RESULTS / "probe.svg"
        drawing.write_text(_drawn(points, bound), encoding="utf-8")
        console.print(f"drawn in {drawing}")
    return harness.Measured(figures_of(points, bound), _detail(points, cues, bound))


BENCHMARK = harness.Benchmark(
    figures=["pearson", "mae_pct", "false_accept_pct", "false_reject_pct", "configurations"],
    targets={"pearson": (harness.Target(least=0.93, must=False),)},
    run=harness.OnData(run),
)
