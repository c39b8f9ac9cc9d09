"""Takes in what a dreamer tells: counts into the dream, operations and their checkpoint into the store."""

import asyncio
from collections.abc import Callable, Sequence

from dreamsvc.dream import outcome
from dreamsvc.dream.recovery import Recovery
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint, Ended, Ready, RunDreamResponse, StepProgress, Tally
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.errors import DreamFailed
from dreamsvc.memory import soundness
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.v1 import dream_pb2, error_reason_pb2
from dreamsvc.v1.dream_pb2 import Dream, EndReason
from dreamsvc.v1.error_reason_pb2 import ErrorReason


class Intake:
    """One for a night; owns the checkpoint that it would go on from, and the parts that lead up to it."""

    def __init__(
        self,
        dream: Dream,
        journal: Journal,
        change: ChangeId | None,
        recovery: Recovery,
        kept: Callable[[], None],
        *,
        checkpoint: Checkpoint | None,
        staged: Sequence[Operations],
    ) -> None:
        """change: None for a dry run, of which nothing is written down. kept: called for each checkpoint that is."""
        self.checkpoint = checkpoint
        self.parts: list[Operations] = list(staged)
        self._dream = dream
        self._journal = journal
        self._change = change
        self._recovery = recovery
        self._kept = kept
        # Told since the checkpoint.
        self._pending: list[Operations] = []
        # The last commit of parts that is under way, each after the one before it.
        self._staging: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """A dreamer goes on from the checkpoint: what another one told after it is void."""
        self._pending = []

    def hear(
        self,
        message: RunDreamResponse,
        *,
        ready: Callable[[], None],
        progressed: Callable[[StepProgress], None],
        may_give_up: bool,
    ) -> Ended | None:
        """Takes news in, and gives the last word if it is that; raises DreamFailed for nonsense."""
        match message.WhichOneof("message"):
            case "ready":
                self._note_ready(message.ready)
                ready()
            case "progress":
                self._dream.progress.CopyFrom(message.progress.progress)
                self._count(message.progress.tally)
                progressed(message.progress)
            case "operations":
                self._require_next(message.operations)
                self._pending.append(message.operations)
            case "checkpoint":
                self._count(message.checkpoint.tally)
                self._note_found(message.checkpoint)
                self._stage(message.checkpoint)
            case "ended":
                if message.ended.HasField("tally"):
                    self._count(message.ended.tally)
                self._note_found(message.ended)
                return _sensible(message.ended, may_give_up=may_give_up)
            case _:
                raise nonsense("a message without content")
        return None

    async def staged(self) -> None:
        """Waits until all that was staged is durable; raises what the store said."""
        if self._staging is not None:
            await self._staging
            self._staging = None

    async def given_up(self) -> None:
        """Waits until nothing comes any more: what still comes must not come after the dream was given up."""
        if self._staging is not None:
            await asyncio.gather(self._staging, return_exceptions=True)

    def _note_ready(self, ready: Ready) -> None:
        report = self._dream.report
        report.device = ready.device
        report.nodes, report.edges = ready.nodes, ready.edges
        report.nodes_eligible = ready.nodes_eligible

    def _note_found(self, told: Checkpoint | Ended) -> None:
        if told.HasField("compression"):
            self._dream.report.compression.CopyFrom(told.compression)
        if told.HasField("exploration"):
            self._dream.report.exploration.CopyFrom(told.exploration)

    def _require_next(self, part: Operations) -> None:
        soundness.require_sound(part)
        wanted = len(self.parts) + len(self._pending)
        if part.part != wanted:
            raise nonsense(f"part {part.part} where part {wanted} was due")

    def _count(self, tally: Tally) -> None:
        report = self._dream.report
        report.nodes_replayed, report.replays = tally.nodes_replayed, tally.replays
        report.rounds = tally.rounds
        report.src_steps = tally.src_steps
        report.mean_activation = tally.mean_activation
        report.active_share = tally.active_share
        if tally.HasField("tuning"):
            report.tuning.CopyFrom(tally.tuning)
        report.seconds = tally.seconds
        outcome.note_phases(self._dream)
        report.busy_seconds = tally.busy_seconds
        report.busy_share = tally.busy_seconds / tally.seconds if tally.seconds > 0 else 0.0

    def _stage(self, checkpoint: Checkpoint) -> None:
        """Hands parts and checkpoint to the store and waits for nothing: a wake must not wait for the disk."""
        if checkpoint.seed != self._dream.seed or checkpoint.next_part != len(self.parts) + len(self._pending):
            raise nonsense("a checkpoint of another dream, or of parts that did not come")
        parts, self._pending = self._pending, []
        self.parts += parts
        self.checkpoint = checkpoint
        if self._change is None:
            return
        if self._staging is not None and self._staging.done():
            self._staging.result()
        # The record as a crash right now would have to find it.
        dream = Dream()
        dream.CopyFrom(self._dream)
        self._staging = asyncio.create_task(self._commit(self._staging, self._change, parts, checkpoint, dream))

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
        self._kept()


def _sensible(ended: Ended, *, may_give_up: bool) -> Ended:
    """A last word that says what it must; raises DreamFailed for a reason that there is not."""
    if ended.reason == dream_pb2.END_REASON_ABORTED and not may_give_up:
        return Ended(reason=dream_pb2.END_REASON_FAILED, message="the dreamer gave up, and nobody had told it to")
    if ended.reason == dream_pb2.END_REASON_FAILED and not ended.message:
        ended.message = "the dreamer failed and does not say why"
    if not ended.reason or ended.reason not in EndReason.values():
        raise nonsense(f"an end for reason {ended.reason}")
    if ended.error_reason not in ErrorReason.values():
        raise nonsense(f"an error for reason {ended.error_reason}")
    return ended


def nonsense(what: str) -> DreamFailed:
    return DreamFailed(error_reason_pb2.ERROR_REASON_DREAM_CHECKPOINT, f"the dreamer talks nonsense: {what}")
