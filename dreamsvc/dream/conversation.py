"""One conversation with a dreamer: a dream goes in, its news come out. It can be told to stop; silence has limits."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

import grpc
import grpc.aio

from dreamsvc.dream.meters import Meter
from dreamsvc.dreamer.v1.dreamer_service_pb2 import (
    Allowance,
    Ended,
    RunDreamRequest,
    RunDreamResponse,
    Start,
    Stop,
)
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.v1 import dream_pb2, error_reason_pb2
from dreamsvc.v1.config_pb2 import ResourcesConfig
from dreamsvc.v1.error_reason_pb2 import ErrorReason

logger = logging.getLogger(__name__)
PAUSE_LOOK_S = 0.5


class Stream(Protocol):
    """A call of RunDream."""

    async def read(self) -> RunDreamResponse | object: ...
    async def write(self, request: RunDreamRequest) -> None: ...


class Stub(Protocol):
    @property
    def RunDream(self) -> Callable[[], Any]: ...


class Process(Protocol):
    """A process that dreams, as much of it as a night has to do with."""

    @property
    def stub(self) -> Stub: ...
    @property
    def alive(self) -> bool: ...
    @property
    def was_warm(self) -> bool: ...
    @property
    def meter(self) -> Meter | None:
        """What tells what it uses; None where nothing does."""
        ...

    def kill(self) -> None: ...
    def settle(self) -> Awaitable[None]: ...
    def how_it_ended(self) -> str: ...


class Source(Protocol):
    """Where processes that dream come from."""

    async def lease(self, config: ResourcesConfig) -> Process: ...
    def give_back(self, process: Any, config: ResourcesConfig) -> None: ...
    async def close(self) -> None: ...


class Limits(NamedTuple):
    """How long a dreamer may be silent before it counts as wedged and is killed; seconds."""

    until_ready: float
    between_words: float
    # From the moment it was ready to its last word.
    in_all: float


class Conversation:
    """Runs one dream, or what is left of it, in one process."""

    def __init__(
        self,
        process: Process,
        hear: Callable[[RunDreamResponse], Ended | None],
        limits: Limits,
        *,
        stop: asyncio.Event,
        dead: asyncio.Event,
    ) -> None:
        """hear: takes a message in, and gives the last word if it is that. stop: tells it to stop. dead: it was killed,
        and nobody waits for the system to bury it."""
        self._process = process
        self._hear = hear
        self._limits = limits
        self._stop = stop
        self._dead = dead
        # What it may take now, and whether that is told.
        self._allowance: Allowance | None = None
        self._untold = asyncio.Event()
        # Since when it pauses on request, and from when on its silence counts again.
        self._paused_s: float | None = None
        self._quiet_since_s = 0.0
        self._over_s = 0.0
        self.heard = False
        # It had read and compiled everything, and dreamed.
        self.was_ready = False

    def allow(self, allowance: Allowance) -> None:
        """Tells what it may take from now on; time in which it is to pause does not count against it."""
        now_s = asyncio.get_running_loop().time()
        if allowance.paused and self._paused_s is None:
            self._paused_s = now_s
        elif not allowance.paused and self._paused_s is not None:
            self._over_s += now_s - self._paused_s
            self._paused_s, self._quiet_since_s = None, now_s
        self._allowance = allowance
        self._untold.set()

    async def run(self, start: Start, staged: Sequence[Operations]) -> Ended:
        """How it ended; FAILED with the reason where the process broke off, fell silent or talked nonsense."""
        try:
            return await self._follow(self._process.stub.RunDream(), start, staged)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            said = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
            return await self._broken("the dreamer broke off", said or "")

    async def _broken(self, what: str, said: str = "") -> Ended:
        """The end of a conversation without a last word; a wake does not wait until the process is buried."""
        buried, stop = asyncio.ensure_future(self._process.settle()), asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({buried, stop}, return_when=asyncio.FIRST_COMPLETED)
        buried.cancel()
        stop.cancel()
        how = said if said and self._process.alive else self._process.how_it_ended()
        # Whatever is the matter with it, nobody talks to it again.
        self._process.kill()
        return Ended(reason=dream_pb2.END_REASON_ABORTED) if self._stop.is_set() else _failed(f"{what}: {how}")

    async def _follow(self, stream: Stream, start: Start, staged: Sequence[Operations]) -> Ended:
        # Beside the reading: one that hears nothing has no more time than one that says nothing.
        telling = asyncio.create_task(self._tell(stream, start, staged))
        dead = asyncio.create_task(self._dead.wait())
        now = asyncio.get_running_loop().time
        self._over_s = now() + self._limits.until_ready
        try:
            while True:
                read = asyncio.ensure_future(stream.read())
                self._quiet_since_s = now()
                patience_s = await self._heard_within(read, dead)
                if not read.done():
                    read.cancel()
                    if self._stop.is_set():
                        await self._dead.wait()
                        return Ended(reason=dream_pb2.END_REASON_ABORTED)
                    return self._wedged(patience_s)
                message = read.result()
                if not isinstance(message, RunDreamResponse):
                    return await self._broken("the dreamer fell silent")
                self.heard = True
                if message.WhichOneof("message") == "ready":
                    self.was_ready = True
                    self._over_s = now() + self._limits.in_all
                ended = self._hear(message)
                if ended is not None:
                    return ended
        finally:
            telling.cancel()
            dead.cancel()

    async def _heard_within(self, read: "asyncio.Future[Any]", dead: "asyncio.Future[Any]") -> float:
        """Waits for a word, for as long as there is patience, or until it is dead or told to stop; the patience."""
        now = asyncio.get_running_loop().time
        while True:
            if self._stop.is_set():
                # Whoever told it to stop sees to it that it does.
                await asyncio.wait({read, dead}, return_when=asyncio.FIRST_COMPLETED)
                return 0.0
            patience_s = self._limits.between_words if self.was_ready else self._limits.until_ready
            patience_s = min(patience_s, max(0.0, self._over_s - self._quiet_since_s))
            # One that pauses has nothing to say; what it has left is looked at anew when it goes on.
            left_s = PAUSE_LOOK_S if self._paused_s is not None else self._quiet_since_s + patience_s - now()
            if left_s <= 0:
                return patience_s
            await asyncio.wait({read, dead}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if read.done() or dead.done():
                return patience_s

    def _wedged(self, patience_s: float) -> Ended:
        self._process.kill()
        if not self.was_ready:
            return _failed(
                f"the dreamer was not ready to dream within {self._limits.until_ready:g} s, and was killed",
                error_reason_pb2.ERROR_REASON_DREAM_RESOURCE,
            )
        if patience_s < self._limits.between_words:
            return _failed(
                f"the dreamer did not end within {self._limits.in_all:.0f} s, and was killed",
                error_reason_pb2.ERROR_REASON_DREAM_TIMEOUT,
            )
        return _failed(f"the dreamer said nothing for {patience_s:g} s, and was killed")

    async def _tell(self, stream: Stream, start: Start, staged: Sequence[Operations]) -> None:
        try:
            await stream.write(RunDreamRequest(start=start))
            for part in staged:
                await stream.write(RunDreamRequest(staged=part))
            while not await self._stop_or_news():
                await stream.write(RunDreamRequest(allowance=self._allowance))
            await stream.write(RunDreamRequest(stop=Stop()))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # It ended by itself in this very moment, or broke off, which whoever reads is told too.
            logger.debug("the dreamer is not told any more", exc_info=True)

    async def _stop_or_news(self) -> bool:
        """Waits until there is something to tell; whether that is to stop."""
        waiting = {asyncio.ensure_future(self._stop.wait()), asyncio.ensure_future(self._untold.wait())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        self._untold.clear()
        return self._stop.is_set()


def _failed(why: str, reason: ErrorReason.ValueType = error_reason_pb2.ERROR_REASON_UNSPECIFIED) -> Ended:
    return Ended(reason=dream_pb2.END_REASON_FAILED, message=why, error_reason=reason)
