"""Wakes, over a real channel: at any moment, by anybody, within the budget, and nothing is lost."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dreamsvc.memory.database import Priority
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest
from tests.integration.served import AsProcess, Calls, InThread, Tables, dreamers_of, is_there, refused, until

pytestmark = pytest.mark.integration
BUDGET_MS = 500.0


def occupy(service: InThread, seconds: float, priority: Priority = Priority.USER) -> "Future[None]":
    """Keeps the store's writer busy, as a slow disk does."""
    return service.app.store.database.write(lambda _: time.sleep(seconds), priority=priority)


def test_an_abort_in_mid_dream_answers_within_the_budget_and_is_measured(calls: Calls, space: str) -> None:
    dream = calls.trigger(space).dream
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    before = calls.status(space).wake_latency
    answer = calls.abort(space)
    assert answer.was_dreaming
    assert not answer.killed
    assert 0 < answer.wake_latency_ms < BUDGET_MS
    assert (answer.dream.id, answer.dream.state) == (dream.id, Dream.STATE_SUSPENDED)
    assert answer.dream.report.wake_latency_ms == answer.wake_latency_ms
    assert answer.dream.report.last_wake_reason == dream_pb2.WAKE_REASON_MANUAL_ABORT
    status = calls.status(space)
    assert status.sleep_state == dream_pb2.SLEEP_STATE_AWAKE
    assert status.suspended_dream.id == dream.id
    assert status.wake_latency.count == before.count + 1
    assert status.wake_latency.max_ms >= answer.wake_latency_ms * 0.99
    assert 0 < status.wake_latency.p50_ms <= status.wake_latency.p95_ms <= status.wake_latency.p99_ms


@pytest.mark.parametrize("pause_s", [0.0, 0.002, 0.005, 0.01, 0.02])
def test_an_abort_right_after_the_trigger_wakes_what_has_hardly_begun(calls: Calls, space: str, pause_s: float) -> None:
    dream = calls.trigger(space).dream
    time.sleep(pause_s)
    answer = calls.abort(space)
    assert answer.was_dreaming
    assert not answer.killed
    assert answer.dream.state == Dream.STATE_SUSPENDED
    again = calls.trigger(space)
    assert (again.resumed, again.dream.id) == (True, dream.id)
    until(lambda: calls.dream(space, dream.id).report.nodes_replayed)


def test_a_dream_can_be_triggered_again_the_moment_it_was_woken(calls: Calls, space: str) -> None:
    dream = calls.trigger(space).dream
    for _ in range(10):
        calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
        calls.abort(space)
        again = calls.trigger(space)
        assert (again.resumed, again.dream.id) == (True, dream.id)


def test_of_many_aborts_at_once_each_is_answered_and_one_wake_is_counted(calls: Calls, space: str) -> None:
    calls.trigger(space)
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: calls.abort(space), range(10)))
    dreaming = [answer for answer in answers if answer.was_dreaming]
    assert dreaming
    assert {answer.dream.state for answer in dreaming} == {Dream.STATE_SUSPENDED}
    assert len({answer.wake_latency_ms for answer in dreaming}) == 1
    assert calls.status(space).suspended_dream.report.wakes == 1


def test_an_abort_that_gives_up_is_not_overruled_by_one_that_does_not(calls: Calls, space: str) -> None:
    dream = calls.trigger(space).dream
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: calls.abort(space, discard=i == 0), range(8)))
    until(lambda: calls.dream(space, dream.id).state == Dream.STATE_DISCARDED)
    assert not calls.trigger(space).resumed


def test_an_abort_of_what_does_not_dream_says_so(calls: Calls, space: str) -> None:
    answer = calls.abort(space)
    assert not answer.was_dreaming
    assert not answer.HasField("dream")
    assert refused(lambda: calls.abort("no-such-space")).reason == "NOT_FOUND"
    assert refused(lambda: calls.abort(space, dream_id="no-such-dream")).reason == "NOT_FOUND"
    dream = calls.trigger(space).dream
    assert refused(lambda: calls.abort(space, dream_id="another")).reason == "NOT_FOUND"
    assert calls.abort(space, dream_id=dream.id).was_dreaming
    again = calls.abort(space, dream_id=dream.id)
    assert (again.was_dreaming, again.dream.id) == (False, dream.id)


def test_a_recall_wakes_a_dream_that_wants_it_and_says_which(calls: Calls, space: str) -> None:
    dream = calls.trigger(space, abort_on_query=True).dream
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    answer = calls.recall(space)
    assert answer.hits
    assert answer.woke_dream == dream.id
    until(lambda: calls.status(space).sleep_state == dream_pb2.SLEEP_STATE_AWAKE, within_s=1)
    woken = calls.status(space).suspended_dream
    assert woken.report.last_wake_reason == dream_pb2.WAKE_REASON_USER_QUERY
    assert calls.recall(space).woke_dream == ""


