import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels.near_duplicates import (
    MOST_TABLES,
    NearDuplicates,
    find_near_duplicates,
    hyperplanes,
    neighbours_alike,
    plan_tables,
    room_for,
    sketch_rows,
    sort_table,
    tile_pairs,
)
from kernels.padding import capacity


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def planted(seed: int, n: int, dim: int, cosine: float, pairs: int) -> tuple[np.ndarray, set[tuple[int, int]]]:
    """Random rows, `pairs` of which have a partner at a cosine just above the one given."""
    rng = np.random.default_rng(seed)
    rows = unit(rng.standard_normal((n, dim)))
    first, second = rng.permutation(n)[: 2 * pairs].reshape(2, -1)
    aside = rng.standard_normal((pairs, dim))
    aside -= (aside * rows[first]).sum(axis=1, keepdims=True) * rows[first]
    near = rng.uniform(cosine + 1e-4, min(1.0, cosine + 0.02), (pairs, 1))
    rows[second] = near * rows[first] + np.sqrt(1 - near**2) * unit(aside)
    return rows, {(min(a, b), max(a, b)) for a, b in zip(first.tolist(), second.tolist(), strict=True)}


def found(
    rows: np.ndarray, *, threshold, exact, seed=0, places=4096, most=1 << 20, alive=None, dtype=np.float32
) -> NearDuplicates:
    n = len(rows)
    padded = np.zeros((capacity(n), rows.shape[1]), dtype)
    padded[:n] = rows
    living = np.arange(capacity(n)) < n
    if alive is not None:
        living[:n] &= alive
    search = find_near_duplicates(
        jax.random.key(seed),
        jnp.asarray(padded),
        jnp.asarray(living),
        threshold=threshold,
        plan=None if exact else plan_tables(int(living.sum()), threshold),
        places=places,
        most=most,
    )
    while True:
        try:
            next(search)
        except StopIteration as end:
            return end.value


def as_set(result: NearDuplicates) -> set[tuple[int, int]]:
    return {(a, b) for a, b in result.pairs.tolist()}


@pytest.mark.parametrize("threshold", [0.95, 0.90])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_hyperplanes_find_99_of_100_pairs_among_20_000_rows(threshold, seed):
    rows, pairs = planted(seed, 20_000, 96, threshold, 2000)
    result = found(rows, threshold=threshold, exact=False, seed=seed)
    assert len(as_set(result) & pairs) >= 0.99 * len(pairs)
    assert (result.cosines >= threshold).all()
    assert result.overflow == 0
    first, second = result.pairs.T
    np.testing.assert_allclose(result.cosines, (rows[first] * rows[second]).sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 100, 400, 2500])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_tiles_find_every_pair_once(n, dtype):
    rng = np.random.default_rng(n)
    rows = unit(rng.standard_normal((40, 8))[rng.integers(0, 40, n)] + 0.25 * rng.standard_normal((n, 8))).astype(dtype)
    alive = rng.random(n) < 0.9
    exact = rows.astype(np.float64) @ rows.astype(np.float64).T
    wanted = np.argwhere(np.triu(exact >= 0.97, 1) & alive[:, None] & alive)
    result = found(rows, threshold=0.97, exact=True, alive=alive, places=1 << 16, dtype=dtype)
    unsure = {(int(i), int(j)) for i, j in np.argwhere(np.abs(exact - 0.97) < 1e-5)}
    assert as_set(result) - unsure == {(int(i), int(j)) for i, j in wanted} - unsure
    assert len(as_set(result)) == len(result.pairs)
    assert result.overflow == 0


def test_pairs_stand_in_order_the_smaller_row_first():
    rows, _ = planted(3, 3000, 64, 0.95, 200)
    for exact in (True, False):
        pairs = found(rows, threshold=0.95, exact=exact).pairs
        assert (pairs[:, 0] < pairs[:, 1]).all()
        assert pairs.tolist() == sorted(pairs.tolist())


def test_the_two_ways_agree():
    rows, _ = planted(4, 3000, 64, 0.92, 300)
    exact, sketched = (as_set(found(rows, threshold=0.92, exact=way)) for way in (True, False))
    assert sketched <= exact
    assert len(sketched) >= 0.99 * len(exact)


def test_the_dead_are_in_no_pair():
    rows, pairs = planted(5, 1000, 64, 0.95, 100)
    alive = np.ones(1000, np.bool_)
    alive[[a for a, _ in list(pairs)[:50]]] = False
    wanted = {(a, b) for a, b in pairs if alive[a] and alive[b]}
    assert as_set(found(rows, threshold=0.95, exact=True, alive=alive)) == wanted
    assert as_set(found(rows, threshold=0.95, exact=False, alive=alive)) <= wanted


