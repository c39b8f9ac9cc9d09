"""Nonsense at both doors of gRPC: who serves says why it refuses, who dreams says how it ended, and both live."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_status import rpc_status

from benchmarks.proof import fuzz_run
from benchmarks.proof.fuzz_watch import Watch
from dreamsvc import config
from dreamsvc.dream.dreamers import DreamerProcess, Dreamers
from dreamsvc.dream.governor import Governor
from dreamsvc.dream.meters import ThisMachine
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint, RunDreamRequest, RunDreamResponse, Start, Stop
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.memory_service_pb2 import ImportHeader, ImportRequest
from tests.integration.served import Calls, InThread

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def service() -> Iterator[InThread]:
    with InThread(":memory:") as made:
        yield made


def raw(calls: Calls, path: str) -> Any:
    return calls.channel.unary_unary(f"/dreamsvc.v1.{path}", request_serializer=bytes, response_deserializer=bytes)


def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    """Code and text of a call that must fail with a status of ours."""
    with pytest.raises(grpc.RpcError) as failed:
        call()
    error: Any = failed.value
    assert rpc_status.from_call(error) is not None
    return error.code(), error.details()


@pytest.mark.parametrize("path", ["MemoryService/Remember", "DreamService/Trigger", "DreamService/GetStatus"])
@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05abc", b"\x0a\x02\xff\xfe", bytes(range(200))])
def test_bytes_that_are_no_message_are_refused_with_the_reason(service: InThread, path: str, body: bytes) -> None:
    code, said = refusal(lambda: raw(service.calls, path)(body, timeout=10))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert f"is no {path.partition('/')[2]}Request" in said


def test_an_import_breaks_off_at_bytes_that_are_no_message_and_leaves_nothing(service: InThread) -> None:
    call = service.calls.channel.stream_unary(
        "/dreamsvc.v1.MemoryService/Import", request_serializer=bytes, response_deserializer=bytes
    )
    header = ImportRequest(header=ImportHeader(space="torn", format=1))
    line = ImportRequest(chunk=b'{"type":"memory","key":"a","text":"x"}\n')
    bodies = [header.SerializeToString(), line.SerializeToString(), b"\xff\xff"]
    code, said = refusal(lambda: call(iter(bodies), timeout=10))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "is no ImportRequest" in said
    left = service.app.store.database.read(lambda c: c.execute("SELECT state FROM changes").fetchall())
    assert {state for (state,) in left} <= {"dropped"}


def test_a_stream_that_begins_with_bytes_that_are_no_message_is_refused(service: InThread) -> None:
    call = service.calls.channel.unary_stream(
        "/dreamsvc.v1.DreamService/StreamStatus", request_serializer=bytes, response_deserializer=bytes
    )
    assert refusal(lambda: list(call(b"\xff", timeout=10)))[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_a_server_that_is_fuzzed_over_a_channel_answers_all() -> None:
    target = fuzz_run.target_of("channel")
    try:
        watch = Watch("channel", 5)
        target.batch(watch, 300)
    finally:
        target.close()
    assert watch.failures == []


# ── the process that dreams ─────────────────────────────────────────────────────


def start(**fields: Any) -> RunDreamRequest:
    settings = config.defaults()
    given = {"dream_id": "d", "seed": 1, "budget_seconds": 0.1, "config": settings.dream, "recall": settings.recall}
    return RunDreamRequest(start=Start(**(given | {"phase": dream_pb2.DREAM_PHASE_NREM} | fields)))


NONSENSE: dict[str, list[bytes]] = {
    "nothing": [],
    "no message": [b"\xff\xff"],
    "no start": [RunDreamRequest(stop=Stop()).SerializeToString()],
    "no snapshot": [start(snapshot="/nowhere").SerializeToString()],
    "a name that is none": [start(snapshot="a\0b").SerializeToString()],
    "more parts than come": [start(staged_parts=2**32 - 1).SerializeToString()],
    "a stop in place of a part": [
        start(staged_parts=3).SerializeToString(),
        RunDreamRequest(stop=Stop()).SerializeToString(),
    ],
    "a checkpoint of anything": [
        start(checkpoint=Checkpoint(activation=b"x", next_part=7, batch=2**63)).SerializeToString()
    ],
}


async def said(process: DreamerProcess, bodies: list[bytes]) -> str:
    """The last word, or the code of a call that broke off."""
    channel: Any = process._channel
    call = channel.stream_stream(
        "/dreamsvc.dreamer.v1.DreamerService/RunDream", request_serializer=bytes, response_deserializer=bytes
    )

    async def requests() -> AsyncIterator[bytes]:
        for body in bodies:
            yield body

    last = RunDreamResponse()
    try:
        async for body in call(requests(), timeout=60):
            last = RunDreamResponse.FromString(body)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return dream_pb2.EndReason.Name(last.ended.reason)


def test_a_dreamer_outlives_nonsense_and_says_how_it_ended() -> None:
    async def hear() -> dict[str, str]:
        in_force = config.InForce(config.defaults())
        dreamers = Dreamers(in_force, Governor(in_force, ThisMachine()))
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(dreamers.close)
            process = await dreamers.lease(config.defaults().dream.resources)
            found = {name: await said(process, bodies) for name, bodies in NONSENSE.items()}
            assert process.alive
            return found

    found = asyncio.run(hear())
    assert found.pop("no message") == "INTERNAL"
    assert set(found.values()) <= {"END_REASON_FAILED", "END_REASON_ABORTED"}
    assert found["a stop in place of a part"] == "END_REASON_ABORTED"
