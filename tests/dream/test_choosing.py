"""Who sleeps next (REQ-DREAM-002, 017): weeks of several spaces on a clock that only the test turns.

Situations, policies, the decision and the choosing are the real ones; what a store holds and how long a night takes is
told by the test.
"""

import contextlib
import logging
import math
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamsvc import clock as clocks
from dreamsvc import config, windows
from dreamsvc.clock import Clock, Micros
from dreamsvc.config import InForce
from dreamsvc.dream import choosing
from dreamsvc.dream.choosing import Choosing
from dreamsvc.dream.policies import Policies
from dreamsvc.dream.room import Room
from dreamsvc.dream.seen import Seen
from dreamsvc.dream.situations import Situations
from dreamsvc.dream.trigger import AFTER_FAILURE_S, Situation, decide
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import Config
from tests.dream.measured import FakeMachine

MINUTE = 60.0
HOUR = 3600.0
DAY = 86_400.0
TICK_S = 20.0
# Where days go by.
LONG_TICK_S = 300.0
MEMORY = 0


def at_once(work: Coroutine[Any, Any, None]) -> None:
    """Runs what never has to wait, without a loop."""
    with contextlib.suppress(StopIteration):
        work.send(None)
        raise AssertionError("it waits")


class Turned(Clock):
    """Monotonic time that the test turns, and a wall clock that it puts."""

    def __init__(self, begin_us: int) -> None:
        self.now_s = 1000.0
        self.ahead_us = begin_us

    def now_us(self) -> Micros:
        return Micros(self.ahead_us + int(self.now_s * 1e6))

    def monotonic(self) -> float:
        return self.now_s


class View(NamedTuple):
    n: int
    node_ids: Any
    roles: Any
    alive: Any


class Graph(NamedTuple):
    view: View


class Kept:
    """As much of a store as situations ask about."""

    def __init__(self, names: list[str]) -> None:
        self.memories = dict.fromkeys(names, 1)

    def space_names(self) -> list[str]:
        return list(self.memories)

    def graph(self, space: str) -> Graph:
        n = self.memories[space]
        return Graph(View(n, np.arange(1, n + 1), np.full(n, MEMORY, np.int8), np.ones(n, np.bool_)))


@dataclass
class Told:
    """What really happened in a space."""

    begun_s: list[float] = field(default_factory=list[float])
    by: list[int] = field(default_factory=list[int])
    ends_s: float = math.inf
    last_end_s: float = -math.inf
    woken_s: float = -math.inf
    calls_s: list[float] = field(default_factory=list[float])
    owed: bool = True
    # Since when nothing but others or the hour has kept it awake.
    due_s: float | None = None


