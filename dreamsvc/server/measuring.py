"""What is measured of the service, put together: who is told of calls and nights, and where it is asked for."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dreamsvc import __version__, entropy
from dreamsvc.clock import Clock
from dreamsvc.config import InForce
from dreamsvc.dream.dreamers import Dreamers
from dreamsvc.dream.scheduler import Scheduler
from dreamsvc.errors import invalid
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.store import Store
from dreamsvc.server.call_counts import CallCounts
from dreamsvc.server.call_spans import CallSpans
from dreamsvc.server.monitoring import MonitoringDoor
from dreamsvc.server.observing import CallListener
from dreamsvc.server.vital_signs import Vitals
from dreamsvc.telemetry.counts import Counts, Spaces
from dreamsvc.telemetry.night_spans import NightSpans
from dreamsvc.telemetry.observer import Observer, Observers
from dreamsvc.telemetry.tracing import Tracing, installed
from dreamsvc.v1.health_pb2 import Health

if TYPE_CHECKING:
    from dreamsvc.telemetry.exposition import Exposition


class Measuring:
    """Metrics where the configuration names a port, traces where it names a collector."""

    def __init__(self, config: InForce, clock: Clock) -> None:
        """Raises InvalidFields where traces are wanted and OpenTelemetry is not installed."""
        self._in_force = config
        self._config = config.telemetry
        self._clock = clock
        self.counts = Counts(Spaces(self._config.metrics_spaces)) if self._config.metrics_port else None
        self.tracing = self._tracing()
        self._door: MonitoringDoor | None = None
        self._exposition: Exposition | None = None
        self._one_at_a_time = asyncio.Lock()

    def _tracing(self) -> Tracing | None:
        if not self._config.traces_endpoint:
            return None
        if not installed():
            raise invalid("telemetry.traces_endpoint", "needs OpenTelemetry: pip install 'dreamsvc[otel]'")
        return Tracing(self._config.traces_endpoint, "dreamsvc", __version__, entropy.trace_id())

    def observer(self) -> Observer:
        """Who is told of nights."""
        found: list[Observer] = []
        if self.counts is not None:
            found.append(self.counts)
        if self.tracing is not None:
            found.append(NightSpans(self.tracing, self._clock.now_us))
        return Observers(found)

    def listeners(self) -> Sequence[CallListener]:
        """Who is told of calls."""
        found: list[CallListener] = []
        if self.counts is not None:
            found.append(CallCounts(self.counts))
        if self.tracing is not None:
            found.append(CallSpans(self.tracing, lambda: self._in_force.telemetry.traces_sample_ratio))
        return found

    async def start(
        self,
        store: Store,
        journal: Journal,
        scheduler: Scheduler,
        dreamers: Dreamers,
        look: Callable[[], Health],
        why_not_ready: Callable[[], str],
    ) -> None:
        """look: at the health; why_not_ready: '' where it is. Raises InvalidFields where the port is taken."""
        if self.tracing is not None:
            self.tracing.start()
        if self.counts is None:
            return
        self._vitals = Vitals(*(store, journal, scheduler, dreamers, look, self.counts, self._clock))
        self._door = MonitoringDoor(self._config.metrics_host, self._config.metrics_port, self._scrape, why_not_ready)
        await self._door.start()

    async def stop(self) -> None:
        if self._door is not None:
            await self._door.stop()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    async def _scrape(self, accept: str) -> tuple[bytes, str]:
        async with self._one_at_a_time:
            gauges = await self._vitals.read()
            if self._exposition is None:
                self._exposition = await asyncio.to_thread(self._load)
            return await asyncio.to_thread(self._exposition.render, gauges, accept)

    def _load(self) -> "Exposition":
        # A start does not wait for it, and a service without metrics never has it.
        from dreamsvc.telemetry.exposition import Exposition

        assert self.counts is not None
        return Exposition(self.counts)
