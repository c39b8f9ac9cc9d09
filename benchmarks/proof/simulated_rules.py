"""When a space may dream, must dream, and what is said about it: worked out from what users did and what was heard.

Nothing of the scheduler is asked here. It is told of calls and of published events, and keeps its own account.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.proof.virtual_time import VirtualClock
from dreamsvc.clock import from_timestamp
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import Dream, SleepState
from dreamsvc.v1.dream_service_pb2 import GetStatusResponse, StreamStatusResponse

HALF_LIFE_S = 60.0
EPSILON_S = 1e-6
# Reading, writing and the turns of others, between the moment at which a dream is due and its beginning.
SLACK_S = 60.0
AFTER_FAILURE_S = 600.0
# REQ-DREAM-001, by the ends of the names.
MAY_FOLLOW = {
    "AWAKE": ("ENTERING_NREM", "TRANSITIONING"),
    "ENTERING_NREM": ("NREM", "WAKING"),
    "NREM": ("TRANSITIONING", "WAKING"),
    "TRANSITIONING": ("REM", "WAKING"),
    "REM": ("WAKING",),
    "WAKING": ("AWAKE",),
}
UNASKED = (dream_pb2.WAKE_REASON_CYCLE_COMPLETE, dream_pb2.WAKE_REASON_ERROR)
RESTING = (Dream.STATE_SUCCEEDED, Dream.STATE_SKIPPED, Dream.STATE_FAILED)


class History(NamedTuple):
    """What a start finds of a space."""

    # The last dream that ended by itself.
    last: Dream | None
    # Users changed something since that began.
    changed: bool
    suspended: bool
    proposed: str


@dataclass
class Told:
    """What is known of a space."""

    calls_s: list[float] = field(default_factory=list[float])
    # When the account of its activity can have begun at the earliest.
    since_s: float = 0.0
    last_end_s: float = -math.inf
    failed: bool = False
    # How much later the last dream of an earlier run may count as ended.
    later_s: float = 0.0
    # There is more to dream than calls tell of: it never did, or the last dream failed, or something changed meanwhile.
    owed: bool = True
    # As far as can be seen from here there may be.
    maybe_owed: bool = True
    suspended: bool = False
    proposed: str = ""
    state: str = "AWAKE"
    dream: Dream | None = None
    began_s: float = 0.0
    waking_s: float = 0.0


class Promise(NamedTuple):
    """Somebody was told when a space would dream if nothing happened."""

    eligible_s: float
    due_s: float


class Rules:
    """One for each run of the service."""

    def __init__(self, clock: VirtualClock, config: DreamConfig, tick_s: float, before: "Rules | None" = None) -> None:
        self._clock = clock
        self._config = config
        self._tick_s = tick_s
        # When users changed something of a space last, and when a dream began first.
        self._changed_s: dict[str, float] = before._changed_s if before else {}
        self._begun_s: dict[str, float] = before._begun_s if before else {}
        self.spaces: defaultdict[str, Told] = defaultdict(lambda: Told(since_s=clock.now_s))
        self.promises: dict[str, Promise] = {}
        # Calls under way that occupy a space, and triggers by users.
        self.alone: Counter[str] = Counter()
        self.triggers: Counter[str] = Counter()
        self.wrong: list[str] = []

    # ── what happens ────────────────────────────────────────────────────────────

    def found(self, space: str, history: History, starting_s: float) -> None:
        """A start that took so long has found this."""
        told = self.spaces[space]
        told.suspended, told.proposed = history.suspended, history.proposed
        if history.last is not None:
            ago_s = (self._clock.now_us() - from_timestamp(history.last.end_time)) / 1e6
            # By a clock that went back it ends in the future; then it has ended just now.
            told.last_end_s = self._clock.now_s - max(ago_s, 0.0)
            told.later_s = starting_s if ago_s < starting_s else 0.0
            told.failed = history.last.state == Dream.STATE_FAILED
            told.owed = told.maybe_owed = history.changed or history.suspended or told.failed

    def called(self, space: str) -> None:
        """A user asks or tells something."""
        told = self.spaces[space]
        told.calls_s.append(self._clock.now_s)
        self.promises.pop(space, None)

    def changed(self, space: str) -> None:
        """A change of a user is on disk."""
        self._changed_s[space] = self._clock.now_s
        self.promises.pop(space, None)

    def given_up(self, space: str) -> None:
        """A user had the interrupted dream dropped."""
        if self.spaces[space].dream is None:
            self.spaces[space].suspended = False

    def decided(self, space: str, dream: Dream) -> None:
        """A user approved or rejected a proposal."""
        told = self.spaces[space]
        if told.proposed == dream.id:
            told.proposed = ""
        if dream.state == Dream.STATE_SUCCEEDED:
            self._begun_s.setdefault(dream.id, -math.inf)
            self._rested(dream.space, told, dream)

    def dreaming(self) -> list[str]:
        return [name for name, one in self.spaces.items() if one.dream is not None]

    def situation(self, space: str) -> tuple[object, ...]:
        """Equal as long as nothing happens."""
        told = self.spaces[space]
        return (len(told.calls_s), told.state, told.dream, self.alone[space], self.triggers[space], self._others(space))

    def jumped(self) -> None:
        """The monotonic clock jumped: whoever was told a time was told too early a one."""
        self.promises.clear()
        for told in self.spaces.values():
            told.began_s = self._clock.now_s

    def asked(self, space: str) -> None:
        """The scheduler starts a dream by itself."""
        now, told, config = self._clock.now_s, self.spaces[space], self._config
        why = self._refusals(space)
        if told.dream is not None:
            why.append("it dreams")
        if self._eligible_s(told) > now + EPSILON_S and self._unsure_s(told) == 0:
            why.append(f"it is {self._eligible_s(told) - now:.3f} s too early")
        # Whoever called at its very end may have been too late for it.
        late = bool(told.calls_s) and told.calls_s[-1] > told.last_end_s - SLACK_S
        if not (self.has_news(told) or told.maybe_owed or told.suspended or late):
            why.append("nothing is new since its last dream")
        if len(self._others(space)) >= config.max_parallel:
            why.append("others dream")
        promise = self.promises.pop(space, None)
        if promise is not None and now < promise.eligible_s - 0.001:
            why.append(f"it was to be {promise.eligible_s - now:.3f} s later")
        if why:
            self.wrong.append(f'space "{space}" begins to dream by itself, though {", and ".join(why)}')

    def heard(self, event: StreamStatusResponse) -> None:
        """Something was published."""
        told = self.spaces[event.dream.space]
        match event.WhichOneof("event"):
            case "state_change":
                self._moved(told, event)
            case "closing":
                self._ended(event.dream.space, told, event.dream)
            case _:
                pass

    def _moved(self, told: Told, event: StreamStatusResponse) -> None:
        change, now = event.state_change, self._clock.now_s
        before = SleepState.Name(getattr(change, "from")).removeprefix("SLEEP_STATE_")
        after = SleepState.Name(change.to).removeprefix("SLEEP_STATE_")
        where = f'space "{event.dream.space}"'
        if before != told.state or after not in MAY_FOLLOW[before]:
            self.wrong.append(f"{where} is {told.state} and goes from {before} to {after}")
        told.state = after
        if before == "AWAKE":
            if told.dream is not None:
                self.wrong.append(f"{where} has two nights: {told.dream.id} and {event.dream.id}")
            told.dream, told.began_s = event.dream, now
            self._begun_s.setdefault(event.dream.id, now)
            self.promises.pop(event.dream.space, None)
            dreaming = self.dreaming()
            if len(dreaming) > self._config.max_parallel:
                self.wrong.append(f"{', '.join(dreaming)} dream, and at most {self._config.max_parallel} may")
        elif after == "WAKING":
            told.waking_s = now
        elif after == "AWAKE" and change.wake_reason not in UNASKED:
            took_ms = (now - told.waking_s) * 1000
            if abs(took_ms - change.wake_latency_ms) > 1e-3:
                self.wrong.append(f"{where} took {took_ms:.3f} ms to wake and says {change.wake_latency_ms:.3f}")
            if took_ms > self._config.resources.wake_latency_ms + 1e-6:
                self.wrong.append(f"{where} took {took_ms:.3f} ms to wake, more than its budget")

    def _ended(self, space: str, told: Told, dream: Dream) -> None:
        if told.state != "AWAKE" or told.dream is None or told.dream.id != dream.id:
            self.wrong.append(f'in space "{space}" dream {dream.id} ends and did not dream, or is not awake')
        told.dream = None
        # Whoever had to wait for this one comes next.
        due_s = self._clock.now_s + self._tick_s + SLACK_S
        self.promises = {name: one._replace(due_s=max(due_s, one.due_s)) for name, one in self.promises.items()}
        told.suspended = dream.state == Dream.STATE_SUSPENDED or (told.suspended and dream.dry_run)
        if dream.state == Dream.STATE_PROPOSED:
            told.proposed = dream.id
        if dream.state in (*RESTING, Dream.STATE_PROPOSED) and not dream.dry_run:
            self._rested(space, told, dream)
        if dream.state == Dream.STATE_FAILED and not (
            dream.message and dream.end_reason == dream_pb2.END_REASON_FAILED
        ):
            self.wrong.append(f"dream {dream.id} failed for no reason: {dream.message!r}")

    def _rested(self, space: str, told: Told, dream: Dream) -> None:
        told.last_end_s, told.later_s = self._clock.now_s, 0.0
        told.failed = dream.state == Dream.STATE_FAILED
        since_s = self._changed_s.get(space, -math.inf) - self._begun_s[dream.id]
        told.owed, told.maybe_owed = told.failed or since_s > 0, told.failed or since_s > -SLACK_S

    # ── what follows ────────────────────────────────────────────────────────────

    def has_news(self, told: Told) -> bool:
        return told.owed or bool(told.calls_s and told.calls_s[-1] > told.last_end_s)

    def activity(self, told: Told) -> float:
        ages = (self._clock.now_s - at for at in told.calls_s)
        return sum(math.log(2) / HALF_LIFE_S * 0.5 ** (age / HALF_LIFE_S) for age in ages)

    def _eligible_s(self, told: Told) -> float:
        """When a dream could begin by itself if nothing happened."""
        trigger, now = self._config.trigger, self._clock.now_s
        last_s = told.calls_s[-1] if told.calls_s else told.since_s
        rate = self.activity(told)
        calm_s = now
        if rate >= trigger.activity_threshold and rate > 0:
            calm_s = (
                now + HALF_LIFE_S * math.log2(rate / trigger.activity_threshold)
                if trigger.activity_threshold
                else math.inf
            )
        return max(last_s + trigger.idle_duration_minutes * 60, calm_s, self._cool_s(told))

    def _cool_s(self, told: Told) -> float:
        trigger = self._config.trigger
        rest_s = max(trigger.cooldown_minutes, trigger.min_cycle_gap_minutes) * 60
        return told.last_end_s + max(rest_s, AFTER_FAILURE_S if told.failed else 0.0)

    def _unsure_s(self, told: Told) -> float:
        """Before the first call a space counts as idle since somebody looked at it for the first time."""
        return told.later_s if told.calls_s else self._tick_s + SLACK_S

    def _others(self, space: str) -> set[str]:
        return ({*self.dreaming()} | {name for name, count in self.alone.items() if count}) - {space}

    def _longest_s(self, dream: Dream) -> float:
        """How long a night may take, whatever its dreamers do."""
        fault, start_s = self._config.fault, self._config.resources.dreamer_start_seconds
        once_s = 2 * start_s + dream.budget_seconds + 2 * fault.silence_seconds + SLACK_S
        return (1 + fault.max_retries) * once_s + SLACK_S

    def _refusals(self, space: str) -> list[str]:
        """What stands in the way whatever the time."""
        found = [] if self._config.enabled else ["dreaming is switched off"]
        found += ["it is on hold"] if space in self._config.hold_spaces else []
        found += ["dreams start by Trigger only"] if not self._config.trigger.automatic else []
        proposed = self.spaces[space].proposed and not self.alone[space]
        return found + (["a proposal waits"] if proposed else [])

    def check_status(self, space: str, status: GetStatusResponse) -> None:
        """What was said, in the very moment it was said."""
        told, why, now = self.spaces[space], status.why_not_dreaming, self._clock.now_s
        said = f'space "{space}" says "{why}"'
        if told.dream is not None or self.alone[space] or self.triggers[space]:
            return
        if wrong := self._untrue(space, told, why):
            self.wrong.append(f"{said}, {wrong}")
        if not status.HasField("next_eligible_time"):
            if not self._refusals(space) and self.has_news(told) and math.isfinite(self._eligible_s(told)):
                self.wrong.append(f"{said} and no time, though it could dream at {self._eligible_s(told):.3f}")
            return
        told_s = now + (from_timestamp(status.next_eligible_time) - self._clock.now_us()) / 1e6
        meant_s = max(self._eligible_s(told), now)
        if not -self._unsure_s(told) - 0.001 <= told_s - meant_s <= self._unsure_s(told) + 0.001:
            self.wrong.append(f"{said} and that it can dream in {told_s - now:.3f} s; that is in {meant_s - now:.3f} s")
        self.promises[space] = Promise(told_s, told_s + self._tick_s + SLACK_S)

    def _untrue(self, space: str, told: Told, why: str) -> str:
        """What is not so of a reason."""
        now, trigger = self._clock.now_s, self._config.trigger
        number = next((float(word) for word in why.replace(",", "").split() if word.replace(".", "").isdigit()), 0.0)
        last_s = told.calls_s[-1] if told.calls_s else told.since_s
        idle_s, cool_s = now - last_s, self._cool_s(told) - now
        idle_for_s = trigger.idle_duration_minutes * 60
        unsure_s = self._unsure_s(told)
        checks = {
            "": self._eligible_s(told) <= now + EPSILON_S + unsure_s and not self._refusals(space),
            "dreaming is switched off": not self._config.enabled,
            "the space is on hold": space in self._config.hold_spaces,
            "dream ": f"{told.proposed} waits" in why,
            "dreams start by Trigger only": not trigger.automatic,
            "nothing was remembered": not self.has_news(told) or bool(told.suspended and not told.calls_s),
            "the cooldown lasts": abs(cool_s - number) <= 1 + unsure_s,
            "the least gap between dreams lasts": abs(cool_s - number) <= 1 + unsure_s,
            "activity is": self.activity(told) >= trigger.activity_threshold
            and abs(self.activity(told) - number) < 0.01,
            "idle for": abs(idle_s - number) <= 1 + unsure_s and idle_s < idle_for_s + unsure_s,
        }
        if why.endswith("(dream.max_parallel)"):
            beginning = self.triggers.total() - self.triggers[space]
            dreaming = len(self._others(space)) + beginning
            return "" if dreaming >= self._config.max_parallel else "and others do not dream"
        begins = max((begin for begin in checks if why.startswith(begin)), key=len)
        return "" if checks[begins] else "which is not so"

    def late(self, *, troubled: bool) -> Iterator[str]:
        """Spaces that should dream by now. troubled: the store takes no writes, or did not until just now."""
        now = self._clock.now_s
        for space, told in self.spaces.items():
            if told.dream is not None and now - told.began_s > self._longest_s(told.dream) and not troubled:
                told.began_s = now
                yield f'space "{space}" dreams and dreams'
        for space, promise in list(self.promises.items()):
            if now <= promise.due_s:
                continue
            if troubled or len(self._others(space)) >= self._config.max_parallel or self.triggers.total():
                self.promises[space] = promise._replace(due_s=now + self._tick_s + SLACK_S)
                continue
            del self.promises[space]
            yield f'space "{space}" was to dream {now - promise.eligible_s:.1f} s ago and does not'
