"""REM where something goes wrong, or a user is in between: nothing is lost, nothing forgotten stays, nothing waits."""

from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from dreamsvc import config
from dreamsvc.dreamer.memories import Bodies
from dreamsvc.dreamer.merged import Merged
from dreamsvc.dreamer.rem import Rem, _Pairs, told_before
from dreamsvc.dreamer.v1.operations_pb2 import Expansion
from dreamsvc.errors import StoreUnavailable
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream, Exploration
from dreamsvc.v1.dream_service_pb2 import (
    AcceptBlindSpotRequest,
    ApproveDreamRequest,
    DiffDreamRequest,
    DreamEdit,
    ListBlindSpotsRequest,
    RejectBlindSpotRequest,
    RevertRequest,
)
from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import FeedbackRequest, ForgetRequest, GetStatsRequest, RememberRequest
from tests.dreamer.remembered import remembered, result
from tests.integration.served import CONVERGE, Calls, InThread, refused
from tests.integration.test_exploring import FULL, REM
from tests.integration.villages import NAMES, contents, villages

pytestmark = pytest.mark.integration

LINKS = ("MENTIONS", "SHARES_ENTITY")


def links(calls: Calls, space: str) -> int:
    return sum(line.get("edge_type") in LINKS for line in calls.export(space)[0])


def stats(calls: Calls, space: str) -> Any:
    return calls.memories.GetStats(GetStatsRequest(space=space))


def revert(calls: Calls, space: str, dream: Dream) -> None:
    calls.call(calls.dreams.Revert, RevertRequest(space=space, dream_id=dream.id))


def words_that_expand(service: InThread, space: str) -> set[str]:
    query = (
        "SELECT x.body FROM expansions x JOIN nodes n ON n.id = x.node JOIN spaces p ON p.id = n.space WHERE p.name = ?"
    )
    found: list[Any] = service.app.store.database.read(lambda c: c.execute(query, (space,)).fetchall())
    return {word for (body,) in found for word in Expansion.FromString(body).words}


