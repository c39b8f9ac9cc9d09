"""Whether a dream may start: a function of the situation, so that every answer can be explained (REQ-DREAM-002, 017).

A dream starts by itself where there is news, and either nobody asked anything for long enough and the cooldown is over,
or memory pressure is high; never in the least gap between two dreams, never outside the time windows.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import TriggeredBy

HALF_LIFE_S = 60.0
# After a dream that failed, whatever the cooldown: what failed a moment ago most likely fails again.
AFTER_FAILURE_S = 600.0
# Memory pressure waits so long after a call: in a burst of calls the next one would wake the dream at once.
QUIET_S = 10.0
NEVER_S = math.inf

type Kind = Literal[
    "starts",
    "switched off",
    "dreaming",
    "on hold",
    "proposal",
    "by request",
    "no news",
    "others",
    "busy",
    "window",
    "gap",
    "cooldown",
    "activity",
    "idle",
]


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


def any_time(at_s: float) -> float:
    return at_s


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
    # The key that switches dreaming off.
    disabled_by: str = ""
    # The space is on hold.
    held: bool = False
    # The dream that waits for somebody's word, if one does.
    proposed: str = ""
    # The last dream failed.
    failed: bool = False
    # The key that says how many dreams may run at the same time.
    parallel_key: str = "dream.max_parallel"
    # Memories that came since the last night began, over those that a night is meant for.
    pressure: float = 0.0
    # When the last night was over, whether it came to its end or was woken.
    last_awake_s: float | None = None
    # The first time from another on that lies in a time window; infinite where none does.
    opens: Callable[[float], float] = any_time
    # Why the machine has no room for a dream, '' where it has, and how long one that is due waits for that.
    busy: str = ""
    busy_for_s: float = math.inf
    # Dreams that may run at the same time as things are; 0: as configured.
    most_parallel: int = 0


class Decision(NamedTuple):
    start: bool
    # Why not, in words; empty if it starts.
    why_not: str
    # When it could start if nobody asked anything until then; None where waiting does not help.
    eligible_s: float | None
    # Decisions of one kind differ in numbers only.
    kind: Kind
    # From when on it could have started, but for what others do.
    due_s: float = 0.0
    triggered_by: TriggeredBy.ValueType = dream_pb2.TRIGGERED_BY_IDLE


def decide(situation: Situation, config: DreamConfig) -> Decision:
    """Whether a dream starts by itself now. config: as it holds for the space."""
    return _never(situation, config) or _timed(situation, config)


def _never(situation: Situation, config: DreamConfig) -> Decision | None:
    """What no waiting helps against."""
    if not config.enabled:
        why = f"dreaming is switched off ({situation.disabled_by or 'dream.enabled'})"
        return Decision(False, why, None, "switched off")
    if situation.dreaming:
        return Decision(False, "", None, "dreaming")
    if situation.held:
        return Decision(False, "the space is on hold (dream.hold_spaces)", None, "on hold")
    if situation.proposed:
        return Decision(False, f"dream {situation.proposed} waits for approval", None, "proposal")
    if not config.trigger.automatic:
        why = "dreams start by Trigger only (dream.trigger.automatic is false)"
        return Decision(False, why, None, "by request")
    if not situation.news:
        return Decision(False, "nothing was remembered or recalled since the last dream", None, "no news")
    return None


def _timed(situation: Situation, config: DreamConfig) -> Decision:
    now = situation.now_s
    ready_at, by = _ready_at(situation, config)
    opens_at = situation.opens(max(ready_at, now)) if math.isfinite(ready_at) else math.inf
    eligible = opens_at if math.isfinite(opens_at) else None
    if situation.others >= (situation.most_parallel or config.max_parallel):
        why = f"{situation.others} other spaces dream ({situation.parallel_key})"
        return Decision(False, why, eligible, "others", ready_at, by)
    if ready_at > now:
        kind, why = _not_ready(situation, config, by)
        return Decision(False, why, eligible, kind, ready_at, by)
    if opens_at > now:
        left = f" for {opens_at - now:.0f} s more" if eligible is not None else ""
        why = f"outside the time windows{left} (dream.trigger.windows)"
        return Decision(False, why, eligible, "window", ready_at, by)
    if situation.busy and now < ready_at + situation.busy_for_s:
        opens_at = situation.opens(ready_at + situation.busy_for_s) if math.isfinite(situation.busy_for_s) else math.inf
        return Decision(False, situation.busy, opens_at if math.isfinite(opens_at) else None, "busy", ready_at, by)
    return Decision(True, "", now, "starts", ready_at, by)


def _ready_at(situation: Situation, config: DreamConfig) -> tuple[float, TriggeredBy.ValueType]:
    """When it has been quiet for long enough, and by which rule."""
    idle_at = max(_idle_at(situation, config), _calm_at(situation, config), rested_at(situation, config))
    if situation.pressure > config.trigger.memory_pressure_threshold:
        pressed_at = max(situation.last_call_s + QUIET_S, _gap_ends(situation, config, woken=True))
        if pressed_at < idle_at:
            return pressed_at, dream_pb2.TRIGGERED_BY_MEMORY_PRESSURE
    return idle_at, dream_pb2.TRIGGERED_BY_IDLE


def _not_ready(situation: Situation, config: DreamConfig, by: TriggeredBy.ValueType) -> tuple[Kind, str]:
    now, wanted = situation.now_s, config.trigger
    pressed = by == dream_pb2.TRIGGERED_BY_MEMORY_PRESSURE
    pressure = f" at memory pressure {situation.pressure:.2f}" if pressed else ""
    gap_ends, cool_at = _gap_ends(situation, config, woken=pressed), rested_at(situation, config)
    if now < gap_ends and (pressed or gap_ends >= cool_at):
        why = f"the least gap between dreams lasts {gap_ends - now:.0f} s more{pressure}"
        return "gap", why
    idle = max(0.0, now - situation.last_call_s)
    if pressed:
        return "idle", f"idle for {idle:.0f} s of {QUIET_S:.0f} s{pressure}"
    if now < cool_at:
        return "cooldown", f"the cooldown lasts {cool_at - now:.0f} s more"
    if now < _calm_at(situation, config):
        return "activity", f"activity is {situation.activity:.2f} calls/s, above {wanted.activity_threshold:g}"
    return "idle", f"idle for {idle:.0f} s of {wanted.idle_duration_minutes * 60:.0f} s"


def cooldown_ends(situation: Situation, config: DreamConfig) -> float:
    """When the cooldown after the last dream is over; -inf if there was none."""
    if situation.last_end_s is None:
        return -math.inf
    return situation.last_end_s + config.trigger.cooldown_minutes * 60


def rested_at(situation: Situation, config: DreamConfig) -> float:
    """When the next dream may start by itself, without memory pressure, for all that the last one says; -inf if none
    was."""
    return max(cooldown_ends(situation, config), _gap_ends(situation, config, woken=False))


def _gap_ends(situation: Situation, config: DreamConfig, *, woken: bool) -> float:
    """When nothing forbids another dream any more, whatever it is for. woken: one that was woken counts too."""
    ends = [-math.inf]
    gap_s = config.trigger.min_cycle_gap_minutes * 60
    if situation.last_end_s is not None:
        ends.append(situation.last_end_s + max(gap_s, AFTER_FAILURE_S if situation.failed else 0.0))
    if woken and situation.last_awake_s is not None:
        ends.append(situation.last_awake_s + gap_s)
    return max(ends)


def _idle_at(situation: Situation, config: DreamConfig) -> float:
    return situation.last_call_s + config.trigger.idle_duration_minutes * 60


def _calm_at(situation: Situation, config: DreamConfig) -> float:
    """When the activity has decayed to the threshold; -inf where it has."""
    calm_after_s = _calm_after(situation.activity, config.trigger.activity_threshold)
    return situation.now_s + calm_after_s if calm_after_s > 0 else -math.inf


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
