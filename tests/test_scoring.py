"""How the parts of a score are scaled and put together, by hand and against the plain way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamsvc import scoring
from dreamsvc.scoring import Peers, Ways
from dreamsvc.walk import build_adjacency


def column(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def peers(n: int, linked: dict[int, tuple[dict[int, float], float]], k: int = 4) -> Peers:
    """Of each row its peers with their shares, and the length of v'."""
    made = Peers(np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32), np.ones(n, np.float32))
    for row, (shares, length) in linked.items():
        made.rows[row, : len(shares)] = list(shares)
        made.shares[row, : len(shares)] = list(shares.values())
        made.lengths[row] = length
    return made


# ── minmax ──────────────────────────────────────────────────────────────────────


def test_scores_are_scaled_over_some_rows_and_cut_off_elsewhere() -> None:
    among = np.array([True, True, True, False, False])
    scaled = scoring.minmax(column(1, 3, 2, 9, -9), among)
    assert scaled.tolist() == [0, 1, 0.5, 1, 0]
    assert scaled.dtype == np.float32


def test_scores_that_do_not_differ_say_nothing_but_that_something_was_found() -> None:
    among = np.array([True, True, False])
    assert scoring.minmax(column(2, 2, 5), among).tolist() == [1, 1, 0]
    assert scoring.minmax(column(0, 0, 5), among).tolist() == [0, 0, 0]
    assert scoring.minmax(column(1, 2, 3), np.zeros(3, np.bool_)).tolist() == [0, 0, 0]


# ── best ────────────────────────────────────────────────────────────────────────


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 700).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, 5), st.integers(1, 12))), st.integers()
)
def test_the_best_are_those_of_a_whole_sort_with_ties_in_the_order_of_rows(
    drawn: tuple[int, int, int], seed: int
) -> None:
    n, digits, count = drawn
    scores = np.random.default_rng(abs(seed)).random(n).astype(np.float32).round(digits)
    expected = sorted(range(n), key=lambda row: (-scores[row], row))[:count]
    assert scoring.best(scores, count).tolist() == expected


# ── walked ──────────────────────────────────────────────────────────────────────


def ways(*edges: tuple[int, int, float], n: int) -> Ways:
    sources, targets, weights = (np.array(side) for side in zip(*edges, strict=True))
    adjacency = build_adjacency(sources, targets, n, weights)
    return Ways(adjacency, weights.astype(np.float32), np.ones(len(edges), np.bool_))


def test_a_walk_reaches_what_the_best_are_linked_to_and_nothing_else() -> None:
    reached = scoring.walked(column(1, 0, 0, 0), ways((0, 1, 1.0), (2, 3, 1.0), n=4), weight=2.0, restart=0.5)
    # p0 = 1/2 + p1/2 and p1 = p0/2: 2/3 and 1/3, scaled so that the most is 2.
    np.testing.assert_allclose(reached, [2, 1, 0, 0], atol=1e-3)


def test_a_walk_begins_nowhere_where_nothing_is_found() -> None:
    assert not scoring.walked(column(0, 0), ways((0, 1, 1.0), n=2), weight=2.0, restart=0.5).any()


# ── expanded ────────────────────────────────────────────────────────────────────


def test_a_row_has_the_better_of_its_own_cosine_and_that_of_its_expanded_vector_by_hand() -> None:
    linked = peers(4, {0: ({1: 0.25, 2: 0.25}, 1.25), 1: ({3: 0.5}, 1.5)})
    # Row 0: (0.5 + (0.9 + 0.3) / 4) / 1.25 = 0.64; row 1: (0.9 - 0.1) / 1.5, which is less than 0.9.
    np.testing.assert_allclose(scoring.expanded(column(0.5, 0.9, 0.3, -0.2), linked), [0.64, 0.9, 0.3, -0.2], rtol=1e-6)


def test_what_has_no_vector_gets_none_and_a_peer_without_one_adds_nothing() -> None:
    linked = peers(3, {0: ({1: 0.5}, 1.25), 1: ({0: 0.5}, 1.25), 2: ({1: 0.5}, 1.25)})
    assert scoring.expanded(column(0.5, 0, 0.25), linked).tolist() == [0.5, 0, 0.25]


def test_peers_that_came_later_do_not_count() -> None:
    linked = peers(8, {0: ({5: 0.5, 1: 0.25}, 1.0), 6: ({0: 0.5}, 1.0)})
    assert scoring.expanded(column(0.5, 0.8), linked).tolist() == pytest.approx([0.7, 0.8])


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_it_is_the_cosine_of_the_vector_that_was_moved_towards_its_peers(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    linked: dict[int, tuple[dict[int, float], float]] = {}
    moved = vectors.copy()
    for row in rng.choice(n, n // 2, replace=False).tolist():
        near = rng.choice(n, min(n, 4), replace=False).tolist()
        shares = dict(zip(near, (rng.dirichlet(np.ones(len(near))) / 2).tolist(), strict=True))
        moved[row] += sum(share * vectors[peer] for peer, share in shares.items())
        length = float(np.linalg.norm(moved[row]))
        moved[row] /= length
        linked[row] = (shares, length)
    query = rng.normal(size=5)
    query /= np.linalg.norm(query)
    cosines = (vectors @ query).astype(np.float32)
    before = cosines.copy()
    np.testing.assert_allclose(
        scoring.expanded(cosines, peers(n, linked)), np.maximum(vectors @ query, moved @ query), atol=1e-5
    )
    np.testing.assert_array_equal(cosines, before)
