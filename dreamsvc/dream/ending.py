"""What becomes of a night that is over: kept, kept for later, proposed, dropped; the space is awake by then."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from dreamsvc import errors, snapshot_files
from dreamsvc.clock import Clock, to_timestamp
from dreamsvc.dream import outcome
from dreamsvc.dream.recovery import Recovery
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Ended
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.errors import DreamFailed, DreamsvcError
from dreamsvc.memory import operations
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.memory.store import Store
from dreamsvc.v1 import dream_pb2, error_reason_pb2
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import Dream, EndReason
from dreamsvc.v1.error_reason_pb2 import ErrorReason

logger = logging.getLogger(__name__)
UNKNOWN = error_reason_pb2.ERROR_REASON_UNSPECIFIED
NOTHING = {
    dream_pb2.DREAM_PHASE_NREM: "no memory is due for replay, and nothing could be merged",
    dream_pb2.DREAM_PHASE_REM: "there are not two memories to explore between, or nothing was found to link",
    dream_pb2.DREAM_PHASE_FULL_CYCLE: "no memory is due for replay, and nothing could be merged or explored",
}


class Ending:
    """One for a night."""

    def __init__(
        self,
        dream: Dream,
        config: DreamConfig,
        change: ChangeId | None,
        store: Store,
        journal: Journal,
        recovery: Recovery,
        clock: Clock,
    ) -> None:
        """change: None for a dry run, which has no row."""
        self._dream = dream
        self._config = config
        self._change = change
        self._store = store
        self._journal = journal
        self._recovery = recovery
        self._clock = clock
        self._sealed = False

    def decide(self, ended: Ended, *, discard: bool) -> None:
        """Puts how it ended, and what becomes of it, into the dream."""
        dream = self._dream
        dream.end_reason = ended.reason
        dream.message = ended.message
        match ended.reason:
            case dream_pb2.END_REASON_ABORTED if not discard:
                dream.state = Dream.STATE_SUSPENDED
                dream.message = "woken; the next trigger goes on from its checkpoint"
            case dream_pb2.END_REASON_ABORTED | dream_pb2.END_REASON_CONVERGED | dream_pb2.END_REASON_BUDGET if discard:
                # Also where it came to its end in this very moment.
                dream.end_reason = dream_pb2.END_REASON_ABORTED
                dream.state = Dream.STATE_DISCARDED
                dream.message = "given up on request; nothing of it was applied"
            case dream_pb2.END_REASON_NOTHING_TO_DO:
                dream.state = Dream.STATE_SKIPPED
                dream.message = NOTHING[dream.phase]
            case dream_pb2.END_REASON_CONVERGED | dream_pb2.END_REASON_BUDGET:
                dream.state = Dream.STATE_FOLDING
                dream.progress.fraction = 1.0
                dream.progress.eta_seconds = 0.0
            case _:
                dream.state = Dream.STATE_FAILED
        if dream.dry_run and dream.state == Dream.STATE_SUSPENDED:
            dream.state = Dream.STATE_DISCARDED
            dream.message = "woken; a dry run is not kept"
        dream.error_reason = self._reason(ended.error_reason)
        if dream.state != Dream.STATE_FOLDING:
            dream.end_time.CopyFrom(to_timestamp(self._clock.now_us()))

    def _reason(self, told: ErrorReason.ValueType) -> ErrorReason.ValueType:
        """By the catalogue of errors (REQ-DREAM-032); told: what is known of a failure, or unspecified."""
        match self._dream.state:
            case Dream.STATE_SUSPENDED | Dream.STATE_DISCARDED:
                return error_reason_pb2.ERROR_REASON_DREAM_ABORTED
            case Dream.STATE_FAILED if told:
                return told
            case Dream.STATE_FAILED if self._dream.progress.phase == dream_pb2.DREAM_PHASE_REM:
                return error_reason_pb2.ERROR_REASON_DREAM_EXPLORATION
            case Dream.STATE_FAILED:
                return error_reason_pb2.ERROR_REASON_DREAM_CONSOLIDATION
            case _:
                return UNKNOWN

    async def settle(self) -> None:
        """Writes down a dream that goes no further now; one that was neither kept nor sealed is dropped."""
        if self._change is None:
            return
        if self._dream.state == Dream.STATE_SUSPENDED or self._sealed:
            await asyncio.wrap_future(self._journal.record(self._change, self._dream))
        else:
            await asyncio.wrap_future(self._journal.drop_dream(self._change, self._dream))

    async def keep(self, told: Sequence[Operations], snapshot: Path) -> None:
        """Seals and folds, then reads back what was done. told: its whole journal, which a dry run only looks at."""
        dream = self._dream
        if self._change is None:
            parts = operations.coalesce(told)
            dream.report.journal_digest = operations.journal_digest(parts)
            dream.report.operations = operations.size(parts)
            _foresee(dream, parts, snapshot)
            await outcome.assess(self._journal, dream, self._config)
        else:
            self._require_allowed_loss()
            sealed = await asyncio.to_thread(self._journal.compact, self._change)
            dream.report.journal_digest, dream.report.operations = sealed.digest, sealed.operations
            await outcome.note_size(self._journal, dream)
            if dream.propose:
                await self._propose(self._change)
                return
            await asyncio.wrap_future(self._journal.seal_dream(self._change, dream))
            self._sealed = True
            await outcome.fold(self._store, self._journal, self._change, dream, self._recovery)
            await outcome.assess(self._journal, dream, self._config)
        dream.state = Dream.STATE_SUCCEEDED
        dream.end_time.CopyFrom(to_timestamp(self._clock.now_us()))
        if self._change is not None:
            await asyncio.wrap_future(self._journal.record(self._change, dream))

    async def fail(self, error: Exception) -> None:
        """Something went wrong on the way to its end; never raises."""
        known = isinstance(error, DreamsvcError)
        why = error.message if known else errors.told(error)
        if self._sealed:
            # It will be applied, at the latest by the next trigger or start.
            self._dream.message = f"sealed, and not yet applied: {why}"
        else:
            self._dream.state = Dream.STATE_FAILED
            self._dream.end_reason = EndReason.END_REASON_FAILED
            self._dream.error_reason = self._reason(error.reason if known else UNKNOWN)
            self._dream.message = why
            self._dream.end_time.CopyFrom(to_timestamp(self._clock.now_us()))
        try:
            await self.settle()
        except DreamsvcError as refused:
            logger.warning("dream %s could not be written down: %s", self._dream.id, refused.message)

    def _require_allowed_loss(self) -> None:
        """The dreamer holds the gate; here it is only checked that it did (REQ-DREAM-022)."""
        compression = self._dream.report.compression
        retention = compression.retention
        most = self._config.quality.max_information_loss
        merged = sum(stage.containers for stage in compression.merging)
        if retention.measured and merged and not retention.refused and retention.loss_high > most:
            raise DreamFailed(
                error_reason_pb2.ERROR_REASON_DREAM_CONSOLIDATION,
                f"the night may lose {retention.loss_high:.1%} of what is found, more than the {most:.1%} allowed",
            )

    async def _propose(self, change: ChangeId) -> None:
        """Waits for somebody's word with everything ready to be applied."""
        await outcome.assess(self._journal, self._dream, self._config)
        self._dream.state = Dream.STATE_PROPOSED
        self._dream.message = "waits for ApproveDream or RejectDream; nothing of it is applied"
        self._dream.end_time.CopyFrom(to_timestamp(self._clock.now_us()))
        await asyncio.wrap_future(self._journal.propose_dream(change, self._dream))


def _foresee(dream: Dream, parts: Sequence[Operations], snapshot: Path) -> None:
    """What a dry run would have done, against the weights it read."""
    arrays = snapshot_files.read(snapshot) or {}
    outcome.show(dream, operations.foresee(parts, arrays["edge_ids"], arrays["weights"]))
