"""REM over a real channel with a real dreamer: what it links is found, stays, and can be taken back."""

from pathlib import Path

import pytest

from dreamsvc.v1 import dream_pb2, memory_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import GetDreamMapRequest, ListBlindSpotsRequest, RevertRequest
from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import FeedbackRequest, GetMemoryRequest, GetStatsRequest, RememberRequest
from tests.integration.served import CONVERGE, Calls, InThread, until
from tests.integration.villages import NAMES, contents, villages

pytestmark = pytest.mark.integration

REM, FULL = dream_pb2.DREAM_PHASE_REM, dream_pb2.DREAM_PHASE_FULL_CYCLE


def found(calls: Calls, space: str, text: str) -> list[str]:
    return [hit.memory.key for hit in calls.recall(space, text).hits[:5]]


def test_a_full_cycle_links_what_names_each_other_and_both_are_found(dreaming: InThread, explored: str) -> None:
    calls = dreaming.calls
    dream = calls.trigger(explored, phase=FULL, blocking=True, seed=1).dream
    assert dream.state == Dream.STATE_SUCCEEDED, dream
    exploration = dream.report.exploration
    assert exploration.linking.mentions >= 55
    assert exploration.linking.links == exploration.linking.mentions + exploration.linking.shared_entities
    lines, _ = calls.export(explored)
    stored = [line for line in lines if line.get("edge_type") in ("MENTIONS", "SHARES_ENTITY")]
    assert len(stored) == exploration.linking.links
    assert exploration.linking.expanded == calls.memories.GetStats(GetStatsRequest(space=explored)).expanded > 50
    assert exploration.fit.memories == 60
    assert exploration.fit.mean_average_precision > 2 * exploration.fit.chance
    assert exploration.queries == 100
    assert dream.report.tuning.target_activation == pytest.approx(0.05)
    # The bees are kept in one village; what it leads to does not speak of them.
    assert set(found(calls, explored, "kept bees for 21 years")) >= {NAMES[1], NAMES[2]}


def test_a_night_of_rem_is_taken_back_whole(dreaming: InThread, explored: str) -> None:
    calls = dreaming.calls
    before = contents(calls, explored)
    asked = "mended nets for 34 years"
    hits = [(hit.memory.key, hit.why.lexical) for hit in calls.recall(explored, asked).hits]
    dream = calls.trigger(explored, phase=REM, blocking=True, seed=2).dream
    assert dream.state == Dream.STATE_SUCCEEDED, dream
    assert [(hit.memory.key, hit.why.lexical) for hit in calls.recall(explored, asked).hits] != hits
    answer = calls.call(calls.dreams.Revert, RevertRequest(space=explored, dream_id=dream.id))
    assert answer.edges_removed >= dream.report.exploration.linking.links
    assert contents(calls, explored) == before
    assert [(hit.memory.key, hit.why.lexical) for hit in calls.recall(explored, asked).hits] == hits
    stats = calls.memories.GetStats(GetStatsRequest(space=explored))
    assert (stats.placed, stats.expanded, stats.blind_spots) == (0, 0, 0)


def test_a_second_night_reads_only_what_is_new(dreaming: InThread, explored: str) -> None:
    calls = dreaming.calls
    first = calls.trigger(explored, phase=REM, blocking=True, seed=3).dream.report.exploration
    assert first.linking.memories_read == 60
    calls.remember(explored, RememberRequest(memories=[Memory(key="new", title="Quorvik", text=f"Near {NAMES[7]}.")]))
    second = calls.trigger(explored, phase=REM, blocking=True, seed=4).dream
    assert second.state == Dream.STATE_SUCCEEDED, second
    linking = second.report.exploration.linking
    assert (linking.memories_read, linking.mentions) == (1, 1)
    assert second.report.exploration.fit.fitted == 1
    request = GetMemoryRequest(space=explored, id="new", with_edges=True)
    (edge,) = calls.memories.GetMemory(request).edges
    assert (edge.type, edge.origin) == ("MENTIONS", memory_pb2.EDGE_ORIGIN_SYSTEM_INFERRED)
    assert NAMES[7] in edge.evidence


def test_a_dry_run_of_a_full_cycle_tells_the_journal_of_the_real_one(dreaming: InThread, explored: str) -> None:
    calls = dreaming.calls
    dry = calls.trigger(explored, phase=FULL, blocking=True, seed=5, dry_run=True).dream
    wet = calls.trigger(explored, phase=FULL, blocking=True, seed=5).dream
    assert dry.report.journal_digest == wet.report.journal_digest != ""
    assert dry.report.exploration.linking == wet.report.exploration.linking


