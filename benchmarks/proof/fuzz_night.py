"""Nights with a dreamer that talks nonsense: messages of the seam as the server hears them, changed, damaged, in any
order. The night comes to its end, says what was wrong in words, and leaves the memory whole."""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from benchmarks.proof import acts, fuzz_world
from benchmarks.proof.fuzz_changes import change
from benchmarks.proof.fuzz_draws import Draws
from benchmarks.proof.fuzz_watch import Broken, Watch
from benchmarks.proof.jumping_clock import JumpingClock
from benchmarks.proof.opened import SPACE, Opened
from dreamsvc import checkpoints, config
from dreamsvc.dream.scheduler import Scheduler
from dreamsvc.dreamer.v1.dreamer_service_pb2 import (
    Checkpoint,
    Ended,
    Ready,
    RunDreamRequest,
    RunDreamResponse,
    StepProgress,
    Tally,
)
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import ResourcesConfig
from dreamsvc.v1.dream_pb2 import Dream, Progress
from dreamsvc.v1.dream_service_pb2 import RevertRequest, TriggerRequest

TABLES = {
    "dream": {
        "trigger": {"automatic": False, "cooldown_for_manual": False},
        # Another try pauses, and nonsense is not tried again anyway.
        "fault": {"recovery_strategy": "abort"},
    }
}
SEED = 7
PHASES = (dream_pb2.DREAM_PHASE_NREM, dream_pb2.DREAM_PHASE_REM, dream_pb2.DREAM_PHASE_FULL_CYCLE)
# What an error that nobody foresaw looks like in a dream's record.
UNFORESEEN = re.compile(r"\b[A-Za-z.]*(Error|Exception)\b: |^KeyError|assert")


class _Played:
    """A process that says what it is told to; as much of one as a night has to do with."""

    def __init__(self, script: Sequence[RunDreamResponse]) -> None:
        self._left = list(script)
        self.alive, self.was_warm = True, False
        self.meter = None
        self.stub = self
        self.heard = 0

    @property
    def RunDream(self) -> Callable[[], Any]:
        return lambda: self

    async def read(self) -> RunDreamResponse | object:
        self.heard += 1
        return self._left.pop(0) if self._left else grpc.aio.EOF

    async def write(self, request: RunDreamRequest) -> None:
        request.SerializeToString()

    def kill(self) -> None:
        self.alive = False

    async def settle(self) -> None: ...

    def how_it_ended(self) -> str:
        return "it was only played"


class _Source:
    def __init__(self) -> None:
        self.process = _Played([])

    async def lease(self, resources: ResourcesConfig) -> _Played:
        return self.process

    def give_back(self, process: Any, resources: ResourcesConfig) -> None: ...

    async def close(self) -> None: ...


class NightTarget:
    name = "night"
    size = 100

    def __init__(self) -> None:
        self._world = fuzz_world.World(suspended=False)

    def close(self) -> None:
        self._world.close()

    def batch(self, watch: Watch, cases: int) -> None:
        path = self._world.copy()
        opened = Opened(path, JumpingClock())
        try:
            draws = Draws(f"night {watch.seed}")
            opened.wait(_batch(opened, draws, watch, cases))
            with watch.case("afterwards"):
                fuzz_world.require_order(opened.store)
        finally:
            opened.abandon()
            self._world.forget(path)


async def _batch(opened: Opened, draws: Draws, watch: Watch, cases: int) -> None:
    source = _Source()
    settings = config.parse(TABLES)
    scheduler = Scheduler(opened.store, opened.journal, config.InForce(settings), opened.clock, source)
    try:
        while watch.cases < cases:
            phase = draws.choice(PHASES)
            script = drawn(draws, opened, phase)
            data = b"\n--\n".join(str(message).encode() for message in script)
            with watch.case("night", data[:200_000]):
                source.process = _Played(script)
                watch.ended(await _night(opened, scheduler, phase, draws))
            if watch.failures and watch.failures[-1].case == watch.cases - 1:
                return
    finally:
        await scheduler.close()


