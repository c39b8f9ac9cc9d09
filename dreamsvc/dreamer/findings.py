"""The report of a compression, written step by step; what the store says afterwards counts more."""

from collections.abc import Sequence

import numpy as np

from dreamsvc.dreamer.consolidation import Plan
from dreamsvc.dreamer.containers import Built
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.redundancy import Copies
from dreamsvc.dreamer.refusals import Refusals
from dreamsvc.dreamer.schemas import Schema
from dreamsvc.dreamer.shortcuts import FoundShortcuts
from dreamsvc.dreamer.superseding import Superseding
from dreamsvc.v1.dream_pb2 import Compression, Merging, Retention, Shortcuts

PINNED_SHOWN = 100
# Of each kind of refusal.
EXAMPLES_SHOWN = 5


def begin(found: Compression, memories: Memories) -> None:
    found.nodes_before = found.nodes_after = int(np.count_nonzero(memories.active))
    pinned = np.flatnonzero(memories.untouchable & memories.alive)
    found.pinned = len(pinned)
    found.pinned_ids.extend(memories.id_of(row) for row in pinned[:PINNED_SHOWN].tolist())
    found.kept_apart = int(np.count_nonzero(memories.apart & memories.alive))


def shortened(found: Compression, ways: FoundShortcuts) -> None:
    found.shortcuts.CopyFrom(
        Shortcuts(walks=ways.walks, paths=ways.paths, created=len(ways.edges), rejected=ways.rejected)
    )


def superseded(found: Compression, facts: Superseding) -> None:
    found.superseded = len(facts.pairs)
    if facts.pinned:
        found.notices.append(f"{len(facts.pinned)} pinned memories are out of date and stay as they are")


def folded(found: Compression, memories: Memories, copies: Copies) -> None:
    redundancy = found.redundancy
    redundancy.pairs, redundancy.pairs_by_text = copies.pairs, copies.pairs_by_text
    redundancy.overflow = copies.overflow
    eliminated = [row for group in copies.groups for row in group.copies]
    redundancy.eliminated, redundancy.survivors = len(eliminated), len(copies.groups)
    found.nodes_after -= int(np.count_nonzero(memories.active[eliminated])) if eliminated else 0
    refused(found, memories, copies.refusals)
    if copies.overflow:
        found.notices.append(
            f"{copies.overflow} pairs beyond dream.redundancy.max_candidates were not looked at; a later night does"
        )


def merged(
    found: Compression,
    memories: Memories,
    plan: Plan,
    built: Sequence[Built],
    retention: Retention,
    refusals: Refusals,
) -> None:
    """Adds one tile."""
    for one in plan.merging():
        known = next((stage for stage in found.merging if stage.stage == one.stage), None)
        _add(found.merging.add(stage=one.stage) if known is None else known, one)
    found.facets += sum(len(one.cluster.rows) for one in built)
    found.nodes_after -= sum(cluster.units - 1 for cluster in plan.clusters)
    folds = [fold for cluster in plan.clusters for fold in cluster.folds]
    found.redundancy.eliminated += sum(len(fold.copies) for fold in folds)
    found.redundancy.survivors += len(folds)
    # The cues look at all that the night merged so far; what the gate refused adds up.
    before = found.retention
    retention.retries += before.retries
    retention.clusters_dropped += before.clusters_dropped
    retention.refused |= before.refused
    found.retention.CopyFrom(retention)
    refused(found, memories, refusals)


def _add(known: Merging, tile: Merging) -> None:
    """Sums of tiles, the mean cohesion weighted by containers."""
    containers = known.containers + tile.containers
    if containers:
        total = known.mean_cohesion * known.containers + tile.mean_cohesion * tile.containers
        known.mean_cohesion = total / containers
    known.containers = containers
    known.members += tile.members
    known.nodes_before += tile.nodes_before
    known.nodes_after += tile.nodes_after
    known.dropped += tile.dropped
    known.left_out += tile.left_out


def abstracted(found: Compression, made: Sequence[Schema]) -> None:
    found.schemas = len(made)
    found.nodes_after += len(made)


def refused(found: Compression, memories: Memories, refusals: Refusals) -> None:
    for one in refusals.to_messages(memories):
        known = next((refusal for refusal in found.refusals if refusal.kind == one.kind), None)
        if known is None:
            found.refusals.append(one)
            continue
        known.count += one.count
        known.examples.extend(one.examples[: max(0, EXAMPLES_SHOWN - len(known.examples))])
