"""Times of the week, in zones whose clocks are put forward and back."""

import functools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import clock, windows

US = 1_000_000
MINUTE = 60 * US
BERLIN = "Europe/Berlin"
# Half hours, no summer time, clocks that are put by 30 minutes, by 45 minutes of offset, and at midnight.
ZONES = (BERLIN, "America/New_York", "Asia/Kolkata", "UTC", "Australia/Lord_Howe", "Pacific/Chatham", "America/Havana")


def us(text: str, zone: str = BERLIN) -> int:
    """Of a time on the wall, e.g. "2026-03-29 01:59"."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * US


def wall(at_us: int, zone: str = BERLIN) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
    return moment.astimezone(ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M")


def offsets(zone: str) -> windows.OffsetAt:
    return functools.partial(clock.utc_offset_s, where=clock.zone(zone))


def opens(texts: list[str], at: str, zone: str = BERLIN) -> str:
    found = windows.parse(texts).next_in(us(at, zone), offsets(zone))
    return "" if found is None else wall(found, zone)


def closes(texts: list[str], at: str, zone: str = BERLIN) -> str:
    found = windows.parse(texts).next_out(us(at, zone), offsets(zone))
    return "" if found is None else wall(found, zone)


def test_no_windows_are_always_and_so_is_the_whole_week() -> None:
    whole = (["00:00-24:00"], ["Mon-Sun 00:00-24:00"], ["00:00-12:00", "12:00-24:00"], ["6:00-6:01", "06:01-06:00"])
    for texts in ([], *whole):
        assert windows.parse(texts).always
        assert closes(texts, "2026-11-30 12:00") == ""
        assert opens(texts, "2026-11-30 12:00") == "Mon 2026-11-30 12:00"


@pytest.mark.parametrize(
    ("texts", "at", "opening", "closing"),
    [
        (["22:00-06:00"], "2026-11-30 12:00", "Mon 2026-11-30 22:00", "Mon 2026-11-30 12:00"),
        (["22:00-06:00"], "2026-11-30 22:00", "Mon 2026-11-30 22:00", "Tue 2026-12-01 06:00"),
        (["22:00-06:00"], "2026-12-01 05:59", "Tue 2026-12-01 05:59", "Tue 2026-12-01 06:00"),
        (["22:00-06:00"], "2026-12-01 06:00", "Tue 2026-12-01 22:00", "Tue 2026-12-01 06:00"),
        # The night from Sunday to Monday, which is that of Sunday.
        (["Sun 22:00-06:00"], "2026-11-30 03:00", "Mon 2026-11-30 03:00", "Mon 2026-11-30 06:00"),
        (["Mon 22:00-06:00"], "2026-11-30 03:00", "Mon 2026-11-30 22:00", "Mon 2026-11-30 03:00"),
        (["Sat,Sun 00:00-24:00"], "2026-11-30 03:00", "Sat 2026-12-05 00:00", "Mon 2026-11-30 03:00"),
        (["Sat,Sun 00:00-24:00", "22:00-06:00"], "2026-12-05 03:00", "Sat 2026-12-05 03:00", "Mon 2026-12-07 06:00"),
        (["mon-fri 9:00-9:30"], "2026-12-05 03:00", "Mon 2026-12-07 09:00", "Sat 2026-12-05 03:00"),
        (["Fri-Mon 00:00-24:00"], "2026-12-01 03:00", "Fri 2026-12-04 00:00", "Tue 2026-12-01 03:00"),
    ],
)
def test_windows_open_and_close(texts: list[str], at: str, opening: str, closing: str) -> None:
    assert (opens(texts, at), closes(texts, at)) == (opening, closing)


def test_what_the_clock_on_the_wall_never_shows_is_no_window_that_day() -> None:
    # On 2026-03-29 it goes from 02:00 to 03:00.
    assert opens(["Sun 02:15-02:45"], "2026-03-28 12:00") == "Sun 2026-04-05 02:15"
    assert opens(["02:30-05:00"], "2026-03-28 12:00") == "Sun 2026-03-29 03:00"
    assert closes(["22:00-02:30"], "2026-03-29 01:00") == "Sun 2026-03-29 03:00"


def test_what_the_clock_on_the_wall_shows_twice_is_twice_in_the_window() -> None:
    # On 2026-10-25 it goes from 03:00 back to 02:00.
    first = us("2026-10-25 02:00")
    at = windows.parse(["02:00-02:30"])
    assert at.next_in(us("2026-10-25 01:00"), offsets(BERLIN)) == first
    assert at.next_out(first, offsets(BERLIN)) == first + 30 * MINUTE
    assert at.next_in(first + 30 * MINUTE, offsets(BERLIN)) == first + 60 * MINUTE
    assert at.next_out(first + 60 * MINUTE, offsets(BERLIN)) == first + 90 * MINUTE
    # Through the night it is an hour longer.
    night = windows.parse(["22:00-06:00"])
    begin = us("2026-10-24 22:00")
    assert night.next_out(begin, offsets(BERLIN)) == begin + 9 * 60 * MINUTE


times = st.integers(0, 24 * 60 - 1)
days = st.sampled_from(["", "Mon ", "Sat,Sun ", "Fri-Mon ", "Wed "])


@st.composite
def a_window(draw: st.DrawFn) -> str:
    first, last = draw(times), draw(st.integers(1, 24 * 60))
    last = last if last != first else last - 1 or 5
    return f"{draw(days)}{first // 60:02}:{first % 60:02}-{last // 60:02}:{last % 60:02}"


def shows(texts: list[str], moment: datetime) -> bool:
    """Whether the time lies in a window, the plain way."""
    minute = moment.hour * 60 + moment.minute
    for text in texts:
        named, _, span = text.rpartition(" ")
        wanted = {"": range(7), "Mon": [0], "Sat,Sun": [5, 6], "Fri-Mon": [4, 5, 6, 0], "Wed": [2]}[named]
        first, last = (int(part[:2]) * 60 + int(part[3:]) for part in span.split("-"))
        if last > first and moment.weekday() in wanted and first <= minute < last:
            return True
        if last < first and moment.weekday() in wanted and minute >= first:
            return True
        if last < first and (moment.weekday() - 1) % 7 in wanted and minute < last:
            return True
    return False


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(a_window(), min_size=1, max_size=3),
    zone=st.sampled_from(ZONES),
    # Around the days on which clocks are put, and any others.
    day=st.sampled_from(
        ["2026-03-28", "2026-10-24", "2026-04-04", "2026-09-26", "2026-10-31", "2026-03-07", "2026-06-10"]
    ),
    minute=st.integers(0, 2 * 24 * 60),
)
def test_the_next_time_in_and_out_are_those_that_looking_at_every_minute_finds(
    texts: list[str], zone: str, day: str, minute: int
) -> None:
    at = int(datetime.fromisoformat(f"{day}T00:00:00Z").timestamp()) * US + minute * MINUTE
    found = windows.parse(texts)
    where = ZoneInfo(zone)

    def inside(us_: int) -> bool:
        return shows(texts, datetime.fromtimestamp(us_ / US, where))

    for answer, wanted in ((found.next_in(at, offsets(zone)), True), (found.next_out(at, offsets(zone)), False)):
        steps = range(at, at + 8 * 24 * 60 * MINUTE, MINUTE)
        plain = next((step for step in steps if inside(step) is wanted), None)
        if plain is not None:
            assert answer == plain
        else:
            assert answer is None or answer > steps[-1]
