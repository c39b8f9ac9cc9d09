"""What a night merged and made, as parts of its journal."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

from dreamsvc.dreamer.containers import Built
from dreamsvc.dreamer.memories import NEVER, Memories
from dreamsvc.dreamer.redundancy import CopyGroup
from dreamsvc.dreamer.schemas import SCHEMA, Schema
from dreamsvc.dreamer.shortcuts import CAUSAL, Shortcut
from dreamsvc.dreamer.superseding import SUPERSEDES, Superseded
from dreamsvc.dreamer.v1.operations_pb2 import (
    Container,
    Containers,
    EdgeDetail,
    Elimination,
    Eliminations,
    NewEdges,
    NewMemories,
    NewMemory,
    Operations,
)
from dreamsvc.v1 import memory_pb2
from dreamsvc.v1.memory_pb2 import EdgeOrigin

# A user's write may have to wait while one part is folded; each of its rows takes several statements.
PART_ROWS = 250
# The edges of a copy go over to its survivor, which is most of the work.
ELIMINATION_ROWS = 4
ABSTRACTS = "ABSTRACTS"
# Edges that say what a dream made of memories should not draw a walk away from what those say themselves.
ABSTRACTS_WEIGHT, SUPERSEDES_WEIGHT = 0.1, 0.1
SCHEMA_IMPORTANCE = 0.5


class Telling:
    """Collects what was found, and gives it in parts: copies, containers, memories, edges, in this order."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        self._ids: Sequence[int] = memories.node_ids.tolist()
        self._eliminations: list[Elimination] = []
        self._containers: list[Container] = []
        self._made: list[NewMemory] = []
        self._edges = NewEdges()

    def eliminate(self, groups: Iterable[CopyGroup]) -> None:
        for group in groups:
            self._eliminations.append(
                Elimination(
                    survivor=self._ids[group.survivor],
                    copies=[self._ids[row] for row in group.copies],
                    cosines=group.cosines,
                )
            )

    def contain(self, built: Iterable[Built]) -> None:
        self._containers.extend(one.message for one in built)

    def supersede(self, found: Iterable[Superseded]) -> None:
        for one in found:
            detail = EdgeDetail(
                valid_from_us=self._told_us(one.older),
                valid_to_us=self._told_us(one.newer),
                evidence=f"{one.attribute}: {one.older_value} before, {one.newer_value} now",
            )
            self._edge(one.newer, one.older, SUPERSEDES, SUPERSEDES_WEIGHT, 1.0, detail)

    def shorten(self, found: Iterable[Shortcut]) -> None:
        for one in found:
            detail = EdgeDetail(
                is_amortized_shortcut=True,
                path=[self._ids[row] for row in one.path],
                evidence=f"{one.traversals} walks took the path of {len(one.path) - 1} edges",
            )
            self._edge(one.source, one.target, CAUSAL, one.weight, one.confidence, detail)

    def abstract(self, found: Iterable[Schema], *, first: int) -> None:
        """Makes schemas memories, numbered from `first` on, each with an edge to every source."""
        for number, one in enumerate(found, first):
            self._made.append(
                NewMemory(
                    number=number,
                    kind=SCHEMA,
                    title=one.title,
                    text=one.text,
                    importance=SCHEMA_IMPORTANCE,
                    metadata=json.dumps(one.metadata, sort_keys=True, ensure_ascii=False),
                )
            )
            for row in one.sources:
                self._edges.sources.append(-number)
                self._edges.targets.append(self._ids[row])
                self._column(ABSTRACTS, ABSTRACTS_WEIGHT, one.confidence, EdgeDetail())

    def parts(self) -> Iterator[Operations]:
        for some in _slices(self._eliminations, lambda one: ELIMINATION_ROWS * (1 + len(one.copies))):
            yield Operations(eliminations=Eliminations(eliminations=some))
        for held in _slices(self._containers, lambda one: 1 + len(one.members)):
            yield Operations(containers=Containers(containers=held))
        for made in _slices(self._made, lambda _: 1):
            yield Operations(new_memories=NewMemories(memories=made))
        edges = self._edges
        for start in range(0, len(edges.sources), PART_ROWS):
            part = slice(start, start + PART_ROWS)
            yield Operations(
                new_edges=NewEdges(
                    sources=edges.sources[part],
                    targets=edges.targets[part],
                    types=edges.types[part],
                    weights=edges.weights[part],
                    confidences=edges.confidences[part],
                    origins=edges.origins[part],
                    details=edges.details[part],
                )
            )

    def _edge(self, source: int, target: int, kind: str, weight: float, confidence: float, detail: EdgeDetail) -> None:
        self._edges.sources.append(self._ids[source])
        self._edges.targets.append(self._ids[target])
        self._column(kind, weight, confidence, detail)

    def _column(self, kind: str, weight: float, confidence: float, detail: EdgeDetail) -> None:
        origin: EdgeOrigin.ValueType = memory_pb2.EDGE_ORIGIN_SYSTEM_INFERRED
        self._edges.types.append(kind)
        self._edges.weights.append(weight)
        self._edges.confidences.append(confidence)
        self._edges.origins.append(origin)
        self._edges.details.append(detail)

    def _told_us(self, row: int) -> int:
        """When a memory says that what it tells was so."""
        event = int(self._memories.event_us[row])
        return int(self._memories.created_us[row]) if event == NEVER else event


def _slices[T](items: Sequence[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Whole items, about PART_ROWS rows together, at least one."""
    held: list[T] = []
    rows = 0
    for item in items:
        if held and rows + size(item) > PART_ROWS:
            yield held
            held, rows = [], 0
        held.append(item)
        rows += size(item)
    if held:
        yield held
