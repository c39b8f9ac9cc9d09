"""What dreams may take, with real dreamers: the share that is told, pauses, the bound on memory, dreams in turns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamsvc.gpu import Reading
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from tests.dream.measured import FakeGpu, FakeMachine
from tests.integration.served import CONVERGE, SLOWLY, InThread, Tables, refused, until

pytestmark = pytest.mark.integration


def test_the_share_that_was_measured_is_in_the_report(equal_store: Callable[[str], Path]) -> None:
    with InThread(equal_store("share"), SLOWLY, {"dream": {"resources": {"max_gpu_usage": 0.2}}}) as service:
        share = service.calls.trigger("default", blocking=True).dream.report.share
        assert share.device == "cpu"
        assert share.limit == 0.2
        assert 0 < share.mean <= share.max_second
        assert share.readings > share.unknown == 0
        assert share.max_memory_bytes > 50_000_000
        account = service.app.scheduler.governor.account
        assert account.share is None
        assert account.highest >= share.max_second


def test_a_dreamer_that_needs_more_memory_than_it_may_take_is_ended_and_says_which_key(
    equal_store: Callable[[str], Path],
) -> None:
    little: Tables = {"dream": {"resources": {"max_memory_mb": 64}}}
    with InThread(equal_store("memory"), CONVERGE, little) as service:
        dream = service.calls.trigger("default", blocking=True).dream
        assert dream.state == Dream.STATE_FAILED
        assert "more than the 64 MB that it may (dream.resources.max_memory_mb)" in dream.message
        assert not dream.report.faults
        assert service.calls.recall("default").hits


def test_while_others_need_the_gpu_it_pauses_is_seen_to_and_goes_on(
    equal_store: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreamsvc.dream.leash.on_gpu", lambda device: bool(device))
    with InThread(equal_store("paused")) as service:
        calls, machine = service.calls, FakeMachine()
        device = machine.device = FakeGpu()
        service.app.scheduler.governor.machine = machine
        dream = calls.trigger("default", budget_s=6).dream
        until(lambda: calls.dream("default", dream.id).report.nodes_replayed > 8)
        device.reading = Reading(ours=0.01, total=0.86, others_memory=0.2)
        paused = until(lambda: found if (found := calls.dream("default", dream.id)).progress.paused else None)
        assert paused.progress.paused == "others use 85% of the GPU"
        events = []
        for event in calls.watch("default", dream.id):
            if event.dream.progress.paused:
                events.append(event)
                device.reading = Reading(ours=0.0, total=0.1, others_memory=0.2)
        assert events, "who watches sees it"
        ended = calls.ended("default", dream.id)
        assert (ended.state, ended.progress.paused) == (Dream.STATE_SUCCEEDED, "")
        assert (ended.report.share.device, ended.report.share.pauses) == ("gpu", 1)
        assert ended.report.share.paused_seconds > 1
        # The pause is no part of the time that it dreamed.
        lasted = ended.end_time.ToMilliseconds() - ended.start_time.ToMilliseconds()
        assert ended.report.seconds < lasted / 1000 - ended.report.share.paused_seconds


def test_a_query_wakes_a_dream_that_pauses(equal_store: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamsvc.dream.leash.on_gpu", lambda device: bool(device))
    with InThread(equal_store("woken")) as service:
        calls, machine = service.calls, FakeMachine()
        machine.device = FakeGpu()
        service.app.scheduler.governor.machine = machine
        dream = calls.trigger("default").dream
        until(lambda: calls.dream("default", dream.id).report.nodes_replayed > 8)
        machine.device.reading = Reading(ours=0.01, total=0.86, others_memory=0.2)
        until(lambda: calls.dream("default", dream.id).progress.paused)
        answer = calls.abort("default")
        assert answer.was_dreaming
        assert not answer.killed
        assert answer.dream.state == Dream.STATE_SUSPENDED
        until(lambda: not service.app._dreamers.pids)
        # It goes on with another process.
        machine.device.reading = Reading(ours=0.0, total=0.0, others_memory=0.0)
        resumed = calls.trigger("default", budget_s=2, blocking=True)
        assert (resumed.resumed, resumed.dream.state) == (True, Dream.STATE_SUCCEEDED)


def test_a_dreamer_that_was_woken_on_a_cpu_stays_warm(equal_store: Callable[[str], Path]) -> None:
    with InThread(equal_store("warm")) as service:
        calls = service.calls
        dream = calls.trigger("default").dream
        until(lambda: calls.dream("default", dream.id).report.nodes_replayed > 8)
        before = service.app._dreamers.pids
        assert calls.abort("default").was_dreaming
        assert service.app._dreamers.pids == before != []


def test_where_there_is_no_second_dreamer_dreams_take_turns_and_say_why(
    equal_store: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with InThread(equal_store("turns"), SLOWLY, {"dream": {"max_parallel": 3}}) as service:
        calls, dreamers = service.calls, service.app._dreamers
        spawn = dreamers._spawn

        async def one(*args: Any) -> Any:
            if dreamers.pids:
                raise OSError("Cannot allocate memory")
            return await spawn(*args)

        monkeypatch.setattr(dreamers, "_spawn", one)
        calls.remember("other")
        calls.remember("third")
        first = calls.trigger("default", abort_on_query=False).dream
        calls.until_state("default", dream_pb2.SLEEP_STATE_NREM)
        second = calls.trigger("other").dream
        notice = until(lambda: calls.status("other").parallel_notice)
        assert notice.startswith("dreams run one after the other, since there is no second dreamer: ")
        assert "Cannot allocate memory" in notice
        assert "Cannot allocate memory" in refused(lambda: calls.trigger("third")).message
        assert calls.dream("other", second.id).state == Dream.STATE_RUNNING
        assert calls.ended("default", first.id).state == Dream.STATE_SUCCEEDED
        assert calls.ended("other", second.id).state == Dream.STATE_SUCCEEDED
