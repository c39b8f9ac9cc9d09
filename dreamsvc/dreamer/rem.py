"""REM: what belongs together is linked, the index learns of it, and walks look for what nobody has seen yet.

Step by step, each told when all of it has been found and measured:

1. Linking: texts and times say which memories belong together; what they are linked to is added to what they are found
   by. Pseudo-queries are asked before and after; where they find less, nothing of it is told.
2. Positions: every memory gets a point in the Poincare ball, by its edges and the new links.
3. Exploring: walks make synthetic queries, what they lead to is looked at, and finds that texts or times speak for
   become edges, unless the pair probe falls by them.

A step that is interrupted begins anew, with the same seed; those before it are in the journal.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer import blind_spots, expanding, exploring, linking, modulation, novel_edges, positions
from dreamsvc.dreamer.linking import Link
from dreamsvc.dreamer.memories import NOT_WALKED, NOWHERE, Memories
from dreamsvc.dreamer.merged import Merged
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.probes import pseudo_queries
from dreamsvc.dreamer.schemas import SCHEMA
from dreamsvc.dreamer.telling import Telling
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.dreamer.vocabulary import read_words
from dreamsvc.dreamer.whereabouts import Part, Where, at
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import DreamConfig, LinkingConfig, RecallConfig
from dreamsvc.v1.dream_pb2 import Exploration

_LINKING = dream_pb2.SUB_PHASE_LINKING
_CONSOLIDATION = dream_pb2.SUB_PHASE_INDEX_CONSOLIDATION
_POSITIONS = dream_pb2.SUB_PHASE_POSITIONS
_QUERIES = dream_pb2.SUB_PHASE_SYNTHETIC_QUERIES
_SPOTS = dream_pb2.SUB_PHASE_BLIND_SPOTS
_PROBES = dream_pb2.SUB_PHASE_PROBES
# Shares of the whole at which they begin.
_CONSOLIDATION_AT, _PROBE_AT, _POSITIONS_AT, _QUERIES_AT, _SPOTS_AT, _GATE_AT = 0.25, 0.4, 0.55, 0.75, 0.8, 0.95
STEPS = 3
# Edges looked at in one step.
READ_EDGES = 65_536


class _Pairs(NamedTuple):
    """Links of this night, [k] each."""

    src: NDArray[np.int32]
    dst: NDArray[np.int32]
    weight: NDArray[np.float32]


class Told(NamedTuple):
    """By earlier steps of a dream."""

    links: _Pairs
    # As they are, with those that the dream told; [n, d].
    points: NDArray[np.float32]


class Rem:
    """One REM phase over one snapshot; steps are taken in order, each once."""

    def __init__(
        self,
        memories: Memories,
        merged: Merged,
        config: DreamConfig,
        recall: RecallConfig,
        seed: int,
        told: Told,
        found: Exploration,
    ) -> None:
        """memories: with the weights that NREM left. merged: what it merged.

        told: by earlier steps of the same dream; found: what they had to say of it, which is added to.
        """
        self.found = found
        # What another stands for is not there any more, and what a dream says of many has nothing of its own to say.
        schemas = [place for place, name in enumerate(memories.kind_names) if name == SCHEMA]
        alive = memories.alive & ~merged.gone & ~np.isin(memories.kinds, schemas)
        self._memories = memories._replace(alive=alive)
        self._merged = merged
        self._config = config
        self._recall = recall
        self._seed = seed
        self._links, self._points = told

    @property
    def steps(self) -> int:
        """How many there are."""
        return STEPS

    def take(self, number: int) -> Part[list[Operations]]:
        """Takes step `number`, 0 .. steps - 1, and gives what it tells."""
        telling = Telling(self._memories)
        match number:
            case 0:
                if self._config.linking.enabled:
                    yield from self._link(telling)
            case 1:
                if self._config.rem.explore:
                    yield from self._place(telling)
            case _:
                if self._config.rem.explore and np.isfinite(self._points).any():
                    yield from self._explore(telling)
        parts: list[Operations] = []
        for part in telling.parts():
            parts.append(part)
            yield Where(_PROBES, (number + 1) / STEPS, Step("telling", len(parts), len(parts)))
        return parts

    def leave_out(self, number: int) -> None:
        """Passes over a step; nothing needs to be made up for."""

    # ── the steps ───────────────────────────────────────────────────────────────

    def _link(self, telling: Telling) -> Part[None]:
        memories, said = self._memories, self.found.linking
        config = yield from at(_LINKING, 0.0, self._left_to_link())
        rows = np.flatnonzero(memories.findable)
        words = yield from at(_LINKING, 0.0, read_words(memories, rows))
        links = yield from at(_LINKING, 0.0, linking.find_links(memories, words, config))
        said.memories_read, said.links = links.read, len(links.links)
        said.mentions, said.shared_entities, said.adjacent = links.mentions, links.shared, links.adjacent
        pairs = _pairs_of(links.links)
        touched = yield from at(_CONSOLIDATION, _CONSOLIDATION_AT, self._touched(pairs))
        search = expanding.expand(memories, words, pairs.src, pairs.dst, pairs.weight, touched, config)
        made = yield from at(_CONSOLIDATION, _CONSOLIDATION_AT, search)
        said.expanded = len(made)
        if not links.links and not made:
            return
        index = yield from at(_PROBES, _PROBE_AT, self._merged.index_after())
        probe = pseudo_queries.probe(
            *(memories, index, pairs.src, pairs.dst, pairs.weight, made, self._recall),
            queries=config.probe_queries,
            seed=self._seed,
        )
        said.probe.CopyFrom((yield from at(_PROBES, _PROBE_AT, probe)))
        if said.probe.measured and not pseudo_queries.passes(said.probe):
            said.refused = True
            said.links = said.expanded = 0
            self.found.notices.append("links were not made: pseudo-queries do not find enough more with them")
            return
        telling.link(links.links)
        telling.expand(made)
        self._links = pairs

    def _left_to_link(self) -> Search[LinkingConfig]:
        """The configuration, less the links that memories got from a night that read them and did not place them.

        Until they have a position they count as changed, and every such night would link all of them once more.
        """
        memories, config = self._memories, self._config.linking
        changed = memories.changed & memories.findable
        by_names = (linking.MENTIONS, linking.SHARES_ENTITY)
        kinds = memories.types_named(by_names)
        made = 0
        for start in range(0, len(memories.edge_ids), READ_EDGES):
            part = slice(start, start + READ_EDGES)
            again = changed[memories.src[part]] & changed[memories.dst[part]] & np.isin(memories.types[part], kinds)
            made += int(np.count_nonzero(again & memories.edges_alive[part] & ~memories.trusted[part]))
            yield Step("edges", start, len(memories.edge_ids))
        left = LinkingConfig()
        left.CopyFrom(config)
        left.links_per_memory = max(0.0, config.links_per_memory - made / max(1, np.count_nonzero(changed)))
        return left

    def _touched(self, pairs: _Pairs) -> Search[NDArray[np.int64]]:
        """Rows at new links, and at living edges of which the index knows nothing yet: e.g. users joined them.

        And those that this night's replay took an edge from: the index knows of its other end what does not count.
        """
        memories = self._memories
        ignored = memories.types_named(NOT_WALKED)
        bare, less = np.zeros(len(memories.node_ids), np.bool_), np.zeros(len(memories.node_ids), np.bool_)
        for start in range(0, len(memories.edge_ids), READ_EDGES):
            part = slice(start, start + READ_EDGES)
            living = memories.edges_alive[part] & ~np.isin(memories.types[part], ignored)
            bare[memories.src[part][living]] = bare[memories.dst[part][living]] = True
            lost = memories.edges_alive_before[part] & ~memories.edges_alive[part]
            less[memories.src[part][lost]] = less[memories.dst[part][lost]] = True
            yield Step("edges", start, len(memories.edge_ids))
        bare &= memories.findable & (~memories.expanded | less)
        bare[pairs.src] = bare[pairs.dst] = True
        return np.flatnonzero(bare)

    def _place(self, telling: Telling) -> Part[None]:
        memories = self._memories
        living = np.flatnonzero(memories.edges_alive)
        src = np.concatenate([memories.src[living], self._links.src])
        dst = np.concatenate([memories.dst[living], self._links.dst])
        strength = np.concatenate([memories.weights[living], self._links.weight])
        search = positions.place(memories, src, dst, strength, self._config.rem, seed=self._seed)
        placed = yield from at(_POSITIONS, _POSITIONS_AT, search)
        self.found.fit.CopyFrom(placed.fit)
        if placed.notice:
            self.found.notices.append(placed.notice)
            return
        self._points = placed.points
        telling.place(placed.fitted, placed.points)

    def _explore(self, telling: Telling) -> Part[None]:
        memories, config, found = self._memories, self._config, self.found
        temperature = modulation.walk_temperature(config.rem.exploration_temperature, config.neuromodulation)
        walks = exploring.explore(memories, self._points, config.rem, temperature=temperature, seed=self._seed)
        explored = yield from at(_QUERIES, _QUERIES_AT, walks)
        found.queries = len(explored.origins)
        placed = np.count_nonzero(memories.findable & np.isfinite(self._points).all(axis=1))
        found.coverage = len(np.unique(explored.nearest[explored.nearest != NOWHERE])) / max(1, placed)
        telling.walk(explored.origins, explored.paths)
        search = blind_spots.find_blind_spots(
            memories, explored, self._points, self._links.src, self._links.dst, config.rem, seed=self._seed
        )
        spots = yield from at(_SPOTS, _SPOTS_AT, search)
        found.candidates = spots.candidates
        found.dismissed.update(spots.dismissed)
        found.null_model.CopyFrom(spots.null)
        most = modulation.most_new_edges(novel_edges.most_new(memories, config.rem), config.neuromodulation)
        edges = novel_edges.novel_edges(memories, spots, config.rem, most=most)
        if edges:
            index = yield from at(_PROBES, _GATE_AT, self._merged.index_after())
            gate = novel_edges.gate(
                *(memories, edges, self._links.src, self._links.dst, self._links.weight, index),
                *(self._merged.stands_for(), self._recall),
                seed=self._seed,
            )
            lift, refused = yield from at(_PROBES, _GATE_AT, gate)
            found.lift.CopyFrom(lift)
            found.edges_refused = refused
            if refused:
                found.notices.append("novel edges were not made: the pair probe finds less with them")
                edges = []
        joined = {(edge.source, edge.target) for edge in edges}
        verified = [spot for spot in spots.verified if (spot.source, spot.target) in joined]
        # Without an edge of its own a find is no more than a hypothesis; what there was no room for may come again.
        rest = [spot for spot in spots.verified if (spot.source, spot.target) not in joined]
        hypotheses = [*rest[:most], *spots.hypotheses] if found.edges_refused else spots.hypotheses
        found.dismissed["over_limit"] += len(spots.verified) + len(spots.hypotheses) - len(verified) - len(hypotheses)
        telling.discover(edges)
        telling.spot(verified, hypotheses)
        found.verified, found.hypotheses, found.novel_edges = len(verified), len(hypotheses), len(edges)
        leaps = [spot.distance for spot in (*verified, *hypotheses)]
        found.average_semantic_leap = float(np.mean(leaps)) if leaps else 0.0


def _pairs_of(links: Sequence[Link]) -> _Pairs:
    return _Pairs(
        np.array([link.source for link in links], np.int32),
        np.array([link.target for link in links], np.int32),
        np.array([link.weight for link in links], np.float32),
    )


def told_before(memories: Memories, staged: Sequence[Operations]) -> Search[Told]:
    """What the dream told of before it was interrupted."""
    links: list[tuple[int, int, float]] = []
    points = memories.points
    for number, part in enumerate(staged):
        edges, positions = part.new_edges, part.positions
        for source, target, kind, weight in zip(edges.sources, edges.targets, edges.types, edges.weights, strict=True):
            if kind in linking.TYPES:
                links.append((source, target, weight))
        if positions.node_ids:
            if points is memories.points:
                points = _room_for(memories, positions.dimension)
            rows = np.searchsorted(memories.node_ids, np.asarray(positions.node_ids, np.int64))
            points[rows] = np.asarray(positions.points, np.float32).reshape(-1, positions.dimension)
        yield Step("told before", number, len(staged))
    ends = np.array([link[:2] for link in links], np.int64).reshape(-1, 2)
    rows = np.searchsorted(memories.node_ids, ends).astype(np.int32)
    return Told(_Pairs(rows[:, 0], rows[:, 1], np.array([link[2] for link in links], np.float32)), points)


def _room_for(memories: Memories, width: int) -> NDArray[np.float32]:
    """A copy of the positions as they are, all NaN where they had another width; [n, width]."""
    if memories.points.shape[1] == width:
        return memories.points.copy()
    return np.full((len(memories.node_ids), width), np.nan, np.float32)
