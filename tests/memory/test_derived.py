"""What REM phases derive of memories: found by it, dropped where it must go, and exactly back after a revert."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import (
    BeforeImages,
    Expansion,
    Expansions,
    FoundBlindSpot,
    FoundBlindSpots,
    NewMemory,
    Operations,
    Positions,
    Walk,
    Walks,
)
from dreamsvc.errors import StoreCorrupt
from dreamsvc.memory import coactivation, operations
from dreamsvc.memory.derived import read_expansion
from dreamsvc.memory.graph import MOST_PEERS, NEVER, SpaceGraph
from dreamsvc.v1.dream_pb2 import DREAM_PHASE_REM, Dream
from dreamsvc.v1.dream_service_pb2 import ListBlindSpotsRequest, RejectBlindSpotRequest
from dreamsvc.v1.memory_pb2 import Edge, Memory

A, B, C, D, E, F = range(1, 7)
WORDS = ["apple", "brick", "cloud", "drum", "eagle", "flute"]


@pytest.fixture
def town(room: Any) -> Any:
    """Six memories of one word each, in a ring of edges."""
    fill(room)
    room.clock.us += 10
    return room


def fill(room: Any, space: str = "default") -> None:
    room.remember(
        *(
            Memory(key=key, text=word, vector=vector(i))
            for i, (key, word) in enumerate(zip("abcdef", WORDS, strict=True))
        ),
        edges=[Edge(source=s, target=t, weight=0.5) for s, t in ("ab", "bc", "cd", "de", "ef", "fa")],
        space=space,
    )


def vector(number: int) -> list[float]:
    return np.random.default_rng(number).normal(size=6).astype(np.float16).astype(float).tolist()


def expansion(node: int, words: Mapping[str, float], peers: Mapping[int, float], length: float = 1.25) -> Expansion:
    return Expansion(
        node=node,
        words=list(words),
        gains=list(words.values()),
        peers=list(peers),
        shares=list(peers.values()),
        length=length,
    )


def of_neighbour(node: int, neighbour: int, gain: float = 0.5) -> Expansion:
    """The first six memories say one word each."""
    return expansion(node, {WORDS[neighbour - 1]: gain}, {neighbour: 0.5})


def expansions(part: int, *found: Expansion) -> Operations:
    return Operations(part=part, expansions=Expansions(expansions=found))


def positions(part: int, points: Mapping[int, Sequence[float]]) -> Operations:
    flat = [value for point in points.values() for value in point]
    return Operations(part=part, positions=Positions(node_ids=list(points), dimension=2, points=flat))


def by(room: Any, word: str) -> set[int]:
    """Rows that are found by a word, without a walk."""
    graph = room.store.graph("default")
    return {int(graph.view.node_ids[row]) for row in graph.view.lexical.scores(word, graph.view.n).nonzero()[0]}


def peers(graph: SpaceGraph) -> dict[int, tuple[dict[int, float], float]]:
    """Of each memory that has some: peers with their shares, and the length."""
    ids, found = graph.view.node_ids, graph.view.peers
    return {
        int(ids[row]): (
            {
                int(ids[peer]): share
                for peer, share in zip(found.rows[row].tolist(), found.shares[row].tolist(), strict=True)
                if peer != NEVER
            },
            float(found.lengths[row]),
        )
        for row in np.flatnonzero(found.rows[: graph.view.n, 0] != NEVER).tolist()
    }


def in_order(room: Any, but: Sequence[str] = ()) -> None:
    """As the room's own check, with what is derived: queries read what the next start would load."""
    room.in_order(but=but)
    live, fresh = room.store.graph("default"), room.fresh()
    there = live.view.rows_of(fresh.view.node_ids[: fresh.view.n].tolist())
    for word in WORDS:
        np.testing.assert_allclose(
            live.view.lexical.scores(word, live.view.n)[there],
            fresh.view.lexical.scores(word, fresh.view.n),
            rtol=1e-5,
            err_msg=word,
        )
    assert peers(live) == peers(fresh)


