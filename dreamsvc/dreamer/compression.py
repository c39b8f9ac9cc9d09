"""What comes after the replay: shortcuts, copies, contradictions, containers and schemas, held by the gate.

Step by step, each told when all of it has been found and measured:

1. Paths that the replay walks often get an edge of their own; facts that newer ones contradict are superseded.
2. The self-probe asks its cues of the memory as the night found it. Copies are found by text and by vector, and folded
   if the same cues still find what they did.
3. Tile after tile, the oldest memories first, containers are planned and built, and the same cues are asked again:
   what the night lost so far must stay within the bound, or the tile's worst clusters are dropped, or all of them.
4. Schemas are read off the containers, and the pair probe measures what the night does to trusted edges.

A step that is interrupted begins anew, with the same seed; those before it are in the journal. So a memory that is
often asked gets on, and a dream that was interrupted ends as one that was not.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dreamsvc.dreamer import consolidation, findings, schemas, shortcuts, use
from dreamsvc.dreamer.consolidation import Cluster, Plan
from dreamsvc.dreamer.containers import Built, build_all
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merged import Merged
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.probes import gate, pair_probe, self_probe
from dreamsvc.dreamer.probes.self_probe import Cues
from dreamsvc.dreamer.reading_index import index_before
from dreamsvc.dreamer.readings import Readings
from dreamsvc.dreamer.redundancy import Copies, CopyGroup, find_copies
from dreamsvc.dreamer.refusals import Refusals
from dreamsvc.dreamer.schemas import Schema
from dreamsvc.dreamer.shortcuts import FoundShortcuts
from dreamsvc.dreamer.superseding import find_superseded
from dreamsvc.dreamer.telling import Telling
from dreamsvc.dreamer.ties import ties_of
from dreamsvc.dreamer.tiles import Tile
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.dreamer.whereabouts import Part, Where, at
from dreamsvc.two_stage import Index
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import DreamConfig, RecallConfig
from dreamsvc.v1.dream_pb2 import Compression, Retention

_SHORTCUTS = dream_pb2.SUB_PHASE_SHORTCUTS
_REDUNDANCY = dream_pb2.SUB_PHASE_REDUNDANCY_ELIMINATION
_CONSOLIDATION = dream_pb2.SUB_PHASE_CONSOLIDATION
_SCHEMAS = dream_pb2.SUB_PHASE_SCHEMA_EXTRACTION
_PROBES = dream_pb2.SUB_PHASE_PROBES
# Shares of the whole at which the copies, the tiles and the end begin.
_COPIES_AT, _TILES_AT, _END_AT = 0.08, 0.35, 0.93
# Steps besides the tiles: shortcuts and facts, copies, and the end.
_BEFORE_TILES = 2


class Night:
    """One compression of one snapshot; steps are taken in order, each once."""

    def __init__(
        self,
        memories: Memories,
        tiles: Sequence[Tile],
        replayed: Sequence[int],
        config: DreamConfig,
        recall: RecallConfig,
        seed: int,
        merged: Merged,
        found: Compression,
    ) -> None:
        """memories: with the weights that the replay left; tiles: of those, the oldest first.

        replayed: rows, ascending. merged: by earlier steps of the same dream; found: what those had to say of it, to
        which this one adds.
        """
        self.found = found
        self._memories = memories
        self._replayed = np.asarray(replayed, np.int32)
        self._config = config
        self._recall = recall
        self._seed = seed
        self._readings = Readings(memories)
        self._merged = merged
        self._tiles: Sequence[Tile] = tiles if config.consolidation.enabled or config.consolidation.topics else ()
        self._before: Index | None = None
        self._cues: Cues | None = None
        self._ways: FoundShortcuts | None = None

    @property
    def merged(self) -> Merged:
        """What the night has merged up to here."""
        return self._merged

    @property
    def steps(self) -> int:
        """How many there are."""
        return _BEFORE_TILES + len(self._tiles) + 1

    def take(self, number: int) -> Part[list[Operations]]:
        """Takes step `number`, 0 .. steps - 1, and gives what it tells."""
        telling = Telling(self._memories)
        if number == 0:
            findings.begin(self.found, self._memories)
            yield from self._shorten(telling)
        elif number == 1:
            yield from self._fold_copies(telling)
        elif number < _BEFORE_TILES + len(self._tiles):
            yield from self._merge_tile(number - _BEFORE_TILES, telling)
        else:
            yield from self._end(telling)
        # Not in one piece: a tile of 20,000 memories would take 30 ms.
        begun = _COPIES_AT if number == 0 else min(_END_AT, self._begun(number - 1))
        parts: list[Operations] = []
        for part in telling.parts():
            parts.append(part)
            yield Where(_PROBES, begun, Step("telling", len(parts), len(parts)))
        return parts

    def leave_out(self, number: int) -> None:
        """Passes over a step; what the report begins with is there all the same."""
        if number == 0:
            findings.begin(self.found, self._memories)

    # ── the steps ───────────────────────────────────────────────────────────────

    def _shorten(self, telling: Telling) -> Part[None]:
        ways = yield from self._shortcuts()
        telling.shorten(ways.edges)
        telling.use(use.used_pairs(self._memories))
        facts = yield from at(_REDUNDANCY, 0.02, find_superseded(self._memories, self._readings, self._merged.gone))
        telling.supersede(facts.pairs)
        findings.shortened(self.found, ways)
        findings.superseded(self.found, facts)

    def _fold_copies(self, telling: Telling) -> Part[None]:
        config, memories = self._config, self._memories
        cues = yield from self._asked()
        copies = Copies(groups=[], pairs=0, pairs_by_text=0, refusals=Refusals(), overflow=0)
        if config.redundancy.enabled:
            search = find_copies(memories, self._readings, config.redundancy, seed=self._seed)
            copies = yield from at(_REDUNDANCY, _COPIES_AT, search)
        after = self._merged.with_groups(copies.groups)
        index = yield from at(_PROBES, _TILES_AT, after.index_after())
        reading = yield from at(
            _PROBES, _TILES_AT, self_probe.measure(memories, cues, index, after.stands_for(), self._recall)
        )
        bound = config.quality.max_information_loss
        loss = yield from at(_PROBES, _TILES_AT, self_probe.retention(cues, reading, max_information_loss=bound))
        # Copies to the letter lose nothing that a probe could find; without cues there is no other kind.
        if not loss.measured or loss.loss_high <= bound:
            self._merged = after
            telling.eliminate(copies.groups)
            findings.folded(self.found, memories, copies)
        else:
            loss.refused = True
            findings.folded(self.found, memories, copies._replace(groups=[]))
        self.found.retention.CopyFrom(loss)

    def _merge_tile(self, number: int, telling: Telling) -> Part[None]:
        tile, begun = self._tiles[number], self._begun(number)
        cues = yield from self._asked()
        refusals = Refusals()
        planned = yield from at(_CONSOLIDATION, begun, self._planned(tile, refusals))
        passed, retention = yield from at(_PROBES, begun, self._gated(planned, cues))
        built = [planned.built[id(cluster)] for cluster in passed.clusters if id(cluster) in planned.built]
        groups = list(_folds(passed.clusters))
        self._merged = self._merged.with_groups(groups).with_clusters(passed.clusters, built)
        telling.eliminate(groups)
        telling.contain(built)
        findings.merged(self.found, self._memories, passed, built, retention, refusals)

    def _end(self, telling: Telling) -> Part[None]:
        memories = self._memories
        held = [block.rows.astype(np.int64) for block in self._merged.blocks.values()]
        made: list[Schema] = []
        if self._config.schema.enabled:
            made = yield from at(_SCHEMAS, _END_AT, schemas.extract(memories, held, self._config.schema))
        telling.abstract(made, first=self._merged.next_number)
        findings.abstracted(self.found, made)
        ways = yield from self._shortcuts()
        before = yield from self._index_before()
        after = yield from at(_PROBES, _END_AT, self._merged.index_after())
        ties = yield from at(_PROBES, _END_AT, ties_of(memories, self._merged.groups, ways.edges))
        lift = pair_probe.measure_lift(
            *(memories, ties, memories.trusted, before, after, self._merged.stands_for(), self._recall),
            seed=self._seed,
        )
        self.found.lift.CopyFrom((yield from at(_PROBES, _END_AT, lift)))

    # ── what several of them need ───────────────────────────────────────────────

    def _begun(self, tile: int) -> float:
        return _TILES_AT + (_END_AT - _TILES_AT) * tile / max(1, len(self._tiles))

    def _shortcuts(self) -> Part[FoundShortcuts]:
        """Found once, or once more where the dream was interrupted meanwhile."""
        if self._ways is None:
            self._ways = FoundShortcuts(edges=[], walks=0, paths=0, rejected={})
            if self._config.shortcuts.enabled:
                search = shortcuts.find_shortcuts(
                    self._memories, self._replayed, self._config.shortcuts, seed=self._seed
                )
                self._ways = yield from at(_SHORTCUTS, 0.0, search)
        return self._ways

    def _index_before(self) -> Part[Index]:
        if self._before is None:
            self._before = yield from at(_PROBES, _COPIES_AT, index_before(self._memories))
        return self._before

    def _asked(self) -> Part[Cues]:
        """The cues, asked of the memory as the night found it."""
        if self._cues is None:
            before = yield from self._index_before()
            search = self_probe.calibrate(self._memories, before, self._config.quality, self._recall, seed=self._seed)
            self._cues = yield from at(_PROBES, _COPIES_AT, search)
        return self._cues

    def _planned(self, tile: Tile, refusals: Refusals) -> Search["_Planned"]:
        """The containers that there could be in a tile."""
        config = self._config
        plan = yield from consolidation.plan(
            *(tile.of(self._memories, self._merged), self._readings, self._merged.gone),
            *(config.consolidation, config.quality, config.redundancy.min_active, refusals),
            seed=self._seed,
        )
        built = yield from build_all(
            self._memories, plan.clusters, config.consolidation, first=self._merged.next_number
        )
        return _Planned(plan, {id(one.cluster): one for one in built})

    def _gated(self, planned: "_Planned", cues: Cues) -> Search[tuple[Plan, Retention]]:
        """Lets pass what does not lose too much, together with what the night merged before."""
        clusters = planned.plan.clusters

        def without(dropped: frozenset[int]) -> Search[Index]:
            kept = [cluster for place, cluster in enumerate(clusters) if place not in dropped]
            built = [planned.built[id(cluster)] for cluster in kept if id(cluster) in planned.built]
            return self._merged.with_groups(list(_folds(kept))).with_clusters(kept, built).index_after()

        verdict = yield from gate.decide(
            *(self._memories, [cluster.rows for cluster in clusters], without, cues),
            *(self._merged.with_groups(list(_folds(clusters))).stands_for(), self._recall),
            max_information_loss=self._config.quality.max_information_loss,
        )
        kept = set(verdict.kept)
        passed = planned.plan.without({place for place in range(len(clusters)) if place not in kept})
        retention = verdict.retention
        if retention.refused:
            # What would have been lost is not what was.
            self.found.notices.append(
                f"{len(clusters)} clusters were not merged: the loss would be {retention.information_loss:.1%}, and may"
                f" be {retention.loss_high:.1%}"
            )
            index = yield from self._merged.index_after()
            stands = self._merged.stands_for()
            reading = yield from self_probe.measure(self._memories, cues, index, stands, self._recall)
            bound = self._config.quality.max_information_loss
            now = yield from self_probe.retention(cues, reading, max_information_loss=bound)
            now.refused, now.retries, now.clusters_dropped = True, retention.retries, retention.clusters_dropped
            retention = now
        return passed, retention


class _Planned(NamedTuple):
    plan: Plan
    built: dict[int, Built]  # by the identity of its cluster


def _folds(clusters: Sequence[Cluster]) -> Iterator[CopyGroup]:
    for cluster in clusters:
        for fold in cluster.folds:
            yield CopyGroup(fold.survivor, list(fold.copies), list(fold.cosines))