class Town:
    """Several spaces under one scheduler, played."""

    def __init__(self, settings_: Config, names: list[str], *, night_s: float = 300.0, begin: str = "") -> None:
        begin_us = clocks.from_iso(begin or "2026-11-30T12:00:00Z")
        self.clock = Turned(begin_us)
        self.config = InForce(settings_)
        self.store: Any = Kept(names)
        self.policies = Policies(self.config)
        self.machine = FakeMachine()
        self.room = Room(self.config, self.machine, lambda: (0.0, []))
        self.situations = Situations(self.store, self.config, self.policies, self.clock, self)
        self.choosing = Choosing(self.store, self.policies, self, self.room, self.clock)
        self.told = {name: Told() for name in names}
        self.night_s = night_s
        self.order: list[str] = []
        self.most_at_once = 0
        self.window_wakes = 0
        self.fails = False
        # Share of the cores that others use.
        self.others = 0.0
        self.wrong: list[str] = []

    # ── what the choosing asks for ──────────────────────────────────────────────

    parallel_notice, most_parallel, on_gpu = "", 0, False

    @property
    def busy(self) -> str:
        return self.room.busy

    @property
    def busy_for_s(self) -> float:
        return self.room.wait_s

    def situation(self, space: str) -> Situation:
        dreaming = self.dreaming()
        return self.situations.of(space, dreaming=space in dreaming, others=len(set(dreaming) - {space}))

    def dreaming(self) -> list[str]:
        return [name for name, told in self.told.items() if told.ends_s < math.inf]

    async def lull(self, space: str, by: int) -> str:
        told, now = self.told[space], self.clock.now_s
        try:
            self.require_allowed(space, by)
        except AssertionError as error:
            # Whoever chooses goes on after an error; the test must not.
            self.wrong.append(str(error))
        told.begun_s.append(now)
        told.by.append(by)
        told.ends_s, told.due_s = now + self.night_s, None
        self.order.append(space)
        self.most_at_once = max(self.most_at_once, len(self.dreaming()))
        return f"d{len(self.order)}"

    def wake_for_window(self, space: str) -> None:
        self.window_wakes += 1
        self.wakes(space)

    # ── what happens ────────────────────────────────────────────────────────────

    def calls(self, space: str, memories: int = 0) -> None:
        self.store.memories[space] += memories
        self.situations.note_call(space)
        told = self.told[space]
        told.calls_s.append(self.clock.now_s)
        told.owed, told.due_s = True, None
        if told.ends_s < math.inf:
            self.wakes(space)

    def wakes(self, space: str) -> None:
        """A dream is interrupted, and kept to go on from."""
        told = self.told[space]
        told.ends_s, told.woken_s = math.inf, self.clock.now_s
        self.situations.note_awake(space)

    def passes(self, seconds: float, tick_s: float = TICK_S) -> None:
        for _ in range(max(1, int(seconds / tick_s))):
            self.clock.now_s += tick_s
            if self.machine.busy_s is not None:
                self.machine.busy_s += tick_s * self.others
            for space in self.dreaming():
                if self.told[space].ends_s <= self.clock.now_s:
                    self._ends(space)
            at_once(self.choosing.look_around())
            assert not self.wrong
            self.require_not_forgotten()

    def _ends(self, space: str) -> None:
        told = self.told[space]
        told.ends_s, told.last_end_s, told.owed = math.inf, self.clock.now_s, self.fails
        seen = Seen(not self.fails, self.store.memories[space])
        self.situations.note_end(space, self.clock.now_s, seen, failed=self.fails)
        self.situations.note_awake(space)

    # ── what must be so ─────────────────────────────────────────────────────────

    def open(self, space: str) -> bool:
        trigger = self.policies.config(space).trigger
        us, where = self.clock.now_us(), clocks.zone(trigger.time_zone)
        found = windows.parse(trigger.windows)
        return found.always or found.next_in(us, lambda at: clocks.utc_offset_s(at, where)) == us

    def require_allowed(self, space: str, by: int) -> None:
        told, now, trigger = self.told[space], self.clock.now_s, self.policies.config(space).trigger
        assert told.owed or told.woken_s > told.last_end_s, "nothing was told since the last dream"
        assert now - told.last_end_s >= trigger.min_cycle_gap_minutes * 60 - 1e-3, "twice within the gap"
        assert self.open(space), "outside the time windows"
        assert len(self.dreaming()) < self.config.dream.max_parallel
        if by == dream_pb2.TRIGGERED_BY_IDLE:
            assert now - told.last_end_s >= trigger.cooldown_minutes * 60 - 1e-3, "the cooldown was not over"
            if told.calls_s:
                assert now - told.calls_s[-1] >= trigger.idle_duration_minutes * 60 - 1e-3, "somebody was just there"
        else:
            assert by == dream_pb2.TRIGGERED_BY_MEMORY_PRESSURE
            assert self.store.memories[space] > trigger.memory_pressure_threshold * trigger.memory_capacity
            assert now - told.woken_s >= trigger.min_cycle_gap_minutes * 60 - 1e-3, "again right after a wake"

    def require_not_forgotten(self) -> None:
        """A space with news that is idle and may dream does so, once those before it have."""
        now = self.clock.now_s
        for space, told in self.told.items():
            trigger = self.policies.config(space).trigger
            quiet_s = now - (told.calls_s[-1] if told.calls_s else 1000.0)
            rest_s = max(trigger.cooldown_minutes, trigger.min_cycle_gap_minutes) * 60
            # Twice what it must be idle: activity decays meanwhile.
            ready = (
                quiet_s > max(2 * trigger.idle_duration_minutes * 60, 20 * MINUTE) and now - told.last_end_s > rest_s
            )
            ready = ready and told.owed and told.ends_s == math.inf and self.open(space)
            told.due_s = (told.due_s or now) if ready else None
            if told.due_s is None:
                continue
            spread = 2 * 100 * choosing.A_PRIORITY_S if self.config.dream.spaces else 0.0
            busy_s = HOUR if self.others else 0.0
            bound_s = busy_s + len(self.told) * (self.night_s + 2 * LONG_TICK_S) + spread
            assert now - told.due_s <= bound_s, f"{space} waits for ever"


def made(**trigger: object) -> Config:
    settings_ = config.defaults()
    settings_.dream.resources.eligible_usage = 1
    for name, value in trigger.items():
        if name == "windows":
            settings_.dream.trigger.windows.extend(value)  # type: ignore[arg-type]
        else:
            setattr(settings_.dream.trigger, name, value)
    return settings_


# ── turns ───────────────────────────────────────────────────────────────────────


def test_spaces_that_are_due_at_once_take_turns_the_longest_waiting_first() -> None:
    town = Town(made(), ["a", "b", "c"])
    for space in "cab":
        town.calls(space)
        town.passes(TICK_S)
    town.passes(2 * HOUR)
    assert town.order == ["c", "a", "b"]
    assert town.most_at_once == 1


