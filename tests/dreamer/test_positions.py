"""Where memories lie: near what they are linked to, and where they were while nobody changes them."""

from typing import Any

import numpy as np
import pytest

from dreamsvc import config as configuration
from dreamsvc.dreamer import fit_quality, positions
from dreamsvc.dreamer.compiling import rem_calls_of
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Edges, joined
from dreamsvc.dreamer.positions import Placed, place
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER
from kernels.arrays import FitInfo
from kernels.poincare import LIMIT
from tests.dreamer.remembered import remembered, result

REM = configuration.defaults().dream.rem
BRANCHES, NODES = 3, 40


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rounds than a night makes, so that these tests are quick."""
    monkeypatch.setattr(positions, "MOST_ROUNDS", 80)


def tree(count: int = NODES) -> tuple[np.ndarray, np.ndarray]:
    """Every memory below the first is linked to the one above it."""
    below = np.arange(1, count, dtype=np.int32)
    return below, (below - 1) // BRANCHES


def memories(count: int = NODES, **columns: Any) -> Memories:
    return remembered([""] * count, columns=columns)


def placed(one: Memories, links: tuple[np.ndarray, np.ndarray], *, seed: int = 1, strength: Any = None) -> Placed:
    given = np.ones(len(links[0]), np.float32) if strength is None else strength
    return result(place(one, *links, given, REM, seed=seed))


def radius(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points, axis=-1)


def test_in_a_tree_what_is_linked_lies_near_far_above_chance() -> None:
    found = placed(memories(), tree())
    assert (found.fit.memories, found.fit.fitted, found.fit.dimension) == (NODES, NODES, REM.dimension)
    assert found.fit.mean_average_precision > 0.75
    assert found.fit.mean_average_precision > 3 * found.fit.chance > 0
    assert found.fit.loss > 0
    assert found.notice == ""
    assert radius(found.points).max() <= LIMIT + 1e-6


def test_what_has_many_links_and_what_is_important_lies_nearer_the_centre() -> None:
    star = np.arange(1, 30, dtype=np.int32), np.zeros(29, np.int32)
    points = placed(memories(30), star).points
    assert radius(points)[0] < radius(points)[1:].min()
    # Pairs that differ in nothing but how important they are.
    pairs = np.arange(0, NODES, 2, dtype=np.int32), np.arange(1, NODES, 2, dtype=np.int32)
    importance = np.repeat(np.arange(NODES // 2) % 2, 2)
    points = placed(memories(importance=importance), pairs).points
    assert radius(points)[importance == 1].mean() < radius(points)[importance == 0].mean() - 0.02


def test_equal_seeds_give_equal_points_and_others_do_not() -> None:
    first, again, other = (placed(memories(), tree(), seed=seed) for seed in (2**40 + 5, 2**40 + 5, 5))
    assert np.array_equal(first.points, again.points)
    assert first.fit == again.fit
    assert not np.array_equal(first.points, other.points)


def test_the_order_and_the_direction_of_links_say_nothing() -> None:
    src, dst = tree()
    turned = placed(memories(), (dst[::-1].copy(), src[::-1].copy()))
    assert np.array_equal(turned.points, placed(memories(), (src, dst)).points)


def test_what_nobody_changed_stays_where_it_was() -> None:
    before = placed(memories(NODES - 4), tree(NODES - 4))
    points = np.full((NODES, REM.dimension), np.nan, np.float32)
    points[: NODES - 4] = before.points
    # One that lies where the fit would not have put it.
    points[20] *= 0.999 / radius(points[20])
    changed = np.arange(NODES) == 7
    found = placed(memories(points=points, changed=changed), tree())
    moved = [7, *range(NODES - 4, NODES)]
    assert found.fitted.tolist() == moved
    assert found.fit.fitted == len(moved)
    stays = np.setdiff1d(np.arange(NODES), moved)
    assert np.array_equal(found.points[stays], points[stays])
    assert (found.points[7] != points[7]).any()
    assert np.isfinite(found.points).all()
    assert found.fit.mean_average_precision > 0.6


def test_where_fewer_than_half_have_a_place_or_it_has_another_width_all_are_placed() -> None:
    points = placed(memories(), tree()).points
    few = placed(memories(points=points, changed=np.arange(NODES) > 15), tree())
    assert len(few.fitted) == NODES
    enough = placed(memories(points=points, changed=np.arange(NODES) > 25), tree())
    assert enough.fitted.tolist() == list(range(26, NODES))
    narrow = placed(memories(points=points[:, :3].copy(), changed=np.zeros(NODES)), tree())
    assert len(narrow.fitted) == NODES
    assert narrow.points.shape == (NODES, REM.dimension)


def test_a_place_that_is_outside_the_ball_is_none() -> None:
    points = placed(memories(), tree()).points
    points[3] = 0.9
    found = placed(memories(points=points, changed=np.zeros(NODES)), tree())
    assert found.fitted.tolist() == [3]
    assert radius(found.points).max() <= LIMIT + 1e-6


def test_rows_that_recall_does_not_answer_with_have_no_place_and_their_links_do_not_count() -> None:
    alive, roles = np.ones(NODES), np.zeros(NODES)
    alive[5], roles[6] = 0, MEMORY_ROLE_CONTAINER
    src, dst = tree()
    found = placed(memories(alive=alive, roles=roles), (src, dst))
    assert np.flatnonzero(np.isnan(found.points).any(axis=1)).tolist() == [5, 6]
    assert found.fit.memories == NODES - 2
    there = ~np.isin(src, [5, 6]) & ~np.isin(dst, [5, 6])
    without = placed(memories(alive=alive, roles=roles), (src[there], dst[there]))
    assert np.array_equal(found.points, without.points, equal_nan=True)


def test_links_without_a_strength_and_of_a_memory_to_itself_are_none() -> None:
    src, dst = tree()
    more = np.append(src, [4, 9, 8]).astype(np.int32), np.append(dst, [30, 9, 31]).astype(np.int32)
    strength = np.append(np.ones(len(src)), [0.0, 1.0, np.nan])
    assert np.array_equal(placed(memories(), more, strength=strength).points, placed(memories(), (src, dst)).points)


def test_a_memory_without_links_lies_among_those_nearest_by_their_vectors_and_farther_out() -> None:
    # Two trees, of two topics, and one memory more of each topic.
    src, dst = tree(20)
    links = np.concatenate([src, src + 20]), np.concatenate([dst, dst + 20])
    topics = np.array([0] * 20 + [1] * 20 + [0, 1])
    vectors = np.eye(2, 16)[topics] + 0.05 * np.random.default_rng(0).standard_normal((42, 16))
    found = placed(remembered([""] * 42, vectors=vectors), links)
    assert len(found.fitted) == 42
    free = positions._free(found.points)
    middles = np.stack([free[:40][topics[:40] == topic].mean(axis=0) for topic in (0, 1)])
    for row in (40, 41):
        assert np.linalg.norm(free[row] - middles, axis=1).argmin() == topics[row]
        assert np.linalg.norm(free[row]) > np.median(np.linalg.norm(free[:40][topics[:40] == topics[row]], axis=1))


def test_where_nothing_is_linked_importance_tells_how_far_out_and_the_vector_in_which_direction() -> None:
    importance = np.linspace(0, 1, 10)
    vectors = np.random.default_rng(3).standard_normal((10, 8))
    one = remembered([""] * 10, vectors=vectors, columns={"importance": importance})
    none = np.zeros(0, np.int32), np.zeros(0, np.int32)
    found, another = placed(one, none), placed(one, none, seed=9)
    assert (np.diff(radius(found.points)) < 0).all()
    assert np.array_equal(found.points, another.points)
    assert (found.fit.mean_average_precision, found.fit.chance, found.fit.loss) == (0, 0, 0)
    assert found.notice == ""


def test_no_memories_and_two_that_have_only_each_other_are_no_trouble() -> None:
    none = np.zeros(0, np.int32), np.zeros(0, np.int32)
    assert placed(memories(0), none).points.shape == (0, REM.dimension)
    pair = np.array([0], np.int32), np.array([1], np.int32)
    assert np.isfinite(placed(memories(2), pair).points).all()


def test_where_a_number_is_none_nothing_has_a_place_and_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = positions.fit_block

    def breaks(*args: Any, **scalars: Any) -> Any:
        state, info = plain(*args, **scalars)
        return state, FitInfo(info.loss, info.rows, np.bool_(scalars["turn"] < 3))

    monkeypatch.setattr(positions, "fit_block", breaks)
    found = placed(memories(), tree())
    assert np.isnan(found.points).all()
    assert len(found.fitted) == found.fit.fitted == 0
    assert found.fit.mean_average_precision == 0
    assert "no number" in found.notice


def test_a_vector_that_is_no_number_is_found_out_too() -> None:
    vectors = np.ones((5, 4), np.float32)
    one = remembered([""] * 5, vectors=vectors)
    one.vectors[2] = np.nan
    none = np.zeros(0, np.int32), np.zeros(0, np.int32)
    assert "no number" in placed(one, none).notice


def test_a_row_is_compared_with_nothing_that_it_is_linked_to_however_many_links_it_has() -> None:
    # 0 is linked to 1 to 20, of which a step looks at eight that follow each other; 21 is linked to 22 alone.
    src, dst = np.append(np.zeros(20, np.int64), 21), np.append(np.arange(1, 21), 22)
    pairs = result(joined([Edges(src, dst, np.full(21, 0.5, np.float32))], NODES))
    fixed, rng = np.setdiff1d(np.arange(NODES), [0, 21]), np.random.default_rng(0)
    drawing = positions._Drawing(pairs, np.ones(NODES, np.float32), fixed, NODES, 64)
    seen: set[int] = set()
    for _ in range(30):
        block = drawing.block(np.array([0, 21]), rng)
        assert block.rows[:3].tolist() == [0, 21, NODES]
        linked = block.linked[0]
        seen |= set(linked.tolist())
        assert len(set(linked.tolist())) == positions.LINKS
        assert not set(block.fixed[0].tolist()) & set(range(21))
        assert block.linked[1].tolist() == [22] + [NODES] * (positions.LINKS - 1)
        # Of the loss of each of the twenty all is about 0, of its own a twentieth.
        assert block.mutual[0] == pytest.approx(20)
        assert block.mutual[1, :2].tolist() == [1, 0]
    assert seen == set(range(1, 21))


def test_precision_counts_linked_rows_among_all_that_are_as_near() -> None:
    # On a line: 0 is linked to 1 and 3, and 2 lies between them; 4 is not there.
    points = np.array([[0, 0], [0.1, 0], [0.2, 0], [0.3, 0], [0.05, 0]], np.float32)
    there = np.array([True, True, True, True, False])
    links = Edges(np.array([0, 0]), np.array([1, 3]), np.ones(2, np.float32))
    pairs = result(joined([links], 5))
    judged = result(fit_quality.average_precision(points, there, pairs, np.array([0]), around=2))
    assert judged == pytest.approx((1 / 1 + 2 / 3) / 2)
    same = result(fit_quality.average_precision(0 * points, there, pairs, np.array([0]), around=2))
    assert same == pytest.approx((1 / 3 + 2 / 3) / 2)


def test_sorting_and_counting_give_the_same_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    distances, links = rng.random(300, np.float32), rng.choice(299, 50, replace=False) + 1
    distances[0] = 0
    counted = fit_quality._precision(distances, 0, links)
    monkeypatch.setattr(fit_quality, "COUNTED", 0)
    assert fit_quality._precision(distances, 0, links) == counted


def test_the_sample_is_all_where_they_are_few_and_smaller_where_there_are_many() -> None:
    rng = np.random.default_rng(0)
    assert fit_quality.sample_of(np.arange(40), 50, rng).tolist() == list(range(40))
    assert len(fit_quality.sample_of(np.arange(5000), 5000, rng)) == 500
    assert len(fit_quality.sample_of(np.arange(90_000), 100_000, rng)) == 200


def test_what_is_compiled_ahead_has_the_shapes_of_the_calls() -> None:
    calls = {call.name: call for call in rem_calls_of(memories(), REM)}
    assert set(calls) == {"fit_begin", "fit_block", "distances_from", "walk_on", "nearest_points"}
    assert calls["fit_block"].args[1].shape == (positions.rows_at_once(REM.dimension),)
    quiet = configuration.defaults().dream.rem
    quiet.explore = False
    assert {call.name for call in rem_calls_of(memories(), quiet)} == {"fit_begin", "fit_block", "distances_from"}
