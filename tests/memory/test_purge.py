"""What can be restored no longer is let go of, in slices: not a day too early, and nothing else."""

from typing import Any

import numpy as np
import pytest

from dreamsvc.dreamer.v1.operations_pb2 import (
    EdgeDetail,
    Expansion,
    Expansions,
    FoundBlindSpot,
    FoundBlindSpots,
    Operations,
    Positions,
)
from dreamsvc.errors import ChangedLater, InvalidFields
from dreamsvc.memory import purge
from dreamsvc.memory.audit import broken_at
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import ApproveDreamRequest, DiffDreamRequest
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import ListMemoriesRequest

A, B, C, D, E, F = range(1, 7)
DAY_US = 86_400_000_000
NOTHING = purge.Purged(0, 0, 0, 0)


def vector(number: int) -> list[float]:
    return np.random.default_rng(number).normal(size=16).astype(np.float16).astype(float).tolist()


def fill(room: Any, space: str = "default") -> None:
    room.remember(
        *(Memory(key=key, text=f"{key} secret", vector=vector(row)) for row, key in enumerate("abcdef", 1)),
        edges=[Edge(source="a", target="b"), Edge(source="b", target="f")],
        space=space,
    )


@pytest.fixture
def town(room: Any, part: Any) -> Any:
    """a, b, c in a container, e folded into d, f forgotten by a user, all of it on the first day."""
    fill(room)
    room.change = room.dream(
        part.eliminations(0, (D, [E])), part.containers(1, part.container(1, room.vectors([A, B, C]), bits=8))
    )
    room.box = room.memory("a").merged_into
    room.forget("f")
    return room


def days(room: Any, count: float) -> None:
    room.clock.us += int(count * DAY_US)


def test_nothing_goes_before_the_days_are_over(town: Any) -> None:
    days(town, 30)
    before = town.rows("SELECT * FROM nodes"), town.rows("SELECT * FROM vectors"), town.rows("SELECT * FROM audit")
    assert town.purge() == NOTHING
    assert (town.rows("SELECT * FROM nodes"), town.rows("SELECT * FROM vectors"), town.rows("SELECT * FROM audit")) == (
        before
    )
    town.restore("e", "f")
    town.forget("e", "f")
    days(town, 29)
    town.purge()
    assert town.restore("e", "f").restored == 2
    town.in_order()


def test_content_originals_and_journals_go_and_what_lives_stays(town: Any) -> None:
    digest = town.digest()
    found = [town.find(key, limit=1)[0].node for key in "abcd"]
    days(town, 30.1)
    purged = town.purge()
    assert purged == purge.Purged(journals=1, parts=2, memories=2, vectors=3)
    assert town.purge() == NOTHING
    dump = str(town.rows("SELECT title, text, key, aliases, metadata FROM nodes WHERE id IN (5, 6)"))
    assert "secret" not in dump
    assert "e secret" not in str(town.rows("SELECT body FROM node_versions"))
    assert town.rows("SELECT node FROM vectors") == [(D,)]
    assert town.rows("SELECT count(*) FROM change_parts") == [(0,)]
    assert town.rows("SELECT action FROM audit ORDER BY id DESC LIMIT 1") == [("purge",)]
    assert town.store.database.read(broken_at) is None
    # Originals are no longer in the file, all else is.
    assert town.digest() != digest
    assert [town.find(key, limit=1)[0].node for key in "abcd"] == found
    assert [town.find(vector=vector(row), limit=1)[0].node for row in (A, B, C, D)] == [A, B, C, D]
    town.in_order()
    town.reopen(snapshot=False)
    assert [town.find(vector=vector(row), limit=1)[0].node for row in (A, B, C, D)] == [A, B, C, D]
    town.in_order()


def test_what_dreams_derived_of_a_memory_goes_with_its_content(town: Any) -> None:
    town.restore("f")
    found = [Expansion(node=node, words=["secret"], gains=[0.5]) for node in (A, F)]
    spot = FoundBlindSpot(number=1, source=F, target=A, evidence=["both tell a secret"])
    town.dream(
        Operations(part=0, expansions=Expansions(expansions=found)),
        Operations(part=1, positions=Positions(node_ids=[A, F], dimension=2, points=[0, 0.5, 0.5, 0])),
        Operations(part=2, blind_spots=FoundBlindSpots(blind_spots=[spot])),
    )
    town.forget("f")
    tables = ("expansions", "positions")
    assert [town.rows(f"SELECT node FROM {table} ORDER BY node") for table in tables] == [[(A,), (F,)]] * 2
    days(town, 30.1)
    town.purge()
    assert [town.rows(f"SELECT node FROM {table}") for table in tables] == [[(A,)]] * 2
    assert b"secret" not in town.rows("SELECT body FROM blind_spots")[0][0]
    assert town.rows("SELECT count(*) FROM change_parts") == [(0,)]
    town.in_order()


