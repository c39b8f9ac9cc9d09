"""How often one caller may call: token buckets, of a bounded number of callers."""

from collections import OrderedDict

from dreamsvc.clock import Clock

MOST_BUCKETS = 10_000


class RateLimits:
    """The buckets. Each holds `burst` calls and fills up by `per_second`, whatever these are when it is asked.

    The ones that were used longest ago go first; a caller who comes back then finds a full one.
    """

    def __init__(self, clock: Clock, most: int = MOST_BUCKETS) -> None:
        self._clock = clock
        self._most = most
        # By caller and limit: calls left in it, and when that was counted, in monotonic seconds.
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, caller: str, limit: str, per_second: float, burst: float) -> float:
        """Takes one call: 0, or the seconds until there is one to be taken, and then nothing was taken."""
        left = self._left((caller, limit), per_second, burst)
        if left < 1:
            return (1 - left) / per_second
        self._put((caller, limit), left - 1)
        return 0.0

    def _left(self, key: tuple[str, str], per_second: float, burst: float) -> float:
        found = self._buckets.get(key)
        if found is None:
            return burst
        left, at_s = found
        return min(burst, left + (self._clock.monotonic() - at_s) * per_second)

    def _put(self, key: tuple[str, str], left: float) -> None:
        self._buckets[key] = left, self._clock.monotonic()
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
