"""The local walk against dense power iteration over all rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamsvc.walk import Adjacency, Reached, build_adjacency, connect, walk

type Edge = tuple[int, int, float, bool]  # ends, weight, alive

EVERYTHING = {"hops": 50, "max_rows": 10**6, "max_entries": 10**6}


def dense(edges: list[Edge], n: int, seeds: dict[int, float], restart: float = 0.5) -> NDArray[np.float64]:
    matrix = np.zeros((n, n))
    for a, b, weight, alive in edges:
        if alive and weight > 0 and a != b:
            matrix[a, b] += weight
            matrix[b, a] += weight
    out = matrix.sum(axis=1, keepdims=True)
    chance = np.divide(matrix, out, out=np.zeros_like(matrix), where=out > 0)
    start = np.zeros(n)
    for row, mass in seeds.items():
        start[row] = mass
    start /= start.sum()
    p = start
    for _ in range(15):
        moved = (1 - restart) * chance.T @ p
        p = moved + start * (1 - moved.sum())
    return p


class Graph:
    """Edges as columns with spare capacity, some in the base, the rest in the overlay."""

    def __init__(self, edges: list[Edge], n: int, *, based: int | None = None, sorted_base: bool = True) -> None:
        based = len(edges) if based is None else based
        src, dst = (np.array([edge[side] for edge in edges], np.int32) for side in (0, 1))
        self.n = n
        self.weight = np.zeros(len(edges) + 3, np.float32)
        self.weight[: len(edges)] = [edge[2] for edge in edges]
        self.alive = np.zeros(len(edges) + 3, np.bool_)
        self.alive[: len(edges)] = [edge[3] for edge in edges]
        known = 1 + max([-1, *src[:based].tolist(), *dst[:based].tolist()])  # the base may be older than later rows
        self.adjacency: Adjacency = build_adjacency(
            src[:based], dst[:based], known, self.weight[:based] if sorted_base else None
        )
        for i in range(based, len(edges)):
            connect(self.adjacency, edges[i][0], edges[i][1], i)

    def walk(self, seeds: dict[int, float], **options: float) -> Reached:
        return walk(
            self.adjacency,
            self.weight,
            self.alive,
            np.array(list(seeds), np.int64),
            np.array(list(seeds.values()), np.float64),
            self.n,
            **options,
        )

    def scores(self, seeds: dict[int, float], **options: float) -> NDArray[np.float64]:
        reached = self.walk(seeds, **options)
        assert len(set(reached.rows.tolist())) == len(reached.rows)
        out = np.zeros(self.n)
        out[reached.rows] = reached.scores
        return out


rows = st.integers(0, 11)
edge_lists = st.lists(
    st.tuples(rows, rows, st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]), st.booleans()), max_size=30
)  # duplicates, loops, dead and weightless edges included


@settings(max_examples=200, deadline=None)
@given(
    edge_lists,
    st.integers(0, 30),
    st.dictionaries(rows, st.floats(0.01, 1), min_size=1, max_size=4),
    st.sampled_from([0.15, 0.5, 0.9]),
    st.booleans(),
)
def test_a_walk_over_everything_is_the_dense_iteration(
    edges: list[Edge], based: int, seeds: dict[int, float], restart: float, sorted_base: bool
) -> None:
    graph = Graph(edges, 12, based=min(based, len(edges)), sorted_base=sorted_base)
    scores = graph.scores(seeds, restart=restart, **EVERYTHING)
    np.testing.assert_allclose(scores, dense(edges, 12, seeds, restart), atol=1e-12)
    assert scores.sum() == pytest.approx(1)


def test_a_path_by_hand() -> None:
    graph = Graph([(0, 1, 1.0, True), (1, 2, 1.0, True)], 3)
    # p0 = .5 + .25 p1, p1 = .5 p0 + .5 p2, p2 = .25 p1  =>  p0 = 7/12, p1 = 1/3, p2 = 1/12
    np.testing.assert_allclose(graph.scores({0: 2.0}), [7 / 12, 1 / 3, 1 / 12], atol=1e-4)


def test_mass_at_a_dead_end_returns_to_the_restart() -> None:
    graph = Graph([(0, 1, 1.0, False)], 4)
    assert graph.scores({0: 1.0, 3: 3.0}).tolist() == [0.25, 0, 0, 0.75]


def test_weights_and_liveness_are_read_as_they_are() -> None:
    graph = Graph([(0, 1, 1.0, True), (0, 2, 1.0, True), (0, 3, 1.0, True)], 4)
    graph.weight[0] = 3
    graph.alive[2] = False
    edges = [(0, 1, 3.0, True), (0, 2, 1.0, True)]
    np.testing.assert_allclose(graph.scores({0: 1.0}), dense(edges, 4, {0: 1.0}))


def test_three_hops_and_no_further() -> None:
    graph = Graph([(i, i + 1, 1.0, True) for i in range(9)], 10)
    assert sorted(graph.walk({0: 1.0}).rows.tolist()) == [0, 1, 2, 3]
    assert sorted(graph.walk({0: 1.0}, hops=0).rows.tolist()) == [0]


@pytest.mark.parametrize("sorted_base", [True, False])
def test_a_hub_walks_along_its_strongest_edges_only(sorted_base: bool) -> None:
    strength = np.random.default_rng(2).permutation(16) + 1.0
    edges = [(0, i + 1, float(strength[i]), True) for i in range(16)]
    graph = Graph(edges, 17, based=12, sorted_base=sorted_base)
    graph.alive[int(np.argmax(strength))] = False
    strongest = (np.argsort(-strength)[1:9] + 1).tolist()
    reached = graph.walk({0: 1.0}, max_neighbours=8)
    assert sorted(reached.rows.tolist()) == sorted([0, *strongest])
    kept = [edge for edge in edges if edge[1] in strongest]
    np.testing.assert_allclose(graph.scores({0: 1.0}, max_neighbours=8), dense(kept, 17, {0: 1.0}), atol=1e-12)


def test_a_large_hub_is_not_read_to_its_end() -> None:
    edges = [(0, i, 1.0 / i, True) for i in range(1, 5000)]
    graph = Graph(edges, 5000)
    graph.adjacency.neighbour[512:5000] = 9_999_999  # would be out of range if it were read
    assert sorted(graph.walk({0: 1.0}).rows.tolist()) == list(range(257))


def test_the_region_keeps_the_rows_that_most_mass_enters() -> None:
    graph = Graph([(0, i, float(i), True) for i in range(1, 30)], 30)
    assert sorted(graph.walk({0: 1.0}, max_rows=5).rows.tolist()) == [0, 26, 27, 28, 29]


def test_entries_are_read_first_where_most_mass_goes_out() -> None:
    edges = [(0, 2, 1.0, True), *((1, i, 1.0, True) for i in range(3, 20))]
    graph = Graph(edges, 20)
    assert sorted(graph.walk({0: 0.5, 1: 0.5}, max_entries=1).rows.tolist()) == [0, 1, 2]
    assert graph.scores({0: 0.5, 1: 0.5}, max_entries=1).sum() == pytest.approx(1)


def test_the_local_walk_ranks_like_the_full_one() -> None:
    rng = np.random.default_rng(3)
    n = 1500
    ends = rng.integers(0, n, (6000, 2))
    edges = [(int(a), int(b), float(w), True) for (a, b), w in zip(ends, rng.random(6000), strict=True)]
    seeds = {int(row): float(mass) for row, mass in zip(rng.permutation(n)[:20], rng.random(20), strict=True)}
    expected = dense(edges, n, seeds)
    scores = Graph(edges, n).scores(seeds, max_rows=700, max_entries=6000)
    best = np.argsort(-expected)[:40]
    assert len(np.intersect1d(best, np.argsort(-scores)[:40])) >= 39
    np.testing.assert_allclose(scores[best], expected[best], rtol=0.1)


def test_the_same_walk_gives_the_same_bits() -> None:
    rng = np.random.default_rng(4)
    edges = [(int(a), int(b), float(w), True) for a, b, w in zip(*rng.integers(0, 300, (3, 2000)), strict=True)]
    graph = Graph(edges, 300, based=1500)
    once, again = (graph.walk({5: 1.0, 7: 2.0}, max_rows=100, max_entries=900) for _ in range(2))
    assert once.rows.tobytes() == again.rows.tobytes()
    assert once.scores.tobytes() == again.scores.tobytes()


def test_rows_and_edges_the_reader_does_not_hold_yet_are_not_entered() -> None:
    edges = [(0, 1, 1.0, True), (0, 2, 1.0, True), (1, 3, 1.0, True)]
    graph = Graph(edges, 4, based=1)
    reached = walk(graph.adjacency, graph.weight[:2], graph.alive[:2], np.array([0]), np.array([1.0]), 4)
    assert sorted(reached.rows.tolist()) == [0, 1, 2]
    graph.n = 2
    assert sorted(graph.walk({0: 1.0, 3: 5.0}).rows.tolist()) == [0, 1]


def test_repeated_seeds_add_up_and_empty_ones_are_passed_over() -> None:
    graph = Graph([(0, 1, 1.0, True)], 3)
    seeds, mass = np.array([2, 0, 2, 1, -1]), np.array([0.1, 0.5, 0.4, 0.0, 9.0])
    reached = walk(graph.adjacency, graph.weight, graph.alive, seeds, mass, 3, hops=0)
    assert reached.rows.tolist() == [0, 2]
    assert reached.scores.tolist() == [0.5, 0.5]


def test_no_seeds_no_edges_no_rows() -> None:
    graph = Graph([], 3)
    for empty in (graph.walk({}), graph.walk({1: 0.0}), Graph([], 0).walk({0: 1.0})):
        assert empty.rows.size == empty.scores.size == 0
        assert empty.rows.dtype == np.int64
        assert empty.scores.dtype == np.float64
    assert graph.walk({2: 1.0}).rows.tolist() == [2]
    assert graph.walk({2: 1.0}).scores.tolist() == [1.0]


def test_an_overlay_entry_is_replaced_as_a_whole() -> None:
    adjacency = build_adjacency(np.array([0]), np.array([1]), 2)
    connect(adjacency, 0, 1, 1)
    held = adjacency.overlay[0]
    connect(adjacency, 2, 0, 2)
    connect(adjacency, 3, 3, 3)
    assert held == ((1, 1),)
    assert adjacency.overlay == {0: ((1, 1), (2, 2)), 1: ((0, 1),), 2: ((0, 2),), 3: ()}
