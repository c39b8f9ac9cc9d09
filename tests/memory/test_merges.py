"""What a dream merges and makes, folded into the memory: copies, containers, memories, edges."""

import itertools
from typing import Any

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import EdgeDetail, NewMemory
from dreamsvc.errors import ChangedLater, InvalidFields
from dreamsvc.facet_codes import Bits
from dreamsvc.memory import fold, operations
from dreamsvc.memory.standing import CONTAINER, FACET, FOLDED, PLAIN, REPLACED
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.memory_pb2 import Edge, Memory

A, B, C, D, E, F, G, H = range(1, 9)
KEYS = "abcdefgh"


def vector(number: int) -> list[float]:
    return np.random.default_rng(number).normal(size=6).astype(np.float16).astype(float).tolist()


@pytest.fixture
def town(room: Any) -> Any:
    """Eight memories with vectors and a few edges; row ids 1 to 8."""
    room.remember(
        *(Memory(key=key, text=f"{key} text", vector=vector(row)) for row, key in enumerate(KEYS, 1)),
        edges=[
            Edge(source="a", target="c", weight=0.4),
            Edge(source="b", target="c", weight=0.7, confidence=0.5),
            Edge(source="b", target="a", weight=0.9),
            Edge(source="d", target="b", weight=0.3, type="knows"),
            Edge(source="g", target="h", weight=0.2),
        ],
    )
    return room


def of(room: Any, *rows: int) -> dict[int, list[float]]:
    return room.vectors(rows)


def uid(change: int, number: int, room: Any) -> str:
    ((raw,),) = room.rows("SELECT uid FROM changes WHERE id = ?", change)
    return entropy.uuid_text(fold.memory_id(operations.Change(change, raw, 1, "", "", 0, 0, 0, ""), number))


def roles(room: Any) -> dict[str, int]:
    return dict(room.rows("SELECT ifnull(key, title), role FROM nodes ORDER BY id"))


def found(room: Any, word: str) -> set[int]:
    return {hit.node for hit in room.find(word)}


# ── copies ──────────────────────────────────────────────────────────────────────


def at(us: int) -> Any:
    made = Timestamp()
    made.FromMicroseconds(us)
    return made


def test_a_survivor_inherits_importance_history_time_span_and_names(room: Any, part: Any) -> None:
    room.remember(Memory(key="c", title="Tea", text="c", importance=0.9, aliases=["green"], event_time=at(300)))
    first = room.clock.us
    room.clock.us += 10
    room.remember(
        Memory(key="s", title="The tea", text="s", importance=0.2, aliases=["cha"], event_time=at(500)),
        Memory(key="d", title="the TEA", text="d", importance=0.5, aliases=["GREEN", "tea"], event_time=at(400)),
    )
    room.store.touch("default", {1: 3, 2: 2}).result(10)
    room.clock.us += 10
    room.store.touch("default", {3: 1}).result(10)
    room.dream(part.eliminations(0, (2, [1, 3])))
    heir = room.memory("s")
    assert heir.importance == 0.9
    assert heir.access_count == 6
    assert heir.access_time.ToMicroseconds() == room.clock.us
    assert heir.create_time.ToMicroseconds() == first
    assert (heir.event_time.ToMicroseconds(), heir.event_end_time.ToMicroseconds()) == (300, 500)
    assert list(heir.aliases) == ["cha", "Tea", "green"]
    assert heir.text == "s"
    assert [hit.node for hit in room.find("green")] == [2]
    room.in_order()


def test_a_copy_is_folded_and_its_edges_go_over(town: Any, part: Any) -> None:
    town.dream(part.eliminations(0, (A, [B])))
    copy = town.memory("b")
    assert (copy.role, copy.merged_into, bool(copy.delete_time.ToMicroseconds())) == (
        FOLDED,
        town.memory("a").id,
        True,
    )
    # b -> c went over to a -> c, which keeps its place and takes the stronger; b -> a would be a loop.
    assert town.edges() == {("a", "c", "related"): 0.7, ("d", "a", "knows"): 0.3, ("g", "h", "related"): 0.2}
    assert town.rows("SELECT confidence FROM edges WHERE id = 1") == [(1.0,)]
    assert town.rows("SELECT id, hidden_by FROM edges WHERE hidden_by IS NOT NULL ORDER BY id") == [
        (2, B),
        (3, B),
        (4, B),
    ]
    assert B not in found(town, "b")
    town.in_order()


