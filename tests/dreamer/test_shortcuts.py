import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import contract
from dreamsvc.dreamer import shortcuts
from dreamsvc.dreamer.shortcuts import Shortcut, find_shortcuts
from dreamsvc.v1.config_pb2 import ShortcutConfig
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER, MEMORY_ROLE_FACET
from tests.dreamer.remembered import remembered, result

# A line of four edges over five memories.
LINE = [(0, 1, "next"), (1, 2, "next"), (2, 3, "next"), (3, 4, "next")]


def found(memories, rows=(0,), *, seed=0, **settings):
    config = ShortcutConfig(**settings)
    contract.fill(config)
    return result(find_shortcuts(memories, np.array(rows, np.int64), config, seed=seed))


def line(weight: float = 0.9, confidence: float = 1.0, more=(), **columns):
    edges = [(*edge, weight, confidence) for edge in LINE]
    return remembered(["a"] * 8, edges=[*edges, *more], columns=columns)


def paths_of(out) -> list[list[int]]:
    return [edge.path for edge in out.edges]


def test_a_path_of_three_or_four_edges_that_is_walked_often_gets_an_edge():
    out = found(line(weight=0.9, confidence=0.95))
    assert out.edges == [
        Shortcut(0, 3, [0, 1, 2, 3], pytest.approx(0.95**3), pytest.approx(0.9**3), 16, [0, 1, 2]),
        Shortcut(1, 4, [1, 2, 3, 4], pytest.approx(0.95**3), pytest.approx(0.9**3), 16, [1, 2, 3]),
        Shortcut(0, 4, [0, 1, 2, 3, 4], pytest.approx(0.95**4), pytest.approx(0.9**4), 16, [0, 1, 2, 3]),
    ]
    assert (out.walks, out.paths, out.rejected) == (32, 3, {})


def test_two_edges_are_no_path_worth_one():
    out = found(line(), rows=[2])
    assert (out.edges, out.paths) == ([], 0)


def test_the_product_of_confidences_must_reach_the_limit():
    out = found(line(confidence=0.9))  # 0.729 for three edges, 0.656 for four
    assert paths_of(out) == [[0, 1, 2, 3], [1, 2, 3, 4]]
    assert out.rejected == {"low_confidence": 1}
    assert paths_of(found(line(confidence=0.9), min_confidence=0.729)) == [[0, 1, 2, 3], [1, 2, 3, 4]]
    assert found(line(confidence=0.9), min_confidence=0.73).rejected == {"low_confidence": 3}


def test_a_path_over_an_edge_that_nobody_trusts_is_counted_too():
    memories = line()
    confidences = np.array([1, 1, 0.2, 1], np.float32)
    out = found(memories._replace(confidences=confidences))
    assert (out.edges, out.rejected) == ([], {"low_confidence": 3})


def test_a_path_walked_too_seldom_is_rejected():
    assert found(line(), walkers=4).rejected == {"few_traversals": 3}
    assert len(found(line(), walkers=4, min_traversals=4).edges) == 3


def test_no_shortcut_beside_a_direct_edge_or_another_shortcut():
    out = found(line(more=[(0, 3, "CAUSAL", 0.001)]))
    assert paths_of(out) == [[1, 2, 3, 4], [0, 1, 2, 3, 4]]
    assert out.rejected["exists"] == 1
    assert [0, 1, 2, 3] in paths_of(found(line(more=[(0, 3, "related", 0.001)])))
    assert [0, 1, 2, 3] in paths_of(found(line(more=[(3, 0, "CAUSAL", 0.001)])))
    dead = line(more=[(0, 3, "CAUSAL", 0.001)])
    dead.edges_alive[4] = False
    assert [0, 1, 2, 3] in paths_of(found(dead))


def test_shortcuts_of_earlier_nights_are_not_walked_but_causes_are():
    edges = [(0, 1, "CAUSAL"), (1, 2, "next"), (2, 3, "next")]
    assert paths_of(found(remembered(["a"] * 4, edges=edges))) == [[0, 1, 2, 3]]
    assert found(remembered(["a"] * 4, edges=edges, columns={"trusted": [0, 1, 1]})).paths == 0
    assert found(line(more=[(0, 3, "CAUSAL")], trusted=[1, 1, 1, 1, 0])).rejected["exists"] == 1


def test_of_two_paths_between_the_same_ends_the_stronger_wins():
    around = [(0, 5, "next", 0.8), (5, 6, "next", 0.8), (6, 3, "next", 0.8)]
    out = found(line(more=around), walkers=200)
    assert [edge.path for edge in out.edges if (edge.source, edge.target) == (0, 3)] == [[0, 1, 2, 3]]
    assert out.rejected["exists"] == 2  # to 3 and to 4, the other way round


