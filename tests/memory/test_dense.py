"""The vectors of a space while they change: what an index shows stays, and what is read is what was put in."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dreamsvc import two_stage
from dreamsvc.facet_codes import decode_centroid, encode_centroid, encode_facets
from dreamsvc.memory import dense
from dreamsvc.memory.dense import DenseIndex
from dreamsvc.two_stage import Block, Index

ROWS = 12
DIM = 6
VECTORS = np.random.default_rng(5).standard_normal((ROWS, DIM)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def block(*rows: int) -> Block:
    members = VECTORS[sorted(rows)]
    centroid = encode_centroid(members.mean(axis=0))
    codes = encode_facets(members, decode_centroid(centroid), bits=4)
    return Block(np.array(sorted(rows), np.int32), codes, 4, centroid)


def put(index: DenseIndex, *rows: int) -> None:
    index.set_vectors(np.array(rows), VECTORS[list(rows)])


def take(index: DenseIndex, *rows: int) -> None:
    index.remove(np.array(rows))


def known(index: Index) -> list[int]:
    return two_stage.score(index, VECTORS[0], ROWS + 4, opened=3).known.nonzero()[0].tolist()


def test_vectors_are_scaled_and_set_again_in_a_new_place() -> None:
    index = DenseIndex()
    index.set_vectors(np.array([3, 1]), np.array([[3, 4], [0, 0.5]], np.float16))
    first = index.publish()
    assert two_stage.vectors_of(first, [1, 3, 0]).tolist() == [[0, 1], pytest.approx([0.6, 0.8]), [0, 0]]
    index.set_vectors(np.array([3]), np.array([[-1, 0]]))
    assert two_stage.vectors_of(index.publish(), [1, 3]).tolist() == [[0, 1], [-1, 0]]
    assert two_stage.vectors_of(first, [3]).tolist() == [pytest.approx([0.6, 0.8])]
    assert (index.dead, index.publish().size) == (1, 3)


def test_members_move_into_a_container_and_out_of_another() -> None:
    index = DenseIndex()
    put(index, 0, 1, 2, 3)
    index.add_containers({8: block(0, 1), 9: block(2)})
    index.add_containers({9: block(1, 2, 3)})
    now = index.publish()
    assert {row: held.rows.tolist() for row, held in now.blocks.items()} == {8: [0], 9: [1, 2, 3]}
    assert known(now) == [0, 1, 2, 3, 8, 9]
    assert now.slots[[1, 2, 3]].tolist() == [now.slots[9]] * 3
    # Four memories and the first form of the second container.
    assert index.dead == 5


def test_a_container_that_goes_takes_its_facets_with_it() -> None:
    index = DenseIndex()
    index.add_containers({8: block(0, 1), 9: block(2, 3)})
    take(index, 8, 2, 11, 500)
    now = index.publish()
    assert known(now) == [3, 9]
    assert now.blocks.keys() == {9}
    assert now.blocks[9].rows.tolist() == [3]


def test_an_empty_container_and_one_without_a_direction_are_read() -> None:
    index = DenseIndex()
    opposite = np.stack([VECTORS[0], -VECTORS[0]])
    centroid = encode_centroid(opposite.mean(axis=0))
    codes = encode_facets(opposite, decode_centroid(centroid), bits=8)
    index.add_containers({8: Block(np.array([0, 1], np.int32), codes, 8, centroid), 9: block(2).without([2])})
    scores = two_stage.score(index.publish(), VECTORS[0], ROWS, opened=5)
    np.testing.assert_allclose(scores.values[[0, 1]], [1, -1], atol=0.01)
    assert known(index.publish()) == [0, 1, 8, 9]


def test_what_a_reader_took_does_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "COMPACT_LEAST", 8)
    index = DenseIndex()
    put(index, 0, 1, 2, 3, 4, 5)
    index.add_containers({8: block(0, 1, 2), 9: block(3)})
    taken = index.publish()
    query = VECTORS[7]
    before = two_stage.score(taken, query, ROWS, opened=3)
    index.add_containers({10: block(0, 1, 3)})
    take(index, 8, 9, 4)
    put(index, 5, 6, 7)
    index.publish()
    index.compact()
    put(index, 8)
    after = two_stage.score(taken, query, ROWS, opened=3)
    np.testing.assert_array_equal(before.known, after.known)
    np.testing.assert_array_equal(before.values, after.values)
    assert known(index.publish()) == [0, 1, 3, 5, 6, 7, 8, 10]


def test_dead_slots_are_left_out_once_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "COMPACT_LEAST", 8)
    index = DenseIndex()
    put(index, *range(10))
    take(index, 0, 1)
    assert (index.dead, index.publish().size) == (2, 10)
    take(index, 2)
    assert (index.dead, index.publish().size) == (0, 7)
    assert index.publish().holders[:7].tolist() == list(range(3, 10))
    take(index, 4)
    index.compact(above=0.2)
    assert index.dead == 1
    index.compact()
    assert (index.dead, index.publish().size) == (0, 6)


def test_an_index_goes_on_where_another_ended() -> None:
    index = DenseIndex()
    put(index, 0, 1, 2)
    index.add_containers({8: block(0)})
    again = DenseIndex(index.publish())
    assert again.dead == 1
    put(again, 0)
    take(again, 1)
    assert known(again.publish()) == [0, 2, 8]
    assert known(index.publish()) == [0, 1, 2, 8]


rows = st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=4, unique=True)
steps = st.one_of(
    st.tuples(st.just("set"), rows),
    st.tuples(st.just("remove"), st.lists(st.integers(0, ROWS + 3), min_size=1, max_size=4)),
    st.tuples(st.just("box"), rows, st.integers(ROWS, ROWS + 3)),
    st.tuples(st.just("compact")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=15))
@example([("box", [1], 12), ("box", [1], 13), ("set", [0, 1]), ("box", [1], 14)])
def test_after_any_history_it_reads_like_one_that_was_built_at_once(history: list[tuple]) -> None:
    index = DenseIndex()
    own: set[int] = set()
    boxes: dict[int, Block] = {}
    for step in history:
        match step:
            case ("compact",):
                index.compact()
                assert index.publish().size == len(own) + len(boxes)
            case ("box", members, box):
                index.add_containers({box: block(*members)})
                boxes.pop(box, None)
                boxes = {row: held.without(members) for row, held in boxes.items()} | {box: block(*members)}
                own -= set(members)
            case (verb, some):
                if verb == "set":
                    put(index, *some)
                else:
                    take(index, *some)
                boxes = {row: held.without(some) for row, held in boxes.items() if row not in some}
                own = own | set(some) if verb == "set" else own - set(some)
        if len(step) > 1:
            index.publish()
    now, fresh = index.publish(), built(own, boxes)
    assert index.dead == now.size - fresh.size
    assert now.blocks.keys() == fresh.blocks.keys()
    # All are looked into, or none: of containers that are equally near, which is opened depends on their places.
    for query, opened in itertools.product(VECTORS[:3], (4, 0)):
        one, two = (two_stage.score(each, query, ROWS + 4, opened=opened) for each in (now, fresh))
        np.testing.assert_array_equal(one.known, two.known)
        np.testing.assert_allclose(one.values, two.values, atol=1e-6)
    if fresh.size:
        everything = np.arange(ROWS + 4)
        read = (two_stage.vectors_of(each, everything) for each in (now, fresh))
        np.testing.assert_allclose(*read, atol=1e-6)


def built(own: set[int], boxes: dict[int, Block]) -> Index:
    alone = np.array(sorted(own), np.int64)
    return two_stage.assemble(alone, VECTORS[alone], boxes, ROWS + 4)
