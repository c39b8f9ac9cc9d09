"""The night that `compress` measures: everything a dream does after its replay, driven as the dreamer drives it.

    python -m benchmarks.compress_night SNAPSHOT

A process of its own, so that its memory is its own; tells what each part took as one line of JSON. Where compiled
kernels are kept it is told by its environment, see `placement`.
"""

import gc
import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dream_arrays import finished, read_memories
from benchmarks.laps import Laps, cpu_s
from dreamsvc import clock
from dreamsvc import config as configuration
from dreamsvc.cli import output
from dreamsvc.dreamer.compiling import calls_of
from dreamsvc.dreamer.compression import Night, Where
from dreamsvc.dreamer.merged import Merged
from dreamsvc.dreamer.tiles import tiles_of
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import Config
from dreamsvc.v1.dream_pb2 import Compression
from kernels.compile_ahead import compile_ahead

SEED = 17
SHORTCUTS, SUPERSEDING, CALIBRATION, REDUNDANCY = "shortcuts", "superseding", "calibration", "redundancy"
PLAN, CONTAINERS, GATE, SCHEMAS, PAIR_PROBE = "plan", "containers", "gate", "schemas", "pair_probe"
# What a step of the night does once it has found everything: messages and notes.
TELLING = "telling"
STEPS = (
    *("snapshot", "compiling", SHORTCUTS, SUPERSEDING, CALIBRATION, REDUNDANCY, PLAN, CONTAINERS, GATE, SCHEMAS),
    *(PAIR_PROBE, TELLING),
)
# Contradicted facts are found in the sub-phase of the copies.
FACTS = ("reading facts", "grouping facts", "comparing facts")


class Parts:
    """Names the part of the night that a piece of work belongs to, by what it says of itself and what came before."""

    def __init__(self) -> None:
        self._copies_begun = False

    def part_of(self, where: Where, *, is_end: bool) -> str:
        """is_end: it is of the last step, in which nothing is merged any more."""
        if where.step.stage == TELLING:
            return TELLING
        match where.sub_phase:
            case dream_pb2.SUB_PHASE_SHORTCUTS:
                return SHORTCUTS
            case dream_pb2.SUB_PHASE_REDUNDANCY_ELIMINATION if where.step.stage in FACTS:
                return SUPERSEDING
            case dream_pb2.SUB_PHASE_REDUNDANCY_ELIMINATION:
                self._copies_begun = True
                return REDUNDANCY
            case dream_pb2.SUB_PHASE_CONSOLIDATION:
                return CONTAINERS if where.step.stage == CONTAINERS else PLAN
            case dream_pb2.SUB_PHASE_SCHEMA_EXTRACTION:
                return SCHEMAS
            case dream_pb2.SUB_PHASE_PROBES if is_end:
                return PAIR_PROBE
            case dream_pb2.SUB_PHASE_PROBES:
                return GATE if self._copies_begun else CALIBRATION
            case other:
                raise UnknownPart(f"no part of a night is known by {dream_pb2.SubPhase.Name(other)}")


class UnknownPart(Exception):
    """The night did something that is not among STEPS."""


def night(directory: Path, config: Config) -> dict[str, Any]:
    """Every part of the compression of one snapshot."""
    laps = Laps()
    memories = laps.timed("snapshot", lambda: read_memories(directory))
    laps.timed("compiling", lambda: compile_ahead(calls_of(memories, config.dream)))
    n = len(memories.node_ids)
    most = min(n, config.dream.nrem.max_replay_count)
    replayed: list[int] = np.sort(np.random.default_rng(SEED).choice(n, most, replace=False)).tolist()
    found = Compression()
    tiles, merged = finished(tiles_of(memories)), finished(Merged.of(memories, []))
    whole = Night(memories, tiles, replayed, config.dream, config.recall, SEED, merged, found)
    operations, parts = 0, Parts()
    for number in range(whole.steps):
        is_end = number == whole.steps - 1
        operations += len(_driven(whole.take(number), laps, parts, is_end=is_end))
    laps.end()
    return {
        "steps": laps.shown(),
        "steps_of_the_night": whole.steps,
        "operations": operations,
        "found": output.to_dict(found) | {"refusals": len(found.refusals)},
    }


def _driven(
    search: Generator[Where, None, list[Operations]], laps: Laps, parts: Parts, *, is_end: bool
) -> list[Operations]:
    while True:
        began, used = clock.precise_s(), cpu_s()
        try:
            where = next(search)
        except StopIteration as end:
            laps.add(TELLING, clock.precise_s() - began, cpu_s() - used, TELLING)
            return end.value
        took, used = clock.precise_s() - began, cpu_s() - used
        laps.add(parts.part_of(where, is_end=is_end), took, used, where.step.stage)


if __name__ == "__main__":
    # As the dreamer does: a collection would be its longest step by far.
    gc.disable()
    print(json.dumps(night(Path(sys.argv[1]), configuration.defaults())))
