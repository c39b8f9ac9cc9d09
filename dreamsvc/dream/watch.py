"""Numbered events of a space's dreams, for any number of watchers, each at its own pace.

Events lie in a bounded ring; a watcher holds a number and nothing else. One that is too slow
gets a gap that names what it missed, so no watcher makes memory grow or holds up a dream.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

from dreamsvc.clock import Clock, to_timestamp
from dreamsvc.v1.dream_pb2 import Dream, SleepState
from dreamsvc.v1.dream_service_pb2 import (
    Closing,
    Gap,
    Heartbeat,
    PresentState,
    ProgressMade,
    StateChange,
    StreamStatusResponse,
)

KEPT = 1024
PROGRESS_EVERY_S = 0.1


class Events:
    """The events of one space, in the order they happened."""

    def __init__(self, clock: Clock, first: int | None = None) -> None:
        """first: the number before that of the first event; by default the time, which grows as long as no clock goes
        back."""
        self._clock = clock
        self._ring: deque[StreamStatusResponse] = deque(maxlen=KEPT)
        self._last = clock.now_us() if first is None else first
        # The last one that is not in the ring any more; a watcher may have seen it before a restart.
        self._dropped = self._last
        self._changed = asyncio.Event()
        self._progress_s = -1.0
        self._closing = False

    def state_changed(self, sleep_state: SleepState.ValueType, dream: Dream, change: StateChange) -> None:
        self._publish(StreamStatusResponse(sleep_state=sleep_state, dream=dream, state_change=change))

    def progressed(self, sleep_state: SleepState.ValueType, dream: Dream) -> None:
        """Publishes the present progress unless the last was just now; the next one holds all of it anyway."""
        now = self._clock.monotonic()
        if now - self._progress_s >= PROGRESS_EVERY_S:
            self._progress_s = now
            self._publish(StreamStatusResponse(sleep_state=sleep_state, dream=dream, progress_made=ProgressMade()))

    def ended(self, sleep_state: SleepState.ValueType, dream: Dream) -> None:
        self._publish(
            StreamStatusResponse(
                sleep_state=sleep_state, dream=dream, closing=Closing(reason=Closing.REASON_DREAM_ENDED)
            )
        )

    def shut_down(self) -> None:
        """Ends every stream."""
        self._closing = True
        self._notify()

    async def follow(
        self, present: StreamStatusResponse, after: int, dream_id: str, heartbeat_s: Callable[[], float]
    ) -> AsyncIterator[StreamStatusResponse]:
        """Events after a number (0: the present state, then what follows) until the dream ends.

        With an empty dream_id the first dream that ends, ends the stream. heartbeat_s: asked before each wait.
        """
        # A number that is still to come is of an earlier run, while the clock was ahead.
        known = 0 < after <= self._last
        cursor = after if known else self._last
        if not known:
            yield self._stamped(present, self._last, present_state=True)
        while True:
            changed = self._changed
            for event in self._newer(cursor):
                cursor = event.sequence
                if dream_id and event.dream.id != dream_id:
                    continue
                yield event
                if event.WhichOneof("event") == "closing":
                    return
            if self._closing:
                last = StreamStatusResponse(closing=Closing(reason=Closing.REASON_SHUTTING_DOWN))
                yield self._stamped(last, cursor)
                return
            if changed is not self._changed:
                continue
            try:
                await asyncio.wait_for(changed.wait(), heartbeat_s())
            except TimeoutError:
                yield self._stamped(StreamStatusResponse(heartbeat=Heartbeat()), cursor)

    def past(self, dream: Dream, sleep_state: SleepState.ValueType, after: int) -> Iterator[StreamStatusResponse]:
        """What is left to tell of a dream that is over: its events after a number (0: none), and that it is over."""
        for event in self._newer(after) if after else []:
            if event.dream.id == dream.id:
                yield event
                if event.WhichOneof("event") == "closing":
                    return
        closing = Closing(reason=Closing.REASON_DREAM_ENDED)
        yield self._stamped(StreamStatusResponse(sleep_state=sleep_state, dream=dream, closing=closing), self._last)

    def _newer(self, cursor: int) -> list[StreamStatusResponse]:
        found: list[StreamStatusResponse] = []
        for event in reversed(self._ring):
            if event.sequence <= cursor:
                return found[::-1]
            found.append(event)
        if found and cursor < self._dropped:
            gap = Gap(from_sequence=cursor + 1, to_sequence=found[-1].sequence - 1)
            missed = StreamStatusResponse(sleep_state=found[-1].sleep_state, dream=found[-1].dream, gap=gap)
            found.append(self._stamped(missed, gap.to_sequence))
        return found[::-1]

    def _publish(self, event: StreamStatusResponse) -> None:
        self._last += 1
        if len(self._ring) == KEPT:
            self._dropped = self._ring[0].sequence
        self._ring.append(self._stamped(event, self._last))
        self._notify()

    def _notify(self) -> None:
        waiting, self._changed = self._changed, asyncio.Event()
        waiting.set()

    def _stamped(
        self, event: StreamStatusResponse, sequence: int, *, present_state: bool = False
    ) -> StreamStatusResponse:
        event.sequence = sequence
        event.time.CopyFrom(to_timestamp(self._clock.now_us()))
        if present_state:
            event.present.CopyFrom(PresentState())
        return event
