import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc.dreamer import reach
from dreamsvc.dreamer.merging import Edges
from dreamsvc.dreamer.reach import graph_of, overlap_of, reach_of, shuffled, walked_edges
from tests.dreamer.remembered import remembered, result


def edges_of(*edges):
    src, dst, weight = zip(*edges, strict=True) if edges else ((), (), ())
    return Edges(np.array(src, np.int64), np.array(dst, np.int64), np.array(weight, np.float32))


def graph(n, *edges):
    return result(graph_of(edges_of(*edges), n))


def reached(graph, start, hops):
    found = result(reach_of(graph, np.array([start]), hops))
    return dict(zip(found.row.tolist(), found.strength.tolist(), strict=True))


def overlap(graph, left, right, hops=2):
    reach = result(reach_of(graph, np.unique([left, right]), hops))
    found = result(overlap_of(reach, np.array([left]), np.array([right]), graph.n))
    return float(found.overlap[0]), found.meeting.tolist()


# A diamond: 0 to 3 by way of 1 (0.5 x 0.8) and of 2 (0.9 x 0.4), and on to 4.
DIAMOND = [(0, 1, 0.5), (3, 1, 0.8), (0, 2, 0.9), (2, 3, 0.4), (3, 4, 0.5)]


def test_reach_is_the_product_along_the_best_path_in_either_direction():
    found = graph(6, *DIAMOND)
    assert reached(found, 0, 1) == {1: pytest.approx(0.5), 2: pytest.approx(0.9)}
    assert reached(found, 0, 2) == {1: pytest.approx(0.5), 2: pytest.approx(0.9), 3: pytest.approx(0.4)}
    assert reached(found, 0, 3)[4] == pytest.approx(0.2)
    assert reached(found, 5, 4) == {}


def test_overlap_counts_every_row_at_which_both_meet_but_the_ends():
    share, meeting = overlap(graph(6, *DIAMOND), 0, 3, hops=1)
    assert share == pytest.approx(1 - (1 - 0.4) * (1 - 0.36))
    assert meeting == [1, 2]  # the strongest first
    assert overlap(graph(6, *DIAMOND), 0, 5) == (0.0, [])


def test_two_hops_from_each_side_meet_in_the_middle_of_four():
    line = graph(5, *[(row, row + 1, 0.9) for row in range(4)])
    assert overlap(line, 0, 4) == (pytest.approx(0.81**2), [2])
    assert overlap(line, 0, 4, hops=1) == (0.0, [])


def test_only_the_strongest_edges_of_a_row_are_followed(monkeypatch):
    monkeypatch.setattr(reach, "STRONGEST", 2)
    found = graph(5, (0, 1, 0.1), (0, 2, 0.9), (0, 3, 0.8), (0, 4, 0.5))
    assert set(reached(found, 0, 1)) == {2, 3}
    assert found.are_linked(np.array([0, 1, 1]), np.array([1, 0, 2])).tolist() == [True, True, False]
    assert found.degrees(np.array([0, 1])).tolist() == [4, 1]


def test_only_the_strongest_rows_are_kept_and_followed(monkeypatch):
    monkeypatch.setattr(reach, "FRONTIER", 1)
    found = graph(5, (0, 1, 0.9), (0, 2, 0.8), (1, 3, 0.5), (2, 4, 0.9))
    # 2 is reached, but not followed to 4.
    assert set(reached(found, 0, 2)) == {1, 2, 3}
    assert result(reach_of(found, np.array([0]), 2, most=1)).row.tolist() == [1]


def test_edges_between_the_same_rows_add_up_to_one_at_most():
    found = graph(3, (0, 1, 0.4), (1, 0, 0.3), (1, 2, 0.8), (1, 2, 0.8))
    assert reached(found, 1, 1) == {0: pytest.approx(0.7), 2: pytest.approx(1.0)}


def test_strength_is_weight_times_confidence_of_living_edges_that_are_steps():
    edges = [(0, 1, "a", 0.5, 0.5), (1, 2, "a"), (2, 3, "SUPERSEDES"), (3, 4, "a"), (4, 4, "a")]
    memories = remembered(["x"] * 5, edges=edges, dead_edges=[1], columns={"alive": [1, 1, 1, 1, 0]})
    walked = result(walked_edges(memories))
    assert walked.edges.weight.tolist() == [0.25, 0.0]
    assert walked.places.tolist() == [0, 2]
    found = result(graph_of(walked.edges, 5))
    assert found.are_linked(np.array([3]), np.array([2])).tolist() == [True]
    assert reached(found, 2, 2) == {}


def test_a_graph_without_edges_reaches_nothing():
    assert reached(graph(3), 0, 2) == {}
    assert overlap(graph(3), 0, 2) == (0.0, [])


edge = st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(0.0625, 1.0, width=32))


@settings(deadline=None, max_examples=30)
@given(st.lists(edge, max_size=25), st.integers(1, 3))
def test_reach_agrees_with_products_over_all_paths(edges, hops):
    edges = [one for one in {(min(a, b), max(a, b)): (a, b, w) for a, b, w in edges}.values() if one[0] != one[1]]
    table = np.zeros((10, 10), np.float32)
    for a, b, weight in edges:
        table[a, b] = table[b, a] = weight
    best = np.eye(10, dtype=np.float32)
    for _ in range(hops):
        best = np.maximum(best, (best[:, :, None] * table[None]).max(axis=1))
    found = graph(10, *edges)
    for start in range(10):
        row = {at: pytest.approx(float(best[start, at])) for at in range(10) if at != start and best[start, at] > 0}
        assert reached(found, start, hops) == row


@settings(deadline=None, max_examples=30)
@given(st.lists(edge, max_size=40), st.integers(0, 2**32 - 1))
def test_a_shuffle_keeps_who_has_how_many_edges_within_each_kind(edges, seed):
    given_edges = edges_of(*[one for one in edges if one[0] != one[1]])
    kinds = np.arange(len(given_edges.src)) % 2
    found = result(shuffled(given_edges, kinds, seed=seed))
    assert not (found.src == found.dst).any()
    assert np.array_equal(found.dst, result(shuffled(given_edges, kinds, seed=seed)).dst)
    # What would have been a loop is left out; nothing else is lost or new.
    lost = np.bincount(given_edges.dst, minlength=10) - np.bincount(found.dst, minlength=10)
    assert (lost >= 0).all()
    assert np.array_equal(lost, np.bincount(given_edges.src, minlength=10) - np.bincount(found.src, minlength=10))


def test_a_shuffle_moves_targets():
    line = edges_of(*[(row, row + 100, 1.0) for row in range(100)])
    found = result(shuffled(line, np.zeros(100, np.int32), seed=1))
    assert np.array_equal(np.sort(found.dst), line.dst)
    assert np.count_nonzero(found.dst == line.dst) < 10
