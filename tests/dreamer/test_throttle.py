"""The share of the device, and how soon a stop is seen (REQ-DREAM-016, 023)."""

import threading
import time

import pytest

from dreamsvc import clock
from dreamsvc.dreamer.throttle import CHUNK_S, Allowed, Stopped, Throttle


class Rests(threading.Event):
    """Writes down how long it was to rest, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.rests: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.rests.append(timeout or 0.0)
        return self.is_set()


def busy(seconds: float) -> None:
    end = clock.precise_s() + seconds
    while clock.precise_s() < end:
        pass


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_it_rests_so_long_that_its_share_stays_below_the_limit(share: float) -> None:
    rests = Rests()
    throttle = Throttle(share, rests)
    for _ in range(20):
        throttle.run(lambda: busy(0.001))
    reached = throttle.busy_s / (throttle.busy_s + sum(rests.rests))
    assert 0.7 * share < reached < share


def test_the_whole_device_needs_no_rest() -> None:
    rests = Rests()
    Throttle(1.0, rests).run(lambda: busy(0.001))
    assert rests.rests == [0.0]


def test_chunks_grow_and_shrink_to_their_time() -> None:
    throttle = Throttle(1.0, Rests())
    assert throttle.steps(1000) == 1
    for _ in range(12):
        count = throttle.steps(1000)
        throttle.run_steps(count, lambda count=count: busy(count * 0.0001))
    assert 15 <= throttle.steps(1000) <= CHUNK_S / 0.0001 + 1
    assert throttle.steps(7) == 7
    for _ in range(8):
        count = throttle.steps(1000)
        throttle.run_steps(count, lambda count=count: busy(count * 0.003))
    assert throttle.steps(1000) <= 2


def test_a_stop_is_seen_after_the_chunk_and_ends_a_rest() -> None:
    stop = threading.Event()
    throttle = Throttle(1e-4, stop)
    threading.Timer(0.02, stop.set).start()
    began = time.monotonic()
    done: list[int] = []
    with pytest.raises(Stopped):
        # It would rest for two minutes.
        throttle.run(lambda: (busy(0.01), done.append(1)))
    assert time.monotonic() - began < 60
    assert done == [1]
    with pytest.raises(Stopped):
        throttle.check()


def test_what_is_allowed_holds_from_the_next_chunk_on() -> None:
    rests, allowed = Rests(), Allowed(0.5)
    throttle = Throttle(allowed, rests)
    throttle.run(lambda: busy(0.001))
    allowed.allow(0.05, paused=False)
    throttle.run(lambda: busy(0.001))
    assert rests.rests[1] > 5 * rests.rests[0]
    # Of two cores a thread may be busy twice as long.
    allowed.of_thread = lambda share: 2 * share
    assert throttle.duty == pytest.approx(2 * 0.05 * 0.83)


def test_a_pause_lasts_until_it_is_over_and_counts_as_no_time_of_the_dream() -> None:
    allowed = Allowed(1.0, paused=True)
    throttle = Throttle(allowed, threading.Event())
    threading.Timer(0.1, lambda: allowed.allow(1.0, paused=False)).start()
    began = time.monotonic()
    throttle.run(lambda: busy(0.001))
    assert time.monotonic() - began >= 0.1
    assert throttle.paused_s >= 0.05


def test_a_stop_ends_a_pause_at_once() -> None:
    stop = threading.Event()
    throttle = Throttle(Allowed(1.0, paused=True), stop)
    threading.Timer(0.02, stop.set).start()
    with pytest.raises(Stopped):
        throttle.run(lambda: busy(0.001))
