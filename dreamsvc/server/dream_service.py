"""DreamService: messages in, messages out, one call down. Knows no transport."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

from dreamsvc import calling
from dreamsvc.config import InForce
from dreamsvc.dream.scheduler import Scheduler
from dreamsvc.dream.simulating import Simulating
from dreamsvc.dream.state import AWAKE
from dreamsvc.errors import TooManyWatchers
from dreamsvc.memory.embedding import TextEmbedding
from dreamsvc.memory.generating import Generating
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.store import Store
from dreamsvc.reloading import Reloading
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_service_pb2 import (
    AbortRequest,
    AbortResponse,
    AcceptBlindSpotRequest,
    AcceptBlindSpotResponse,
    ApproveDreamRequest,
    ApproveDreamResponse,
    DeleteDreamRequest,
    DeleteDreamResponse,
    DiffDreamRequest,
    DiffDreamResponse,
    EstimateDreamRequest,
    EstimateDreamResponse,
    GenerateRequest,
    GenerateResponse,
    GetDreamMapRequest,
    GetDreamMapResponse,
    GetDreamRequest,
    GetDreamResponse,
    GetStatusRequest,
    GetStatusResponse,
    ListBlindSpotsRequest,
    ListBlindSpotsResponse,
    ListDreamsRequest,
    ListDreamsResponse,
    RejectBlindSpotRequest,
    RejectBlindSpotResponse,
    RejectDreamRequest,
    RejectDreamResponse,
    RevertRequest,
    RevertResponse,
    SimulateRequest,
    SimulateResponse,
    StreamStatusRequest,
    StreamStatusResponse,
    TriggerRequest,
    TriggerResponse,
)


class DreamCalls:
    """The methods of DreamService, by their names in snake case."""

    def __init__(
        self,
        scheduler: Scheduler,
        store: Store,
        journal: Journal,
        embedding: TextEmbedding,
        generating: Generating,
        simulating: Simulating,
        config: InForce,
        reloading: Reloading,
    ) -> None:
        self._scheduler = scheduler
        self._store = store
        self._journal = journal
        self._embedding = embedding
        self._generating = generating
        # A thread of its own: a query must not wait behind a long walk.
        self._generates = ThreadPoolExecutor(1, thread_name_prefix="generate")
        self._simulating = simulating
        self._config = config
        self._watchers = 0
        self._reloading = reloading

    async def trigger(self, request: TriggerRequest) -> TriggerResponse:
        answer, night = await self._scheduler.trigger(request, dream_pb2.TRIGGERED_BY_REQUEST)
        if request.blocking:
            if night is not None:
                await night.over.wait()
            answer.dream.CopyFrom(await self._scheduler.dream(request.space, answer.dream.id))
        return answer

    async def stream_status(self, request: StreamStatusRequest) -> AsyncGenerator[StreamStatusResponse]:
        self._store.graph(request.space)
        most = self._config.server.max_watchers
        if self._watchers >= most:
            raise TooManyWatchers(f"{most} streams are open (server.max_watchers)", retry_after_s=1)
        self._watchers += 1
        try:
            async with contextlib.aclosing(self._watch(request)) as events:
                async for event in events:
                    yield event
        finally:
            self._watchers -= 1

    async def _watch(self, request: StreamStatusRequest) -> AsyncGenerator[StreamStatusResponse]:
        events = self._scheduler.events(request.space)
        if request.dream_id:
            dream = await self._scheduler.dream(request.space, request.dream_id)
            running = self._scheduler.running(request.space)
            if running is None or running.dream.id != dream.id:
                # Also where it was interrupted: this stream has nothing more to tell then.
                for event in events.past(dream, AWAKE, request.after_sequence):
                    yield event
                return
        present = self._scheduler.present(request.space)
        async for event in events.follow(present, request.after_sequence, request.dream_id, self._heartbeat_s):
            yield event

    def _heartbeat_s(self) -> float:
        return self._config.server.heartbeat_seconds

    async def abort(self, request: AbortRequest) -> AbortResponse:
        return await self._scheduler.abort(request)

    async def get_dream(self, request: GetDreamRequest) -> GetDreamResponse:
        return GetDreamResponse(dream=await self._scheduler.dream(request.space, request.dream_id))

    async def list_dreams(self, request: ListDreamsRequest) -> ListDreamsResponse:
        return await asyncio.to_thread(self._journal.list_dreams, request)

    async def revert(self, request: RevertRequest) -> RevertResponse:
        return await self._scheduler.verdicts.revert(request)

    async def approve_dream(self, request: ApproveDreamRequest) -> ApproveDreamResponse:
        return await self._scheduler.verdicts.approve(request)

    async def reject_dream(self, request: RejectDreamRequest) -> RejectDreamResponse:
        return await self._scheduler.verdicts.reject(request)

    async def estimate_dream(self, request: EstimateDreamRequest) -> EstimateDreamResponse:
        return await self._scheduler.telling.estimate(request.space)

    async def delete_dream(self, request: DeleteDreamRequest) -> DeleteDreamResponse:
        return await self._scheduler.verdicts.delete(request)

    async def diff_dream(self, request: DiffDreamRequest) -> DiffDreamResponse:
        return await asyncio.to_thread(self._journal.diff, request)

    async def list_blind_spots(self, request: ListBlindSpotsRequest) -> ListBlindSpotsResponse:
        return await asyncio.to_thread(self._store.list_blind_spots, request)

    async def accept_blind_spot(self, request: AcceptBlindSpotRequest) -> AcceptBlindSpotResponse:
        self._scheduler.note_call(request.space)
        return await asyncio.wrap_future(self._store.accept_blind_spot(request))

    async def reject_blind_spot(self, request: RejectBlindSpotRequest) -> RejectBlindSpotResponse:
        self._scheduler.note_call(request.space)
        return await asyncio.wrap_future(self._store.reject_blind_spot(request))

    async def get_dream_map(self, request: GetDreamMapRequest) -> GetDreamMapResponse:
        return await asyncio.to_thread(self._store.dream_map, request)

    async def generate(self, request: GenerateRequest) -> GenerateResponse:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._generates, self._generating.generate, request)
        answer.trace_id = calling.current().trace_id or answer.trace_id
        return answer

    async def simulate(self, request: SimulateRequest) -> SimulateResponse:
        return await self._simulating.simulate(request)

    async def get_status(self, request: GetStatusRequest) -> GetStatusResponse:
        answer = await self._scheduler.telling.status(request.space)
        answer.embedder = self._embedding.id
        if calling.current().spaces is None:
            # They name files and addresses, which is for those who may see all of it.
            answer.embedder_notice = self._embedding.notice
            answer.config_notice = self._reloading.notice
        return answer
