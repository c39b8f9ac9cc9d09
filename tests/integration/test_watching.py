"""StreamStatus over a real channel."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from dreamsvc_client.errors import from_rpc_error
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import Closing, StreamStatusRequest, StreamStatusResponse
from tests.integration.served import Calls, InThread, refused, until

pytestmark = pytest.mark.integration


def kinds(events: list[StreamStatusResponse]) -> list[str]:
    return [event.WhichOneof("event") for event in events]


def told(events: list[StreamStatusResponse]) -> list[StreamStatusResponse]:
    return [event for event in events if event.WhichOneof("event") not in ("present", "heartbeat")]


def test_a_stream_begins_with_the_present_state_and_ends_with_the_report(calls: Calls, space: str) -> None:
    dream = calls.trigger(space, budget_s=0.5).dream
    events = list(calls.watch(space, dream.id))
    assert kinds(events)[0] == "present"
    assert kinds(events)[-1] == "closing"
    assert kinds(events).count("progress_made") >= 2
    assert events[-1].closing.reason == Closing.REASON_DREAM_ENDED
    assert events[-1].dream.state == Dream.STATE_SUCCEEDED
    assert events[-1].dream.report.edges_strengthened > 0
    assert events[-1].dream == calls.dream(space, dream.id)
    numbers = [event.sequence for event in told(events)]
    assert numbers == sorted(set(numbers))
    changes = [(getattr(e.state_change, "from"), e.state_change.to) for e in events if e.HasField("state_change")]
    assert changes[-2:] == [
        (dream_pb2.SLEEP_STATE_NREM, dream_pb2.SLEEP_STATE_WAKING),
        (dream_pb2.SLEEP_STATE_WAKING, dream_pb2.SLEEP_STATE_AWAKE),
    ]
    assert all(event.dream.id == dream.id for event in events if not event.HasField("heartbeat"))


def test_a_stream_resumed_after_a_number_gives_exactly_the_rest_also_when_the_dream_is_over(
    calls: Calls, space: str
) -> None:
    dream = calls.trigger(space, budget_s=0.4).dream
    all_of_it = told(list(calls.watch(space, dream.id)))
    for i in (0, len(all_of_it) // 2, len(all_of_it) - 2):
        rest = told(list(calls.watch(space, dream.id, after=all_of_it[i].sequence)))
        assert rest == all_of_it[i + 1 :]
        assert told(list(calls.watch(space, after=all_of_it[i].sequence))) == all_of_it[i + 1 :]


def test_a_stream_that_breaks_off_is_taken_up_without_a_hole(calls: Calls, space: str) -> None:
    dream = calls.trigger(space, budget_s=0.8).dream
    seen: list[StreamStatusResponse] = []
    after = 0
    while not seen or not seen[-1].HasField("closing"):
        stream = calls.dreams.StreamStatus(StreamStatusRequest(space=space, dream_id=dream.id, after_sequence=after))
        for _, event in zip(range(3), stream, strict=False):
            seen += told([event])
            after = max(after, event.sequence)
        stream.cancel()
    numbers = [event.sequence for event in seen]
    assert numbers == sorted(set(numbers))
    whole = [event for event in told(list(calls.watch(space, dream.id, after=1))) if not event.HasField("gap")]
    assert [event for event in whole if event.sequence >= numbers[0]] == seen


def test_a_stream_with_nothing_to_say_sends_heartbeats_and_waits_for_the_next_dream(calls: Calls, space: str) -> None:
    stream = calls.watch(space)
    assert next(stream).sleep_state == dream_pb2.SLEEP_STATE_AWAKE
    assert kinds([next(stream), next(stream)]) == ["heartbeat", "heartbeat"]
    dream = calls.trigger(space, budget_s=0.1).dream
    rest = list(stream)
    assert kinds(rest)[-1] == "closing"
    assert rest[-1].dream.id == dream.id


def test_a_stream_of_what_is_over_or_was_never_there_says_so(calls: Calls, space: str) -> None:
    dream = calls.trigger(space, budget_s=0.05, blocking=True).dream
    assert [(event.WhichOneof("event"), event.dream) for event in calls.watch(space, dream.id)] == [("closing", dream)]
    with pytest.raises(grpc.RpcError, match="there is no dream"):
        list(calls.watch(space, "nothing"))
    with pytest.raises(grpc.RpcError, match="there is no space"):
        list(calls.watch("no-such-space"))
    with pytest.raises(grpc.RpcError, match="there is no dream"):
        # Of another space.
        list(calls.watch("default", dream.id))


def test_a_watcher_who_goes_away_wakes_nothing(calls: Calls, space: str) -> None:
    dream = calls.trigger(space).dream
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    for _ in range(20):
        stream = calls.dreams.StreamStatus(StreamStatusRequest(space=space))
        next(stream)
        stream.cancel()
    assert calls.dream(space, dream.id).state == Dream.STATE_RUNNING
    assert calls.abort(space).wake_latency_ms < 500


def test_the_latency_of_a_wake_is_in_the_event(calls: Calls, space: str) -> None:
    dream = calls.trigger(space).dream
    calls.until_state(space, dream_pb2.SLEEP_STATE_NREM)
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(lambda: list(calls.watch(space, dream.id)))
        time.sleep(0.1)
        answer = calls.abort(space)
        events = watching.result()
    awake = next(event for event in events if event.state_change.to == dream_pb2.SLEEP_STATE_AWAKE)
    assert awake.state_change.wake_latency_ms == answer.wake_latency_ms
    assert awake.state_change.wake_reason == dream_pb2.WAKE_REASON_MANUAL_ABORT
    assert events[-1].dream.state == Dream.STATE_SUSPENDED
    assert refused(lambda: calls.dream(space, "")).violations[0].path == "dream_id"


def test_more_watchers_than_are_allowed_are_refused_and_the_others_go_on(tmp_path: Path) -> None:
    with InThread(tmp_path / "memory.db", {"server": {"max_watchers": 3}}) as serving:
        calls = serving.calls
        calls.remember("watched")
        watching = [calls.watch("watched") for _ in range(3)]
        for stream in watching:
            next(iter(stream))
        with pytest.raises(grpc.RpcError) as caught:
            list(calls.watch("watched"))
        error = from_rpc_error(caught.value)
        assert error.reason == "TOO_MANY_WATCHERS"
        assert "server.max_watchers" in error.message
        assert error.retry_after_s == 1
        watching.pop().cancel()
        until(lambda: is_let_in(calls))
        dream = calls.trigger("watched", budget_s=0.2).dream
        for stream in watching:
            assert list(stream)[-1].dream.id == dream.id


def test_streams_of_health_that_anybody_may_open_are_bounded(tmp_path: Path) -> None:
    with InThread(tmp_path / "memory.db", {"server": {"max_watchers": 2}}) as serving:
        health = health_pb2_grpc.HealthStub(serving.calls.channel)

        def watch() -> Any:
            return health.Watch(health_pb2.HealthCheckRequest())  # pyright: ignore

        watching = [watch() for _ in range(2)]
        assert all(next(stream).status == health_pb2.HealthCheckResponse.SERVING for stream in watching)
        with pytest.raises(grpc.RpcError) as caught:
            next(watch())
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED  # pyright: ignore
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING  # pyright: ignore
        watching.pop().cancel()

        def is_let_in_again() -> bool:
            try:
                return bool(next(watch()))
            except grpc.RpcError:
                return False

        until(is_let_in_again)


def is_let_in(calls: Calls) -> bool:
    """One that went away is known to have gone in a moment."""
    stream = calls.watch("watched")
    try:
        return next(stream).HasField("present")
    except grpc.RpcError:
        return False
    finally:
        stream.cancel()
