"""What `compress` makes and counts, on a small memory; and that the straightforward ways find the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import compress, straightforward
from benchmarks.compress_night import STEPS, Parts, UnknownPart, night
from benchmarks.dream_arrays import read_memories
from benchmarks.laps import Laps
from dreamsvc import config as configuration
from dreamsvc.dreamer.compression import Where
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Step
from dreamsvc.evidence import signature
from dreamsvc.v1 import dream_pb2

NODES = 300


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("compress") / "snapshot"
    compress.write_snapshot(made, NODES)
    return made


@pytest.fixture(scope="module")
def memories(snapshot: Path) -> Memories:
    return read_memories(snapshot)


def test_the_made_memory_has_copies_and_facts_that_newer_ones_contradict(memories: Memories) -> None:
    assert (len(memories.node_ids), len(memories.edge_ids)) == (NODES, 8 * NODES)
    assert np.linalg.norm(memories.vectors[:], axis=1) == pytest.approx(np.ones(NODES), abs=1e-3)
    copy = compress.COPY_EVERY
    assert memories.vectors[copy] @ memories.vectors[copy - 1] > 0.95
    assert signature(memories.texts[copy]).key == signature(memories.texts[copy - 1]).key
    assert memories.texts[copy] != memories.texts[copy - 1]
    fact = compress.FACT_EVERY + 1
    earlier, later = memories.texts[fact].split(), memories.texts[fact + compress.FACT_EVERY].split()
    assert earlier[:3] == later[:3]
    assert earlier[3] != later[3]


def test_equal_sizes_give_equal_memories(snapshot: Path, memories: Memories, tmp_path: Path) -> None:
    compress.write_snapshot(tmp_path / "again", NODES)
    again = read_memories(tmp_path / "again")
    assert np.array_equal(again.vectors[:], memories.vectors[:])
    assert np.array_equal(again.confidences, memories.confidences)
    assert [again.texts[row] for row in range(NODES)] == [memories.texts[row] for row in range(NODES)]


def test_a_night_does_all_parts_and_finds_what_was_planted(snapshot: Path) -> None:
    config = configuration.defaults()
    config.dream.quality.probe_cues = 20
    told = night(snapshot, config)
    assert set(told["steps"]) == set(STEPS)
    assert int(told["found"]["superseded"]) > 0
    assert int(told["found"]["redundancy"]["eliminated"]) >= NODES // compress.COPY_EVERY - 1
    for part in told["steps"].values():
        assert part["longest_ms"] >= part["p99_ms"] >= part["p50_ms"] >= 0
        assert part["peak_mb"] > 0


def where(sub_phase: dream_pb2.SubPhase.ValueType, stage: str) -> Where:
    return Where(sub_phase, 0.5, Step(stage, 0, 1))


def test_a_probe_before_the_copies_calibrates_and_one_after_them_is_the_gate() -> None:
    parts = Parts()
    probing = where(dream_pb2.SUB_PHASE_PROBES, "probe")
    assert parts.part_of(probing, is_end=False) == "calibration"
    facts = where(dream_pb2.SUB_PHASE_REDUNDANCY_ELIMINATION, "reading facts")
    assert parts.part_of(facts, is_end=False) == "superseding"
    assert parts.part_of(probing, is_end=False) == "calibration"
    copies = where(dream_pb2.SUB_PHASE_REDUNDANCY_ELIMINATION, "texts")
    assert parts.part_of(copies, is_end=False) == "redundancy"
    assert parts.part_of(probing, is_end=False) == "gate"
    assert parts.part_of(probing, is_end=True) == "pair_probe"


def test_a_part_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UnknownPart, match="HEBBIAN_REPLAY"):
        Parts().part_of(where(dream_pb2.SUB_PHASE_HEBBIAN_REPLAY, "x"), is_end=False)


def test_laps_keep_the_longest_step_and_where_it_was() -> None:
    laps = Laps()
    laps.add("a", 0.001, 0.001, "first")
    laps.add("a", 0.020, 0.002, "second")
    laps.add("b", 0.005, 0.030, "third")
    laps.add("a", 0.003, 0.001, "fourth")
    laps.end()
    shown = laps.shown()
    assert shown["a"]["seconds"] == pytest.approx(0.024)
    assert (shown["a"]["steps"], shown["a"]["longest_ms"], shown["a"]["longest_stage"]) == (3, 20.0, "second")
    assert (shown["a"]["steps_over_10_ms"], shown["b"]["steps_over_10_ms"]) == (1, 0)
    assert (shown["a"]["longest_cpu_ms"], shown["b"]["longest_cpu_ms"]) == (2.0, 30.0)


def step(seconds: float, longest_ms: float, peak_mb: float) -> dict[str, Any]:
    return {"seconds": seconds, "longest_ms": longest_ms, "peak_mb": peak_mb}


def test_the_longest_step_is_one_that_a_wake_may_wait_for() -> None:
    steps = {"snapshot": step(1, 1000, 300), "compiling": step(2, 2000, 400), "plan": step(3, 7, 350)}
    pair = {"paths_networkx": compress.COMPARED["paths_networkx"]}
    told = {"paths": {"seconds": 0.5}, "paths_networkx": {"seconds": 2.0}}
    figures = compress.figures_of(steps, pair, told)
    assert figures["longest_step_ms"] == 7
    assert figures["seconds_total"] == 6
    assert figures["peak_mb"] == 400
    assert figures["ratio_paths_networkx"] == 4
    assert list(figures) == [key for key in compress.FIGURES if key in figures]


def test_the_plain_ways_find_the_same(snapshot: Path) -> None:
    told = {task: straightforward.run(task, snapshot) for pair in ("near_duplicates_numpy", "containers_loop")
            for task in compress.COMPARED[pair][:2]}  # fmt: skip
    assert told["near_duplicates"]["pairs"] == told["near_duplicates_numpy"]["pairs"] > 0
    assert told["containers"]["facets"] == told["containers_loop"]["facets"] == NODES
