"""Dreams that nobody asked for: they begin when it is quiet, and stop when it is not."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import EstimateDreamRequest, ListDreamsRequest
from dreamsvc.v1.memory_service_pb2 import GetStatsRequest, ListMemoriesRequest
from tests.integration.served import CONVERGE, Calls, InThread, Tables, a_memory, refused, until

pytestmark = pytest.mark.integration


def idle(**changes: object) -> Tables:
    """Idle after 0.6 s."""
    trigger = {"automatic": True, "activity_threshold": 1000.0, "idle_duration_minutes": 0.01, "cooldown_minutes": 0.0}
    # However busy the machine of the tests is.
    resources = {"eligible_usage": 1.0}
    return {"dream": {"trigger": trigger | {"min_cycle_gap_minutes": 0.0} | changes, "resources": resources}}


def active(calls: Calls) -> Dream | None:
    status = calls.status("default")
    return status.active_dream if status.HasField("active_dream") else None


def dreams_of(calls: Calls, space: str = "default") -> list[Dream]:
    return list(calls.dreams.ListDreams(ListDreamsRequest(space=space)).dreams)


def test_an_idle_space_dreams_by_itself_is_woken_by_a_query_and_goes_on_later(
    equal_store: Callable[[str], Path],
) -> None:
    with InThread(equal_store("idle"), idle()) as service:
        calls = service.calls
        dream = until(lambda: active(calls))
        assert dream.triggered_by == dream_pb2.TRIGGERED_BY_IDLE
        calls.until_state("default", dream_pb2.SLEEP_STATE_NREM)
        assert calls.recall("default").woke_dream == dream.id
        status = calls.status("default")
        assert status.sleep_state in (dream_pb2.SLEEP_STATE_WAKING, dream_pb2.SLEEP_STATE_AWAKE)
        again = until(lambda: active(calls))
        assert again.id == dream.id
        assert len(dreams_of(calls)) == 1


def test_after_a_dream_it_waits_for_the_cooldown_and_for_news(equal_store: Callable[[str], Path]) -> None:
    with InThread(
        equal_store("cooling"),
        idle(cooldown_for_manual=True, cooldown_minutes=0.02),
        {"dream": {"nrem": {"pace": "converge"}}},
    ) as service:
        calls = service.calls
        first = calls.ended("default", until(lambda: active(calls)).id)
        assert first.state == Dream.STATE_SUCCEEDED
        status = calls.status("default")
        assert status.why_not_dreaming == "nothing was remembered or recalled since the last dream"
        assert not status.HasField("next_eligible_time")
        refusal = refused(lambda: calls.trigger("default"))
        assert refusal.reason == "DREAM_COOLDOWN"
        assert refusal.retry_after_s
        assert 0 < refusal.retry_after_s <= 1.2
        calls.recall("default")
        status = calls.status("default")
        assert "cooldown" in status.why_not_dreaming
        assert status.HasField("next_eligible_time")
        assert not status.dream_available
        second = until(lambda: active(calls))
        assert second.start_time.ToMilliseconds() - first.end_time.ToMilliseconds() >= 1190


def test_a_restart_is_no_news_and_what_came_before_it_is(equal_store: Callable[[str], Path]) -> None:
    store = equal_store("restarted")
    converge: Tables = {"dream": {"nrem": {"pace": "converge"}}}
    with InThread(store, converge) as service:
        assert service.calls.trigger("default", blocking=True).dream.state == Dream.STATE_SUCCEEDED
    with InThread(store, converge, idle(idle_duration_minutes=60.0)) as service:
        why = service.calls.status("default").why_not_dreaming
        assert why == "nothing was remembered or recalled since the last dream"
        service.calls.remember("default", a_memory(nodes=201))
    with InThread(store, converge, idle(idle_duration_minutes=60.0)) as service:
        assert service.calls.status("default").why_not_dreaming.startswith("idle for")


def test_a_dreamer_that_cannot_start_is_not_tried_again_and_again(
    equal_store: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreamsvc.dream.dreamers.sys.executable", "/bin/false")
    with InThread(equal_store("broken"), idle(cooldown_minutes=30.0)) as service:
        calls = service.calls
        until(lambda: dreams_of(calls) and dreams_of(calls)[0].state == Dream.STATE_FAILED)
        assert "the dreamer did not start" in dreams_of(calls)[0].message
        time.sleep(1.6)
        assert len(dreams_of(calls)) == 1
        assert calls.recall("default").hits


def test_a_threshold_of_no_activity_at_all_is_no_error(equal_store: Callable[[str], Path]) -> None:
    with InThread(equal_store("never"), idle(activity_threshold=0.0)) as service:
        service.calls.recall("default")
        status = service.calls.status("default")
        assert "activity" in status.why_not_dreaming
        assert not status.HasField("next_eligible_time")


def test_what_is_switched_off_is_refused_and_says_where(equal_store: Callable[[str], Path]) -> None:
    off: Tables = {"dream": {"enabled": False}, "server": {"host": "::1"}}
    with InThread(equal_store("off"), off) as service:
        calls = Calls(service.port, "[::1]")
        refusal = refused(lambda: calls.trigger("default"))
        assert refusal.reason == "DISABLED"
        assert "dream.enabled" in refusal.message
        status = calls.status("default")
        assert not status.dream_available
        assert "switched off" in status.why_not_dreaming
        calls.close()


def test_outside_its_windows_a_space_sleeps_on_request_only_and_all_say_the_same_time(
    equal_store: Callable[[str], Path],
) -> None:
    now = time.gmtime()
    # From the hour after next on, and not now.
    begin = (now.tm_hour + 2) % 24
    hours = f"{begin:02}:00-{(begin + 1) % 24 or 24:02}:00"
    with InThread(equal_store("windows"), idle(windows=[hours], time_zone="UTC"), CONVERGE) as service:
        calls = service.calls
        until(lambda: calls.status("default").why_not_dreaming.startswith("outside the time windows"))
        status = calls.status("default")
        assert not status.in_window
        assert status.dream_available
        told = time.gmtime(status.next_eligible_time.seconds + status.next_eligible_time.nanos / 1e9 + 0.5)
        assert (told.tm_hour, told.tm_min, told.tm_sec) == (begin, 0, 0)
        estimate = calls.dreams.EstimateDream(EstimateDreamRequest(space="default"))
        assert estimate.why_not_dreaming.startswith("outside the time windows")
        assert abs(estimate.next_eligible_time.seconds - status.next_eligible_time.seconds) <= 1
        time.sleep(1.5)
        assert dreams_of(calls) == []
        assert calls.trigger("default", blocking=True).dream.state == Dream.STATE_SUCCEEDED


def test_memory_pressure_has_a_space_sleep_before_it_was_idle_for_long_enough(
    equal_store: Callable[[str], Path],
) -> None:
    pressed = idle(idle_duration_minutes=60.0, memory_capacity=200)
    with InThread(equal_store("pressed"), pressed, CONVERGE) as service:
        calls = service.calls
        calls.recall("default")
        status = calls.status("default")
        assert status.memory_pressure == 1.0
        assert status.why_not_dreaming.startswith("idle for")
        assert status.why_not_dreaming.endswith("of 10 s at memory pressure 1.00")
        dream = until(lambda: active(calls))
        assert dream.triggered_by == dream_pb2.TRIGGERED_BY_MEMORY_PRESSURE
        calls.ended("default", dream.id)
        assert calls.status("default").memory_pressure == 0.0


def test_calls_that_only_look_are_no_activity(equal_store: Callable[[str], Path]) -> None:
    with InThread(equal_store("looked_at")) as service:
        calls = service.calls
        calls.recall("default")
        before = calls.status("default")
        for _ in range(5):
            calls.status("default")
            calls.dreams.ListDreams(ListDreamsRequest(space="default"))
            calls.dreams.EstimateDream(EstimateDreamRequest(space="default"))
            calls.memories.GetStats(GetStatsRequest(space="default"))
            calls.memories.ListMemories(ListMemoriesRequest(space="default"))
        after = calls.status("default")
        assert 0 < after.activity <= before.activity
        assert after.idle_seconds > before.idle_seconds


def test_a_space_that_its_own_table_switches_off_refuses_and_says_where(equal_store: Callable[[str], Path]) -> None:
    off: Tables = {"dream": {"spaces": [{"space": "default", "enabled": False}]}}
    with InThread(equal_store("off_here"), off) as service:
        refusal = refused(lambda: service.calls.trigger("default"))
        assert refusal.reason == "DISABLED"
        assert 'dream.spaces "default" enabled' in refusal.message
        assert 'dream.spaces "default" enabled' in service.calls.status("default").why_not_dreaming