def stored(room: Any) -> tuple[Any, Any]:
    """The rows to the byte, but for when they were written."""
    return room.rows("SELECT * FROM expansions ORDER BY node"), room.rows("SELECT * FROM positions ORDER BY node")


def expanded(room: Any) -> set[int]:
    return {node for (node,) in room.rows("SELECT node FROM expansions")}


def images(room: Any, change: int, part: int) -> BeforeImages:
    return BeforeImages.FromString(
        room.rows("SELECT before FROM change_parts WHERE change=? AND part=?", change, part)[0][0]
    )


# ── found by it ─────────────────────────────────────────────────────────────────


def test_a_memory_is_found_by_the_words_of_what_it_is_linked_to(town: Any) -> None:
    assert by(town, "brick") == {B}
    town.dream(expansions(0, of_neighbour(A, B), of_neighbour(D, C)))
    assert by(town, "brick") == {A, B}
    assert by(town, "cloud") == {C, D}
    assert peers(town.store.graph("default")) == {A: ({B: 0.5}, 1.25), D: ({C: 0.5}, 1.25)}
    in_order(town)
    for snapshot in (True, False):
        town.reopen(snapshot=snapshot)
        assert by(town, "brick") == {A, B}
        in_order(town)


def test_a_later_dream_puts_its_own_in_the_place_of_it_and_an_empty_one_takes_it_away(town: Any) -> None:
    town.dream(expansions(0, of_neighbour(A, B), of_neighbour(D, C)))
    town.dream(expansions(0, of_neighbour(A, F), Expansion(node=D)))
    assert (by(town, "brick"), by(town, "flute"), by(town, "cloud")) == ({B}, {A, F}, {C})
    assert peers(town.store.graph("default")) == {A: ({F: 0.5}, 1.25)}
    in_order(town)


def test_the_strongest_peers_count(town: Any) -> None:
    shares = {B: 0.1, C: 0.05, D: 0.2, E: 0.15, F: 0.125}
    town.dream(expansions(0, expansion(A, {}, shares)))
    ((found, _),) = peers(town.store.graph("default")).values()
    assert list(found) == [D, E, F, B]
    assert len(found) == MOST_PEERS
    in_order(town)


def test_a_view_stays_as_it_was_taken_while_expansions_change_and_the_columns_grow(town: Any) -> None:
    town.dream(expansions(0, of_neighbour(A, B)))
    graph = town.store.graph("default")
    view = graph.view
    before = peers(graph), view.lexical.scores("brick cloud", view.n).tolist()
    town.dream(expansions(0, of_neighbour(A, C), of_neighbour(D, C)))
    town.remember(*(Memory(text=f"more {i}") for i in range(300)))
    town.forget("d")
    old = SpaceGraph()
    old.view = view
    assert (peers(old), view.lexical.scores("brick cloud", view.n).tolist()) == before
    assert peers(graph) == {A: ({C: 0.5}, 1.25)}
    assert set(graph.view.peers.lengths[F:].tolist()) == {1}
    in_order(town)


def test_recall_after_a_revert_is_what_it_was_before_to_the_bit(town: Any) -> None:
    def answers() -> list[Any]:
        asked = [{"text": "brick drum"}, {"vector": vector(1)}, {"text": "cloud", "vector": vector(9)}]
        return [town.find(**one) for one in asked]

    before, digest = answers(), town.digest()
    change = town.dream(
        expansions(0, *(of_neighbour(node, 1 + node % F) for node in range(A, F + 1))), positions(1, {A: (0.5, 0.25)})
    )
    assert answers() != before
    assert town.digest() == digest
    town.revert(change)
    assert answers() == before
    assert stored(town) == ([], [])
    assert town.digest() == digest
    in_order(town)


# ── taken back ──────────────────────────────────────────────────────────────────


