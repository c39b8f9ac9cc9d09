"""What one night does to copies, near misses and updates that are planted in a made-up memory.

Copies must become one memory, near misses must not, and of an attribute that changed the newer value must be recalled
before the older one. All of it is read from the service as any client would: which memory stands for which, what lies
in one container, and what a recall answers.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from dreamsvc_client import Client
from rich.console import Console

from benchmarks import harness, near_misses
from benchmarks.near_misses import EDGE_WEIGHT, Memory, Pair, Size, Update
from benchmarks.serving import BY_REQUEST_ONLY, ServerFailed, serving
from dreamsvc import clock
from dreamsvc.cli import output
from dreamsvc.v1 import memory_pb2
from dreamsvc.v1.dream_pb2 import DREAM_PHASE_NREM, MERGE_STAGE_CONSERVATIVE, Dream, MergeStage
from dreamsvc.v1.dream_service_pb2 import DreamEdit

SPACE = "planted"
SEED = 11
BUDGET_S = 1800.0
CALL_S = 600.0
EMBED_S = 300.0
PAGE = 1000
# Everything but this is as users get it.
CONFIG = f"{BY_REQUEST_ONLY}[dream.resources]\nmax_gpu_usage = 1\n"


class Standing(NamedTuple):
    """Where memories stand after the night, by key."""

    stands_for: dict[str, str]  # of each copy the memory that stands for it
    containers: dict[str, str]  # of each facet the id of its container

    def one(self, key: str) -> str:
        """The memory that is read instead of this one, itself where it is no copy."""
        while key in self.stands_for:
            key = self.stands_for[key]
        return key

    def are_one(self, pair: Pair) -> bool:
        return self.one(pair.left.key) == self.one(pair.right.key)

    def share_container(self, pair: Pair) -> bool:
        left, right = (self.containers.get(self.one(planted.key)) for planted in (pair.left, pair.right))
        return left is not None and left == right


class Found(NamedTuple):
    """What came of what was planted."""

    missed: list[Pair]  # copies that are two memories still
    merged: list[Pair]  # near misses of which one stands for the other
    tight: list[Pair]  # near misses in one conservative container
    in_one_topic: list[Pair]
    others: list[tuple[str, str]]  # texts of memories that were taken for copies and are none


class Service:
    """The planted memory in a running server."""

    def __init__(self, client: Client, memory: Memory, advance: Callable[[], None]) -> None:
        self._client, self._memory, self._advance = client, memory, advance

    def fill(self) -> None:
        with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as directory:
            file = Path(directory) / "memory.jsonl"
            write(self._memory, file)
            report = self._client.import_file(file, SPACE)
        if report.malformed or report.memories_created != len(self._memory.facts):
            raise ServerFailed(f"not all of it was imported: {report}")
        began = clock.precise_s()
        while left := self._client.stats(SPACE).to_embed:
            if clock.precise_s() - began > EMBED_S:
                raise ServerFailed(f"{left} memories had no vector after {EMBED_S:g} s")
            clock.sleep_s(0.1)
        self._advance()

    def not_first(self) -> list[tuple[Update, str]]:
        """Updates of which a recall does not return the newer value first, and why."""
        wrong: list[tuple[Update, str]] = []
        for update in self._memory.updates:
            hits = self._client.recall(update.question, space=SPACE).hits
            places = {hit.memory.key: place for place, hit in enumerate(hits)}
            newer, older = places.get(update.newer.key), places.get(update.older.key)
            if newer is None:
                wrong.append((update, "the newer one is not found"))
            elif older is not None and older < newer:
                wrong.append((update, f"older {older + 1}, newer {newer + 1}"))
            self._advance()
        return wrong

    def sleep(self) -> Dream:
        begun = self._client.trigger(
            space=SPACE, phase=DREAM_PHASE_NREM, budget_s=BUDGET_S, blocking=True, abort_on_query=False, seed=SEED
        )
        dream = self._client.dream(begun.dream.id, SPACE)
        if dream.state != Dream.STATE_SUCCEEDED:
            raise ServerFailed(f"the dream is {Dream.State.Name(dream.state)}: {dream.message}")
        self._advance()
        return dream

    def standing(self) -> Standing:
        memories = list(self._memories())
        key_of = {memory.id: memory.key for memory in memories}
        return Standing(
            {
                memory.key: key_of[memory.merged_into]
                for memory in memories
                if memory.role == memory_pb2.MEMORY_ROLE_FOLDED
            },
            {memory.key: memory.merged_into for memory in memories if memory.role == memory_pb2.MEMORY_ROLE_FACET},
        )

    def containers(self, dream: Dream) -> list[tuple[MergeStage.ValueType, frozenset[str]]]:
        """Stage and keys of the members of each container that a dream made, its copies among them."""
        return [
            (edit.stage, frozenset(memory.key for memory in edit.memories))
            for edit in self._client.diff(dream.id, SPACE, page_size=PAGE)
            if edit.kind == DreamEdit.KIND_MERGED
        ]

    def _memories(self) -> Iterator[memory_pb2.Memory]:
        token = ""
        while True:
            page = self._client.list(SPACE, page_size=PAGE, page_token=token, show_deleted=True)
            yield from page.memories
            if not (token := page.next_page_token):
                return


def write(memory: Memory, file: Path) -> None:
    """As DREAMSVC_JSONL, without vectors."""
    with file.open("w", encoding="utf-8") as lines:
        for fact in memory.facts:
            line: dict[str, Any] = {"type": "memory", "key": fact.key, "kind": "fact", "text": fact.text}
            if fact.event_us is not None:
                line["event_time"] = clock.iso(fact.event_us)
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
        for source, target in near_misses.edges(memory):
            edge = {"type": "edge", "source": source, "target": target, "edge_type": "about", "weight": EDGE_WEIGHT}
            lines.write(json.dumps(edge) + "\n")


def judge(
    memory: Memory, standing: Standing, containers: Sequence[tuple[MergeStage.ValueType, frozenset[str]]]
) -> Found:
    """Compares what was planted with what became of it."""
    text = {fact.key: fact.text for fact in memory.facts}
    planted = {frozenset((pair.left.key, pair.right.key)) for pair in (*memory.copies, *memory.near_misses)}
    one = {fact.key: standing.one(fact.key) for fact in memory.facts}
    groups: dict[str, list[str]] = {}
    for key, survivor in one.items():
        groups.setdefault(survivor, []).append(key)
    tight = {
        pair
        for stage, members in containers
        if stage == MERGE_STAGE_CONSERVATIVE
        for pair in memory.near_misses
        if {pair.left.key, pair.right.key} <= members
    }
    return Found(
        missed=[pair for pair in memory.copies if not standing.are_one(pair)],
        merged=[pair for pair in memory.near_misses if standing.are_one(pair)],
        tight=[pair for pair in memory.near_misses if pair in tight],
        in_one_topic=[pair for pair in memory.near_misses if pair not in tight and standing.share_container(pair)],
        others=[
            (text[left], text[right])
            for keys in groups.values()
            for left, right in combinations(keys, 2)
            if frozenset((left, right)) not in planted
        ],
    )


def _texts(pairs: Sequence[Pair]) -> list[list[str]]:
    return [[pair.kind, pair.left.text, pair.right.text] for pair in pairs]


def _by_kind(planted: Sequence[Pair], found: Sequence[Pair]) -> dict[str, list[int]]:
    """Kind: how many of so many."""
    count = Counter(pair.kind for pair in found)
    return {kind: [count[kind], sum(pair.kind == kind for pair in planted)] for kind in near_misses.kinds(planted)}


def _print(console: Console, detail: dict[str, Any]) -> None:
    shown = output.table("planted", "kind", ">count", ">copies found", ">merged", ">in a tight one", ">in one topic")
    for kind, (missed, count) in detail["copies_missed"].items():
        shown.add_row("copies", kind, str(count), str(count - missed))
    for kind, (merged, count) in detail["near_misses_merged"].items():
        tight, topic = detail["near_misses_in_a_tight_container"][kind][0], detail["near_misses_in_one_topic"][kind][0]
        shown.add_row("near misses", kind, str(count), "", str(merged), str(tight), str(topic))
    console.print(shown)
    updates = output.table("updates", ">count", ">newer first before the night", ">after")
    for kind, (before, after, count) in detail["updates"].items():
        updates.add_row(kind, str(count), str(before), str(after))
    console.print(updates)


def run(quick: bool, console: Console) -> harness.Measured:
    size = Size(120, 3, 2, 2, 1) if quick else Size(3000, 30, 15, 36, 10)
    memory = near_misses.made(size)
    with (
        serving(embedder="auto", config=CONFIG) as server,
        Client(server.target, timeout_s=CALL_S) as client,
        harness.bar(console) as progress,
    ):
        task = progress.add_task(f"{len(memory.facts):,} memories", total=2 + 2 * len(memory.updates))
        service = Service(client, memory, lambda: progress.advance(task))
        service.fill()
        before = service.not_first()
        dream = service.sleep()
        after = service.not_first()
        found = judge(memory, service.standing(), service.containers(dream))
        stats = client.stats(SPACE)
    figures = {
        "duplicate_recall_pct": 100 * (1 - len(found.missed) / len(memory.copies)),
        "false_merges_traps": len({*found.merged, *found.tight}),
        "false_merges_other": len(found.others),
        "current_fact_first_pct": 100 * (1 - len(after) / len(memory.updates)),
    }
    kinds = list(dict.fromkeys(update.kind for update in memory.updates))
    wrong = [Counter(update.kind for update, _ in one) for one in (before, after)]
    detail = {
        "memories": len(memory.facts),
        "plain": size.plain,
        "embedder": stats.embedder,
        "copies": len(memory.copies),
        "near_misses": len(memory.near_misses),
        "updates_planted": len(memory.updates),
        "copies_missed": _by_kind(memory.copies, found.missed),
        "near_misses_merged": _by_kind(memory.near_misses, found.merged),
        "near_misses_in_a_tight_container": _by_kind(memory.near_misses, found.tight),
        "near_misses_in_one_topic": _by_kind(memory.near_misses, found.in_one_topic),
        "traps_in_one_topic_pct": round(100 * len(found.in_one_topic) / len(memory.near_misses), 2),
        "updates": {kind: [*(size.updates - one[kind] for one in wrong), size.updates] for kind in kinds},
        "current_fact_first_before_pct": round(100 * (1 - len(before) / len(memory.updates)), 2),
        "superseded": dream.report.compression.superseded,
        "night": {
            "nodes": [dream.report.compression.nodes_before, dream.report.compression.nodes_after],
            "containers": stats.containers,
            "copies_eliminated": dream.report.compression.redundancy.eliminated,
            "refusals": {refusal.kind: refusal.count for refusal in dream.report.compression.refusals},
            "seconds": round(dream.report.seconds, 2),
        },
        "examples": {
            "copies_missed": _texts(found.missed),
            "near_misses_merged": _texts(found.merged),
            "near_misses_in_a_tight_container": _texts(found.tight),
            "other_false_merges": [list(pair) for pair in found.others],
            "older_first": [[update.kind, update.older.text, update.newer.text, why] for update, why in after],
        },
    }
    _print(console, detail)
    return harness.Measured(figures, detail)


BENCHMARK = harness.Benchmark(
    figures=["duplicate_recall_pct", "false_merges_traps", "false_merges_other", "current_fact_first_pct"],
    targets={
        "duplicate_recall_pct": (harness.Target(least=95),),
        "false_merges_traps": (harness.Target(0),),
        "current_fact_first_pct": (harness.Target(least=95),),
    },
    run=run,
)
