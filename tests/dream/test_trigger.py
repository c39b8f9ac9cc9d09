"""When a dream starts by itself (REQ-DREAM-002), with a clock that only the test turns."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsvc import config
from dreamsvc.dream.trigger import (
    HALF_LIFE_S,
    Activity,
    Situation,
    cooldown_ends,
    decide,
    end_of_earlier_run_s,
)
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import DreamConfig

CONFIG = config.defaults().dream
MINUTE = 60.0
DAY = 86_400.0


def situation(**changes: object) -> Situation:
    """Idle for an hour, after a first call, and nothing in the way."""
    idle = Situation(now_s=3600.0, activity=0.0, last_call_s=0.0, last_end_s=None, dreaming=False, others=0, news=True)
    return idle._replace(**changes)  # type: ignore[arg-type]


def changed(**fields: object) -> DreamConfig:
    made = DreamConfig()
    made.CopyFrom(CONFIG)
    for name, value in fields.items():
        setattr(made if hasattr(made, name) else made.trigger, name, value)
    return made


def test_an_idle_space_with_news_dreams() -> None:
    assert decide(situation(), CONFIG).start
    assert decide(situation(), CONFIG).why_not == ""


@pytest.mark.parametrize(
    ("at", "config_", "why"),
    [
        (situation(), changed(enabled=False), "switched off"),
        (situation(), changed(automatic=False), "Trigger only"),
        (situation(news=False), CONFIG, "nothing was remembered or recalled"),
        (situation(others=1), CONFIG, "other spaces dream (dream.max_parallel)"),
        (situation(others=1, parallel_key="features.x"), CONFIG, "other spaces dream (features.x)"),
        (situation(last_end_s=3600 - 29 * MINUTE), CONFIG, "cooldown"),
        (situation(activity=0.15), CONFIG, "activity is 0.15"),
        (situation(last_call_s=3600 - 9.9 * MINUTE), CONFIG, "idle for 594 s of 600 s"),
    ],
)
def test_what_keeps_it_awake_is_told(at: Situation, config_: DreamConfig, why: str) -> None:
    decision = decide(at, config_)
    assert not decision.start
    assert why in decision.why_not


def test_a_dream_that_runs_needs_no_excuse() -> None:
    decision = decide(situation(dreaming=True), CONFIG)
    assert (decision.start, decision.why_not, decision.eligible_s) == (False, "", None)


def test_the_threshold_is_a_strict_one() -> None:
    assert decide(situation(activity=0.1499), CONFIG).start
    assert not decide(situation(activity=0.15), CONFIG).start


def test_the_cooldown_is_counted_from_the_end_of_the_last_dream_and_is_over_once() -> None:
    end = 1000.0
    for seconds, starts in ((29 * MINUTE, False), (30 * MINUTE, True), (31 * MINUTE, True)):
        at = situation(now_s=end + seconds, last_end_s=end, last_call_s=end + 1)
        assert decide(at, CONFIG).start is starts
    assert cooldown_ends(situation(), CONFIG) == -math.inf


def test_more_spaces_may_dream_at_once_where_the_configuration_says_so() -> None:
    assert decide(situation(others=1), changed(max_parallel=2)).start


@given(
    now=st.floats(1000, 1e6),
    activity=st.floats(0, 1e4),
    idle=st.floats(0, 1000),
    ended=st.none() | st.floats(0, 1000),
    # Below that a rate is no float any more that halves: nobody asks for one call in 10^300 seconds.
    threshold=st.just(0.0) | st.floats(1e-300, 10),
)
def test_at_the_time_that_is_told_it_starts_unless_somebody_asks(
    now: float, activity: float, idle: float, ended: float | None, threshold: float
) -> None:
    last_end = None if ended is None else now - ended
    at = situation(now_s=now, activity=activity, last_call_s=now - idle, last_end_s=last_end)
    config_ = changed(activity_threshold=threshold)
    decision = decide(at, config_)
    if decision.eligible_s is None:
        # Then waiting does not help.
        assert threshold < 1e-300 or not math.isfinite(activity / threshold)
        return
    later = decision.eligible_s + 1e-3
    calm = activity * 0.5 ** ((later - now) / HALF_LIFE_S)
    assert decide(at._replace(now_s=later, activity=calm), config_).start
    assert decision.start == (decision.eligible_s <= now)


def test_activity_halves_in_a_minute_and_counts_each_call() -> None:
    activity = Activity(0)
    assert activity.rate(0) == 0
    for i in range(100):
        activity.note(float(i) / 100)
    rate = activity.rate(1)
    assert activity.rate(1 + HALF_LIFE_S) == pytest.approx(rate / 2)
    assert activity.last_call_s == 0.99


def test_a_call_each_second_is_an_activity_of_one() -> None:
    activity = Activity(0)
    for second in range(1200):
        activity.note(float(second))
    assert activity.rate(1199) == pytest.approx(1, rel=0.02)


def test_a_clock_that_stands_or_goes_back_gives_no_nonsense() -> None:
    activity = Activity(100)
    activity.note(100)
    activity.note(90)
    assert 0 < activity.rate(80) < 1


def test_the_cooldown_of_an_earlier_run_goes_on_and_never_lasts_longer_than_one() -> None:
    for went_s, left_s in ((0, 1800), (60, 1740), (1799, 1), (1800, 0), (365 * DAY, 0), (-1, 1800), (-365 * DAY, 1800)):
        now_s = 5.0
        end_s = end_of_earlier_run_s(1_700_000_000_000_000, 1_700_000_000_000_000 + int(went_s * 1e6), now_s)
        left = cooldown_ends(situation(now_s=now_s, last_end_s=end_s), CONFIG) - now_s
        assert max(0.0, left) == pytest.approx(left_s, abs=1e-3)


class Weeks:
    """A space and its user for as long as a test wants: what a scheduler knows, and what really happened."""

    TICK_S = 20.0

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        # Monotonic time begins anew with each boot and stands still while the machine sleeps; real time does neither.
        self.now_s = self._draw.uniform(0, 1e6)
        self.real_s = 1.7e9
        self.wall_ahead_s = 0.0
        self.activity = Activity(self.now_s)
        self.last_end_s: float | None = None
        self.end_wall_s = 0.0
        self.seen = False
        self.dreams = 0
        # In time that the machine was awake, since the last call and the last dream.
        self.quiet_s = 0.0
        self.rested_s = math.inf
        self.owed = True

    def situation(self) -> Situation:
        last_end = self.last_end_s
        news = not self.seen or (self.activity.called and self.activity.last_call_s > (last_end or 0.0))
        return Situation(
            self.now_s, self.activity.rate(self.now_s), self.activity.last_call_s, last_end, False, 0, news
        )

    def passes(self, seconds: float) -> None:
        """Awake, and looking around as the scheduler does."""
        for _ in range(int(seconds / self.TICK_S)):
            self.now_s += self.TICK_S
            self.real_s += self.TICK_S
            self.quiet_s += self.TICK_S
            self.rested_s += self.TICK_S
            if decide(self.situation(), CONFIG).start:
                self._dream()
            # The latest at which it has to have started: rested, idle, and calm again, each counted from now.
            assert not (self.owed and self.quiet_s > 20 * MINUTE and self.rested_s > 30 * MINUTE + self.TICK_S)

    def _dream(self) -> None:
        assert self.owed, "nothing was told since the last dream"
        assert self.rested_s >= 30 * MINUTE - 1e-3, "the cooldown was not over"
        assert self.quiet_s >= 10 * MINUTE - 1e-3, "somebody was just there"
        self.dreams += 1
        self.last_end_s, self.end_wall_s = self.now_s, self.real_s + self.wall_ahead_s
        self.seen, self.owed, self.rested_s = True, False, 0.0

    def calls(self, count: int) -> None:
        for _ in range(count):
            self.now_s += 0.01
            self.activity.note(self.now_s)
        self.quiet_s, self.owed = 0.0, True

    def sleeps(self, seconds: float) -> None:
        self.real_s += seconds

    def jumps(self, seconds: float) -> None:
        self.wall_ahead_s += seconds

    def restarts(self, off_s: float) -> None:
        """As `Scheduler.start` reads what the store holds."""
        self.real_s += off_s
        self.now_s = self._draw.uniform(0, 1e6)
        wall_s = self.real_s + self.wall_ahead_s
        if self.dreams:
            self.last_end_s = end_of_earlier_run_s(int(self.end_wall_s * 1e6), int(wall_s * 1e6), self.now_s)
            # By the wall clock; nobody knows better what passed between two runs.
            self.rested_s = max(0.0, wall_s - self.end_wall_s)
        self.seen = self.dreams > 0 and not self.owed
        self.activity = Activity(self.now_s)
        self.quiet_s = 0.0


@pytest.mark.parametrize("seed", range(4))
def test_over_weeks_of_sleep_jumps_and_restarts_it_dreams_once_for_what_was_told(seed: int) -> None:
    draw = random.Random(seed)
    weeks = Weeks(seed)
    began_s = weeks.real_s
    while weeks.real_s < began_s + 42 * DAY:
        match draw.randrange(6):
            case 0:
                weeks.calls(draw.randint(1, 200))
                weeks.passes(draw.uniform(0, 3) * 3600)
            case 1:
                weeks.sleeps(draw.uniform(0, DAY))
            case 2:
                weeks.jumps(draw.choice([-1, 1]) * draw.choice([30.0, 3600.0, 400 * DAY]))
            case 3:
                weeks.restarts(draw.uniform(0, DAY))
            case _:
                weeks.passes(draw.uniform(0, 2) * 3600)
    weeks.jumps(-weeks.wall_ahead_s)
    weeks.calls(1)
    before = weeks.dreams
    weeks.passes(2 * 3600)
    assert weeks.dreams == before + 1
    weeks.passes(DAY)
    assert weeks.dreams == before + 1, "it dreamed again, and nothing was told"
    assert before > 20


# ── memory pressure, the least gap, and time windows ────────────────────────────


def opening_at(opens_s: float) -> Callable[[float], float]:
    return lambda at_s: max(at_s, opens_s)


@pytest.mark.parametrize(
    ("changes", "config_", "kind", "why"),
    [
        ({"pressure": 0.81, "last_call_s": 3595.0}, CONFIG, "idle", "idle for 5 s of 10 s at memory pressure 0.81"),
        (
            {"pressure": 2.0, "last_end_s": 3000.0, "last_call_s": 3100.0},
            changed(min_cycle_gap_minutes=20),
            "gap",
            "the least gap between dreams lasts 600 s more at memory pressure 2.00",
        ),
        ({"pressure": 2.0, "last_awake_s": 3400.0, "last_call_s": 3300.0, "activity": 1.0}, CONFIG, "activity", "1.00"),
        ({"last_end_s": 3500.0}, changed(cooldown_minutes=1), "gap", "the least gap between dreams lasts 500 s more"),
        ({"last_end_s": 3500.0, "failed": True}, changed(cooldown_minutes=20), "cooldown", "lasts 1100 s more"),
        ({"opens": opening_at(4600.0)}, CONFIG, "window", "outside the time windows for 1000 s more"),
        ({"opens": opening_at(math.inf)}, CONFIG, "window", "outside the time windows (dream.trigger.windows)"),
        ({"busy": "others use 84 % of the CPU"}, CONFIG, "busy", "others use 84 % of the CPU"),
    ],
)
def test_why_a_dream_does_not_start_is_told_in_each_case(
    changes: dict[str, Any], config_: DreamConfig, kind: str, why: str
) -> None:
    decision = decide(situation(**changes), config_)
    assert (decision.start, decision.kind) == (False, kind)
    assert why in decision.why_not


def test_memory_pressure_is_above_its_threshold_and_tells_that_it_was_the_cause() -> None:
    busy = {"activity": 1.0, "last_call_s": 3590.0, "last_end_s": 3600.0 - 10 * MINUTE}
    assert not decide(situation(pressure=0.8, **busy), CONFIG).start
    decision = decide(situation(pressure=0.81, **busy), CONFIG)
    assert (decision.start, decision.triggered_by) == (True, dream_pb2.TRIGGERED_BY_MEMORY_PRESSURE)
    assert decide(situation(pressure=5.0), CONFIG).triggered_by == dream_pb2.TRIGGERED_BY_MEMORY_PRESSURE
    assert decide(situation(), CONFIG).triggered_by == dream_pb2.TRIGGERED_BY_IDLE


def test_the_time_that_is_told_lies_in_a_window_after_all_else_is_over() -> None:
    def daily(at_s: float) -> float:
        """Open in the first 100 s of each 1000."""
        return at_s if at_s % 1000 < 100 else (at_s // 1000 + 1) * 1000

    decision = decide(situation(last_call_s=3595.0, opens=daily), CONFIG)
    # Idle at 4195, and the next window after that.
    assert (decision.kind, decision.eligible_s) == ("idle", 5000.0)
    assert decide(situation(now_s=5000.0, last_call_s=3595.0, opens=daily), CONFIG).start


def test_a_busy_machine_is_waited_for_only_for_as_long_as_it_is_told() -> None:
    busy = situation(last_call_s=2400.0, busy="others use 84 % of the CPU", busy_for_s=1000.0)
    assert decide(busy, CONFIG).eligible_s == 4000.0
    assert decide(busy._replace(now_s=4000.0), CONFIG).start
    assert decide(situation(busy="others use 84 % of the GPU"), CONFIG).eligible_s is None
