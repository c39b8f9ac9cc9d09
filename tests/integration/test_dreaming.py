"""Dreams over a real channel, with a real dreamer: what an earlier implementation claimed and did not do."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dreamsvc.cores import core_count
from dreamsvc.errors import StoreUnavailable
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import ListDreamsRequest, RevertRequest, StreamStatusResponse, TriggerRequest
from dreamsvc.v1.memory_pb2 import Edge
from dreamsvc.v1.memory_service_pb2 import RememberRequest
from tests.integration.served import SLOWLY, Calls, InThread, a_memory, refused, until

pytestmark = pytest.mark.integration


def test_a_dream_replays_memories_and_its_counts_are_what_the_store_holds(
    converging: InThread, quick_space: str
) -> None:
    calls = converging.calls
    before = calls.weights(quick_space)
    dream = calls.trigger(quick_space, blocking=True, seed=1).dream
    assert (dream.state, dream.end_reason) == (Dream.STATE_SUCCEEDED, dream_pb2.END_REASON_CONVERGED), dream
    after = calls.weights(quick_space)
    report = dream.report
    assert report.nodes_replayed == 200
    assert report.nodes == 200
    assert report.edges == len(before) == 800
    known = {edge: weight for edge, weight in after.items() if edge in before}
    assert report.edges_pruned == len(before.keys() - after.keys())
    assert report.edges_strengthened == sum(weight > before[edge] for edge, weight in known.items()) > 0
    assert report.edges_weakened == sum(weight < before[edge] for edge, weight in known.items()) > 0
    # A shortcut may join two memories that an edge of another type joins too.
    lines, _ = calls.export(quick_space)
    assert report.compression.shortcuts.created == sum("is_amortized_shortcut" in line for line in lines)
    assert (report.rounds, report.src_steps, report.replays) == (1, 13 * 8, 200)
    assert dream.progress.fraction == 1.0
    assert calls.dream(quick_space, dream.id) == dream


def test_nothing_to_dream_of_is_skipped_and_no_success(filling: InThread) -> None:
    dream = filling.calls.trigger("default", blocking=True).dream
    assert (dream.state, dream.end_reason) == (Dream.STATE_SKIPPED, dream_pb2.END_REASON_NOTHING_TO_DO)
    assert dream.report.nodes_replayed == 0


def test_a_trigger_that_does_not_block_answers_at_once_while_the_dream_runs(calls: Calls, space: str) -> None:
    began = time.monotonic()
    dream = calls.trigger(space).dream
    assert time.monotonic() - began < 0.5
    assert dream.state == Dream.STATE_RUNNING
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    assert calls.status(space).active_dream.id == dream.id
    assert calls.dream(space, dream.id).state == Dream.STATE_RUNNING


def test_a_budget_that_is_used_up_ends_a_dream(calls: Calls, space: str) -> None:
    dream = calls.trigger(space, budget_s=0.3, blocking=True).dream
    assert (dream.state, dream.end_reason) == (Dream.STATE_SUCCEEDED, dream_pb2.END_REASON_BUDGET)
    # Up to half of it is kept for what comes after the replay, which needs no more than it needs.
    assert 0.15 <= dream.report.seconds < 1.0
    # 30 % of all cores, of which one is used.
    assert dream.report.busy_share < max(0.35, min(1.0, 0.3 * core_count()) + 0.05)


def test_a_dry_run_foresees_the_real_run_and_writes_nothing(
    equal_store: Callable[[str], Path], converging: InThread, quick_space: str
) -> None:
    calls = converging.calls
    _, before = calls.export(quick_space)
    dreams_before = calls.status(quick_space).last_dream
    dry = calls.trigger(quick_space, seed=5, dry_run=True, blocking=True).dream
    assert (dry.state, dry.dry_run) == (Dream.STATE_SUCCEEDED, True)
    assert calls.export(quick_space)[1] == before
    assert calls.status(quick_space).last_dream == dreams_before
    real = calls.trigger(quick_space, seed=5, blocking=True).dream
    assert calls.export(quick_space)[1] != before
    assert dry.report.journal_digest == real.report.journal_digest != ""
    for field in ("operations", "edges_strengthened", "edges_weakened", "edges_pruned", "nodes_replayed", "rounds"):
        assert getattr(dry.report, field) == getattr(real.report, field), field
    assert dry.report.average_delta == pytest.approx(real.report.average_delta, abs=1e-9)
    other = calls.trigger(quick_space, seed=6, dry_run=True, blocking=True).dream
    assert other.report.journal_digest != real.report.journal_digest


def told(event: StreamStatusResponse) -> bool:
    """Whether it is an event of the dream and not of the stream."""
    return event.WhichOneof("event") in ("state_change", "progress_made", "closing")


def test_two_clients_see_the_same_moving_state(calls: Calls, space: str, filling: InThread) -> None:
    dream = calls.trigger(space, budget_s=0.6).dream
    other = Calls(filling.port)
    with ThreadPoolExecutor(2) as pool:
        watches = [pool.submit(lambda caller=caller: list(caller.watch(space, dream.id))) for caller in (calls, other)]
        one, two = [{event.sequence: event for event in watch.result() if told(event)} for watch in watches]
    other.close()
    both = one.keys() & two.keys()
    assert len(both) >= 5
    assert {number: one[number] for number in both} == {number: two[number] for number in both}
    made = [event.dream.progress for event in one.values() if event.HasField("progress_made")]
    done = [progress.done for progress in made if progress.sub_phase == dream_pb2.SUB_PHASE_HEBBIAN_REPLAY]
    assert done == sorted(done)
    assert len(done) > 1
    assert done[0] < done[-1]


def test_of_many_triggers_at_once_one_starts_and_the_others_hear_of_it(calls: Calls, space: str) -> None:
    def trigger(_: int) -> str:
        try:
            return "started " + calls.trigger(space).dream.id
        except Exception as error:
            return getattr(error, "reason", repr(error))

    with ThreadPoolExecutor(12) as pool:
        answers = sorted(pool.map(trigger, range(12)))
    assert answers[:11] == ["DREAM_IN_PROGRESS"] * 11
    assert answers[11].startswith("started")


def test_a_repeated_request_gets_the_first_answer_also_while_its_dream_runs(calls: Calls, space: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: calls.trigger(space, request_id="once", seed=3), range(8)))
    assert {answer.dream.id for answer in answers} == {answers[0].dream.id}
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    assert calls.trigger(space, request_id="once", seed=3) == answers[0]
    conflict = refused(lambda: calls.trigger(space, request_id="once", seed=4))
    assert conflict.reason == "REQUEST_ID_CONFLICT"
    calls.abort(space)
    # Its dream is interrupted now, and a repetition still changes nothing.
    assert calls.trigger(space, request_id="once", seed=3) == answers[0]
    assert calls.dream(space, answers[0].dream.id).state == Dream.STATE_SUSPENDED


def test_a_repeated_fresh_trigger_does_not_give_its_own_dream_up(calls: Calls, space: str) -> None:
    first = calls.trigger(space, request_id="fresh", fresh=True)
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    calls.abort(space)
    assert calls.trigger(space, request_id="fresh", fresh=True) == first
    assert calls.dream(space, first.dream.id).state == Dream.STATE_SUSPENDED


def test_a_repeated_blocking_trigger_waits_as_the_first_did(calls: Calls, space: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(calls.trigger, space, budget_s=0.4, blocking=True, request_id="wait")
        two = pool.submit(calls.trigger, space, budget_s=0.4, blocking=True, request_id="wait")
        assert one.result().dream == two.result().dream
    assert one.result().dream.state == Dream.STATE_SUCCEEDED


def test_a_caller_who_gives_up_in_mid_trigger_leaves_no_dream_without_a_night(filling: InThread) -> None:
    calls = filling.calls
    calls.remember("hasty")
    for milliseconds in range(1, 16):
        future = calls.dreams.Trigger.future(TriggerRequest(space="hasty"))
        time.sleep(milliseconds / 2000)
        future.cancel()
        until(lambda: not filling.app.scheduler._beginning)
        calls.abort("hasty", discard=True)
        until(lambda: filling.app.scheduler.running("hasty") is None)
    request = ListDreamsRequest(space="hasty", page_size=1000)
    left = [dream.state for dream in calls.dreams.ListDreams(request).dreams]
    assert Dream.STATE_RUNNING not in left


def test_spaces_dream_side_by_side_up_to_the_limit(filling: InThread) -> None:
    calls = filling.calls
    names = [f"beside-{i}" for i in range(3)]
    for name in names:
        calls.remember(name)
    dreams = [calls.trigger(name, budget_s=20).dream for name in names[:2]]
    refusal = refused(lambda: calls.trigger(names[2]))
    assert refusal.reason == "DREAM_IN_PROGRESS"
    assert "max_parallel" in refusal.message
    assert refusal.retry_after_s
    for name in names[:2]:
        calls.until_state(name, dream_pb2.SLEEP_STATE_NREM)
    progress = [
        until(lambda name=name, dream=dream: calls.dream(name, dream.id).progress.done)
        for name, dream in zip(names, dreams, strict=False)
    ]
    assert all(progress)
    for name in names[:2]:
        assert calls.abort(name, discard=True).was_dreaming


def test_a_failing_disk_while_it_seals_leaves_a_failed_dream_and_a_working_service(
    converging: InThread, quick_space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = converging.calls
    _, before = calls.export(quick_space)

    def broken(*_: object) -> None:
        raise StoreUnavailable("the store cannot take this: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(converging.app.journal, "seal_dream", broken)
        dream = calls.trigger(quick_space, blocking=True).dream
    assert dream.state == Dream.STATE_FAILED
    assert "disk is full" in dream.message
    assert calls.export(quick_space)[1] == before
    assert calls.dream(quick_space, dream.id).state == Dream.STATE_FAILED
    assert calls.trigger(quick_space, blocking=True).dream.state == Dream.STATE_SUCCEEDED


def test_a_fold_that_broke_off_is_finished_before_the_next_dream(
    converging: InThread, quick_space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = converging.calls

    def broken(*_: object) -> None:
        raise StoreUnavailable("the store cannot take this: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(converging.app.store, "fold_next", broken)
        sealed = calls.trigger(quick_space, blocking=True).dream
    assert sealed.state == Dream.STATE_FOLDING
    assert "not yet applied" in sealed.message
    following = calls.trigger(quick_space, blocking=True).dream
    assert following.state == Dream.STATE_SUCCEEDED
    finished = calls.dream(quick_space, sealed.id)
    assert finished.state == Dream.STATE_SUCCEEDED
    assert finished.report.edges_strengthened > 0


def test_a_revert_that_broke_off_is_finished_before_the_next_dream(
    converging: InThread, quick_space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = converging.calls
    _, before = calls.export(quick_space)
    dream = calls.trigger(quick_space, blocking=True).dream

    def broken(*_: object) -> None:
        raise StoreUnavailable("the store cannot take this: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(converging.app.store, "revert_next", broken)
        request = RevertRequest(space=quick_space, dream_id=dream.id)
        assert refused(lambda: calls.call(calls.dreams.Revert, request)).reason == "STORE_UNAVAILABLE"
    assert calls.dream(quick_space, dream.id).state == Dream.STATE_REVERTING
    following = calls.trigger(quick_space, blocking=True).dream
    assert calls.dream(quick_space, dream.id).state == Dream.STATE_REVERTED
    calls.call(calls.dreams.Revert, RevertRequest(space=quick_space, dream_id=following.id))
    assert calls.export(quick_space)[1] == before


def test_users_win_over_a_dream_that_read_an_older_weight(calls: Calls, space: str) -> None:
    edge = next(iter(calls.weights(space)))
    calls.trigger(space, budget_s=0.8)
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    calls.remember(space, RememberRequest(edges=[Edge(source=edge[0], target=edge[1], weight=0.123)]))
    last = list(calls.watch(space))[-1]
    assert last.dream.state == Dream.STATE_SUCCEEDED
    assert last.dream.report.edges_skipped >= 1
    assert calls.weights(space)[edge] == 0.123


def test_a_woken_and_resumed_dream_ends_as_one_that_slept_through(equal_store: Callable[[str], Path]) -> None:
    with InThread(equal_store("through"), SLOWLY) as service:
        through = service.calls.trigger("default", seed=9, blocking=True).dream
        assert through.state == Dream.STATE_SUCCEEDED
    with InThread(equal_store("woken"), SLOWLY) as service:
        calls = service.calls
        begun = calls.trigger("default", seed=9).dream
        replayed: list[int] = []
        for further in (0, 0, 8, 40):
            calls.until_state("default", dream_pb2.SLEEP_STATE_NREM)
            # Twice as soon as it replays, then wherever it has got to.
            until(lambda more=further: calls.dream("default", begun.id).report.nodes_replayed >= more)
            assert calls.abort("default").was_dreaming
            again = calls.trigger("default")
            assert again.resumed
            assert again.dream.id == begun.id
            replayed.append(again.dream.report.nodes_replayed)
        # The last two must have cut the replay.
        assert all(0 < nodes < 200 for nodes in replayed[2:]), replayed
        woken = calls.ended("default", begun.id)
        assert woken.report.wakes == 4
    assert woken.state == Dream.STATE_SUCCEEDED, woken
    assert woken.report.journal_digest == through.report.journal_digest
    for field in ("nodes_replayed", "rounds", "src_steps", "edges_strengthened", "edges_weakened", "edges_pruned"):
        assert getattr(woken.report, field) == getattr(through.report, field), field


def test_another_seed_or_fresh_gives_an_interrupted_dream_up(calls: Calls, space: str) -> None:
    first = calls.trigger(space, seed=1).dream
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    calls.abort(space)
    assert calls.status(space).suspended_dream.id == first.id
    second = calls.trigger(space, seed=2)
    assert (second.resumed, second.dream.id != first.id) == (False, True)
    assert calls.dream(space, first.id).state == Dream.STATE_DISCARDED


def test_an_interrupted_dream_is_given_up_when_the_memory_has_changed_too_much(calls: Calls, space: str) -> None:
    first = calls.trigger(space).dream
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    calls.abort(space)
    calls.remember(space, a_memory(seed=2))
    second = calls.trigger(space)
    assert not second.resumed
    given_up = calls.dream(space, first.id)
    assert given_up.state == Dream.STATE_DISCARDED
    assert "changed" in given_up.message