def test_of_equal_edges_of_copies_the_stronger_counts(room: Any, part: Any) -> None:
    room.remember(
        *(Memory(key=key, text=key) for key in "abcdx"),
        edges=[Edge(source=key, target="x", weight=weight) for key, weight in (("b", 0.3), ("c", 0.8), ("d", 0.5))],
    )
    room.dream(part.eliminations(0, (1, [2, 3, 4])))
    assert room.edges() == {("a", "x", "related"): 0.8}
    room.in_order()


def test_a_restored_copy_is_back_with_its_edges_and_takes_nothing_from_its_survivor(town: Any, part: Any) -> None:
    before = town.edges()
    town.dream(part.eliminations(0, (A, [B])))
    after = town.edges()
    town.restore("b")
    assert town.edges() == after | {name: weight for name, weight in before.items() if "b" in name}
    back = town.memory("b")
    assert (back.role, back.merged_into, back.HasField("delete_time")) == (PLAIN, "", False)
    assert back.vector == pytest.approx(vector(B))
    assert found(town, "b") >= {B}
    assert town.find(vector=vector(B))[0].node == B
    town.in_order()


def test_copies_fold_in_chains_within_a_dream(town: Any, part: Any) -> None:
    # In one part, and over two.
    town.dream(part.eliminations(0, (B, [C]), (A, [B])), part.eliminations(1, (D, [A])))
    assert [town.memory(key).merged_into for key in "cba"] == [town.memory(key).id for key in "bad"]
    assert town.edges() == {("g", "h", "related"): 0.2}
    town.in_order()
    town.restore("a", "c")
    town.in_order()
    town.restore("b")
    assert town.edges().items() >= {("b", "c", "related"): 0.7, ("a", "c", "related"): 0.4}.items()
    town.in_order()


def test_an_edge_that_supersedes_says_so_from_its_new_place(town: Any, part: Any) -> None:
    town.dream(part.new_edges(0, (B, E, "SUPERSEDES", 0.1)))
    town.dream(part.eliminations(0, (A, [B])))
    assert town.edges()["a", "e", "SUPERSEDES"] == pytest.approx(0.1)
    town.in_order()
    town.reopen(snapshot=False)
    assert town.find("e")[0].superseded_by in (A, 0)
    town.in_order()


def test_what_a_user_says_of_an_edge_meanwhile_is_not_overruled(town: Any, part: Any) -> None:
    def meanwhile() -> None:
        town.remember(edges=[Edge(source="a", target="c", weight=0.1), Edge(source="b", target="h", weight=0.6)])

    town.dream(part.eliminations(0, (A, [B])), meanwhile=meanwhile)
    assert town.edges()["a", "c", "related"] == 0.1
    # An edge that came to the copy meanwhile goes over like the others.
    assert town.edges()["a", "h", "related"] == 0.6
    town.in_order()


@pytest.mark.parametrize("what", ["update", "forget", "pin"])
@pytest.mark.parametrize("key", ["a", "b"])
def test_a_copy_or_survivor_that_a_user_changed_meanwhile_is_left(town: Any, part: Any, what: str, key: str) -> None:
    def meanwhile() -> None:
        if what == "forget":
            town.forget(key)
        else:
            town.remember(Memory(key=key, text="mine", vector=vector(9), pinned=what == "pin"))

    town.dream(part.eliminations(0, (A, [B, C])), meanwhile=meanwhile)
    expected = {"b": PLAIN, "c": FOLDED} if key == "b" else {"b": PLAIN, "c": PLAIN}
    assert {name: role for name, role in roles(town).items() if name in "bc"} == expected
    assert town.memory(key).text == ("a text" if key == "a" and what == "forget" else town.memory(key).text)
    if what != "forget":
        assert town.memory(key).text == "mine"
    town.in_order()


def test_a_survivor_is_never_its_own_copy(town: Any, part: Any) -> None:
    town.dream(part.eliminations(0, (A, [A, B, B])))
    assert (town.memory("a").role, town.memory("b").role) == (PLAIN, FOLDED)
    assert town.memory("a").access_count == 0
    town.in_order()