def test_the_strongest_are_taken_up_to_the_limit():
    out = found(line(), max_shortcuts_per_cycle=2)
    assert paths_of(out) == [[0, 1, 2, 3], [1, 2, 3, 4]]
    assert out.rejected == {"over_limit": 1}
    assert found(line(), max_shortcuts_per_cycle=0).rejected == {"over_limit": 3}


def test_dead_edges_and_what_dreams_said_are_not_walked():
    memories = line()
    memories.edges_alive[1] = False
    assert found(memories).paths == 0
    for name in ("SUPERSEDES", "ABSTRACTS"):
        edges = [(*edge[:2], name if edge[0] == 1 else "next") for edge in LINE]
        assert found(remembered(["a"] * 8, edges=edges)).paths == 0
    assert found(line(alive=[1, 1, 0, 1, 1, 1, 1, 1])).paths == 0


def test_walks_go_over_containers_and_shortcuts_join_their_members():
    # 1 and 5 are in container 6, 3 in container 7: 0 -> 1, 5 -> 2, 2 -> 3, 7 -> 4.
    edges = [(0, 1, "next"), (5, 2, "next"), (2, 3, "next"), (7, 4, "next"), (1, 5, "next")]
    facet, box = MEMORY_ROLE_FACET, MEMORY_ROLE_CONTAINER
    columns = {"roles": [0, facet, 0, facet, 0, facet, box, box], "merged_into": [-1, 6, -1, 7, -1, 6, -1, -1]}
    out = found(remembered(["a"] * 8, edges=edges, columns=columns))
    assert sorted(paths_of(out)) == [[0, 6, 2, 3], [0, 6, 2, 7, 4], [5, 2, 7, 4]]
    assert {(edge.source, edge.target) for edge in out.edges} == {(0, 3), (0, 4), (5, 4)}
    # A replayed facet walks from its container.
    assert [5, 2, 7, 4] in paths_of(found(remembered(["a"] * 8, edges=edges, columns=columns), rows=[1]))


def test_without_edges_or_replay_nothing_is_found():
    for out in (found(remembered(["a", "b"]), rows=[0, 1]), found(line(), rows=[])):
        assert (out.edges, out.walks, out.paths, out.rejected) == ([], 0, 0, {})


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_every_shortcut_stands_for_a_simple_trusted_path(seed, count):
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, 8, (count, 2))
    numbers = rng.uniform(0.6, 1.0, (count, 2))
    edges = [
        (int(a), int(b), "next", float(weight), float(trust))
        for (a, b), (weight, trust) in zip(ends, numbers, strict=True)
    ]
    memories = remembered(["a"] * 8, edges=edges)
    out = found(memories, rows=range(8), seed=seed, max_shortcuts_per_cycle=5)
    assert out.paths == len(out.edges) + sum(out.rejected.values())
    assert len({(edge.source, edge.target) for edge in out.edges}) == len(out.edges) <= 5
    by_ends: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for (a, b), pair in zip(ends.tolist(), np.float32(numbers).tolist(), strict=True):
        by_ends.setdefault((a, b), []).append(tuple(pair))
    for edge in out.edges:
        assert len(edge.path) in (4, 5)
        assert len(set(edge.path)) == len(edge.path)
        products = {(1.0, 1.0)}
        for step in zip(edge.path, edge.path[1:], strict=False):
            products = {(w * weight, c * trust) for w, c in products for weight, trust in by_ends[step]}
        assert any(
            edge.weight == pytest.approx(weight) and edge.confidence == pytest.approx(trust)
            for weight, trust in products
        )
        assert edge.confidence >= 0.7 - 1e-6
        assert edge.traversals >= 5


def test_the_same_seed_walks_the_same_whatever_is_walked_at_a_time():
    rng = np.random.default_rng(0)
    edges = [
        (int(a), int(b), "next", float(w), 0.99)
        for (a, b), w in zip(rng.integers(0, 30, (90, 2)), rng.random(90), strict=True)
    ]
    memories = remembered(["a"] * 30, edges=edges)
    once, again, other = (found(memories, rows=range(30), seed=seed) for seed in (2**40 + 1, 2**40 + 1, 7))
    assert once == again
    assert once != other


def test_walks_come_in_batches(monkeypatch):
    monkeypatch.setattr(shortcuts, "WALKS", 32)
    batches: list[int] = []
    inner = shortcuts.tally
    monkeypatch.setattr(
        shortcuts, "tally", lambda counts, walks, **more: batches.append(len(walks)) or inner(counts, walks, **more)
    )
    out = found(line(), rows=[0, 1, 2, 3])
    assert batches == [32, 32, 32, 32]
    assert {edge.traversals for edge in out.edges if edge.source == 1} == {32}
