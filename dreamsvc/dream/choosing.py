"""Looks for spaces that are due and lets them sleep, for as long as the service runs (REQ-DREAM-002)."""

import asyncio
import logging
from typing import Protocol

from dreamsvc.config import InForce
from dreamsvc.dream import trigger
from dreamsvc.dream.trigger import Situation
from dreamsvc.errors import DreamsvcError
from dreamsvc.memory.store import Store

logger = logging.getLogger(__name__)
TICK_S = 1.0


class Lulling(Protocol):
    """Whoever lets a space sleep."""

    def situation(self, space: str) -> Situation: ...
    async def lull(self, space: str) -> str:
        """Starts a dream that nobody asked for, and gives its id; raises DreamsvcError."""
        ...


class Choosing:
    """Decides for each space, every second."""

    def __init__(self, store: Store, config: InForce, lulling: Lulling) -> None:
        self._store = store
        self._config = config
        self._lulling = lulling

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for space in self._store.space_names():
                if not trigger.decide(self._lulling.situation(space), self._config.dream).start:
                    continue
                try:
                    dream_id = await self._lulling.lull(space)
                    logger.info('space "%s" is idle: dream %s', space, dream_id)
                except DreamsvcError as error:
                    logger.info('space "%s" is idle, but: %s', space, error.message)
                except Exception:
                    # One space in trouble must not keep the others awake for ever.
                    logger.exception('space "%s" is idle, but', space)
