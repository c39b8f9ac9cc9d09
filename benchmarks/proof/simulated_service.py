"""The service of the simulation: what `app` puts together, without doors, with a dreamer that is played."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from benchmarks.proof.scripted_dreamer import ScriptedDreamers, Stage, Unmeasured
from benchmarks.proof.virtual_time import Moments, VirtualClock, VirtualDatabase, VirtualLoop
from dreamsvc.app import PURGE_EVERY_S, PURGE_PAUSE_S, US_PER_DAY
from dreamsvc.config import InForce
from dreamsvc.dream.governor import Governor
from dreamsvc.dream.scheduler import Scheduler
from dreamsvc.dream.simulating import Simulating
from dreamsvc.errors import DreamsvcError
from dreamsvc.memory.embedding import TextEmbedding
from dreamsvc.memory.generating import Generating
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.store import Store
from dreamsvc.reloading import Reloading
from dreamsvc.server.dream_service import DreamCalls
from dreamsvc.server.importing import Importing
from dreamsvc.server.memory_service import MemoryCalls
from dreamsvc.v1.config_pb2 import Config

HOUR_US = 3_600_000_000


class Service:
    """One run of the service, on a loop whose time is virtual."""

    def __init__(self, config: Config, clock: VirtualClock, stage: Stage) -> None:
        """Opens the store; call it in the loop. Raises DreamsvcError."""
        self.config = config
        self.store = Store(config.store, clock)
        self.database.work_on(asyncio.get_running_loop())
        self.journal = Journal(self.store.database, self.store.clock, int(config.store.request_id_hours * HOUR_US))
        in_force = InForce(config)
        self.dreamers = ScriptedDreamers(stage)
        governor = Governor(in_force, Unmeasured())
        self.scheduler = Scheduler(self.store, self.journal, in_force, clock, self.dreamers, governor=governor)
        embedding = TextEmbedding(self.store, config.embedder)
        self._importing = Importing(self.store, self.journal, self.scheduler, embedding)
        self.memory = MemoryCalls(self.store, self.scheduler, embedding, self._importing, in_force, clock)
        generating = Generating(self.store, embedding, in_force)
        simulating = Simulating(in_force, self.store, self.scheduler, clock)
        self.dreams = DreamCalls(
            *(self.scheduler, self.store, self.journal, embedding, generating, simulating),
            *(in_force, Reloading(in_force, clock)),
        )
        self._beside: list[asyncio.Task[None]] = []

    @property
    def database(self) -> VirtualDatabase:
        database = self.store.database
        assert isinstance(database, VirtualDatabase)
        return database

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.store.database.read(lambda connection: connection.execute(sql, values).fetchall())

    async def start(self) -> None:
        await self.scheduler.start()
        self._beside = [asyncio.create_task(self.memory.note_touches()), asyncio.create_task(self._purge())]

    async def stop(self) -> None:
        """As `App.stop` does it."""
        await self.scheduler.close()
        self._importing.close()
        for task in self._beside:
            task.cancel()
        await self.memory.flush_touches()
        self.store.close()

    def has_to_spare(self, executor: Executor | None) -> bool:
        """Threads of recalls are never busy with anything else, so that a query is read at once."""
        return executor is self.memory._recalls

    async def _purge(self) -> None:
        while True:
            more = False
            with contextlib.suppress(DreamsvcError):
                held = self.config.dream.hold_spaces
                restore_us = int(self.config.store.restore_days * US_PER_DAY)
                more = (await asyncio.wrap_future(self.store.purge_next(restore_us, held))).total > 0
                if not more:
                    await asyncio.wrap_future(self.store.keep_time())
            await asyncio.sleep(PURGE_PAUSE_S if more else PURGE_EVERY_S)


def image(store: Path, to: Path) -> None:
    """The files of a store as the end of its process would leave them in this very moment."""
    to.parent.mkdir(parents=True)
    for suffix in ("", "-wal"):
        source = store.with_name(store.name + suffix)
        if source.exists():
            shutil.copyfile(source, to.with_name(to.name + suffix))
    snapshots = store.with_name(store.name + ".snapshots")
    if snapshots.exists():
        shutil.copytree(snapshots, to.with_name(to.name + ".snapshots"))


def loops(clock: VirtualClock, moments: Moments, service: Callable[[], Service | None]) -> Callable[[], VirtualLoop]:
    def spare(executor: Any) -> bool:
        running = service()
        return running is not None and running.has_to_spare(executor)

    return lambda: VirtualLoop(clock, moments, at_once=spare)


class Unexpected(logging.Handler):
    """Hears of exceptions that the service logs and that are not in its catalogue."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, DreamsvcError):
            self._tell(f"{record.getMessage()}: {type(error).__name__}: {error}")
