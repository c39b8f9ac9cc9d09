import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import contract, scoring
from dreamsvc.dreamer import expanding
from dreamsvc.dreamer.expanding import expand
from dreamsvc.dreamer.vocabulary import read_words
from dreamsvc.v1.config_pb2 import LinkingConfig
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_REPLACED
from tests.dreamer.remembered import remembered, result, unit


def made(memories, links=(), rows=None, **settings):
    """By row; links: source, target, weight of this night."""
    config = LinkingConfig(**settings)
    contract.fill(config)
    words = result(read_words(memories, np.flatnonzero(memories.findable)))
    src, dst, weight = (np.array(column, kind) for column, kind in _columns(links))
    wanted = np.arange(len(memories.node_ids)) if rows is None else np.array(rows, np.int64)
    out = result(expand(memories, words, src, dst, weight, wanted, config))
    return {int(np.searchsorted(memories.node_ids, one.node)): one for one in out}


def _columns(links):
    kinds = np.int32, np.int32, np.float32
    return zip(list(zip(*links, strict=True)) if links else ([], [], []), kinds, strict=True)


def gains(expansion) -> dict[str, float]:
    return dict(zip(expansion.words, expansion.gains, strict=True))


def test_a_memory_gets_the_words_of_its_neighbours_by_how_strong_the_edges_are():
    memories = remembered(["red", "green green leaf", "blue"], edges=[(0, 1, "near", 0.9), (2, 0, "near", 0.3)])
    out = made(memories)
    assert gains(out[0]) == pytest.approx({"green": 1.5, "leaf": 0.75, "blue": 0.25})
    # The words that count for most come first: green is said twice.
    assert out[0].words[0] == "green"
    assert gains(out[1]) == pytest.approx({"red": 1.0})
    assert [out[row].node for row in out] == memories.node_ids.tolist()


def test_edges_of_the_night_count_beside_the_living_ones_and_add_up():
    memories = remembered(["red", "green", "blue"], edges=[(0, 1, "near", 0.5)])
    out = made(memories, links=[(1, 0, 0.25), (0, 2, 0.25)])
    assert gains(out[0]) == pytest.approx({"green": 0.75, "blue": 0.25})


def test_dead_edges_and_those_to_a_past_or_a_part_are_not_followed():
    edges = [(0, 1, "near"), (0, 2, "SUPERSEDES"), (0, 3, "ABSTRACTS"), (0, 4, "near"), (0, 0, "near")]
    memories = remembered(["red", "green", "blue", "pink", "grey"], edges=edges, dead_edges=[3])
    out = made(memories)
    assert sorted(out) == [0, 1]
    assert gains(out[0]) == {"green": 1.0}


def test_what_is_retired_neither_gives_nor_gets_words():
    memories = remembered(
        ["red", "green", "blue"],
        edges=[(0, 1, "near"), (0, 2, "near")],
        columns={"roles": [0, MEMORY_ROLE_REPLACED, 0]},
    )
    out = made(memories)
    assert sorted(out) == [0, 2]
    assert gains(out[0]) == {"blue": 1.0}


def test_function_words_are_left_out_and_the_best_words_stay():
    memories = remembered(["red", "the rare rare common the the", *["common"] * 4], edges=[(0, 1, "near")])
    assert gains(made(memories)[0]) == {"rare": 2.0, "common": 1.0}
    assert gains(made(memories, expansion_terms=1)[0]) == {"rare": 2.0}


def test_titles_are_words_of_a_neighbour_too():
    memories = remembered(["red", "green"], edges=[(0, 1, "near")], columns={"titles": ["", "Leaf"]})
    assert gains(made(memories)[0]) == {"leaf": 1.0, "green": 1.0}


