"""Chooses who sleeps next, every second, for as long as the service runs (REQ-DREAM-002).

Of spaces that are due, the one goes first that was due first; ten minutes count as much as one step of priority. So a
space is overtaken by higher ones for a time that they set, and never for ever.
"""

import asyncio
import logging
from typing import Protocol

from dreamsvc.clock import Clock
from dreamsvc.dream import trigger
from dreamsvc.dream.policies import Policies
from dreamsvc.dream.room import Room
from dreamsvc.dream.trigger import Decision, Kind, Situation
from dreamsvc.errors import DreamsvcError
from dreamsvc.memory.store import Store
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import TriggeredBy

logger = logging.getLogger(__name__)
TICK_S = 1.0
A_PRIORITY_S = 600.0


class Lulling(Protocol):
    """Whoever lets a space sleep."""

    @property
    def on_gpu(self) -> bool:
        """Dreams run on a GPU, as far as is known."""
        ...

    def situation(self, space: str) -> Situation: ...
    async def lull(self, space: str, by: TriggeredBy.ValueType) -> str:
        """Starts a dream that nobody asked for, and gives its id; raises DreamsvcError."""
        ...

    def wake_for_window(self, space: str) -> None:
        """Wakes a dream that began by itself, since its time window is over."""
        ...


class Choosing:
    """Decides for each space; where it decides otherwise than before, the log says so with all that it looked at."""

    def __init__(self, store: Store, policies: Policies, lulling: Lulling, room: Room, clock: Clock) -> None:
        self._store = store
        self._room = room
        self._clock = clock
        self._policies = policies
        self._lulling = lulling
        self._said: dict[str, Kind] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self.look_around()
            except Exception:
                # A decision in trouble must not be the last one.
                logger.exception("it could not be decided who sleeps next")

    async def look_around(self) -> None:
        due: list[tuple[float, str]] = []
        for space in self._store.space_names():
            decision = self._decide(space, say=False)
            if decision.kind in ("starts", "busy"):
                due.append((decision.due_s - A_PRIORITY_S * self._policies.priority(space), space))
                continue
            self._say(space, decision)
            if decision.kind == "dreaming" and self._is_outside(space):
                self._lulling.wake_for_window(space)
        if due:
            await self._room.look(self._clock.monotonic(), on_gpu=self._lulling.on_gpu)
        else:
            self._room.forget()
        for _, space in sorted(due):
            # One that was due may be so no more: those before it sleep now.
            decision = self._decide(space)
            if decision.start:
                await self._lull(space, decision)

    async def _lull(self, space: str, decision: Decision) -> None:
        why = "under memory pressure" if decision.triggered_by == dream_pb2.TRIGGERED_BY_MEMORY_PRESSURE else "idle"
        try:
            dream_id = await self._lulling.lull(space, decision.triggered_by)
            logger.info('space "%s" is %s: dream %s', space, why, dream_id)
        except DreamsvcError as error:
            logger.info('space "%s" is %s, but: %s', space, why, error.message)
        except Exception:
            # One space in trouble must not keep the others awake for ever.
            logger.exception('space "%s" is %s, but', space, why)

    def _is_outside(self, space: str) -> bool:
        situation = self._lulling.situation(space)
        return situation.opens(situation.now_s) > situation.now_s

    def _decide(self, space: str, *, say: bool = True) -> Decision:
        decision = trigger.decide(self._lulling.situation(space), self._policies.config(space))
        if say:
            self._say(space, decision)
        return decision

    def _say(self, space: str, decision: Decision) -> None:
        # The same again and again, each second, is for whoever looks for more.
        level = logging.DEBUG if self._said.get(space) == decision.kind else logging.INFO
        self._said[space] = decision.kind
        if logger.isEnabledFor(level):
            logger.log(level, "%s", told(space, self._lulling.situation(space), decision))


def told(space: str, situation: Situation, decision: Decision) -> str:
    """A decision with all that it looked at, on one line."""
    idle_s = max(0.0, situation.now_s - situation.last_call_s)
    end_s = situation.last_end_s
    last = "never dreamt" if end_s is None else f"last dream {situation.now_s - end_s:.0f} s ago"
    news = "news" if situation.news else "no news"
    inputs = (
        f"activity {situation.activity:.3f} calls/s, idle {idle_s:.0f} s, {last}, {news}, memory pressure"
        f" {situation.pressure:.2f}, {situation.others} others dream"
    )
    why = f": {decision.why_not}" if decision.why_not else ""
    return f'space "{space}" {"sleeps" if decision.start else decision.kind}{why} ({inputs})'
