"""Reading over containers in two stages, against all cosines worked out one by one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dreamsvc import facet_blocks, two_stage
from dreamsvc.facet_codes import Bits, decode_centroid, encode_centroid, encode_facets
from dreamsvc.two_stage import Block, Index

DIM = 32


def near(seed: int, count: int, spread: float = 0.5) -> NDArray[np.float32]:
    """Unit vectors about one direction, [count, DIM]."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal(DIM) + spread * rng.standard_normal((count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def block(rows: list[int], vectors: NDArray[np.float32], bits: Bits = 8) -> Block:
    centroid = encode_centroid(vectors.mean(axis=0))
    return Block(np.array(rows, np.int32), encode_facets(vectors, decode_centroid(centroid), bits=bits), bits, centroid)


A, B, C = near(1, 3), near(2, 3), near(3, 2)
# Rows 0, 1 stand alone; 2 to 4 lie in 10, 5 to 7 in 11; 8 has no vector.
VECTORS = np.concatenate([C, A, B])


@pytest.fixture
def index() -> Index:
    blocks = {10: block([2, 3, 4], A), 11: block([5, 6, 7], B, bits=4)}
    return two_stage.assemble(np.array([0, 1]), C, blocks, 12)


def test_rows_have_their_own_cosines_where_their_container_is_looked_into(index: Index) -> None:
    query = near(9, 1)[0]
    scores = two_stage.score(index, query, 12, opened=2)
    assert scores.known.tolist() == [*[True] * 8, False, False, True, True]
    np.testing.assert_allclose(scores.values[:5], VECTORS[:5] @ query, atol=0.005)
    np.testing.assert_allclose(scores.values[5:8], VECTORS[5:] @ query, atol=0.03)
    assert scores.values[8:10].tolist() == [0, 0]


def test_facets_of_other_containers_have_the_mean_of_theirs(index: Index) -> None:
    query = A[0]
    scores = two_stage.score(index, query, 12, opened=1)
    np.testing.assert_allclose(scores.values[2:5], A @ query, atol=0.005)
    np.testing.assert_allclose(scores.values[5:8], [(B @ query).mean()] * 3, atol=0.005)
    assert len(set(scores.values[5:8].tolist())) == 1


def test_containers_that_other_evidence_points_to_are_looked_into_as_well(index: Index) -> None:
    first = two_stage.first_stage(index, A[0])
    assert two_stage.best_containers(index, first, 1).tolist() == [2]
    assert two_stage.best_containers(index, first, 1, also=[6, 7, 2, 0, 8, 500]).tolist() == [2, 3]
    scores = two_stage.score(index, A[0], 12, opened=1, also=[6])
    np.testing.assert_allclose(scores.values[5:8], B @ A[0], atol=0.03)


def test_a_row_younger_than_the_index_is_unknown(index: Index) -> None:
    old = index._replace(size=3)
    scores = two_stage.score(old, A[0], 12, opened=5)
    assert scores.known.nonzero()[0].tolist() == [0, 1, 2, 3, 4, 10]
    assert scores.values[5:8].tolist() == [0, 0, 0]
    assert not two_stage.vectors_of(old, [5, 6, 7]).any()


def test_fewer_and_more_rows_than_the_index_has_may_be_asked_for(index: Index) -> None:
    whole = two_stage.score(index, A[0], 12, opened=5)
    few, many = (two_stage.score(index, A[0], n, opened=5) for n in (3, 40))
    assert few.values.tolist() == whole.values[:3].tolist()
    assert many.values.tolist() == [*whole.values.tolist(), *[0] * 28]
    assert not many.known[12:].any()


def test_without_a_vector_nothing_is_known() -> None:
    scores = two_stage.score(two_stage.empty(4), np.ones(3, np.float32), 6, opened=2)
    assert (scores.values.tolist(), scores.known.tolist()) == ([0] * 6, [False] * 6)
    assert two_stage.vectors_of(two_stage.empty(4), [0, 9]).shape == (2, 0)


def test_several_queries_have_their_first_stage_at_once(index: Index) -> None:
    queries = near(5, 4)
    first = two_stage.first_stage(index, queries)
    for query, own in zip(queries, first, strict=True):
        together = two_stage.second_stage(index, query, own, 12, opened=1)
        np.testing.assert_allclose(together.values, two_stage.score(index, query, 12, opened=1).values, atol=1e-6)


def test_vectors_are_read_back_in_any_order(index: Index) -> None:
    rows = [7, 0, 3, 8, 10, 3, 900]
    read = two_stage.vectors_of(index, rows)
    np.testing.assert_allclose(read[[0, 1, 2, 5]], VECTORS[[7, 0, 3, 3]], atol=0.05)
    np.testing.assert_allclose(np.linalg.norm(read[[0, 1, 2, 4, 5]], axis=1), 1, atol=1e-6)
    assert not read[[3, 6]].any()
    assert float(read[4] @ A.mean(axis=0)) == pytest.approx(np.linalg.norm(A.mean(axis=0)), abs=0.005)


def test_a_container_less_some_facets_keeps_the_codes_of_the_others(index: Index) -> None:
    rest = index.blocks[10].without([3, 99])
    assert rest.rows.tolist() == [2, 4]
    again = two_stage.assemble(np.zeros(0, np.int64), np.zeros((0, 0), np.float32), {10: rest}, 12)
    read = two_stage.vectors_of(again, [2, 3, 4])
    np.testing.assert_allclose(read[[0, 2]], A[[0, 2]], atol=0.01)
    assert not read[1].any()


def test_blocks_cross_as_arrays_and_come_back_as_they_were(index: Index) -> None:
    empty = index.blocks[10].without([2, 3, 4])
    blocks = {**index.blocks, 9: empty}
    again = facet_blocks.unpack(facet_blocks.pack(blocks, DIM))
    assert list(again) == [10, 11, 9]
    for row, old in blocks.items():
        new = again[row]
        assert (new.bits, new.centroid.scale) == (old.bits, old.centroid.scale)
        for one, other in zip((new.rows, *new.facets), (old.rows, *old.facets), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(new.centroid.codes, old.centroid.codes)
    assert facet_blocks.unpack(facet_blocks.pack({}, 0)) == {}
