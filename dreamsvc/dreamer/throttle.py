"""Holds the dream to its share of the device, and notices a stop within one chunk (REQ-DREAM-016, 023)."""

import threading
from collections.abc import Callable

from dreamsvc import clock

CHUNK_S = 0.005
# Below the allowed share by this much, since what is measured from outside includes the overhead.
MARGIN = 0.83
SMOOTHING = 0.3
# How often it looks whether a pause is over; a stop ends it at once.
PAUSED_S = 0.02


class Stopped(Exception):
    """The dream was told to stop."""


class Allowed:
    """What the process that serves allows now: written by the thread that listens, read by the one that dreams."""

    def __init__(self, max_share: float, *, paused: bool = False) -> None:
        """max_share: of the device."""
        self._max_share = max_share
        self.paused = paused
        # How much of its time the dreaming thread may be busy for a share of the device.
        self.of_thread: Callable[[float], float] = lambda share: share

    def allow(self, max_share: float, *, paused: bool) -> None:
        self._max_share, self.paused = max_share, paused

    @property
    def share(self) -> float:
        """Of the thread's time."""
        return self.of_thread(self._max_share)


class Throttle:
    """Runs work in chunks of at most about 5 ms and rests after each, so that the share stays below what is allowed.

    The share reached is what counts, so it is measured; the rest is what steers it.
    """

    def __init__(self, max_share: "float | Allowed", stop: threading.Event) -> None:
        """max_share: of the thread's time, up to 1 for no rest at all."""
        self._allowed = max_share if isinstance(max_share, Allowed) else Allowed(max_share)
        self._stop = stop
        self._step_s = CHUNK_S
        self.busy_s = 0.0
        # Time in which it did nothing, since others needed the device.
        self.paused_s = 0.0

    @property
    def duty(self) -> float:
        share = self._allowed.share
        return share * MARGIN if share < 1 else 1.0

    def check(self) -> None:
        """Raises Stopped."""
        if self._stop.is_set():
            raise Stopped

    def run[T](self, work: Callable[[], T]) -> T:
        """Runs one piece of work, which must block until the device is done, and rests; raises Stopped after it."""
        began = clock.precise_s()
        result = work()
        self._rest(clock.precise_s() - began)
        return result

    def steps(self, left: int) -> int:
        """How many of `left` equal steps fill a chunk; grows to at most twice the last."""
        return max(1, min(left, int(CHUNK_S / self._step_s)))

    def run_steps[T](self, count: int, work: Callable[[], T]) -> T:
        """Like `run`, for `count` equal steps, whose time it learns from."""
        began = clock.precise_s()
        result = work()
        took = clock.precise_s() - began
        each = took / count
        self._step_s = max(self._step_s / 2, (1 - SMOOTHING) * self._step_s + SMOOTHING * each, 1e-6)
        self._rest(took)
        return result

    def _rest(self, busy: float) -> None:
        self.busy_s += busy
        if self._stop.wait(busy * (1 / self.duty - 1)):
            raise Stopped
        while self._allowed.paused:
            began = clock.precise_s()
            stopped = self._stop.wait(PAUSED_S)
            self.paused_s += clock.precise_s() - began
            if stopped:
                raise Stopped