def test_vectors_move_half_of_the_way_of_their_neighbours():
    vectors = unit([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    memories = remembered(["a", "b", "c"], vectors=vectors, edges=[(0, 1, "near", 0.6), (0, 2, "near", 0.2)])
    out = made(memories)[0]
    assert out.peers == [memories.node_ids[1], memories.node_ids[2]]
    assert list(out.shares) == pytest.approx([0.375, 0.125])
    assert out.length == pytest.approx(np.linalg.norm([1, 0.375, 0.125]))


def test_the_four_strongest_neighbours_move_a_vector_and_share_the_half():
    edges = [(0, row, "near", row / 10) for row in range(1, 7)]
    vectors = np.eye(7)
    out = made(remembered(["a"] * 7, vectors=vectors, edges=edges))[0]
    assert [place // 10 for place in out.peers] == [6, 5, 4, 3]
    assert list(out.shares) == pytest.approx([0.5 * weight / 18 for weight in (6, 5, 4, 3)])
    assert out.length == pytest.approx(np.sqrt(1 + sum(share**2 for share in out.shares)))


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_recall_sees_the_cosine_with_the_moved_vector(seed):
    rng = np.random.default_rng(seed)
    vectors = unit(rng.standard_normal((5, 6)))
    edges = [(0, row, "near", float(rng.uniform(0.1, 1))) for row in range(1, 5)]
    memories = remembered(["a"] * 5, vectors=vectors, edges=edges)
    one = made(memories)[0]
    peers = np.searchsorted(memories.node_ids, one.peers)
    query = unit(rng.standard_normal((1, 6)))[0]
    cosines = memories.vectors @ query
    rows, shares = np.full((5, 4), -1, np.int32), np.zeros((5, 4), np.float32)
    rows[0], shares[0] = peers, one.shares
    lengths = np.array([one.length, 1, 1, 1, 1], np.float32)
    weights = np.array([edge[3] for edge in edges])
    moved = vectors[0] + 0.5 * weights / weights.sum() @ vectors[1:]
    wanted = max(cosines[0], float(moved @ query / np.linalg.norm(moved)))
    assert scoring.expanded(cosines, scoring.Peers(rows, shares, lengths))[0] == pytest.approx(wanted, abs=1e-5)


def test_who_has_no_vector_moves_nobody_and_is_moved_by_nobody():
    vectors = [[1, 0], [0, 1], [0, 0]]
    texts, edges = ["red", "green", "blue"], [(0, 2, "near", 1.0), (0, 1, "near", 0.1)]
    memories = remembered(texts, vectors=vectors, edges=edges)
    out = made(memories)
    assert (out[0].peers, list(out[0].shares)) == ([memories.node_ids[1]], [0.5])
    assert (out[2].peers, out[2].length) == ([], 1.0)
    assert gains(out[2]) == {"red": 1.0}


def test_only_the_rows_that_are_asked_for_and_are_linked_get_one():
    memories = remembered(["red", "green", "blue"], edges=[(0, 1, "near")])
    assert sorted(made(memories, rows=[1, 2])) == [1]
    assert made(memories, rows=[2]) == {}
    assert made(remembered(["red"])) == {}


def test_words_and_vectors_can_be_left_out():
    memories = remembered(["red", "green"], vectors=[[1, 0], [0, 1]], edges=[(0, 1, "near")])
    assert (made(memories, expand_words=False)[0].words, len(made(memories, expand_words=False)[0].peers)) == ([], 1)
    assert (made(memories, expand_vectors=False)[0].peers, made(memories, expand_vectors=False)[0].length) == ([], 1.0)
    assert made(memories, expand_words=False, expand_vectors=False) == {}


def test_of_a_hub_the_strongest_neighbours_count(monkeypatch):
    monkeypatch.setattr(expanding, "NEIGHBOURS", 2)
    edges = [(0, row, "near", row / 10) for row in range(1, 6)]
    texts = ["hub", *(f"word{row}" for row in range(1, 6))]
    assert gains(made(remembered(texts, edges=edges))[0]) == pytest.approx({"word5": 5 / 9, "word4": 4 / 9})
    monkeypatch.setattr(expanding, "HUB", 3)
    assert gains(made(remembered(texts, edges=edges))[0]) == pytest.approx({"word5": 5 / 9, "word4": 4 / 9})


def test_of_long_neighbours_the_beginnings_are_read(monkeypatch):
    monkeypatch.setattr(expanding, "READ_OF_ONE", 4)
    texts = ["x", "a1 a2 a3 a4", "b1 b2 b3 b4"]
    edges = [(0, 1, "near"), (0, 2, "near")]
    assert sorted(made(remembered(texts, edges=edges))[0].words) == ["a1", "a2", "b1", "b2"]


def test_rows_worked_on_together_get_what_they_get_alone(monkeypatch):
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(list("abcdefghij"), 6)) for _ in range(40)]
    edges = [(*rng.choice(40, 2, replace=False).tolist(), "near", float(rng.uniform(0.1, 1))) for _ in range(80)]
    memories = remembered(texts, vectors=rng.standard_normal((40, 4)), edges=edges)
    together = made(memories)
    assert len(together) > 30
    monkeypatch.setattr(expanding, "ROWS", 1)
    for row, one in made(memories).items():
        assert (one.words, one.peers) == (together[row].words, together[row].peers)
        assert list(one.gains) == pytest.approx(list(together[row].gains))
        assert one.length == pytest.approx(together[row].length)
