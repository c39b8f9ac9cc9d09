"""A dreamer that is played: it speaks the messages of the seam, by a script that its seed and its snapshot decide.

The same seed over the same snapshot gives the same journal, wherever it is interrupted and resumed; `Script.digest`
says which. How the process behaves on the way is another matter: by a `Temper` it dies, falls silent, hears no stop,
talks nonsense, fails, or takes its time.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Protocol

import grpc
import grpc.aio
import numpy as np

from benchmarks.proof import parts
from benchmarks.proof.dream_script import READ, Script
from dreamsvc import checkpoints, config
from dreamsvc.config import InForce
from dreamsvc.dream.dreamers import Dreamers
from dreamsvc.dream.governor import Governor
from dreamsvc.dreamer.v1.dreamer_service_pb2 import (
    Checkpoint,
    Ended,
    Ready,
    RunDreamRequest,
    RunDreamResponse,
    Start,
    StepProgress,
    Tally,
)
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import ResourcesConfig
from dreamsvc.v1.dream_pb2 import DREAM_PHASE_NREM, DREAM_PHASE_REM, EndReason, Progress

DEVICE = "a script"


class Temper(NamedTuple):
    """How a process behaves in one conversation."""

    # "well", "nothing", "dies", "wedges", "deaf" (reads nothing), "nonsense", "fails", "fails silently", "breaks" (its
    # connection, and lives on), "leaves" (without a last word), "gives up" (and nobody asked it to)
    kind: str = "well"
    # Messages it sends before that.
    after: int = 0
    # From one thing that it does to the next, and from a stop to its last word.
    pause_s: float = 0.2
    stop_s: float = 0.004
    load_s: float = 0.3
    # Until the system has buried it, once it is killed.
    funeral_s: float = 0.001


class Stage(Protocol):
    """Who watches the play."""

    def temper(self) -> Temper: ...
    def spawn_s(self) -> float: ...
    def point(self) -> None: ...
    def wrong(self, what: str) -> None: ...
    def opened(self, start: Start, process: "Played") -> None: ...
    def closed(self, process: "Played") -> None: ...
    def completed(self, start: Start, digest: str) -> None: ...
    def nonsense(self) -> RunDreamResponse: ...


class Unmeasured:
    """A machine that tells nothing of itself."""

    cores = 2.0

    def cpu_busy_s(self) -> float | None:
        return None

    def memory_bytes(self) -> int | None:
        return None

    def gpu(self) -> None:
        return None


class ScriptedDreamers(Dreamers):
    """The real lending of dreamer processes, with processes that are played."""

    def __init__(self, stage: Stage) -> None:
        in_force = InForce(config.defaults())
        super().__init__(in_force, Governor(in_force, Unmeasured()))
        self._stage = stage

    async def _spawn(self) -> Any:
        self._count += 1
        return Played(self._count, self._stage)

    def leaks(self, config: ResourcesConfig) -> Iterator[str]:
        """Processes that nobody will end, and what else is left when nothing dreams."""
        if self._unclaimed or self._reaping:
            yield f"{len(self._unclaimed)} dreamers start for nobody, {len(self._reaping)} are never buried"
        warm = {process for process, _ in self._warm}
        if self._all - warm:
            yield f"{len(self._all - warm)} dreamers are lent to nobody and not warm"
        if warm and config.dreamer_idle_seconds <= 0:
            yield "a dreamer is kept warm though none should be"


class Played:
    """Stands for a dreamer's process, its channel and the stub of its service."""

    def __init__(self, pid: int, stage: Stage) -> None:
        self.pid = pid
        self.was_warm = False
        # Nothing measures it.
        self.meter = None
        self._stage = stage
        self._gone = asyncio.Event()
        # Its connection is broken, which a kill does at once and a funeral only after a while.
        self._broken = asyncio.Event()
        self._dying = False
        self._how = ""
        self._conversations: set[_Conversation] = set()
        self.funeral_s = 0.001

    @property
    def stub(self) -> "Played":
        return self

    @property
    def alive(self) -> bool:
        return not self._dying

    @property
    def broken(self) -> asyncio.Event:
        return self._broken

    async def ready(self) -> None:
        await asyncio.sleep(self._stage.spawn_s())

    def RunDream(self) -> "_Conversation":
        if self._conversations:
            self._stage.wrong(f"dreamer {self.pid} was given a second dream")
        conversation = _Conversation(self, self._stage)
        self._conversations.add(conversation)
        return conversation

    def ended(self, conversation: "_Conversation") -> None:
        self._conversations.discard(conversation)

    def kill(self) -> None:
        self.die("killed by signal 9")

    def die(self, how: str) -> None:
        if self._dying:
            return
        self._dying = True
        self._how = how
        for conversation in list(self._conversations):
            conversation.stop_playing()
        loop = asyncio.get_running_loop()
        loop.call_later(min(0.001, self.funeral_s), self._broken.set)
        loop.call_later(self.funeral_s, self._gone.set)

    def break_off(self) -> None:
        """The connection is lost, the process lives on."""
        self._broken.set()

    async def gone(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), 5.0)
        self._broken.set()

    async def settle(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), 1.0)

    def how_it_ended(self) -> str:
        return self._how if self._gone.is_set() else "it runs"


