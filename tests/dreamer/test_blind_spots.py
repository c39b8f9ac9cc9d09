import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import contract
from dreamsvc.dreamer import blind_spots, spot_candidates
from dreamsvc.dreamer.blind_spots import find_blind_spots
from dreamsvc.dreamer.exploring import Explored
from dreamsvc.dreamer.link_scores import LinkScorer
from dreamsvc.dreamer.reach import graph_of, walked_edges
from dreamsvc.dreamer.spot_candidates import Candidates
from dreamsvc.dreamer.spot_evidence import judge
from dreamsvc.dreamer.text_evidence import read_texts
from dreamsvc.v1.config_pb2 import RemConfig
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER, MEMORY_ROLE_FACET
from tests.dreamer.remembered import remembered, result

MINUTE = 60_000_000


def config_of(**settings):
    config = RemConfig(**settings)
    contract.fill(config)
    return config


def walks(*nearest, paths=None, dimension=2):
    """Walks that ended near these rows; each a step from the centre to its number / 10."""
    near = np.full((len(nearest), 8), -1, np.int32)
    for walk, rows in enumerate(nearest):
        near[walk, : len(rows)] = rows
    if paths is None:
        paths = np.zeros((len(nearest), 2, dimension), np.float32)
        paths[:, 1, 0] = np.arange(len(nearest)) / 10
    origins = np.array([rows[0] if len(rows) else 0 for rows in nearest], np.int32)
    return Explored(origins, np.asarray(paths, np.float32), np.zeros((len(nearest), 4), np.float32), near)


def found(memories, explored=None, *, points=None, links=(), seed=1, **settings):
    explored = walks([0]) if explored is None else explored
    points = np.full((len(memories.node_ids), 2), np.nan, np.float32) if points is None else points
    ends = np.array(links, np.int32).reshape(-1, 2)
    return result(
        find_blind_spots(memories, explored, points, ends[:, 0], ends[:, 1], config_of(**settings), seed=seed)
    )


def pairs(spots):
    return {(min(spot.source, spot.target), max(spot.source, spot.target)) for spot in spots}


# Each as far from the others as a right angle.
APART = np.eye(4)


def test_a_title_in_a_far_text_is_verified_and_told_in_words():
    memories = remembered(["x", "we went to Oslo", "y", "z"], vectors=APART, columns={"titles": ["Oslo", "", "", ""]})
    out = found(memories)
    (spot,) = out.verified
    assert (spot.source, spot.target) == (0, 1)
    assert spot.distance == pytest.approx(1)
    assert spot.evidence[0] == 'its title "Oslo" is said in the other'
    assert 0.85 <= spot.confidence <= 1
    assert spot.score > 0
    assert (out.candidates, out.dismissed, out.hypotheses, out.texts_read) == (1, {}, [], 4)


def test_what_lies_near_is_linked_or_was_rejected_is_dismissed_and_counted():
    texts = ["x", "to Oslo", "in Oslo", "at Oslo", "from Oslo", "via Oslo"]
    vectors = [[1, 0, 0, 0], [0.9, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 1, 0]]
    columns = {"titles": ["Oslo", *[""] * 5], "rejected": [[3, 0]]}
    memories = remembered(texts, vectors=vectors, edges=[(2, 0, "a", 0.1)], columns=columns)
    out = found(memories, links=[(4, 0)])
    assert (0, 5) in pairs(out.verified)
    assert not {(0, 1), (0, 2), (0, 3), (0, 4)} & pairs([*out.verified, *out.hypotheses])
    assert {"near", "linked", "rejected_before"} <= out.dismissed.keys()
    assert out.candidates == len(out.verified) + len(out.hypotheses) + sum(out.dismissed.values())


