"""Lends dreamers to nights; where a second one cannot be had beside the first, nights take turns (API-5)."""

import asyncio
import logging
from typing import Any

from dreamsvc.clock import Clock
from dreamsvc.dream.conversation import Process, Source
from dreamsvc.errors import DreamFailed
from dreamsvc.v1.config_pb2 import ResourcesConfig

logger = logging.getLogger(__name__)
# After that it is tried again whether dreams can run at the same time.
AGAIN_S = 600.0


class Lending:
    """A source of dreamers; owns whether dreams may run at the same time as far as dreamers can be had."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._lent: set[Any] = set()
        self._given_back = asyncio.Event()
        self._alone_since_s: float | None = None
        # Why dreams run one after the other though more may; '' where nothing is wrong.
        self.notice = ""

    def most(self, allowed: int) -> int:
        """How many dreams may run at the same time, of so many that the configuration allows."""
        since_s = self._alone_since_s
        return 1 if since_s is not None and self._clock.monotonic() - since_s < AGAIN_S else allowed

    async def lease(self, config: ResourcesConfig) -> Process:
        """A process that is ready; where none can be had beside others, once one of those is given back.

        Raises DreamFailed where none can be had at all.
        """
        while True:
            try:
                process = await self._source.lease(config)
            except DreamFailed as error:
                if not self._lent:
                    raise
                self._take_turns(error.message)
                self._given_back.clear()
                await self._given_back.wait()
                continue
            if self._lent:
                # There is one beside another: all is well again.
                self._alone_since_s, self.notice = None, ""
            self._lent.add(process)
            return process

    def give_back(self, process: Any, config: ResourcesConfig) -> None:
        self._lent.discard(process)
        self._source.give_back(process, config)
        self._given_back.set()

    async def close(self) -> None:
        await self._source.close()

    def _take_turns(self, why: str) -> None:
        if not self.notice:
            logger.warning("dreams run one after the other: there is no second dreamer: %s", why)
        self._alone_since_s = self._clock.monotonic()
        self.notice = f"dreams run one after the other, since there is no second dreamer: {why}"
