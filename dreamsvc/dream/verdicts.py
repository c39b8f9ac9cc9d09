"""What people decide about dreams that are over: a proposal is applied or given up, a night is taken back, its record
deleted."""

import asyncio

from dreamsvc import snapshot_files
from dreamsvc.clock import Clock
from dreamsvc.config import InForce
from dreamsvc.dream.nights import Nights
from dreamsvc.dream.records import Records
from dreamsvc.dream.seen import seen_by
from dreamsvc.dream.situations import Situations
from dreamsvc.errors import OnHold
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.store import Store
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import (
    ApproveDreamRequest,
    ApproveDreamResponse,
    DeleteDreamRequest,
    DeleteDreamResponse,
    RejectDreamRequest,
    RejectDreamResponse,
    RevertRequest,
    RevertResponse,
)


class Verdicts:
    """Carries them out, while nothing else of the space's dreams goes on."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        records: Records,
        nights: Nights,
        situations: Situations,
        config: InForce,
        clock: Clock,
    ) -> None:
        self._store = store
        self._journal = journal
        self._records = records
        self._nights = nights
        self._situations = situations
        self._config = config
        self._clock = clock

    async def revert(self, request: RevertRequest) -> RevertResponse:
        """Takes a dream back; raises NotFound, DreamInProgress, ChangedLater."""
        return await self._nights.alone(request.space, lambda: self._revert(request))

    async def _revert(self, request: RevertRequest) -> RevertResponse:
        answer, row = await asyncio.wrap_future(self._journal.begin_revert(request))
        if row is not None:
            return await self._records.take_back(row)
        answer.dream.CopyFrom(await self._dream(request.space, request.dream_id))
        return answer

    async def approve(self, request: ApproveDreamRequest) -> ApproveDreamResponse:
        """Applies a proposal; raises NotFound, DreamInProgress, ChangedLater where it does not wait."""
        return await self._nights.alone(request.space, lambda: self._approve(request))

    async def _approve(self, request: ApproveDreamRequest) -> ApproveDreamResponse:
        answer, row = await asyncio.wrap_future(self._journal.approve_dream(request))
        self._situations.note_decided(request.space, request.dream_id)
        if row is not None:
            await self._records.finish(row)
            answer.dream.CopyFrom(row.dream)
            looked_s = self._clock.monotonic()
            seen = await seen_by(row.change, request.space, self._store, self._journal)
            self._situations.note_end(request.space, looked_s, seen, failed=False)
        else:
            answer.dream.CopyFrom(await self._dream(request.space, request.dream_id))
        return answer

    async def reject(self, request: RejectDreamRequest) -> RejectDreamResponse:
        """Gives a proposal up; raises NotFound, DreamInProgress, ChangedLater where it does not wait."""
        return await self._nights.alone(request.space, lambda: self._reject(request))

    async def _reject(self, request: RejectDreamRequest) -> RejectDreamResponse:
        answer = await asyncio.wrap_future(self._journal.reject_dream(request))
        self._situations.note_decided(request.space, request.dream_id)
        await asyncio.to_thread(snapshot_files.remove, self._store.dream_snapshot_path(answer.dream.id))
        return answer

    async def delete(self, request: DeleteDreamRequest) -> DeleteDreamResponse:
        """Deletes the record of a dream; raises NotFound, DreamInProgress, DreamKept, OnHold."""
        if request.space in self._config.dream.hold_spaces:
            raise OnHold(request.space)
        return await self._nights.alone(request.space, lambda: self._delete(request))

    async def _delete(self, request: DeleteDreamRequest) -> DeleteDreamResponse:
        return await asyncio.wrap_future(self._journal.delete_dream(request))

    async def _dream(self, space: str, dream_id: str) -> Dream:
        return (await asyncio.to_thread(self._journal.dream, space, dream_id)).dream
