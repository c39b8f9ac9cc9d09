"""The tuner by hand, and a replay that it brings to its target."""

import threading

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsvc import config, snapshot_files
from dreamsvc.dreamer import activating, tuner
from dreamsvc.dreamer.journal import Journal
from dreamsvc.dreamer.replay import Replay
from dreamsvc.dreamer.throttle import Throttle
from dreamsvc.dreamer.tuner import Observed
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint, Start
from dreamsvc.v1.config_pb2 import DreamConfig, SrcConfig, TunerConfig
from dreamsvc.v1.dream_pb2 import Tuning

HOUR_US = 3_600_000_000
# A batch that nothing speaks against.
CONTENT = Observed(batch=7, living=1000, activation=0.05, candidates=500, visited=1000, strengthened=9, weaker=1)


@pytest.fixture(scope="module")
def rules() -> TunerConfig:
    return config.defaults().dream.tuner


def plain(tuning: Tuning) -> tuple[float, float, float]:
    return tuning.sparsity, tuning.randomness, tuning.clustering


def begun(rules: TunerConfig, **src: float) -> Tuning:
    return tuner.begin(SrcConfig(**{"sparsity": 0.1, "randomness": 0.5, "clustering": 0.7} | src), rules)


def test_a_dream_begins_with_what_is_configured(rules: TunerConfig) -> None:
    found = begun(rules)
    assert plain(found) == (0.1, 0.5, 0.7)
    assert (found.target_activation, found.adjustments, len(found.decisions)) == (0.05, 0, 0)


@pytest.mark.parametrize(
    ("activation", "sparsity"), [(0.25, 0.08), (0.15, 0.09), (0.0, 0.105), (0.0401, 0.1), (0.0599, 0.1)]
)
def test_the_sparsity_moves_against_the_error_and_not_within_the_tolerance(
    rules: TunerConfig, activation: float, sparsity: float
) -> None:
    found = tuner.tuned(begun(rules), CONTENT._replace(activation=activation), rules)
    assert plain(found) == (pytest.approx(sparsity), 0.5, 0.7)
    assert found.activation == activation
    assert found.adjustments == len(found.decisions) == (sparsity != 0.1)


def test_the_tolerance_of_a_small_target_is_a_fifth_of_it() -> None:
    assert tuner.is_near(0.0119, 0.01)
    assert not tuner.is_near(0.0121, 0.01)
    assert tuner.is_near(0.509, 0.5)
    assert not tuner.is_near(0.511, 0.5)


def test_the_sparsity_stays_within_its_bounds(rules: TunerConfig) -> None:
    low = tuner.tuned(begun(rules, sparsity=0.012), CONTENT._replace(activation=0.9), rules)
    assert low.sparsity == 0.01
    again = tuner.tuned(low, CONTENT._replace(activation=0.9), rules)
    assert (again.sparsity, again.adjustments) == (0.01, 1)
    high = tuner.tuned(begun(rules, sparsity=0.299), CONTENT._replace(activation=0.0), rules)
    assert high.sparsity == 0.3


def test_more_is_drawn_at_random_where_few_memories_were_visited(rules: TunerConfig) -> None:
    # Half of 1000 x (1 - exp(-0.5)) is 196.7.
    assert tuner.tuned(begun(rules), CONTENT._replace(visited=197), rules).adjustments == 0
    found = tuner.tuned(begun(rules), CONTENT._replace(visited=196), rules)
    assert plain(found) == (0.1, 0.55, 0.7)
    decision = found.decisions[0]
    assert (decision.batch, decision.parameter, decision.before) == (7, "randomness", 0.5)
    assert decision.after == pytest.approx(0.55)
    assert decision.why == "196 memories were visited, and 197 expected"


def test_more_edges_are_followed_where_few_grew_stronger(rules: TunerConfig) -> None:
    assert tuner.tuned(begun(rules), CONTENT._replace(strengthened=5, weaker=5), rules).adjustments == 0
    assert tuner.tuned(begun(rules), CONTENT._replace(strengthened=0, weaker=0), rules).adjustments == 0
    found = tuner.tuned(begun(rules), CONTENT._replace(strengthened=49, weaker=51), rules)
    assert plain(found) == (0.1, 0.5, 0.75)
    assert found.decisions[0].why == "49% of 100 changed edges grew stronger, fewer than half"


