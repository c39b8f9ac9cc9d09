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
from pathlib import Path
from typing import NamedTuple

from dreamsvc import clock, snapshot_files
from dreamsvc.clock import Clock, to_timestamp
from dreamsvc.dream import neuromodulation, outcome
from dreamsvc.dream.conversation import Conversation, Limits, Process, Source
from dreamsvc.dream.recovery import Recovery
from dreamsvc.dream.state import AWAKE, ENTERING_NREM, NREM, REM, TRANSITIONING, WAKING, follow
from dreamsvc.dream.watch import Events
from dreamsvc.dreamer.v1.dreamer_service_pb2 import (
    Checkpoint,
    Ended,
    RunDreamResponse,
    Start,
    Tally,
)
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.errors import DreamFailed, DreamsvcError
from dreamsvc.memory import operations, soundness
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.memory.store import Store
from dreamsvc.v1 import dream_pb2, error_reason_pb2
from dreamsvc.v1.config_pb2 import DreamConfig, RecallConfig
from dreamsvc.v1.dream_pb2 import Dream, EndReason, Neuromodulators, WakeReason
from dreamsvc.v1.dream_service_pb2 import StateChange

logger = logging.getLogger(__name__)
# Of the wake budget, what is left for killing and reaping a dreamer that did not answer.
KILL_AT = 0.85
NOTHING = {
    dream_pb2.DREAM_PHASE_NREM: "no memory is due for replay, and nothing could be merged",
    dream_pb2.DREAM_PHASE_REM: "there are not two memories to explore between, or nothing was found to link",
    dream_pb2.DREAM_PHASE_FULL_CYCLE: "no memory is due for replay, and nothing could be merged or explored",
}


