import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.activation import activate, at_rest
from kernels.arrays import SrcState
from kernels.draws import words
from kernels.padding import pad_graph
from kernels.src import TRIES, src_chunk

SPEC = {"sparsity": 0.1, "randomness": 0.5, "clustering": 0.7, "decay_rate": 0.9, "amplitude": 1.0, "floor": 0.01}


def awake_at(levels: dict[int, float], nodes: int = 256) -> SrcState:
    activation = np.zeros(nodes, np.float32)
    activation[list(levels)] = list(levels.values())
    return at_rest(nodes)._replace(activation=jnp.asarray(activation))


def replay_in_float64(seed: int, activation, step, graph, weight, *, slots, **rates):
    """One step as the specification tells it, one place after the other, from the same random bits."""
    graph = type(graph)(*(np.asarray(column) for column in graph))
    alive_rows = graph.alive_rows[: graph.alive_count].tolist()
    places = round(float(np.float32(rates["sparsity"]) * np.float32(len(alive_rows))))
    key = jax.random.fold_in(jax.random.key(seed), step)
    bits = np.stack(words(key, slots, 4 + TRIES), axis=1).tolist()
    awake = [level * float(np.float32(rates["decay_rate"])) for level in activation]
    floor = float(np.float32(rates["floor"]))
    after = list(awake)
    traversals = inside = 0
    for draw in bits[: min(places, slots)]:
        explore, follow, pick, anywhere, *seek = draw
        tried = [alive_rows[b % len(alive_rows)] for b in seek]
        origin = next((row for row in tried if awake[row] > floor), None)
        chosen, level = alive_rows[anywhere % len(alive_rows)], None
        if (explore >> 8) / 2**24 >= rates["randomness"] and origin is not None:
            around = range(graph.indptr[origin], graph.indptr[origin + 1])
            if (follow >> 8) / 2**24 < rates["clustering"] and len(around):
                place = around[pick % len(around)]
                if graph.edge_alive[graph.via[place]]:
                    chosen, level = int(graph.neighbour[place]), awake[origin] * float(weight[graph.via[place]])
                    traversals += 1
                    inside += awake[chosen] > floor
        after[chosen] = max(after[chosen], level or rates["amplitude"] * float(graph.importance[chosen]))
    return [level if level > floor else 0.0 for level in after], traversals, inside


def test_one_step_does_what_the_specification_tells(random_graph):
    graph = random_graph(seed=3, n=120, e=400)
    rng = np.random.default_rng(4)
    weight = rng.random(1024, dtype=np.float32)
    # Kept clear of the floor, where float32 and float64 may fall on different sides.
    activation = np.where(rng.random(256) < 0.4, rng.uniform(0.1, 1.0, 256), 0.0).astype(np.float32)
    activation[~np.asarray(graph.alive)] = 0.0
    rates = {**SPEC, "sparsity": 0.5}
    followed = 0
    for step in range(20):
        expected, traversals, inside = replay_in_float64(
            11, activation.astype(float).tolist(), step, graph, weight, slots=64, **rates
        )
        state = SrcState(jnp.asarray(activation), jnp.asarray(np.int32(step)))
        state, info = src_chunk(jax.random.key(11), state, graph, jnp.asarray(weight), 1, slots=64, **rates)
        np.testing.assert_allclose(np.asarray(state.activation), expected, rtol=0, atol=1e-6)
        assert (int(info.traversals), int(info.inside)) == (traversals, inside)
        assert int(info.active) == sum(level > 0 for level in expected)
        assert int(info.activation_sum) == pytest.approx(255 * sum(expected), abs=0.5 * int(info.active))
        followed += traversals
    assert followed > 100


def test_without_candidates_activation_decays_and_comes_to_rest(eight):
    state, info = src_chunk(
        jax.random.key(0),
        awake_at({0: 0.5, 1: 0.0111, 2: 0.012}),
        eight(),
        jnp.zeros(256),
        1,
        slots=8,
        **{**SPEC, "sparsity": 0.0},
    )
    np.testing.assert_allclose(np.asarray(state.activation)[:4], [0.45, 0.0, 0.0108, 0.0], rtol=1e-6)
    assert [int(x) for x in info] == [2, 115 + 3, 0, 0, 0]


