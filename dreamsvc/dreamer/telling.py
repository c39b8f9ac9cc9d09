"""What a night merged and made, as parts of its journal."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.blind_spots import Spot
from dreamsvc.dreamer.containers import Built
from dreamsvc.dreamer.linking import Link
from dreamsvc.dreamer.memories import NEVER, Memories
from dreamsvc.dreamer.novel_edges import NovelEdge
from dreamsvc.dreamer.redundancy import CopyGroup
from dreamsvc.dreamer.schemas import SCHEMA, Schema
from dreamsvc.dreamer.shortcuts import CAUSAL, Shortcut
from dreamsvc.dreamer.superseding import SUPERSEDES, Superseded
from dreamsvc.dreamer.use import USED_TOGETHER, UsedPair
from dreamsvc.dreamer.v1.operations_pb2 import (
    Container,
    Containers,
    EdgeDetail,
    Elimination,
    Eliminations,
    Expansion,
    Expansions,
    FoundBlindSpot,
    FoundBlindSpots,
    NewEdges,
    NewMemories,
    NewMemory,
    Operations,
    Positions,
    Walk,
    Walks,
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
# Below what a path of shortcuts needs: who says a name is no cause of what it names.
LINK_CONFIDENCE = 0.6
# A position takes one statement.
PLACED_ROWS = 1_000
INFERRED = memory_pb2.EDGE_ORIGIN_SYSTEM_INFERRED
DISCOVERY = memory_pb2.EDGE_ORIGIN_DREAM_DISCOVERY


class Telling:
    """Collects what was found, and gives it in parts: copies, containers, memories, edges, and what is derived last."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        self._ids: Sequence[int] = memories.node_ids.tolist()
        self._eliminations: list[Elimination] = []
        self._containers: list[Container] = []
        self._made: list[NewMemory] = []
        self._edges = NewEdges()
        self._expansions: list[Expansion] = []
        self._placed: list[int] = []
        self._points = np.zeros((0, 0), np.float32)
        self._spots: list[FoundBlindSpot] = []
        self._walks: list[Walk] = []
        self._walk_width = 0

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

    # ── of REM ──────────────────────────────────────────────────────────────────

    def use(self, found: Iterable[UsedPair]) -> None:
        for one in found:
            detail = EdgeDetail(evidence=one.evidence)
            self._edge(one.source, one.target, USED_TOGETHER, one.weight, one.confidence, detail, origin=DISCOVERY)

    def link(self, found: Iterable[Link]) -> None:
        for one in found:
            detail = EdgeDetail(evidence=one.evidence)
            self._edge(one.source, one.target, one.type, one.weight, LINK_CONFIDENCE, detail)

    def expand(self, found: Iterable[Expansion]) -> None:
        self._expansions.extend(found)

    def place(self, rows: NDArray[np.integer], points: NDArray[np.float32]) -> None:
        """points: [n, d] of all rows."""
        self._placed, self._points = rows.tolist(), points

    def walk(self, origins: NDArray[np.integer], paths: NDArray[np.float32]) -> None:
        """origins: [q], rows. paths: [q, steps + 1, d]."""
        for place in range(len(origins)):
            origin = self._ids[int(origins[place])]
            self._walks.append(Walk(origin=origin, points=paths[place].ravel().tolist()))
        self._walk_width = paths.shape[2]

    def discover(self, found: Iterable[NovelEdge]) -> None:
        for one in found:
            detail = EdgeDetail(evidence=one.evidence)
            self._edge(one.source, one.target, one.type, one.weight, one.confidence, detail, origin=DISCOVERY)

    def spot(self, verified: Sequence[Spot], hypotheses: Sequence[Spot]) -> None:
        # The best come last: the store lists what is youngest first.
        for number, spot in reversed([*enumerate([*verified, *hypotheses], 1)]):
            self._spots.append(
                FoundBlindSpot(
                    number=number,
                    source=self._ids[spot.source],
                    target=self._ids[spot.target],
                    verified=number <= len(verified),
                    semantic_distance=spot.distance,
                    causal_overlap=spot.overlap,
                    confidence=spot.confidence,
                    evidence=spot.evidence,
                    meeting=[self._ids[row] for row in spot.meeting],
                    walk=spot.walk.ravel().tolist(),
                    dimension=spot.walk.shape[-1] if spot.walk.size else 0,
                )
            )

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
        yield from self._derived()

    def _derived(self) -> Iterator[Operations]:
        """What REM knows beside memories and edges."""
        for some in _slices(self._expansions, lambda _: 1):
            yield Operations(expansions=Expansions(expansions=some))
        for start in range(0, len(self._placed), PLACED_ROWS):
            rows = self._placed[start : start + PLACED_ROWS]
            points = self._points[rows]
            yield Operations(
                positions=Positions(
                    node_ids=[self._ids[row] for row in rows],
                    dimension=points.shape[1],
                    points=points.ravel().tolist(),
                )
            )
        for held in _slices(self._spots, lambda _: 1):
            yield Operations(blind_spots=FoundBlindSpots(blind_spots=held))
        for walked in _slices(self._walks, lambda _: 1):
            yield Operations(walks=Walks(dimension=self._walk_width, walks=walked))

    def _edge(
        self,
        source: int,
        target: int,
        kind: str,
        weight: float,
        confidence: float,
        detail: EdgeDetail,
        *,
        origin: EdgeOrigin.ValueType = INFERRED,
    ) -> None:
        self._edges.sources.append(self._ids[source])
        self._edges.targets.append(self._ids[target])
        self._column(kind, weight, confidence, detail, origin=origin)

    def _column(
        self,
        kind: str,
        weight: float,
        confidence: float,
        detail: EdgeDetail,
        *,
        origin: EdgeOrigin.ValueType = INFERRED,
    ) -> None:
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