class _Conversation:
    """One call of RunDream as the caller sees it, and the task that plays the other side."""

    def __init__(self, process: Played, stage: Stage) -> None:
        self._process = process
        self._stage = stage
        self._temper = stage.temper()
        process.funeral_s = self._temper.funeral_s
        self._heard: asyncio.Queue[RunDreamRequest] = asyncio.Queue()
        self._said: asyncio.Queue[RunDreamResponse | object] = asyncio.Queue()
        self._stop = asyncio.Event()
        self._count = 0
        self._opened = False
        self._playing = asyncio.create_task(self._play())

    # ── the caller's side ───────────────────────────────────────────────────────

    async def write(self, request: RunDreamRequest) -> None:
        if self._temper.kind == "deaf":
            await self._process.broken.wait()
        if self._process.broken.is_set():
            raise _unavailable("the connection is closed")
        if request.WhichOneof("message") == "stop":
            self._stop.set()
        else:
            self._heard.put_nowait(request)

    async def read(self) -> RunDreamResponse | object:
        said = asyncio.ensure_future(self._said.get())
        broken = asyncio.ensure_future(self._process.broken.wait())
        try:
            await asyncio.wait((said, broken), return_when=asyncio.FIRST_COMPLETED)
            if said.done():
                return said.result()
            raise _unavailable("Socket closed")
        finally:
            said.cancel()
            broken.cancel()

    def stop_playing(self) -> None:
        self._playing.cancel()

    # ── the dreamer's side ──────────────────────────────────────────────────────

    async def _play(self) -> None:
        try:
            start = (await self._heard.get()).start
            staged = [(await self._heard.get()).staged for _ in range(start.staged_parts)]
            self._stage.opened(start, self._process)
            self._opened = True
            try:
                await self._dream(start, staged)
            except _Stopped:
                await asyncio.sleep(self._temper.stop_s)
                await self._end(dream_pb2.END_REASON_ABORTED)
        except _Broken:
            pass
        finally:
            self._close()

    def _close(self) -> None:
        """From its last word on it is free for another dream."""
        self._process.ended(self)
        if self._opened:
            self._opened = False
            self._stage.closed(self._process)

    async def _dream(self, start: Start, staged: Sequence[Operations]) -> None:
        await self._work(self._temper.load_s)
        try:
            arrays = {name: np.load(Path(start.snapshot, f"{name}.npy"), allow_pickle=False) for name in READ}
        except OSError:
            await self._end(dream_pb2.END_REASON_FAILED, "its snapshot is not there", unrecoverable=True)
            return
        place = _Place.of(start)
        script = Script(start.seed, start.phase, arrays)
        if _bytes(staged) != _bytes(script.parts(place.rounds, place.steps, place.left_out)):
            self._stage.wrong(f"dream {start.dream_id} goes on with {len(staged)} parts that are not its checkpoint's")
        size = len(script.nodes)
        await self._say(ready=Ready(device=DEVICE, nodes=size, edges=len(script.edges), nodes_eligible=size))
        if script.empty or self._temper.kind == "nothing":
            await self._end(dream_pb2.END_REASON_NOTHING_TO_DO)
            return
        reason = await self._units(start, script, place, len(staged))
        self._stage.completed(start, script.digest(place.rounds, place.steps, place.left_out))
        await self._end(reason, tally=place.tally(self._now_s()))

    async def _units(self, start: Start, script: Script, place: "_Place", part: int) -> "EndReason.ValueType":
        """Round after round, then step after step, until one of them comes too late."""
        place.began_s = kept_s = self._now_s()
        while place.steps < len(script.steps) or not place.replay_over(script, start):
            if place.tally(self._now_s()).seconds >= start.budget_seconds + place.spent_s:
                await self._keep(place, script, start, part)
                return dream_pb2.END_REASON_BUDGET
            replays = not place.replay_over(script, start)
            left_out = not replays and place.steps in start.left_out
            unit = [] if left_out else script.round(place.rounds) if replays else script.step(place.steps)
            await self._tell_progress(place, script, start)
            try:
                await self._work(self._temper.pause_s)
            except _Stopped:
                await self._keep(place, script, start, part)
                raise
            for one in unit:
                one.part = part
                part += 1
                await self._say(operations=one)
            if replays:
                place.rounds += 1
            else:
                place.left_out += [place.steps] * left_out
                place.steps += 1
            if self._now_s() - kept_s >= start.config.resources.checkpoint_seconds:
                kept_s = self._now_s()
                await self._keep(place, script, start, part)
        await self._keep(place, script, start, part)
        return dream_pb2.END_REASON_CONVERGED

    async def _keep(self, place: "_Place", script: Script, start: Start, part: int) -> None:
        over = place.replay_over(script, start)
        await self._say(
            checkpoint=Checkpoint(
                format=checkpoints.FORMAT,
                seed=start.seed,
                round=place.rounds,
                next_part=part,
                steps_done=place.steps,
                replay_ended=dream_pb2.END_REASON_CONVERGED if over else dream_pb2.END_REASON_UNSPECIFIED,
                # What only the dreamer reads.
                activation=bytes(place.left_out),
                tally=place.tally(self._now_s()),
            )
        )

    async def _tell_progress(self, place: "_Place", script: Script, start: Start) -> None:
        rem = place.replay_over(script, start) and place.steps >= script.rem_from
        progress = Progress(phase=DREAM_PHASE_REM if rem else DREAM_PHASE_NREM, done=place.rounds, total=script.rounds)
        await self._say(progress=StepProgress(progress=progress, tally=place.tally(self._now_s())))

    async def _work(self, seconds: float) -> None:
        """Takes its time, and looks at the stop flag."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
        if self._stop.is_set():
            raise _Stopped

    async def _say(self, **message: Any) -> None:
        if self._count == self._temper.after and self._temper.kind not in ("well", "nothing"):
            await self._misbehave()
        self._count += 1
        self._stage.point()
        if "ended" in message:
            self._close()
        self._said.put_nowait(RunDreamResponse(**message))
        # Others come to their turn; a stop is seen between two messages too.
        await asyncio.sleep(0.0005)

    async def _end(self, reason: "EndReason.ValueType", message: str = "", **more: Any) -> None:
        await self._say(ended=Ended(reason=reason, message=message, **more))

    async def _misbehave(self) -> None:
        self._count += 1
        match self._temper.kind:
            case "dies":
                self._process.die("exit code 1")
                raise _Broken
            case "wedges" | "deaf":
                await asyncio.Event().wait()
            case "breaks":
                self._process.break_off()
                raise _Broken
            case "leaves":
                self._said.put_nowait(grpc.aio.EOF)
                self._process.die("exit code 0")
                raise _Broken
            case "nonsense":
                said = self._stage.nonsense()
                self._said.put_nowait(said)
                if said.HasField("ended"):
                    raise _Broken
            case "fails":
                await self._end(dream_pb2.END_REASON_FAILED, "out of memory")
                raise _Broken
            case "fails silently":
                await self._end(dream_pb2.END_REASON_FAILED)
                raise _Broken
            case "gives up":
                await self._end(dream_pb2.END_REASON_ABORTED)
                raise _Broken
            case other:
                raise AssertionError(other)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()


class _Stopped(Exception):
    """It was told to stop."""


class _Broken(Exception):
    """It says nothing more."""


@dataclass
class _Place:
    """Where a dream stands."""

    rounds: int
    steps: int
    left_out: list[int]
    replay_ended: bool
    spent_s: float
    began_s: float = 0.0

    @classmethod
    def of(cls, start: Start) -> "_Place":
        at = start.checkpoint
        return cls(at.round, at.steps_done, list(at.activation), bool(at.replay_ended), at.tally.seconds)

    def replay_over(self, script: Script, start: Start) -> bool:
        return self.replay_ended or start.leave_out_replay or self.rounds >= script.rounds

    def tally(self, now_s: float) -> Tally:
        seconds = self.spent_s + now_s - self.began_s if self.began_s else self.spent_s
        return Tally(
            nodes_replayed=1, replays=self.rounds, rounds=self.rounds, seconds=seconds, busy_seconds=seconds / 3
        )


def _bytes(journal: Sequence[Operations]) -> list[bytes]:
    return [part.SerializeToString(deterministic=True) for part in journal]


def _unavailable(why: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details=why)


def nonsense(random: Random) -> RunDreamResponse:
    """What no honest dreamer says."""
    return random.choice(
        (
            RunDreamResponse(),
            RunDreamResponse(ready=Ready()),
            RunDreamResponse(operations=Operations(part=9)),
            RunDreamResponse(operations=parts.marks(7, {1: 1})),
            RunDreamResponse(checkpoint=Checkpoint(seed=1, next_part=3)),
            RunDreamResponse(progress=StepProgress(progress=Progress(phase=DREAM_PHASE_REM))),
            RunDreamResponse(ended=Ended()),
            RunDreamResponse(ended=Ended(reason=dream_pb2.END_REASON_FAILED)),
            RunDreamResponse(ended=Ended(reason=99)),  # pyright: ignore
            RunDreamResponse(
                ended=Ended(reason=dream_pb2.END_REASON_FAILED, message="it says", error_reason=99)  # pyright: ignore
            ),
        )
    )
