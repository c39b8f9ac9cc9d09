"""Dreams while no night runs them: how they begin, go on, are given up, and what a crash left of them."""

import asyncio
import logging
from typing import NamedTuple

from google.protobuf.message import DecodeError

from dreamsvc import entropy, snapshot_files
from dreamsvc.clock import Clock, to_timestamp
from dreamsvc.config import InForce
from dreamsvc.dream import outcome
from dreamsvc.dream.account import Account
from dreamsvc.dream.night import Plan
from dreamsvc.dream.policies import Policies
from dreamsvc.dream.recovery import Recovery
from dreamsvc.dream.scaling import scaled
from dreamsvc.errors import StoreCorrupt, StoreUnavailable
from dreamsvc.memory.dreams import DreamRow
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.store import Store
from dreamsvc.v1 import dream_pb2, error_reason_pb2
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import RevertResponse, TriggerRequest, TriggerResponse
from dreamsvc.v1.error_reason_pb2 import ErrorReason

logger = logging.getLogger(__name__)
# An interrupted dream is given up when more than this share of its memories and edges changed since.
MOST_CHANGED = 0.1


class Begin(NamedTuple):
    response: TriggerResponse
    plan: Plan | None  # None where the request id is known


class Records:
    """The durable side of a dream's life, before, between and after its nights."""

    def __init__(self, store: Store, journal: Journal, config: InForce, policies: Policies, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._config = config
        self._policies = policies
        self._clock = clock

    async def recover(self) -> None:
        """Sealed work is folded to its end, an interrupted dream can be resumed, an unsealed import never happened.

        One line of the log tells of it. What is damaged of one dream or import is in the way of nothing else, and on a
        full disk all of it waits for the next trigger or start: reads do not.
        """
        account = Account()
        rows, imports = await asyncio.to_thread(self._journal.unfinished)
        waiting: set[str] = set()
        for row in rows:
            try:
                deed = await self._recover_dream(row)
            except (StoreCorrupt, StoreUnavailable) as error:
                deed = "left"
                if isinstance(error, StoreUnavailable):
                    # It goes on once the disk takes its record.
                    waiting.add(row.dream.id)
                logger.error("dream %s could not be finished: %s", row.dream.id, error.message)
            account.note(deed)
            if deed == "resumable":
                waiting.add(row.dream.id)
        for change in imports:
            try:
                space = self._journal.space_name(change.space)
                while await asyncio.wrap_future(self._store.fold_next(change.id, space)) is not None:
                    pass
                account.note("import")
            except (StoreCorrupt, StoreUnavailable, DecodeError) as error:
                account.note("left")
                logger.error("the import of change %d could not be folded to its end: %s", change.id, error)
        for deed, drop in (
            ("unfinished", self._journal.drop_unsealed_imports),
            ("checkpoint", self._journal.drop_loose_checkpoints),
        ):
            try:
                account.note(deed, await asyncio.wrap_future(drop()))
            except (StoreCorrupt, StoreUnavailable) as error:
                account.note("left")
                logger.error("what was left of old changes could not be removed: %s", error.message)
        account.note("proposed", await asyncio.to_thread(self._journal.proposed))
        await asyncio.to_thread(self._store.keep_dream_snapshots, waiting)
        logger.info("%s", account.line(self._store))

    async def _recover_dream(self, row: DreamRow) -> str:
        """Brings a dream that a crash left to where it can stay; what was done. Raises StoreCorrupt."""
        dream = row.dream
        if dream.state == Dream.STATE_FOLDING:
            try:
                await self.finish(row)
            except (StoreCorrupt, DecodeError) as error:
                await self._undo(row, error.message if isinstance(error, StoreCorrupt) else str(error))
                return "failed"
            logger.info("dream %s was folded to its end", dream.id)
            return "folded"
        if dream.state == Dream.STATE_REVERTING:
            await self.take_back(row)
            logger.info("dream %s was taken back to its end", dream.id)
            return "reverted"
        unfit = await asyncio.to_thread(self._journal.why_not_resumable, row)
        if unfit:
            await self.give_up(row, unfit, error_reason_pb2.ERROR_REASON_DREAM_CHECKPOINT)
            return "dropped"
        if dream.state == Dream.STATE_RUNNING:
            dream.state = Dream.STATE_SUSPENDED
            dream.error_reason = error_reason_pb2.ERROR_REASON_DREAM_ABORTED
            dream.message = "the service ended while it dreamed; the next trigger goes on from its checkpoint"
            await asyncio.wrap_future(self._journal.record(row.change, dream))
            logger.info("dream %s was interrupted; it can be resumed", dream.id)
        return "resumable"

    async def _undo(self, row: DreamRow, why: str) -> None:
        """Takes a sealed dream back as far as it was applied: all of it or nothing. Raises StoreCorrupt."""
        dream = row.dream
        dream.state = Dream.STATE_REVERTING
        await asyncio.wrap_future(self._journal.begin_undo(row.change, dream))
        await self.take_back(row)
        dream.state = Dream.STATE_FAILED
        dream.end_reason = dream_pb2.END_REASON_FAILED
        dream.error_reason = error_reason_pb2.ERROR_REASON_STORE_CORRUPT
        dream.message = f"it could not be applied, and what had been was taken back: {why}"
        dream.end_time.CopyFrom(to_timestamp(self._clock.now_us()))
        await asyncio.wrap_future(self._journal.record(row.change, dream))
        await asyncio.to_thread(snapshot_files.remove, self._store.dream_snapshot_path(dream.id))
        logger.error("dream %s failed: %s", dream.id, dream.message)

    async def finish(self, row: DreamRow) -> None:
        """Folds a sealed dream that was interrupted after its seal."""
        recovery = Recovery(row.dream, self._config.dream.fault)
        await outcome.fold(self._store, self._journal, row.change, row.dream, recovery)
        await outcome.assess(self._journal, row.dream, row.config)
        row.dream.state = Dream.STATE_SUCCEEDED
        row.dream.message = ""
        row.dream.end_time.CopyFrom(to_timestamp(self._clock.now_us()))
        await asyncio.wrap_future(self._journal.record(row.change, row.dream))
        await asyncio.to_thread(snapshot_files.remove, self._store.dream_snapshot_path(row.dream.id))

    async def take_back(self, row: DreamRow) -> RevertResponse:
        """Takes a dream back whose reverting has begun."""
        answer = RevertResponse()
        while (part := await asyncio.wrap_future(self._store.revert_next(row.change, row.dream.space))) is not None:
            answer.edges_restored += part.edges
            answer.memories_restored += part.memories
            answer.memories_removed += part.memories_removed
            answer.edges_removed += part.edges_removed
        if answer.memories_removed:
            await asyncio.wrap_future(await asyncio.to_thread(self._store.settle, row.dream.space))
        row.dream.state = Dream.STATE_REVERTED
        row.dream.message = "taken back; the memory is as it was before it"
        await asyncio.wrap_future(self._journal.record(row.change, row.dream))
        answer.dream.CopyFrom(row.dream)
        return answer

    async def begin(self, request: TriggerRequest, triggered_by: dream_pb2.TriggeredBy.ValueType) -> Begin:
        """Writes down a new dream, or that the interrupted one goes on, where it still fits the store."""
        # A fold that broke off, e.g. because the disk was full: journals are applied in their order.
        folding = await asyncio.to_thread(self._journal.latest, request.space, [Dream.STATE_FOLDING])
        if folding is not None:
            # One that is damaged ends here: it must not be in the way of every dream after it.
            await self._recover_dream(folding)
        reverting = await asyncio.to_thread(self._journal.latest, request.space, [Dream.STATE_REVERTING])
        if reverting is not None:
            await self.take_back(reverting)
        old = await asyncio.to_thread(self._journal.resumable, request.space, MOST_CHANGED)
        if old is not None:
            dream = old.row.dream
            # What it does is part of the dream; what it may take is what is allowed now.
            config = old.row.config
            config.resources.CopyFrom(self._config.dream.resources)
            config.fault.CopyFrom(self._config.dream.fault)
            unfit, reason = old.unfit, error_reason_pb2.ERROR_REASON_DREAM_CHECKPOINT
            other_phase = request.phase not in (dream_pb2.DREAM_PHASE_UNSPECIFIED, dream.phase)
            if request.fresh or other_phase or (request.HasField("seed") and request.seed != dream.seed):
                unfit, reason = "a fresh dream was asked for", error_reason_pb2.ERROR_REASON_DREAM_ABORTED
            elif old.checkpoint or old.staged:
                unfit = unfit or await asyncio.to_thread(self._why_snapshot_unfit, dream.id)
            if not unfit:
                plan = Plan(
                    dream, config, old.row.now_us, old.row.change, old.checkpoint, old.staged, self._config.recall
                )
                return await self._resume(request, plan)
            await self.give_up(old.row, unfit, reason)
        now_us = self._clock.now_us()
        config = self._config_of(request)
        dream = self._new_dream(request, triggered_by, config, now_us)
        response, begun = await asyncio.wrap_future(self._journal.begin_dream(request, dream, config, now_us))
        if begun is None:
            return Begin(response, None)
        return Begin(response, Plan(dream, config, now_us, begun.change, None, [], self._config.recall))

    async def give_up(self, row: DreamRow, why: str, reason: ErrorReason.ValueType) -> None:
        """Drops an interrupted dream; nothing of it is applied."""
        dream = row.dream
        dream.state = Dream.STATE_DISCARDED
        dream.error_reason = reason
        dream.message = f"given up, nothing of it was applied: {why}"
        dream.end_time.CopyFrom(to_timestamp(self._clock.now_us()))
        await asyncio.wrap_future(self._journal.drop_dream(row.change, dream))
        await asyncio.to_thread(snapshot_files.remove, self._store.dream_snapshot_path(dream.id))
        logger.info("dream %s was %s", dream.id, dream.message)

    def _why_snapshot_unfit(self, dream_id: str) -> str:
        """Why a dream's snapshot cannot be gone on with, '' where it can."""
        path = self._store.dream_snapshot_path(dream_id)
        if not path.exists():
            return "its snapshot is gone"
        return "" if snapshot_files.read(path) is not None else "its snapshot is damaged"

    async def _resume(self, request: TriggerRequest, plan: Plan) -> Begin:
        assert plan.change is not None
        dream = plan.dream
        dream.state = Dream.STATE_RUNNING
        dream.end_reason = dream_pb2.END_REASON_UNSPECIFIED
        dream.error_reason = error_reason_pb2.ERROR_REASON_UNSPECIFIED
        dream.message = ""
        dream.ClearField("end_time")
        dream.abort_on_query = request.abort_on_query
        if request.HasField("budget"):
            dream.budget_seconds = request.budget.seconds + request.budget.nanos / 1e9
        dream.budget_seconds = min(dream.budget_seconds, longest_s(self._policies.config(dream.space)))
        response, ran = await asyncio.wrap_future(self._journal.resume_dream(request, plan.change, dream))
        return Begin(response, plan if ran else None)

    def begin_dry(self, request: TriggerRequest) -> Begin:
        """A dream without a row."""
        now_us = self._clock.now_us()
        config = self._config_of(request)
        dream = self._new_dream(request, dream_pb2.TRIGGERED_BY_REQUEST, config, now_us)
        plan = Plan(dream, config, now_us, None, None, [], self._config.recall)
        return Begin(TriggerResponse(dream=dream), plan)

    def _config_of(self, request: TriggerRequest) -> DreamConfig:
        """The configuration for a memory of this size, with what the request says otherwise."""
        sized = scaled(self._config.dream, self._store.graph(request.space).view.n)
        if not request.HasField("synthetic_query_count"):
            return sized
        config = DreamConfig()
        config.CopyFrom(sized)
        config.rem.synthetic_query_count = request.synthetic_query_count
        return config

    def _new_dream(
        self,
        request: TriggerRequest,
        triggered_by: dream_pb2.TriggeredBy.ValueType,
        config: DreamConfig,
        now_us: int,
    ) -> Dream:
        phase = request.phase or dream_pb2.DREAM_PHASE_FULL_CYCLE
        budget_s = phase_seconds(phase, config)
        if request.HasField("budget"):
            budget_s = request.budget.seconds + request.budget.nanos / 1e9
        return Dream(
            id=entropy.uuid7(now_us),
            space=request.space,
            phase=phase,
            state=Dream.STATE_RUNNING,
            triggered_by=triggered_by,
            seed=request.seed if request.HasField("seed") else entropy.seed(),
            budget_seconds=min(budget_s, longest_s(self._policies.config(request.space))),
            abort_on_query=request.abort_on_query,
            dry_run=request.dry_run,
            propose=request.propose if request.HasField("propose") else self._config.dream.propose,
            start_time=to_timestamp(now_us),
        )


def phase_seconds(phase: dream_pb2.DreamPhase.ValueType, config: DreamConfig) -> float:
    """The configured budget of a phase, of a full cycle that of both."""
    minutes = 0.0
    if phase != dream_pb2.DREAM_PHASE_REM:
        minutes += config.nrem.duration_minutes
    if phase != dream_pb2.DREAM_PHASE_NREM:
        minutes += config.rem.duration_minutes
    return minutes * 60


def longest_s(config: DreamConfig) -> float:
    """What a dream may take at most, all its pieces together."""
    return config.trigger.max_dream_minutes * 60