def test_what_was_there_before_is_back_to_the_byte(town: Any) -> None:
    first = town.dream(
        expansions(0, of_neighbour(A, B, 0.1), of_neighbour(C, D, 0.3)), positions(1, {A: (0.1, 0.2), B: (0.3, 0.4)})
    )
    before = stored(town)
    second = town.dream(
        expansions(0, of_neighbour(A, F), of_neighbour(E, D)), positions(1, {A: (0.7, 0.7), F: (0.0, -0.5)})
    )
    assert expanded(town) == {A, C, E}
    town.revert(second)
    assert stored(town) == before
    assert by(town, "brick") == {A, B}
    in_order(town)
    town.revert(first)
    assert stored(town) == ([], [])
    in_order(town)


def test_where_a_later_dream_has_replaced_it_a_revert_leaves_nothing(town: Any) -> None:
    """The later one may build on edges that are gone with the older; so the next night makes it anew."""
    first = town.dream(expansions(0, of_neighbour(A, B), of_neighbour(C, D)), positions(1, {A: (0.1, 0), B: (0.2, 0)}))
    second = town.dream(expansions(0, of_neighbour(A, F), of_neighbour(E, F)), positions(1, {A: (0.3, 0)}))
    town.revert(first)
    assert expanded(town) == {E}
    assert stored(town)[1] == []
    assert by(town, "flute") == {E, F}
    in_order(town)
    # Nothing of the first night comes back with the images of the second.
    town.revert(second)
    assert stored(town) == ([], [])
    in_order(town)


def test_what_a_later_dream_built_on_an_edge_goes_with_the_edge(town: Any, part: Any) -> None:
    first = town.dream(part.new_edges(0, (A, D, "MENTIONS", 0.5)))
    town.dream(expansions(0, of_neighbour(A, D), of_neighbour(B, C)))
    town.revert(first)
    assert expanded(town) == {B}
    in_order(town)


def test_what_was_dropped_since_stays_dropped(town: Any) -> None:
    town.dream(expansions(0, of_neighbour(A, B), of_neighbour(D, E)))
    change = town.dream(expansions(0, of_neighbour(A, F), of_neighbour(D, C)))
    town.forget("b")
    town.revert(change)
    # The image of A from before has the words of what was forgotten.
    assert by(town, "brick") == set()
    assert expanded(town) == {D}
    in_order(town)


def test_an_expansion_of_another_counts_as_none(town: Any) -> None:
    """With a checksum that is right, as no flipped bit but a hand could leave it."""
    town.dream(expansions(0, of_neighbour(A, B), of_neighbour(D, C)))
    rows = town.rows("SELECT node, body FROM expansions ORDER BY node")
    assert len(rows) > 1
    body = rows[1][1]
    town.execute(f"UPDATE expansions SET body=x'{body.hex()}', crc={zlib.crc32(body)} WHERE node={rows[0][0]}")
    town.reopen(snapshot=False)
    with pytest.raises(StoreCorrupt, match="is of another"):
        read_expansion(body, zlib.crc32(body), rows[0][0])


def test_a_damaged_row_counts_as_none(town: Any) -> None:
    town.dream(expansions(0, of_neighbour(A, B)), positions(1, {A: (0.1, 0)}))
    town.execute("UPDATE expansions SET crc = crc + 1")
    town.execute("UPDATE positions SET crc = crc + 1")
    town.reopen(snapshot=False)
    assert by(town, "brick") == {B}
    change = town.dream(expansions(0, of_neighbour(A, C)), positions(1, {A: (0.2, 0)}))
    in_order(town)
    town.revert(change)
    assert stored(town) == ([], [])


def test_a_crash_in_the_middle_of_a_fold_or_a_revert_changes_nothing(town: Any) -> None:
    parts = [expansions(i, of_neighbour(A + i, B + i), of_neighbour(D, C)) for i in range(3)]
    change = town.dream(*parts, fold=False)
    town.fold(change, slices=2)
    town.reopen(snapshot=False)
    in_order(town, but=["no sealed work is left over"])
    town.fold(change)
    in_order(town)
    town.revert(change, slices=1)
    town.reopen(snapshot=False)
    in_order(town, but=["no sealed work is left over"])
    town.go_on_reverting(change)
    assert stored(town) == ([], [])
    in_order(town)