def test_a_space_of_higher_priority_goes_first_and_ten_minutes_of_waiting_outweigh_a_step() -> None:
    settings_ = made()
    settings_.dream.spaces.add(space="b", priority=1)
    town = Town(settings_, ["a", "b"], night_s=20 * MINUTE)
    for space in "ab":
        town.calls(space)
    town.passes(40 * MINUTE)
    assert town.order == ["b", "a"]
    town = Town(settings_, ["a", "b", "c"], night_s=20 * MINUTE)
    town.calls("c")
    # While c dreams a waits from the 12th minute on, and b from the 26th.
    town.passes(2 * MINUTE)
    town.calls("a")
    town.passes(14 * MINUTE)
    town.calls("b")
    town.passes(HOUR)
    assert town.order == ["c", "a", "b"]


def test_a_space_that_is_always_due_and_of_highest_priority_starves_nobody() -> None:
    settings_ = made(
        idle_duration_minutes=0.01, cooldown_minutes=0.0, min_cycle_gap_minutes=0.0, activity_threshold=9.0
    )
    for name in ("greedy", "eager"):
        settings_.dream.spaces.add(space=name, priority=3)
    town = Town(settings_, ["greedy", "eager", "meek"], night_s=10 * MINUTE)
    for _ in range(200):
        for name in ("greedy", "eager"):
            if town.told[name].ends_s == math.inf:
                town.calls(name)
        town.passes(TICK_S * 3)
    assert town.told["meek"].begun_s
    assert town.told["meek"].begun_s[0] < 1000 + 3 * 10 * MINUTE + 4 * 10 * MINUTE + 10 * MINUTE


def test_as_many_dream_at_once_as_may() -> None:
    settings_ = made()
    settings_.dream.max_parallel = 2
    town = Town(settings_, ["a", "b", "c", "d"])
    for space in "abcd":
        town.calls(space)
    town.passes(HOUR)
    assert sorted(town.order) == ["a", "b", "c", "d"]
    assert town.most_at_once == 2


# ── what forces, and what forbids ───────────────────────────────────────────────


def test_memory_pressure_forces_a_dream_while_it_is_busy_but_not_in_a_burst_and_not_within_the_gap() -> None:
    town = Town(made(memory_capacity=100), ["a"])
    while not town.dreaming():
        town.calls("a", memories=9)
        town.passes(TICK_S)
    # More than 80 came, and somebody asked all the time.
    told = town.told["a"]
    assert (told.by, len(told.calls_s)) == ([dream_pb2.TRIGGERED_BY_MEMORY_PRESSURE], 9)
    town.passes(town.night_s)
    ended_s = told.last_end_s
    assert ended_s > 0
    for _ in range(100):
        town.calls("a", memories=9)
        town.passes(2 * TICK_S)
    # From then on it is woken at once, and not begun again for ten minutes.
    assert told.begun_s[1] - ended_s >= 10 * MINUTE
    assert 5 <= len(told.begun_s) <= 7
    assert min(np.diff(told.begun_s[1:])) >= 10 * MINUTE


def test_at_the_end_of_its_window_a_dream_is_woken_and_goes_on_in_the_next() -> None:
    town = Town(made(windows=["22:00-23:00"], time_zone="UTC"), ["a"], night_s=3 * HOUR)
    town.passes(10 * HOUR)
    assert len(town.order) == 1
    town.passes(HOUR)
    assert town.window_wakes == 1
    assert not town.dreaming()
    town.passes(DAY)
    assert len(town.order) == 2


def test_a_space_with_rules_of_its_own_keeps_them() -> None:
    settings_ = made()
    own = settings_.dream.spaces.add(space="slow", idle_duration_minutes=120)
    own.windows.append("00:00-24:00")
    settings_.dream.spaces.add(space="never", enabled=False)
    settings_.dream.spaces.add(space="asked", automatic=False)
    town = Town(settings_, ["slow", "never", "asked", "plain"])
    town.passes(HOUR)
    assert town.order == ["plain"]
    town.passes(2 * HOUR)
    assert town.order == ["plain", "slow"]


def test_a_dream_that_failed_is_tried_again_after_ten_minutes_at_the_earliest() -> None:
    town = Town(made(cooldown_minutes=0.0, min_cycle_gap_minutes=0.0, idle_duration_minutes=0.1), ["a"], night_s=TICK_S)
    town.fails = True
    town.passes(35 * MINUTE)
    begun = town.told["a"].begun_s
    assert 3 <= len(begun) <= 4
    assert min(np.diff(begun)) >= AFTER_FAILURE_S


