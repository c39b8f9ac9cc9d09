import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.paths import HOPS, UNIT, count_paths, out_edges, tally, walk_paths

N, E = 256, 384
# Eight nodes: a line 0-1-2-3-4-5 of edges 0 to 4, and a loop 5-6-7-5 of edges 5 to 7.
SRC = np.array([0, 1, 2, 3, 4, 5, 6, 7], np.int32)
DST = np.array([1, 2, 3, 4, 5, 6, 7, 5], np.int32)
ONES = np.ones(8, np.float32)
ALL = np.ones(8, np.bool_)


def walked(start, *, src=SRC, dst=DST, weight=ONES, walkable=ALL, walkers=6, seed=0, nodes=N, edges=E) -> np.ndarray:
    rows = np.full(4, nodes, np.int32)
    rows[: len(start)] = start
    graph = out_edges(src, dst, weight, walkable, nodes=nodes, edges=edges)
    return np.asarray(walk_paths(jax.random.key(seed), jnp.asarray(rows), graph, walkers=walkers))


def counted(walks, *, src=SRC, dst=DST, weight=ONES, confidence=ONES, least=1):
    counts: dict[bytes, int] = {}
    for part in np.array_split(walks, 3):
        tally(counts, part, edges=E)
    return count_paths(counts, src, dst, weight, confidence, edges=E, least=least)


def test_where_there_is_one_way_every_walker_takes_it():
    walks = walked([0, 3])
    assert walks.tolist() == [[0, 1, 2, 3]] * 6 + [[3, 4, 5, 6]] * 6 + [[E] * 4] * 12


def test_a_walk_ends_where_it_would_meet_itself():
    assert walked([5], walkers=1)[0].tolist() == [5, 6, E, E]


def test_a_walk_goes_from_source_to_target_only():
    walks = walked([4], src=DST, dst=SRC, walkers=1)
    assert walks[0].tolist() == [3, 2, 1, 0]
    assert walked([0], src=DST, dst=SRC, walkers=1)[0].tolist() == [E] * 4


def test_an_edge_that_may_not_be_walked_is_a_dead_end():
    assert walked([0], walkable=ALL & (np.arange(8) != 2), walkers=1)[0].tolist() == [0, 1, E, E]
    assert walked([0], weight=ONES * (np.arange(8) != 2), walkers=1)[0].tolist() == [0, 1, E, E]


def test_a_loop_of_one_node_is_never_walked():
    src, dst = np.array([0, 0], np.int32), np.array([0, 1], np.int32)
    assert walked([0], src=src, dst=dst, weight=ONES[:2], walkable=ALL[:2])[:, 0].tolist() == [1] * 6 + [E] * 18


def test_the_next_edge_is_drawn_in_proportion_to_its_weight():
    src, dst = np.zeros(3, np.int32), np.array([1, 2, 3], np.int32)
    weight = np.array([0.1, 0.6, 0.3], np.float32)
    walks = walked([0], src=src, dst=dst, weight=weight, walkable=ALL[:3], walkers=20_000)
    share = np.bincount(walks[:20_000, 0], minlength=3) / 20_000
    assert np.abs(share - weight).max() < 0.015


def test_the_walks_do_not_depend_on_the_capacity_but_on_the_seed():
    rng = np.random.default_rng(1)
    src, dst = rng.integers(0, 60, 300).astype(np.int32), rng.integers(0, 60, 300).astype(np.int32)
    graph = {"src": src, "dst": dst, "weight": rng.random(300, dtype=np.float32), "walkable": rng.random(300) < 0.9}
    small = walked([3, 7, 9], walkers=50, seed=5, **graph)
    big = walked([3, 7, 9], walkers=50, seed=5, nodes=384, edges=512, **graph)
    assert np.where(small == E, 512, small).tolist() == big.tolist()
    assert small.tolist() != walked([3, 7, 9], walkers=50, seed=6, **graph).tolist()


def test_known_counts_on_eight_nodes():
    confidence = np.array([1, 0.9, 0.8, 1, 1, 1, 1, 1], np.float32)
    weight = np.array([0.5, 0.5, 1, 1, 1, 1, 1, 1], np.float32)
    paths = counted(walked([0, 3, 4]), confidence=confidence, weight=weight)
    found = {tuple(row): int(n) for row, n in zip(paths.edges.tolist(), paths.taken, strict=True)}
    assert found == {
        (0, 1, 2, E): 6,
        (1, 2, 3, E): 6,
        (0, 1, 2, 3): 6,
        (3, 4, 5, E): 6,
        (4, 5, 6, E): 12,
        (3, 4, 5, 6): 6,
    }
    assert paths.edges[0].tolist() == [4, 5, 6, E]
    assert paths.hops.tolist() == [4 if row[3] < E else 3 for row in paths.edges.tolist()]
    place = paths.edges.tolist().index([0, 1, 2, 3])
    assert paths.nodes[place].tolist() == [0, 4]
    assert paths.confidence[place] == pytest.approx(0.72)
    assert paths.weight[place] == pytest.approx(0.25)
    assert paths.nodes[0].tolist() == [4, 7]


def test_a_path_walked_too_seldom_is_left_out():
    walks = walked([0, 3, 4])
    assert counted(walks, least=7).edges.tolist() == [[4, 5, 6, E]]
    assert counted(walks, least=13).edges.shape == (0, 4)


def test_no_walks_are_no_paths():
    none = counted(np.zeros((0, HOPS), np.int32))
    assert (none.edges.shape, none.nodes.shape, none.taken.shape) == ((0, 4), (0, 2), (0,))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(0, 60))
def test_walks_are_simple_paths_and_all_are_counted(seed, n, e):
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, n, e).astype(np.int32), rng.integers(0, n, e).astype(np.int32)
    weight, walkable = rng.random(e, dtype=np.float32), rng.random(e) < 0.8
    walks = walked([0, 1], src=src, dst=dst, weight=weight, walkable=walkable, walkers=40, seed=seed % 1000)
    expected: dict[tuple[int, ...], int] = {}
    for start, walk in zip([0] * 40 + [1] * 40 + [N] * 80, walks.tolist(), strict=True):
        edges = [edge for edge in walk if edge < E]
        assert walk == edges + [E] * (HOPS - len(edges))
        visited = [start]
        for edge in edges:
            assert walkable[edge]
            assert round(float(weight[edge]) * UNIT) > 0
            assert src[edge] == visited[-1]
            visited.append(int(dst[edge]))
        assert len(set(visited)) == len(visited)
        for hops in (3, 4):
            for first in range(len(edges) - hops + 1):
                path = (*edges[first : first + hops], *[E] * (HOPS - hops))
                expected[path] = expected.get(path, 0) + 1
    paths = counted(walks, src=src, dst=dst, weight=weight, confidence=weight)
    assert {tuple(p): int(n) for p, n in zip(paths.edges.tolist(), paths.taken, strict=True)} == expected
    assert (np.diff(paths.taken) <= 0).all()


def test_a_node_with_more_edges_than_can_be_told_apart_is_refused(monkeypatch):
    monkeypatch.setattr("kernels.paths.UNIT", 2**31)
    with pytest.raises(ValueError, match="too many edges"):
        out_edges(np.zeros(3, np.int32), np.arange(1, 4, dtype=np.int32), ONES[:3], ALL[:3], nodes=N, edges=E)
