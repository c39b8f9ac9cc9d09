"""What is measured of the service, put together: who is told of calls and nights, and where it is asked for."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dreamsvc.config import InForce
from dreamsvc.server.call_counts import CallCounts
from dreamsvc.server.monitoring import MonitoringDoor
from dreamsvc.server.observing import CallListener
from dreamsvc.server.vital_signs import Vitals
from dreamsvc.telemetry.counts import Counts, Spaces
from dreamsvc.telemetry.observer import Observer

if TYPE_CHECKING:
    from dreamsvc.telemetry.exposition import Exposition


class Measuring:
    """Off as a whole where the configuration names no port."""

    def __init__(self, config: InForce) -> None:
        self._config = config.telemetry
        self.counts = Counts(Spaces(self._config.metrics_spaces)) if self._config.metrics_port else None
        self._door: MonitoringDoor | None = None
        self._exposition: Exposition | None = None
        self._one_at_a_time = asyncio.Lock()

    @property
    def observer(self) -> Observer:
        return self.counts or Observer()

    @property
    def listeners(self) -> Sequence[CallListener]:
        return [] if self.counts is None else [CallCounts(self.counts)]

    async def start(self, vitals_of: Callable[[Counts], Vitals], why_not_ready: Callable[[], str]) -> None:
        """Raises InvalidFields where the port is taken."""
        if self.counts is None:
            return
        self._vitals = vitals_of(self.counts)
        self._door = MonitoringDoor(self._config.metrics_host, self._config.metrics_port, self._scrape, why_not_ready)
        await self._door.start()

    async def stop(self) -> None:
        if self._door is not None:
            await self._door.stop()

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
