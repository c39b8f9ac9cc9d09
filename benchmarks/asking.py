"""One evaluation set in one space of a running server: filled, asked, and put to sleep."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from dreamsvc_client import Client
from numpy.typing import NDArray

from benchmarks.evaluation_sets import EvaluationSet, Question
from benchmarks.serving import ServerFailed
from dreamsvc import clock, contract
from dreamsvc.v1.config_pb2 import RecallConfig
from dreamsvc.v1.dream_pb2 import (
    DREAM_PHASE_NREM,
    MERGE_STAGE_CONSERVATIVE,
    MERGE_STAGE_TOPIC,
    Dream,
    DreamPhase,
    MergeStage,
)
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse

SEED = 11
# Hits, far more than the budgets have room for; that it bounds no answer is checked.
LIMIT = 300
NIGHTS = 3
BUDGET_S = 1800.0
OPEN_S = 10.0
RESAMPLES = 2000


class Read(NamedTuple):
    """What one reader found for the questions of a set."""

    shares: NDArray[np.float64]  # [q], of each question's facts those that were returned
    latencies_ms: list[float]

    @property
    def share(self) -> float:
        return float(self.shares.mean())


class Asked(NamedTuple):
    """Both readers."""

    text: Read
    dense: Read | None


class Night(NamedTuple):
    """What one night did, by its report and by the counts of the store after it."""

    dream: Dream
    nodes: int

    def shown(self, told: int) -> dict[str, Any]:
        report = self.dream.report
        kept = report.compression.retention
        return {
            "nodes": self.nodes,
            "node_ratio": round(told / self.nodes, 2),
            "seconds": round(report.seconds, 2),
            "copies_eliminated": report.compression.redundancy.eliminated,
            "containers_by_stage": {
                _stage(merging.stage): merging.containers for merging in report.compression.merging
            },
            "schemas": report.compression.schemas,
            "self_probe_loss_pct": round(100 * kept.information_loss, 2),
            "self_probe_loss_95_pct": [round(100 * kept.loss_low, 2), round(100 * kept.loss_high, 2)],
            "merging_refused": kept.refused,
            "notices": list(report.compression.notices),
        }


def _stage(stage: MergeStage.ValueType) -> str:
    return {MERGE_STAGE_CONSERVATIVE: "conservative", MERGE_STAGE_TOPIC: "topic"}.get(stage, str(stage))


def loss_pct(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """1 - after / before of mean shares, in percent; negative for a gain, 0 where nothing was found before either."""
    found = float(before.mean())
    return 100 * (1 - float(after.mean()) / found) if found else 0.0


def interval(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of the loss by a paired bootstrap over questions."""
    rng = np.random.default_rng(SEED)
    losses = np.zeros(RESAMPLES)
    for place in range(RESAMPLES):
        drawn = rng.integers(0, len(before), len(before))
        losses[place] = loss_pct(before[drawn], after[drawn])
    low, high = np.percentile(losses, (2.5, 97.5))
    return float(low), float(high)


def nodes_of(stats: GetStatsResponse) -> int:
    """Memories that stand for themselves, and containers."""
    return stats.memories - stats.facets + stats.containers


def products(stats: GetStatsResponse) -> float:
    """Products of vectors that a query by vector takes: one a slot, and one a facet of the containers looked into."""
    slots = stats.vectors - stats.facets + stats.containers
    if not stats.containers:
        return slots
    config = RecallConfig()
    contract.fill(config)
    opened = min(config.open_containers, stats.containers)
    return slots + opened * stats.facets / stats.containers


def found_share(question: Question, said: dict[str, tuple[str, str]], returned: set[tuple[str, str]]) -> float:
    """Of the facts that answer a question the share of which some telling is among the returned titles and texts."""
    found = sum(any(said[key] in returned for key in gold) for gold in question.gold)
    return found / len(question.gold)


