"""Dreams over a graph that a caller sends: the metrics and the edits, and nothing of it is kept (API-2).

How it runs
1. The graph is remembered in a private store, in a directory of its own, with the checks of Remember.
2. What has no vector gets one from an embedder of the configured kind, as it would in a space of the service.
3. A private scheduler dreams, `iterations` times one after the other, with a dreamer process of its own.
4. After each dream its edits are read; at the end the graph is counted, and process, store and directory go.

It counts among the dreams of dream.max_parallel: it is refused where that many dreams and simulations run, and it gives
way where a dream of a space begins while it runs: its own dream is woken, and goes on from its checkpoint once there is
room. No dream of a space ever waits for it. A caller that goes away, the end of the service, or the switch that turns
it off wakes it for good.
"""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

from dreamsvc import entropy
from dreamsvc.clock import Clock
from dreamsvc.config import InForce
from dreamsvc.dream.scheduler import Scheduler
from dreamsvc.errors import (
    Disabled,
    DreamFailed,
    DreamInProgress,
    DreamsvcError,
    EmbedderMissing,
    InvalidFields,
    ShuttingDown,
    Violation,
)
from dreamsvc.memory.embedding import TextEmbedding
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.spaces import CLIENT
from dreamsvc.memory.store import Store
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import Config, DreamConfig, StoreConfig
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import DiffDreamRequest, SimulateRequest, SimulateResponse, TriggerRequest
from dreamsvc.v1.memory_service_pb2 import RememberRequest

SPACE = "simulation"
MOST_EDITS = 10_000
EDITS_PAGE = 1000
# How often it is looked whether vectors are there, and whether dreams of the service need the room.
LOOK_S = 0.05
SEEDS = 2**64


class _World(NamedTuple):
    """A store without a past or a future, and who dreams in it."""

    store: Store
    journal: Journal
    scheduler: Scheduler


