import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import config, two_stage
from dreamsvc.dreamer.probes import pair_probe
from dreamsvc.dreamer.probes.pair_probe import Strength, Ties, adjacency_of, measure_lift
from dreamsvc.walk import build_adjacency
from tests.dreamer.remembered import remembered, result, unit

RECALL = config.defaults().recall
DIM = 64
PAIRS = 60
N = 3 * PAIRS


def vectors():
    return unit(np.random.default_rng(0).standard_normal((N, DIM)))


def bridged():
    """Pairs (a, b) joined by a trusted edge and, by untrusted ones, through a middle m."""
    joined = [(3 * i, 3 * i + 1, "links") for i in range(PAIRS)]
    detours = [edge for i in range(PAIRS) for edge in ((3 * i, 3 * i + 2, "links"), (3 * i + 2, 3 * i + 1, "links"))]
    return remembered(["word"] * N, vectors=vectors(), edges=[*joined, *detours])


def ties_of(memories, before=1.0, after=1.0, extra=(), paths=None, dead_after=()):
    """Detours weigh so much before and after; extra: edges of the night."""
    e = len(memories.edge_ids)
    src = np.concatenate([memories.src, [a for a, _ in extra]]).astype(np.int32)
    dst = np.concatenate([memories.dst, [b for _, b in extra]]).astype(np.int32)
    is_detour = np.arange(len(src)) >= PAIRS
    weights = [np.where(is_detour, weight, 1).astype(np.float32) for weight in (before, after)]
    alive_before, alive_after = np.arange(len(src)) < e, np.ones(len(src), np.bool_)
    alive_after[list(dead_after)] = False
    return Ties(src, dst, Strength(weights[0], alive_before), Strength(weights[1], alive_after), paths or {})


def walking(weight):
    changed = type(RECALL)()
    changed.CopyFrom(RECALL)
    changed.walk_weight = weight
    return changed


def lift(memories, ties, *, trusted=None, after=None, stands_for=None, seed=3):
    n = len(memories.node_ids)
    index = two_stage.assemble(np.arange(n), memories.vectors, {}, n)
    trusted = np.arange(len(memories.edge_ids)) < PAIRS if trusted is None else trusted
    stands_for = np.arange(n, dtype=np.int32) if stands_for is None else stands_for
    return result(measure_lift(memories, ties, trusted, index, after or index, stands_for, walking(3), seed=seed))


def test_a_night_that_changes_nothing_lifts_nothing():
    memories = bridged()
    report = lift(memories, ties_of(memories))
    assert report.measured
    assert report.pairs == PAIRS // 2
    assert report.before == report.after > 0.4
    assert (report.lift_points, report.lift_low, report.lift_high) == (0, 0, 0)


def test_ways_that_open_overnight_lift():
    memories = bridged()
    report = lift(memories, ties_of(memories, before=0.0))
    # Without a way the cue finds the one end it is made of; with it the other as well.
    assert report.before == pytest.approx(0.5, abs=0.1)
    assert report.after > 0.6
    assert report.lift_points == pytest.approx(100 * (report.after - report.before))
    assert 0 < report.lift_low <= report.lift_points <= report.lift_high


def test_ways_that_close_overnight_count_against_it():
    memories = bridged()
    report = lift(memories, ties_of(memories, after=0.0))
    assert report.lift_high < 0


def test_a_night_is_not_praised_for_what_it_was_told():
    memories = bridged()
    # The edges themselves, and shortcuts that only say them again: hidden, all of them.
    again = [(3 * i, 3 * i + 1) for i in range(PAIRS)]
    report = lift(memories, ties_of(memories, before=0.0, after=0.0, extra=again))
    assert report.before == report.after == pytest.approx(0.5, abs=0.1)


def test_shortcuts_over_a_hidden_edge_are_hidden():
    memories = bridged()
    e = len(memories.edge_ids)
    # From the middle, which is near to nothing, to the end that the hidden edge leads to.
    hops = [(3 * i + 2, 3 * i + 1) for i in range(PAIRS)]
    detours_in = range(PAIRS, e, 2)
    weights = ties_of(memories, before=0.0, after=0.0, extra=hops)
    for ties in (weights.before, weights.after):
        ties.weights[list(detours_in)] = 1  # a to m stays a way
    weights.after.weights[e:] = 1
    told = {e + i: [PAIRS + 2 * i, i] for i in range(PAIRS)}
    assert lift(memories, weights._replace(paths=told)).lift_points == 0
    assert lift(memories, weights).lift_points > 10


