"""MemoryService: messages in, messages out. Knows no transport."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import batched

import numpy as np

from dreamsvc import calling, entropy
from dreamsvc import clock as clocks
from dreamsvc.clock import Clock, from_timestamp
from dreamsvc.config import InForce
from dreamsvc.dream.scheduler import Scheduler
from dreamsvc.errors import DreamsvcError, EmbedderMissing, invalid
from dreamsvc.memory import coactivation, reading, recall, spaces
from dreamsvc.memory.embedding import TextEmbedding
from dreamsvc.memory.graph import GraphView
from dreamsvc.memory.store import Store
from dreamsvc.server.importing import Importing
from dreamsvc.server.recalls import Recalls
from dreamsvc.v1.memory_pb2 import Hit, Why
from dreamsvc.v1.memory_service_pb2 import (
    ExportRequest,
    ExportResponse,
    ExportSummary,
    FeedbackRequest,
    FeedbackResponse,
    ForgetRequest,
    ForgetResponse,
    GetMemoryRequest,
    GetMemoryResponse,
    GetStatsRequest,
    GetStatsResponse,
    ImportRequest,
    ImportResponse,
    ListMemoriesRequest,
    ListMemoriesResponse,
    RecallRequest,
    RecallResponse,
    RememberRequest,
    RememberResponse,
    RestoreRequest,
    RestoreResponse,
    UnmergeRequest,
    UnmergeResponse,
)

logger = logging.getLogger(__name__)
RECALL_THREADS = 2
TOUCH_EVERY_S = 1.0
# Pairs written in one commit: changes of users get in between.
PAIRS_AT_ONCE = 2_000


class MemoryCalls:
    """The methods of MemoryService, by their names in snake case."""

    def __init__(
        self,
        store: Store,
        scheduler: Scheduler,
        embedding: TextEmbedding,
        importing: Importing,
        config: InForce,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._scheduler = scheduler
        self._embedding = embedding
        self._importing = importing
        self._config = config
        # Queries have threads of their own, so that nothing else can be before them in the queue.
        self._recalls = ThreadPoolExecutor(RECALL_THREADS, thread_name_prefix="recall")
        self._clock = clock or Clock()
        self._returned = Recalls()
        self._touched: dict[str, Counter[int]] = {}
        self._together: dict[str, Counter[coactivation.Pair]] = {}

    async def remember(self, request: RememberRequest) -> RememberResponse:
        self._check_contents(request)
        self._scheduler.note_call(request.space)
        answer = await asyncio.wrap_future(self._store.remember(request))
        self._embedding.wake()
        return answer

    async def recall(self, request: RecallRequest) -> RecallResponse:
        began = clocks.precise_s()
        graph = self._store.graph(request.space)
        if not request.text.strip() and not request.vector:
            raise invalid("text", "is empty; send a text or a vector")
        self._scheduler.note_call(request.space)
        woken = self._scheduler.wake_for_query(request.space)
        loop = asyncio.get_running_loop()
        answer, nodes = await loop.run_in_executor(self._recalls, self._find, request, graph.view)
        answer.woke_dream = woken
        answer.recall_id = entropy.uuid7(self._clock.now_us())
        self._returned.note(answer.recall_id, request.space, nodes, self._clock.monotonic())
        self._touched.setdefault(request.space, Counter()).update(nodes)
        self._together.setdefault(request.space, Counter()).update(coactivation.recalled_pairs(nodes))
        answer.seconds = clocks.precise_s() - began
        return answer

    async def get_memory(self, request: GetMemoryRequest) -> GetMemoryResponse:
        return await asyncio.to_thread(self._store.get_memory, request)

    async def list_memories(self, request: ListMemoriesRequest) -> ListMemoriesResponse:
        return await asyncio.to_thread(self._store.list_memories, request)

    async def forget(self, request: ForgetRequest) -> ForgetResponse:
        self._scheduler.note_call(request.space)
        return await asyncio.wrap_future(self._store.forget(request))

    async def restore(self, request: RestoreRequest) -> RestoreResponse:
        self._scheduler.note_call(request.space)
        answer = await asyncio.wrap_future(self._store.restore(request))
        self._embedding.wake()
        return answer

    async def unmerge(self, request: UnmergeRequest) -> UnmergeResponse:
        self._scheduler.note_call(request.space)
        return await asyncio.wrap_future(self._store.unmerge(request))

    async def import_(self, requests: AsyncIterator[ImportRequest]) -> ImportResponse:
        return await self._importing.run(requests)

    async def export(self, request: ExportRequest) -> AsyncGenerator[ExportResponse]:
        parts = self._store.export(request.space)
        step: asyncio.Future[bytes | ExportSummary | None] | None = None
        try:
            while True:
                step = asyncio.ensure_future(asyncio.to_thread(next, parts, None))
                part = await asyncio.shield(step)
                if part is None:
                    return
                if isinstance(part, ExportSummary):
                    yield ExportResponse(summary=part)
                else:
                    yield ExportResponse(chunk=part)
        finally:
            if step is not None:
                # A generator that runs cannot be closed.
                await asyncio.wait({step})
            await asyncio.to_thread(parts.close)

    async def feedback(self, request: FeedbackRequest) -> FeedbackResponse:
        self._scheduler.note_call(request.space)
        returned = self._returned.returned(request.recall_id, request.space, self._clock.monotonic())
        return await asyncio.wrap_future(self._store.feedback(request, returned))

    async def get_stats(self, request: GetStatsRequest) -> GetStatsResponse:
        answer = await asyncio.to_thread(self._store.stats, request.space)
        answer.spaces[:] = filter(calling.current().sees, answer.spaces)
        answer.on_hold = self._scheduler.on_hold(request.space)
        return answer

    async def note_touches(self) -> None:
        """Writes down which memories were recalled, behind everything else, for as long as the service runs."""
        while True:
            await asyncio.sleep(TOUCH_EVERY_S)
            await self.flush_touches()

    async def flush_touches(self) -> None:
        touched, self._touched = self._touched, {}
        together, self._together = self._together, {}
        for space, nodes in touched.items():
            if nodes:
                try:
                    await self._flush(space, nodes, together.get(space, {}))
                except DreamsvcError as error:
                    logger.warning('recalls in space "%s" could not be noted: %s', space, error.message)

    async def _flush(self, space: str, nodes: Mapping[int, int], pairs: Mapping[coactivation.Pair, int]) -> None:
        await asyncio.wrap_future(self._store.touch(space, dict(nodes)))
        for part in batched(pairs.items(), PAIRS_AT_ONCE):
            await asyncio.wrap_future(self._store.note_together(space, dict(part)))

    def _find(self, request: RecallRequest, view: GraphView) -> tuple[RecallResponse, list[int]]:
        space = self._store.space(request.space)
        config = self._config.recall
        vector, notice = None, ""
        if request.vector:
            vector = np.asarray(request.vector, np.float32)
            spaces.check_dimension(space, "vector", len(vector))
            if not vector.any():
                raise invalid("vector", "is all zero, so it points nowhere")
            if not space.dimension:
                notice = "no memory of this space has a vector yet"
                if not request.text.strip():
                    raise EmbedderMissing(f"{notice}, and the query has no text")
        else:
            vector, notice = self._embedding.of_query(space, request.text)
        wish = reading.Wish(
            limit=request.limit,
            token_budget=request.token_budget,
            similar=None if request.with_similar else config.similar,
        )
        found = recall.find(
            view,
            recall.Query(
                text=request.text,
                vector=vector,
                limit=wish.candidates,
                kinds=request.kinds,
                after_us=from_timestamp(request.after) if request.HasField("after") else None,
                before_us=from_timestamp(request.before) if request.HasField("before") else None,
            ),
            config,
        )
        memories_of = partial(self._store.memories_by_row, request.space, with_vectors=request.with_vectors)
        read = reading.read(view, found, memories_of, wish)
        answer = RecallResponse(notice=notice, similar_left_out=read.left_out, tokens=read.tokens)
        newest = self._ids_of_newest(request.space, read)
        for one, memory in read.hits:
            why = Why(lexical=one.lexical, dense=one.dense, walk=one.walk, alias=one.alias)
            superseded_by = newest.get(one.superseded_by, "")
            answer.hits.append(Hit(memory=memory, score=one.score, why=why, superseded_by=superseded_by))
        if not read.hits and read.over_budget:
            over = f"the best memory has {read.over_budget} tokens, more than the token_budget of {wish.token_budget}"
            answer.notice = "; ".join(filter(None, (notice, over)))
        return answer, [one.node for one, _ in read.hits]

    def _ids_of_newest(self, space: str, read: reading.Read) -> dict[int, str]:
        """Ids of what superseded some hits, by row id."""
        known = {one.node: memory.id for one, memory in read.hits}
        wanted = {one.superseded_by for one, _ in read.hits if one.superseded_by} - known.keys()
        if wanted:
            others = self._store.memories_by_row(space, sorted(wanted), with_vectors=False)
            known |= {node: memory.id for node, memory in others.items() if not memory.HasField("delete_time")}
        return known

    @staticmethod
    def _check_contents(request: RememberRequest) -> None:
        if not request.memories and not request.edges:
            raise invalid("memories", "is empty, and so is edges: there is nothing to remember")
        for i, memory in enumerate(request.memories):
            if not memory.text.strip() and not memory.title.strip() and not memory.vector:
                raise invalid(f"memories[{i}].text", "is empty; a memory needs a text, a title or a vector")
