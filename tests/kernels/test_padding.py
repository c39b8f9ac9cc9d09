import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.padding import capacity, pad_column


def test_capacities_are_powers_of_two_and_their_halfway_points():
    assert [capacity(n) for n in (0, 256, 257, 385, 513, 769, 1025)] == [256, 256, 384, 512, 768, 1024, 1536]


@given(st.integers(256, 40_000_000))
def test_a_capacity_holds_the_graph_and_wastes_at_most_a_third_of_itself(count: int):
    assert count <= capacity(count) <= 1.5 * count


def test_the_adjacency_holds_both_ends_of_each_living_edge_in_the_order_of_the_edges(eight):
    graph = eight()
    assert np.asarray(graph.indptr[:10]).tolist() == [0, 2, 4, 6, 9, 11, 12, 12, 12, 12]
    assert np.asarray(graph.indptr[10:]).tolist() == [12] * 247
    assert np.asarray(graph.neighbour[:12]).tolist() == [1, 3, 2, 0, 3, 1, 0, 4, 2, 5, 3, 4]
    assert np.asarray(graph.via[:12]).tolist() == [0, 3, 1, 0, 2, 1, 3, 4, 2, 5, 4, 5]
    assert set(np.asarray(graph.neighbour[12:]).tolist()) == {256}
    assert set(np.asarray(graph.via[12:]).tolist()) == {256}


def test_a_dead_edge_and_an_edge_with_a_dead_end_are_dead_and_lead_nowhere(eight):
    graph = eight()
    assert np.flatnonzero(graph.edge_alive).tolist() == [0, 1, 2, 3, 4, 5]
    assert not {6, 7} & set(np.asarray(graph.via).tolist())


def test_living_rows_come_first(eight):
    graph = eight()
    assert int(graph.alive_count) == 7
    assert np.asarray(graph.alive_rows).tolist() == [0, 1, 2, 3, 4, 5, 6] + [256] * 249


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 values do not fit into a capacity of 2"):
        pad_column(np.zeros(3, np.float32), 0.0, size=2)
