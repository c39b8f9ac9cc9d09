import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import config as configs
from dreamsvc.dreamer import consolidation
from dreamsvc.dreamer.consolidation import Cluster, Plan
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.readings import Readings
from dreamsvc.dreamer.refusals import Refusals
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import MERGE_STAGE_CONSERVATIVE, MERGE_STAGE_TOPIC
from dreamsvc.v1.memory_pb2 import (
    MEMORY_ROLE_CONTAINER,
    MEMORY_ROLE_FACET,
    MEMORY_ROLE_FOLDED,
    MEMORY_ROLE_UNSPECIFIED,
)
from tests.dreamer.remembered import remembered, result, unit

# Stories of eight words each that share none: however near their vectors are, nothing speaks against a pair.
WORDS = ["".join(letters) for letters in itertools.product("bdfgl", "aeiou", "kpvz", "aiu", "k")]
STORIES = [" ".join(WORDS[8 * number : 8 * number + 8]) for number in range(len(WORDS) // 8)]


def plan(
    memories: Memories, *, gone=(), ratio=10.0, min_active=2, seed=0, refusals: Refusals | None = None, **changes
) -> Plan:
    config: DreamConfig = configs.defaults().dream
    for name, value in changes.items():
        setattr(config.consolidation, name, value)
    config.quality.target_compression_ratio = ratio
    flags = np.zeros(len(memories.node_ids), np.bool_)
    flags[list(gone)] = True
    search = consolidation.plan(
        *(memories, Readings(memories), flags, config.consolidation, config.quality),
        *(min_active, refusals or Refusals()),
        seed=seed,
    )
    return result(search)


def numbered(count: int) -> list[str]:
    """More texts than there are stories, of words drawn anew."""
    rng = np.random.default_rng(count)
    return [" ".join(rng.choice(WORDS, 12, replace=False)) for _ in range(count)]


def rows(found: Plan) -> list[list[int]]:
    return [cluster.rows.tolist() for cluster in found.clusters]


def around(centre: int, count: int, spread: float, dim: int = 12, seed: int = 0) -> np.ndarray:
    """Rows around one axis, each off it by `spread` in a direction of its own."""
    rng = np.random.default_rng((seed, centre))
    away = rng.standard_normal((count, dim))
    away[:, centre] = 0
    return unit(np.eye(dim)[centre] + spread * unit(away))


def tied(members, weight=0.9):
    return [(a, b, "RELATED", weight) for a in members for b in members if a < b]


def compressed(texts, facets: dict[int, int], *, folded: dict[int, int] | None = None, **changes) -> Memories:
    """Memories after a night: facets by container; copies by the facet that stands for them."""
    roles = np.full(len(texts), MEMORY_ROLE_UNSPECIFIED)
    merged = np.full(len(texts), -1)
    alive = np.ones(len(texts), np.bool_)
    for row, container in facets.items():
        roles[row], roles[container], merged[row] = MEMORY_ROLE_FACET, MEMORY_ROLE_CONTAINER, container
    for row, survivor in (folded or {}).items():
        roles[row], merged[row], alive[row] = MEMORY_ROLE_FOLDED, survivor, False
    columns = {"roles": roles, "merged_into": merged, "alive": alive} | changes.pop("columns", {})
    return remembered(texts, columns=columns, **changes)


# ── who takes part ──────────────────────────────────────────────────────────────


def test_one_topic_becomes_one_container():
    memories = remembered(STORIES[:6], vectors=np.concatenate([around(0, 3, 0.8), around(1, 3, 0.8)]))
    found = plan(memories, ratio=3.0)
    assert rows(found) == [[0, 1, 2], [3, 4, 5]]
    assert all(cluster.stage == MERGE_STAGE_TOPIC and cluster.is_container for cluster in found.clusters)


@pytest.mark.parametrize("column", ["untouchable", "apart"])
def test_pinned_memories_and_those_kept_apart_are_left_alone(column):
    flags = [False, True, False, False]
    memories = remembered(STORIES[:4], vectors=around(0, 4, 0.8), columns={column: flags})
    assert rows(plan(memories)) == [[0, 2, 3]]


def test_what_is_gone_forgotten_or_without_a_vector_takes_no_part():
    vectors = around(0, 6, 0.8)
    vectors[3] = 0
    memories = remembered(STORIES[:6], vectors=vectors, columns={"alive": [True, True, False, True, True, True]})
    assert rows(plan(memories, gone=[4])) == [[0, 1, 5]]


def test_nothing_merges_where_fewer_than_the_least_are_active():
    memories = remembered(STORIES[:5], vectors=around(0, 5, 0.8))
    assert plan(memories, min_active=6).clusters == ()
    assert rows(plan(memories, min_active=5)) == [[0, 1, 2, 3, 4]]
    assert plan(memories, min_active=5, gone=[0]).clusters == ()


def test_no_memory_is_no_trouble():
    assert plan(remembered([]), min_active=0).clusters == ()


@pytest.mark.parametrize(("changes", "ratio"), [({"topics": False}, 10.0), ({}, 1.0)])
def test_without_topics_or_a_ratio_only_tight_clusters_merge(changes, ratio):
    vectors = np.concatenate([around(0, 3, 0.1), around(1, 3, 0.8)])
    found = plan(remembered(STORIES[:6], vectors=vectors, edges=tied([0, 1, 2])), ratio=ratio, **changes)
    assert rows(found) == [[0, 1, 2]]
    assert found.clusters[0].stage == MERGE_STAGE_CONSERVATIVE


def test_without_the_conservative_stage_topics_take_what_is_tight():
    memories = remembered(STORIES[:3], vectors=around(0, 3, 0.1), edges=tied([0, 1, 2]))
    found = plan(memories, enabled=False)
    assert [cluster.stage for cluster in found.clusters] == [MERGE_STAGE_TOPIC]


# ── containers of earlier nights ────────────────────────────────────────────────


def test_a_container_of_an_earlier_night_moves_whole():
    memories = compressed(
        [*STORIES[:4], "box"], {0: 4, 1: 4}, vectors=np.concatenate([around(0, 4, 0.8), np.zeros((1, 12))])
    )
    found = plan(memories)
    assert rows(found) == [[0, 1, 2, 3]]
    assert found.clusters[0].replaces.tolist() == [4]
    assert found.clusters[0].units == 3
    assert found.active == 3


@pytest.mark.parametrize("column", ["untouchable", "apart"])
def test_a_container_with_a_member_that_must_not_be_touched_is_left_as_it_is(column):
    memories = compressed(
        [*STORIES[:4], "box"],
        {0: 4, 1: 4},
        vectors=np.concatenate([around(0, 4, 0.8), np.zeros((1, 12))]),
        columns={column: [False, True, False, False, False]},
    )
    assert rows(plan(memories)) == [[2, 3]]


def test_a_container_is_tied_by_the_edges_of_its_facets():
    vectors = np.concatenate([around(0, 4, 0.1), np.zeros((1, 12))])
    memories = compressed([*STORIES[:4], "box"], {0: 4, 1: 4}, vectors=vectors, edges=[(1, 2, "RELATED", 0.9)])
    found = plan(memories, topics=False)
    assert rows(found) == [[0, 1, 2]]
    assert found.clusters[0].tight[0].units == 2


def test_what_was_compressed_last_night_is_not_compressed_again():
    facets = {row: 12 + row // 6 for row in range(12)}
    vectors = np.concatenate([around(0, 12, 0.8), np.zeros((2, 12))])
    memories = compressed([*STORIES[:12], "box", "box"], facets, vectors=vectors)
    assert plan(memories, ratio=6.0).clusters == ()
    assert rows(plan(memories, ratio=12.0)) == [list(range(12))]


def test_copies_count_as_memories_that_are_stood_for():
    facets = {row: 6 + row // 3 for row in range(6)}
    vectors = np.concatenate([around(0, 6, 0.8), np.zeros((4, 12))])
    memories = compressed([*STORIES[:6], "box", "box", *STORIES[:2]], facets, folded={8: 0, 9: 1}, vectors=vectors)
    # 8 memories at 5 to 1 are 2 containers, which there are; 6 would be one.
    assert plan(memories, ratio=5.0).clusters == ()


# ── the ratio ───────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10_000), st.sampled_from([2.0, 3.0, 5.0, 10.0]), st.integers(0, 6))
def test_the_ratio_is_that_of_all_active_memories(seed, ratio, pinned):
    rng = np.random.default_rng(seed)
    vectors = unit(np.ones(8) + 0.5 * rng.standard_normal((60, 8)))
    flags = np.arange(60) < pinned
    memories = remembered(numbered(60), vectors=vectors, columns={"untouchable": flags})
    found = plan(memories, ratio=ratio, seed=seed)
    after = 60 - sum(cluster.units - 1 for cluster in found.clusters)
    assert after == max(round(60 / ratio), pinned + 1)
    assert found.merging()[-1].nodes_after == after
    held = [row for cluster in found.clusters for row in cluster.rows.tolist()]
    assert len(held) == len(set(held))
    assert all(row >= pinned for row in held)


def test_the_same_seed_makes_the_same_plan():
    vectors = unit(np.ones(8) + 0.5 * np.random.default_rng(1).standard_normal((60, 8)))
    memories = remembered(numbered(60), vectors=vectors)
    assert rows(plan(memories, seed=3)) == rows(plan(memories, seed=3))


def test_what_is_farther_than_the_floor_stays_alone():
    memories = remembered(STORIES[:4], vectors=np.eye(4))
    assert plan(memories).clusters == ()


# ── the evidence ────────────────────────────────────────────────────────────────

TRAPS = [
    ("My favourite colour is purple.", "My favourite colour is cyan.", "attribute"),
    ("Maria is the CEO of Acme.", "Maria is the CTO of Acme.", "name"),
    ("The rent is 900 euros.", "The rent is 950 euros.", "number"),
    ("The review is on 3 May 2024.", "The review is on 4 May 2024.", "date"),
    ("Ben eats meat.", "Ben does not eat meat.", "negation"),
]


@pytest.mark.parametrize(("left", "right", "kind"), TRAPS)
@pytest.mark.parametrize("tight", [True, False])
def test_what_contradicts_never_shares_a_container(left, right, kind, tight):
    texts = [left, right, *STORIES[:4]]
    edges = tied(range(6)) if tight else []
    memories = remembered(texts, vectors=around(0, 6, 0.1), edges=edges)
    refusals = Refusals()
    found = plan(memories, refusals=refusals)
    assert not any({0, 1} <= set(cluster) for cluster in rows(found))
    assert sum(map(len, rows(found))) >= 4
    told = [(one.kind, example) for one in refusals.to_messages(memories) for example in one.examples]
    [(named, example)] = [(kind, example) for kind, example in told if _rows_of(memories, example) == {0, 1}]
    assert named == kind
    assert example.cosine == pytest.approx(float(memories.vectors[0] @ memories.vectors[1]), abs=1e-5)


def _rows_of(memories, example):
    ids = [memories.id_of(row) for row in range(len(memories.node_ids))]
    return {ids.index(example.left_id), ids.index(example.right_id)}


def test_distant_members_of_a_topic_are_not_read():
    texts = ["The rent is 900 euros.", "The rent is 950 euros.", *STORIES[:4]]
    memories = remembered(texts, vectors=around(0, 6, 0.9))
    refusals = Refusals()
    assert rows(plan(memories, refusals=refusals)) == [[0, 1, 2, 3, 4, 5]]
    assert refusals.counts == {}


def test_a_fact_and_the_one_that_supersedes_it_are_never_tight():
    edges = [*tied([0, 1, 2]), (1, 0, "SUPERSEDES", 0.9)]
    memories = remembered(STORIES[:3], vectors=around(0, 3, 0.1), edges=edges)
    refusals = Refusals()
    found = plan(memories, topics=False, refusals=refusals)
    assert not any({0, 1} <= set(cluster) for cluster in rows(found))
    assert sum(map(len, rows(found))) == 2
    assert refusals.counts == {"superseded": 1}


def test_an_edge_that_supersedes_brings_nothing_together():
    vectors = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1]])
    edges = [(0, 1, "SUPERSEDES", 1.0), (0, 2, "RELATED", 0.1)]
    assert rows(plan(remembered(STORIES[:3], vectors=vectors, edges=edges), ratio=1.5)) == [[0, 2]]


def test_a_dead_edge_couples_nothing():
    memories = remembered(STORIES[:2], vectors=around(0, 2, 0.1), edges=tied([0, 1]), dead_edges=[0])
    assert plan(memories, topics=False).clusters == ()


@pytest.mark.parametrize("spread", [0.1, 0.8])
def test_kinds_are_not_mixed_unless_they_may_be(spread):
    memories = remembered(
        STORIES[:6],
        vectors=around(0, 6, spread),
        edges=tied(range(6)),
        columns={"kinds": [0, 1, 0, 1, 0, 1]},
        kinds=("fact", "plan"),
    )
    refusals = Refusals()
    assert rows(plan(memories, mix_kinds=False, refusals=refusals)) == [[0, 2, 4], [1, 3, 5]]
    # Only where the graph would have put them together was anything refused.
    assert (refusals.counts.get("priors", 0) > 0) == (spread == 0.1)
    assert rows(plan(memories, mix_kinds=True)) == [[0, 1, 2, 3, 4, 5]]


def test_near_pairs_beyond_what_a_night_reads_stay_apart(monkeypatch):
    monkeypatch.setattr(consolidation, "COMPARISONS", 1)
    memories = remembered(STORIES[:4], vectors=around(0, 4, 0.1))
    refusals = Refusals()
    found = plan(memories, refusals=refusals)
    assert list(map(len, rows(found))) == [2]
    assert refusals.counts["unread"] >= 2


def test_members_that_the_evidence_leaves_alone_are_counted():
    texts = ["The rent is 900 euros.", "The rent is 950 euros."]
    [merging] = plan(remembered(texts, vectors=around(0, 2, 0.1))).merging()
    assert (merging.stage, merging.containers, merging.left_out) == (MERGE_STAGE_TOPIC, 0, 2)


# ── folding ─────────────────────────────────────────────────────────────────────


def test_members_that_say_the_same_fold_into_the_most_important():
    texts = ["Anna likes tea.", "anna likes tea!", *STORIES[1:4]]
    vectors = np.concatenate([around(0, 2, 0.1), around(0, 3, 0.8, seed=1)])
    memories = remembered(texts, vectors=vectors, columns={"importance": [0.2, 0.9, 0.5, 0.5, 0.5]})
    [cluster] = plan(memories).clusters
    [fold] = cluster.folds
    assert (fold.survivor, fold.copies) == (1, (0,))
    assert fold.cosines == pytest.approx([float(memories.vectors[0] @ memories.vectors[1])], abs=1e-5)
    assert cluster.rows.tolist() == [1, 2, 3, 4]
    assert cluster.members == cluster.units == 5


def test_more_words_other_words_and_another_kind_are_facets_of_their_own():
    texts = [STORIES[0], f"{STORIES[0]} and {STORIES[1]}", STORIES[2]]
    [cluster] = plan(remembered(texts, vectors=around(0, 3, 0.1))).clusters
    assert (cluster.rows.tolist(), cluster.folds) == ([0, 1, 2], ())
    kinds = {"columns": {"kinds": [0, 1]}, "kinds": ("fact", "plan")}
    [cluster] = plan(remembered(["Tea.", "tea"], vectors=around(0, 2, 0.1), **kinds)).clusters
    assert (cluster.rows.tolist(), cluster.folds) == ([0, 1], ())


def test_what_says_the_same_but_lies_apart_does_not_fold():
    [cluster] = plan(remembered(["Tea.", "tea"], vectors=around(0, 2, 0.8))).clusters
    assert cluster.folds == ()


def test_texts_without_a_word_do_not_fold():
    [cluster] = plan(remembered(["!!!", "???"], vectors=around(0, 2, 0.1))).clusters
    assert cluster.folds == ()


def test_a_cluster_that_folds_into_one_memory_is_no_container():
    found = plan(remembered(["Tea.", "tea"], vectors=around(0, 2, 0.1)))
    [cluster] = found.clusters
    assert (cluster.rows.tolist(), cluster.is_container) == ([0], False)
    assert cluster.units == 2


def test_one_that_is_near_a_copy_but_not_its_survivor_is_no_copy_of_it():
    # A chain: each is .92 from the next, the ends are .69 apart.
    angle = np.arange(3) * np.arccos(0.92)
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    [cluster] = plan(remembered(["Tea.", "tea", "TEA"], vectors=vectors)).clusters
    assert [(fold.survivor, fold.copies) for fold in cluster.folds] == [(0, (1,))]
    assert cluster.rows.tolist() == [0, 2]


# ── what a plan says of itself ──────────────────────────────────────────────────


def two_stages() -> Plan:
    """Rows 0 to 2 are tight, and 3 joins them in a topic; 4 and 5 are a topic of their own."""
    vectors = np.concatenate([around(0, 3, 0.1), around(0, 1, 0.9, seed=1), around(1, 2, 0.8)])
    return plan(remembered(STORIES[:6], vectors=vectors, edges=tied([0, 1, 2])), ratio=3.0)


def test_each_stage_is_told_by_itself():
    found = two_stages()
    assert rows(found) == [[0, 1, 2, 3], [4, 5]]
    conservative, topic = found.merging()
    assert conservative.stage == MERGE_STAGE_CONSERVATIVE
    assert (conservative.containers, conservative.members) == (1, 3)
    assert (conservative.nodes_before, conservative.nodes_after) == (6, 4)
    assert conservative.mean_cohesion > 0.95
    assert (topic.containers, topic.members) == (2, 6)
    assert (topic.nodes_before, topic.nodes_after) == (4, 2)
    assert 0.2 < topic.mean_cohesion < 0.95


def test_a_plan_without_a_cluster_is_the_rest_of_it():
    found = two_stages()
    rest = found.without([0])
    assert rows(rest) == [[4, 5]]
    [topic] = rest.merging()
    assert (topic.containers, topic.dropped) == (1, 1)
    assert (topic.nodes_before, topic.nodes_after) == (6, 5)
    assert rest.without([0]).merging()[0].dropped == 2
    assert rows(found) == [[0, 1, 2, 3], [4, 5]]


def test_cohesion_is_the_mean_cosine_of_all_pairs():
    vectors = unit(np.random.default_rng(0).standard_normal((7, 5)))
    cosines = (vectors.astype(np.float64) @ vectors.T)[np.triu_indices(7, 1)]
    assert consolidation.cohesion_of(vectors) == pytest.approx(cosines.mean(), abs=1e-6)
    assert consolidation.cohesion_of(vectors[:1]) == 1.0


def test_a_plan_of_nothing_says_nothing():
    assert plan(remembered(STORIES[:2], vectors=np.eye(2))).merging() == []
    assert isinstance(two_stages().clusters[0], Cluster)
