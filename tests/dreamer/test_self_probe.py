import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import config, two_stage
from dreamsvc.dreamer.probes import reading, self_probe
from dreamsvc.dreamer.probes.self_probe import Cues, Reading, calibrate, measure, retention
from dreamsvc.facet_codes import decode_centroid, encode_centroid, encode_facets
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_FOLDED
from tests.dreamer.remembered import remembered, result, unit

RECALL = config.defaults().recall
QUALITY = config.defaults().dream.quality
DIM = 32


def block(vectors, rows, bits=4):
    centroid = encode_centroid(vectors[rows].mean(axis=0))
    return two_stage.Block(
        np.asarray(rows, np.int32), encode_facets(vectors[rows], decode_centroid(centroid), bits=bits), bits, centroid
    )


def index_of(vectors, clusters=(), left_out=()):
    """Single memories, and containers of some whose own rows come after those of all memories."""
    n = len(vectors)
    inside = {row for cluster in clusters for row in cluster}
    single = np.array([row for row in range(n) if row not in inside and row not in left_out], np.int64)
    blocks = {n + place: block(vectors, cluster) for place, cluster in enumerate(clusters)}
    return two_stage.assemble(single, vectors[single], blocks, n + len(clusters))


def topics(count, each, spread=1.0, seed=0):
    """Vectors of topics one after the other."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(unit(rng.standard_normal((count, DIM))), each, axis=0)
    return unit(centres + spread / np.sqrt(DIM) * rng.standard_normal((count * each, DIM)))


def quality(**changes):
    changed = type(QUALITY)()
    changed.CopyFrom(QUALITY)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def recall(**changes):
    changed = type(RECALL)()
    changed.CopyFrom(RECALL)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def texts(count, words=8):
    return [" ".join(["word"] * words)] * count


def own(n):
    return np.arange(n, dtype=np.int32)


# ── reading ─────────────────────────────────────────────────────────────────────


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 40))
def test_a_probe_ranks_rows_as_a_query_does(seed, opened, count):
    rng = np.random.default_rng(seed)
    vectors = topics(12, 5, seed=seed)
    shuffled = rng.permutation(60)
    index = index_of(vectors, [np.sort(shuffled[i : i + 5]).tolist() for i in range(0, 40, 5)])
    reader = reading.reader_of(index, np.ones(60, np.bool_), recall(open_containers=opened))
    query = unit(rng.standard_normal((1, DIM)))
    first = result(reading.products(index, query))[0]
    rows, values = reading.best_rows(reader, reading.look(reader, query[0], first), count)
    expected = two_stage.score(index, query[0], 60, opened=opened).values
    assert np.allclose(values, np.sort(expected)[::-1][:count], atol=1e-5)
    assert np.allclose(values, expected[rows], atol=1e-5)
    assert len(set(rows.tolist())) == count
    seen = reading.look(reader, query[0], first)
    assert np.allclose(reading.values_of(reader, seen, np.arange(60)), expected, atol=1e-5)


def test_the_best_of_very_many_are_found_from_a_sample():
    values = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    values[::3] = -np.inf
    assert sorted(reading._highest(values, 64).tolist()) == sorted(np.argsort(-values)[:64].tolist())
    # All that is high lies where the sample does not look.
    values[:] = 0
    values[1:200:2] = 1
    assert reading._highest(values, 100).tolist() == list(range(1, 200, 2))


def finds(vectors, said, cue, budget, target, similar=0.85, left_out=()):
    memories = remembered(said, vectors=vectors)
    reader = reading.reader_of(index_of(vectors, left_out=left_out), memories.findable, recall(similar=similar))
    query = unit([cue])
    seen = reading.look(reader, query[0], two_stage.first_stage(reader.source, query[0]))
    return reading.finds(reader, seen, reading.Said(memories), budget, target)


FAN = unit([[1, 0], [0.819, 0.574], [0.342, 0.940], [-0.259, 0.966]])  # at 0, 35, 70 and 105 degrees


@pytest.mark.parametrize(("budget", "found"), [(5, 0), (6, 1), (11, 1), (12, 2), (18, 3), (24, 4)])
def test_texts_are_read_from_the_best_downwards_until_one_does_not_fit(budget, found):
    said = texts(4, words=6)
    assert [finds(FAN, said, [1, 0], budget, row) for row in range(4)] == [row < found for row in range(4)]


def test_reading_ends_at_the_first_text_that_does_not_fit():
    said = ["one", "a much longer text than that", "two", "three"]
    assert not finds(FAN, said, [1, 0], 4, 2)


def test_a_text_that_is_like_a_better_one_is_left_out_and_costs_nothing():
    close = unit([[1, 0], [1, 0.1], [1, 2], [0, 1]])
    said = ["her favourite colour is purple", "her favourite colour is cyan", "he likes tea very much", ""]
    assert not finds(close, said, [1, 0], 10, 1)
    assert finds(close, said, [1, 0], 10, 2)
    assert finds(close, said, [1, 0], 10, 1, similar=1)


@pytest.mark.parametrize("between", [0, 5, reading.TOGETHER])
def test_a_copy_that_is_left_out_is_read_in_the_better_one(between):
    # The first is near the last; those between, each in a direction of its own, are near none.
    nearness = [0.9, *np.linspace(0.8, 0.5, between), 0.45]
    vectors = np.zeros((between + 2, between + 2), np.float32)
    vectors[:, 0] = nearness
    directions = [1, *range(2, between + 2), 1]
    vectors[np.arange(between + 2), directions] = np.sqrt(1 - np.square(nearness))
    cue = [1, *[0] * (between + 1)]
    similar = vectors[0] @ vectors[-1] - 0.01
    said = ["We meet at noon.", *["so so"] * between, "we meet at noon"]
    assert finds(vectors, said, cue, 10_000, between + 1, similar)
    said[-1] = "we meet at one"
    assert not finds(vectors, said, cue, 10_000, between + 1, similar)


def test_what_is_not_in_the_index_is_not_found():
    assert not finds(FAN, texts(4), [1, 0], 1_000, 1, left_out=[1])


# ── cues ────────────────────────────────────────────────────────────────────────


def probe(vectors, clusters, *, budget=60, opened=20, cues=400, stands_for=None, said=None, left_out=(), seed=1):
    memories = remembered(said or texts(len(vectors)), vectors=vectors)
    rules = recall(open_containers=opened)
    asked = result(
        calibrate(memories, index_of(vectors), quality(probe_tokens=budget, probe_cues=cues), rules, seed=seed)
    )
    after = index_of(vectors, clusters, left_out)
    stands_for = own(len(vectors)) if stands_for is None else stands_for
    read = result(measure(memories, asked, after, stands_for, rules))
    return asked, read, result(retention(asked, read, max_information_loss=0.15))


def test_cues_are_drawn_away_until_six_of_ten_are_found():
    asked, _, report = probe(topics(120, 6), [])
    assert len(asked.golds) == 400
    assert abs(report.before - 0.6) <= 0.04
    assert 0 < asked.s < self_probe.FARTHEST_S
    assert np.allclose(np.linalg.norm(asked.queries, axis=1), 1, atol=1e-5)
    assert report.before == pytest.approx(asked.found.mean())


def test_where_everything_fits_the_budget_cues_are_as_far_as_they_may_be():
    asked, _, report = probe(topics(4, 3), [], budget=10_000)
    assert report.before == 1
    assert asked.s == pytest.approx(self_probe.FARTHEST_S)
    # Few memories are asked about several times.
    assert len(asked.golds) == 12 * self_probe.CUES_EACH
    assert len(np.unique(asked.queries, axis=0)) == 12 * self_probe.CUES_EACH


def test_a_night_that_changes_nothing_loses_nothing():
    _, _, report = probe(topics(60, 6), [])
    assert report.measured
    assert (report.information_loss, report.loss_low) == (0, 0)
    assert report.after == report.before
    # 3 / 216 found, of all memories: nobody was left out who could have been lost.
    assert report.loss_high == 0


def test_containers_of_what_has_nothing_in_common_lose_much_and_those_of_topics_little():
    vectors = topics(60, 10, spread=0.7)
    shuffled = np.random.default_rng(2).permutation(600)
    _, _, destroyed = probe(vectors, [np.sort(shuffled[i : i + 10]).tolist() for i in range(0, 600, 10)], opened=3)
    _, _, kept = probe(vectors, [list(range(i, i + 10)) for i in range(0, 600, 10)], opened=3)
    assert destroyed.information_loss > 0.4
    assert kept.information_loss < 0.1
    assert destroyed.loss_low > kept.loss_high
    for report in (destroyed, kept):
        assert report.loss_low <= report.information_loss <= report.loss_high


def test_a_survivor_counts_for_its_copies():
    vectors = np.repeat(unit(np.random.default_rng(3).standard_normal((200, DIM))), 2, axis=0)
    said = [f"memory {row // 2}" for row in range(400)]
    survivors = (np.arange(400) // 2 * 2).astype(np.int32)
    copies = list(range(1, 400, 2))
    asked, read, _ = probe(vectors, [], said=said, budget=20, stands_for=survivors, left_out=copies)
    assert np.array_equal(read.found, asked.found)
    _, read, forgotten = probe(vectors, [], said=said, budget=20, left_out=copies)
    assert not read.found[asked.golds % 2 == 1].any()
    assert forgotten.information_loss > 0.3


def test_equal_seeds_ask_alike():
    vectors = topics(40, 6)
    first, second, third = (probe(vectors, [], cues=50, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first.queries, second.queries)
    assert not np.array_equal(first.golds, third.golds)


def test_only_what_can_be_found_is_asked_about():
    vectors = topics(20, 5)
    vectors[7] = 0
    roles = np.zeros(100, np.int8)
    roles[8] = MEMORY_ROLE_FOLDED
    memories = remembered(["long " * 900 if row == 9 else "short" for row in range(100)], vectors=vectors)
    memories = memories._replace(roles=roles)
    asked = result(calibrate(memories, index_of(vectors, left_out=[7, 8]), quality(), RECALL, seed=0))
    assert set(asked.golds.tolist()) == set(range(100)) - {7, 8, 9}
    assert asked.memories == 98


def test_a_budget_that_holds_hardly_a_text_is_widened():
    asked, _, _ = probe(topics(20, 5), [], said=texts(100, words=40), budget=16)
    assert asked.token_budget == 40 * self_probe.FEWEST_TEXTS


@pytest.mark.parametrize("count", [0, 1])
def test_without_two_memories_nothing_is_measured(count):
    asked, read, report = probe(np.zeros((count, DIM), np.float32) + unit([[1] * DIM])[:count], [])
    assert len(asked.golds) == len(read.found) == 0
    assert not report.measured


def test_a_large_store_has_fewer_cues():
    index = index_of(topics(10, 10))
    assert self_probe._affordable(1_000, index) == 1_000
    large = index._replace(size=1_000_000)
    few = self_probe._affordable(100_000, large)
    assert few * 1_000_000 * DIM * 5 <= self_probe.MULTIPLICATIONS
    assert self_probe._affordable(1_000, index._replace(size=10**9)) == self_probe.FEWEST_CUES


# ── retention ───────────────────────────────────────────────────────────────────


def cues_of(found, golds=None, memories=100_000):
    found = np.asarray(found, np.bool_)
    return Cues(
        golds=np.arange(len(found), dtype=np.int32) if golds is None else np.asarray(golds, np.int32),
        queries=np.zeros((len(found), 2), np.float32),
        found=found,
        judges=np.arange(len(found)) % 2 == 0,
        s=1.0,
        token_budget=512,
        memories=memories,
        seed=5,
    )


def retained(before, after, **about):
    cues = cues_of(before, **about)
    return result(retention(cues, Reading(np.asarray(after, np.bool_)), max_information_loss=0.15))


def test_the_loss_is_the_share_of_what_was_found_that_is_not_any_more():
    report = retained([1] * 600 + [0] * 400, [1] * 540 + [0] * 460)
    assert (report.before, report.after, report.cues) == (0.6, 0.54, 1_000)
    assert report.information_loss == pytest.approx(0.1)
    # A share of 1 in 10 of 600, as binomial as can be: 0.1 +- 1.96 sqrt(0.1 x 0.9 / 600).
    assert report.loss_low == pytest.approx(0.076, abs=0.004)
    assert report.loss_high == pytest.approx(0.124, abs=0.004)
    assert (report.token_budget, report.max_information_loss) == (512, 0.15)


def test_what_was_not_lost_in_a_sample_may_be_lost_elsewhere():
    assert retained([1] * 300, [1] * 300).loss_high == pytest.approx(0.01, rel=0.01)
    assert retained([1] * 300, [1] * 300, memories=300).loss_high == 0


def test_a_gain_is_no_loss():
    report = retained([1] * 50 + [0] * 50, [1] * 100)
    assert (report.information_loss, report.loss_low) == (0, 0)
    assert report.after == 1


def test_cues_about_the_same_memories_do_not_make_the_interval_narrower():
    before, after = [1] * 600, [1] * 480 + [0] * 120
    alone = retained(before, after)
    together = retained(before, after, golds=np.arange(600) // 5)
    assert together.information_loss == alone.information_loss
    assert together.loss_high - together.loss_low > 1.8 * (alone.loss_high - alone.loss_low)


def test_where_nothing_was_found_before_nothing_is_measured():
    assert not retained([0] * 10, [1] * 10).measured