def test_what_only_grows_stops_at_its_bound_and_stays_where_it_is_configured_beyond(rules: TunerConfig) -> None:
    bad = CONTENT._replace(visited=0, strengthened=0, weaker=1)
    found = tuner.tuned(begun(rules, randomness=0.88, clustering=0.95), bad, rules)
    assert plain(found) == (0.1, 0.9, 0.95)
    beyond = tuner.tuned(begun(rules, randomness=1.0, clustering=0.99), bad, rules)
    assert plain(beyond) == (0.1, 1.0, 0.99)
    assert beyond.adjustments == 0


def test_a_rehearsal_tunes_the_sparsity_alone_and_says_so(rules: TunerConfig) -> None:
    seen = CONTENT._replace(batch=0, activation=0.25, visited=0, strengthened=0, weaker=9)
    found = tuner.rehearsed(begun(rules), seen, rules)
    assert plain(found) == (pytest.approx(0.08), 0.5, 0.7)
    assert found.decisions[0].batch == 0
    assert found.decisions[0].why == "mean activation 25.0%, target 5.0%, in a rehearsal before the first batch"


def test_what_a_batch_is_given_is_left_as_it_was(rules: TunerConfig) -> None:
    before = begun(rules)
    tuner.tuned(before, CONTENT._replace(activation=0.5), rules)
    assert before == begun(rules)


def test_only_the_last_twenty_decisions_are_kept(rules: TunerConfig) -> None:
    found = begun(rules)
    for batch in range(1, 31):
        found = tuner.tuned(found, CONTENT._replace(batch=batch, activation=0.06 + 0.001 * batch), rules)
    assert found.adjustments == 30
    assert [decision.batch for decision in found.decisions] == list(range(11, 31))


counts = st.integers(0, 1000)


@given(
    st.lists(
        st.builds(Observed, st.just(1), counts, st.floats(0, 1), counts, counts, counts, counts),
        min_size=1,
        max_size=40,
    )
)
def test_whatever_is_observed_each_change_is_small_and_within_the_bounds(observed: list[Observed]) -> None:
    rules = config.defaults().dream.tuner
    now = begun(rules)
    for seen in observed:
        after = tuner.tuned(now, seen, rules)
        assert 0.01 <= after.sparsity <= 0.3
        assert now.randomness <= after.randomness <= 0.9
        assert now.clustering <= after.clustering <= 0.95
        assert abs(after.sparsity - now.sparsity) <= 0.1 * abs(seen.activation - 0.05) + 1e-12
        assert max(after.randomness - now.randomness, after.clustering - now.clustering) <= 0.05 + 1e-12
        made = sum(old != new for old, new in zip(plain(now), plain(after), strict=True))
        assert after.adjustments - now.adjustments == made
        now = after


def test_visited_is_what_is_more_awake_than_decay_alone_leaves_it() -> None:
    before = np.array([0, 0, 200, 200, 255, 100, 10], np.uint8)
    # 200 x 0.9^2 = 162; one more may be rounding.
    after = np.array([0, 90, 162, 163, 255, 82, 8], np.uint8)
    assert tuner.count_visited(before, after, np.zeros(0, np.int32), decay_rate=0.9, steps=2) == 2
    assert tuner.count_visited(before, after + np.uint8(2), np.array([0, 5], np.int32), decay_rate=0.9, steps=2) == 4
    assert tuner.count_visited(before, before, np.zeros(0, np.int32), decay_rate=1.0, steps=9) == 0


# ── in a replay ─────────────────────────────────────────────────────────────────


def random_memory(nodes: int) -> snapshot_files.Arrays:
    draw = np.random.default_rng(nodes)
    edges = 4 * nodes
    sources = draw.integers(0, nodes, edges).astype(np.int32)
    return {
        "node_ids": np.arange(nodes, dtype=np.int64),
        "alive": np.ones(nodes, np.bool_),
        "roles": np.zeros(nodes, np.int8),
        "importance": (0.3 + 0.5 * draw.random(nodes)).astype(np.float32),
        "created_us": np.zeros(nodes, np.int64),
        "accessed_us": np.full(nodes, -1, np.int64),
        "edge_ids": np.arange(edges, dtype=np.int64),
        "sources": sources,
        "targets": ((sources + draw.integers(1, nodes, edges)) % nodes).astype(np.int32),
        "weights": draw.random(edges).astype(np.float32),
        "edges_alive": np.ones(edges, np.bool_),
        "together": np.zeros((0, 2), np.int32),
        "together_recalled": np.zeros(0, np.int32),
        "together_confirmed": np.zeros(0, np.int32),
    }


