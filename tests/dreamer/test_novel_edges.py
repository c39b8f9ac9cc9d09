import numpy as np
import pytest

from dreamsvc import contract
from dreamsvc.dreamer.blind_spots import Spots
from dreamsvc.dreamer.link_scores import LinkScorer
from dreamsvc.dreamer.novel_edges import NovelEdge, gate, most_new, novel_edges
from dreamsvc.dreamer.reading_index import index_before
from dreamsvc.dreamer.spot_telling import Spot
from dreamsvc.v1.config_pb2 import RecallConfig, RemConfig
from dreamsvc.v1.dream_pb2 import NullModel
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_FACET
from tests.dreamer.remembered import remembered, result

NO_LINKS = (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))


def config_of(**settings):
    config = RemConfig(**settings)
    contract.fill(config)
    return config


def spot(source, target, score, evidence=("because",)):
    return Spot(source, target, 0.8, 0.1, 0.6, score, list(evidence), [], np.zeros((0, 2), np.float32))


def spots(verified, hypotheses=()):
    return Spots(list(verified), list(hypotheses), 9, {}, NullModel(), LinkScorer.unknown(), 9)


def test_verified_finds_become_edges_as_configured_and_hypotheses_do_not():
    memories = remembered(["x"] * 6)
    found = spots([spot(0, 1, 3, ["said", "told"]), spot(2, 3, 2)], [spot(4, 5, 9)])
    config = config_of(new_edge_weight=0.4, new_edge_confidence=0.6)
    assert novel_edges(memories, found, config, most=9) == [
        NovelEdge(0, 1, 0.4, 0.6, "DREAM_DISCOVERED", "said; told"),
        NovelEdge(2, 3, 0.4, 0.6, "DREAM_DISCOVERED", "because"),
    ]
    plain = novel_edges(memories, found, config_of(), most=1)
    assert [(edge.source, edge.weight, edge.confidence) for edge in plain] == [(0, 0.3, 0.5)]


def test_no_edge_ends_where_recall_finds_nothing():
    memories = remembered(["x"] * 4, columns={"alive": [1, 1, 1, 0]})
    assert [
        edge.source for edge in novel_edges(memories, spots([spot(2, 3, 3), spot(0, 1, 2)]), config_of(), most=9)
    ] == [0]


def test_one_memory_gets_three_edges_at_most_and_the_next_finds_have_room():
    memories = remembered(["x"] * 8)
    star = [spot(0, other, 9 - other) for other in range(1, 6)]
    made = novel_edges(memories, spots([*star, spot(6, 7, 0.5)]), config_of(), most=9)
    assert [(edge.source, edge.target) for edge in made] == [(0, 1), (0, 2), (0, 3), (6, 7)]


def test_the_cap_is_two_percent_of_the_active_memories_and_at_least_fifty_or_as_configured():
    assert most_new(remembered(["x"] * 100), config_of()) == 50
    assert most_new(remembered(["x"] * 4000), config_of()) == 80
    facets = [MEMORY_ROLE_FACET] * 1000 + [0] * 3000
    assert most_new(remembered(["x"] * 4000, columns={"roles": facets}), config_of()) == 60
    assert most_new(remembered(["x"] * 4000), config_of(max_new_edges=7)) == 7


def crowd(seed=0, pairs=60):
    """Trusted edges between memories that have nothing to do with each other: 2 i and 2 i + 1."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((2 * pairs, 32))
    return remembered(["x"] * (2 * pairs), vectors=vectors, edges=[(2 * i, 2 * i + 1, "a", 0.8) for i in range(pairs)])


def judged(memories, edges, links=NO_LINKS, seed=2, **settings):
    recall = RecallConfig(**settings)
    contract.fill(recall)
    index = result(index_before(memories))
    stands = np.arange(len(memories.node_ids), dtype=np.int32)
    return result(gate(memories, edges, *links, index, stands, recall, seed=seed))


def edge(source, target, weight=0.3):
    return NovelEdge(source, target, weight, 0.5, "DREAM_DISCOVERED", "")


def test_edges_that_lead_from_one_end_to_the_other_are_kept():
    # Hidden are the trusted edges with all that joins the same ends, so the ways lead over two other memories.
    n = len(crowd().node_ids)
    vectors = np.concatenate([crowd().vectors, np.random.default_rng(1).standard_normal((n, 32))])
    trusted = [(2 * i, 2 * i + 1, "a", 0.8) for i in range(n // 2)]
    memories = remembered(["x"] * (2 * n), vectors=vectors, edges=trusted)
    ways = [edge(end, n + middle, 1.0) for end in range(n) for middle in (end // 2 * 2, end // 2 * 2 + 1)]
    lift, refused = judged(memories, ways, walk_weight=2)
    assert lift.measured
    assert lift.pairs >= 20
    assert lift.lift_points > 0
    assert not refused


def test_edges_that_lead_away_from_what_belongs_together_are_refused():
    memories = crowd(pairs=40)
    rng = np.random.default_rng(4)
    # Links of this night lead from every end over a middle to the other; the novel edges lead everywhere else.
    n = len(memories.node_ids)
    wide = remembered(
        ["x"] * (n + 40),
        vectors=np.concatenate([memories.vectors, rng.standard_normal((40, 32))]),
        edges=[(2 * i, 2 * i + 1, "a", 0.8) for i in range(40)],
    )
    src = np.array([end for i in range(40) for end in (2 * i, 2 * i + 1)], np.int32)
    links = src, (n + src // 2).astype(np.int32), np.full(len(src), 0.3, np.float32)
    stray = [edge(int(a), int(b), 1.0) for a in range(n) for b in rng.integers(0, n, 12) if a // 2 != b // 2]
    lift, refused = judged(wide, stray, links)
    assert lift.measured
    assert lift.lift_points < 0
    assert refused
    assert not judged(wide, [], links)[1]


def test_what_cannot_be_measured_is_not_refused():
    memories = crowd(pairs=8)
    lift, refused = judged(memories, [edge(0, 3)])
    assert (lift.measured, refused) == (False, False)


def test_the_same_seed_measures_the_same():
    memories = crowd()
    edges = [edge(0, 3), edge(5, 8)]
    assert judged(memories, edges) == judged(memories, edges)
    assert judged(memories, [])[0].lift_points == pytest.approx(0)