def test_recalls_are_answered_while_a_dream_goes_on_that_does_not_want_to_be_woken(calls: Calls, space: str) -> None:
    dream = calls.trigger(space, abort_on_query=False).dream
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    before = calls.dream(space, dream.id).progress.done
    for i in range(30):
        answer = calls.recall(space, f"memory number {i}")
        assert answer.hits[0].memory.key == f"k{i}"
        assert not answer.woke_dream
    assert calls.status(space).sleep_state == dream_pb2.SLEEP_STATE_NREM
    until(lambda: calls.dream(space, dream.id).progress.done > before)


def test_a_recall_in_one_space_wakes_no_dream_of_another(calls: Calls, space: str) -> None:
    calls.trigger(space)
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    assert calls.recall("default", "anything").woke_dream == ""
    assert calls.status(space).sleep_state == dream_pb2.SLEEP_STATE_NREM


def test_a_wake_does_not_wait_for_a_slow_disk(filling: InThread, space: str) -> None:
    calls = filling.calls
    dream = calls.trigger(space).dream
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    until(lambda: calls.dream(space, dream.id).report.nodes_replayed)
    slow = occupy(filling, 1.5)
    time.sleep(0.3)
    answer = calls.abort(space)
    assert not slow.done()
    assert not answer.killed
    assert answer.wake_latency_ms < BUDGET_MS
    again = calls.trigger(space)
    assert slow.done()
    assert (again.resumed, again.dream.id) == (True, dream.id)
    assert again.dream.report.nodes_replayed >= answer.dream.report.nodes_replayed > 0


