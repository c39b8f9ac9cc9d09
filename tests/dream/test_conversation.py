"""A conversation with a dreamer that is wedged, dies, chatters on, or is told to stop."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio
import pytest

from dreamsvc.dream.conversation import Conversation, Limits
from dreamsvc.dreamer.v1.dreamer_service_pb2 import (
    Allowance,
    Ended,
    Ready,
    RunDreamRequest,
    RunDreamResponse,
    Start,
    StepProgress,
)
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.v1 import dream_pb2

READY = RunDreamResponse(ready=Ready(device="none"))
PROGRESS = RunDreamResponse(progress=StepProgress())
OVER = RunDreamResponse(ended=Ended(reason=dream_pb2.END_REASON_CONVERGED))
ABORTED = RunDreamResponse(ended=Ended(reason=dream_pb2.END_REASON_ABORTED))
FAILED = dream_pb2.END_REASON_FAILED
PATIENT = Limits(until_ready=60, between_words=60, in_all=60)


class Scripted:
    """A process, and the stream to it: says what it was told to say, then nothing more."""

    was_warm = False
    meter = None

    def __init__(self, *said: RunDreamResponse | object, every_s: float = 0.0, heeds_stop: bool = True) -> None:
        self._said = list(said)
        self._every_s = every_s
        self._heeds_stop = heeds_stop
        self._stopped = asyncio.Event()
        self.asked: list[RunDreamRequest] = []
        self.killed = False

    @property
    def stub(self) -> Any:
        return self

    def RunDream(self) -> "Scripted":
        return self

    @property
    def alive(self) -> bool:
        return not self.killed

    def kill(self) -> None:
        self.killed = True

    async def settle(self) -> None:
        self.killed = True

    def how_it_ended(self) -> str:
        return "killed by signal 9"

    async def write(self, request: RunDreamRequest) -> None:
        self.asked.append(request)
        if request.WhichOneof("message") == "stop" and self._heeds_stop:
            self._stopped.set()

    async def read(self) -> RunDreamResponse | object:
        await asyncio.sleep(self._every_s)
        if not self._said:
            await self._stopped.wait()
            return ABORTED
        message = self._said.pop(0)
        if isinstance(message, Exception):
            raise message
        return message


def talk(
    make: Callable[[], Scripted],
    limits: Limits = PATIENT,
    *,
    stop_after_s: float | None = None,
    bury_after_s: float | None = None,
    staged: Sequence[Operations] = (),
) -> tuple[Ended, Scripted]:
    async def run() -> tuple[Ended, Scripted]:
        process, stop, dead = make(), asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        if stop_after_s is not None:
            loop.call_later(stop_after_s, stop.set)
        if bury_after_s is not None:
            loop.call_later(bury_after_s, dead.set)

        def hear(message: RunDreamResponse) -> Ended | None:
            return message.ended if message.WhichOneof("message") == "ended" else None

        conversation = Conversation(process, hear, limits, stop=stop, dead=dead)
        return await asyncio.wait_for(conversation.run(Start(dream_id="one"), staged), 10), process

    return asyncio.run(run())


def test_it_hands_over_the_start_and_what_was_staged_and_gives_the_last_word() -> None:
    parts = [Operations(part=0), Operations(part=1)]
    ended, process = talk(lambda: Scripted(READY, PROGRESS, OVER), staged=parts)
    assert ended.reason == dream_pb2.END_REASON_CONVERGED
    assert [request.WhichOneof("message") for request in process.asked] == ["start", "staged", "staged"]
    assert not process.killed


@pytest.mark.parametrize(
    ("said", "limits", "why"),
    [
        ([], Limits(0.02, 60, 60), "not ready to dream within 0.02 s"),
        ([READY, PROGRESS], Limits(60, 0.02, 60), "said nothing for 0.02 s"),
        ([READY, *[PROGRESS] * 1000], Limits(60, 60, 0.05), "did not end within"),
    ],
)
def test_one_that_is_wedged_or_does_not_end_is_killed(said: list[RunDreamResponse], limits: Limits, why: str) -> None:
    ended, process = talk(lambda: Scripted(*said, every_s=0.001), limits)
    assert (ended.reason, ended.unrecoverable) == (FAILED, False)
    assert why in ended.message
    assert process.killed


def test_one_that_dies_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details="Socket closed"
    )
    ended, _ = talk(lambda: Scripted(READY, broken))
    assert (ended.reason, ended.message) == (FAILED, "the dreamer broke off: killed by signal 9")
    ended, _ = talk(lambda: Scripted(READY, grpc.aio.EOF))
    assert (ended.reason, ended.message) == (FAILED, "the dreamer fell silent: killed by signal 9")


def test_one_that_is_told_to_stop_has_its_last_word() -> None:
    ended, process = talk(lambda: Scripted(READY, PROGRESS), stop_after_s=0.01)
    assert ended.reason == dream_pb2.END_REASON_ABORTED
    assert process.asked[-1].WhichOneof("message") == "stop"


def test_one_that_does_not_stop_is_waited_for_until_somebody_buries_it() -> None:
    limits = Limits(60, 0.02, 60)
    ended, process = talk(lambda: Scripted(READY, heeds_stop=False), limits, stop_after_s=0.0, bury_after_s=0.1)
    assert ended.reason == dream_pb2.END_REASON_ABORTED
    # By whoever woke it, not here.
    assert not process.killed


def test_one_that_pauses_on_request_may_be_silent_and_loses_no_time() -> None:
    async def run() -> tuple[Ended, Scripted]:
        process = Scripted(READY, PROGRESS)
        stop = asyncio.Event()
        limits = Limits(until_ready=60, between_words=0.05, in_all=0.3)
        conversation = Conversation(process, lambda _: None, limits, stop=stop, dead=asyncio.Event())
        talking = asyncio.create_task(conversation.run(Start(dream_id="one"), []))
        await asyncio.sleep(0.01)
        conversation.allow(Allowance(max_share=0.3, paused=True))
        await asyncio.sleep(0.6)
        assert not talking.done()
        assert process.asked[-1].allowance == Allowance(max_share=0.3, paused=True)
        conversation.allow(Allowance(max_share=0.3))
        return await asyncio.wait_for(talking, 10), process

    ended, process = asyncio.run(run())
    # Its silence counts again from then on.
    assert "said nothing for 0.05 s" in ended.message
    assert [request.WhichOneof("message") for request in process.asked] == ["start", "allowance", "allowance"]


def test_one_that_is_told_to_stop_in_a_pause_has_its_last_word() -> None:
    async def run() -> tuple[Ended, Scripted]:
        process, stop = Scripted(READY, PROGRESS), asyncio.Event()

        def hear(message: RunDreamResponse) -> Ended | None:
            return message.ended if message.WhichOneof("message") == "ended" else None

        limits = Limits(60, 0.02, 60)
        conversation = Conversation(process, hear, limits, stop=stop, dead=asyncio.Event())
        talking = asyncio.create_task(conversation.run(Start(dream_id="one"), []))
        await asyncio.sleep(0.005)
        conversation.allow(Allowance(max_share=0.3, paused=True))
        await asyncio.sleep(0.1)
        stop.set()
        return await asyncio.wait_for(talking, 10), process

    ended, process = asyncio.run(run())
    assert ended.reason == dream_pb2.END_REASON_ABORTED
    assert not process.killed
