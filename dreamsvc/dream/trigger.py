"""Whether a dream may start: a function of the situation, so that every answer can be explained (REQ-DREAM-002)."""

import math
from typing import NamedTuple

from dreamsvc.v1.config_pb2 import DreamConfig

HALF_LIFE_S = 60.0
# After a dream that failed, whatever the cooldown: what failed a moment ago most likely fails again.
AFTER_FAILURE_S = 600.0


class Activity:
    """Calls by users in a second, decaying; what a dream does itself never counts."""

    def __init__(self, now_s: float) -> None:
        self._rate = 0.0
        self._at_s = now_s
        self.last_call_s = now_s
        self.called = False

    def note(self, now_s: float) -> None:
        self._rate = self.rate(now_s) + math.log(2) / HALF_LIFE_S
        self._at_s = self.last_call_s = now_s
        self.called = True

    def rate(self, now_s: float) -> float:
        """Calls a second, weighted by 0.5^(age/60 s)."""
        return self._rate * 0.5 ** (max(0.0, now_s - self._at_s) / HALF_LIFE_S)


class Situation(NamedTuple):
    """What a decision looks at; times in seconds of the monotonic clock."""

    now_s: float
    activity: float
    last_call_s: float
    last_end_s: float | None
    dreaming: bool
    # Dreams in other spaces.
    others: int
    # Anything was remembered or recalled since the last dream that ended by itself.
    news: bool
    # The space is on hold.
    held: bool = False
    # The dream that waits for somebody's word, if one does.
    proposed: str = ""
    # The last dream failed.
    failed: bool = False
    # The key that says how many dreams may run at the same time.
    parallel_key: str = "dream.max_parallel"


class Decision(NamedTuple):
    start: bool
    # Why not, in words; empty if it starts.
    why_not: str
    # When it could start if nobody asked anything until then; None where waiting does not help.
    eligible_s: float | None


def decide(situation: Situation, config: DreamConfig) -> Decision:
    """Whether a dream starts by itself now."""
    now = situation.now_s
    if not config.enabled:
        return Decision(False, "dreaming is switched off (dream.enabled)", None)
    if situation.dreaming:
        return Decision(False, "", None)
    if situation.held:
        return Decision(False, "the space is on hold (dream.hold_spaces)", None)
    if situation.proposed:
        return Decision(False, f"dream {situation.proposed} waits for approval", None)
    if not config.trigger.automatic:
        return Decision(False, "dreams start by Trigger only (dream.trigger.automatic is false)", None)
    if not situation.news:
        return Decision(False, "nothing was remembered or recalled since the last dream", None)
    idle_at = situation.last_call_s + config.trigger.idle_duration_minutes * 60
    calm_at = now + _calm_after(situation.activity, config.trigger.activity_threshold)
    cool_at = rested_at(situation, config)
    latest = max(idle_at, calm_at, cool_at, now)
    eligible = latest if math.isfinite(latest) else None
    if situation.others >= config.max_parallel:
        return Decision(False, f"{situation.others} other spaces dream ({situation.parallel_key})", eligible)
    if cool_at > now:
        return Decision(False, f"the cooldown lasts {cool_at - now:.0f} s more", eligible)
    if calm_at > now:
        return Decision(
            False,
            f"activity is {situation.activity:.2f} calls/s, above {config.trigger.activity_threshold:g}",
            eligible,
        )
    if idle_at > now:
        idle = now - situation.last_call_s
        return Decision(False, f"idle for {idle:.0f} s of {config.trigger.idle_duration_minutes * 60:.0f} s", eligible)
    return Decision(True, "", now)


def cooldown_ends(situation: Situation, config: DreamConfig) -> float:
    """When the cooldown after the last dream is over; -inf if there was none."""
    if situation.last_end_s is None:
        return -math.inf
    return situation.last_end_s + config.trigger.cooldown_minutes * 60


def rested_at(situation: Situation, config: DreamConfig) -> float:
    """When the next dream may start by itself for all that the last one says; -inf if there was none."""
    ends = cooldown_ends(situation, config)
    if not situation.failed or situation.last_end_s is None:
        return ends
    return max(ends, situation.last_end_s + AFTER_FAILURE_S)


def end_of_earlier_run_s(end_us: int, now_us: int, now_s: float) -> float:
    """When a dream of an earlier run ended, in seconds of this run's clock.

    By a wall clock that went back since it has ended just now, so that no cooldown is longer than one.
    """
    return now_s - max(0, now_us - end_us) / 1e6


def _calm_after(activity: float, threshold: float) -> float:
    """Seconds until the activity has decayed to the threshold."""
    if activity < threshold or activity <= 0:
        return 0.0
    return math.inf if threshold <= 0 else HALF_LIFE_S * math.log2(activity / threshold) + 1e-9
