"""The demo's memory of the standard library."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks import stdlib_memory
from dreamsvc import clock

NOW_US = 1_800_000_000_000_000


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("stdlib") / "memory.jsonl"
    counts = stdlib_memory.write(path, NOW_US)
    read = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert Counter(line["type"] for line in read) == {"memory": counts.memories, "edge": counts.edges}
    return read


def of_type(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == kind]


def test_it_is_the_memory_of_a_whole_library(lines: list[dict[str, Any]]) -> None:
    memories = {memory["key"]: memory for memory in of_type(lines, "memory")}
    assert len(memories) == len(of_type(lines, "memory")) > 3000
    assert memories["py:os.path.join"]["text"].startswith("os.path.join(a, *p)\nJoin two or more pathname components")
    assert memories["py:json"]["kind"] == "module"
    assert not any(key.startswith(("py:test.", "py:idlelib", "py:antigravity")) for key in memories)
    assert all(len(memory["text"]) < 4000 for memory in memories.values())


def test_both_ends_of_every_edge_exist_and_no_edge_is_there_twice(lines: list[dict[str, Any]]) -> None:
    keys = {memory["key"] for memory in of_type(lines, "memory")}
    edges = of_type(lines, "edge")
    assert {end for edge in edges for end in (edge["source"], edge["target"])} <= keys
    names = Counter((edge["source"], edge["target"], edge["edge_type"]) for edge in edges)
    assert max(names.values()) == 1
    assert not any(edge["source"] == edge["target"] for edge in edges)
    assert {edge["edge_type"] for edge in edges} == {"mentions", "member_of"}


def test_weights_reach_from_weak_evidence_to_strong(lines: list[dict[str, Any]]) -> None:
    weights = sorted(edge["weight"] for edge in of_type(lines, "edge"))
    assert 0.05 <= weights[0] < 0.06
    assert 0.8 < weights[-1] <= 1
    importances = [memory["importance"] for memory in of_type(lines, "memory")]
    assert (min(importances), max(importances)) == (0.2, 1.0)


def test_it_was_read_in_the_thirty_days_before_now(lines: list[dict[str, Any]]) -> None:
    times = [clock.from_iso(memory["event_time"]) for memory in of_type(lines, "memory")]
    assert times == sorted(times)
    assert times[0] == NOW_US - 30 * 86_400_000_000
    assert NOW_US - 86_400_000_000 < times[-1] < NOW_US


def test_it_is_the_same_every_time(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    assert stdlib_memory.write(first, NOW_US, 300) == stdlib_memory.write(second, NOW_US, 300)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_text().count('"type": "memory"') == 300
