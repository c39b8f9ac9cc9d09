"""Puts the serving process together: the only file that knows every concrete class."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from typing import TYPE_CHECKING, Any

from dreamsvc import heap
from dreamsvc.clock import Clock
from dreamsvc.config import InForce
from dreamsvc.config_sources import Read, Sources
from dreamsvc.dream.dreamers import Dreamers
from dreamsvc.dream.governor import Governor
from dreamsvc.dream.meters import ThisMachine
from dreamsvc.dream.scheduler import Scheduler
from dreamsvc.dream.simulating import Simulating
from dreamsvc.errors import DreamsvcError, InvalidFields
from dreamsvc.memory.embedding import TextEmbedding
from dreamsvc.memory.generating import Generating
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.store import Store
from dreamsvc.reloading import Reloading
from dreamsvc.server import exposure
from dreamsvc.server.admin_service import AdminCalls
from dreamsvc.server.admission import Admission
from dreamsvc.server.dream_service import DreamCalls
from dreamsvc.server.grpc_server import ADMIN_SERVICE, DREAM_SERVICE, MEMORY_SERVICE, GrpcDoor
from dreamsvc.server.health import SERVING, HealthOfAll
from dreamsvc.server.importing import Importing
from dreamsvc.server.memory_service import MemoryCalls
from dreamsvc.telemetry import logs
from dreamsvc.v1.admin_pb2 import ConfigReload
from dreamsvc.v1.config_pb2 import Config

if TYPE_CHECKING:
    from dreamsvc.server.measuring import Measuring

logger = logging.getLogger(__name__)
US_PER_DAY = 86_400_000_000
PURGE_EVERY_S = 3600.0
PURGE_PAUSE_S = 0.05
LOOK_AT_HEALTH_S = 0.5


class App:
    """A whole service in this process: `start`, then `stop`."""

    def __init__(
        self, config: Config, clock: Clock | None = None, sources: Sources | None = None, read: Read | None = None
    ) -> None:
        """Opens the store; raises DreamsvcError where it cannot be had or the configuration cannot be served.

        sources, read: where the configuration came from, and what was read there; without them it can't be read again.
        """
        self._clock = clock or Clock()
        self.in_force = InForce(config)
        self.reloading = Reloading(self.in_force, self._clock, sources, read, exposure.check)
        self.admission = Admission(self.in_force, self._clock)
        self.store = Store(config.store, self._clock)
        self.journal = Journal(self.store.database, self.store.clock, _keep_requests_us(config))
        self.in_force.on_exchange(lambda _before, now: self._keep_requests(now))
        self._measuring = _measuring(self.in_force, self._clock)
        observer = self._measuring.observer() if self._measuring is not None else None
        governor = Governor(self.in_force, ThisMachine())
        self._dreamers = Dreamers(self.in_force, governor)
        self.scheduler = Scheduler(
            self.store, self.journal, self.in_force, self._clock, self._dreamers, observer, governor
        )
        self.embedding = TextEmbedding(self.store, config.embedder)
        self._importing = Importing(self.store, self.journal, self.scheduler, self.embedding)
        self._memory = MemoryCalls(
            self.store, self.scheduler, self.embedding, self._importing, self.in_force, self._clock
        )
        generating = Generating(self.store, self.embedding, self.in_force)
        self._simulating = Simulating(self.in_force, self.store, self.scheduler, self._clock)
        dreams = DreamCalls(
            self.scheduler,
            self.store,
            self.journal,
            self.embedding,
            generating,
            self._simulating,
            self.in_force,
            self.reloading,
        )
        self.health = HealthOfAll(
            self.store, self.embedding, self._dreamers, self.in_force, self.reloading, self._clock
        )
        self._why_not_ready = "starting"
        admin = AdminCalls(self.in_force, self.reloading, self.health)
        self._services = [(DREAM_SERVICE, dreams), (MEMORY_SERVICE, self._memory), (ADMIN_SERVICE, admin)]
        self._touching: asyncio.Task[None] | None = None
        self._purging: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._rereading: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Serves, and gives the port; raises OSError where it is taken."""
        listeners = self._measuring.listeners() if self._measuring is not None else ()
        self._door = GrpcDoor(self.in_force, self._services, self.admission, listeners)
        if self._measuring is not None:
            looked_up = (self.store, self.journal, self.scheduler, self._dreamers, self.health.look)
            await self._measuring.start(*looked_up, lambda: self._why_not_ready)
        await self.scheduler.start()
        await self._tell_of_health()
        port = await self._door.start()
        self._why_not_ready = ""
        self.embedding.start()
        self._touching = asyncio.create_task(self._memory.note_touches())
        self._purging = asyncio.create_task(self._purge())
        self._watching = asyncio.create_task(self._watch_health())
        self._looking = asyncio.create_task(self.admission.access.watch())
        self._rereading = asyncio.create_task(self.reloading.watch())
        return port

    async def stop(self) -> None:
        """Drains: health says so, streams get their last word, the dream its checkpoint, writes their commit."""
        for task in (self._watching, self._rereading):
            if task is not None:
                task.cancel()
        self.health.close()
        self._why_not_ready = "shutting down"
        await self._door.refuse_new_calls()
        await self.scheduler.close()
        await self._simulating.close()
        await self._door.stop()
        self._importing.close()
        for task in (self._touching, self._purging, self._looking):
            if task is not None:
                task.cancel()
        await self._memory.flush_touches()
        if self._measuring is not None:
            await self._measuring.stop()
        await asyncio.to_thread(self.close)

    async def _purge(self) -> None:
        """Lets go of what can be restored no longer, slice by slice, at the start and every hour."""
        while True:
            try:
                restore_us = self.in_force.store.restore_days * US_PER_DAY
                held = self.in_force.dream.hold_spaces
                more = (await asyncio.wrap_future(self.store.purge_next(restore_us, held))).total > 0
                if not more:
                    kept = self.in_force.dream.history.max_entries
                    more = await asyncio.wrap_future(self.journal.prune(kept, held)) > 0
                if not more:
                    await asyncio.wrap_future(self.store.keep_time())
            except DreamsvcError as error:
                logger.warning("the purge goes on later: %s", error.message)
                more = False
            await asyncio.sleep(PURGE_PAUSE_S if more else PURGE_EVERY_S)

    async def _watch_health(self) -> None:
        while True:
            await self._tell_of_health()
            await asyncio.sleep(LOOK_AT_HEALTH_S)

    async def _tell_of_health(self) -> None:
        """Lets standard health tell of each part."""
        for part in self.health.look().subsystems:
            await self._door.tell_of_part(part.name, serves=part.state == SERVING)

    def _keep_requests(self, config: Config) -> None:
        self.store.keep_request_us = self.journal.keep_request_us = _keep_requests_us(config)

    def close(self) -> None:
        self.embedding.close()
        self.store.close()