def test_facets_survive_and_are_copies(town: Any, part: Any) -> None:
    town.dream(part.containers(0, part.container(1, of(town, A, B, C))))
    town.dream(part.eliminations(0, (A, [B, D]), (E, [C])))
    assert {key: town.memory(key).role for key in "abcde"} == dict(
        zip("abcde", (FACET, FOLDED, FOLDED, FOLDED, PLAIN), strict=True)
    )
    town.in_order()
    town.restore("b", "c", "d")
    assert {key: town.memory(key).role for key in "abcde"} == dict(
        zip("abcde", (FACET, PLAIN, PLAIN, PLAIN, PLAIN), strict=True)
    )
    assert town.memory("c").vector == pytest.approx(vector(C))
    town.in_order()


def test_a_facet_whose_original_was_purged_is_folded_with_what_its_code_remembers(town: Any, part: Any) -> None:
    town.dream(part.containers(0, part.container(1, of(town, A, B, C), bits=8)))
    town.clock.us += 31 * 86_400_000_000
    assert town.purge().vectors == 3
    remembered = np.array(town.memory("b").vector)
    digest = town.digest()
    change = town.dream(part.eliminations(0, (D, [B])))
    town.in_order()
    town.revert(change)
    assert town.digest() == digest
    town.in_order()
    town.dream(part.eliminations(0, (D, [B])))
    town.restore("b")
    back = np.array(town.memory("b").vector)
    assert town.memory("b").role == PLAIN
    assert back @ remembered / np.linalg.norm(back) / np.linalg.norm(remembered) > 0.999
    town.in_order()


# ── containers ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_container_holds_its_members_from_one_commit_on(town: Any, part: Any, bits: Bits) -> None:
    members = of(town, A, B, C)
    edges = town.edges()
    change = town.dream(part.containers(0, part.container(1, members, bits=bits, title="abc")))
    box = town.memory(uid(change, 1, town))
    assert (box.role, box.kind, box.title) == (CONTAINER, "container", "abc")
    assert box.importance == max(town.memory(key).importance for key in "abc")
    assert {town.memory(key).merged_into for key in "abc"} == {box.id}
    assert town.edges() == edges
    assert np.array(box.vector) == pytest.approx(
        np.mean([np.array(v) / np.linalg.norm(v) for v in members.values()], axis=0), abs=0.01
    )
    # The originals lie in the store.
    assert town.memory("a").vector == pytest.approx(vector(A))
    town.in_order()
    town.reopen()
    town.in_order()


def test_recall_finds_every_member_before_between_the_parts_and_after(town: Any, part: Any) -> None:
    def all_there() -> None:
        assert [town.find(key, limit=1)[0].node for key in KEYS] == list(range(1, 9))
        assert [town.find(vector=vector(row), limit=1)[0].node for row in range(1, 9)] == list(range(1, 9))

    all_there()
    first = town.dream(
        part.containers(0, part.container(1, of(town, A, B, C), bits=8)),
        part.containers(1, part.container(2, of(town, D, E), bits=8)),
        fold=False,
    )
    boxes = {}
    while town.fold(first, slices=1):
        all_there()
        town.in_order(but=["no sealed work is left over"])
    for key, number in (("a", 1), ("d", 2)):
        boxes[number] = town.row_of_id(town.memory(key).merged_into)
    all_there()
    whole = part.container(1, of(town, A, B, C, D, E, F), bits=8, replaces=list(boxes.values()))
    second = town.dream(part.containers(0, whole), part.new_memories(1, NewMemory(number=2, text="x")), fold=False)
    while town.fold(second, slices=1):
        all_there()
    all_there()
    assert town.rows(f"SELECT count(*) FROM nodes WHERE role={REPLACED} AND deleted_us IS NOT NULL") == [(2,)]
    town.in_order()


def test_edges_that_users_made_at_a_container_move_to_the_one_that_replaces_it(town: Any, part: Any) -> None:
    first = town.dream(part.containers(0, part.container(1, of(town, A, B))))
    old = uid(first, 1, town)
    town.remember(edges=[Edge(source=old, target="g", weight=0.8), Edge(source="h", target=old, type="knows")])
    second = town.dream(part.containers(0, part.container(1, of(town, A, B, C), replaces=[town.row_of_id(old)])))
    new = uid(second, 1, town)
    made = {name: weight for name, weight in town.edges().items() if len(name[0]) > 1 or len(name[1]) > 1}
    hex_id = new.replace("-", "").upper()
    assert made == {(hex_id, "g", "related"): 0.8, ("h", hex_id, "knows"): 0.5}
    assert town.memory(old).role == REPLACED
    assert town.memory(old).merged_into == new
    town.in_order()