def test_while_others_use_most_of_the_machine_nothing_starts_but_for_an_hour_at_most() -> None:
    settings_ = made()
    settings_.dream.resources.eligible_usage = 0.7
    town = Town(settings_, ["a"])
    town.others = 0.84
    town.passes(12 * MINUTE, 1.0)
    assert (town.order, town.busy) == ([], "others use 84% of the CPU, above 70% (dream.resources.eligible_usage)")
    situation = town.situation("a")
    assert decide(situation, settings_.dream).why_not == town.busy
    town.others = 0.1
    # What counts is the mean over some seconds.
    town.passes(9.0, 1.0)
    assert town.order == ["a"]
    town = Town(settings_, ["a"])
    town.others = 0.84
    town.passes(11 * MINUTE + HOUR, 1.0)
    assert town.told["a"].begun_s[0] - 1000 == pytest.approx(10 * MINUTE + HOUR, abs=3)


def test_what_cannot_be_measured_keeps_nothing_from_starting() -> None:
    settings_ = made()
    settings_.dream.resources.eligible_usage = 0.01
    town = Town(settings_, ["a"])
    town.machine.busy_s = None
    town.passes(11 * MINUTE, 1.0)
    assert town.order == ["a"]


# ── what is said ────────────────────────────────────────────────────────────────


def test_each_decision_is_logged_once_with_what_it_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    town = Town(made(), ["a"])
    with caplog.at_level(logging.INFO, "dreamsvc.dream.choosing"):
        town.calls("a", memories=3)
        town.passes(2 * HOUR)
    lines = [record.getMessage() for record in caplog.records]
    kinds = [line.split(" ")[2].rstrip(":") for line in lines]
    assert kinds == ["idle", "sleeps", "is", "dreaming", "no"]
    assert lines[0] == (
        'space "a" idle: idle for 20 s of 600 s (activity 0.009 calls/s, idle 20 s, never dreamt, news,'
        " memory pressure 0.00, 0 others dream)"
    )
    assert lines[2] == 'space "a" is idle: dream d1'


# ── weeks ───────────────────────────────────────────────────────────────────────

acts = st.sampled_from(["talks", "talks", "remembers", "pauses", "pauses", "jumps", "reloads"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    plan=st.lists(acts, min_size=10, max_size=40),
    hours=st.sampled_from([[], ["22:00-06:00"], ["Sat,Sun 00:00-24:00", "12:00-13:00"], ["01:30-03:30"]]),
    begin=st.sampled_from(["2026-03-27T12:00:00Z", "2026-10-23T12:00:00Z", "2026-11-30T00:00:00Z"]),
    most=st.integers(1, 2),
    priorities=st.lists(st.integers(-100, 100), max_size=3),
)
def test_over_weeks_it_is_never_twice_within_the_gap_never_outside_the_windows_and_never_never(
    seed: int, plan: list[str], hours: list[str], begin: str, most: int, priorities: list[int]
) -> None:
    draw = random.Random(seed)
    settings_ = made(windows=hours, time_zone="Europe/Berlin", memory_capacity=50)
    settings_.dream.max_parallel = most
    names = ["a", "b", "c"]
    for name, priority in zip(names, priorities, strict=False):
        settings_.dream.spaces.add(space=name, priority=priority)
    town = Town(settings_, names, night_s=draw.choice([60.0, 300.0, 1500.0]), begin=begin)
    for act in plan:
        space = draw.choice(names)
        match act:
            case "talks":
                for _ in range(draw.randint(1, 30)):
                    town.calls(space)
                    town.passes(draw.choice([TICK_S, 2 * TICK_S]))
            case "remembers":
                town.calls(space, memories=draw.randint(1, 100))
                town.passes(draw.uniform(0, 1) * HOUR, 3 * TICK_S)
            case "jumps":
                town.clock.ahead_us += int(draw.choice([-1, 1]) * draw.choice([1.0, HOUR, DAY, 400 * DAY]) * 1e6)
            case "reloads":
                changed = Config()
                changed.CopyFrom(town.config.whole)
                changed.dream.trigger.idle_duration_minutes = draw.choice([1, 10, 30])
                town.config.exchange(changed)
            case _:
                town.passes(draw.uniform(0, 1) * DAY, LONG_TICK_S)
    for space in names:
        town.calls(space)
    counts = {name: len(town.told[name].begun_s) for name in names}
    # Nobody says anything any more: each dreams of its news, if need be in some pieces, and then no more.
    town.passes(8 * DAY, LONG_TICK_S)
    assert all(len(town.told[name].begun_s) > counts[name] for name in names)
    counts = {name: len(town.told[name].begun_s) for name in names}
    town.passes(8 * DAY, LONG_TICK_S)
    assert {name: len(town.told[name].begun_s) for name in names} == counts, "it dreamed again, and nothing was told"
