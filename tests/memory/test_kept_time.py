"""What is forgotten is kept for its days, whatever the wall clock says meanwhile, and not for ever."""

import logging
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamsvc.errors import StoreUnavailable
from dreamsvc.memory import kept_time
from dreamsvc.memory.sqlite import Connection
from dreamsvc.v1.memory_pb2 import Memory

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
YEAR = 365 * DAY


@pytest.fixture
def house(room: Any) -> Iterator[Any]:
    """Where `old` was forgotten a second ago, and nothing else has happened."""
    room.remember(*(Memory(key=key, text=f"{key} told") for key in ("old", "young", "kept")))
    room.forget("old")
    room.clock.us += SECOND
    yield room
    room.in_order()


def tick(room: Any) -> None:
    """What the service does every hour."""
    room.purge()
    room.store.keep_time().result(10)


def runs(room: Any, us: int) -> None:
    """The service runs for so long."""
    for _ in range(us // HOUR):
        room.clock.us += HOUR
        tick(room)
    room.clock.us += us % HOUR
    tick(room)


def off(room: Any, us: int) -> None:
    room.close()
    room.clock.us += us
    room.open()
    tick(room)


def is_there(room: Any, *keys: str) -> bool:
    """Whether what was forgotten can still be brought back."""
    found = {key for (key,) in room.rows("SELECT key FROM nodes WHERE purged = 0 AND key IS NOT NULL")}
    assert set(keys) & found in (set(), set(keys))
    return set(keys) <= found


def ages(room: Any, key: str, days: float) -> None:
    """What was forgotten just now goes after its days and not before."""
    runs(room, int(days * DAY) - HOUR)
    assert is_there(room, key)
    runs(room, 2 * HOUR)
    assert not is_there(room, key)


def test_a_clock_that_jumps_ahead_has_nothing_purged(house: Any, caplog: pytest.LogCaptureFixture) -> None:
    house.clock.us += MINUTE
    with caplog.at_level(logging.WARNING):
        house.clock.ahead_us = YEAR
        tick(house)
        tick(house)
    assert [record.getMessage() for record in caplog.records] == [
        "the wall clock jumped ahead by 365 days; nothing is purged on its word until it has gone as time passes for"
        " 24 hours"
    ]
    assert is_there(house, "old")
    runs(house, 23 * HOUR)
    assert house.restore("old").restored == 1
    house.forget("old")
    house.clock.ahead_us = 0
    ages(house, "old", 30)


def test_what_was_forgotten_while_the_clock_was_wrong_goes_after_its_days_too(house: Any) -> None:
    for ahead_us, key in ((YEAR, "young"), (-YEAR, "kept")):
        house.clock.ahead_us = ahead_us
        house.forget(key)
        runs(house, HOUR)
    house.clock.ahead_us = 0
    assert is_there(house, "old", "young", "kept")
    runs(house, 30 * DAY - 3 * HOUR)
    assert is_there(house, "old", "young", "kept")
    runs(house, 4 * HOUR)
    assert not is_there(house, "old", "young", "kept")


@pytest.mark.parametrize("ahead_us", [-YEAR, -60 * YEAR])
def test_a_clock_that_was_set_back_keeps_nothing_for_ever(house: Any, ahead_us: int) -> None:
    house.clock.ahead_us = ahead_us
    ages(house, "old", 30)
    house.forget("young")
    ages(house, "young", 30)


def test_a_clock_that_is_believed_in_the_end_takes_what_is_young_along(
    house: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be right: the machine was off for two months, and began with the time at which it went."""
    with caplog.at_level(logging.WARNING):
        off(house, 60 * DAY)
    assert "60 days ahead of the time that has passed; nothing is purged on its word" in caplog.text
    house.forget("young")
    runs(house, 23 * HOUR)
    assert is_there(house, "old", "young")
    runs(house, 2 * HOUR)
    assert not is_there(house, "old")
    assert is_there(house, "young")
    assert house.memory("young").delete_time.ToMicroseconds() <= house.clock.us - 24 * HOUR
    assert house.rows("SELECT count(*) FROM audit WHERE action = 'clock'") == [(1,)]
    ages(house, "young", 29)


def test_what_goes_together_stays_together_where_it_is_taken_along(house: Any, part: Any) -> None:
    vectors = {key: [1.0, number] for number, key in enumerate(("a", "b"))}
    house.remember(*(Memory(key=key, text=key, vector=vector) for key, vector in vectors.items()))
    nodes = [house.row_of(key) for key in vectors]
    change = house.dream(part.containers(0, part.container(1, house.vectors(nodes))))
    house.clock.us += SECOND
    off(house, 60 * DAY)
    box = house.memory("a").merged_into
    house.forget(box)
    runs(house, 25 * HOUR)
    assert not is_there(house, "old")
    # The night before the two months cannot be reverted any more.
    assert house.rows("SELECT purged_us IS NULL FROM changes WHERE id = ?", change) == [(0,)]
    assert house.restore(box).restored == 3


def test_a_clock_is_believed_over_many_short_runs(house: Any) -> None:
    off(house, 60 * DAY)
    for _ in range(11):
        runs(house, 2 * HOUR)
        off(house, 20 * HOUR)
    assert is_there(house, "old")
    runs(house, 3 * HOUR)
    assert not is_there(house, "old")


def test_a_jump_across_a_restart_is_not_believed_at_once(house: Any) -> None:
    house.close()
    house.clock.ahead_us = YEAR
    house.open()
    runs(house, 12 * HOUR)
    house.close()
    house.clock.ahead_us = -YEAR
    house.open()
    runs(house, 12 * HOUR)
    assert is_there(house, "old")
    house.close()
    house.clock.ahead_us = 0
    house.open()
    runs(house, 31 * DAY)
    assert not is_there(house, "old")


def test_more_than_a_week_between_two_runs_is_doubted_each_time(house: Any) -> None:
    for days in (8, 16, 24, 32):
        house.close()
        house.clock.ahead_us = days * DAY
        house.open()
        tick(house)
    assert is_there(house, "old")


def test_a_week_between_two_runs_counts_at_once(house: Any) -> None:
    for _ in range(4):
        off(house, 7 * DAY)
    off(house, 2 * DAY - HOUR)
    assert is_there(house, "old")
    off(house, 2 * HOUR)
    assert not is_there(house, "old")


def test_the_sleep_of_a_laptop_counts(house: Any, caplog: pytest.LogCaptureFixture) -> None:
    def sleeps(us: int) -> None:
        house.clock.us += us
        house.clock.slept_us += us
        tick(house)

    with caplog.at_level(logging.WARNING):
        for _ in range(29):
            sleeps(16 * HOUR)
            runs(house, 8 * HOUR)
        assert is_there(house, "old")
        sleeps(25 * HOUR)
    assert not is_there(house, "old")
    assert caplog.text == ""


def test_a_service_that_is_killed_forgets_no_time(house: Any) -> None:
    runs(house, 20 * DAY)
    held = house.rows("SELECT value FROM meta WHERE key = 'kept_us'")
    house.clock.us += 50 * MINUTE
    house.close()
    house.open()
    house.execute("UPDATE meta SET value = ? WHERE key = 'kept_us'", *held[0])
    house.execute("UPDATE meta SET value = value - ? WHERE key = 'kept_wall_us'", 50 * MINUTE)
    # As if it had been killed before it wrote the time down.
    copy = house.path.with_name("killed.db")
    house.store.database.read(lambda c: c.execute("VACUUM INTO ?", (str(copy),)).fetchall())
    house.close()
    shutil.move(copy, house.path)
    house.open()
    assert house.store.clock.kept_us() == house.clock.us


def test_a_clock_that_drifts_is_not_one_that_jumps(house: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(10 * 24):
            house.clock.ahead_us += 2 * SECOND
            runs(house, HOUR)
        for _ in range(10 * 24):
            house.clock.ahead_us -= 2 * SECOND
            runs(house, HOUR)
    assert caplog.text == ""
    assert 0 <= house.store.clock.kept_us() - house.clock.us <= 10 * MINUTE


def test_a_clock_that_runs_twice_as_fast_is_never_believed(house: Any) -> None:
    for _ in range(29 * 24):
        house.clock.ahead_us += HOUR
        runs(house, HOUR)
    assert is_there(house, "old")


def test_first_answers_outlive_a_jump_and_no_more_than_their_hours(house: Any) -> None:
    def again(request_id: str) -> str:
        return house.remember(Memory(text="told"), request_id=request_id).ids[0]

    first = again("r1")
    house.clock.ahead_us = YEAR
    assert again("r1") == first
    house.clock.ahead_us = -YEAR
    assert again("r1") == first
    house.clock.us += 24 * HOUR - 1
    assert again("r1") == first
    house.clock.us += 1
    assert again("r1") != first
    # What is believed in the end makes no answer older than it is.
    house.clock.ahead_us = 0
    off(house, 60 * DAY)
    runs(house, 23 * HOUR)
    first = again("r2")
    runs(house, 2 * HOUR)
    assert house.rows("SELECT count(*) FROM audit WHERE action = 'clock'") == [(1,)]
    assert again("r2") == first


def test_what_could_not_be_written_down_is_not_believed(house: Any) -> None:
    off(house, 60 * DAY)
    house.clock.us += 25 * HOUR
    clock = house.store.clock

    def fails(connection: Connection) -> kept_time.Agreed:
        assert clock.keep(connection).ahead_us > 0
        raise OSError("the disk is full")

    before = clock.kept_us()
    with pytest.raises(OSError):
        house.store.database.write(fails, committed=clock.believe).result(10)
    assert clock.kept_us() == before
    house.purge()
    assert is_there(house, "old")
    house.store.keep_time().result(10)
    assert clock.kept_us() == house.clock.us
    house.purge()
    assert not is_there(house, "old")


def test_a_store_that_cannot_write_the_time_down_can_be_read(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(kept_time.KeptTime, "keep", full)
        house.reopen()
        assert [hit.node for hit in house.find("kept")] == [house.row_of("kept")]
        house.clock.us += 20 * DAY
        house.purge()
        house.close()
    house.open()
    assert (house.store.clock.kept_us(), is_there(house, "old")) == (house.clock.us - 20 * DAY - SECOND, True)


def test_a_store_that_never_kept_time_begins_with_its_last_change(house: Any) -> None:
    for ahead_us, apart_us in ((0, 60 * DAY + SECOND), (-YEAR, 0)):
        house.execute("DELETE FROM meta WHERE key LIKE 'kept%'")
        copy = house.path.with_name("older.db")
        house.store.database.read(lambda c, to=copy: c.execute("VACUUM INTO ?", (str(to),)).fetchall())
        house.close()
        shutil.move(copy, house.path)
        house.clock.ahead_us += ahead_us
        house.clock.us += 60 * DAY
        house.open()
        assert house.store.clock.now_us() - house.store.clock.kept_us() == apart_us


# An hour of running, a sleep, the service off, a wrong clock, a clock set right, something forgotten.
acts = st.one_of(
    st.tuples(st.just("runs"), st.integers(1, 30)),
    st.tuples(st.just("sleeps"), st.integers(1, 600)),
    st.tuples(st.just("off"), st.integers(1, 70 * 24)),
    st.tuples(st.just("wrong"), st.sampled_from([-40 * YEAR, -YEAR, -9 * DAY, 9 * DAY, 31 * DAY, YEAR])),
    st.tuples(st.just("right"), st.just(0)),
    st.tuples(st.just("forget"), st.just(0)),
)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(acts, max_size=30))
def test_nothing_goes_before_its_days_are_over_whatever_the_clock_does_for_less_than_a_day(
    rooms: Any, whole: list[tuple[str, int]]
) -> None:
    with rooms() as room:
        names = iter(f"k{i}" for i in range(len(whole)))
        forgotten: dict[str, int] = {}
        wrong_for = 0

        def young_are_there() -> None:
            tick(room)
            young = [key for key, at in forgotten.items() if room.clock.us - at < 30 * DAY - 10 * MINUTE]
            assert is_there(room, *young) or not young

        for act, much in whole:
            if act == "forget":
                key = next(names)
                room.remember(Memory(key=key, text="told"))
                room.forget(key)
                forgotten[key] = room.clock.us
            elif act in ("wrong", "right"):
                room.clock.ahead_us = much
                wrong_for = 0 if act == "right" else wrong_for
            hours = much if act in ("runs", "sleeps", "off") else 0
            if room.clock.ahead_us:
                # Whoever is wrong for a day is believed.
                hours = min(hours, 23 - wrong_for)
                wrong_for += hours
            match act:
                case "runs":
                    for _ in range(hours):
                        room.clock.us += HOUR
                        young_are_there()
                case "sleeps":
                    room.clock.us += hours * HOUR
                    room.clock.slept_us += hours * HOUR
                case "off":
                    off(room, hours * HOUR)
            young_are_there()
        room.clock.ahead_us = 0
        runs(room, 25 * HOUR)
        room.clock.us += 30 * DAY
        tick(room)
        assert not is_there(room, *forgotten) or not forgotten
        room.in_order()
