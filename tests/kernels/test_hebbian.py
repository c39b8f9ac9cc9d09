import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.hebbian import hebbian_begin, hebbian_update, touched_by
from kernels.padding import pad_graph

SPEC = {"learning_rate": 0.01, "decay_rate": 0.001, "floor": 0.05, "cap": 1.0}


def rows(*replayed: int) -> jax.Array:
    return jnp.asarray(np.pad(np.array(replayed, np.int32), (0, 4 - len(replayed)), constant_values=256))


def column(size: int, **values: float) -> jax.Array:
    full = np.zeros(size, np.float32)
    for name, value in values.items():
        full[int(name[1:])] = value
    return jnp.asarray(full)


def test_an_edge_is_touched_when_it_lives_and_an_end_is_replayed(eight):
    graph = eight()
    assert np.flatnonzero(touched_by(graph, rows(3, 5))).tolist() == [2, 3, 4, 5]
    assert np.flatnonzero(touched_by(graph, rows(1))).tolist() == [0, 1]
    assert not np.asarray(touched_by(graph, rows())).any()


def test_an_update_strengthens_weakens_caps_and_prunes(eight):
    graph = eight()
    weight = column(256, e0=0.5, e1=0.5, e2=0.05, e3=0.999, e4=0.5)
    state = hebbian_begin(weight, graph, learning_rate=0.01)
    activation = column(256, n0=1.0, n1=0.8, n3=1.0)
    touched = jnp.arange(256) < 4
    state, info = hebbian_update(state, graph, activation, touched, **SPEC)
    learned = np.asarray(state.weight)
    assert learned[0] == pytest.approx(0.5 * 0.999 + 0.01 * 0.8, rel=1e-6)  # both awake
    assert learned[1] == pytest.approx(0.5 * 0.999, rel=1e-6)  # one asleep
    assert learned[2] == np.float32(0.05)  # would fall below the floor: pruned with the weight it had
    assert learned[3] == 1.0  # 0.999 * 0.999 + 0.01 would pass the cap
    assert learned[4] == 0.5  # not touched
    assert np.flatnonzero(state.edge_alive).tolist() == [0, 1, 3, 4, 5]
    assert (int(info.strengthened), int(info.weakened), int(info.pruned)) == (2, 1, 1)
    assert float(info.mean_delta) == pytest.approx((0.0075 - 0.0005 + 0.001) / 4, rel=1e-3)


def test_a_dead_edge_does_not_learn(eight):
    graph = eight()
    state = hebbian_begin(jnp.full(256, 0.5), graph, learning_rate=0.01)
    state, info = hebbian_update(state, graph, jnp.ones(256), jnp.ones(256, bool), **SPEC)
    assert int(info.strengthened) == 6
    assert set(np.asarray(state.weight[6:]).tolist()) == {0.5}


def test_the_prune_looks_at_the_weight_before_the_clip(eight):
    graph = eight()
    state = hebbian_begin(column(256, e0=0.03, e1=0.0495), graph, learning_rate=0.01)
    activation = column(256, n0=0.0, n1=1.0, n2=1.0)
    state, _ = hebbian_update(state, graph, activation, jnp.arange(256) < 2, **SPEC)
    # Edge 0 would be clipped up to the floor, edge 1 learns its way above it.
    assert np.asarray(state.edge_alive[:2]).tolist() == [False, True]
    assert np.asarray(state.weight[:2]).tolist() == pytest.approx([0.03, 0.0495 * 0.999 + 0.01])


def test_the_learning_rate_may_be_a_schedule(eight):
    graph = eight()
    halving = jax.tree_util.Partial(optax.exponential_decay(0.1, transition_steps=1, decay_rate=0.5))
    state = hebbian_begin(jnp.full(256, 0.5), graph, learning_rate=halving)
    touched = jnp.arange(256) < 1
    steps: list[float] = []
    for _ in range(3):
        before = float(state.weight[0])
        state, _ = hebbian_update(
            state, graph, jnp.ones(256), touched, learning_rate=halving, decay_rate=0.0, floor=0.05, cap=1.0
        )
        steps.append(float(state.weight[0]) - before)
    assert steps == pytest.approx([0.1, 0.05, 0.025], rel=1e-5)


