"""What comes after the replay: shortcuts, copies, contradictions, containers and schemas, held by the gate.

1. Paths that the replay walks often get an edge of their own.
2. Copies are found by text and by vector, and facts that newer ones contradict.
3. The self-probe asks its cues of the memory as it is; clusters are planned and built, and the same cues are asked
   again. What loses too much is dropped, or all of it.
4. Schemas are read off the containers.
5. The pair probe measures what the night does to trusted edges.

Only then is anything told: all of it or nothing becomes part of the journal, so one that was interrupted begins anew
with the same seed and comes to the same end.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer import consolidation, schemas, shortcuts
from dreamsvc.dreamer.consolidation import Cluster, Plan
from dreamsvc.dreamer.containers import Built, build_all
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.probes import gate, pair_probe, self_probe
from dreamsvc.dreamer.probes.self_probe import Cues
from dreamsvc.dreamer.reading_index import index_before, index_of
from dreamsvc.dreamer.readings import Readings
from dreamsvc.dreamer.redundancy import Copies, CopyGroup, find_copies
from dreamsvc.dreamer.refusals import Refusals
from dreamsvc.dreamer.schemas import Schema
from dreamsvc.dreamer.shortcuts import FoundShortcuts
from dreamsvc.dreamer.superseding import SUPERSEDES, Superseding, find_superseded
from dreamsvc.dreamer.telling import Telling
from dreamsvc.dreamer.ties import ties_of
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.two_stage import Block, Index
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import DreamConfig, RecallConfig
from dreamsvc.v1.dream_pb2 import Compression, Redundancy, Retention, Shortcuts, SubPhase
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_UNSPECIFIED

PINNED_SHOWN = 100
_SHORTCUTS = dream_pb2.SUB_PHASE_SHORTCUTS
_REDUNDANCY = dream_pb2.SUB_PHASE_REDUNDANCY_ELIMINATION
_CONSOLIDATION = dream_pb2.SUB_PHASE_CONSOLIDATION
_SCHEMAS = dream_pb2.SUB_PHASE_SCHEMA_EXTRACTION
_PROBES = dream_pb2.SUB_PHASE_PROBES
NOTHING_FOUND = FoundShortcuts(edges=[], walks=0, paths=0, rejected={})


class Where(NamedTuple):
    """How far the compression is."""

    sub_phase: SubPhase.ValueType
    begun: float  # share of the whole that was done before this part, 0..1
    step: Step


type _Part[T] = Generator[Where, None, T]


class Compressed(NamedTuple):
    """What a night would do after its replay."""

    parts: list[Operations]
    found: Compression


class _Merge(NamedTuple):
    """What passed the gate."""

    groups: list[CopyGroup]  # copies, also those within containers
    plan: Plan
    built: list[Built]
    index_after: Index
    stands_for: NDArray[np.int32]  # [n]
    retention: Retention


def compress(
    memories: Memories, replayed: Sequence[int], config: DreamConfig, recall: RecallConfig, *, seed: int, most: int
) -> _Part[Compressed]:
    """memories: with the weights that the replay left. replayed: rows, ascending. most: memories that are merged, the
    oldest of those that stand for themselves; a large memory becomes smaller night by night (REQ-DREAM-027).
    """
    found = Compression(nodes_before=int(np.count_nonzero(memories.active)))
    found.kept_apart = int(np.count_nonzero(memories.apart & memories.alive))
    later = _later(memories, most)
    if later.any():
        count = int(np.count_nonzero(later))
        found.notices.append(f"{count} younger memories were not looked at for merging; later nights do")
        memories = memories._replace(apart=memories.apart | later)
    readings = Readings(memories)
    ways = NOTHING_FOUND
    if config.shortcuts.enabled:
        rows = np.asarray(replayed, np.int32)
        ways = yield from _at(_SHORTCUTS, 0.0, shortcuts.find_shortcuts(memories, rows, config.shortcuts, seed=seed))
        found.shortcuts.CopyFrom(_shortcuts(ways))
    before = yield from _at(_PROBES, 0.08, index_before(memories))
    copies = yield from _at(_REDUNDANCY, 0.10, _copies(memories, readings, config, seed))
    gone = _gone(memories, copies.groups)
    facts = yield from _at(_REDUNDANCY, 0.25, find_superseded(memories, readings, gone))
    cues = yield from _at(_PROBES, 0.35, self_probe.calibrate(memories, before, config.quality, recall, seed=seed))
    planned = yield from _at(_CONSOLIDATION, 0.5, _planned(memories, readings, copies, config, seed))
    merge = yield from _at(_PROBES, 0.85, _gated(memories, copies, planned, cues, config, recall))
    found.retention.CopyFrom(merge.retention)
    kept = [cluster.rows for cluster in merge.plan.clusters if cluster.is_container]
    made = yield from _at(_SCHEMAS, 0.93, _schemas(memories, kept, config))
    telling = Telling(memories)
    telling.eliminate(merge.groups)
    telling.contain(merge.built)
    telling.supersede(facts.pairs)
    telling.shorten(ways.edges)
    telling.abstract(made, first=1 + max((one.message.number for one in merge.built), default=0))
    ties = yield from _at(_PROBES, 0.95, ties_of(memories, merge.groups, ways.edges))
    lift = pair_probe.measure_lift(
        *(memories, ties, memories.trusted, before, merge.index_after, merge.stands_for, recall), seed=seed
    )
    found.lift.CopyFrom((yield from _at(_PROBES, 0.96, lift)))
    _describe(found, memories, copies, merge, facts, made)
    return Compressed(list(telling.parts()), found)


def _at[T](sub_phase: SubPhase.ValueType, begun: float, search: Search[T]) -> _Part[T]:
    """Runs a search and says where in the compression it is."""
    while True:
        try:
            step = next(search)
        except StopIteration as end:
            return end.value
        yield Where(sub_phase, begun, step)


def _later(memories: Memories, most: int) -> NDArray[np.bool_]:
    """The youngest of the memories that stand for themselves, beyond `most`, [n]."""
    alone = memories.findable & (memories.roles == MEMORY_ROLE_UNSPECIFIED)
    later = np.zeros(len(alone), np.bool_)
    rows = np.flatnonzero(alone)
    if len(rows) > most:
        later[rows[np.argsort(memories.created_us[rows], kind="stable")[most:]]] = True
    return later


def _copies(memories: Memories, readings: Readings, config: DreamConfig, seed: int) -> Search[Copies]:
    if not config.redundancy.enabled:
        return Copies(groups=[], pairs=0, pairs_by_text=0, refusals=Refusals(), overflow=0)
    return (yield from find_copies(memories, readings, config.redundancy, seed=seed))


def _gone(memories: Memories, groups: Sequence[CopyGroup]) -> NDArray[np.bool_]:
    gone = np.zeros(len(memories.node_ids), np.bool_)
    for group in groups:
        gone[group.copies] = True
    return gone


def _stands_for(memories: Memories, groups: Sequence[CopyGroup]) -> NDArray[np.int32]:
    """For each row the one that is read instead of it, [n]; a survivor that folds into another leads to that."""
    stands = np.arange(len(memories.node_ids), dtype=np.int32)
    for group in groups:
        stands[group.copies] = group.survivor
    while not np.array_equal(further := stands[stands], stands):
        stands = further
    return stands


def _planned(
    memories: Memories, readings: Readings, copies: Copies, config: DreamConfig, seed: int
) -> Search["_After"]:
    """The containers that there could be."""
    plan = yield from consolidation.plan(
        *(memories, readings, _gone(memories, copies.groups), config.consolidation, config.quality),
        *(config.redundancy.min_active, copies.refusals),
        seed=seed,
    )
    built = yield from build_all(memories, plan.clusters, config.consolidation)
    return _After(memories, copies.groups, plan, {id(one.cluster): one for one in built})


def _gated(
    memories: Memories, copies: Copies, after: "_After", cues: Cues, config: DreamConfig, recall: RecallConfig
) -> Search[_Merge]:
    """Lets pass what does not lose too much."""
    bound, plan, block_of = config.quality.max_information_loss, after.plan, after.built
    stands = _stands_for(memories, [*copies.groups, *_folds(plan.clusters)])
    verdict = yield from gate.decide(
        *(memories, [cluster.rows for cluster in plan.clusters], after.without, cues, stands, recall),
        max_information_loss=bound,
    )
    kept = set(verdict.kept)
    passed = plan.without({place for place in range(len(plan.clusters)) if place not in kept})
    groups = [*copies.groups, *_folds(passed.clusters)]
    retention = verdict.retention
    if retention.refused and copies.groups:
        # Even without a container something may be lost: where copies were no copies.
        groups, retention = yield from _only_copies(memories, copies, after, cues, recall, bound, retention)
    index = yield from after.without(frozenset(range(len(plan.clusters))) - kept, groups=groups)
    survivors = [block_of[id(cluster)] for cluster in passed.clusters if id(cluster) in block_of]
    return _Merge(groups, passed, survivors, index, _stands_for(memories, groups), retention)


def _only_copies(
    memories: Memories,
    copies: Copies,
    after: "_After",
    cues: Cues,
    recall: RecallConfig,
    bound: float,
    refused: Retention,
) -> Search[tuple[list[CopyGroup], Retention]]:
    """What eliminating copies alone costs; none are eliminated where that is too much."""
    index = yield from after.without(frozenset(range(len(after.plan.clusters))))
    stands = _stands_for(memories, copies.groups)
    reading = yield from self_probe.measure(memories, cues, index, stands, recall)
    alone = yield from self_probe.retention(cues, reading, max_information_loss=bound)
    alone.refused, alone.retries, alone.clusters_dropped = True, refused.retries, refused.clusters_dropped
    return (copies.groups if alone.measured and alone.loss_high <= bound else []), alone


class _After(NamedTuple):
    """The memory after the night, less some of what was planned."""

    memories: Memories
    groups: list[CopyGroup]
    plan: Plan
    built: dict[int, Built]  # by the identity of its cluster

    def without(self, dropped: frozenset[int], *, groups: Sequence[CopyGroup] | None = None) -> Search[Index]:
        memories = self.memories
        n = len(memories.node_ids)
        alone = memories.findable & memories.embedded & (memories.roles == MEMORY_ROLE_UNSPECIFIED)
        gone = _gone(memories, self.groups if groups is None else groups)
        blocks = dict(memories.containers)
        new: dict[int, Block] = {}
        for place, cluster in enumerate(self.plan.clusters):
            if place in dropped:
                continue
            for fold in cluster.folds:
                gone[list(fold.copies)] = True
            for container in cluster.replaces.tolist():
                blocks.pop(container, None)
            if id(cluster) in self.built:
                alone[cluster.rows] = False
                # Containers that are not stored yet have rows past the end.
                new[n + len(new)] = self.built[id(cluster)].block
            if place % 512 == 0:
                yield Step("index", place, len(self.plan.clusters))
        for container, block in list(blocks.items()):
            lost = block.rows[gone[block.rows]]
            if len(lost):
                blocks[container] = block.without(lost.tolist())
        return (yield from index_of(memories, alone & ~gone, blocks | new, n + len(new)))


def _folds(clusters: Sequence[Cluster]) -> Iterator[CopyGroup]:
    for cluster in clusters:
        for fold in cluster.folds:
            yield CopyGroup(fold.survivor, list(fold.copies), list(fold.cosines))


def _schemas(memories: Memories, clusters: list[NDArray[np.int64]], config: DreamConfig) -> Search[list[Schema]]:
    if not config.schema.enabled:
        return []
    return (yield from schemas.extract(memories, clusters, config.schema))


def _shortcuts(ways: FoundShortcuts) -> Shortcuts:
    return Shortcuts(walks=ways.walks, paths=ways.paths, created=len(ways.edges), rejected=ways.rejected)


def _describe(
    found: Compression,
    memories: Memories,
    copies: Copies,
    merge: _Merge,
    facts: Superseding,
    made: Sequence[Schema],
) -> None:
    """The report, as far as a dream knows it; what the store says afterwards counts more."""
    gone = _gone(memories, merge.groups)
    found.redundancy.CopyFrom(
        Redundancy(
            pairs=copies.pairs,
            pairs_by_text=copies.pairs_by_text,
            eliminated=int(np.count_nonzero(gone)),
            survivors=len(merge.groups),
            overflow=copies.overflow,
        )
    )
    found.merging.extend(merge.plan.merging())
    found.facets = sum(len(one.cluster.rows) for one in merge.built)
    found.schemas, found.superseded = len(made), len(facts.pairs)
    found.refusals.extend(copies.refusals.to_messages(memories))
    pinned = np.flatnonzero(memories.untouchable & memories.alive)
    found.pinned = len(pinned)
    found.pinned_ids.extend(memories.id_of(row) for row in pinned[:PINNED_SHOWN].tolist())
    in_containers = sum(cluster.units - 1 for cluster in merge.plan.clusters)
    folded = sum(len(fold.copies) for cluster in merge.plan.clusters for fold in cluster.folds)
    # Copies within a container are counted by its units already.
    found.nodes_after = found.nodes_before - (int(np.count_nonzero(gone & memories.active)) - folded) - in_containers
    found.nodes_after += len(made)
    if copies.overflow:
        found.notices.append(
            f"{copies.overflow} pairs beyond dream.redundancy.max_candidates were not looked at; a later night does"
        )
    if facts.pinned:
        found.notices.append(f"{len(facts.pinned)} pinned memories are out of date and stay as they are")


__all__ = ["SUPERSEDES", "Compressed", "compress"]
