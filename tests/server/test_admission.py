"""What every call passes, in its order."""

import asyncio
import contextvars
from pathlib import Path
from typing import Any

import pytest

from dreamsvc import calling
from dreamsvc.calling import Call
from dreamsvc.errors import InvalidFields, NotFound, PermissionDenied, RateLimited, TooLarge, Unauthenticated
from dreamsvc.server.admission import Admission
from dreamsvc.server.callers import ANYBODY, Caller, Incoming, method_of
from dreamsvc.v1 import dream_service_pb2, memory_service_pb2
from dreamsvc.v1.dream_service_pb2 import TriggerRequest
from dreamsvc.v1.memory_service_pb2 import RecallRequest
from tests.server.calls_in import ByHand, a_token, incoming, settings

DREAMS = dream_service_pb2.DESCRIPTOR.services_by_name["DreamService"].methods_by_name
MEMORIES = memory_service_pb2.DESCRIPTOR.services_by_name["MemoryService"].methods_by_name
TRIGGER, ABORT = method_of(DREAMS["Trigger"]), method_of(DREAMS["Abort"])
RECALL = method_of(MEMORIES["Recall"])


def entered(admission: Admission, call: Incoming, method: Any = RECALL) -> tuple[Caller, Call]:
    """Whose call it is, and what the task that answers it knows of it."""

    async def enter() -> tuple[Caller, Call]:
        caller = await admission.enter(admission.begin(call), call, method)
        return caller, calling.current()

    return asyncio.run(enter())


def accepted(admission: Admission, *call: Any) -> Any:
    """As in the task of a call: what it notes of itself is gone with it."""
    return contextvars.copy_context().run(admission.accept, *call)


def test_a_request_is_filled_in_before_it_is_checked(tmp_path: Path) -> None:
    admission = Admission(settings(tmp_path), ByHand())
    assert accepted(admission, ANYBODY, TRIGGER, b"", TriggerRequest.FromString).space == "default"
    with pytest.raises(InvalidFields):
        accepted(admission, ANYBODY, TRIGGER, TriggerRequest(space="?").SerializeToString(), TriggerRequest.FromString)


def test_what_is_too_large_is_refused_with_its_size_and_the_limit_and_is_not_read(tmp_path: Path) -> None:
    admission = Admission(settings(tmp_path, max_message_bytes=65536), ByHand())

    def read(_: bytes) -> RecallRequest:
        raise AssertionError("it was read")

    with pytest.raises(TooLarge, match=r"65537 bytes; at most 65536 .*server.max_message_bytes"):
        accepted(admission, ANYBODY, RECALL, b"x" * 65537, read)
    body = RecallRequest(text="x" * 65532).SerializeToString()
    assert len(body) == 65536
    accepted(admission, ANYBODY, RECALL, body, RecallRequest.FromString)


def test_the_task_knows_the_trace_and_the_caller(tmp_path: Path) -> None:
    token = a_token(tmp_path, "memory:read", name="alice", spaces=("mine",))
    admission = Admission(settings(tmp_path), ByHand())
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    call = incoming(token)._replace(traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    caller, known = entered(admission, call)
    assert (known.trace_id, known.caller, caller.name) == (trace, "alice", "alice")
    assert known.sees("mine")
    assert not known.sees("default")
    _, other = entered(admission, incoming(token)._replace(traceparent="nonsense"))
    assert len(bytes.fromhex(other.trace_id)) == 16


def test_credentials_come_before_everything_and_scopes_before_the_message(tmp_path: Path) -> None:
    token = a_token(tmp_path, "memory:write")
    admission = Admission(settings(tmp_path), ByHand())
    with pytest.raises(Unauthenticated):
        entered(admission, incoming())
    with pytest.raises(PermissionDenied):
        entered(admission, incoming(token))


def test_the_space_comes_before_the_contract(tmp_path: Path) -> None:
    token = a_token(tmp_path, spaces=("mine",))
    admission = Admission(settings(tmp_path), ByHand())
    caller, _ = entered(admission, incoming(token))
    body = RecallRequest(space="theirs", limit=100_000).SerializeToString()
    with pytest.raises(NotFound, match='there is no space "theirs"'):
        accepted(admission, caller, RECALL, body, RecallRequest.FromString)


def test_a_caller_has_a_bucket_for_each_kind_of_call_and_a_wake_takes_from_none(tmp_path: Path) -> None:
    alice, bob = a_token(tmp_path, name="alice"), a_token(tmp_path, name="bob")
    limits = {"reads_burst": 2, "reads_per_second": 0.25, "dreams_burst": 1}
    clock = ByHand()
    admission = Admission(settings(tmp_path, {"rate_limits": limits}), clock)
    for _ in range(2):
        entered(admission, incoming(alice))
    with pytest.raises(RateLimited, match="alice made more than 2 calls") as caught:
        entered(admission, incoming(alice))
    assert caught.value.retry_after_s == 4
    assert "token:" in caught.value.subject
    entered(admission, incoming(bob))
    entered(admission, incoming(alice), TRIGGER)
    for _ in range(100):
        entered(admission, incoming(alice), ABORT)
    clock.passed_s += 4
    entered(admission, incoming(alice))


def test_calls_that_are_refused_later_count_too(tmp_path: Path) -> None:
    token = a_token(tmp_path, "memory:write")
    admission = Admission(settings(tmp_path, {"rate_limits": {"reads_burst": 2, "reads_per_second": 0.1}}), ByHand())
    for _ in range(2):
        with pytest.raises(PermissionDenied):
            entered(admission, incoming(token))
    with pytest.raises(RateLimited):
        entered(admission, incoming(token))


def test_without_credentials_calls_are_counted_by_address_and_only_where_it_is_switched_on(tmp_path: Path) -> None:
    limits = {"reads_burst": 1, "reads_per_second": 0.1}
    admission = Admission(settings(tmp_path, {"rate_limits": limits}), ByHand())
    for _ in range(3):
        entered(admission, incoming())
    admission = Admission(settings(tmp_path, {"rate_limits": {**limits, "enabled": "on"}}), ByHand())
    entered(admission, incoming())
    with pytest.raises(RateLimited, match=r"ipv4:192\.0\.2\.7"):
        entered(admission, incoming())
    entered(admission, incoming(peer="ipv4:192.0.2.8"))


def test_limits_can_be_switched_off(tmp_path: Path) -> None:
    token = a_token(tmp_path)
    limits = {"reads_burst": 1, "reads_per_second": 0.1, "failures_burst": 1, "enabled": "off"}
    admission = Admission(settings(tmp_path, {"rate_limits": limits}), ByHand())
    for _ in range(3):
        entered(admission, incoming(token))
        with pytest.raises(Unauthenticated):
            entered(admission, incoming("nonsense"))
