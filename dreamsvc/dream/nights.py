"""Which spaces sleep now, and what the store says of their last dreams: in a space there is one night at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from dreamsvc.dream.night import Night
from dreamsvc.errors import DreamInProgress
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.store import Store
from dreamsvc.v1.dream_pb2 import Dream

# After these the cooldown begins; after a failure too, or a dreamer that cannot start would be tried every second.
RESTING = (Dream.STATE_SUCCEEDED, Dream.STATE_SKIPPED, Dream.STATE_FAILED)
ENDED = (*RESTING, Dream.STATE_DISCARDED, Dream.STATE_REVERTED)


class Nights:
    """One for the service; all on one event loop, so what is looked up and what is changed by it happen in one step."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        # None while a dream begins there, or while work is done that a dream must not come between.
        self._nights: dict[str, Night | None] = {}
        # Spaces whose night nobody asked for.
        self._by_itself: set[str] = set()
        # What the store says of a space's last and interrupted dream, until the next night changes it.
        self._history: dict[str, tuple[Dream | None, Dream | None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        # Whoever lets a space sleep, or works on its dreams, does so one after the other.
        self.turn = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._nights)

    def __contains__(self, space: str) -> bool:
        return space in self._nights

    @property
    def spaces(self) -> list[str]:
        return list(self._nights)

    def of(self, space: str) -> Night | None:
        return self._nights.get(space)

    def others(self, space: str) -> int:
        """Spaces besides this one that sleep."""
        return len(self._nights.keys() - {space})

    def running(self) -> list[Night]:
        return [night for night in self._nights.values() if night is not None]

    def begin(self, space: str, night: Night | None, *, by_itself: bool = False) -> None:
        """night: None while it is written down. by_itself: nobody asked for it."""
        self._nights[space] = night
        if by_itself:
            self._by_itself.add(space)

    def began_by_itself(self, space: str) -> bool:
        return space in self._by_itself

    def end(self, space: str) -> None:
        """The space is free; what the store says of it is another now."""
        self._nights.pop(space, None)
        self._by_itself.discard(space)
        self._history.pop(space, None)

    def forget(self, space: str) -> None:
        """Dreams of a space are not as they were looked up any more."""
        self._history.pop(space, None)

    async def settled(self, space: str) -> None:
        """Waits while the outcome of a dream that was woken, or has failed, is being written down."""
        night = self._nights.get(space)
        if night is None or night.dream.state == Dream.STATE_FOLDING:
            return
        if night.awake.is_set() or night.dream.state != Dream.STATE_RUNNING:
            await night.over.wait()

    async def history(self, space: str) -> tuple[Dream | None, Dream | None]:
        """The last dream that ended, and the interrupted one; remembered unless a night is about to change it."""
        if (known := self._history.get(space)) is not None:
            return known
        settled = space not in self._nights
        last = await asyncio.to_thread(self._journal.latest, space, ENDED)
        suspended = await asyncio.to_thread(self._journal.latest, space, [Dream.STATE_SUSPENDED])
        found = last.dream if last else None, suspended.dream if suspended else None
        if settled and space not in self._nights:
            self._history[space] = found
        return found

    async def alone[Answer](self, space: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Lets work on a space's dreams come to its end while nothing begins to dream there.

        Raises NotFound, DreamInProgress.
        """
        async with self.turn:
            await self.settled(space)
            self._store.graph(space)
            if space in self._nights:
                raise DreamInProgress(f'space "{space}" dreams; abort that first')
            self._nights[space] = None
        task = asyncio.create_task(self._then_free(space, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(heard_of)
        # Shielded: what has begun is not tied to the life of the call.
        return await asyncio.shield(task)

    def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def _then_free[Answer](self, space: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            return await work()
        finally:
            self.end(space)


def heard_of(task: asyncio.Task[Any]) -> None:
    """Whoever waited for it may be gone: then its error concerns nobody."""
    if not task.cancelled():
        task.exception()
