"""The truth that the search is held against, the simpler ways, and what the figures count, by hand."""

import numpy as np
import pytest

from benchmarks import blindspots
from benchmarks.blindspots import Night
from benchmarks.dream_arrays import MadeEdges, dream_arrays
from benchmarks.evaluation_sets import EvaluationSet, Fact
from dreamsvc import config as configuration
from dreamsvc.dreamer import memories as memory_columns
from dreamsvc.dreamer.memories import NOWHERE, Memories


def memories_of(vectors: object, edges: list[tuple[int, int]]) -> Memories:
    rows = np.asarray(vectors, np.float32)
    ends = np.array(edges, np.int32).reshape(-1, 2)
    ones = np.ones(len(ends))
    made = MadeEdges(ends[:, 0], ends[:, 1], 0.9 * ones, ones, "LINK")
    return memory_columns.read(dream_arrays([""] * len(rows), ["x"] * len(rows), rows, made))


def test_passages_are_linked_if_one_says_the_title_of_the_other_as_it_is_written() -> None:
    titles = ["Oslo", "Mercury (planet)", "Fair Game (film)", "Fair Game (song)", "It", "1984"]
    texts = ["near Mercury", "the oslo accords", "after Oslo", "It was Fair Game", "in 1984", "Osloer"]
    assert blindspots.said_titles(titles, texts).tolist() == [[0, 1], [0, 2]]


def test_a_title_in_a_longer_title_counts() -> None:
    assert blindspots.said_titles(["List of Oslo parks", "Oslo"], ["x", "y"]).tolist() == [[0, 1]]


def test_turns_share_words_with_a_capital_inside_a_sentence_that_few_have() -> None:
    texts = ["Oslo is cold", "we saw Oslo", "to Oslo", *["with Mel"] * 13]
    assert blindspots.shared_names(texts).tolist() == [[1, 2]]


def test_a_turn_is_linked_to_the_two_after_it_in_its_session() -> None:
    sessions = np.array([0, 0, 0, 1, 1, NOWHERE, NOWHERE], np.int32)
    assert sorted(blindspots.next_turns(sessions).tolist()) == [[0, 1], [0, 2], [1, 2], [3, 4]]


def given(name: str) -> EvaluationSet:
    facts = [Fact(f"c/D1:{row}", f"Title{row}", f"see Title{(row + 1) % 40}", "") for row in range(40)]
    return EvaluationSet(name, tuple(facts), (), 512)


def test_half_of_the_links_are_hidden_and_none_is_lost() -> None:
    vectors = np.eye(40, dtype=np.float32)
    night = blindspots.night_of(given("hotpotqa"), vectors, 0.5, bare=False)
    shown = {frozenset(pair) for pair in zip(night.memories.src.tolist(), night.memories.dst.tolist(), strict=True)}
    hidden = {frozenset(pair) for pair in night.hidden.tolist()}
    assert shown | hidden == {frozenset((row, (row + 1) % 40)) for row in range(40)}
    assert len(shown) == len(hidden) == night.reachable == 20


def test_the_bare_memory_lacks_what_makes_the_truth_and_hides_the_same() -> None:
    vectors = np.eye(40, dtype=np.float32)
    whole, bare = (blindspots.night_of(given("hotpotqa"), vectors, 0.5, bare=bare) for bare in (False, True))
    assert (whole.memories.titles[3], bare.memories.titles[3]) == ("Title3", "")
    assert np.array_equal(whole.hidden, bare.hidden)
    chat, timeless = (blindspots.night_of(given("locomo_dev"), vectors, 0.5, bare=bare) for bare in (False, True))
    assert np.array_equal(chat.hidden, timeless.hidden)
    assert (chat.memories.sessions == 0).all()
    assert (timeless.memories.sessions == NOWHERE).all()


def test_precision_is_the_share_of_hidden_links_among_the_first_whichever_end_comes_first() -> None:
    night = Night("hand", memories_of(np.eye(6), []), np.array([[0, 1], [2, 3]]), 2)
    pairs = np.array([[1, 0], [4, 5], [3, 2], [0, 5]])
    assert blindspots.precisions(night, pairs, 2) == (50, 50)
    assert blindspots.precisions(night, pairs, 1) == (50, 100)
    assert blindspots.precisions(night, np.zeros((0, 2), np.int64), 3) == (0, 0)


def test_the_nearest_pairs_are_those_of_the_highest_cosines_that_are_not_linked() -> None:
    memories = memories_of([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], [(0, 1)])
    graph = blindspots.linked_in(memories)
    assert blindspots.nearest_pairs(memories, graph, 2).tolist() == [[2, 3], [1, 3]]


def test_adamic_adar_prefers_what_is_joined_by_few() -> None:
    edges = [(0, 6), (1, 6), (2, 7), (3, 7), (4, 7), (5, 7)]
    graph = blindspots.linked_in(memories_of(np.eye(8), edges))
    found = blindspots.adamic_adar_pairs(graph, 20)
    assert found[0].tolist() == [0, 1]
    assert {tuple(pair) for pair in found.tolist()} == {(0, 1), (2, 3), (2, 4), (2, 5), (3, 4), (3, 5), (4, 5)}


def test_the_literal_rule_joins_the_nearest_and_the_furthest_whose_reach_overlaps() -> None:
    memories = memories_of([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [(0, 2), (1, 2)])
    graph = blindspots.linked_in(memories)
    config = configuration.defaults().dream.rem
    found = blindspots.literal_pairs(memories, graph, np.array([[1, 0, 0]], np.float32), config)
    assert {frozenset(pair) for pair in found.tolist()} == {frozenset((0, 1))}


def test_random_pairs_are_not_linked() -> None:
    graph = blindspots.linked_in(memories_of(np.eye(3), [(0, 1), (1, 2)]))
    assert {frozenset(pair) for pair in blindspots.random_pairs(graph, 5).tolist()} <= {frozenset((0, 2))}


@pytest.mark.parametrize("name", blindspots.SETS)
def test_every_set_has_its_figures(name: str) -> None:
    figures = blindspots.BENCHMARK.figures
    assert {f"precision50_pct_{name}", f"precisionM_pct_{name}", f"finds_per_cycle_{name}"} <= set(figures)
    assert f"precision50_pct_untitled_{name}" in figures
