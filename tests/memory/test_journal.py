"""What is kept of dreams: their rows, their checkpoints, what a restart finds."""

from typing import Any

import pytest

from dreamsvc import checkpoints, entropy
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint
from dreamsvc.errors import InvalidFields, NotFound, RequestIdConflict
from dreamsvc.memory import operations
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import ListDreamsRequest, TriggerRequest
from dreamsvc.v1.memory_pb2 import Edge, Memory


@pytest.fixture
def pair(room: Any) -> Any:
    room.remember(Memory(key="a", text="1"), Memory(key="b", text="2"), edges=[Edge(source="a", target="b")])
    return room


def begin(room: Any, request_id: str = "", seed: int = 0) -> Any:
    dream = Dream(id=entropy.uuid7(room.clock.us), space="default", state=Dream.STATE_RUNNING)
    request = TriggerRequest(space="default", request_id=request_id, seed=seed)
    return room.journal.begin_dream(request, dream, DreamConfig(), room.clock.us).result(10)


def test_a_repeated_trigger_gets_the_first_dream(pair: Any) -> None:
    answer, begun = begin(pair, "r")
    assert begun is not None
    again, second = begin(pair, "r")
    assert (again, second) == (answer, None)
    assert pair.rows("SELECT count(*) FROM dreams") == [(1,)]
    with pytest.raises(RequestIdConflict):
        begin(pair, "r", seed=5)
    assert pair.rows("SELECT count(*) FROM changes") == [(1,)]


def test_a_dream_of_an_unknown_space_is_not_begun(room: Any) -> None:
    with pytest.raises(NotFound):
        room.begin_dream("nowhere")
    assert room.rows("SELECT count(*) FROM changes") == [(0,)]


def test_a_checkpoint_comes_back_with_the_parts_it_follows(pair: Any, part: Any) -> None:
    change, dream = pair.begin_dream()
    dream.state, dream.seed = Dream.STATE_SUSPENDED, 2**64 - 1
    checkpoint = Checkpoint(format=checkpoints.FORMAT, seed=dream.seed, batch=3, activation=b"\0\xff", next_part=2)
    pair.journal.stage_dream(change, [part.weights(0, {1: 0.5}), part.marks(1, {1: 1})], checkpoint, dream).result(10)
    pair.reopen()
    found = pair.journal.resumable("default", 0.5)
    assert (found.row.change, found.row.dream, found.checkpoint, found.unfit) == (change, dream, checkpoint, "")
    assert found.staged == [part.weights(0, {1: 0.5}), part.marks(1, {1: 1})]
    assert pair.journal.resumable("default", 0.5).row.base_seq == found.row.base_seq


def test_a_damaged_checkpoint_is_told_and_not_used(pair: Any) -> None:
    change, dream = pair.begin_dream()
    dream.state = Dream.STATE_SUSPENDED
    pair.journal.stage_dream(change, [], Checkpoint(seed=1), dream).result(10)
    pair.execute("UPDATE checkpoints SET body = x'00'")
    found = pair.journal.resumable("default", 0.5)
    assert (found.checkpoint, found.unfit) == (None, "its checkpoint is damaged")


def test_a_store_that_moved_on_too_far_is_told(pair: Any) -> None:
    change, dream = pair.begin_dream()
    dream.state, dream.report.nodes, dream.report.edges = Dream.STATE_SUSPENDED, 2, 1
    pair.journal.stage_dream(change, [], Checkpoint(format=checkpoints.FORMAT), dream).result(10)
    assert pair.journal.resumable("default", 0.5).unfit == ""
    pair.remember(Memory(key="c", text="3"))
    assert pair.journal.resumable("default", 0.5).unfit == ""
    pair.remember(Memory(key="a", text="4"))
    assert "2 memories and edges changed" in pair.journal.resumable("default", 0.5).unfit


def test_without_an_interrupted_dream_there_is_none_to_resume(pair: Any) -> None:
    assert pair.journal.resumable("default", 0.5) is None
    change, dream = pair.begin_dream()
    dream.state = Dream.STATE_FAILED
    pair.journal.record(change, dream).result(10)
    assert pair.journal.resumable("default", 0.5) is None


def test_a_resumed_dream_is_marked_and_answers_a_repeated_trigger(pair: Any) -> None:
    change, dream = pair.begin_dream()
    request = TriggerRequest(space="default", request_id="again")
    answer, ran = pair.journal.resume_dream(request, change, dream).result(10)
    assert ran
    assert answer.resumed
    assert pair.journal.resume_dream(request, change, dream).result(10) == (answer, False)


def test_a_dream_of_another_space_is_not_found(pair: Any) -> None:
    _, dream = pair.begin_dream()
    pair.remember(Memory(key="a", text="1"), space="other")
    assert pair.journal.dream("default", dream.id).dream == dream
    for space, name in (("other", dream.id), ("default", "no-uuid"), ("default", entropy.uuid7(0))):
        with pytest.raises(NotFound):
            pair.journal.dream(space, name)


def test_dreams_are_listed_newest_first_in_pages(pair: Any) -> None:
    made: list[str] = []
    for i in range(5):
        change, dream = pair.begin_dream()
        made.insert(0, dream.id)
        if i % 2:
            dream.state = Dream.STATE_SUCCEEDED
            pair.journal.record(change, dream).result(10)
    request = ListDreamsRequest(space="default", page_size=2)
    listed: list[str] = []
    while True:
        page = pair.journal.list_dreams(request)
        listed += [dream.id for dream in page.dreams]
        assert len(page.dreams) <= 2
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert listed == made
    request = ListDreamsRequest(space="default", page_size=9, states=[Dream.STATE_SUCCEEDED])
    assert [dream.id for dream in pair.journal.list_dreams(request).dreams] == [made[1], made[3]]
    request.page_token = pair.journal.list_dreams(ListDreamsRequest(space="default", page_size=1)).next_page_token
    with pytest.raises(InvalidFields, match="page_token"):
        pair.journal.list_dreams(request)


def test_after_a_crash_running_and_folding_dreams_and_sealed_imports_are_found(pair: Any, part: Any) -> None:
    running, _ = pair.begin_dream()
    folding = pair.dream(part.weights(0, {1: 0.1}), fold=False)
    done = pair.dream(part.weights(0, {1: 0.2}))
    record = pair.journal.unfinished()[0][-1].dream
    record.state = Dream.STATE_SUCCEEDED
    pair.journal.record(done, record).result(10)
    staged, _ = pair.journal.begin_import("default").result(10)
    sealed, _ = pair.journal.begin_import("default").result(10)
    pair.journal.seal_import(sealed, "default", "client", 0).result(10)
    pair.reopen()
    dreams, imports = pair.journal.unfinished()
    assert [row.change for row in dreams] == [running, folding]
    assert [change.id for change in imports] == [sealed]
    assert pair.journal.space_name(imports[0].space) == "default"
    assert staged not in (sealed, folding)


def test_compacting_again_gives_the_same_journal(pair: Any, part: Any) -> None:
    change, dream = pair.begin_dream()
    pair.journal.stage_dream(change, [part.weights(0, {1: 0.1}), part.weights(1, {1: 0.2})], None, dream).result(10)
    first = pair.journal.compact(change)
    assert first == pair.journal.compact(change)
    assert first.operations == 1
    assert pair.rows("SELECT count(*) FROM change_parts WHERE generation = ?", operations.COMPACTED) == [(1,)]
