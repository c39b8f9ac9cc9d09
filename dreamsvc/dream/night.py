"""One night: a space goes to sleep, dreams, wakes, and what it dreamed becomes part of the memory.

How it runs
1. AWAKE -> ENTERING_NREM, or TRANSITIONING where there is no NREM. The store takes a snapshot; a dreamer process is
   leased.
2. The dreamer gets the snapshot's place, and what an interrupted dream staged before. It answers
   that it is ready: NREM.
3. Where there is REM it comes after TRANSITIONING, with which a dream of REM alone begins.
   Progress goes to the watchers. Operations and the checkpoint they lead up to are staged in one
   commit.
4. WAKING -> AWAKE, by a wake or because the dream is over.
5. A dream that is over is compacted, sealed (the atomic point) and folded behind user writes; its
   report is then read back from the store. A woken one is kept to go on from its checkpoint.

Where something fails in 2 to 5, `Recovery` decides what follows; the dream goes on from its last checkpoint, if at all.
A wake overtakes everything: the dreamer is told to stop and is killed when the budget is used up.
Nobody's query waits for any of this.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dreamsvc import clock, snapshot_files
from dreamsvc.clock import Clock
from dreamsvc.dream import neuromodulation
from dreamsvc.dream.conversation import Conversation, Limits, Process, Source
from dreamsvc.dream.ending import Ending
from dreamsvc.dream.governor import Governor
from dreamsvc.dream.intake import Intake
from dreamsvc.dream.leash import Leash
from dreamsvc.dream.recovery import Recovery
from dreamsvc.dream.seen import UNKNOWN, seen_by
from dreamsvc.dream.state import AWAKE, ENTERING_NREM, NREM, REM, TRANSITIONING, WAKING, follow
from dreamsvc.dream.watch import Events
from dreamsvc.dreamer.v1.dreamer_service_pb2 import (
    Checkpoint,
    Ended,
    RunDreamResponse,
    Start,
    StepProgress,
)
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.errors import DreamFailed, DreamsvcError
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.memory.store import Store
from dreamsvc.telemetry.observer import Observer
from dreamsvc.v1 import dream_pb2, error_reason_pb2
from dreamsvc.v1.config_pb2 import DreamConfig, RecallConfig, ResourcesConfig
from dreamsvc.v1.dream_pb2 import Dream, Neuromodulators, WakeReason
from dreamsvc.v1.dream_service_pb2 import StateChange

logger = logging.getLogger(__name__)
# Of the wake budget, what is left for killing and reaping a dreamer that did not answer.
KILL_AT = 0.85


class Woken(NamedTuple):
    """How a wake went."""

    latency_ms: float
    killed: bool
    reason: WakeReason.ValueType = dream_pb2.WAKE_REASON_UNSPECIFIED


class Plan(NamedTuple):
    """What a night begins with."""

    dream: Dream
    config: DreamConfig
    # Instant that ages are counted from.
    now_us: int
    # None for a dry run, which has no row.
    change: ChangeId | None
    checkpoint: Checkpoint | None
    staged: Sequence[Operations]
    # How the space is read, for the probes.
    recall: RecallConfig


class Night:
    """Runs one dream from its plan to its end; `run` is a task of its own, tied to no call."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        journal: Journal,
        dreamers: Source,
        events: Events,
        clock: Clock,
        on_wake: Callable[[Woken], None],
        governor: Governor,
        observer: Observer | None = None,
    ) -> None:
        """observer: who is told of each state and each checkpoint."""
        self.dream = plan.dream
        self.sleep_state = AWAKE
        self.awake = asyncio.Event()
        self.over = asyncio.Event()
        self.discard = False
        self.woken: Woken | None = None
        # Once it is over: what is left to dream of, and when that was looked up (by the monotonic clock).
        self.seen = UNKNOWN
        self.looked_s = 0.0
        self._plan = plan
        self._store = store
        self._journal = journal
        self._dreamers = dreamers
        self._events = events
        self._clock = clock
        self._on_wake = on_wake
        self._governor = governor
        self._observer = observer or Observer()
        self._wake_reason: WakeReason.ValueType = dream_pb2.WAKE_REASON_UNSPECIFIED
        self._wake_began_s = 0.0
        self._stop_wanted = asyncio.Event()
        self._killer: asyncio.TimerHandle | None = None
        self._killed = False
        self._dead = asyncio.Event()
        self._process: Process | None = None
        self._conversation: Conversation | None = None
        self._leash: Leash | None = None
        self._let_go: Callable[[], None] = _nothing
        self._recovery = Recovery(plan.dream, plan.config.fault)
        self._renews = False
        self._intake = Intake(
            *(plan.dream, journal, plan.change, self._recovery, self._observer.checkpointed),
            checkpoint=plan.checkpoint,
            staged=plan.staged,
        )
        self._ending = Ending(plan.dream, plan.config, plan.change, store, journal, self._recovery, clock)
        self._snapshot = store.dream_snapshot_path(plan.dream.id)
        self._taking_snapshot: asyncio.Task[None] | None = None
        self._levels = neuromodulation.awake(plan.config.neuromodulation)
        self._observer.night_began(plan.dream)
        # From here on it can be woken, also before its task has begun.
        self._move(TRANSITIONING if plan.dream.phase == dream_pb2.DREAM_PHASE_REM else ENTERING_NREM)

    # ── waking ──────────────────────────────────────────────────────────────────

    def allow(self, resources: ResourcesConfig) -> None:
        """Says what it may take from now on; all else stays as it began."""
        if resources != self._plan.config.resources:
            config = DreamConfig()
            config.CopyFrom(self._plan.config)
            config.resources.CopyFrom(resources)
            self._plan = self._plan._replace(config=config)

    def wake(self, reason: WakeReason.ValueType) -> None:
        """Ends the dreaming as soon as can be; returns at once. `awake` is set when it is done."""
        if self._wake_reason or self.sleep_state in (AWAKE, WAKING):
            return
        self._wake_reason = reason
        self._wake_began_s = clock.precise_s()
        self._move(WAKING)
        self._stop_wanted.set()
        # One that is held could not hear it.
        self._let_go()
        budget_s = self._plan.config.resources.wake_latency_ms / 1000
        self._killer = asyncio.get_running_loop().call_later(budget_s * KILL_AT, self._kill)

    def _kill(self) -> None:
        if self._process is not None and not self.awake.is_set():
            self._killed = True
            self._process.kill()
            logger.warning(
                "the dreamer of dream %s did not stop within %g ms of its wake, and was killed",
                self.dream.id,
                self._plan.config.resources.wake_latency_ms * KILL_AT,
            )
            # The system may take its time to bury a large process on a busy machine; nobody waits for the funeral.
            self._dead.set()

    def neuromodulators(self) -> Neuromodulators:
        """The levels of this moment."""
        return neuromodulation.levels_at(self._levels, clock.precise_s(), self._plan.config.neuromodulation)

    def _awake(self) -> None:
        if self._killer is not None:
            self._killer.cancel()
        if self._wake_reason:
            latency_ms = (clock.precise_s() - self._wake_began_s) * 1000
            self.woken = Woken(latency_ms, self._killed, self._wake_reason)
            report = self.dream.report
            report.wakes += 1
            report.wake_latency_ms = latency_ms
            report.last_wake_reason = self._wake_reason
            self._on_wake(self.woken)
            self._move(AWAKE, latency_ms)
        else:
            self._wake_reason = dream_pb2.WAKE_REASON_CYCLE_COMPLETE
            if self.dream.end_reason == dream_pb2.END_REASON_FAILED:
                self._wake_reason = dream_pb2.WAKE_REASON_ERROR
            self._move(WAKING)
            self._move(AWAKE)
        self.awake.set()

    def _move(self, wanted: dream_pb2.SleepState.ValueType, latency_ms: float = 0.0) -> None:
        before, self.sleep_state = self.sleep_state, follow(self.sleep_state, wanted)
        self._levels = neuromodulation.moved(self._levels, wanted, clock.precise_s(), self._plan.config.neuromodulation)
        change = StateChange(to=wanted, wake_latency_ms=latency_ms)
        if wanted in (WAKING, AWAKE):
            change.wake_reason = self._wake_reason
        setattr(change, "from", before)
        self._events.state_changed(wanted, self.dream, change)
        self._observer.night_moved(self.dream, wanted)

    # ── the night ───────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Never raises: how it went is in the dream."""
        try:
            self._wake_up(await self._sleep())
            await self._intake.staged()
            if self.dream.state == Dream.STATE_FOLDING:
                await self._ending.keep(self._intake.parts, self._snapshot)
            else:
                await self._ending.settle()
        except Exception as error:
            logger.exception("dream %s failed", self.dream.id)
            await self._intake.given_up()
            await self._ending.fail(error)
        finally:
            if not self.awake.is_set():
                self._awake()
            if self._taking_snapshot is not None:
                await asyncio.wait({self._taking_snapshot})
            if self.dream.state != Dream.STATE_SUSPENDED:
                await asyncio.to_thread(snapshot_files.remove, self._snapshot)
            if self._plan.change is not None and self.dream.state != Dream.STATE_FAILED:
                # Its snapshot is from its beginning.
                self.looked_s = self._clock.monotonic()
                with contextlib.suppress(DreamsvcError):
                    self.seen = await seen_by(self._plan.change, self.dream.space, self._store, self._journal)
            self._events.ended(self.sleep_state, self.dream)
            self.over.set()

    async def _sleep(self) -> Ended:
        """Dreams until the dreamer says how it ended, or does not exist any more."""
        if not self._snapshot.exists():
            self._taking_snapshot = asyncio.create_task(self._take_snapshot())
            # Shielded: a wake leaves it to end by itself, and `run` waits for that.
            await self._unless_woken(asyncio.shield(self._taking_snapshot))
        if self._wake_reason:
            return Ended(reason=dream_pb2.END_REASON_ABORTED)
        return await self._recovery.dreaming(
            self._attempt,
            reached=lambda: self._intake.checkpoint,
            prepared=lambda: self._conversation is not None and self._conversation.was_ready,
            pause=self._pause,
            renew=self._renew,
        )

    async def _attempt(self) -> Ended:
        """Dreams on from the last checkpoint."""
        self._intake.begin()
        while True:
            if self._wake_reason:
                return Ended(reason=dream_pb2.END_REASON_ABORTED)
            lease = asyncio.ensure_future(self._dreamers.lease(self._plan.config.resources))
            try:
                process = await self._unless_woken(lease)
            except DreamFailed as error:
                return Ended(reason=dream_pb2.END_REASON_FAILED, message=error.message, error_reason=error.reason)
            if process is None:
                return Ended(reason=dream_pb2.END_REASON_ABORTED)
            if self._renews:
                # One from before the error, which was kept warm.
                self._renews = False
                if process.was_warm:
                    process.kill()
                    self._dreamers.give_back(process, self._plan.config.resources)
                    continue
            ended = await self._dream_with(process)
            if ended is not None:
                return ended
            logger.info("the dreamer that was warm had just ended; another one dreams dream %s", self.dream.id)

    async def _dream_with(self, process: Process) -> Ended | None:
        """How it ended; None where a warm process was gone before it said anything."""
        self._process = process
        talk = Conversation(process, self._hear, self._limits(process), stop=self._stop_wanted, dead=self._dead)
        self._conversation = talk
        leash = self._leash = Leash(
            self.dream,
            talk,
            changed=lambda: self._events.progressed(self.sleep_state, self.dream),
            give_way=lambda: self.wake(dream_pb2.WAKE_REASON_RESOURCE_PRESSURE),
            kill=process.kill,
        )
        with self._governor.governing(leash, process.meter, was_warm=process.was_warm) as self._let_go:
            try:
                ended = await talk.run(self._start(), self._intake.parts)
            except Exception:
                # What it said makes no sense, or could not be kept: nobody talks to it again.
                process.kill()
                raise
            finally:
                self._process = None
                self.dream.progress.paused = ""
                if self._wake_reason and leash.on_gpu:
                    # Whoever woke it may need the device, whose memory a process gives back with its end alone.
                    process.kill()
                self._dreamers.give_back(process, self._plan.config.resources)
        if leash.why_killed and ended.reason == dream_pb2.END_REASON_FAILED:
            # Another try of the same would take as much.
            self._recovery.leave_out_next()
            return Ended(
                reason=ended.reason,
                message=leash.why_killed,
                unrecoverable=not talk.was_ready,
                error_reason=error_reason_pb2.ERROR_REASON_DREAM_RESOURCE,
            )
        failed = ended.reason == dream_pb2.END_REASON_FAILED
        return None if failed and process.was_warm and not process.alive and not talk.heard else ended

    def _limits(self, process: Process) -> Limits:
        config = self._plan.config
        # It may be held while it prepares.
        start_s = self._governor.within_s(config.resources.dreamer_start_seconds, process.meter)
        silence_s = config.fault.silence_seconds
        return Limits(start_s, silence_s, self._budget_left_s() + silence_s)

    def _budget_left_s(self) -> float:
        checkpoint = self._intake.checkpoint
        spent = checkpoint.tally.seconds if checkpoint else 0.0
        # Whatever a dreamer says that it took.
        return min(self.dream.budget_seconds, max(0.0, self.dream.budget_seconds - spent))

    async def _pause(self, seconds: float) -> None:
        """Waits, unless a wake comes first."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop_wanted.wait(), seconds)

    def _renew(self) -> None:
        self._renews = True

    async def _take_snapshot(self) -> None:
        seq, arrays = await asyncio.to_thread(self._store.dream_snapshot, self.dream.space)
        await asyncio.to_thread(snapshot_files.write, self._snapshot, seq, arrays)

    async def _unless_woken[T](self, work: "asyncio.Future[T]") -> T | None:
        """The result of some work, or None where a wake comes first; the work is then left to itself."""
        stop = asyncio.ensure_future(self._stop_wanted.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            work.cancel()
            return None
        finally:
            stop.cancel()

    def _start(self) -> Start:
        return Start(
            dream_id=self.dream.id,
            phase=self.dream.phase,
            seed=self.dream.seed,
            budget_seconds=self._budget_left_s(),
            snapshot=str(self._snapshot),
            config=self._plan.config,
            now_us=self._plan.now_us,
            checkpoint=self._intake.checkpoint,
            staged_parts=len(self._intake.parts),
            recall=self._plan.recall,
            left_out=self._recovery.left_out,
            leave_out_replay=self._recovery.leaves_out_replay,
            traceparent=self._observer.traceparent(self.dream),
            allowance=self._governor.first_allowance(),
        )

    def _hear(self, message: RunDreamResponse) -> Ended | None:
        """Takes news in; raises DreamFailed for nonsense."""
        return self._intake.hear(
            message, ready=self._ready, progressed=self._progressed, may_give_up=bool(self._wake_reason)
        )

    def _ready(self) -> None:
        # One that goes on after an error is where it was.
        if not self._wake_reason and self.sleep_state not in (NREM, REM):
            self._move(REM if self.sleep_state == TRANSITIONING else NREM)

    def _progressed(self, told: StepProgress) -> None:
        if told.progress.phase == dream_pb2.DREAM_PHASE_REM and self.sleep_state == NREM:
            self._move(TRANSITIONING)
            self._move(REM)
        self.dream.progress.paused = self._leash.why_paused if self._leash is not None else ""
        self._events.progressed(self.sleep_state, self.dream)

    def _wake_up(self, ended: Ended) -> None:
        """Puts the outcome into the dream and is awake; writing it down comes after that."""
        self._ending.decide(ended, discard=self.discard)
        self._awake()


def _nothing() -> None:
    """No dreamer is to be let go."""