def test_the_distance_is_as_configured():
    texts = ["x", "to Oslo", "y", "z"]
    vectors = [[1, 0, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    memories = remembered(texts, vectors=vectors, columns={"titles": ["Oslo", "", "", ""]})
    assert found(memories).dismissed == {"near": 1}
    assert pairs(found(memories, min_semantic_leap=0.39).verified) == {(0, 1)}


def test_what_only_structure_speaks_for_is_a_hypothesis():
    edges = [(0, 2, "a", 0.9), (1, 2, "a", 0.9), (0, 3, "a", 0.5), (3, 1, "a", 0.8)]
    columns = {"titles": ["", "", "Hub", ""]}
    memories = remembered(
        ["ask", "tell", "hub", "a long way to say that this is between the two"],
        vectors=APART,
        edges=edges,
        columns=columns,
    )
    out = found(memories)
    spot = next(spot for spot in out.hypotheses if {spot.source, spot.target} == {0, 1})
    assert spot.overlap == pytest.approx(1 - (1 - 0.81) * (1 - 0.4))
    assert spot.meeting == [2, 3]
    assert spot.evidence == ['meet at "Hub", "a long way to say that this is between…"']
    assert out.verified == []
    assert spot.confidence < 0.5
    assert found(memories, min_causal_overlap=0.99).hypotheses == []


def test_paths_longer_than_the_depth_do_not_meet(monkeypatch):
    monkeypatch.setattr(spot_candidates, "BY_REACH", 5)
    line = [(row, row + 1, "a", 0.9) for row in range(4)]
    memories = remembered(["x"] * 5, vectors=np.eye(5), edges=line)
    assert (0, 4) in pairs(found(memories).hypotheses)
    assert (0, 4) not in pairs(found(memories, max_causal_depth=2).hypotheses)


def test_common_names_alone_are_no_evidence_and_rare_ones_are():
    texts = ["he met Lester Smith", "she knows Lester Smith", *["to Kowloon"] * 2, *["by Kowloon"] * 4]
    memories = remembered(texts, vectors=np.eye(8))
    out = found(memories, walks([0, 2]))
    assert pairs(out.verified) == {(0, 1)}
    assert out.dismissed["no_evidence"] >= 5
    assert out.verified[0].evidence == ['both name "Lester Smith" (2 memories)']


def test_neighbours_in_one_session_are_verified_with_the_time_between_them():
    # 0 and 1 are told after each other, 2 stands between 1 and 3; 4 is of another session.
    edges = [(0, 1, "a", 0.0), (0, 5, "a", 0.9), (1, 5, "a", 0.9), (3, 5, "a", 0.9), (4, 5, "a", 0.9)]
    columns = {
        "sessions": [7, 7, 7, 7, 8, -1],
        "event_us": [0, 3 * MINUTE, 5 * MINUTE, 6 * MINUTE, 1 * MINUTE, 2 * MINUTE],
    }
    memories = remembered(["x"] * 6, vectors=np.eye(6), edges=edges, columns=columns)
    out = found(memories, walks([1]))
    assert pairs(out.verified) == {(1, 3)}
    assert "told 3 minutes apart in one session" in out.verified[0].evidence
    assert {(0, 3), (1, 4), (3, 4)} & pairs(out.hypotheses)


def test_rows_in_one_container_are_together_already():
    roles = [MEMORY_ROLE_FACET, MEMORY_ROLE_FACET, MEMORY_ROLE_CONTAINER, 0]
    columns = {"titles": ["Oslo", "", "", ""], "roles": roles, "merged_into": [2, 2, -1, -1]}
    memories = remembered(["x", "to Oslo", "box", "z"], vectors=APART, columns=columns)
    out = found(memories)
    assert (out.verified, out.dismissed) == ([], {"together": 1})


def test_the_walk_that_ended_nearest_to_the_target_is_told():
    memories = remembered(["x", "to Oslo", "y", "z"], vectors=APART, columns={"titles": ["Oslo", "", "", ""]})
    points = np.array([[0, 0], [0.2, 0], [0, 0], [0, 0]], np.float32)
    explored = walks([0], [0], [0], [2])
    (spot,) = found(memories, explored, points=points).verified
    assert np.array_equal(spot.walk, explored.paths[2])
    unplaced = np.full((4, 2), np.nan, np.float32)
    (spot,) = found(memories, explored, points=unplaced).verified
    assert np.array_equal(spot.walk, explored.paths[0])


def test_where_walks_lead_to_nothing_important_memories_are_started_from_without_a_walk():
    memories = remembered(["x", "to Oslo", "y", "z"], vectors=APART, columns={"titles": ["Oslo", "", "", ""]})
    (spot,) = found(memories, walks([3])).verified
    assert {spot.source, spot.target} == {0, 1}
    assert spot.walk.shape == (0, 2)


def test_starts_come_from_every_walk_before_any_gives_its_second_and_then_by_importance():
    columns = {"importance": [0.1, 0.2, 0.3, 0.9, 0.5, 0.5], "alive": [1, 1, 1, 1, 1, 0]}
    memories = remembered(["x"] * 6, vectors=np.eye(6), columns=columns)
    starts = result(spot_candidates.start_rows(memories, walks([1, 2], [0, 5])))
    assert starts.tolist() == [1, 0, 2, 3, 4]


def test_at_most_so_many_candidates_are_looked_at_closely(monkeypatch):
    monkeypatch.setattr(spot_candidates, "CANDIDATES_EACH", 3)
    memories = remembered(["x", *["to Oslo"] * 6], vectors=np.eye(7), columns={"titles": ["Oslo", *[""] * 6]})
    out = found(memories)
    assert len(out.verified) + len(out.hypotheses) <= 6
    monkeypatch.setattr(blind_spots, "CANDIDATES_EACH", 2)
    assert len(found(memories).verified) == 2


def test_finds_are_ranked_by_evidence_and_distance():
    texts = ["x", "to Oslo with Lester Smith", "to Oslo", "by Oslo", "about Lester Smith"]
    vectors = [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0.4, 0, 0, 0.9, 0], [0, 0, 0, 0, 1]]
    memories = remembered(texts, vectors=vectors, columns={"titles": ["Oslo", "", "", "", ""]})
    out = found(memories, walks([0, 1]))
    assert [spot.score for spot in out.verified] == sorted((spot.score for spot in out.verified), reverse=True)
    at = {tuple(sorted((spot.source, spot.target))): place for place, spot in enumerate(out.verified)}
    assert at[0, 2] < at[0, 3]  # as much evidence, further away
    assert at[0, 2] < at[1, 4]  # as far away, more evidence


def test_without_edges_there_is_no_null_model_and_without_memories_nothing_at_all():
    assert not found(remembered(["x", "y"], vectors=np.eye(2))).null.measured
    out = found(remembered([]), walks())
    assert (out.verified, out.hypotheses, out.candidates, out.dismissed) == ([], [], 0, {})


def grouped(seed=0, groups=20, each=8):
    """Groups that are densely linked and share rare names in half of their pairs, no title, vectors by chance."""
    rng = np.random.default_rng(seed)
    n = groups * each
    names = [f"Alpha Beta{chr(97 + group)}x{group}" for group in range(groups)]
    texts = [f"the thing {row} by {names[row // each]}" if row % 2 else "nothing" for row in range(n)]
    every = [
        (group * each + one, group * each + two, "a", 0.7)
        for group in range(groups)
        for one, two in itertools.combinations(range(each), 2)
        if rng.random() < 0.5
    ]
    return remembered(texts, vectors=rng.standard_normal((n, 16)), edges=every)


def test_structure_that_agrees_with_texts_beats_a_shuffled_graph():
    memories = grouped()
    out = found(memories, walks(*[[row] for row in range(0, 160, 2)]))
    null = out.null
    assert null.measured
    assert null.found > 3 * null.found_shuffled
    assert null.overlap > 2 * null.overlap_shuffled


def test_a_link_score_verifies_only_beside_reach_that_overlaps_and_not_within_a_session():
    # 0 and 1 meet at 4, 2 and 3 at 5 but weakly, 6 and 7 at 4 and are of one session.
    edges = [(0, 4, "a", 0.9), (1, 4, "a", 0.9), (2, 5, "a", 0.5), (3, 5, "a", 0.5), (6, 4, "a", 0.9), (7, 4, "a", 0.9)]
    columns = {"sessions": [-1, -1, -1, -1, -1, -1, 3, 3]}
    memories = remembered(["x"] * 8, vectors=np.eye(8), edges=edges, columns=columns)
    graph = result(graph_of(result(walked_edges(memories)).edges, 8))
    evidence = result(read_texts(memories))
    pairs = Candidates(np.array([0, 2, 6]), np.array([1, 3, 7]), np.ones(3, np.float32), Counter())
    sure = LinkScorer.unknown()._replace(usable=True, bias=3.0, bar=0.9)
    scores = result(judge(memories, graph, evidence, pairs, sure, config_of())).linked.tolist()
    assert scores == [pytest.approx(1 / (1 + np.exp(-3))), 0, 0]
    for other in (sure._replace(bar=0.96), sure._replace(usable=False)):
        judged = result(judge(memories, graph, evidence, pairs, other, config_of()))
        assert judged.linked.tolist() == [0, 0, 0]
    assert result(judge(memories, graph, evidence, pairs, sure, config_of())).verified().tolist() == [True, False, True]


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_whatever_the_memory_finds_are_far_unlinked_and_within_bounds(seed):
    rng = np.random.default_rng(seed)
    n = 30
    words = ["Oslo", "Lester Smith", "Kowloon", "nothing", "GitHub", "Ulysses"]
    texts = [" and then ".join(rng.choice(words, 2)) for _ in range(n)]
    titles = [str(rng.choice(["", "Oslo", "Kowloon", "Ulysses", "GitHub (site)"])) for _ in range(n)]
    edges = [
        (int(a), int(b), "a", float(w)) for a, b, w in zip(*rng.integers(0, n, (2, 40)), rng.random(40), strict=True)
    ]
    columns = {"titles": titles, "rejected": rng.integers(0, n, (5, 2)), "alive": rng.random(n) > 0.1}
    memories = remembered(texts, vectors=rng.standard_normal((n, 6)), edges=edges, columns=columns)
    explored = walks(*rng.integers(0, n, (4, 3)).tolist())
    out = found(memories, explored, seed=seed)
    every = [*out.verified, *out.hypotheses]
    assert len(pairs(every)) == len(every)
    banned = pairs_of(memories.rejected) | {
        pair
        for pair, alive in zip(zip(memories.src, memories.dst, strict=True), memories.edges_alive, strict=True)
        if alive and memories.alive[list(pair)].all()
    }
    for spot in every:
        assert spot.source != spot.target
        assert memories.alive[[spot.source, spot.target]].all()
        assert spot.distance >= 0.5
        assert 0 <= spot.confidence <= 1
        assert 0 <= spot.overlap <= 1
        assert (spot.source, spot.target) not in banned
        assert (spot.target, spot.source) not in banned
    assert all(spot.evidence for spot in out.verified)
    assert all(spot.overlap >= 0.3 for spot in out.hypotheses)
    assert out.candidates == len(every) + sum(out.dismissed.values())
    again = found(memories, explored, seed=seed)
    assert [spot._replace(walk=None) for spot in again.verified] == [spot._replace(walk=None) for spot in out.verified]
    assert again.dismissed == out.dismissed


def pairs_of(rows):
    return {(int(a), int(b)) for a, b in rows}
