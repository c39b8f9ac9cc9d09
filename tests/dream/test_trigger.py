"""When a dream starts by itself (REQ-DREAM-002), with a clock that only the test turns."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsvc import config
from dreamsvc.dream.trigger import HALF_LIFE_S, Activity, Situation, cooldown_ends, decide
from dreamsvc.v1.config_pb2 import DreamConfig

CONFIG = config.defaults().dream
MINUTE = 60.0


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
        (situation(others=1), CONFIG, "other spaces dream"),
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
