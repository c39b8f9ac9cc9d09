"""Nights that merged, taken back: the memory as it was, or a refusal that names what is in the way."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import EdgeDetail, NewMemory, Operations
from dreamsvc.errors import ChangedLater, DreamsvcError
from dreamsvc.memory import fold, operations
from dreamsvc.memory.standing import CONTAINER, FACET, FOLDED, PLAIN, REPLACED
from dreamsvc.v1.memory_pb2 import Edge, Memory

A, B, C, D, E, F, G, H = range(1, 9)
KEYS = "abcdefgh"
HALF_DONE = ["no sealed work is left over"]


def vector(number: int) -> list[float]:
    return np.random.default_rng(number).normal(size=6).astype(np.float16).astype(float).tolist()


def fill(room: Any) -> None:
    room.remember(
        *(
            Memory(
                key=key,
                title=key.upper(),
                text=f"{key} text",
                vector=vector(i),
                importance=i / 8,
                event_time=Timestamp(seconds=i) if i % 2 else None,
            )
            for i, key in enumerate(KEYS)
        ),
        edges=[
            Edge(source=s, target=t, weight=w)
            for s, t, w in (("a", "c", 0.4), ("b", "c", 0.7), ("b", "a", 0.9), ("d", "b", 0.3), ("g", "h", 0.2))
        ],
    )


@pytest.fixture
def town(room: Any) -> Any:
    fill(room)
    room.clock.us += 10
    return room


def box_of(room: Any, key: str) -> str:
    return str(room.memory(key).merged_into)


def made_id(room: Any, change: int, number: int) -> str:
    ((raw,),) = room.rows("SELECT uid FROM changes WHERE id = ?", change)
    return entropy.uuid_text(fold.memory_id(operations.Change(change, raw, 1, "", "", 0, 0, 0, ""), number))


def whole_night(room: Any, part: Any) -> list[Operations]:
    """A bit of everything: b folds into a, which lies in a container with c and d; a schema, a shortcut."""
    return [
        part.weights(0, {1: 0.5, 5: 0.01}, pruned=[5]),
        part.marks(1, {A: 2, H: 1}),
        part.eliminations(2, (A, [B])),
        part.containers(3, part.container(1, room.vectors([A, C, D]))),
        part.new_memories(4, NewMemory(number=2, kind="schema", text="x of all")),
        part.new_edges(5, (-2, A, "ABSTRACTS", 0.1), (E, F, "causal", 0.5), detail=EdgeDetail(path=[E, G, F])),
    ]


# ── any nights ──────────────────────────────────────────────────────────────────


class Dreaming:
    """Draws nights that do to a memory whatever a dream may, and some of what it should not."""

    def __init__(self, room: Any, part: Any, data: st.DataObject) -> None:
        self.room, self.part, self.data = room, part, data
        self.numbers = itertools.count(1)
        self.made: list[int] = []

    def night(self) -> list[Operations]:
        self.numbers, self.made = itertools.count(1), []
        kinds = st.sampled_from(
            [self.weights, self.marks, self.copies, self.boxes, self.boxes, self.memories, self.links]
        )
        chosen: list[Callable[[int], Operations]] = self.data.draw(st.lists(kinds, min_size=1, max_size=5))
        return [kind(number) for number, kind in enumerate(chosen)]

    def nodes(self, **size: int) -> list[int]:
        known = [row[0] for row in self.room.rows("SELECT id FROM nodes ORDER BY id")]
        found: list[int] = self.data.draw(st.lists(st.sampled_from(known), unique=True, **size))
        return found

    def weights(self, number: int) -> Operations:
        known = [row[0] for row in self.room.rows("SELECT id FROM edges ORDER BY id")]
        some = self.data.draw(st.dictionaries(st.sampled_from(known), st.sampled_from([0.0, 0.25, 0.75]), max_size=6))
        return self.part.weights(number, some, pruned=[edge for edge, weight in some.items() if not weight])

    def marks(self, number: int) -> Operations:
        return self.part.marks(number, dict.fromkeys(self.nodes(max_size=4), 1))

    def copies(self, number: int) -> Operations:
        groups = [(found[0], found[1:]) for found in (self.nodes(min_size=2, max_size=4) for _ in range(2))]
        return self.part.eliminations(number, *groups)

    def boxes(self, number: int) -> Operations:
        made = []
        taken: set[int] = set()
        for _ in range(self.data.draw(st.integers(1, 2))):
            members = sorted(set(self.nodes(min_size=2, max_size=6)) - taken)
            taken |= set(members)
            vectors = {row: found for row, found in self.room.vectors(members).items() if found}
            homes = self.room.rows(
                f"SELECT DISTINCT merged_into FROM nodes WHERE role={FACET} AND id IN ({','.join(map(str, vectors))})"
            )
            if vectors:
                replaces = [home for (home,) in homes]
                # Mostly whole containers go into another one.
                if self.data.draw(st.integers(0, 3)):
                    rest = self.room.rows(
                        f"SELECT id FROM nodes WHERE role={FACET} AND merged_into IN ({','.join(map(str, replaces))})"
                    )
                    vectors |= self.room.vectors([row for (row,) in rest if row not in taken])
                bits = self.data.draw(st.sampled_from([1, 2, 4, 8]))
                made.append(self.part.container(next(self.numbers), vectors, bits=bits, replaces=replaces))
        return self.part.containers(number, *made)

    def memories(self, number: int) -> Operations:
        self.made.append(next(self.numbers))
        return self.part.new_memories(number, NewMemory(number=self.made[-1], kind="schema", text="x y"))

    def links(self, number: int) -> Operations:
        ends = [*self.nodes(min_size=2, max_size=4), *(-made for made in self.made)]
        pairs = self.data.draw(st.lists(st.tuples(st.sampled_from(ends), st.sampled_from(ends)), max_size=5))
        kind = self.data.draw(st.sampled_from(["SUPERSEDES", "causal", "related"]))
        return self.part.new_edges(number, *((s, t, kind, 0.1) for s, t in pairs if s != t))


def without_accesses(data: bytes) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in data.splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("access")} for line in lines]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), recalls=st.booleans())
def test_any_nights_taken_back_last_first_leave_what_they_found(
    rooms: Any, part: Any, data: st.DataObject, recalls: bool
) -> None:
    with rooms() as room:
        fill(room)
        room.forget("h")
        room.remember(Memory(key="g", text="pinned", vector=vector(7), pinned=True))
        dreaming = Dreaming(room, part, data)
        states: list[tuple[bytes, int]] = []
        recalled = 0
        for _ in range(data.draw(st.integers(1, 3))):
            before = room.export()
            room.clock.us += 10
            change = room.dream(*dreaming.night())
            states.append((before, change))
            room.in_order()
            if recalls:
                room.clock.us += 10
                room.store.touch("default", dict.fromkeys(range(1, 9), 1)).result(10)
                recalled += 1
        for before, change in reversed(states):
            room.clock.us += 10
            room.revert(change)
            if recalls:
                assert without_accesses(room.export()) == without_accesses(before)
            else:
                assert room.export() == before
            room.in_order()
        assert [row[0] for row in room.rows("SELECT access_count FROM nodes WHERE id < 9")] == [recalled] * 8
        assert room.rows("SELECT count(*) FROM nodes") == [(8,)]
        assert room.rows("SELECT count(*) FROM edges") == [(5,)]
        room.reopen()
        room.in_order()


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_crash_between_any_two_slices_changes_nothing(rooms: Any, part: Any, data: st.DataObject) -> None:
    with rooms() as room:
        fill(room)
        before = room.export()
        change = room.dream(*Dreaming(room, part, data).night())
        parts = room.rows("SELECT fold_cursor FROM changes WHERE id = ?", change)[0][0]
        stop = data.draw(st.integers(0, parts))
        assert room.revert(change, slices=stop) == stop
        room.in_order(but=HALF_DONE)
        room.reopen(snapshot=data.draw(st.booleans()))
        assert room.rows("SELECT state FROM changes WHERE id = ?", change) == [("reverting",)]
        room.go_on_reverting(change)
        assert room.export() == before
        room.in_order()


# ── what is in the way ──────────────────────────────────────────────────────────

LATER: dict[str, tuple[Callable[[Any, Any, int], Any], str]] = {
    "a member is updated": (lambda room, part, change: room.remember(Memory(key="c", text="new")), "c"),
    "a member is forgotten": (lambda room, part, change: room.forget("c"), "c"),
    "a survivor is updated": (lambda room, part, change: room.remember(Memory(key="a", text="new")), "a"),
    "a copy is restored": (lambda room, part, change: room.restore("b"), "b"),
    "a copy is updated": (lambda room, part, change: room.remember(Memory(key="b", text="new")), "b"),
    "a copy is forgotten": (lambda room, part, change: room.forget("b"), "b"),
    "a facet is unmerged": (lambda room, part, change: room.unmerge("c"), "c"),
    "a container is unmerged": (lambda room, part, change: room.unmerge(box_of(room, "c")), "c"),
    "a container is renamed": (
        lambda room, part, change: room.remember(Memory(id=box_of(room, "c"), title="mine", text="t")),
        "box",
    ),
    "a container is forgotten": (lambda room, part, change: room.forget(box_of(room, "c")), "c"),
    "a user's edge at a container": (
        lambda room, part, change: room.remember(edges=[Edge(source=box_of(room, "c"), target="g")]),
        "box",
    ),
    "a user's edge at a schema": (
        lambda room, part, change: room.remember(edges=[Edge(source="g", target=made_id(room, change, 2))]),
        "schema",
    ),
    "a schema is updated": (
        lambda room, part, change: room.remember(Memory(id=made_id(room, change, 2), text="mine")),
        "schema",
    ),
    "an edge that went over is changed": (
        lambda room, part, change: room.remember(edges=[Edge(source="d", target="a", weight=0.1)]),
        "a",
    ),
    "a strengthened edge is changed": (
        lambda room, part, change: room.remember(edges=[Edge(source="a", target="c", weight=0.1)]),
        "a",
    ),
    "a later dream merges": (lambda room, part, change: room.dream(part.eliminations(0, (E, [C]))), "c"),
    "a later dream takes the container": (
        lambda room, part, change: room.dream(
            part.containers(
                0,
                part.container(
                    1, room.vectors([A, C, D, F]), replaces=[room.row_of_id(box_of(room, "c"))], title="later"
                ),
            )
        ),
        "c",
    ),
    "a later dream's edge at the schema": (
        lambda room, part, change: room.dream(
            part.new_edges(0, (room.row_of_id(made_id(room, change, 2)), H, "causal", 0.5))
        ),
        "schema",
    ),
    "a later dream's weight": (
        lambda room, part, change: room.dream(part.weights(0, {room.rows("SELECT max(id) FROM edges")[0][0]: 0.9})),
        "e",
    ),
    "an import puts something into the container": (
        lambda room, part, change: room.import_(
            json.dumps(
                {
                    "type": "memory",
                    "key": "new",
                    "text": "t",
                    "role": "FACET",
                    "merged_into": box_of(room, "c"),
                    "packed": {"bits": 4, "scale": 0.5, "code": "AAAA"},
                }
            ).encode()
        ),
        "new",
    ),
}


@pytest.mark.parametrize("what", LATER)
def test_what_was_changed_later_is_in_the_way_and_is_named(town: Any, part: Any, what: str) -> None:
    change = town.dream(*whole_night(town, part))
    later, named = LATER[what]
    box = box_of(town, "c")
    town.clock.us += 10
    later(town, part, change)
    town.in_order()
    digest = town.digest()
    ids = {"box": box, "schema": made_id(town, change, 2)}
    with pytest.raises(ChangedLater, match=ids.get(named) or town.memory(named).id):
        town.revert(change)
    assert town.digest() == digest
    assert town.rows("SELECT state FROM changes WHERE id = ?", change) == [("folded",)]
    town.in_order()


def test_what_a_user_changed_before_it_was_folded_is_not_in_the_way(town: Any, part: Any) -> None:
    def meanwhile() -> None:
        town.remember(
            edges=[Edge(source="b", target="c", weight=0.6), Edge(source="b", target="e", weight=0.2, type="mine")]
        )

    digests: list[str] = []

    def night() -> None:
        meanwhile()
        digests.append(town.digest())

    change = town.dream(part.eliminations(0, (A, [B])), meanwhile=night)
    assert town.edges()["a", "e", "mine"] == 0.2
    town.revert(change)
    assert [town.digest()] == digests
    town.in_order()


def test_user_writes_between_the_slices_of_a_fold_are_the_users_after_a_revert_too(town: Any, part: Any) -> None:
    parts = [part.eliminations(0, (A, [C])), part.eliminations(1, (A, [B])), part.new_edges(2, (E, F, "x", 0.5))]
    change = town.dream(*parts, fold=False)
    town.fold(change, slices=1)
    town.remember(edges=[Edge(source="b", target="d", weight=0.9, type="mine")])
    town.fold(change)
    assert town.edges()["a", "d", "mine"] == 0.9
    town.revert(change)
    assert town.edges()["b", "d", "mine"] == 0.9
    town.in_order()


def test_an_edge_that_a_night_pruned_waits_for_an_end_that_was_forgotten_since(town: Any, part: Any) -> None:
    change = town.dream(part.weights(0, {5: 0.0}, pruned=[5]))
    town.forget("h")
    town.revert(change)
    assert ("g", "h", "related") not in town.edges()
    town.in_order()
    town.restore("h")
    assert town.edges()["g", "h", "related"] == 0.2
    town.in_order()


# ── what users do while a night is taken back ───────────────────────────────────

MEANWHILE: dict[str, Callable[[Any, int], Any]] = {
    "a member is updated": lambda room, change: room.remember(Memory(key="c", text="c new", importance=0.9)),
    "a member is forgotten": lambda room, change: room.forget("c"),
    "a member is unmerged": lambda room, change: room.unmerge("c"),
    "the container is unmerged": lambda room, change: room.unmerge(box_of(room, "c")),
    "the container is forgotten": lambda room, change: room.forget(box_of(room, "c")),
    "the container is renamed": lambda room, change: room.remember(Memory(id=box_of(room, "c"), text="mine")),
    "an edge at the container": lambda room, change: room.remember(
        edges=[Edge(source="h", target=box_of(room, "c"), weight=0.3)]
    ),
    "the survivor is updated": lambda room, change: room.remember(Memory(key="a", text="a new", aliases=["mine"])),
    "the survivor is forgotten": lambda room, change: room.forget("a"),
    "the copy is restored": lambda room, change: room.restore("b"),
    "the copy is forgotten": lambda room, change: room.forget("b"),
    "the copy is updated": lambda room, change: room.remember(Memory(key="b", text="b new")),
    "an edge that went over": lambda room, change: room.remember(edges=[Edge(source="d", target="a", weight=0.1)]),
    "an edge that was strengthened": lambda room, change: room.remember(
        edges=[Edge(source="a", target="c", weight=0.15)]
    ),
    "a neighbour of the copy is forgotten": lambda room, change: room.forget("d"),
    "the schema is updated": lambda room, change: room.remember(Memory(id=made_id(room, change, 2), text="mine")),
    "an edge at the schema": lambda room, change: room.remember(
        edges=[Edge(source="h", target=made_id(room, change, 2), weight=0.3)]
    ),
    "a facet is imported": lambda room, change: LATER["an import puts something into the container"][0](room, None, 0),
}


@pytest.mark.parametrize("slices", [0, 2, 3])
@pytest.mark.parametrize("what", MEANWHILE)
def test_a_revert_comes_to_its_end_whatever_users_do_meanwhile(town: Any, part: Any, what: str, slices: int) -> None:
    change = town.dream(*whole_night(town, part))
    town.clock.us += 10
    town.revert(change, slices=slices)
    try:
        MEANWHILE[what](town, change)
    except DreamsvcError:
        # What it was about is gone already.
        if slices == 0:
            raise
    town.in_order(but=HALF_DONE)
    town.clock.us += 10
    town.go_on_reverting(change)
    town.in_order()
    assert town.rows("SELECT state FROM changes WHERE id = ?", change) == [("reverted",)]
    match what:
        case "a member is updated":
            assert (town.memory("c").text, town.memory("c").importance) == ("c new", 0.9)
        case "a member is forgotten" | "the survivor is forgotten":
            assert town.memory("c" if "member" in what else "a").HasField("delete_time")
        case "the survivor is updated":
            assert (town.memory("a").text, list(town.memory("a").aliases)) == ("a new", ["mine"])
        case "the copy is forgotten":
            assert town.memory("b").HasField("delete_time")
        case "the copy is updated":
            assert town.memory("b").text == "b new"
        case "the schema is updated" if slices < 2:
            assert town.memory(made_id(town, change, 2)).text == "mine"
        case "an edge at the schema" if slices < 2:
            assert [weight for name, weight in town.edges().items() if name[0] == "h"] == [0.3]
        case "an edge that went over":
            assert town.edges()["d", "a", "related"] == 0.1
            assert town.edges()["d", "b", "related"] == 0.3
        case "an edge that was strengthened":
            assert town.edges()["a", "c", "related"] == 0.15
        case "a facet is imported" if slices < 3:
            assert town.memory("new").text == "t"
        case _:
            pass
    # Nothing is lost: every memory is there or can be brought back.
    town.restore(*[key for key in KEYS if town.memory(key).HasField("delete_time")] or ["a"])
    assert {town.memory(key).role for key in KEYS} == {PLAIN}
    as_it_was = [i for i, key in enumerate(KEYS) if "new" not in town.memory(key).text]
    nearest = [next(hit.node for hit in town.find(vector=vector(i)) if hit.node <= H) for i in as_it_was]
    assert nearest == [i + 1 for i in as_it_was]
    town.in_order()
    town.reopen(snapshot=False)
    town.in_order()


def test_recalls_since_the_night_stay_and_else_the_last_one_is_what_it_was(town: Any, part: Any) -> None:
    town.store.touch("default", {A: 1}).result(10)
    first = town.clock.us
    town.clock.us += 10
    town.store.touch("default", {B: 4}).result(10)
    for recalled in (False, True):
        town.clock.us += 10
        change = town.dream(part.eliminations(0, (A, [B])))
        assert town.memory("a").access_time.ToMicroseconds() > first
        if recalled:
            town.clock.us += 10
            town.store.touch("default", {A: 2}).result(10)
        town.revert(change)
        last = town.memory("a")
        expected = (town.clock.us, 3) if recalled else (first, 1)
        assert (last.access_time.ToMicroseconds(), last.access_count) == expected
        assert town.memory("b").access_count == 4
        town.in_order()


def test_what_users_took_out_while_a_night_is_taken_back_stays_out(town: Any, part: Any) -> None:
    town.dream(part.containers(0, part.container(1, town.vectors([A, B, C]))))
    first = box_of(town, "a")
    second = town.dream(
        part.eliminations(0, (A, [B])),
        part.containers(1, part.container(1, town.vectors([A, C, D]), replaces=[town.row_of_id(first)])),
    )
    town.revert(second, slices=0)
    town.restore("b")
    town.unmerge("c")
    town.go_on_reverting(second)
    assert {key: town.memory(key).role for key in "abcd"} == {"a": FACET, "b": PLAIN, "c": PLAIN, "d": PLAIN}
    assert box_of(town, "a") == first
    assert (town.memory("b").kept_apart, town.memory("c").kept_apart) == (False, True)
    town.in_order()


def test_counts_of_a_revert_say_what_came_back_and_went(town: Any, part: Any) -> None:
    change = town.dream(*whole_night(town, part))
    town.revert(change, slices=0)
    done = [town.store.revert_next(change, "default").result(10) for _ in range(6)]
    assert [(one.edges, one.memories, one.memories_removed, one.edges_removed) for one in done] == [
        (0, 0, 0, 2),
        (0, 0, 1, 0),
        (0, 3, 1, 0),
        (4, 2, 0, 1),
        (0, 2, 0, 0),
        (2, 0, 0, 0),
    ]


def test_what_stood_where_is_where_it_was_after_two_nights_and_back(town: Any, part: Any) -> None:
    first = town.dream(
        part.containers(0, part.container(1, town.vectors([A, B])), part.container(2, town.vectors([C, D])))
    )
    boxes = [town.row_of_id(box_of(town, key)) for key in "ac"]
    states = [town.digest()]
    second = town.dream(part.containers(0, part.container(1, town.vectors([A, B, C, D, E]), replaces=boxes, bits=1)))
    assert {town.memory(entropy.uuid_text(uid)).role for (uid,) in town.rows("SELECT uid FROM nodes WHERE id > 8")} == {
        CONTAINER,
        REPLACED,
    }
    with pytest.raises(ChangedLater):
        town.revert(first)
    town.revert(second)
    assert town.digest() == states[0]
    town.in_order()
    town.revert(first)
    assert {town.memory(key).role for key in KEYS} == {PLAIN}
    assert FOLDED not in {role for (role,) in town.rows("SELECT role FROM nodes")}
    town.in_order()


def test_an_edge_that_waits_for_a_copy_is_back_with_it(town: Any, part: Any) -> None:
    """Hidden with its other end when the night began, so that the night has no image of it."""
    town.forget("a")
    night = town.dream(part.eliminations(0, (D, [C])))
    town.restore("a")
    assert ("a", "c") not in {(source, target) for source, target, _ in town.edges()}
    town.revert(night)
    assert ("a", "c") in {(source, target) for source, target, _ in town.edges()}
    town.in_order()
