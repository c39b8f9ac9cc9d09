"""Latencies of wakes since the service started, in buckets of 1 % (REQ-DREAM-003, 023)."""

import math

from dreamsvc.dream.night import Woken
from dreamsvc.v1.dream_service_pb2 import WakeLatency

_GROWTH = math.log(1.01)
_SMALLEST_MS = 0.01


class WakeLatencies:
    """Bounded however long the service runs: a count for each bucket."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._count = 0
        self._killed = 0
        self._max_ms = 0.0

    def note(self, woken: Woken) -> None:
        bucket = math.ceil(math.log(max(woken.latency_ms, _SMALLEST_MS)) / _GROWTH)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self._count += 1
        self._killed += woken.killed
        self._max_ms = max(self._max_ms, woken.latency_ms)

    def summary(self) -> WakeLatency:
        return WakeLatency(
            count=self._count,
            p50_ms=self._quantile(0.50),
            p95_ms=self._quantile(0.95),
            p99_ms=self._quantile(0.99),
            max_ms=self._max_ms,
            killed=self._killed,
        )

    def _quantile(self, share: float) -> float:
        """Upper edge of the bucket that holds it, so at most 1 % above the true one."""
        left = math.ceil(share * self._count)
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return min(math.exp(bucket * _GROWTH), self._max_ms)
        return 0.0