def test_one_memory_is_nothing_to_explore(dreaming: InThread) -> None:
    calls = dreaming.calls
    calls.remember("lonely", RememberRequest(memories=[Memory(text="alone")]))
    dream = calls.trigger("lonely", phase=REM, blocking=True).dream
    assert (dream.state, dream.end_reason) == (Dream.STATE_SKIPPED, dream_pb2.END_REASON_NOTHING_TO_DO)
    assert dream.message


def test_a_stream_sees_the_phases_follow_each_other(dreaming: InThread, explored: str) -> None:
    calls = dreaming.calls
    begun = calls.trigger(explored, phase=FULL, seed=6).dream
    events = list(calls.watch(explored, begun.id))
    states = [event.state_change.to for event in events if event.HasField("state_change")]
    after = [state for state in states if state != dream_pb2.SLEEP_STATE_NREM]
    assert after[-4:] == [
        dream_pb2.SLEEP_STATE_TRANSITIONING,
        dream_pb2.SLEEP_STATE_REM,
        dream_pb2.SLEEP_STATE_WAKING,
        dream_pb2.SLEEP_STATE_AWAKE,
    ]
    told = [event.dream.progress for event in events]
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions)
    assert told[-1].fraction == 1


def test_a_dream_woken_in_rem_ends_as_one_that_slept_through(tmp_path: Path) -> None:
    slowly = {"dream": {"resources": {"max_gpu_usage": 0.2, "checkpoint_seconds": 0.05}}}
    with InThread(tmp_path / "a.db", CONVERGE) as service:
        service.calls.remember("default", villages())
        through = service.calls.trigger("default", phase=FULL, seed=9, blocking=True, budget_s=120).dream
    with InThread(tmp_path / "b.db", CONVERGE, slowly) as service:
        calls = service.calls
        calls.remember("default", villages())
        begun = calls.trigger("default", phase=FULL, seed=9, budget_s=120).dream
        for _ in range(2):
            calls.until_state("default", dream_pb2.SLEEP_STATE_REM)
            assert calls.abort("default").was_dreaming
            again = calls.trigger("default", phase=FULL, budget_s=120)
            assert again.resumed
            assert again.dream.id == begun.id
        woken = calls.ended("default", begun.id)
    assert woken.state == Dream.STATE_SUCCEEDED, woken
    assert woken.report.wakes == 2
    assert woken.report.journal_digest == through.report.journal_digest
    assert woken.report.exploration.linking == through.report.exploration.linking


def test_what_callers_say_was_of_use_together_is_found_together(dreaming: InThread, explored: str) -> None:
    calls = dreaming.calls
    answer = calls.recall(explored, "road")
    used = [hit.memory.id for hit in answer.hits]
    assert len(used) >= 6
    pair = [used[0], used[5]]
    one, other = answer.hits[0].memory.key, answer.hits[5].memory.key
    assert other not in [hit.memory.key for hit in calls.recall(explored, one).hits]
    request = FeedbackRequest(space=explored, recall_id=answer.recall_id, used_ids=pair)
    assert calls.memories.Feedback(request).pairs == 1
    # What the recall returned together is noted soon after it: ten pairs of the first five, and the one from above.
    until(lambda: calls.memories.GetStats(GetStatsRequest(space=explored)).coactivations >= 11)
    dream = calls.trigger(explored, blocking=True, seed=7).dream
    assert dream.state == Dream.STATE_SUCCEEDED, dream
    edges = calls.memories.GetMemory(GetMemoryRequest(space=explored, id=pair[0], with_edges=True)).edges
    joined = [edge for edge in edges if edge.type == "USED_TOGETHER" and {edge.source, edge.target} == set(pair)]
    assert len(joined) == 1
    assert joined[0].evidence == "used together once"
    # Use improves finding: who asks for one gets the other too.
    assert other in found(calls, explored, one)
    assert calls.memories.GetStats(GetStatsRequest(space=explored)).coactivations == 0
    calls.call(calls.dreams.Revert, RevertRequest(space=explored, dream_id=dream.id))
    assert calls.memories.GetStats(GetStatsRequest(space=explored)).coactivations >= 1


def test_the_map_of_a_night_has_its_walks_and_finds(dreaming: InThread, explored: str) -> None:
    calls = dreaming.calls
    dream = calls.trigger(explored, phase=REM, blocking=True, seed=8).dream
    drawn = calls.dreams.GetDreamMap(GetDreamMapRequest(space=explored, dream_id=dream.id))
    assert drawn.memories_placed == len(drawn.memories) == 60
    assert len(drawn.walks) == 100
    assert all(sum(x * x for x in memory.point) < 1 for memory in drawn.memories)
    assert len(drawn.edges) >= dream.report.exploration.linking.links
    listed = calls.dreams.ListBlindSpots(ListBlindSpotsRequest(space=explored, dream_id=dream.id)).blind_spots
    assert len(listed) == min(50, dream.report.exploration.verified + dream.report.exploration.hypotheses)
