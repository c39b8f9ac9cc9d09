"""Quantiles of wake latencies, in a bounded place."""

import random

import pytest

from dreamsvc.dream.latency import WakeLatencies
from dreamsvc.dream.night import Woken


def test_quantiles_are_at_most_a_percent_too_high() -> None:
    draw = random.Random(1)
    values = sorted(draw.lognormvariate(2, 1) for _ in range(5000))
    latencies = WakeLatencies()
    for value in values:
        latencies.note(Woken(value, killed=False))
    found = latencies.summary()
    for share, told in ((0.5, found.p50_ms), (0.95, found.p95_ms), (0.99, found.p99_ms)):
        true = values[int(share * len(values)) - 1]
        assert true <= told * 1.0001
        assert told <= true * 1.011
    assert (found.count, found.max_ms, found.killed) == (5000, values[-1], 0)


@pytest.mark.parametrize("value", [0.0, 1e-9, 12.5, 1e6])
def test_one_wake_is_every_quantile_of_itself(value: float) -> None:
    latencies = WakeLatencies()
    latencies.note(Woken(value, killed=True))
    found = latencies.summary()
    assert found.p50_ms == found.p99_ms == pytest.approx(value, rel=0.01)
    assert found.killed == 1


def test_no_wake_is_zero_and_not_an_error() -> None:
    assert WakeLatencies().summary().count == 0
    assert WakeLatencies().summary().p99_ms == 0
