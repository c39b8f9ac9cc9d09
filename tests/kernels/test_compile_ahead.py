import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels.activation import activate, at_rest, dequantise, quantise
from kernels.arrays import Graph
from kernels.compile_ahead import Call, Sizes, compile_ahead, near_duplicate_calls, replay_calls, walk_calls
from kernels.hebbian import hebbian_begin, hebbian_update, touched_by
from kernels.near_duplicates import LshPlan, find_near_duplicates, plan_tables, room_for
from kernels.padding import capacity
from kernels.paths import out_edges, walk_paths
from kernels.sampling import sample_replay
from kernels.src import src_chunk

# Shapes no other test uses, so that nothing is compiled yet.
SIZES = Sizes(nodes=512, edges=1024, slots=48, replay=24, batch=8)
CALLS = replay_calls(SIZES, learning_rate=0.01)
DIM, PLACES, WALKERS, STARTS = 24, 640, 3, 40
PLAN = plan_tables(500, 0.93)
MERGING = (
    *walk_calls(nodes=512, edges=1024, rows=STARTS, walkers=WALKERS),
    *near_duplicate_calls(nodes=512, dim=DIM, plan=PLAN, places=PLACES),
    *near_duplicate_calls(nodes=512, dim=DIM, plan=None, places=PLACES),
)
COMPILED = "/jax/core/compile/backend_compile_duration"
TRACED = "/jax/core/compile/jaxpr_trace_duration"


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """The names of the kernels that JAX traces or compiles from here on."""
    seen: list[str] = []

    def listen(event: str, _: float, **labels: str | int) -> None:
        if event in (COMPILED, TRACED):
            seen.append(re.sub(r"jit\((.*)\)", r"\1", str(labels["fun_name"])))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def dream(graph: Graph, seed: int) -> tuple[jax.Array, jax.Array]:
    """A little dream through every kernel; its journal is the weights and the living edges."""
    key = jax.random.key(seed)
    nodes, edges = graph.importance.shape[0], graph.edge_alive.shape[0]
    src, learned = at_rest(nodes), hebbian_begin(jnp.full(edges, 0.5), graph, learning_rate=0.01)
    rows, _ = sample_replay(
        jax.random.fold_in(key, 1), graph.importance, jnp.zeros(nodes), graph.alive, recency_bias=0.8, k=SIZES.replay
    )
    for batch in np.asarray(rows).reshape(-1, SIZES.batch):
        src = activate(src, jnp.asarray(batch), level=1.0)
        src, _ = src_chunk(
            key,
            src,
            graph._replace(edge_alive=learned.edge_alive),
            learned.weight,
            4,
            sparsity=0.1,
            randomness=0.5,
            clustering=0.7,
            decay_rate=0.9,
            amplitude=1.0,
            floor=0.01,
            slots=SIZES.slots,
        )
        src = src._replace(activation=dequantise(quantise(src.activation)))
        touched = touched_by(graph, jnp.asarray(batch))
        learned, _ = hebbian_update(
            learned, graph, src.activation, touched, learning_rate=0.01, decay_rate=0.001, floor=0.05, cap=1.0
        )
    return learned.weight, learned.edge_alive


def test_a_dream_compiled_ahead_compiles_no_kernel_and_neither_does_one_of_a_grown_graph(random_graph, compiled):
    compile_ahead(CALLS)
    names = {call.name for call in CALLS}
    assert names <= set(compiled)
    small = random_graph(seed=0, n=400, e=800, nodes=capacity(400), edges=capacity(800))
    grown = random_graph(seed=0, n=410, e=900, nodes=capacity(410), edges=capacity(900))
    compiled.clear()
    journal = dream(small, 1)
    dream(grown, 1)
    assert not names & set(compiled)
    np.testing.assert_array_equal(journal[0], dream(small, 1)[0])
    assert (np.asarray(journal[0]) != np.asarray(dream(small, 2)[0])).any()


def near(vectors: np.ndarray, plan: LshPlan | None, seed: int) -> list[list[int]]:
    """Pairs of the rows, by what JAX has to run for them."""
    nodes = capacity(len(vectors))
    room, alive = room_for(nodes, DIM), np.arange(nodes) < len(vectors)
    room[: len(vectors)] = vectors
    search = find_near_duplicates(
        jax.random.key(seed),
        jax.device_put(room),
        jax.device_put(alive),
        threshold=0.93,
        plan=plan,
        places=PLACES,
        most=100,
    )
    while True:
        try:
            next(search)
        except StopIteration as end:
            return end.value.pairs.tolist()


def walked(nodes: int, edges: int, seed: int) -> np.ndarray:
    """Walks over a random graph of so many nodes and edges."""
    draw = np.random.default_rng(seed)
    src, dst = draw.integers(0, nodes, (2, edges)).astype(np.int32)
    graph = out_edges(
        src, dst, draw.random(edges, np.float32), np.ones(edges, np.bool_), nodes=capacity(nodes), edges=capacity(edges)
    )
    rows = jax.device_put(np.arange(STARTS, dtype=np.int32))
    return np.asarray(walk_paths(jax.random.fold_in(jax.random.key(seed), 1), rows, graph, walkers=WALKERS))


def test_merging_compiled_ahead_compiles_nothing_whatever_number_of_rows_there_is(compiled):
    compile_ahead(MERGING)
    assert {call.name for call in MERGING} <= set(compiled)
    # What makes a key is compiled too, and is no kernel.
    jax.random.fold_in(jax.random.key(0), 1)
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((500, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[7, 300]] = vectors[[450, 12]]
    compiled.clear()
    for rows in (vectors, vectors[:470]):
        for plan in (PLAN, None):
            assert [7, 450] in near(rows, plan, 1)
    assert (walked(500, 1000, 1) < 1024).any()
    assert (walked(400, 900, 2) < 1024).any()
    assert compiled == []


@pytest.mark.parametrize("call", [*CALLS, *MERGING], ids=lambda call: call.name)
def test_a_kernel_lowers_for_a_gpu_without_a_scatter_whose_order_matters(call: Call):
    exported = jax.export.export(call.program, platforms=["cuda"])(*call.args, **call.scalars)
    assert exported.platforms == ("cuda",)
    scatters = re.findall(r'"stablehlo\.scatter"\(.*?\}\) :', exported.mlir_module(), flags=re.DOTALL)
    written = {"activate": 1, "src_chunk": 1, "touched_by": 1, "neighbours_alike": 1, "tile_pairs": 1}
    assert len(scatters) == written.get(call.name, 0)
    for scatter in scatters:
        floats = re.search(r"stablehlo\.(add|multiply|subtract) .*tensor<f32>", scatter)
        assert not floats, scatter