points_ = st.tuples(st.floats(-0.625, 0.625, width=32), st.floats(-0.625, 0.625, width=32))
found_ = st.builds(
    expansion,
    st.integers(A, F),
    st.dictionaries(st.sampled_from(WORDS), st.floats(0.125, 4, width=32), max_size=3),
    st.dictionaries(st.integers(A, F), st.floats(0.0625, 0.5, width=32), max_size=5),
    st.floats(0.5, 2, width=32),
)
nights_ = st.lists(
    st.tuples(
        st.lists(found_, max_size=4),
        st.dictionaries(st.integers(A, F), points_, max_size=3),
        st.lists(st.sampled_from([(A, C), (B, D), (C, F)]), max_size=2, unique=True),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=12, deadline=None)
@given(nights=nights_, hide=st.booleans())
def test_any_nights_taken_back_last_first_leave_what_they_found(rooms: Any, part: Any, nights: Any, hide: bool) -> None:
    with rooms() as room:
        fill(room)
        states = []
        for i, (found, points, edges) in enumerate(nights):
            states.append((stored(room), room.export(), room.find("brick drum", vector=vector(2))))
            parts = [
                part.new_edges(0, *((s, t, f"night {i}", 0.5) for s, t in edges)),
                expansions(1, *found),
                positions(2, points),
            ]
            if hide and i == 1:
                parts.insert(1, part.eliminations(0, (A, [E])))
            states[-1] = (*states[-1], room.dream(*(copy_of(one, number) for number, one in enumerate(parts))))
            in_order(room)
        for rows, export, hits, change in reversed(states):
            room.revert(change)
            assert stored(room) == rows
            assert room.export() == export
            again = room.find("brick drum", vector=vector(2))
            if hide:
                # The vector of the copy is back at another place, where a product is rounded in another way.
                assert [hit.score for hit in again] == pytest.approx([hit.score for hit in hits], rel=1e-5)
            else:
                assert again == hits
            in_order(room)


def copy_of(part: Operations, number: int) -> Operations:
    part.part = number
    return part


# ── left out ────────────────────────────────────────────────────────────────────


def test_what_a_user_changed_meanwhile_keeps_what_it_had(town: Any) -> None:
    town.dream(expansions(0, of_neighbour(A, B), of_neighbour(D, E)), positions(1, {A: (0.1, 0), D: (0.2, 0)}))
    before = stored(town)

    def meanwhile() -> None:
        town.remember(Memory(key="a", text="apple", importance=0.9))
        town.forget("f")

    change = town.dream(
        expansions(0, of_neighbour(A, C), of_neighbour(F, C), of_neighbour(C, B)),
        positions(1, {A: (0.5, 0), C: (0.4, 0), F: (0.3, 0)}),
        meanwhile=meanwhile,
    )
    assert images(town, change, 0).skipped == [A, F]
    assert images(town, change, 1).skipped == [A, F]
    assert [image.node for image in images(town, change, 0).expansions] == [C]
    # D and A have what they had, but F was a neighbour of A.
    assert expanded(town) == {C, D}
    assert [row for row in stored(town)[1] if row[0] != C] == before[1]
    in_order(town)


@pytest.mark.parametrize(
    ("meanwhile", "left"),
    [
        (lambda room: room.forget("b"), {D}),
        (lambda room: room.remember(Memory(key="b", text="bricks")), {D}),
        # What a user adds beside it is no reason to do without.
        (lambda room: room.remember(Memory(key="new", text="x"), edges=[Edge(source="new", target="a")]), {A, D}),
        (lambda room: room.remember(edges=[Edge(source="a", target="b", weight=0.1)]), {A, D}),
    ],
)
def test_what_was_made_of_words_that_a_user_took_away_meanwhile_is_left_out(
    town: Any, meanwhile: Any, left: set[int]
) -> None:
    # B is a neighbour of A, but none of its peers.
    found = expansion(A, {"brick": 0.5, "flute": 0.5}, {F: 0.5})
    change = town.dream(expansions(0, found, of_neighbour(D, E)), meanwhile=lambda: meanwhile(town))
    assert expanded(town) == left
    assert set(images(town, change, 0).skipped) == {A, D} - left
    in_order(town)


def test_a_peer_that_is_not_linked_counts_as_well(town: Any) -> None:
    change = town.dream(expansions(0, of_neighbour(A, D), of_neighbour(B, E)), meanwhile=lambda: town.forget("d"))
    assert (expanded(town), images(town, change, 0).skipped) == ({B}, [A])


@pytest.mark.parametrize(
    "wrong",
    [
        Expansion(node=A, words=["x"], gains=[]),
        Expansion(node=A, words=["x"], gains=[float("nan")]),
        Expansion(node=A, words=["x"], gains=[0.0]),
        Expansion(node=A, peers=[B], shares=[]),
        Expansion(node=A, peers=[B], shares=[float("inf")], length=1),
        Expansion(node=A, peers=[B], shares=[0.5], length=0),
        Expansion(node=A, peers=[99], shares=[0.5], length=1),
        Expansion(node=99, words=["x"], gains=[1.0]),
    ],
)
def test_what_cannot_be_counted_with_is_left_out(town: Any, wrong: Expansion) -> None:
    change = town.dream(expansions(0, wrong, of_neighbour(D, E)))
    assert expanded(town) == {D}
    assert images(town, change, 0).skipped == [wrong.node]
    in_order(town)


@pytest.mark.parametrize("point", [(1.0, 0.0), (0.8, 0.8), (float("nan"), 0.0), (float("inf"), 0.0)])
def test_a_point_outside_the_ball_is_left_out(town: Any, point: tuple[float, float]) -> None:
    change = town.dream(positions(0, {A: point, B: (0.5, 0.5)}))
    assert town.rows("SELECT node, change FROM positions") == [(B, change)]
    assert images(town, change, 0).skipped == [A]
    in_order(town)


def test_points_that_do_not_fit_their_memories_are_left_out(town: Any) -> None:
    town.dream(Operations(positions=Positions(node_ids=[A, B], dimension=2, points=[0.1, 0.2, 0.3])))
    assert stored(town) == ([], [])


# ── what users do ───────────────────────────────────────────────────────────────


def test_what_is_forgotten_takes_its_words_along_and_comes_back_with_its_own(town: Any) -> None:
    town.dream(expansions(0, *(of_neighbour(node, 1 + node % F) for node in range(A, F + 1))))
    town.forget("b")
    # A has the words of B, and what B has is not found; C is linked to it.
    assert by(town, "brick") == by(town, "drum") - {C, D} == set()
    assert expanded(town) == {B, D, E, F}
    in_order(town)
    town.restore("b")
    assert by(town, "cloud") == {B, C}
    assert by(town, "brick") == {B}
    in_order(town)
    for snapshot in (True, False):
        town.reopen(snapshot=snapshot)
        assert by(town, "cloud") == {B, C}


def test_what_was_built_on_an_edge_that_has_gone_since_goes_with_its_words_too(town: Any, part: Any) -> None:
    town.dream(expansions(0, of_neighbour(A, B)))
    town.dream(part.weights(0, {1: 0.0}, pruned=[1]))
    assert by(town, "brick") == {A, B}
    town.forget("b")
    assert by(town, "brick") == set()
    in_order(town)


@pytest.mark.parametrize(
    ("now", "kept"),
    [
        (Memory(key="b", text="bricks"), False),
        (Memory(key="b", text="brick", title="Wall"), False),
        (Memory(key="b", text="brick", aliases=["wall"]), False),
        (Memory(key="b", text="brick", importance=0.9, kind="other"), True),
        (Memory(key="b", text="brick", vector=vector(1), pinned=True), True),
    ],
)
def test_what_says_something_else_is_expanded_anew_and_so_is_what_it_went_into(
    town: Any, now: Memory, kept: bool
) -> None:
    town.dream(expansions(0, of_neighbour(A, B), of_neighbour(B, C), of_neighbour(D, E)))
    town.remember(now)
    assert expanded(town) == ({A, B, D} if kept else {D})
    assert by(town, "cloud") == ({B, C} if kept else {C})
    in_order(town)


def test_a_memory_that_is_remembered_again_comes_back_with_what_it_had(town: Any) -> None:
    town.dream(expansions(0, of_neighbour(B, C)))
    town.forget("b")
    town.remember(Memory(key="b", text="brick"))
    assert by(town, "cloud") == {B, C}
    in_order(town)


def test_an_edge_alone_leaves_it_until_the_next_night(town: Any) -> None:
    town.dream(expansions(0, of_neighbour(A, B)))
    town.remember(edges=[Edge(source="a", target="b", weight=0)])
    assert by(town, "brick") == {A, B}
    in_order(town)


@pytest.mark.parametrize("while_it_dreams", [False, True])
def test_memories_are_not_found_by_a_link_that_a_user_rejected(town: Any, part: Any, while_it_dreams: bool) -> None:
    find = FoundBlindSpot(number=1, source=A, target=D, verified=True)
    found = Operations(part=1, blind_spots=FoundBlindSpots(blind_spots=[find]))
    town.dream(part.new_edges(0, (A, D, "DREAM_DISCOVERED", 0.5)), found)
    (spot,) = town.store.list_blind_spots(ListBlindSpotsRequest(space="default", page_size=10)).blind_spots

    def reject() -> None:
        town.store.reject_blind_spot(RejectBlindSpotRequest(space="default", id=spot.id)).result(10)

    told = expansions(0, of_neighbour(A, D), of_neighbour(D, A), of_neighbour(B, C))
    town.dream(told, meanwhile=reject if while_it_dreams else None)
    if not while_it_dreams:
        assert (by(town, "drum"), by(town, "apple")) == ({A, D}, {A, D})
        reject()
    assert (by(town, "drum"), by(town, "apple")) == ({D}, {A})
    assert expanded(town) == {B}
    in_order(town)


def test_what_is_derived_is_no_change_of_a_users(town: Any) -> None:
    town.dream(expansions(0, *(of_neighbour(node, 1 + node % F) for node in range(A, F + 1))))
    ((before,),) = town.rows("SELECT user_changes FROM spaces")
    town.forget("b")
    # The memory and its two edges.
    assert town.rows("SELECT user_changes FROM spaces") == [(before + 3,)]


# ── what else dreams do ─────────────────────────────────────────────────────────


def test_a_survivor_that_takes_names_over_keeps_it_and_a_copy_has_its_own_when_it_is_back(town: Any, part: Any) -> None:
    town.remember(Memory(key="b", title="Wall", text="brick", vector=vector(1)))
    town.dream(expansions(0, of_neighbour(A, F), of_neighbour(B, C)))
    change = town.dream(part.eliminations(0, (A, [B])))
    assert by(town, "flute") == {A, F}
    assert by(town, "cloud") == {C}
    in_order(town)
    town.revert(change)
    assert by(town, "cloud") == {B, C}
    in_order(town)
    town.dream(part.eliminations(0, (A, [B])))
    town.restore("b")
    assert by(town, "cloud") == {B, C}
    in_order(town)


def test_what_lies_in_a_container_keeps_it_and_has_it_when_it_is_taken_out(town: Any, part: Any) -> None:
    town.dream(expansions(0, of_neighbour(A, F), of_neighbour(B, C)))
    town.dream(part.containers(0, part.container(1, town.vectors([A, B, C]))))
    assert by(town, "flute") == {A, F}
    in_order(town)
    town.unmerge("b")
    assert by(town, "cloud") == {B, C}
    in_order(town)
    box = town.memory("a").merged_into
    town.forget(box)
    assert by(town, "flute") == {F}
    in_order(town)
    town.restore(box)
    in_order(town)


def test_a_memory_that_a_dream_made_goes_with_all_that_is_derived_of_it(town: Any, part: Any) -> None:
    change = town.dream(part.new_memories(0, NewMemory(number=1, kind="schema", text="x")))
    ((made,),) = town.rows("SELECT max(id) FROM nodes")
    later = town.dream(expansions(0, of_neighbour(made, A)), positions(1, {made: (0.5, 0)}))
    assert by(town, "apple") == {A, made}
    town.revert(change)
    assert stored(town) == ([], [])
    assert by(town, "apple") == {A}
    in_order(town)
    town.revert(later)
    in_order(town)


def test_finds_are_kept_walks_change_nothing_and_both_can_be_taken_back(town: Any) -> None:
    digest = town.digest()
    spot = FoundBlindSpot(number=1, source=A, target=D, verified=True)
    change = town.dream(
        Operations(part=0, blind_spots=FoundBlindSpots(blind_spots=[spot])),
        Operations(part=1, walks=Walks(dimension=2, walks=[Walk(origin=A, points=[0, 0, 0.5, 0])])),
    )
    assert town.rows("SELECT source, target, change FROM blind_spots") == [(A, D, change)]
    assert town.digest() == digest
    in_order(town)
    town.revert(change)
    assert town.rows("SELECT * FROM blind_spots") == []
    in_order(town)


def test_a_dream_of_rem_alone_leaves_pairs_that_were_of_use_to_the_next_replay(town: Any) -> None:
    town.store.note_together("default", {(A, B): 2}).result(10)
    rem = Dream(id=entropy.uuid7(town.clock.us), space="default", state=Dream.STATE_RUNNING, phase=DREAM_PHASE_REM)
    change, dream = town.begin_dream(dream=rem)
    town.seal(change, dream, positions(0, {A: (0.1, 0)}))
    town.fold(change)
    assert town.store.stats("default").coactivations == 1


def test_pairs_that_were_of_use_are_used_up_by_a_dream_and_given_back_with_it(town: Any, part: Any) -> None:
    def waiting() -> int:
        space = town.store.space("default")
        return int(town.store.database.read(lambda c: coactivation.count(c, space)))

    town.store.note_together("default", {(A, B): 2, (C, D): 1}).result(10)
    change = town.dream(part.weights(0, {1: 0.6}), part.marks(1, {A: 1}), fold=False)
    town.fold(change, slices=1)
    assert waiting() == 2
    town.fold(change)
    assert waiting() == 0
    town.store.note_together("default", {(E, F): 1}).result(10)
    town.revert(change)
    assert waiting() == 3


# ── the journal ─────────────────────────────────────────────────────────────────


def test_a_journal_holds_it_as_it_came_after_what_is_put_together(part: Any) -> None:
    told = [
        positions(0, {A: (0.1, 0), B: (0.2, 0)}),
        part.weights(1, {1: 0.5}),
        expansions(2, of_neighbour(A, B)),
        part.marks(3, {A: 1}),
        Operations(part=4, blind_spots=FoundBlindSpots(blind_spots=[FoundBlindSpot(), FoundBlindSpot()])),
        Operations(part=5, walks=Walks(walks=[Walk()])),
        part.weights(6, {1: 0.25}),
    ]
    whole = operations.coalesce(told)
    kinds = ["edge_weights", "replay_marks", "positions", "expansions", "blind_spots", "walks"]
    assert [one.WhichOneof("kind") for one in whole] == kinds
    assert [one.part for one in whole] == list(range(6))
    assert operations.size(whole) == 1 + 1 + 2 + 1 + 2 + 1
    digest = operations.journal_digest(whole)
    whole[3].expansions.expansions[0].gains[0] = 0.75
    assert operations.journal_digest(whole) != digest


def test_what_is_left_out_is_counted_once(town: Any, part: Any) -> None:
    change = town.dream(
        part.weights(0, {1: 0.75}),
        expansions(1, of_neighbour(A, B), of_neighbour(D, E)),
        meanwhile=lambda: town.forget("a"),
    )
    assert town.journal.read_back(change).skipped == 1  # the edge, which went with the memory
    assert town.journal.made(change).skipped == 1