def test_a_random_candidate_wakes_to_amplitude_times_importance(eight):
    graph = eight()
    rates = {**SPEC, "sparsity": 1.0, "randomness": 1.0, "amplitude": 0.5}
    state, info = src_chunk(jax.random.key(0), at_rest(256), graph, jnp.ones(256), 1, slots=8, **rates)
    woken = np.flatnonzero(state.activation)
    assert len(woken) > 2
    np.testing.assert_array_equal(state.activation[woken], 0.5 * graph.importance[woken])
    assert (int(info.candidates), int(info.traversals)) == (7, 0)


def test_a_neighbour_wakes_by_the_weight_of_the_edge_it_was_reached_through(eight):
    weight = jnp.zeros(256).at[5].set(0.5)
    rates = {**SPEC, "sparsity": 1.0, "randomness": 0.0, "clustering": 1.0, "amplitude": 0.0}
    state, info = src_chunk(jax.random.key(0), awake_at({5: 1.0}), eight(), weight, 1, slots=8, **rates)
    assert int(info.traversals) > 0
    assert int(info.inside) == 0
    np.testing.assert_allclose(np.asarray(state.activation)[:8], [0, 0, 0, 0, 0.45, 0.9, 0, 0], rtol=1e-6)


def test_an_edge_between_two_waking_nodes_counts_as_inside(eight):
    rates = {**SPEC, "sparsity": 1.0, "randomness": 0.0, "clustering": 1.0, "amplitude": 0.0}
    everyone = dict.fromkeys(range(7), 1.0)
    _, info = src_chunk(jax.random.key(0), awake_at(everyone), eight(), jnp.ones(256), 1, slots=8, **rates)
    assert int(info.inside) == int(info.traversals) > 0


def test_an_edge_pruned_in_this_dream_is_not_followed(eight):
    graph = eight()._replace(edge_alive=jnp.zeros(256, bool))
    rates = {**SPEC, "sparsity": 1.0, "randomness": 0.0, "clustering": 1.0}
    _, info = src_chunk(jax.random.key(0), awake_at({5: 1.0}), graph, jnp.ones(256), 20, slots=8, **rates)
    assert int(info.traversals) == 0
    assert int(info.candidates) == 140


def test_places_beyond_those_compiled_for_are_not_filled(random_graph):
    graph = random_graph(seed=0, n=200, e=400)
    rates = {**SPEC, "sparsity": 1.0}
    _, info = src_chunk(jax.random.key(0), at_rest(256), graph, jnp.ones(1024), 3, slots=16, **rates)
    assert int(info.candidates) == 48


def test_a_graph_without_living_nodes_stays_at_rest(eight):
    dead = pad_graph(
        *(np.zeros(0, t) for t in (np.int32, np.int32, np.float32, np.bool_, np.bool_)), nodes=256, edges=256
    )
    state, info = src_chunk(jax.random.key(0), at_rest(256), dead, jnp.ones(256), 5, slots=8, **SPEC)
    assert not np.asarray(state.activation).any()
    assert [int(x) for x in info] == [0, 0, 0, 0, 0]


def test_a_chunk_of_n_steps_is_n_chunks_of_one(random_graph):
    graph, weight = random_graph(seed=1, n=200, e=800), jnp.full(1024, 0.5)
    key = jax.random.key(7)
    whole, seen = src_chunk(key, at_rest(256), graph, weight, 12, slots=64, **SPEC)
    state, counts = at_rest(256), np.zeros(3, int)
    for _ in range(12):
        state, info = src_chunk(key, state, graph, weight, 1, slots=64, **SPEC)
        counts += np.array([info.candidates, info.traversals, info.inside])
    np.testing.assert_array_equal(whole.activation, state.activation)
    assert int(whole.step) == int(state.step) == 12
    assert counts.tolist() == [int(seen.candidates), int(seen.traversals), int(seen.inside)]