def test_a_thousand_copies_of_one_row_are_all_joined():
    rng = np.random.default_rng(6)
    rows = unit(
        np.concatenate([rng.standard_normal((1000, 32)), np.repeat(rng.standard_normal((1, 32)), 1000, axis=0)])
    )
    result = found(rows, threshold=0.99, exact=False, places=1 << 16)
    joined = {1000}
    for a, b in result.pairs.tolist():
        if a in joined:
            joined.add(b)
    assert joined == set(range(1000, 2000))
    # Copies are compared with the next few only: the result stays linear in the rows.
    assert len(result.pairs) < 40_000


def test_the_same_seed_finds_the_same_and_another_may_not():
    rows, _ = planted(7, 2000, 32, 0.9, 300)
    once, again = (found(rows, threshold=0.9, exact=False, seed=1) for _ in range(2))
    np.testing.assert_array_equal(once.pairs, again.pairs)
    np.testing.assert_array_equal(once.cosines, again.cosines)
    planes = [np.asarray(hyperplanes(jax.random.key(seed), 32, 4)) for seed in (1, 2)]
    assert (planes[0] != planes[1]).any()


@pytest.mark.parametrize("exact", [True, False])
def test_pairs_without_a_place_are_counted(exact):
    rows, pairs = planted(8, 1000, 64, 0.95, 100)
    result = found(rows, threshold=0.95, exact=exact, places=10)
    assert as_set(result) <= pairs
    assert result.overflow >= 100 - len(result.pairs) > 0


@pytest.mark.parametrize("exact", [True, False])
def test_of_too_many_pairs_the_nearest_stay(exact):
    rows, _ = planted(8, 1000, 64, 0.95, 100)
    everything = found(rows, threshold=0.95, exact=exact)
    result = found(rows, threshold=0.95, exact=exact, most=10)
    assert sorted(result.cosines) == sorted(everything.cosines)[-10:]
    assert result.pairs.tolist() == sorted(result.pairs.tolist())
    assert result.overflow == len(everything.pairs) - 10


def test_a_processor_takes_the_room_for_vectors_as_it_is():
    room = room_for(256, 24)
    assert (room.shape, room.dtype, room.any()) == ((256, 24), np.float16, False)
    room[255, 23] = 0.5
    assert jax.device_put(room, jax.devices("cpu")[0]).unsafe_buffer_pointer() == room.ctypes.data


def test_nothing_living_has_no_near_duplicates():
    rows, _ = planted(9, 300, 16, 0.95, 30)
    for exact in (True, False):
        result = found(rows, threshold=0.95, exact=exact, alive=np.zeros(300, np.bool_))
        assert (result.pairs.shape, result.cosines.shape, result.overflow) == ((0, 2), (0,), 0)


def test_bits_say_on_which_side_of_each_hyperplane_a_row_lies():
    rows = unit(np.random.default_rng(10).standard_normal((256, 16)))
    planes = hyperplanes(jax.random.key(0), 16, 2)
    keys, bits = sketch_rows(jnp.asarray(rows), planes, 128, rows=64)
    above = rows[128:192].astype(np.float64) @ np.asarray(planes, np.float64) > 0
    read = np.unpackbits(np.concatenate([keys, bits], axis=1).view(np.uint8), axis=1, bitorder="little").astype(bool)
    assert (read != above).mean() < 1e-4


def test_a_table_is_sorted_by_key_then_row_with_the_dead_at_the_end():
    keys = jnp.asarray(np.array([7, 0xFFFFFFFF, 3, 7, 1], np.uint32))
    order, _ = sort_table(keys, jnp.zeros((5, 8), jnp.uint32), jnp.asarray([True, True, True, True, False]))
    assert order.tolist() == [2, 0, 3, 1, 5]


def test_sorted_neighbours_pair_by_their_offset_and_bits():
    order = jnp.asarray(np.array([4, 1, 3, 0, 6, 6], np.int32))  # 6: dead
    bits = jnp.zeros((6, 8), jnp.uint32).at[1, 0].set(0b111)
    pairs, count = neighbours_alike(order, bits, 1, 2, stride=2, places=8)
    assert int(count) == 2
    assert {tuple(pair) for pair in pairs.tolist()} == {(0, 3), (3, 4), (6, 6)}


def test_a_tile_past_the_end_leaves_out_what_the_one_before_had():
    rows = jnp.asarray(np.ones((6, 1), np.float32))
    pairs, cosines, count = tile_pairs(rows, jnp.ones(6, bool), 4, 4, 0.5, rows=4, columns=4, places=4)
    assert (int(count), pairs[0].tolist(), float(cosines[0])) == (1, [4, 5], 1.0)


def test_more_tables_for_more_rows_and_for_a_lower_threshold():
    assert plan_tables(100_000, 0.95).tables > plan_tables(1000, 0.95).tables
    assert plan_tables(100_000, 0.90).tables > plan_tables(100_000, 0.95).tables
    assert plan_tables(10**9, 0.1).tables == MOST_TABLES
    assert plan_tables(0, 1.0).tables >= 1
