"""Token buckets: a burst, a refill, and a bounded number of callers."""

from hypothesis import given
from hypothesis import strategies as st

from dreamsvc.server.rate_limits import RateLimits
from tests.server.calls_in import ByHand


def test_a_burst_passes_and_then_calls_come_by_the_refill() -> None:
    clock = ByHand()
    limits = RateLimits(clock)
    assert [limits.take("a", "reads", 2, 3) for _ in range(3)] == [0, 0, 0]
    assert limits.take("a", "reads", 2, 3) == 0.5
    assert limits.take("a", "reads", 2, 3) == 0.5, "who is refused does not wait longer for it"
    clock.passed_s += 0.5
    assert limits.take("a", "reads", 2, 3) == 0
    assert limits.take("a", "reads", 2, 3) == 0.5


def test_one_callers_flood_is_nobody_elses_business() -> None:
    limits = RateLimits(ByHand())
    while not limits.take("a", "reads", 1, 5):
        pass
    assert limits.take("b", "reads", 1, 5) == 0
    assert limits.take("a", "writes", 1, 5) == 0


def test_the_caller_who_has_not_called_for_longest_is_forgotten_first() -> None:
    limits = RateLimits(ByHand(), most=2)
    for name in ("a", "b"):
        assert limits.take(name, "reads", 1, 1) == 0
    assert limits.take("c", "reads", 1, 1) == 0
    assert len(limits) == 2
    assert limits.take("b", "reads", 1, 1) == 1, "b is known"
    assert limits.take("a", "reads", 1, 1) == 0, "a begins anew"


@given(
    per_second=st.floats(0.01, 1000),
    burst=st.integers(1, 100),
    waits_s=st.lists(st.floats(0, 10), min_size=1, max_size=200),
)
def test_no_more_than_burst_and_refill_ever_pass(per_second: float, burst: int, waits_s: list[float]) -> None:
    clock = ByHand()
    limits = RateLimits(clock)
    passed = 0
    for wait_s in waits_s:
        clock.passed_s += wait_s
        passed += limits.take("a", "reads", per_second, burst) == 0
    assert passed <= burst + clock.passed_s * per_second + 1e-6
