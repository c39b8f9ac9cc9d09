"""Clocks that jump, stand still in a laptop's sleep, or are of another zone: what was promised for a time holds."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.proof.jumping_clock import DAY, SECOND
from dreamsvc import clock as clocks
from dreamsvc.cli import output
from dreamsvc.clock import Clock, Micros
from dreamsvc.config import defaults
from dreamsvc.dreamer import replay_graph
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import ListDreamsRequest
from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import (
    FeedbackRequest,
    ForgetRequest,
    RecallRequest,
    RememberRequest,
    RestoreRequest,
)
from tests.integration.served import CONVERGE, SLOWLY, InThread, Tables, until
from tests.memory.conftest import Room

YEAR = 365 * DAY
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
AUTOMATIC: Tables = {"dream": {"trigger": {"automatic": True, "idle_duration_minutes": 60.0}}}


class Wrong(Clock):
    """Right but for `ahead_us`; time passes as it does."""

    ahead_us = 0

    def now_us(self) -> Micros:
        return Micros(super().now_us() + self.ahead_us)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wrong:
    """The clock of all services of a test."""
    clock = Wrong()
    monkeypatch.setattr("dreamsvc.app.Clock", lambda: clock)
    return clock


# ── the service ─────────────────────────────────────────────────────────────────


@pytest.mark.integration
def test_a_clock_that_jumps_between_two_runs_blocks_no_dream_for_more_than_a_cooldown_and_starts_none(
    equal_store: Callable[[str], Path], wall: Wrong
) -> None:
    store = equal_store("cooldown")
    with InThread(store, CONVERGE) as service:
        assert service.calls.trigger("default", blocking=True).dream.state == Dream.STATE_SUCCEEDED
    for ahead_us in (-YEAR, -DAY):
        wall.ahead_us = ahead_us
        with InThread(store, AUTOMATIC) as service:
            service.calls.recall("default")
            status = service.calls.status("default")
            assert "cooldown" in status.why_not_dreaming
            assert 29 * 60 <= status.cooldown_remaining.seconds <= 30 * 60
            now_s = wall.now_us() / SECOND
            # Idle for an hour first.
            assert 59 * 60 <= status.next_eligible_time.seconds - now_s <= 61 * 60
    for ahead_us in (DAY, YEAR):
        wall.ahead_us = ahead_us
        with InThread(store, AUTOMATIC) as service:
            assert service.calls.status("default").why_not_dreaming.startswith("nothing was remembered")
            service.calls.recall("default")
            status = service.calls.status("default")
            assert status.why_not_dreaming.startswith("idle for")
            assert not status.HasField("cooldown_remaining")


@pytest.mark.integration
def test_dreams_are_listed_in_their_order_though_the_clock_went_back(
    equal_store: Callable[[str], Path], wall: Wrong
) -> None:
    with InThread(equal_store("order"), CONVERGE) as service:
        began: list[str] = []
        for ahead_us in (0, YEAR, -YEAR):
            wall.ahead_us = ahead_us
            dream = service.calls.trigger("default", blocking=True, seed=1).dream
            assert dream.state == Dream.STATE_SUCCEEDED
            began.append(dream.id)
            assert abs(dream.start_time.ToMicroseconds() - wall.now_us()) < 600 * SECOND
        listed = service.calls.dreams.ListDreams(ListDreamsRequest(space="default", page_size=2))
        assert [dream.id for dream in listed.dreams] == began[:0:-1]
        last = service.calls.dreams.ListDreams(
            ListDreamsRequest(space="default", page_size=2, page_token=listed.next_page_token)
        )
        assert [dream.id for dream in last.dreams] == began[:1]
        assert service.calls.status("default").last_dream.id == began[-1]


@pytest.mark.integration
def test_a_clock_that_jumps_while_it_dreams_changes_nothing_about_the_dream(
    equal_store: Callable[[str], Path], wall: Wrong
) -> None:
    digests: set[str] = set()
    for jumps_us in ((0,), (YEAR, -YEAR)):
        wall.ahead_us = 0
        with InThread(equal_store(f"jumps{len(jumps_us)}"), SLOWLY) as service:
            dream = service.calls.trigger("default", seed=3).dream
            service.calls.until_state("default", dream_pb2.SLEEP_STATE_NREM)
            for ahead_us in jumps_us:
                wall.ahead_us = ahead_us
                time.sleep(0.1)
            ended = service.calls.ended("default", dream.id)
            assert ended.state == Dream.STATE_SUCCEEDED
            digests.add(ended.report.journal_digest)
    assert len(digests) == 1


@pytest.mark.integration
def test_what_was_promised_for_an_hour_a_day_and_a_month_outlives_a_jump(
    tmp_path: Path, wall: Wrong, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreamsvc.app.PURGE_EVERY_S", 0.02)
    with InThread(tmp_path / "memory.db") as service:
        calls = service.calls
        told = RememberRequest(
            space="default", memories=[Memory(text="moss"), Memory(text="fern told")], request_id="r1"
        )
        first = calls.call(calls.memories.Remember, told)
        recalled = calls.recall("default", "fern")
        calls.call(calls.memories.Forget, ForgetRequest(space="default", ids=first.ids[:1]))
        wall.ahead_us = YEAR

        def purges() -> int:
            return int(service.app.store.database.read(lambda c: c.execute(KEPT).fetchone()[0]))

        jumped = until(lambda: kept if (kept := purges()) > wall.now_us() - DAY else None)
        until(lambda: purges() > jumped)
        used = FeedbackRequest(space="default", recall_id=recalled.recall_id, used_ids=first.ids[1:])
        calls.call(calls.memories.Feedback, used)
        assert calls.call(calls.memories.Remember, told).ids == first.ids
        restored = calls.call(calls.memories.Restore, RestoreRequest(space="default", ids=first.ids[:1]))
        assert restored.restored == 1


# What the wall clock said when the purge was done last.
KEPT = "SELECT value FROM meta WHERE key = 'kept_wall_us'"


# ── what happened, and when it was told ─────────────────────────────────────────


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path / "memory.db")
    yield made
    made.close()


def test_when_something_happened_makes_no_memory_older_or_younger(room: Room) -> None:
    """Ages of a replay are counted from when it was told or recalled, never from what it tells of."""
    memories = [Memory(key=f"k{i}", text="told", importance=0.5) for i in range(4)]
    for memory, us in zip(memories, (FIRST_US, LAST_US, room.clock.us + YEAR), strict=False):
        memory.event_time.CopyFrom(clocks.to_timestamp(us))
    room.remember(*memories)
    room.clock.us += 2 * 3600 * SECOND
    room.store.touch("default", {room.row_of("k3"): 1}).result(10)
    room.clock.us += 3600 * SECOND
    _, arrays = room.store.dream_snapshot("default")
    loaded = replay_graph.load(arrays, defaults().dream.nrem, room.clock.us)
    ages = dict(zip(loaded.node_ids.tolist(), np.asarray(loaded.age_h)[: loaded.nodes].tolist(), strict=True))
    assert ages == {room.row_of(key): hours for key, hours in (("k0", 3), ("k1", 3), ("k2", 3), ("k3", 1))}
    # What was told while the clock was ahead is as young as can be, until time has come so far.
    early = replay_graph.load(arrays, defaults().dream.nrem, room.clock.us - YEAR)
    assert np.asarray(early.age_h)[: early.nodes].tolist() == [0.0] * 4
    # Nor does it purge anything.
    room.forget("k0", "k1")
    room.clock.us += 30 * DAY
    assert room.purge().memories == 0
    room.clock.us += SECOND
    assert room.purge().memories == 2


def test_what_says_when_it_happened_is_looked_for_by_that_alone(room: Room) -> None:
    long_ago = room.clock.us - 1000 * YEAR
    memory = Memory(key="then", text="moss then")
    memory.event_time.CopyFrom(clocks.to_timestamp(long_ago))
    room.remember(memory, Memory(key="now", text="moss now"), Memory(key="bare", text="stone"))

    def found(**bounds: int) -> set[int]:
        return {hit.node for hit in room.find("moss", **bounds)}

    then, now = room.row_of("then"), room.row_of("now")
    assert found(after_us=room.clock.us - DAY, before_us=room.clock.us + DAY) == {now}
    assert found(after_us=long_ago, before_us=long_ago + 1) == {then}
    # A clock that is set back moves nothing that is stored.
    room.clock.ahead_us = -500 * YEAR
    assert found(after_us=long_ago, before_us=long_ago + 1) == {then}


# ── zones ───────────────────────────────────────────────────────────────────────

# Half an hour off the hour with summer time, and a day ahead of everybody; no files of zones needed.
ZONES = ("UTC0", "NST3:30NDT,M3.2.0,M11.1.0", "<+14>-14")
# A minute before clocks there are set forward and back in 2026: half past five and half past four in UTC.
CHANGES_US = (1_772_947_740_000_000, 1_793_507_340_000_000)


@contextlib.contextmanager
def zone(name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", name)
        time.tzset()
        try:
            yield
        finally:
            patch.undo()
            time.tzset()


def lived(directory: Path, began_us: int) -> list[Any]:
    """All that a store says of a month across the change of a clock."""
    room = Room(directory / "memory.db")
    try:
        room.clock.us = began_us
        room.reopen()
        said: list[Any] = [output.time_text(clocks.to_timestamp(began_us)), clocks.iso(began_us)]
        event = Memory(key="event", text="moss event")
        event.event_time.CopyFrom(clocks.to_timestamp(clocks.from_iso("2026-03-08T02:30:00")))
        room.remember(event, Memory(key="forgotten", text="moss told"))
        room.forget("forgotten")
        for _ in range(2):
            room.clock.us += 120 * SECOND
            room.store.keep_time().result(10)
            said.append(room.export())
            said.append([hit.node for hit in room.find("moss", before_us=clocks.from_iso("2026-03-08T03:00:00"))])
        room.clock.us = began_us + 30 * DAY
        said.append(room.purge())
        room.clock.us += SECOND
        said.append(room.purge())
        said.append(room.rows("SELECT at_us, action FROM audit"))
        room.in_order()
        return said
    finally:
        room.close()


@pytest.mark.parametrize("began_us", CHANGES_US)
def test_a_zone_and_its_summer_time_change_nothing(tmp_path: Path, began_us: int) -> None:
    found: list[list[Any]] = []
    offsets: set[int] = set()
    for number, name in enumerate(ZONES):
        with zone(name):
            offsets.add(time.localtime(began_us / SECOND).tm_gmtoff)
            if "NDT" in name:
                minute_later = time.localtime(began_us / SECOND + 120)
                assert minute_later.tm_isdst != time.localtime(began_us / SECOND).tm_isdst
            found.append(lived(tmp_path / str(number), began_us))
    assert len(offsets) == 3
    assert found[0] == found[1] == found[2]


def test_a_day_of_a_recall_is_one_in_utc_whatever_the_zone(tmp_path: Path) -> None:
    for name in ZONES:
        with zone(name):
            day = clocks.from_iso("2026-11-01")
            assert RecallRequest(after=clocks.to_timestamp(day)).after.seconds == 1_793_491_200