@pytest.mark.parametrize("what", ["update", "forget", "pin", "forget and restore"])
def test_a_member_that_a_user_changed_meanwhile_is_left_out_and_the_others_merge(
    town: Any, part: Any, what: str
) -> None:
    def meanwhile() -> None:
        match what:
            case "update" | "pin":
                town.remember(Memory(key="b", text="mine", vector=vector(9), pinned=what == "pin"))
            case _:
                town.forget("b")
        if what == "forget and restore":
            town.restore("b")

    change = town.dream(
        part.containers(0, part.container(1, of(town, A, B, C)), part.container(2, of(town, D, E))),
        meanwhile=meanwhile,
    )
    held = {key: town.memory(key).role for key in KEYS}
    assert held == {key: FACET if key in "acde" else PLAIN for key in KEYS}
    assert town.journal.made(change).skipped == 1
    assert town.journal.read_back(change).skipped == 0
    assert town.journal.made(change).facets == 4
    town.in_order()


def test_fewer_than_two_members_make_no_container(town: Any, part: Any) -> None:
    change = town.dream(
        part.containers(0, part.container(1, of(town, A, B, C))), meanwhile=lambda: town.forget("a", "b")
    )
    assert roles(town) == dict.fromkeys(KEYS, PLAIN)
    assert town.rows("SELECT count(*) FROM nodes") == [(8,)]
    assert town.journal.made(change).skipped == 3
    town.in_order()


@pytest.mark.parametrize("what", ["update a", "forget a", "pin box", "edge at box", "forget and restore a"])
def test_a_container_that_a_user_changed_meanwhile_stays_with_what_it_holds(town: Any, part: Any, what: str) -> None:
    first = town.dream(
        part.containers(0, part.container(1, of(town, A, B, C)), part.container(2, of(town, D, E))),
    )
    boxes = [town.row_of_id(uid(first, number, town)) for number in (1, 2)]
    old = uid(first, 1, town)

    def meanwhile() -> None:
        match what:
            case "update a":
                town.remember(Memory(key="a", text="mine"))
            case "pin box":
                town.remember(Memory(id=old, title="my box", text="t", pinned=True))
            case "edge at box":
                town.remember(edges=[Edge(source=old, target="h")])
            case _:
                town.forget("a")
                if "restore" in what:
                    town.restore("a")

    change = town.dream(
        part.containers(0, part.container(1, of(town, A, B, C, D, E, F), replaces=boxes)), meanwhile=meanwhile
    )
    new = uid(change, 1, town)
    inside = {key for key in KEYS if town.memory(key).merged_into == new}
    expected = {
        "update a": "bcdef",
        "forget a": "bcdef",
        "pin box": "def",
        "edge at box": "abcdef",
        "forget and restore a": "def",
    }
    assert inside == set(expected[what])
    assert town.memory(old).role == (CONTAINER if expected[what] == "def" else REPLACED)
    town.in_order()
    town.restore("a")
    town.in_order()


def test_a_container_that_would_only_be_made_anew_is_left(town: Any, part: Any) -> None:
    first = town.dream(part.containers(0, part.container(1, of(town, A, B))))
    box = uid(first, 1, town)
    digest = town.digest()
    town.dream(
        part.containers(0, part.container(1, of(town, A, B, C), replaces=[town.row_of_id(box)])),
        meanwhile=lambda: town.forget("c"),
    )
    assert town.memory("a").merged_into == box
    town.restore("c")
    assert town.digest() == digest
    town.in_order()


@pytest.mark.parametrize("wrong", ["bits", "codes", "centroid", "scales"])
def test_a_container_that_does_not_fit_the_space_is_left(town: Any, part: Any, wrong: str) -> None:
    box = part.container(1, of(town, A, B))
    match wrong:
        case "bits":
            box.bits = 3
        case "codes":
            box.codes += b"\0"
        case "centroid":
            box.centroid = box.centroid[:-1]
        case _:
            box.scales = b""
    digest = town.digest()
    change = town.dream(part.containers(0, box))
    assert town.digest() == digest
    assert town.rows("SELECT state FROM changes WHERE id = ?", change) == [("folded",)]
    town.in_order()


# ── what a dream makes ──────────────────────────────────────────────────────────