def _measuring(config: InForce, clock: Clock) -> "Measuring | None":
    """None where nothing is measured; then the start has no time to spare for its modules."""
    if not config.telemetry.metrics_port and not config.telemetry.traces_endpoint:
        return None
    from dreamsvc.server.measuring import Measuring

    return Measuring(config, clock)


def serve(sources: Sources, read: Read) -> int:
    """Runs the service until SIGTERM or SIGINT; the exit code, with what went wrong on standard error.

    read: what the sources said; SIGHUP has them read again.
    """
    heap.few_arenas()
    logs.set_up(read.config.telemetry.log_format, read.config.telemetry.log_level)
    try:
        app = App(read.config, sources=sources, read=read)
    except InvalidFields:
        # The command tells them field by field.
        raise
    except DreamsvcError as error:
        print(f"dreamsvc: {error.message}", file=sys.stderr)
        return 1
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(app))


def _log_forgotten(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An error that nobody waited for; asyncio's own line would show it with the values that it met."""
    logger.error("%s", context["message"], exc_info=context.get("exception"))


async def _serve(app: App) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_forgotten)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, app.reloading.ask, ConfigReload.CAUSE_SIGNAL)
    try:
        port = await app.start()
    except (OSError, DreamsvcError) as error:
        why = error.message if isinstance(error, DreamsvcError) else f"{error}; give it another --port"
        print(f"dreamsvc: {why}", file=sys.stderr)
        await app.scheduler.close()
        app.close()
        return 1
    app.in_force.on_exchange(lambda _, now: logs.set_level(now.telemetry.log_level))
    # What is loaded stays: a collection must not walk millions of objects in the middle of a query.
    gc.freeze()
    gc.enable()
    print(f"dreamsvc listening on {app.in_force.server.host}:{port}", flush=True)
    await stop.wait()
    logger.info("shutting down")
    await app.stop()
    return 0


def _keep_requests_us(config: Config) -> int:
    return int(config.store.request_id_hours * 3_600_000_000)


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    with contextlib.suppress(ImportError):
        import uvloop  # not on every platform

        return uvloop.new_event_loop  # pyright: ignore
    return None
