"""How a large memory is cut into tiles."""

import numpy as np
import pytest

from dreamsvc.dreamer import tiles
from dreamsvc.dreamer.memories import MappedVectors
from dreamsvc.dreamer.merged import Merged
from dreamsvc.dreamer.redundancy import CopyGroup
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER, MEMORY_ROLE_FACET
from tests.dreamer.remembered import remembered, result


def test_a_small_memory_is_one_tile_and_everything_is_in_it() -> None:
    memories = remembered(["a", "b", "c"])
    assert [tile.inside.tolist() for tile in result(tiles.tiles_of(memories))] == [[True, True, True]]


def test_tiles_are_in_the_order_of_time_and_every_memory_is_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE", 2)
    created = [50, 10, 40, 20, 60, 30]
    memories = remembered(list("abcdef"), columns={"created_us": created})
    found = result(tiles.tiles_of(memories))
    assert [np.flatnonzero(tile.inside).tolist() for tile in found] == [[1, 3], [2, 5], [0, 4]]


def test_a_container_is_in_the_tile_of_its_oldest_facet_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE", 2)
    roles = [0, MEMORY_ROLE_FACET, 0, MEMORY_ROLE_FACET, MEMORY_ROLE_CONTAINER, MEMORY_ROLE_CONTAINER]
    memories = remembered(
        ["old", "first held", "young", "last held", "box", "empty box"],
        columns={"roles": roles, "merged_into": [-1, 4, -1, 4, -1, -1], "created_us": [1, 2, 50, 90, 100, 3]},
    )
    found = result(tiles.tiles_of(memories))
    assert [np.flatnonzero(tile.inside).tolist() for tile in found] == [[0, 1, 3, 4], [2]]


def test_what_was_folded_earlier_in_the_night_is_not_in_a_tile_any_more() -> None:
    memories = remembered(["a", "a", "b"])
    merged = result(Merged.of(memories, [])).with_groups([CopyGroup(0, [1], [1.0])])
    seen = result(tiles.tiles_of(memories))[0].of(memories, merged)
    assert seen.alive.tolist() == [True, False, True]
    assert seen.active.sum() == 2


def test_of_a_very_large_memory_a_night_takes_some_tiles_and_another_night_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiles, "TILE", 2)
    monkeypatch.setattr(tiles, "MOST_TILES", 3)
    memories = remembered([f"memory {number}" for number in range(20)])
    seen: set[int] = set()
    for seed in range(20):
        some = result(tiles.drawn(memories, seed))
        assert (some.tiles, len(some.parts), some.of) == (3, 3, 10)
        assert some.memories.alive.sum() == 6
        assert np.array_equal(some.memories.alive, result(tiles.drawn(memories, seed)).memories.alive)
        whole = [tile.inside for tile in result(tiles.tiles_of(memories)) if some.memories.alive[tile.inside].any()]
        assert all(some.memories.alive[inside].all() for inside in whole)
        seen |= set(np.flatnonzero(some.memories.alive).tolist())
    assert len(seen) == 20
    monkeypatch.setattr(tiles, "MOST_TILES", 10)
    assert result(tiles.drawn(memories, 1)).memories is memories


def test_vectors_that_are_read_from_their_file_are_the_vectors_at_unit_length() -> None:
    packed = np.random.default_rng(3).standard_normal((20_000, 8)).astype(np.float16)
    packed[7] = 0
    vectors = MappedVectors(packed)
    plain = packed.astype(np.float32)
    plain /= np.maximum(np.sqrt(np.einsum("nd,nd->n", plain, plain)), 1e-12)[:, None]
    rows = np.array([19_999, 7, 0, 12_345])
    np.testing.assert_array_equal(vectors[rows], plain[rows])
    np.testing.assert_array_equal(vectors[10:30], plain[10:30])
    np.testing.assert_array_equal(vectors[5], plain[5])
    assert vectors.shape == (20_000, 8)
    assert not vectors[7].any()
    np.testing.assert_array_equal(vectors.lengths > 0, plain.any(axis=1))