async def _night(opened: Opened, scheduler: Scheduler, phase: Any, draws: Draws) -> str:
    before = fuzz_world.digest(opened.store, SPACE)
    request = TriggerRequest(space=SPACE, phase=phase, seed=SEED, fresh=True, abort_on_query=True)
    request.dry_run = draws.maybe(0.1)
    _, night = await scheduler.trigger(request, dream_pb2.TRIGGERED_BY_REQUEST)
    assert night is not None
    if draws.maybe(0.05):
        night.wake(dream_pb2.WAKE_REASON_USER_QUERY)
    await night.over.wait()
    dream = night.dream
    dream.SerializeToString()
    (await scheduler.telling.status(SPACE)).SerializeToString()
    if UNFORESEEN.search(dream.message):
        raise Broken(f"an error that nobody foresaw: {dream.message[:500]}")
    name = Dream.State.Name(dream.state).removeprefix("STATE_").lower()
    if dream.state == Dream.STATE_SUCCEEDED and not dream.dry_run:
        if draws.maybe(0.5):
            # What was dreamed stays now and then, for the nights that come.
            return name
        await scheduler.verdicts.revert(RevertRequest(space=SPACE, dream_id=dream.id))
    elif dream.state in (Dream.STATE_RUNNING, Dream.STATE_FOLDING, Dream.STATE_REVERTING):
        raise Broken(f"it is over and its state is {name}: {dream.message}")
    if fuzz_world.digest(opened.store, SPACE) != before:
        raise Broken(f"a night that is {name} has changed the memory")
    return name


def drawn(draws: Draws, opened: Opened, phase: Any) -> list[RunDreamResponse]:
    """What a dreamer says in a night, with something wrong in most of them."""
    script = _honest(draws, opened, phase)
    for _ in range(draws.choice((0, 1, 1, 1, 2, 4))):
        at = draws.randrange(len(script))
        match draws.randrange(8):
            case 0:
                del script[at]
            case 1:
                script.insert(at, script[draws.randrange(len(script))])
            case 2:
                draws.shuffle(script)
            case 3:
                draws.wild = 0.3
                script.insert(at, draws.message(RunDreamResponse, fill=0.7))
            case 4:
                script[at] = _damaged(draws, script[at])
            case _:
                changed = RunDreamResponse()
                changed.CopyFrom(script[at])
                change(draws, changed, draws.choice((1, 1, 3)))
                script[at] = changed
        script = script or [RunDreamResponse()]
    return script


def _damaged(draws: Draws, message: RunDreamResponse) -> RunDreamResponse:
    try:
        return RunDreamResponse.FromString(draws.damaged(message.SerializeToString()))
    except DecodeError:
        # gRPC would have broken off here.
        return RunDreamResponse()


def _honest(draws: Draws, opened: Opened, phase: Any) -> list[RunDreamResponse]:
    tally = Tally(nodes_replayed=3, replays=4, rounds=1, seconds=0.5, busy_seconds=0.25)
    progress = Progress(phase=phase if phase != PHASES[2] else PHASES[0], done=1, total=2, fraction=0.5)
    script = [
        RunDreamResponse(ready=Ready(device="played", nodes=16, edges=12, nodes_eligible=9)),
        RunDreamResponse(progress=StepProgress(progress=progress, tally=tally)),
    ]
    try:
        journal = acts.made_parts(opened, Random(draws.getrandbits(32)))
    except acts.Impossible:
        journal = []
    told = 0
    for part in journal[: draws.choice((0, 3, 6, len(journal)))]:
        part.part = told
        told += 1
        script.append(RunDreamResponse(operations=part))
        if draws.maybe(0.5):
            script.append(
                RunDreamResponse(
                    checkpoint=Checkpoint(format=checkpoints.FORMAT, seed=SEED, next_part=told, tally=tally)
                )
            )
    script.append(
        RunDreamResponse(checkpoint=Checkpoint(format=checkpoints.FORMAT, seed=SEED, next_part=told, tally=tally))
    )
    reason = draws.choice(
        (dream_pb2.END_REASON_CONVERGED, dream_pb2.END_REASON_BUDGET, dream_pb2.END_REASON_NOTHING_TO_DO)
    )
    return [*script, RunDreamResponse(ended=Ended(reason=reason, tally=tally))]
