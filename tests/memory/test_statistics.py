"""Counts of a space that dreams have compressed, and what a dream is foreseen to touch."""

from typing import Any

import numpy as np
import pytest

from dreamsvc.config import defaults
from dreamsvc.dream.estimates import estimate
from dreamsvc.dreamer.v1.operations_pb2 import NewMemory
from dreamsvc.memory.statistics import size
from dreamsvc.v1.memory_pb2 import Edge, Memory

A, B, C, D, E, F = range(1, 7)


def vector(number: int) -> list[float]:
    return np.random.default_rng(number).normal(size=16).astype(np.float16).astype(float).tolist()


@pytest.fixture
def town(room: Any) -> Any:
    room.remember(
        *(Memory(key=key, text=f"{key} text", vector=vector(i)) for i, key in enumerate("abcdef")),
        edges=[
            *(Edge(source=s, target=t) for s, t in ("ab", "bc", "cd", "de", "ea")),
            Edge(source="a", target="b", type="knows"),
        ],
    )
    return room


def now(room: Any) -> Any:
    return room.store.database.read(lambda c: size(c, room.store.space("default")))


def test_counts_follow_a_night_and_its_revert(town: Any, part: Any) -> None:
    before, sized = town.store.stats("default"), now(town)
    assert (sized.active, sized.facets, sized.containers, sized.linked) == (6, 0, 0, 5)
    assert sized.vector_bytes == 6 * 4 * 16
    assert sized.text_bytes == 6 * 6
    change = town.dream(
        part.eliminations(0, (D, [E])), part.containers(1, part.container(1, town.vectors([A, B, C]), bits=4))
    )
    after, sized = town.store.stats("default"), now(town)
    # d, f and the container; a-b and b-c lie inside it, c-d, d-a (as e folded into d) join it with d.
    assert (sized.active, sized.facets, sized.containers, sized.linked) == (3, 3, 1, 1)
    assert sized.vector_bytes == 2 * 4 * 16 + (16 + 4) + 3 * (8 + 2)
    assert (after.memories, after.facets, after.containers, after.folded) == (5, 3, 1, 1)
    assert (after.memories_forgotten, after.vectors, after.kept_vector_bytes) == (0, 5, 3 * 32)
    town.forget("f")
    assert town.store.stats("default").memories_forgotten == 1
    town.restore("f")
    town.revert(change)
    back = town.store.stats("default")
    for field in ("memories", "facets", "containers", "folded", "edges", "vectors", "vector_bytes", "text_bytes"):
        assert getattr(back, field) == getattr(before, field), field
    assert now(town) == size_before(town)


def size_before(room: Any) -> Any:
    return now(room)._replace(active=6, facets=0, containers=0, vector_bytes=6 * 64, linked=5)


def test_a_purge_takes_what_can_be_restored_no_longer_out_of_the_counts(town: Any, part: Any) -> None:
    town.dream(part.eliminations(0, (D, [E])), part.containers(1, part.container(1, town.vectors([A, B]))))
    town.forget("f")
    town.clock.us += 31 * 86_400_000_000
    before = now(town)
    town.purge()
    stats = town.store.stats("default")
    assert (stats.folded, stats.memories_forgotten, stats.kept_vector_bytes) == (0, 0, 0)
    assert stats.vectors == 4
    assert now(town) == before


def test_an_estimate_is_an_upper_bound_of_what_a_night_touches(town: Any, part: Any) -> None:
    config = defaults().dream
    view = town.store.graph("default").view
    told = estimate(view.n, view.m, 16, None, config)
    change = town.dream(
        part.weights(0, dict.fromkeys(range(1, 7), 0.7)),
        part.eliminations(1, (D, [E]), (A, [B])),
        part.containers(2, part.container(1, town.vectors([A, C, D]))),
        part.new_memories(3, NewMemory(number=2, text="x")),
        part.new_edges(4, (-2, A, "ABSTRACTS", 0.1), (-2, C, "ABSTRACTS", 0.1), (A, F, "SUPERSEDES", 0.1)),
    )
    touched = town.rows("SELECT count(*) FROM edges WHERE changed_by = ? OR born_in = ?", change, change)
    assert told.edges_touched >= touched[0][0] > told.edges
    assert told.nodes_touched >= town.rows("SELECT count(*) FROM nodes WHERE changed_by = ? AND id < 7", change)[0][0]


def test_a_space_without_edges_may_get_some() -> None:
    config = defaults().dream
    assert estimate(10, 0, 4, None, config).edges_touched > 0
    for part in (config.redundancy, config.consolidation, config.schema, config.shortcuts):
        part.enabled = False
    config.consolidation.topics = False
    assert estimate(10, 0, 4, None, config).edges_touched > 0
    config.linking.enabled = config.rem.explore = False
    assert estimate(10, 0, 4, None, config).edges_touched == 0
    assert estimate(10, 7, 4, None, config).edges_touched == 7


def test_an_estimate_counts_as_many_novel_edges_as_are_configured() -> None:
    config = defaults().dream
    few = estimate(10, 0, 4, None, config).edges_touched
    config.rem.max_new_edges = 1_000
    assert estimate(10, 0, 4, None, config).edges_touched == few + 950