class Woken(NamedTuple):
    """How a wake went."""

    latency_ms: float
    killed: bool


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
    ) -> None:
        self.dream = plan.dream
        self.sleep_state = AWAKE
        self.awake = asyncio.Event()
        self.over = asyncio.Event()
        self.discard = False
        self.woken: Woken | None = None
        # Once it is over: nothing is left to dream of, since it came to an end and users had changed nothing meanwhile,
        # when it was looked (by the monotonic clock).
        self.all_dreamt = False
        self.looked_s = 0.0
        self._plan = plan
        self._store = store
        self._journal = journal
        self._dreamers = dreamers
        self._events = events
        self._clock = clock
        self._on_wake = on_wake
        self._wake_reason: WakeReason.ValueType = dream_pb2.WAKE_REASON_UNSPECIFIED
        self._wake_began_s = 0.0
        self._stop_wanted = asyncio.Event()
        self._killer: asyncio.TimerHandle | None = None
        self._killed = False
        self._dead = asyncio.Event()
        self._process: Process | None = None
        self._conversation: Conversation | None = None
        self._recovery = Recovery(plan.dream, plan.config.fault)
        self._renews = False
        # Where it would go on from, with the parts that lead up to it.
        self._checkpoint = plan.checkpoint
        self._parts: list[Operations] = list(plan.staged)
        self._pending: list[Operations] = []
        # The last commit of parts that is under way, each after the one before it.
        self._staging: asyncio.Task[None] | None = None
        self._sealed = False
        self._snapshot = store.dream_snapshot_path(plan.dream.id)
        self._taking_snapshot: asyncio.Task[None] | None = None
        self._levels = neuromodulation.awake(plan.config.neuromodulation)
        # From here on it can be woken, also before its task has begun.
        self._move(TRANSITIONING if plan.dream.phase == dream_pb2.DREAM_PHASE_REM else ENTERING_NREM)

    # ── waking ──────────────────────────────────────────────────────────────────

    def wake(self, reason: WakeReason.ValueType) -> None:
        """Ends the dreaming as soon as can be; returns at once. `awake` is set when it is done."""
        if self._wake_reason or self.sleep_state in (AWAKE, WAKING):
            return
        self._wake_reason = reason
        self._wake_began_s = clock.precise_s()
        self._move(WAKING)
        self._stop_wanted.set()
        budget_s = self._plan.config.resources.wake_latency_ms / 1000
        self._killer = asyncio.get_running_loop().call_later(budget_s * KILL_AT, self._kill)

    def _kill(self) -> None:
        if self._process is not None and not self.awake.is_set():
            self._killed = True
            self._process.kill()
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
            self.woken = Woken(latency_ms, self._killed)
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

    # ── the night ───────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Never raises: how it went is in the dream."""
        try:
            self._wake_up(await self._sleep())
            await self._staged()
            if self.dream.state == Dream.STATE_FOLDING:
                await self._keep()
            else:
                await self._settle()
        except Exception as error:
            logger.exception("dream %s failed", self.dream.id)
            await self._fail(error.message if isinstance(error, DreamsvcError) else f"{type(error).__name__}: {error}")
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
                    self.all_dreamt = not await asyncio.wrap_future(self._journal.changed_since(self._plan.change))
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
            reached=lambda: self._checkpoint,
            prepared=lambda: self._conversation is not None and self._conversation.was_ready,
            pause=self._pause,
            renew=self._renew,
        )

    async def _attempt(self) -> Ended:
        """Dreams on from the last checkpoint."""
        self._pending = []
        while True:
            if self._wake_reason:
                return Ended(reason=dream_pb2.END_REASON_ABORTED)
            lease = asyncio.ensure_future(self._dreamers.lease(self._plan.config.resources))
            try:
                process = await self._unless_woken(lease)
            except DreamFailed as error:
                return Ended(reason=dream_pb2.END_REASON_FAILED, message=error.message)
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
        talk = Conversation(process, self._hear, self._limits(), stop=self._stop_wanted, dead=self._dead)
        self._conversation = talk
        try:
            ended = await talk.run(self._start(), self._parts)
        except Exception:
            # What it said makes no sense, or could not be kept: nobody talks to it again.
            process.kill()
            raise
        finally:
            self._process = None
            self._dreamers.give_back(process, self._plan.config.resources)
        failed = ended.reason == dream_pb2.END_REASON_FAILED
        return None if failed and process.was_warm and not process.alive and not talk.heard else ended

    def _limits(self) -> Limits:
        config = self._plan.config
        silence_s = config.fault.silence_seconds
        return Limits(config.resources.dreamer_start_seconds, silence_s, self._budget_left_s() + silence_s)

    def _budget_left_s(self) -> float:
        spent = self._checkpoint.tally.seconds if self._checkpoint else 0.0
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
            checkpoint=self._checkpoint,
            staged_parts=len(self._parts),
            recall=self._plan.recall,
            left_out=self._recovery.left_out,
            leave_out_replay=self._recovery.leaves_out_replay,
        )

    def _hear(self, message: RunDreamResponse) -> Ended | None:
        """Takes news in; raises DreamFailed for nonsense."""
        match message.WhichOneof("message"):
            case "ready":
                report = self.dream.report
                report.device = message.ready.device
                report.nodes, report.edges = message.ready.nodes, message.ready.edges
                report.nodes_eligible = message.ready.nodes_eligible
                # One that goes on after an error is where it was.
                if not self._wake_reason and self.sleep_state not in (NREM, REM):
                    self._move(REM if self.sleep_state == TRANSITIONING else NREM)
            case "progress":
                self.dream.progress.CopyFrom(message.progress.progress)
                if message.progress.progress.phase == dream_pb2.DREAM_PHASE_REM and self.sleep_state == NREM:
                    self._move(TRANSITIONING)
                    self._move(REM)
                self._count(message.progress.tally)
                self._events.progressed(self.sleep_state, self.dream)
            case "operations":
                self._require_next(message.operations)
                self._pending.append(message.operations)
            case "checkpoint":
                self._count(message.checkpoint.tally)
                if message.checkpoint.HasField("compression"):
                    self.dream.report.compression.CopyFrom(message.checkpoint.compression)
                if message.checkpoint.HasField("exploration"):
                    self.dream.report.exploration.CopyFrom(message.checkpoint.exploration)
                self._stage(message.checkpoint)
            case "ended":
                if message.ended.HasField("tally"):
                    self._count(message.ended.tally)
                if message.ended.HasField("compression"):
                    self.dream.report.compression.CopyFrom(message.ended.compression)
                if message.ended.HasField("exploration"):
                    self.dream.report.exploration.CopyFrom(message.ended.exploration)
                return self._sensible(message.ended)
            case _:
                raise _nonsense("a message without content")
        return None

    def _sensible(self, ended: Ended) -> Ended:
        """A last word that says what it must; raises DreamFailed for a reason that there is not."""
        if ended.reason == dream_pb2.END_REASON_ABORTED and not self._wake_reason:
            return Ended(reason=dream_pb2.END_REASON_FAILED, message="the dreamer gave up, and nobody had told it to")
        if ended.reason == dream_pb2.END_REASON_FAILED and not ended.message:
            ended.message = "the dreamer failed and does not say why"
        if not ended.reason or ended.reason not in EndReason.values():
            raise _nonsense(f"an end for reason {ended.reason}")
        return ended

    def _require_next(self, part: Operations) -> None:
        soundness.require_sound(part)
        wanted = len(self._parts) + len(self._pending)
        if part.part != wanted:
            raise _nonsense(f"part {part.part} where part {wanted} was due")

    def _count(self, tally: Tally) -> None:
        report = self.dream.report
        report.nodes_replayed, report.replays = tally.nodes_replayed, tally.replays
        report.rounds = tally.rounds
        report.src_steps = tally.src_steps
        report.mean_activation = tally.mean_activation
        report.active_share = tally.active_share
        if tally.HasField("tuning"):
            report.tuning.CopyFrom(tally.tuning)
        report.seconds = tally.seconds
        report.busy_seconds = tally.busy_seconds
        report.busy_share = tally.busy_seconds / tally.seconds if tally.seconds > 0 else 0.0

    def _stage(self, checkpoint: Checkpoint) -> None:
        """Hands parts and checkpoint to the store and waits for nothing: a wake must not wait for the disk."""
        if checkpoint.seed != self.dream.seed or checkpoint.next_part != len(self._parts) + len(self._pending):
            raise _nonsense("a checkpoint of another dream, or of parts that did not come")
        parts, self._pending = self._pending, []
        self._parts += parts
        self._checkpoint = checkpoint
        if self._plan.change is None:
            return
        if self._staging is not None and self._staging.done():
            self._staging.result()
        commit = self._commit(self._staging, self._plan.change, parts, checkpoint, self._suspended_copy())
        self._staging = asyncio.create_task(commit)

    async def _commit(
        self,
        before: "asyncio.Task[None] | None",
        change: ChangeId,
        parts: Sequence[Operations],
        checkpoint: Checkpoint,
        dream: Dream,
    ) -> None:
        if before is not None:
            await before
        await self._recovery.writing(
            lambda: asyncio.wrap_future(self._journal.stage_dream(change, parts, checkpoint, dream))
        )

    async def _staged(self) -> None:
        """Waits until all that was staged is durable; raises what the store said."""
        if self._staging is not None:
            await self._staging
            self._staging = None

    def _suspended_copy(self) -> Dream:
        """The record as a crash right now would have to find it."""
        copy = Dream()
        copy.CopyFrom(self.dream)
        return copy

    # ── the end ─────────────────────────────────────────────────────────────────

    def _wake_up(self, ended: Ended) -> None:
        """Puts the outcome into the dream and is awake; writing it down comes after that."""
        self.dream.end_reason = ended.reason
        self.dream.message = ended.message
        match ended.reason:
            case dream_pb2.END_REASON_ABORTED if not self.discard:
                self.dream.state = Dream.STATE_SUSPENDED
                self.dream.message = "woken; the next trigger goes on from its checkpoint"
            case dream_pb2.END_REASON_ABORTED | dream_pb2.END_REASON_CONVERGED | dream_pb2.END_REASON_BUDGET if (
                self.discard
            ):
                # Also where it came to its end in this very moment.
                self.dream.end_reason = dream_pb2.END_REASON_ABORTED
                self.dream.state = Dream.STATE_DISCARDED
                self.dream.message = "given up on request; nothing of it was applied"
            case dream_pb2.END_REASON_NOTHING_TO_DO:
                self.dream.state = Dream.STATE_SKIPPED
                self.dream.message = NOTHING[self.dream.phase]
            case dream_pb2.END_REASON_CONVERGED | dream_pb2.END_REASON_BUDGET:
                self.dream.state = Dream.STATE_FOLDING
                self.dream.progress.fraction = 1.0
                self.dream.progress.eta_seconds = 0.0
            case _:
                self.dream.state = Dream.STATE_FAILED
        if self.dream.dry_run and self.dream.state == Dream.STATE_SUSPENDED:
            self.dream.state = Dream.STATE_DISCARDED
            self.dream.message = "woken; a dry run is not kept"
        if self.dream.state != Dream.STATE_FOLDING:
            self.dream.end_time.CopyFrom(to_timestamp(self._clock.now_us()))
        self._awake()

    async def _settle(self) -> None:
        """Writes down a dream that goes no further now; one that was neither kept nor sealed is dropped."""
        if self._plan.change is None:
            return
        if self.dream.state == Dream.STATE_SUSPENDED or self._sealed:
            await asyncio.wrap_future(self._journal.record(self._plan.change, self.dream))
        else:
            await asyncio.wrap_future(self._journal.drop_dream(self._plan.change, self.dream))

    async def _keep(self) -> None:
        """Seals and folds, then reads back what was done."""
        report = self.dream.report
        if self._plan.change is None:
            parts = operations.coalesce(self._parts)
            report.journal_digest = operations.journal_digest(parts)
            report.operations = operations.size(parts)
            self._foresee(parts)
            await outcome.assess(self._journal, self.dream, self._plan.config)
        else:
            self._require_allowed_loss()
            sealed = await asyncio.to_thread(self._journal.compact, self._plan.change)
            report.journal_digest, report.operations = sealed.digest, sealed.operations
            await outcome.note_size(self._journal, self.dream)
            if self.dream.propose:
                await self._propose(self._plan.change)
                return
            await asyncio.wrap_future(self._journal.seal_dream(self._plan.change, self.dream))
            self._sealed = True
            await outcome.fold(self._store, self._journal, self._plan.change, self.dream, self._recovery)
            await outcome.assess(self._journal, self.dream, self._plan.config)
        self.dream.state = Dream.STATE_SUCCEEDED
        self.dream.end_time.CopyFrom(to_timestamp(self._clock.now_us()))
        if self._plan.change is not None:
            await asyncio.wrap_future(self._journal.record(self._plan.change, self.dream))

    def _require_allowed_loss(self) -> None:
        """The dreamer holds the gate; here it is only checked that it did (REQ-DREAM-022)."""
        retention = self.dream.report.compression.retention
        most = self._plan.config.quality.max_information_loss
        merged = sum(stage.containers for stage in self.dream.report.compression.merging)
        if retention.measured and merged and not retention.refused and retention.loss_high > most:
            raise DreamFailed(
                error_reason_pb2.ERROR_REASON_DREAM_CONSOLIDATION,
                f"the night may lose {retention.loss_high:.1%} of what is found, more than the {most:.1%} allowed",
            )

    async def _propose(self, change: ChangeId) -> None:
        """Waits for somebody's word with everything ready to be applied."""
        await outcome.assess(self._journal, self.dream, self._plan.config)
        self.dream.state = Dream.STATE_PROPOSED
        self.dream.message = "waits for ApproveDream or RejectDream; nothing of it is applied"
        self.dream.end_time.CopyFrom(to_timestamp(self._clock.now_us()))
        await asyncio.wrap_future(self._journal.propose_dream(change, self.dream))

    def _foresee(self, parts: Sequence[Operations]) -> None:
        """What a dry run would have done, against the weights it read."""
        arrays = snapshot_files.read(Path(self._snapshot)) or {}
        foreseen = operations.foresee(parts, arrays["edge_ids"], arrays["weights"])
        outcome.show(self.dream, foreseen)

    async def _fail(self, why: str) -> None:
        if self._staging is not None:
            # What still comes must not come after it was given up.
            await asyncio.gather(self._staging, return_exceptions=True)
        if self._sealed:
            # It will be applied, at the latest by the next trigger or start.
            self.dream.message = f"sealed, and not yet applied: {why}"
        else:
            self.dream.state = Dream.STATE_FAILED
            self.dream.end_reason = EndReason.END_REASON_FAILED
            self.dream.message = why
            self.dream.end_time.CopyFrom(to_timestamp(self._clock.now_us()))
        try:
            await self._settle()
        except DreamsvcError as error:
            logger.warning("dream %s could not be written down: %s", self.dream.id, error.message)


def _nonsense(what: str) -> DreamFailed:
    return DreamFailed(error_reason_pb2.ERROR_REASON_DREAM_CHECKPOINT, f"the dreamer talks nonsense: {what}")
