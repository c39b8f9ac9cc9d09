import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.sampling import gumbel, sample_replay

N = 256
K = 40


def padded(values: list[float], fill: float = 0.0) -> jax.Array:
    return jnp.asarray(np.pad(np.array(values, np.float32), (0, N - len(values)), constant_values=fill))


def test_inclusion_probabilities_are_those_of_a_weighted_draw_without_replacement():
    rng = np.random.default_rng(5)
    importance, age_h = rng.uniform(0.1, 1.0, 12), rng.uniform(0.0, 72.0, 12)
    weight = importance * 0.8 ** (age_h / 24)
    draws = 20_000
    keys = jax.random.split(jax.random.key(1), draws)
    eligible = jnp.arange(N) < 12
    rows, count = jax.vmap(
        lambda key: sample_replay(key, padded(list(importance)), padded(list(age_h)), eligible, recency_bias=0.8, k=4)
    )(keys)
    assert set(np.asarray(count).tolist()) == {4}
    ours = np.bincount(np.asarray(rows).ravel(), minlength=12) / draws
    # An exponential race draws like numpy's choice(replace=False, p=...), and all draws at once: the least E / weight.
    race = np.argsort(rng.exponential(size=(draws, 12)) / weight, axis=1)[:, :4]
    # Tied to numpy's own sampler on a part of the draws, which takes 20 us each.
    choice = [rng.choice(12, 4, replace=False, p=weight / weight.sum()) for _ in range(draws // 5)]
    for theirs, size in ((race, draws), (np.array(choice), draws // 5)):
        expected = np.bincount(theirs.ravel(), minlength=12) / size
        noise = np.sqrt(expected * (1 - expected) * (1 / draws + 1 / size))
        assert (np.abs(ours - expected) < 4 * noise).all()


def test_a_memory_a_day_older_is_drawn_by_the_recency_bias_less_often():
    keys = jax.random.split(jax.random.key(2), 20_000)
    importance, age_h, eligible = padded([1.0, 1.0]), padded([0.0, 24.0]), jnp.arange(N) < 2
    rows, _ = jax.vmap(lambda key: sample_replay(key, importance, age_h, eligible, recency_bias=0.8, k=1))(keys)
    assert abs(np.asarray(rows).mean() - 0.8 / 1.8) < 0.015


def test_nothing_unimportant_ineligible_or_unknown_is_ever_drawn():
    importance = padded([0.5, 0.0, float("nan"), 0.5, 0.5, -1.0])
    age_h = padded([1.0, 1.0, 1.0, float("nan"), 1.0, 1.0])
    eligible = jnp.arange(N) != 4
    rows, count = sample_replay(jax.random.key(0), importance, age_h, eligible, recency_bias=0.8, k=K)
    assert int(count) == 1
    assert np.asarray(rows).tolist() == [0] + [N] * (K - 1)


def test_more_places_than_rows_are_left_empty():
    rows, count = sample_replay(
        jax.random.key(0), padded([1.0] * 3), padded([]), jnp.arange(N) < 3, recency_bias=0.8, k=1000
    )
    assert int(count) == 3
    assert np.asarray(rows).tolist() == [0, 1, 2] + [N] * 997


def test_the_same_seed_draws_the_same_memories_in_a_bigger_capacity():
    importance = np.random.default_rng(0).random(200, dtype=np.float32)
    drawn: list[list[int]] = []
    for size in (256, 384):
        column = jnp.asarray(np.pad(importance, (0, size - 200)))
        rows, _ = sample_replay(jax.random.key(9), column, jnp.zeros(size), column > 0, recency_bias=0.8, k=K)
        drawn.append(np.asarray(rows).tolist())
    assert drawn[0] == drawn[1]


def test_the_largest_draws_do_not_tie():
    largest = np.sort(np.asarray(gumbel(jax.random.key(0), 1_000_000)))[-1000:]
    assert np.isfinite(largest).all()
    assert len(np.unique(largest)) >= 998


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0, 1e6, width=32), st.booleans()), max_size=60),
    st.integers(0, 2**32 - 1),
)
def test_rows_are_distinct_eligible_and_as_many_as_there_can_be(memories, seed):
    importance, age_h = padded([m[0] for m in memories]), padded([m[1] for m in memories])
    eligible = jnp.asarray(np.pad(np.array([m[2] for m in memories], bool), (0, N - len(memories))))
    rows, count = sample_replay(jax.random.key(seed), importance, age_h, eligible, recency_bias=0.8, k=K)
    drawn = np.asarray(rows)[: int(count)].tolist()
    # XLA flushes denormals, and so may treat an importance of 1e-40 as the 0 it nearly is.
    possible = {i for i, m in enumerate(memories) if m[2] and m[0] >= np.finfo(np.float32).tiny}
    allowed = {i for i, m in enumerate(memories) if m[2] and m[0] > 0}
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= allowed
    assert len(drawn) >= min(K, len(possible))
    assert (np.asarray(rows)[int(count) :] == N).all()