# ── the disk ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("parts", [1, 3])
def test_a_fold_that_broke_off_between_links_and_what_is_known_by_them_is_finished_and_can_be_taken_back(
    dreaming: InThread, explored: str, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, fold = dreaming.calls, dreaming.app.store.fold_next
    before = contents(calls, explored)
    left = parts

    def breaking(*given: Any) -> Future[Any]:
        nonlocal left
        if not left:
            raise StoreUnavailable("the store cannot take this: database or disk is full")
        left -= 1
        return fold(*given)

    with monkeypatch.context() as patch:
        patch.setattr(dreaming.app.store, "fold_next", breaking)
        sealed = calls.trigger(explored, phase=REM, blocking=True, seed=1).dream
    assert sealed.state == Dream.STATE_FOLDING
    assert calls.recall(explored, "kept bees").hits
    following = calls.trigger(explored, phase=REM, blocking=True, seed=2).dream
    whole = calls.dream(explored, sealed.id)
    assert (whole.state, following.state) == (Dream.STATE_SUCCEEDED, Dream.STATE_SUCCEEDED)
    exploration = whole.report.exploration
    assert links(calls, explored) == exploration.linking.links > 0
    assert stats(calls, explored).expanded == exploration.linking.expanded > 0
    revert(calls, explored, following)
    revert(calls, explored, whole)
    assert contents(calls, explored) == before
    now = stats(calls, explored)
    assert (now.placed, now.expanded, now.blind_spots) == (0, 0, 0)


# ── time ────────────────────────────────────────────────────────────────────────


def test_nights_that_are_short_of_time_do_not_link_the_same_memories_again_and_again() -> None:
    # Without positions all memories count as new, as they do where the budget ends before they are placed.
    apart = {"dream": {"resources": {"max_gpu_usage": 1.0}, "rem": {"explore": False}}}
    request = villages()
    for i, memory in enumerate(request.memories):
        memory.text += (
            f" Another road leads to {NAMES[(i + 7) % len(NAMES)]}, a third to {NAMES[(i + 13) % len(NAMES)]}."
        )
    with InThread(":memory:", CONVERGE, apart) as service:
        calls = service.calls
        calls.remember("default", request)
        first = calls.trigger("default", phase=REM, blocking=True, seed=1).dream
        assert links(calls, "default") == first.report.exploration.linking.links == 60
        again = calls.trigger("default", phase=REM, blocking=True, seed=2).dream
        assert links(calls, "default") == 60
        assert again.state == Dream.STATE_SKIPPED
        assert "nothing was found to link" in again.message


def test_a_night_of_rem_alone_is_not_graded_by_what_it_did_not_merge(dreaming: InThread, explored: str) -> None:
    calls = dreaming.calls
    dry, wet = (calls.trigger(explored, phase=REM, blocking=True, seed=1, dry_run=dry).dream for dry in (True, False))
    assert list(wet.report.quality.not_measured) == ["compression", "preservation"]
    assert wet.report.quality == dry.report.quality


def test_what_the_replay_took_an_edge_from_is_expanded_anew_by_the_edges_that_are_left() -> None:
    memories = remembered(["alpha", "beta", "gamma", "delta"], edges=[(0, 1, "x"), (0, 2, "x"), (2, 3, "x")])
    known = np.frombuffer(b"12" * 4, np.uint8)
    memories = memories._replace(
        expansions=Bodies(known, np.array([2, 4, 6, 8])), edges_alive=np.array([False, True, True])
    )
    settings = config.parse({})
    told, merged = result(told_before(memories, [])), result(Merged.of(memories, []))
    rem = Rem(memories, merged, settings.dream, settings.recall, 1, told, Exploration())
    nothing = np.zeros(0, np.int32)
    # Of 0 and 1, which have lost the edge between them, 1 has none left to be found by.
    assert result(rem._touched(_Pairs(nothing, nothing, np.zeros(0, np.float32)))).tolist() == [0]


# ── users in between ────────────────────────────────────────────────────────────


def test_what_was_of_use_together_waits_for_a_replay_while_only_rem_dreams(dreaming: InThread, explored: str) -> None:
    calls = dreaming.calls
    answer = calls.recall(explored, "road")
    pair = [answer.hits[0].memory.id, answer.hits[5].memory.id]
    calls.call(calls.memories.Feedback, FeedbackRequest(space=explored, recall_id=answer.recall_id, used_ids=pair))
    dreaming.run(dreaming.app._memory.flush_touches())
    waiting = stats(calls, explored).coactivations
    assert waiting >= 11
    assert calls.trigger(explored, phase=REM, blocking=True, seed=1).dream.state == Dream.STATE_SUCCEEDED
    assert stats(calls, explored).coactivations == waiting
    calls.trigger(explored, blocking=True, seed=2)
    lines, _ = calls.export(explored)
    used = [line for line in lines if line.get("edge_type") == "USED_TOGETHER"]
    assert [{line["source"], line["target"]} for line in used] == [set(pair)]
    assert stats(calls, explored).coactivations == 0


def test_what_users_forget_and_rewrite_while_rem_dreams_goes_into_nothing(dreaming: InThread, explored: str) -> None:
    calls = dreaming.calls
    begun = calls.trigger(explored, phase=FULL, seed=1).dream
    calls.until_state(explored, dream_pb2.SLEEP_STATE_REM)
    calls.call(calls.memories.Forget, ForgetRequest(space=explored, ids=[NAMES[3]]))
    calm = Memory(key=NAMES[10], title=NAMES[10], text="Nothing to see.")
    calls.call(calls.memories.Remember, RememberRequest(space=explored, memories=[calm]))
    dream = calls.ended(explored, begun.id)
    assert dream.state == Dream.STATE_SUCCEEDED, dream
    told = words_that_expand(dreaming, explored)
    # The years of the two, and of one that nobody touched.
    assert {"23", "30", "40"} & told == {"40"}
    revert(calls, explored, dream)
    assert words_that_expand(dreaming, explored) == set()


def test_an_approved_night_tells_only_the_edges_that_it_made(dreaming: InThread, explored: str) -> None:
    calls = dreaming.calls
    dream = calls.trigger(explored, phase=REM, blocking=True, seed=1, propose=True).dream
    assert dream.state == Dream.STATE_PROPOSED

    def told() -> int:
        request = DiffDreamRequest(space=explored, dream_id=dream.id, page_size=1000)
        edits = calls.dreams.DiffDream(request).edits
        return sum(edit.kind == DreamEdit.KIND_EDGE_MADE for edit in edits)

    foreseen = told()
    calls.call(calls.memories.Forget, ForgetRequest(space=explored, ids=[NAMES[3]]))
    calls.call(calls.dreams.ApproveDream, ApproveDreamRequest(space=explored, dream_id=dream.id))
    assert told() == links(calls, explored) < foreseen


def test_a_night_whose_links_a_later_one_replayed_says_which_goes_first(dreaming: InThread, explored: str) -> None:
    calls = dreaming.calls
    before = contents(calls, explored)
    nights = [calls.trigger(explored, phase=FULL, blocking=True, seed=seed).dream for seed in (1, 2)]
    error = refused(lambda: revert(calls, explored, nights[0]))
    assert error.reason == "CHANGED_LATER"
    assert nights[1].id in error.message
    for night in reversed(nights):
        revert(calls, explored, night)
    assert contents(calls, explored) == before


def test_what_was_decided_outlives_the_night_and_the_next_one_keeps_to_it(dreaming: InThread, explored: str) -> None:
    calls = dreaming.calls
    dream = calls.trigger(explored, phase=REM, blocking=True, seed=1).dream
    spots = calls.dreams.ListBlindSpots(ListBlindSpotsRequest(space=explored)).blind_spots
    right, wrong = spots[0], spots[1]
    calls.call(calls.dreams.AcceptBlindSpot, AcceptBlindSpotRequest(space=explored, id=right.id))
    calls.call(calls.dreams.RejectBlindSpot, RejectBlindSpotRequest(space=explored, id=wrong.id))
    revert(calls, explored, dream)
    assert (stats(calls, explored).edges, stats(calls, explored).blind_spots) == (1, 1)
    again = calls.trigger(explored, phase=REM, blocking=True, seed=1).dream
    assert again.state == Dream.STATE_SUCCEEDED
    kept = ListBlindSpotsRequest(space=explored, page_size=1000)
    states = {spot.id: spot.state for spot in calls.dreams.ListBlindSpots(kept).blind_spots}
    assert (states[right.id], states[wrong.id]) == (right.STATE_ACCEPTED, wrong.STATE_REJECTED)
    joined = [{spot.source.id, spot.target.id} for spot in calls.dreams.ListBlindSpots(kept).blind_spots]
    assert joined.count({right.source.id, right.target.id}) == joined.count({wrong.source.id, wrong.target.id}) == 1