def test_what_was_purged_is_refused_with_a_reason(town: Any) -> None:
    uid = town.memory("e").id
    dream_id = Dream.FromString(town.rows("SELECT body FROM dreams")[0][0]).id
    days(town, 31)
    town.purge()
    with pytest.raises(ChangedLater, match="purged"):
        town.revert(town.change)
    with pytest.raises(InvalidFields) as caught:
        town.restore("a", uid)
    assert [(wrong.path, wrong.message) for wrong in caught.value.violations] == [
        ("ids[1]", "was purged: its content is gone")
    ]
    with pytest.raises(ChangedLater, match="purged"):
        town.journal.diff(DiffDreamRequest(space="default", dream_id=dream_id, page_size=5))
    # Its id leads to what stands for it, its key is nobody's, and no listing shows it.
    assert town.memory(uid).merged_into == town.memory("d").id
    assert town.rows("SELECT count(*) FROM nodes WHERE key = 'e'") == [(0,)]
    listed = town.store.list_memories(ListMemoriesRequest(space="default", page_size=50, show_deleted=True))
    assert uid not in {memory.id for memory in listed.memories}
    assert town.store.stats("default").memories_forgotten == 0
    assert town.store.stats("default").folded == 0


def test_the_key_of_a_purged_memory_can_be_used_again(town: Any) -> None:
    old = town.memory("e").id
    days(town, 31)
    town.purge()
    new = town.remember(Memory(key="e", text="e again", vector=vector(20)), edges=[Edge(source="e", target="d")])
    assert (new.memories_created, new.memories_updated) == (1, 0)
    assert new.ids[0] != old
    assert town.memory("e").text == "e again"
    # And its id, by one who knows it.
    town.remember(Memory(id=old, text="back", vector=vector(5)))
    assert (town.memory(old).text, town.memory(old).HasField("delete_time")) == ("back", False)
    town.in_order()


def test_an_export_after_a_purge_is_read_back_to_an_equal_digest(town: Any, rooms: Any) -> None:
    days(town, 31)
    town.purge()
    data = town.export()
    with rooms() as other:
        other.import_(data)
        assert other.export() == data
        assert [other.find(vector=vector(row), limit=1)[0].node for row in (A, B, C, D)] == [
            other.row_of(key) for key in "abcd"
        ]
        other.in_order()


def test_why_an_edge_was_made_goes_with_what_it_quotes(town: Any, part: Any) -> None:
    quoting = EdgeDetail(evidence="home: e secret before")
    town.restore("e", "f")
    change = town.dream(part.new_edges(0, (E, D, "SUPERSEDES", 0.1), (F, D, "SUPERSEDES", 0.1), detail=quoting))
    town.forget("e")
    days(town, 31)
    assert town.purge().memories == 1
    details = dict(town.rows("SELECT source, detail FROM edges WHERE born_in = ?", change))
    assert details[E] is None
    assert b"secret" in details[F]
    town.in_order()


def test_a_held_space_is_left_alone(town: Any, part: Any) -> None:
    fill(town, "held")
    first = town.rows("SELECT min(id) FROM nodes WHERE space = 2")[0][0]
    vectors = town.vectors([first, first + 1], space="held")
    town.dream(part.containers(0, part.container(1, vectors)), space="held")
    town.forget("f", space="held")
    days(town, 31)
    held = town.rows("SELECT * FROM nodes WHERE space = 2")
    assert town.purge(held=["held", "nowhere"]) == purge.Purged(1, 2, 2, 3)
    assert town.rows("SELECT * FROM nodes WHERE space = 2") == held
    assert town.purge() == purge.Purged(1, 1, 1, 2)
    town.in_order()


def test_it_goes_in_slices(town: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "SLICE", 1)
    monkeypatch.setattr(purge, "PARTS", 1)
    days(town, 31)
    slices = []
    while (one := town.store.purge_next(30 * DAY_US, []).result(10)).total:
        slices.append(one)
        town.in_order()
    assert [tuple(one) for one in slices] == [(1, 1, 1, 1), (0, 1, 1, 1), (0, 0, 0, 1)]
    actions = [action for (action,) in town.rows("SELECT action FROM audit")]
    assert actions.count("purge") == 3


def test_freed_pages_go_back_to_the_disk(room: Any) -> None:
    room.remember(*(Memory(key=f"k{i}", text="x" * 50_000) for i in range(40)))
    room.forget(*(f"k{i}" for i in range(40)))
    room.rows("SELECT 1")
    pages = room.rows("PRAGMA page_count")[0][0]
    room.clock.us += 31 * DAY_US
    assert room.purge().memories == 40
    assert room.rows("PRAGMA page_count")[0][0] < pages - 200
    assert room.rows("PRAGMA freelist_count")[0][0] < 20
    room.in_order()


def test_a_night_that_is_not_old_enough_keeps_what_an_older_one_merged(town: Any, part: Any) -> None:
    days(town, 20)
    before = town.digest()
    box = town.row_of_id(town.box)
    second = town.dream(part.containers(0, part.container(1, town.vectors([A, B, C, D]), replaces=[box])))
    days(town, 11)
    assert town.purge() == purge.Purged(journals=1, parts=2, memories=2, vectors=0)
    town.revert(second)
    assert town.digest() == before
    town.in_order()
    # Now the first night's originals may go.
    assert town.purge().vectors == 3
    town.in_order()