def test_a_wake_does_not_wait_for_a_snapshot(filling: InThread, space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = filling.calls
    take = filling.app.store.dream_snapshot

    def slowly(name: str) -> Any:
        occupy(filling, 1.0)
        return take(name)

    with monkeypatch.context() as patch:
        patch.setattr(filling.app.store, "dream_snapshot", slowly)
        dream = calls.trigger(space).dream
        answer = calls.abort(space)
    assert answer.wake_latency_ms < BUDGET_MS / 2
    assert answer.dream.state == Dream.STATE_SUSPENDED
    again = calls.trigger(space)
    assert (again.resumed, again.dream.id) == (True, dream.id)
    until(lambda: calls.dream(space, dream.id).report.nodes_replayed)


def test_while_it_folds_a_space_is_awake_and_nothing_stops_it(
    filling: InThread, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = filling.calls
    fold = filling.app.store.fold_next

    def slowly(*which: Any) -> Any:
        occupy(filling, 0.3, Priority.BACKGROUND)
        return fold(*which)

    with monkeypatch.context() as patch:
        patch.setattr(filling.app.store, "fold_next", slowly)
        dream = calls.trigger(space, budget_s=0.2).dream
        until(lambda: calls.dream(space, dream.id).state == Dream.STATE_FOLDING)
        until(lambda: calls.dream(space, dream.id).report.journal_digest)
        status = calls.status(space)
        assert status.sleep_state == dream_pb2.SLEEP_STATE_AWAKE
        assert status.active_dream.id == dream.id
        assert refused(lambda: calls.trigger(space)).reason == "DREAM_IN_PROGRESS"
        assert not calls.abort(space, discard=True).was_dreaming
        began = time.monotonic()
        assert calls.recall(space).hits
        assert time.monotonic() - began < 0.25
        ended = calls.ended(space, dream.id)
    assert ended.state == Dream.STATE_SUCCEEDED
    assert ended.report.edges_strengthened > 0


def test_an_abort_and_the_end_in_the_same_moment_give_one_outcome(calls: Calls, space: str) -> None:
    for i in range(12):
        dream = calls.trigger(space, budget_s=0.05, fresh=True).dream
        time.sleep(0.04 + i * 0.004)
        answer = calls.abort(space, discard=True)
        state = calls.ended(space, dream.id).state
        assert state in (Dream.STATE_SUCCEEDED, Dream.STATE_DISCARDED)
        if answer.was_dreaming:
            assert state == Dream.STATE_DISCARDED, i
        assert calls.dream(space, dream.id).state == state


# ── after the replay ────────────────────────────────────────────────────────────

# A night of half a second takes some, so that each part of it can be told from the others.
MERGING: Tables = {
    "dream": {
        "nrem": {"pace": "converge"},
        "resources": {"max_gpu_usage": 0.15},
        # Of everything, so that chance has no say in what the gate lets pass.
        "quality": {"probe_cues": 320},
    }
}
TOPICS, EACH = 40, 8


def topics() -> RememberRequest:
    """Memories with vectors, eight about each topic, which follow each other."""
    draw = random.Random(2)
    memories: list[Memory] = []
    for topic in range(TOPICS):
        centre = [draw.gauss(0, 1) for _ in range(16)]
        for place in range(EACH):
            near = [value + 0.4 * draw.gauss(0, 1) for value in centre]
            text = f"topic{topic} part{place} word{draw.randrange(1000)}"
            memories.append(Memory(key=f"t{len(memories)}", text=text, importance=0.6, vector=near))
    edges = [Edge(source=f"t{i}", target=f"t{i + 1}", weight=0.9) for i in range(len(memories) - 1)]
    return RememberRequest(memories=memories, edges=edges)


def test_a_night_that_is_woken_in_every_part_of_its_merging_comes_to_its_end(tmp_path: Path) -> None:
    with InThread(tmp_path / "memory.db", MERGING) as service:
        calls = service.calls
        calls.remember("default", topics())
        dream = calls.trigger("default", seed=1).dream
        for sub_phase in (
            dream_pb2.SUB_PHASE_REDUNDANCY_ELIMINATION,
            dream_pb2.SUB_PHASE_CONSOLIDATION,
            dream_pb2.SUB_PHASE_PROBES,
        ):
            until(lambda wanted=sub_phase: calls.dream("default", dream.id).progress.sub_phase == wanted)
            answer = calls.abort("default")
            assert answer.was_dreaming
            assert not answer.killed
            assert 0 < answer.wake_latency_ms < BUDGET_MS
            again = calls.trigger("default")
            assert (again.resumed, again.dream.id) == (True, dream.id)
        ended = calls.ended("default", dream.id)
        assert ended.state == Dream.STATE_SUCCEEDED, ended.message
        assert ended.report.wakes == 3
        assert ended.report.compression.facets > TOPICS
        assert calls.recall("default", "topic7 part3").hits


# ── the dreamer as a process ────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsProcess]:
    with AsProcess(tmp_path_factory.mktemp("served") / "memory.db") as service:
        service.calls.remember("default")
        yield service
        log = service.end()
        assert "Traceback" not in log
        assert log.count("did not stop within 425 ms of its wake, and was killed") == 1


def test_a_dreamer_that_does_not_answer_is_killed_at_the_budget_and_nothing_is_lost(served: AsProcess) -> None:
    calls = served.calls
    dream = calls.trigger("default").dream
    calls.until_state("default", dream_pb2.SLEEP_STATE_NREM)
    until(lambda: calls.dream("default", dream.id).report.replays > 300)
    pid = served.dreamer_pid()
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    answer = calls.abort("default")
    assert time.monotonic() - began < BUDGET_MS / 1000 + 0.1
    assert answer.killed
    assert answer.wake_latency_ms < BUDGET_MS
    assert answer.dream.state == Dream.STATE_SUSPENDED
    assert calls.status("default").wake_latency.killed == 1
    until(lambda: not is_there(pid))
    again = calls.trigger("default", budget_s=2, blocking=True)
    assert (again.resumed, again.dream.id, again.dream.state) == (True, dream.id, Dream.STATE_SUCCEEDED)
    assert served.dreamer_pid() != pid


def test_a_dreamer_that_was_killed_while_warm_is_replaced(served: AsProcess) -> None:
    calls = served.calls
    calls.trigger("default", budget_s=0.1, blocking=True)
    pid = served.dreamer_pid()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_there(pid))
    dream = calls.trigger("default", budget_s=0.1, blocking=True).dream
    assert dream.state == Dream.STATE_SUCCEEDED, dream.message


def test_an_abort_while_the_dreamer_starts_answers_at_once_and_kills_nobody(
    equal_store: Callable[[str], Path],
) -> None:
    with AsProcess(equal_store("cold")) as service:
        calls = service.calls
        for pause_s in (0.0, 0.1, 0.15, 0.2, 0.3):
            calls.trigger("default")
            time.sleep(pause_s)
            answer = calls.abort("default")
            assert answer.was_dreaming
            assert not answer.killed, pause_s
            assert answer.wake_latency_ms < BUDGET_MS / 2, pause_s
        assert calls.trigger("default", budget_s=2, blocking=True).dream.state == Dream.STATE_SUCCEEDED
        assert len(dreamers_of(service.process.pid)) == 1


def test_an_interrupted_dream_is_given_up_on_request(calls: Calls, space: str) -> None:
    dream = calls.trigger(space).dream
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    _, before = calls.export(space)
    calls.abort(space)
    answer = calls.abort(space, discard=True)
    assert (answer.was_dreaming, answer.dream.id, answer.dream.state) == (False, dream.id, Dream.STATE_DISCARDED)
    assert not calls.status(space).HasField("suspended_dream")
    assert calls.export(space)[1] == before
    again = calls.trigger(space)
    assert not again.resumed
    assert again.dream.id != dream.id