def test_only_trusted_living_sure_edges_between_different_memories_are_pairs():
    memories = bridged()
    trusted = np.arange(len(memories.edge_ids)) < PAIRS
    assert lift(memories, ties_of(memories), trusted=np.zeros_like(trusted)) == lift(
        memories, ties_of(memories), trusted=np.zeros_like(trusted), seed=9
    )
    assert not lift(memories, ties_of(memories), trusted=np.zeros_like(trusted)).measured
    unsure = memories._replace(confidences=np.full(len(memories.edge_ids), 0.69, np.float32))
    assert not lift(unsure, ties_of(unsure)).measured
    dead = ties_of(memories)
    dead.before.alive[:PAIRS] = False
    assert not lift(memories, dead).measured
    merged = memories.merged_into.copy()
    merged[1::3] = np.arange(0, N, 3)
    assert not lift(memories._replace(merged_into=merged), ties_of(memories)).measured
    few = trusted & (np.arange(len(trusted)) < pair_probe.FEWEST_PAIRS)
    report = lift(memories, ties_of(memories), trusted=few)
    assert (report.measured, report.pairs) == (True, pair_probe.FEWEST_PAIRS)
    few[0] = False
    assert lift(memories, ties_of(memories), trusted=few).pairs == pair_probe.FEWEST_PAIRS - 1
    assert not lift(memories, ties_of(memories), trusted=few).measured


def test_two_edges_of_one_pair_are_asked_about_once():
    edges = [(2 * i, 2 * i + 1, "links") for i in range(40)] + [(2 * i + 1, 2 * i, "back") for i in range(40)]
    memories = remembered(["word"] * 80, vectors=vectors()[:80], edges=edges)
    alive = np.ones(80, np.bool_)
    strength = Strength(np.ones(80, np.float32), alive)
    ties = Ties(memories.src, memories.dst, strength, strength, {})
    pairs = result(pair_probe._pairs(memories, ties, alive, np.random.default_rng(0)))
    assert len(pairs) == 40
    assert len({frozenset(pair) for pair in pairs.tolist()}) == 40
    hidden = result(pair_probe._hidden(ties, pairs[:10], np.arange(80, dtype=np.int32)))
    assert hidden.sum() == 20


def test_a_survivor_counts_for_its_copies():
    memories = bridged()
    # Each b had a copy, its middle, which stands for it now; the detour from a leads there.
    stands_for = np.arange(N, dtype=np.int32)
    stands_for[1::3] = np.arange(2, N, 3)
    left = np.setdiff1d(np.arange(N), np.arange(1, N, 3))
    after = two_stage.assemble(left, memories.vectors[left], {}, N)
    report = lift(memories, ties_of(memories), after=after, stands_for=stands_for)
    # The edge from a to the middle is now the edge between the two, and hidden.
    assert report.after == pytest.approx(0.5, abs=0.1)
    elsewhere = ties_of(memories, extra=[(3 * i, (3 * i + 5) % N) for i in range(PAIRS)])
    assert lift(memories, elsewhere, after=after, stands_for=stands_for).measured
    golds = np.array([[0, 2]])
    reader = pair_probe.reader_of(after, memories.findable & (stands_for == np.arange(N)), RECALL)
    adjacency = build_adjacency(memories.src, memories.dst, N)
    memory = pair_probe._Memory(reader, adjacency, ties_of(memories).after)
    cue = unit([memories.vectors[0] + memories.vectors[2]])
    assert result(pair_probe._recalls(memory, cue, golds, RECALL)).tolist() == [1.0]


def test_without_a_walk_the_nearest_are_the_first():
    memories = bridged()
    ties = ties_of(memories)
    reader = pair_probe.reader_of(two_stage.assemble(np.arange(N), memories.vectors, {}, N), memories.findable, RECALL)
    memory = pair_probe._Memory(reader, build_adjacency(ties.src, ties.dst, N), ties.before)
    cue = memories.vectors[0]
    scores = memories.vectors @ cue
    rows = pair_probe._first_rows(memory, cue, scores, walking(0))
    assert rows.tolist() == np.argsort(-scores)[:5].tolist()
    # With one the neighbours of the nearest pass those that are nearer but stand alone.
    rows = pair_probe._first_rows(memory, cue, scores, walking(2))
    assert rows[0] == 0
    assert set(rows[1:3].tolist()) == {1, 2}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(0, 200), st.integers(1, 50))
def test_an_adjacency_in_steps_is_the_one_made_at_once(seed, rows, edges, sorted_at_once):
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, rows, (2, edges)).astype(np.int32)
    kept = pair_probe.SORTED
    pair_probe.SORTED = sorted_at_once
    try:
        made = result(adjacency_of(src, dst, rows))
    finally:
        pair_probe.SORTED = kept
    whole = build_adjacency(src, dst, rows)
    assert made.indptr.tolist() == whole.indptr.tolist()
    assert made.neighbour.tolist() == whole.neighbour.tolist()
    assert made.edge.tolist() == whole.edge.tolist()


def test_equal_seeds_measure_alike():
    memories = bridged()
    assert lift(memories, ties_of(memories, before=0.3)) == lift(memories, ties_of(memories, before=0.3))