def test_memories_and_edges_of_a_dream_find_each_other_by_number(town: Any, part: Any) -> None:
    detail = EdgeDetail(is_amortized_shortcut=True, path=[A, B, C], evidence="often")
    change = town.dream(
        part.new_memories(0, NewMemory(number=4, kind="schema", title="S", text="x of all", metadata='{"n": 1}')),
        part.new_edges(1, (-4, A, "ABSTRACTS", 0.1), (-4, -9, "ABSTRACTS", 0.1), (A, 999, "causal", 0.5)),
        part.new_edges(2, (A, H, "causal", 0.5), (A, H, "causal", 0.6), (A, C, "related", 0.9), detail=detail),
    )
    made = town.memory(uid(change, 4, town))
    assert (made.kind, made.title, made.kept_apart) == ("schema", "S", True)
    assert dict(made.metadata) == {"n": 1}
    hex_id = made.id.replace("-", "").upper()
    assert town.edges()[hex_id, "a", "ABSTRACTS"] == pytest.approx(0.1)
    assert town.edges()["a", "h", "causal"] == 0.5
    # What was there already keeps its weight.
    assert town.edges()["a", "c", "related"] == 0.4
    (shortcut,) = [edge for edge in town.get("h").edges if edge.type == "causal"]
    assert list(shortcut.path) == [town.memory(key).id for key in "abc"]
    assert (shortcut.is_amortized_shortcut, shortcut.evidence) == (True, "often")
    counts = town.journal.made(change)
    assert (counts.schemas, counts.shortcuts, counts.skipped) == (1, 1, 3)
    assert town.find("x")[0].node == town.row_of_id(made.id)
    town.in_order()


def test_edges_of_a_dream_lead_to_what_stands_for_their_ends(town: Any, part: Any) -> None:
    town.dream(
        part.eliminations(0, (B, [C]), (A, [B])),
        part.new_edges(1, (C, H, "causal", 0.5), (B, A, "causal", 0.5), (G, C, "causal", 0.5)),
    )
    causal = {name[:2] for name in town.edges() if name[2] == "causal"}
    assert causal == {("a", "h"), ("g", "a")}
    town.in_order()


def test_folding_goes_on_after_a_crash_between_any_two_slices(rooms: Any, part: Any) -> None:
    ends: list[tuple[str, Any]] = []
    for stop in (None, *range(6)):
        with rooms() as room:
            room.remember(
                *(Memory(key=str(row), text=f"{row}", vector=vector(row)) for row in range(1, 9)),
                edges=[Edge(source=str(s), target=str(t)) for s, t in itertools.pairwise(range(1, 9))],
            )
            # The ids of what is made follow from the dream's.
            dream = Dream(id="0190a000-0000-7000-8000-0000000000ff", space="default", state=Dream.STATE_RUNNING)
            change = room.begin_dream(dream=dream)[0]
            parts = [
                part.weights(0, {1: 0.9, 2: 0.1}),
                part.eliminations(1, (1, [2])),
                part.containers(2, part.container(1, of(room, 1, 3, 4))),
                part.new_memories(3, NewMemory(number=2, text="x")),
                part.new_edges(4, (-2, 5, "ABSTRACTS", 0.1)),
            ]
            room.seal(change, dream, *parts)
            if stop is not None:
                assert room.fold(change, slices=stop) == min(stop, 5)
                room.in_order(but=["no sealed work is left over"])
                room.reopen(snapshot=bool(stop % 2))
            room.fold(change)
            room.in_order()
            images = room.rows("SELECT part, before, reversal_hash FROM change_parts ORDER BY part")
            assert len(images) == 5
            ends.append((room.digest(), images))
    assert all(end == ends[0] for end in ends)


# ── what others do meanwhile ────────────────────────────────────────────────────


def test_a_vector_that_was_made_meanwhile_does_not_come_to_what_is_read_by_codes(town: Any, part: Any) -> None:
    change = town.dream(part.containers(0, part.container(1, of(town, A, B))))
    box = town.row_of_id(uid(change, 1, town))
    town.execute("DELETE FROM vectors WHERE node = ?", A)
    space = town.store.space("default")
    texts = {A: "a text", box: "container 1\nof several", 999: "gone"}
    made = {row: np.ones(6, np.float32) for row in texts}
    town.execute("UPDATE spaces SET embedder = 'toy'")
    assert town.store.put_vectors(space, "toy", 6, made, texts).result(10) == 0
    assert town.rows("SELECT count(*) FROM vectors WHERE node IN (?, ?)", A, box) == [(0,)]
    assert town.store.count_waiting("default") == 0
    assert town.store.waiting_for_vectors(space, 0, 10) == []
    town.in_order()


