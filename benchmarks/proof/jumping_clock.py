"""A clock for tests and proofs."""

from dreamsvc.clock import Clock, Micros

SECOND = 1_000_000
DAY = 86_400 * SECOND
BEGINNING_US = 1_700_000_000_123_456


class JumpingClock(Clock):
    """Stands still until it is told to move."""

    def __init__(self, us: int = BEGINNING_US) -> None:
        # What passes, and of that what the machine slept; how wrong the wall clock is.
        self.us = us
        self.slept_us = 0
        self.ahead_us = 0

    def now_us(self) -> Micros:
        return Micros(self.us + self.ahead_us)

    def monotonic(self) -> float:
        return (self.us - self.slept_us) / SECOND

    def asleep(self) -> float:
        return self.slept_us / SECOND
