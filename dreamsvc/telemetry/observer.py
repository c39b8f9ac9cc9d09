"""Where calls, wakes and nights are told of. This one does nothing, for a service that measures nothing."""

from collections.abc import Sequence
from typing import override

from dreamsvc.v1.dream_pb2 import Dream, SleepState, WakeReason


class Observer:
    """Overridden by whoever wants to know; none of its methods may wait or raise."""

    def night_began(self, dream: Dream) -> None:
        """A space goes to sleep, in the task of whoever let it."""

    def night_moved(self, dream: Dream, sleep_state: SleepState.ValueType) -> None:
        """From here on the space is in this state."""

    def traceparent(self, dream: Dream) -> str:
        """The span of a night that goes on, for the dreamer; '' where it is not traced."""
        return ""

    def woken(self, latency_s: float, reason: WakeReason.ValueType, *, killed: bool) -> None:
        """A dream was woken; killed: the dreamer missed its budget."""

    def checkpointed(self) -> None:
        """A dream can go on from here, after a wake or a crash."""

    def night_over(self, dream: Dream) -> None:
        """A night ended, whichever way; the dream is complete, or can go on another night."""


class Observers(Observer):
    """Tells several."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    @override
    def night_began(self, dream: Dream) -> None:
        for one in self._observers:
            one.night_began(dream)

    @override
    def night_moved(self, dream: Dream, sleep_state: SleepState.ValueType) -> None:
        for one in self._observers:
            one.night_moved(dream, sleep_state)

    @override
    def traceparent(self, dream: Dream) -> str:
        return next(filter(None, (one.traceparent(dream) for one in self._observers)), "")

    @override
    def woken(self, latency_s: float, reason: WakeReason.ValueType, *, killed: bool) -> None:
        for one in self._observers:
            one.woken(latency_s, reason, killed=killed)

    @override
    def checkpointed(self) -> None:
        for one in self._observers:
            one.checkpointed()

    @override
    def night_over(self, dream: Dream) -> None:
        for one in self._observers:
            one.night_over(dream)
