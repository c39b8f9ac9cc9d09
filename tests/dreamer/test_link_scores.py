import numpy as np
import pytest

from dreamsvc.dreamer.link_scores import FEATURES, area, common_neighbours, features_of, learn
from dreamsvc.dreamer.reach import graph_of, walked_edges
from dreamsvc.dreamer.text_evidence import read_texts
from tests.dreamer.remembered import remembered, result


def learned(memories, *, shown=None, leap=0.0, seed=3):
    walked = result(walked_edges(memories))
    graph = result(graph_of(walked.edges, len(memories.node_ids)))
    evidence = result(read_texts(memories))
    shown = np.ones(len(walked.places), np.bool_) if shown is None else shown
    return result(learn(memories, walked.edges, shown, graph, evidence, hops=2, leap=leap, seed=seed))


def clustered(*, links=300, n=120, meaningful=True):
    """Links within groups of ten, whose vectors are alike; or between anybody."""
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((n // 10, 16)).repeat(10, axis=0) + 0.5 * rng.standard_normal((n, 16))
    left = rng.integers(0, n, links)
    right = (left // 10 * 10 + rng.integers(0, 10, links)) if meaningful else rng.integers(0, n, links)
    edges = [(int(a), int(b), "link", 0.8) for a, b in zip(left, right, strict=True) if a != b]
    return remembered(["nothing"] * n, vectors=vectors, edges=edges)


def test_links_that_follow_a_rule_are_told_from_others():
    scorer = learned(clustered(n=300, links=1000))
    assert scorer.usable
    assert scorer.auc > 0.8
    assert 0.5 <= scorer.bar <= 1


def test_links_without_a_rule_teach_nothing_of_use():
    scorer = learned(clustered(meaningful=False, links=400))
    assert scorer.links > 100
    assert scorer.auc < 0.7
    assert not scorer.usable


def test_nothing_is_learned_from_few_links_or_from_near_ones_where_far_ones_are_asked_about():
    few = learned(clustered(links=90))
    assert (few.usable, few.auc) == (False, 0.0)
    assert 0 < few.links < 100
    assert learned(clustered(), leap=1.9).links == 0


def test_only_shown_links_are_learned_from():
    memories = clustered()
    shown = np.zeros(int((memories.src != memories.dst).sum()), np.bool_)
    shown[:50] = True
    assert learned(memories, shown=shown).links <= 50


def test_the_same_seed_learns_the_same():
    one, two, other = (learned(clustered(), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.weights, two.weights)
    assert not np.array_equal(one.weights, other.weights)


def test_features_are_worked_out_by_hand():
    # 0 and 2 are joined by 1; 0 also has 3, so it is linked to 2 rows, and 1 too.
    hour = 3_600_000_000
    columns = {"titles": ["Oslo", "", "", ""], "event_us": [0, 0, hour, -1], "sessions": [4, 1, 4, 4]}
    texts = ["x Lester Smith", "y", "to Oslo with Lester Smith", "z"]
    vectors = [[1, 0], [0, 1], [0.6, 0.8], [1, 1]]
    edges = [(0, 1, "a", 0.5), (1, 2, "a", 0.5), (0, 3, "a", 0.5)]
    memories = remembered(texts, vectors=vectors, edges=edges, columns=columns)
    graph = result(graph_of(result(walked_edges(memories)).edges, 4))
    evidence = result(read_texts(memories))
    pairs = np.array([0, 2]), np.array([2, 3])
    found = result(features_of(memories, graph, evidence, *pairs, np.array([0.25, 0.0], np.float32)))
    assert found.shape == (2, len(FEATURES))
    degrees = np.log1p(2) + np.log1p(1)
    assert found[0].tolist() == pytest.approx([1, 0.6 * 3 + 1, 0.6, 0.25, 1 / np.log(3), degrees, 1.5])
    assert found[1].tolist() == pytest.approx([0, 0, 1.4 / np.sqrt(2), 0, 0, 2 * np.log1p(1), 1])


def test_an_edge_between_the_two_does_not_count_as_degree():
    memories = remembered(["x", "y"], vectors=[[1, 0], [0, 1]], edges=[(0, 1, "a")])
    graph = result(graph_of(result(walked_edges(memories)).edges, 2))
    evidence = result(read_texts(memories))
    found = result(features_of(memories, graph, evidence, np.array([0]), np.array([1]), np.zeros(1, np.float32)))
    assert found[0, FEATURES.index("degree")] == 0


def test_common_neighbours_count_less_the_more_they_are_linked_to():
    edges = [(0, 2, "a"), (1, 2, "a"), (0, 3, "a"), (1, 3, "a"), (3, 4, "a"), (3, 5, "a")]
    memories = remembered(["x"] * 6, edges=edges)
    graph = result(graph_of(result(walked_edges(memories)).edges, 6))
    found = common_neighbours(graph, np.array([0, 4]), np.array([1, 2]))
    assert found.tolist() == pytest.approx([1 / np.log(3) + 1 / np.log(5), 0])


def test_the_area_under_the_curve_counts_ties_half():
    assert area(np.array([0.9, 0.5]), np.array([0.1, 0.5])) == (1 + 1 + 1 + 0.5) / 4
    assert area(np.array([0.5]), np.array([])) == 0.5