def test_what_a_half_reverted_night_needs_stays(town: Any, part: Any) -> None:
    days(town, 29)
    town.restore("f")
    state = town.digest()
    second = town.dream(part.eliminations(0, (D, [F])), part.new_edges(1, (A, D, "causal", 0.5)))
    town.revert(second, slices=1)
    days(town, 40)
    assert town.purge().journals == 1
    town.go_on_reverting(second)
    assert town.memory("f").text == "f secret"
    assert town.digest() != state  # the first night's originals are gone, which the file shows
    town.in_order()


def test_a_container_is_there_for_as_long_as_a_forgotten_facet_needs_its_code(town: Any, part: Any) -> None:
    days(town, 31)
    town.purge()
    town.forget("a")
    days(town, 1)
    town.unmerge(town.box)
    assert town.restore("a").restored == 1
    back = np.array(town.memory("a").vector)
    assert back @ np.array(vector(A)) / np.linalg.norm(back) / np.linalg.norm(vector(A)) > 0.99
    town.in_order()


def test_forgotten_containers_go_after_what_they_hold(town: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    town.forget(town.box)
    days(town, 31)
    monkeypatch.setattr(purge, "SLICE", 1)
    box = town.row_of_id(town.box)
    order: list[int] = []
    gone: set[int] = set()
    while town.store.purge_next(30 * DAY_US, []).result(10).total:
        now = {row for (row,) in town.rows("SELECT id FROM nodes WHERE purged = 1")}
        order += sorted(now - gone)
        gone = now
        if box not in gone:
            # What is left comes back without what is gone.
            assert town.rows("SELECT count(*) FROM nodes WHERE purged = 1 AND text <> ''") == [(0,)]
    assert order[-1] == box
    town.in_order()


def test_an_imported_container_goes_after_what_it_holds_though_it_came_first(
    town: Any, rooms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rooms() as other:
        other.import_(town.export())
        other.forget(town.box)
        days(other, 31)
        monkeypatch.setattr(purge, "SLICE", 1)
        box = other.row_of_id(town.box)
        assert box < other.row_of("a")
        while other.rows("SELECT purged FROM nodes WHERE id = ?", box) == [(0,)]:
            left = other.rows("SELECT count(*) FROM nodes WHERE merged_into = ? AND purged = 0", box)[0][0]
            assert other.store.purge_next(30 * DAY_US, []).result(10).total
        assert left == 0
        other.in_order()


def test_restoring_a_half_purged_container_brings_back_what_is_left(town: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    town.forget(town.box)
    days(town, 31)
    monkeypatch.setattr(purge, "SLICE", 1)
    while town.rows("SELECT count(*) FROM nodes WHERE purged = 1 AND id IN (1, 2, 3)") == [(0,)]:
        town.store.purge_next(30 * DAY_US, []).result(10)
    assert town.restore(town.box).restored == 3
    assert [town.rows("SELECT deleted_us IS NULL FROM nodes WHERE id = ?", row)[0][0] for row in (A, B, C)].count(
        1
    ) == 2
    town.in_order()


def test_the_journal_of_an_import_goes_with_the_texts_in_it(room: Any) -> None:
    fill(room, "other")
    room.import_(room.export("other"))
    assert room.rows("SELECT count(*) FROM change_parts") == [(2,)]
    room.clock.us += 31 * DAY_US
    assert room.purge() == purge.Purged(1, 2, 0, 0)
    room.in_order()


def test_a_proposal_outlives_a_purge(town: Any, part: Any) -> None:
    box = town.row_of_id(town.box)
    parts = [
        part.eliminations(0, (D, [E, F])),
        part.containers(1, part.container(1, town.vectors([A, B, C, D]), replaces=[box])),
    ]
    days(town, 1)
    change, dream = town.begin_dream()
    town.journal.stage_dream(change, parts, None, dream).result(10)
    town.journal.compact(change)
    dream.state = Dream.STATE_PROPOSED
    town.journal.propose_dream(change, dream).result(10)
    days(town, 60)
    assert town.purge() == purge.Purged(1, 2, 2, 3)
    assert town.rows("SELECT count(*) FROM change_parts WHERE change = ?", change) != [(0,)]
    town.journal.approve_dream(ApproveDreamRequest(space="default", dream_id=dream.id)).result(10)
    before = town.digest()
    town.fold(change)
    assert len({town.memory(key).merged_into for key in "abcd"}) == 1
    town.in_order()
    town.revert(change)
    assert town.digest() == before
    town.in_order()


def test_a_suspended_dream_outlives_a_purge(town: Any, part: Any) -> None:
    days(town, 1)
    change, dream = town.begin_dream()
    town.journal.stage_dream(change, [part.marks(0, {A: 1, F: 1})], None, dream).result(10)
    days(town, 60)
    town.purge()
    assert len(town.journal.resumable("default", 1.0).staged if dream.state == Dream.STATE_RUNNING else []) == 1
    town.seal(change, dream, part.marks(0, {A: 1, F: 1}), part.eliminations(1, (A, [F])))
    town.fold(change)
    assert town.memory("a").replay_count == 1
    town.in_order()
