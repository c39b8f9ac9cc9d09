"""What the edges learn from use, and which pairs get one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc.dreamer.use import MOST_EDGES, Together, UsedPair, co_activated, together_in, used_pairs
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER, MEMORY_ROLE_FACET
from tests.dreamer.remembered import remembered

RATE, CAP = 0.01, 1.0


def pairs(*told: tuple[int, int, int, int]) -> Together:
    """Of source, target, recalled, confirmed."""
    columns = np.array(told, np.int32).reshape(-1, 4)
    return Together(columns[:, :2], columns[:, 2], columns[:, 3])


def learned(together: Together, edges: list[tuple[int, int, float]], dead: list[int] | None = None) -> list[float]:
    living = np.ones(len(edges), np.bool_)
    living[dead or []] = False
    src, dst = (np.array([edge[end] for edge in edges], np.int32) for end in (0, 1))
    weights = np.array([edge[2] for edge in edges], np.float32)
    before = weights.copy()
    after = co_activated(together, src, dst, weights, living, learning_rate=RATE, weight_cap=CAP)
    assert np.array_equal(weights, before)
    assert after.dtype == np.float32
    return after.tolist()


def test_edges_grow_by_how_often_both_ends_were_of_use_in_either_direction() -> None:
    together = pairs((0, 1, 5, 0), (1, 2, 0, 2), (2, 3, 10, 3), (0, 5, 9, 9))
    edges = [(0, 1, 0.2), (1, 0, 0.3), (2, 1, 0.5), (2, 3, 0.5), (0, 2, 0.4), (4, 3, 0.4)]
    wanted = [0.2 + 0.005, 0.3 + 0.005, 0.5 + 0.02, 0.5 + 0.04, 0.4, 0.4]
    assert learned(together, edges) == pytest.approx(wanted)


def test_an_edge_learns_of_ten_co_activations_at_most_and_stops_at_the_cap() -> None:
    together = pairs((0, 1, 0, 1000), (1, 2, 100_000, 0), (2, 3, 0, 10))
    assert learned(together, [(0, 1, 0.2), (1, 2, 0.2), (2, 3, 0.95)]) == pytest.approx([0.3, 0.3, 1.0])


def test_dead_edges_learn_nothing_and_one_beyond_the_cap_keeps_its_weight() -> None:
    assert learned(pairs((0, 1, 0, 1)), [(0, 1, 0.2), (0, 1, 0.3), (1, 0, 1.5)], dead=[0]) == pytest.approx(
        [0.2, 0.31, 1.5]
    )


@pytest.mark.parametrize("edges", [[], [(0, 1, 0.25)]])
def test_where_nothing_was_of_use_nothing_changes(edges: list[tuple[int, int, float]]) -> None:
    assert learned(pairs(), edges) == [edge[2] for edge in edges]


def test_pairs_without_edges_are_no_trouble() -> None:
    assert learned(pairs((0, 1, 1, 1)), []) == []


@settings(max_examples=60)
@given(data=st.data())
def test_it_is_what_going_through_all_pairs_and_edges_gives(data: Any) -> None:
    ends = st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] < pair[1])
    counts = st.tuples(st.integers(0, 30), st.integers(0, 30))
    told = data.draw(st.dictionaries(ends, counts, max_size=12))
    edges = data.draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(0, 1, width=32)), max_size=20))
    dead = data.draw(st.sets(st.integers(0, max(len(edges) - 1, 0)), max_size=len(edges)))
    wanted: list[float] = []
    for place, (source, target, weight) in enumerate(edges):
        recalled, confirmed = told.get((min(source, target), max(source, target)), (0, 0))
        gain = RATE * min(confirmed + 0.1 * recalled, 10)
        wanted.append(weight if place in dead else min(weight + gain, CAP))
    found = learned(pairs(*((*pair, *count) for pair, count in told.items())), edges, sorted(dead))
    assert found == pytest.approx(wanted, abs=1e-6)
    assert all(after >= edge[2] for after, edge in zip(found, edges, strict=True))


def test_a_snapshot_holds_the_pairs_as_they_are_told() -> None:
    arrays = {
        "together": np.array([[1, 2]], np.int32),
        "together_recalled": np.array([3], np.int32),
        "together_confirmed": np.array([4], np.int32),
    }
    found = together_in(arrays)
    assert (found.rows.tolist(), found.recalled.tolist(), found.confirmed.tolist()) == ([[1, 2]], [3], [4])


def used(together: list[list[int]], confirmed: list[int], recalled: list[int] | None = None, **more: Any) -> Any:
    columns = more.pop("columns", {}) | {
        "together": together,
        "confirmed": confirmed,
        "recalled": recalled or [0] * len(together),
    }
    return used_pairs(remembered([f"memory {row}" for row in range(8)], columns=columns, **more))


def test_confirmed_pairs_get_an_edge_and_the_more_often_the_stronger() -> None:
    assert used([[0, 1], [2, 3], [4, 5], [6, 7]], [1, 3, 0, 99], [0, 0, 50, 0]) == [
        UsedPair(6, 7, 0.7, 0.7, "used together 99 times"),
        UsedPair(2, 3, 0.5, 0.7, "used together 3 times"),
        UsedPair(0, 1, 0.3, 0.7, "used together once"),
    ]


def test_a_pair_that_an_edge_joins_in_either_direction_gets_none_unless_that_edge_is_dead() -> None:
    edges = [(0, 1, "near"), (3, 2, "near"), (4, 5, "near")]
    found = used([[0, 1], [2, 3], [4, 5]], [1, 1, 1], edges=edges, dead_edges=[2])
    assert [(pair.source, pair.target) for pair in found] == [(4, 5)]


def test_rejected_pairs_and_those_that_cannot_be_found_any_more_get_none() -> None:
    roles = [0, 0, 0, 0, MEMORY_ROLE_FACET, MEMORY_ROLE_FACET, MEMORY_ROLE_CONTAINER, 0]
    columns = {"rejected": [[1, 0]], "roles": roles, "alive": [1, 1, 1, 0, 1, 1, 1, 1]}
    found = used([[0, 1], [2, 3], [4, 5], [6, 7]], [1, 1, 1, 1], columns=columns)
    # Facets count as themselves.
    assert [(pair.source, pair.target) for pair in found] == [(4, 5)]


def test_of_equally_often_confirmed_pairs_those_recalled_more_often_come_first() -> None:
    found = used([[4, 5], [0, 1], [2, 3]], [2, 2, 2], [1, 1, 7])
    assert [pair.source for pair in found] == [2, 0, 4]


def test_nothing_of_use_makes_nothing() -> None:
    assert used([], []) == []
    assert used_pairs(remembered([])) == []


def test_a_night_makes_a_thousand_of_them_at_most() -> None:
    count = MOST_EDGES + 50
    rows = np.stack([np.arange(count), np.arange(count) + 1], axis=1)
    columns = {"together": rows, "confirmed": np.arange(count) + 1, "recalled": np.zeros(count)}
    found = used_pairs(remembered(["one"] * (count + 1), columns=columns))
    assert [pair.source for pair in found] == list(range(count - 1, 49, -1))