def test_the_seed_decides_the_dream(random_graph):
    graph, weight = random_graph(seed=1, n=200, e=800), jnp.full(1024, 0.5)
    runs = [src_chunk(jax.random.key(s), at_rest(256), graph, weight, 5, slots=64, **SPEC)[0] for s in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0].activation, runs[1].activation)
    assert (np.asarray(runs[0].activation) != np.asarray(runs[2].activation)).any()


def test_a_bigger_capacity_dreams_the_same_dream(random_graph):
    small = random_graph(seed=2, n=200, e=800)
    big = random_graph(seed=2, n=200, e=800, nodes=384, edges=1536)
    weight = np.random.default_rng(0).random(1536, dtype=np.float32)
    key = jax.random.key(5)
    first, seen = src_chunk(key, at_rest(256), small, jnp.asarray(weight[:1024]), 30, slots=64, **SPEC)
    second, again = src_chunk(key, at_rest(384), big, jnp.asarray(weight), 30, slots=96, **SPEC)
    np.testing.assert_array_equal(first.activation, second.activation[:256])
    assert not np.asarray(second.activation[256:]).any()
    assert [int(x) for x in seen] == [int(x) for x in again]


def test_mean_activation_settles_where_the_balance_of_waking_and_decay_puts_it():
    n, sparsity = 4096, 0.022
    none = np.zeros(0, np.int32)
    graph = pad_graph(none, none, np.ones(n, np.float32), np.ones(n, bool), none.astype(bool), nodes=n, edges=256)
    rates = {**SPEC, "sparsity": sparsity, "randomness": 1.0}
    _, info = src_chunk(jax.random.key(0), at_rest(n), graph, jnp.zeros(256), 200, slots=96, **rates)
    # A node is woken to 1 with probability s a step and loses a tenth otherwise: m = s + (1 - s) .9 m, cut off at the
    # floor after 44 steps.
    woken = 1 - math.exp(-sparsity)
    expected = woken / (1 - 0.9 * (1 - woken)) * (1 - (0.9 * (1 - woken)) ** 44)
    assert int(info.activation_sum) / 255 / n == pytest.approx(expected, rel=0.05)


@settings(deadline=None, max_examples=40)
@given(
    sparsity=st.floats(0, 0.3125, width=32),
    randomness=st.floats(0, 1, width=32),
    clustering=st.floats(0, 1, width=32),
    decay_rate=st.floats(0, 1, width=32),
    seed=st.integers(0, 2**32 - 1),
    rows=st.lists(st.integers(0, 199), max_size=8),
)
def test_activation_stays_in_its_range_and_on_living_nodes(random_graph_of_200, rows, seed, **rates):
    graph, weight = random_graph_of_200
    replayed = [row for row in rows if graph.alive[row]]
    state = activate(
        at_rest(256),
        jnp.asarray(np.pad(np.array(replayed, np.int32), (0, 8 - len(replayed)), constant_values=256)),
        level=1.0,
    )
    state, info = src_chunk(jax.random.key(seed), state, graph, weight, 6, amplitude=1.0, floor=0.01, slots=64, **rates)
    activation = np.asarray(state.activation)
    assert ((activation == 0) | (activation > 0.01)).all()
    assert (activation <= 1).all()
    assert not activation[~np.asarray(graph.alive)].any()
    assert int(info.candidates) == 6 * min(64, round(float(np.float32(rates["sparsity"]) * int(graph.alive_count))))
    assert 0 <= int(info.inside) <= int(info.traversals) <= int(info.candidates)


@pytest.fixture(scope="module")
def random_graph_of_200():
    rng = np.random.default_rng(6)
    alive = rng.random(200) < 0.9
    ends = rng.integers(0, 200, (2, 800)).astype(np.int32)
    importance = rng.random(200, dtype=np.float32)
    graph = pad_graph(ends[0], ends[1], importance, alive, rng.random(800) < 0.9, nodes=256, edges=1024)
    return graph, jnp.asarray(rng.random(1024, dtype=np.float32))
