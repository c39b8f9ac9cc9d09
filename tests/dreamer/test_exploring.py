"""Walks of one step length inside the ball, and queries made of what lies where they end."""

from typing import Any

import numpy as np
import pytest

from dreamsvc import config as configuration
from dreamsvc.dreamer import exploring
from dreamsvc.dreamer.exploring import NEAREST, Explored, explore
from dreamsvc.dreamer.memories import NOWHERE, Memories
from dreamsvc.v1.config_pb2 import RemConfig
from kernels.poincare import LIMIT
from tests.dreamer.remembered import remembered, result

NODES, DIMENSION = 60, 5


def rem(**changed: float) -> RemConfig:
    config = configuration.defaults().dream.rem
    for name, value in changed.items():
        setattr(config, name, value)
    return config


def points_of(count: int = NODES, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal((count, DIMENSION))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return (direction * rng.uniform(0, LIMIT, (count, 1))).astype(np.float32)


def memories(count: int = NODES, *, vectors: Any = None, **columns: Any) -> Memories:
    given = np.random.default_rng(1).standard_normal((count, 8)) if vectors is None else vectors
    return remembered([""] * count, vectors=given, columns=columns)


def explored(
    one: Memories, points: np.ndarray, config: RemConfig, *, temperature: float = 2.0, seed: int = 1
) -> Explored:
    return result(explore(one, points, config, temperature=temperature, seed=seed))


def apart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    room = (1 - (x**2).sum(-1)) * (1 - (y**2).sum(-1))
    return np.arccosh(1 + 2 * ((x - y) ** 2).sum(-1) / room)


def test_a_walk_is_made_of_steps_of_one_length_from_its_origin_and_stays_in_the_ball() -> None:
    points = points_of()
    points[:20] *= (LIMIT / np.linalg.norm(points[:20], axis=1))[:, None]  # at the very edge
    found = explored(memories(), points, rem(synthetic_query_count=100, walk_length=7, step_size=0.3))
    assert found.paths.shape == (100, 8, DIMENSION)
    np.testing.assert_allclose(found.paths[:, 0], points[found.origins], atol=1e-6)
    assert np.linalg.norm(found.paths, axis=2).max() < 1
    np.testing.assert_allclose(apart(found.paths[:, :-1], found.paths[:, 1:]), 0.3, rtol=2e-3)


def test_as_many_queries_as_configured_of_unit_length_also_where_there_are_fewer_memories() -> None:
    found = explored(memories(), points_of(), rem(synthetic_query_count=150))
    assert found.queries.shape == (150, 8)
    np.testing.assert_allclose(np.linalg.norm(found.queries, axis=1), 1, rtol=1e-5)
    # None twice while another is left.
    assert set(np.bincount(found.origins, minlength=NODES).tolist()) == {150 // NODES, 150 // NODES + 1}


def test_the_nearest_are_those_of_a_plain_search_and_the_query_is_their_mixture() -> None:
    one, points = memories(), points_of()
    found = explored(one, points, rem(synthetic_query_count=9), temperature=0.7)
    distances = apart(found.paths[:, -1][:, None], points[None])
    order = np.argsort(distances, axis=1)[:, :NEAREST]
    assert np.array_equal(found.nearest, order)
    weight = np.exp(-np.take_along_axis(distances, order, axis=1) / 0.7)
    mixed = np.einsum("qk,qkd->qd", weight, one.vectors[order])
    np.testing.assert_allclose(found.queries, mixed / np.linalg.norm(mixed, axis=1, keepdims=True), atol=1e-3)


def test_equal_seeds_give_equal_walks_and_others_do_not() -> None:
    one, points, config = memories(), points_of(), rem(synthetic_query_count=80)
    first, again, other = (explored(one, points, config, seed=seed) for seed in (2**35 + 1, 2**35 + 1, 1))
    assert all(np.array_equal(left, right) for left, right in zip(first, again, strict=True))
    assert not np.array_equal(first.paths, other.paths)


def test_walks_begin_at_important_memories_the_more_so_the_cooler_it_is() -> None:
    importance = np.where(np.arange(NODES) < 10, 1.0, 0.05)
    shares = []
    for temperature in (0.3, 1.0, 20.0):
        drawn = [
            explored(memories(importance=importance), points_of(), rem(synthetic_query_count=5, walk_length=1),
                     temperature=temperature, seed=seed).origins
            for seed in range(20)
        ]  # fmt: skip
        shares.append((np.concatenate(drawn) < 10).mean())
    assert shares[0] > shares[1] > shares[2]
    assert shares[0] > 0.95
    assert shares[2] < 0.45


def test_a_memory_of_no_importance_is_no_origin_while_another_has_some() -> None:
    importance = np.zeros(NODES)
    importance[[4, 9]] = 0.2, 0.9
    found = explored(memories(importance=importance), points_of(), rem(synthetic_query_count=6))
    assert set(found.origins.tolist()) == {4, 9}
    nothing = explored(memories(importance=np.zeros(NODES)), points_of(), rem(synthetic_query_count=NODES))
    assert sorted(nothing.origins.tolist()) == list(range(NODES))


def test_without_chance_walks_leave_the_crowd() -> None:
    rng = np.random.default_rng(5)
    crowd = (rng.standard_normal((NODES, DIMENSION)) * 0.02 + [0.3, 0, 0, 0, 0]).astype(np.float32)
    crowd[0] = [0.36, 0, 0, 0, 0]
    importance = np.zeros(NODES)
    importance[0] = 1
    one = memories(importance=importance)
    ends = {}
    for bias in (0.0, 1.0):
        found = explored(one, crowd, rem(synthetic_query_count=40, exploration_bias=bias))
        ends[bias] = apart(found.paths[:, -1], np.array([0.3, 0, 0, 0, 0])).mean()
    # From one point and without chance all go one way, straight out.
    assert ends[0.0] > 1.4
    assert ends[0.0] > ends[1.0] + 0.3


def test_rows_without_a_place_or_that_recall_does_not_answer_with_are_no_part_of_it() -> None:
    points = points_of()
    points[:20] = np.nan
    alive = np.arange(NODES) < 40
    found = explored(memories(alive=alive), points, rem(synthetic_query_count=30))
    assert set(found.origins.tolist()) <= set(range(20, 40))
    assert set(found.nearest.ravel().tolist()) <= set(range(20, 40))
    assert np.isfinite(found.paths).all()


def test_where_nothing_has_a_place_there_are_no_walks() -> None:
    for count in (0, NODES):
        found = explored(memories(count, vectors=np.ones((count, 8))), np.full((count, 5), np.nan, np.float32), rem())
        assert [len(column) for column in found] == [0, 0, 0, 0]
        assert found.paths.shape[1:] == (6, 5)
        assert found.queries.shape[1] == 8


def test_where_there_are_fewer_memories_than_a_query_is_mixed_of_the_other_places_are_empty() -> None:
    found = explored(memories(3), points_of(3), rem(synthetic_query_count=4))
    assert (found.nearest[:, 3:] == NOWHERE).all()
    assert (np.sort(found.nearest[:, :3], axis=1) == [0, 1, 2]).all()
    np.testing.assert_allclose(np.linalg.norm(found.queries, axis=1), 1, rtol=1e-5)


def test_a_query_is_mixed_of_memories_that_have_a_vector_and_is_0_where_none_has() -> None:
    vectors = np.random.default_rng(2).standard_normal((NODES, 8))
    vectors[::2] = 0
    found = explored(memories(vectors=vectors), points_of(), rem(synthetic_query_count=10))
    assert (found.nearest % 2 == 1).all()
    none = explored(memories(vectors=np.zeros((NODES, 8))), points_of(), rem(synthetic_query_count=10))
    assert not none.queries.any()
    assert (none.nearest >= 0).all()


@pytest.mark.parametrize("temperature", [0.0, 1e-9, 100.0])
def test_no_temperature_makes_a_number_that_is_none(temperature: float) -> None:
    found = explored(memories(), points_of(), rem(synthetic_query_count=5), temperature=temperature)
    assert np.isfinite(found.queries).all()
    assert np.isfinite(found.paths).all()


def test_points_outside_what_can_be_told_apart_are_taken_as_at_the_edge() -> None:
    points = points_of()
    points *= (0.9999 / np.linalg.norm(points, axis=1))[:, None]
    found = explored(memories(), points, rem(synthetic_query_count=70))
    assert np.linalg.norm(found.paths, axis=2).max() <= LIMIT + 1e-6
    np.testing.assert_allclose(apart(found.paths[:, :-1], found.paths[:, 1:]), 0.3, rtol=3e-3)
    assert len(found.origins) > exploring.WALKS