def replayed(nodes: int, settings: DreamConfig) -> Checkpoint:
    """The last checkpoint of a whole replay."""
    start = Start(seed=1, budget_seconds=60, config=settings, now_us=HOUR_US)
    throttle = Throttle(1.0, threading.Event())
    journal = Journal(start.checkpoint, throttle)
    replay = Replay(start, [], throttle, journal)
    replay.prepare(random_memory(nodes))
    journal.begin()
    return [told.checkpoint for told in replay.run(60) if told.HasField("checkpoint")][-1]


def settings_of(**src: float) -> DreamConfig:
    made = config.defaults().dream
    for name, value in src.items():
        setattr(made.src, name, value)
    return made


def test_enough_batches_bring_the_default_sparsity_to_the_target() -> None:
    settings = settings_of(sparsity=0.1)
    settings.nrem.max_replay_count = 3000
    found = replayed(3000, settings)
    assert found.tally.replays == 3000
    # 47 batches need no rehearsal.
    assert found.src_step == found.tally.src_steps == 47 * 8
    assert found.tally.tuning.activation == found.tally.mean_activation
    assert abs(found.tally.mean_activation - 0.05) <= 0.01
    assert 0.01 <= found.tally.tuning.sparsity < 0.04
    assert found.tally.tuning.adjustments >= 10


def test_where_batches_are_few_the_tuner_has_settled_before_the_first() -> None:
    settings = settings_of(sparsity=0.1)
    settings.nrem.max_replay_count = 256
    found = replayed(3000, settings)
    assert found.tally.src_steps == 4 * 8
    assert 4 * 8 < found.src_step <= tuner.ENOUGH_BATCHES * 8
    assert found.tally.tuning.decisions[0].batch == 0
    assert abs(found.tally.mean_activation - 0.05) <= 0.01
    settings.tuner.enabled = False
    assert replayed(3000, settings).tally.mean_activation > 0.1


def test_a_small_memory_comes_nearer_though_its_replay_alone_is_above_the_target() -> None:
    settings = settings_of(sparsity=0.1)
    tuned = replayed(200, settings).tally
    assert tuned.tuning.sparsity == settings.tuner.min_sparsity
    settings.tuner.enabled = False
    assert tuned.mean_activation < 0.7 * replayed(200, settings).tally.mean_activation


def test_without_a_tuner_the_rates_are_those_configured_and_nothing_is_rehearsed() -> None:
    settings = settings_of(sparsity=0.1)
    settings.tuner.enabled = False
    found = replayed(300, settings)
    assert not found.tally.HasField("tuning")
    assert found.src_step == found.tally.src_steps == 5 * 8
    settings.tuner.max_sparsity = settings.tuner.min_sparsity = 0.2
    again = replayed(300, settings)
    assert (again.activation, again.src_step) == (found.activation, found.src_step)


def test_for_how_many_places_a_step_is_compiled_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(sparsity=0.1)
    found = replayed(3000, settings)
    monkeypatch.setattr(activating, "SMALLER", (1,))
    largest = replayed(3000, settings)
    assert (found.activation, found.tally.tuning) == (largest.activation, largest.tally.tuning)


def test_where_too_little_is_visited_a_replay_explores_more() -> None:
    settings = settings_of(sparsity=0.05, randomness=0.0, clustering=1.0)
    settings.nrem.max_replay_count = 3000
    found = replayed(3000, settings).tally.tuning
    assert 0.0 < found.randomness <= settings.tuner.max_randomness


def test_a_step_finds_the_fewest_places_that_hold_it() -> None:
    steps = activating.Activating(
        settings_of(sparsity=0.1), jax.random.key(0), Throttle(1.0, threading.Event()), nodes=30_000
    )
    places = [steps._places_for(share * 30_000) for share in (0.3, 0.29, 0.1, 0.05, 0.02)]
    assert places == sorted(places, reverse=True)
    assert all(found >= share * 30_000 for found, share in zip(places, (0.3, 0.29, 0.1, 0.05, 0.02), strict=True))
    assert len(set(places)) == 3