def test_a_bigger_capacity_learns_the_same(random_graph):
    rng = np.random.default_rng(0)
    weight, activation = rng.random(1536, dtype=np.float32), rng.random(384, dtype=np.float32)
    learned: list[np.ndarray] = []
    for nodes, edges in ((256, 1024), (384, 1536)):
        graph = random_graph(seed=4, n=200, e=800, nodes=nodes, edges=edges)
        state = hebbian_begin(jnp.asarray(weight[:edges]), graph, learning_rate=0.01)
        replayed = jnp.array([3, 7, 150, nodes])
        state, _ = hebbian_update(state, graph, jnp.asarray(activation[:nodes]), touched_by(graph, replayed), **SPEC)
        learned.append(np.asarray(state.weight)[:1024])
    np.testing.assert_array_equal(learned[0], learned[1])


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    learning_rate=st.floats(0, 0.5, width=32),
    decay_rate=st.floats(0, 0.5, width=32),
    floor=st.floats(0.015625, 0.25, width=32),
)
def test_an_update_is_that_of_float64_and_of_plain_float32_to_the_last_bit(
    graph_of_200, seed, learning_rate, decay_rate, floor
):
    rng = np.random.default_rng(seed)
    weight, activation = rng.random(1024, dtype=np.float32), rng.random(256, dtype=np.float32)
    touched = rng.random(1024) < 0.5
    alive = np.asarray(graph_of_200.edge_alive)
    state = hebbian_begin(jnp.asarray(weight), graph_of_200, learning_rate=learning_rate)
    state, info = hebbian_update(
        state,
        graph_of_200,
        jnp.asarray(activation),
        jnp.asarray(touched),
        learning_rate=learning_rate,
        decay_rate=decay_rate,
        floor=floor,
        cap=1.0,
    )
    learned, still = np.asarray(state.weight), np.asarray(state.edge_alive)
    ends = [np.append(activation, np.float32(0))[np.asarray(end)] for end in (graph_of_200.src, graph_of_200.dst)]

    def update(real: type[np.floating]):
        pre, post, w = (x.astype(real) for x in (*ends, weight))
        raw = w + (real(learning_rate) * (pre * post) - real(decay_rate) * w)
        pruned = alive & touched & (raw <= real(floor))
        return raw, pruned, np.where(alive & touched & ~pruned, np.clip(raw, real(floor), real(1.0)), w)

    # Bit for bit: a multiply-add fused on this machine and not on another would be two different dreams.
    _, pruned, expected = update(np.float32)
    np.testing.assert_array_equal(learned, expected)
    np.testing.assert_array_equal(still, alive & ~pruned)

    raw, pruned, exact = update(np.float64)
    clear = np.abs(raw - floor) > 1e-6
    np.testing.assert_array_equal(still[clear], (alive & ~pruned)[clear])
    np.testing.assert_allclose(learned[clear], exact[clear], rtol=0, atol=1e-6)
    assert int(info.pruned) == (alive & ~still).sum()
    assert int(info.strengthened) == (learned > weight).sum()
    assert int(info.weakened) == (learned < weight).sum()
    kept = learned[alive & touched & still]
    assert ((kept >= np.float32(floor)) & (kept <= 1)).all()
    np.testing.assert_array_equal(learned[~(alive & touched)], weight[~(alive & touched)])


@pytest.fixture(scope="module")
def graph_of_200():
    rng = np.random.default_rng(6)
    ends = rng.integers(0, 200, (2, 800)).astype(np.int32)
    alive = rng.random(200) < 0.9
    importance = rng.random(200, dtype=np.float32)
    return pad_graph(ends[0], ends[1], importance, alive, rng.random(800) < 0.9, nodes=256, edges=1024)