def test_recalls_of_facets_count(town: Any, part: Any) -> None:
    town.dream(part.containers(0, part.container(1, of(town, A, B))))
    town.store.touch("default", {A: 2}).result(10)
    assert town.memory("a").access_count == 2
    town.in_order()


def test_a_user_who_rewrites_a_facet_or_a_copy_takes_it_out(town: Any, part: Any) -> None:
    change = town.dream(part.eliminations(0, (D, [E])), part.containers(1, part.container(1, of(town, A, B, C))))
    town.remember(Memory(key="a", text="a new", vector=vector(9)), Memory(key="e", text="e new"))
    for key in "ae":
        memory = town.memory(key)
        assert (memory.role, memory.merged_into, memory.text) == (PLAIN, "", f"{key} new")
    assert town.find(vector=vector(9))[0].node == A
    town.in_order()
    box = uid(change, 1, town)
    town.remember(Memory(id=box, title="mine", text="box"))
    assert (town.memory(box).role, town.memory(box).title) == (CONTAINER, "mine")
    town.in_order()
    # By id, since it may have been forgotten in between.
    town.remember(Memory(key="b", text="b new"), Memory(key="c", text="c new"))
    assert town.memory(box).role == REPLACED
    town.in_order()


def test_what_cannot_be_said_of_a_container_is_refused_by_field(town: Any, part: Any) -> None:
    first = town.dream(part.containers(0, part.container(1, of(town, A, B))))
    box = uid(first, 1, town)
    with pytest.raises(InvalidFields) as caught:
        town.remember(Memory(id=box, text="t", vector=vector(1)))
    assert [violation.path for violation in caught.value.violations] == ["memories[0].vector"]
    town.dream(part.containers(0, part.container(1, of(town, A, B, C), replaces=[town.row_of_id(box)])))
    with pytest.raises(InvalidFields) as caught:
        town.remember(Memory(text="t"), Memory(id=box, text="t"))
    assert [violation.path for violation in caught.value.violations] == ["memories[1].id"]
    town.in_order()


# ── forgetting and bringing back ────────────────────────────────────────────────


def test_a_container_is_forgotten_and_restored_with_what_it_holds(town: Any, part: Any) -> None:
    change = town.dream(part.containers(0, part.container(1, of(town, A, B, C))))
    box = uid(change, 1, town)
    town.forget("c")
    town.clock.us += 1
    digest = town.digest()
    assert town.forget(box).forgotten == 3
    assert not {A, B, C} & found(town, "a")
    town.in_order()
    assert town.restore(box).restored == 3
    assert town.digest() == digest
    assert town.memory("c").HasField("delete_time")
    town.in_order()
    town.forget(box)
    # Written to again it is back as well.
    town.remember(Memory(id=box, title="again", text="t"))
    assert [town.memory(key).HasField("delete_time") for key in "abc"] == [False, False, True]
    assert town.memory("a").merged_into == box
    town.in_order()


def test_a_facet_comes_back_into_its_container_or_alone_where_that_is_gone(town: Any, part: Any) -> None:
    change = town.dream(part.containers(0, part.container(1, of(town, A, B, C))))
    box = uid(change, 1, town)
    digest = town.digest()
    town.forget("a")
    town.in_order()
    town.restore("a")
    assert town.digest() == digest
    town.in_order()
    town.forget("a")
    town.forget(box)
    town.restore("a")
    assert (town.memory("a").role, town.memory("a").merged_into) == (PLAIN, "")
    assert town.memory("a").vector == pytest.approx(vector(A))
    town.in_order()
    town.restore(box)
    assert (town.memory("a").role, town.memory("b").role) == (PLAIN, FACET)
    town.in_order()


def test_a_survivor_is_forgotten_alone(town: Any, part: Any) -> None:
    town.dream(part.eliminations(0, (A, [B])))
    town.forget("a")
    assert town.memory("b").role == FOLDED
    town.in_order()
    town.restore("b")
    town.in_order()
    town.restore("a")
    assert town.edges()["b", "a", "related"] == 0.9
    town.in_order()


def test_a_copy_that_is_forgotten_does_not_come_back_by_a_revert(town: Any, part: Any) -> None:
    change = town.dream(part.eliminations(0, (A, [B])))
    assert town.forget("b").unchanged == 1
    with pytest.raises(ChangedLater, match=town.memory("b").id):
        town.revert(change)
    town.restore("b")
    town.in_order()
