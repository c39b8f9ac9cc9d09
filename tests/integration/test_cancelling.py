"""Calls that are given up, whatever they were about, leave nothing behind: no stream, reader, task or file."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from dreamsvc.v1 import dream_pb2
from dreamsvc.v1 import dream_service_pb2 as dreams
from dreamsvc.v1 import memory_service_pb2 as memories
from dreamsvc.v1.memory_pb2 import IMPORT_FORMAT_DREAMSVC_JSONL, Memory
from tests.integration.served import Calls, InThread, until

pytestmark = pytest.mark.integration
TIMES = 25


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    with InThread(tmp_path_factory.mktemp("cancelling") / "memory.db") as made:
        made.calls.remember("given-up")
        made.calls.remember(
            "given-up", memories.RememberRequest(memories=[Memory(text=f"{i} " * 20_000) for i in range(40)])
        )
        yield made


def endless_import() -> Iterator[memories.ImportRequest]:
    yield memories.ImportRequest(header=memories.ImportHeader(space="given-up", format=IMPORT_FORMAT_DREAMSVC_JSONL))
    while True:
        yield memories.ImportRequest(chunk=b'{"type": "memory", "key": "half", "text": "never stored"}\n')


def watch(calls: Calls) -> Any:
    stream = calls.dreams.StreamStatus(dreams.StreamStatusRequest(space="given-up"))
    next(iter(stream))
    return stream


def export(calls: Calls) -> Any:
    stream = calls.memories.Export(memories.ExportRequest(space="given-up"))
    next(iter(stream))
    return stream


def recall(calls: Calls) -> Any:
    return calls.memories.Recall.future(memories.RecallRequest(space="given-up", text="memory number 7"))


def blocking_trigger(calls: Calls) -> Any:
    request = dreams.TriggerRequest(space="given-up", blocking=True)
    request.budget.FromSeconds(60)
    return calls.dreams.Trigger.future(request)


def import_(calls: Calls) -> Any:
    return calls.memories.Import.future(endless_import())


def simulate(calls: Calls) -> Any:
    return calls.dreams.Simulate.future(
        dreams.SimulateRequest(memories=[Memory(key=str(i), text=f"text {i}") for i in range(50)])
    )


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("begin", [watch, export, recall, blocking_trigger, import_, simulate])
def test_what_is_given_up_leaves_nothing_behind(serving: InThread, begin: Callable[[Calls], Any]) -> None:
    calls = serving.calls
    # Threads, readers and a dreamer that are kept are there after the first ones.
    for _ in range(3):
        begin(calls).cancel()
    until(lambda: is_awake(calls))
    quiet = tasks(serving)
    files = open_files()
    for _ in range(TIMES):
        call = begin(calls)
        call.cancel()
        # Some have their answer already.
        with contextlib.suppress(grpc.RpcError, grpc.FutureCancelledError):
            call.result() if isinstance(call, grpc.Future) else list(call)
    until(lambda: is_awake(calls))
    assert until(lambda: tasks(serving) <= quiet), f"{tasks(serving)} tasks, {quiet} before"
    # A handful of readers may be kept; what is lost with each call would be more.
    assert until(lambda: open_files() < files + TIMES // 2), f"{open_files()} files, {files} before"
    assert calls.recall("given-up").hits
    assert "half" not in {line.get("key") for line in calls.export("given-up")[0]}


def is_awake(calls: Calls) -> bool:
    """Wakes it; a Trigger that was given up may still begin to dream, since a dream is not tied to its call."""
    calls.abort("given-up", discard=True)
    return calls.status("given-up").sleep_state == dream_pb2.SLEEP_STATE_AWAKE


def tasks(serving: InThread) -> int:
    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return serving.run(count())


def test_a_deadline_ends_a_call_as_a_cancellation_does(serving: InThread) -> None:
    calls = serving.calls
    quiet = tasks(serving)
    for _ in range(TIMES):
        with pytest.raises(grpc.RpcError) as ended:
            list(calls.dreams.StreamStatus(dreams.StreamStatusRequest(space="given-up"), timeout=0.02))
        assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert until(lambda: tasks(serving) <= quiet)