class Simulating:
    """Answers Simulate; owns what runs for it."""

    def __init__(self, config: InForce, store: Store, scheduler: Scheduler, clock: Clock) -> None:
        """store, scheduler: of the service, which are only asked what dreams there."""
        self._config = config
        self._store = store
        self._scheduler = scheduler
        self._clock = clock
        self._running: set[asyncio.Task[SimulateResponse]] = set()
        # Why those that did not end by themselves were ended.
        self._ended: WeakKeyDictionary[asyncio.Task[SimulateResponse], DreamsvcError] = WeakKeyDictionary()
        self._closing = False
        config.on_exchange(lambda _before, _now: self._end_unwanted())

    async def simulate(self, request: SimulateRequest) -> SimulateResponse:
        """Raises InvalidFields, Disabled, DreamInProgress, EmbedderMissing, DreamFailed, ShuttingDown."""
        self._admit(request)
        task = asyncio.create_task(self._simulate(request))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            # Shielded: cleaning up is not tied to the life of the call.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and task in self._ended:
                raise self._ended[task] from None
            task.cancel()
            raise

    async def close(self) -> None:
        """Ends what runs, and waits until nothing of it is left."""
        self._closing = True
        tasks = set(self._running)
        self._end(ShuttingDown("the service is shutting down; nothing of the simulation is kept"))
        if tasks:
            await asyncio.wait(tasks)

    def _end(self, why: DreamsvcError) -> None:
        for task in self._running:
            self._ended.setdefault(task, why)
            task.cancel()

    def _end_unwanted(self) -> None:
        key = self._switched_off_by()
        if key:
            self._end(Disabled(f"it was switched off ({key}); nothing of the simulation is kept"))

    def _switched_off_by(self) -> str:
        """The key that forbids it, '' where none does."""
        if not self._config.dream.enabled:
            return "dream.enabled"
        return "" if self._config.features.simulate_enabled else "features.simulate_enabled"

    def _admit(self, request: SimulateRequest) -> None:
        if self._closing:
            raise ShuttingDown("the service is shutting down")
        if key := self._switched_off_by():
            raise Disabled(f"simulating is switched off ({key})")
        wrong = [
            Violation(f"memories[{i}].text", "is empty; a memory needs a text, a title or a vector")
            for i, memory in enumerate(request.memories)
            if not memory.text.strip() and not memory.title.strip() and not memory.vector
        ]
        if wrong:
            raise InvalidFields(wrong)
        most = self._config.dream.max_parallel
        if (crowd := self._dreaming() + len(self._running)) >= most:
            what = f"{crowd} dreams and simulations run, and at most {most} may ({self._config.parallel_key})"
            raise DreamInProgress(what, retry_after_s=1)

    def _dreaming(self) -> int:
        """In how many spaces of the service a dream runs."""
        return sum(self._scheduler.running(space) is not None for space in self._store.space_names())

    # ── one simulation ──────────────────────────────────────────────────────────

    async def _simulate(self, request: SimulateRequest) -> SimulateResponse:
        answer = SimulateResponse()
        first = request.seed if request.HasField("seed") else entropy.seed()
        async with self._world() as world:
            graph = RememberRequest(space=SPACE, memories=request.memories, edges=request.edges)
            await asyncio.wrap_future(world.store.remember(graph))
            await self._embed(world.store)
            for number in range(request.iterations):
                wanted = TriggerRequest(space=SPACE, phase=request.phase, seed=(first + number) % SEEDS)
                if request.HasField("budget"):
                    wanted.budget.CopyFrom(request.budget)
                dream = await self._dream(world, wanted)
                answer.dreams.append(dream)
                await asyncio.to_thread(_add_edits, world.journal, dream, answer)
            counts = await asyncio.to_thread(world.store.stats, SPACE)
            answer.memories, answer.edges = counts.memories, counts.edges
        return answer

    async def _dream(self, world: _World, wanted: TriggerRequest) -> Dream:
        """One dream to its end, over as many nights as it takes; raises DreamFailed."""
        while True:
            if self._crowded():
                await asyncio.sleep(LOOK_S)
                continue
            answer, night = await world.scheduler.trigger(wanted, dream_pb2.TRIGGERED_BY_REQUEST)
            while night is not None and not night.over.is_set():
                if self._crowded():
                    night.wake(dream_pb2.WAKE_REASON_RESOURCE_PRESSURE)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(night.over.wait(), LOOK_S)
            dream = await world.scheduler.dream(SPACE, answer.dream.id)
            if dream.state == Dream.STATE_FAILED:
                raise DreamFailed(
                    dream.error_reason, f"the simulated dream of seed {dream.seed} failed: {dream.message}"
                )
            if dream.state != Dream.STATE_SUSPENDED:
                return dream

    def _crowded(self) -> bool:
        """Whether dreams of spaces need the room that this has."""
        return self._dreaming() >= self._config.dream.max_parallel

    async def _embed(self, store: Store) -> None:
        """Waits until every text has a vector, where there is an embedder; raises EmbedderMissing where it fails."""
        config = self._config.embedder
        space = await asyncio.to_thread(store.space, SPACE)
        # To vectors that the caller sent none of another kind are added, as in a space of the service.
        if config.kind == "none" or space.embedder == CLIENT:
            return
        embedding = TextEmbedding(store, config)
        opening = embedding.notice
        embedding.start()
        try:
            while await asyncio.to_thread(store.count_waiting, SPACE):
                if embedding.notice not in ("", opening):
                    if config.kind == "auto" and embedding.id == "none":
                        return
                    raise EmbedderMissing(embedding.notice)
                await asyncio.sleep(LOOK_S)
        finally:
            await _to_its_end(asyncio.to_thread(embedding.close))

    @contextlib.asynccontextmanager
    async def _world(self) -> AsyncGenerator[_World]:
        """Leaves no file and no process behind, however it ends."""
        directory = Path(tempfile.mkdtemp(prefix="dreamsvc-simulation-"))
        settings = StoreConfig()
        settings.CopyFrom(self._config.store)
        settings.path = str(directory / "memory.db")
        opening = asyncio.create_task(asyncio.to_thread(Store, settings, self._clock))
        try:
            store = await asyncio.shield(opening)
            journal = Journal(store.database, self._clock, 0)
            own = _undisturbed(self._config)
            scheduler = Scheduler(store, journal, own, self._clock, governor=self._scheduler.governor)
            stop = self._config.on_exchange(lambda _before, now: own.exchange(_with_resources(own.whole, now)))
            try:
                yield _World(store, journal, scheduler)
            finally:
                stop()
                await _to_its_end(scheduler.close())
        finally:
            # A store that is still being opened would make files after they were removed.
            await _to_its_end(_remove(opening, directory))


def _undisturbed(config: InForce) -> InForce:
    """As the service dreams, less what may keep a dream from being begun and applied."""
    alone = DreamConfig()
    alone.CopyFrom(config.dream)
    alone.max_parallel = 1
    alone.propose = False
    alone.trigger.cooldown_for_manual = False
    del alone.hold_spaces[:]
    del alone.spaces[:]
    return InForce(Config(dream=alone, recall=config.recall, features=config.features, telemetry=config.telemetry))


def _with_resources(own: Config, of: Config) -> Config:
    """What it may take is what the service allows now; all else stays as it began."""
    found = Config()
    found.CopyFrom(own)
    found.dream.resources.CopyFrom(of.dream.resources)
    return found


def _add_edits(journal: Journal, dream: Dream, answer: SimulateResponse) -> None:
    """Counts a dream's edits, and adds the first of them while there is room; the store is as the dream left it."""
    request = DiffDreamRequest(space=SPACE, dream_id=dream.id, page_size=EDITS_PAGE, with_weights=True)
    while True:
        page = journal.diff(request)
        answer.edits_total += len(page.edits)
        answer.edits.extend(page.edits[: MOST_EDITS - len(answer.edits)])
        request.page_token = page.next_page_token
        if not request.page_token:
            return


async def _remove(opening: "asyncio.Task[Store]", directory: Path) -> None:
    try:
        await asyncio.wait({opening})
        if opening.exception() is None:
            await asyncio.to_thread(opening.result().close)
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


async def _to_its_end(work: Awaitable[None]) -> None:
    """Lets cleaning up come to its end though it is cancelled meanwhile, and is cancelled then."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
