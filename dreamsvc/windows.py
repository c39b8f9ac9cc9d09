"""Times of the week, as people write them: "22:00-06:00", "Sat,Sun 00:00-24:00", "Mon-Fri 12:30-13:00".

A time lies in a window if the clock on the wall there shows it. So where that clock is put forward a window may be
shorter that day, or not be at all, and where it is put back longer, or be twice.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from dreamsvc import clock
from dreamsvc.errors import Violation
from dreamsvc.v1.config_pb2 import DreamConfig, SpacePolicy, TriggerConfig

DAY_S = 86_400
WEEK_S = 7 * DAY_S
US = 1_000_000
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# 1970-01-01 was a Thursday.
_FIRST_DAY = 3
_WINDOW = re.compile(r"(?:([A-Za-z,\- ]+) )?(\d\d?):(\d\d)-(\d\d?):(\d\d)")
# Steps in which it is looked whether a clock was put; none is put twice within one.
_STEP_S = 3600
# Clocks are put some times a year; one window may fall out once.
_MOST_PUT = 400
EXAMPLE = '"22:00-06:00" or "Sat,Sun 00:00-24:00"'

# Seconds that a clock on the wall is ahead of UTC, at a time in microseconds since 1970.
type OffsetAt = Callable[[int], int]


class BadWindow(ValueError):
    """A text that names no window; the message says what is wrong."""


class Windows(NamedTuple):
    """A set of times of the week: seconds since Monday 00:00, from and to, apart from each other and ascending."""

    spans: Sequence[tuple[int, int]]

    @property
    def always(self) -> bool:
        return self.spans == ((0, WEEK_S),)

    def next_in(self, us: int, offset_at: OffsetAt) -> int | None:
        """The first time from `us` on that lies in a window, in microseconds; None where none does within years."""
        return self._next(us, offset_at, inside=True)

    def next_out(self, us: int, offset_at: OffsetAt) -> int | None:
        """The first time from `us` on that lies in none."""
        return self._next(us, offset_at, inside=False)

    def _next(self, us: int, offset_at: OffsetAt, *, inside: bool) -> int | None:
        for _ in range(_MOST_PUT):
            offset_s = offset_at(us)
            wait_us = self._wait_us(us + offset_s * US, inside=inside)
            until = us + (WEEK_S * US if wait_us is None else wait_us)
            put = _next_put(us, until, offset_s, offset_at)
            if put is None:
                if wait_us is None:
                    return None
                return until
            us = put
        return None

    def _wait_us(self, wall_us: int, *, inside: bool) -> int | None:
        """Until a clock on the wall that is never put shows a time that is in, or not in, a window."""
        at = (wall_us + _FIRST_DAY * DAY_S * US) % (WEEK_S * US)
        if self.always or not self.spans:
            return 0 if self.always is inside else None
        within = next(((first, last) for first, last in self.spans if first * US <= at < last * US), None)
        if (within is not None) is inside:
            return 0
        if within is not None:
            last = within[1]
            if last == WEEK_S and self.spans[0][0] == 0:
                last += self.spans[0][1]
            return last * US - at
        later = (first * US - at for first, _ in self.spans if first * US > at)
        return next(later, (self.spans[0][0] + WEEK_S) * US - at)


def parse(texts: Sequence[str]) -> Windows:
    """Windows of which each is enough; none at all is always. Raises BadWindow."""
    if not texts:
        return Windows(((0, WEEK_S),))
    spans: list[tuple[int, int]] = []
    for text in texts:
        spans += _spans(text)
    return Windows(tuple(_joined(spans)))


def _spans(text: str) -> list[tuple[int, int]]:
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise BadWindow(f'is "{text[:40]}"; must be like {EXAMPLE}')
    days, *times = found.groups()
    hours, minutes, end_hours, end_minutes = map(int, times)
    if minutes > 59 or end_minutes > 59 or hours > 23 or end_hours * 60 + end_minutes > 24 * 60:
        raise BadWindow(f'is "{text[:40]}"; a day goes from 00:00 to 24:00')
    first, last = hours * 3600 + minutes * 60, end_hours * 3600 + end_minutes * 60
    if first == last:
        raise BadWindow(f'is "{text[:40]}"; begins and ends at the same time (a whole day is 00:00-24:00)')
    # One that ends before it begins ends on the next day.
    length = last - first if last > first else last + DAY_S - first
    spans: list[tuple[int, int]] = []
    for day in _days(days, text):
        begin = day * DAY_S + first
        spans.append((begin, min(begin + length, WEEK_S)))
        if begin + length > WEEK_S:
            spans.append((0, begin + length - WEEK_S))
    return spans


def _days(text: str | None, whole: str) -> list[int]:
    """Numbers of days, Monday is 0; all of them where none is named."""
    if text is None:
        return list(range(7))
    found: list[int] = []
    for part in text.replace(" ", "").split(","):
        names = [name.capitalize() for name in part.split("-")]
        unknown = [name for name in names if name not in DAYS]
        if unknown or len(names) > 2:
            raise BadWindow(f'is "{whole[:40]}"; days are {", ".join(DAYS)}, as in "Mon-Fri" or "Sat,Sun"')
        first, last = DAYS.index(names[0]), DAYS.index(names[-1])
        found += [(first + step) % 7 for step in range((last - first) % 7 + 1)]
    return found


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return joined


def _next_put(us: int, until: int, offset_s: int, offset_at: OffsetAt) -> int | None:
    """When the clock on the wall is put next, after `us` and not after `until`; None where it is not."""
    before = us
    while before < until:
        after = min(before + _STEP_S * US, until)
        if offset_at(after) != offset_s:
            # To the second, as zones have it; the first moment of the new time.
            while after - before > 1:
                middle = (before + after) // 2
                before, after = (middle, after) if offset_at(middle) == offset_s else (before, middle)
            return after
        before = after
    return None


def violations(config: DreamConfig) -> list[Violation]:
    """What is wrong with the windows, zones and names of spaces of a configuration, each by its path."""
    found = list(_violations(config.trigger, "dream.trigger"))
    named: set[str] = set()
    for number, policy in enumerate(config.spaces):
        path = f"dream.spaces[{number}]"
        found += _violations(policy, path)
        if policy.space in named:
            found.append(Violation(f"{path}.space", f'is "{policy.space}" a second time; a space has one table'))
        named.add(policy.space)
    return found


def _violations(table: TriggerConfig | SpacePolicy, path: str) -> Iterator[Violation]:
    for number, text in enumerate(table.windows):
        try:
            parse([text])
        except BadWindow as error:
            yield Violation(f"{path}.windows[{number}]", str(error))
    try:
        clock.zone(table.time_zone)
    except clock.UnknownZone:
        text = f'is "{table.time_zone}", which this machine knows no time zone by; e.g. "Europe/Berlin"'
        yield Violation(f"{path}.time_zone", text)