class Space:
    """One set in one space of a server."""

    def __init__(self, client: Client, given: EvaluationSet, queries: NDArray[np.float32], advance: Callable[[], None]):
        self._client, self._given, self._queries, self._advance = client, given, queries, advance
        self._said = {fact.key: fact.said for fact in given.facts}

    def fill(self, file: Path) -> None:
        report = self._client.import_file(file, self._given.name)
        if report.malformed or report.memories_created != len(self._given.facts) or report.to_embed:
            raise ServerFailed(f"not all of {self._given.name} was imported with its vectors: {report}")
        # Until the embedder is open, answers come by words only.
        deadline = clock.precise_s() + OPEN_S
        while self._client.status(self._given.name).embedder_notice and clock.precise_s() < deadline:
            clock.sleep_s(0.05)
        self._advance()

    def stats(self) -> GetStatsResponse:
        return self._client.stats(self._given.name)

    def ask(self, *, dense: bool) -> Asked:
        return Asked(self.read(by_text=True), self.read(by_text=False) if dense else None)

    def read(self, *, by_text: bool, first: int | None = None) -> Read:
        """The shares of all questions, or of the first of them."""
        shares: list[float] = []
        latencies_ms: list[float] = []
        for place, question in enumerate(self._given.questions[:first]):
            began = clock.precise_s()
            answer = self._client.recall(
                question.text if by_text else "",
                vector=() if by_text else self._queries[place].tolist(),
                limit=LIMIT,
                token_budget=self._given.token_budget,
                space=self._given.name,
            )
            latencies_ms.append((clock.precise_s() - began) * 1000)
            if len(answer.hits) == LIMIT:
                raise ServerFailed(f"an answer was bounded by its limit of {LIMIT}, not by its tokens")
            returned = {(hit.memory.title, hit.memory.text) for hit in answer.hits}
            shares.append(found_share(question, self._said, returned))
            if first is None:
                self._advance()
        return Read(np.array(shares), latencies_ms)

    def first(self, count: int) -> list[list[tuple[str, str]]]:
        """For each question, asked by its text, title and text of the first hits, the best first."""
        found: list[list[tuple[str, str]]] = []
        for question in self._given.questions:
            answer = self._client.recall(question.text, limit=count, space=self._given.name)
            found.append([(hit.memory.title, hit.memory.text) for hit in answer.hits])
            self._advance()
        return found

    def sleep(self, ratio: float, phase: DreamPhase.ValueType = DREAM_PHASE_NREM) -> list[Night]:
        """Nights until so many memories are one node, at most NIGHTS."""
        nights: list[Night] = []
        while len(nights) < NIGHTS:
            nights.append(self.dream(phase, SEED + len(nights)))
            if len(self._given.facts) / nights[-1].nodes >= ratio:
                break
        self._advance()
        return nights

    def dream(self, phase: DreamPhase.ValueType, seed: int = SEED) -> Night:
        """One night to its end; raises ServerFailed where it does not end well."""
        name = self._given.name
        begun = self._client.trigger(
            space=name, phase=phase, budget_s=BUDGET_S, blocking=True, abort_on_query=False, seed=seed
        )
        dream = self._client.dream(begun.dream.id, name)
        if dream.state not in (Dream.STATE_SUCCEEDED, Dream.STATE_SKIPPED):
            raise ServerFailed(f"the dream of {name} is {Dream.State.Name(dream.state)}: {dream.message}")
        return Night(dream, nodes_of(self.stats()))


def write(given: EvaluationSet, embedder: str, vectors: NDArray[np.float32], file: Path) -> None:
    """As DREAMSVC_JSONL. vectors: [facts, D], which `embedder`, an id, has made of them."""
    with file.open("w", encoding="utf-8") as lines:
        lines.write(json.dumps({"type": "space", "embedder": embedder}) + "\n")
        for fact, vector in zip(given.facts, vectors.astype("<f2"), strict=True):
            line: dict[str, Any] = {"type": "memory", "key": fact.key, "title": fact.title, "text": fact.text}
            line["vector"] = base64.b64encode(vector.tobytes()).decode("ascii")
            if fact.event_time:
                line["event_time"] = fact.event_time
            if fact.session:
                line["metadata"] = {"session": fact.session}
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
