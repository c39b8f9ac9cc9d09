"""The time that a store keeps itself: what is forgotten ages by it, and not by the wall clock (REQ-DREAM-026).

By the wall clock, a clock that jumps ahead by a year would have what was forgotten a minute ago purged, and one that
was wrong when something was forgotten would have it purged too early, or never. So

1. it grows with the time that passes: with each second that the service runs or the machine sleeps,
2. from one run to the next it grows as the wall clock did, if that is no more than a week,
3. it never jumps with the wall clock. Where that is ahead of it, because it jumped or because the service was off for
   longer, it is believed once it has gone as time passes for 24 hours of running, in one run or in several. What was
   hidden since the doubt began is then moved along: it is no older than it was.
4. It never goes back. A wall clock that is behind changes nothing.

So what is hidden is kept for its days, and not for ever. What can still go wrong: a wall clock that jumps ahead by less
than a week between two runs, or that is ahead for 24 hours of running, is believed, and purges by as much too early.
"""

import logging
import threading
from typing import NamedTuple

from dreamsvc.clock import Clock, Micros
from dreamsvc.memory import audit
from dreamsvc.memory.graph import NEVER
from dreamsvc.memory.sqlite import Connection, next_seq

logger = logging.getLogger(__name__)
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
# Less is what clocks are set right by all the time.
JUMP_US = 60 * SECOND_US
# So long between two runs is nothing to doubt.
OFF_US = 7 * DAY_US
AGREED_US = DAY_US


class Saved(NamedTuple):
    """What a store's `meta` holds, by these names."""

    kept_us: int
    kept_wall_us: int  # what the wall clock said then
    kept_agreed_us: int = 0  # how long the wall clock had gone as time passes
    kept_doubt_us: int = NEVER  # kept time when the wall clock came to be ahead


class Agreed(NamedTuple):
    """What a store comes to believe of the wall clock."""

    long_enough: bool
    ahead_us: int = 0


def saved(connection: Connection, now_us: int) -> Saved:
    """What the last run left; for a store that kept no time when it was changed last, for a new one the present."""
    names = ",".join("?" * len(Saved._fields))
    found = dict(connection.execute(f"SELECT key, value FROM meta WHERE key IN ({names})", Saved._fields).fetchall())
    if found.keys() >= {"kept_us", "kept_wall_us"}:
        return Saved(**found)
    row = connection.execute("SELECT at_us FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    since_us = now_us if row is None else min(now_us, row[0])
    return Saved(since_us, since_us)


class KeptTime(Clock):
    """The clock of a store; safe from any thread."""

    def __init__(self, clock: Clock, before: Saved) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._asleep_us = round(clock.asleep() * SECOND_US)
        self._passed_us = self._passed()
        wall_us = clock.now_us()
        off_us = wall_us - before.kept_wall_us
        usual = -JUMP_US <= off_us <= OFF_US
        self._kept_us = before.kept_us + (max(0, off_us) if usual else 0)
        # What the wall clock says beyond the time that passes; as long as that stays, the two agree.
        self._beyond_us = wall_us - self._passed_us
        self._agreed_us = before.kept_agreed_us if usual else 0
        self._doubt_us = before.kept_doubt_us
        self._weigh(wall_us)
        if self._doubt_us != NEVER:
            self._tell(f"is {_length(wall_us - self._kept_us)} ahead of the time that has passed")
        elif off_us < -JUMP_US:
            self._tell(f"is {_length(off_us)} behind the last run")

    def now_us(self) -> Micros:
        return self._clock.now_us()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def asleep(self) -> float:
        return self._clock.asleep()

    def kept_us(self) -> Micros:
        with self._lock:
            self._go_on()
            return Micros(self._kept_us)

    def keep(self, connection: Connection) -> Agreed:
        """Writes the time down: at the start, every hour, at the end. What it gives is for `believe` after the commit.

        In a commit of its own: nothing may be hidden between the two.
        """
        with self._lock:
            wall_us = self._go_on()
            agreed = Agreed(False)
            if self._agreed_us >= AGREED_US:
                agreed = Agreed(True, max(0, wall_us - self._kept_us))
            now = Saved(self._kept_us, wall_us, self._agreed_us, self._doubt_us)
        if agreed.ahead_us and now.kept_doubt_us != NEVER:
            _move_along(connection, now, agreed.ahead_us)
        if agreed.long_enough:
            now = Saved(now.kept_us + agreed.ahead_us, wall_us)
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", now._asdict().items())
        return agreed

    def believe(self, agreed: Agreed) -> None:
        """What `keep` gave is on disk."""
        with self._lock:
            self._kept_us += agreed.ahead_us
            wall_us = self._go_on()
            if agreed.long_enough:
                # From here on anew, so that a wall clock that drifts a little is never taken for one that jumped.
                self._agreed_us = 0
                self._beyond_us = wall_us - self._passed_us
            self._weigh(wall_us)

    def _passed(self) -> int:
        """Microseconds of time that passed, from any beginning."""
        asleep_us = round(self._clock.asleep() * SECOND_US)
        # The two clocks behind it are never read at one instant: less is no sleep.
        if asleep_us - self._asleep_us > SECOND_US:
            self._asleep_us = asleep_us
        return round(self._clock.monotonic() * SECOND_US) + self._asleep_us

    def _go_on(self) -> int:
        """Counts the time that passed; gives the wall clock's."""
        wall_us, passed_us = self._clock.now_us(), self._passed()
        went_us = max(0, passed_us - self._passed_us)
        self._passed_us = passed_us
        self._kept_us += went_us
        self._agreed_us += went_us
        jumped_us = wall_us - passed_us - self._beyond_us
        if abs(jumped_us) > JUMP_US:
            self._beyond_us += jumped_us
            self._agreed_us = 0
            self._weigh(wall_us)
            self._tell(f"jumped {'back' if jumped_us < 0 else 'ahead'} by {_length(jumped_us)}")
        return wall_us

    def _weigh(self, wall_us: int) -> None:
        """Whether the wall clock is ahead, and since when."""
        if wall_us - self._kept_us <= JUMP_US:
            self._doubt_us = NEVER
        elif self._doubt_us == NEVER:
            self._doubt_us = self._kept_us

    def _tell(self, what: str) -> None:
        if self._doubt_us == NEVER:
            logger.warning("the wall clock %s; what is forgotten is kept for its days all the same", what)
        else:
            logger.warning(
                "the wall clock %s; nothing is purged on its word until it has gone as time passes for %s",
                what,
                _length(AGREED_US),
            )


def _move_along(connection: Connection, now: Saved, ahead_us: int) -> None:
    """What was hidden since the doubt began, and first answers, are as old afterwards as before."""
    since = (ahead_us, now.kept_doubt_us, now.kept_us)
    connection.execute("UPDATE nodes SET deleted_us=deleted_us+? WHERE deleted_us BETWEEN ? AND ? AND purged=0", since)
    connection.execute("UPDATE changes SET ended_us=ended_us+? WHERE ended_us BETWEEN ? AND ?", since)
    connection.execute("UPDATE requests SET expires_us=expires_us+? WHERE expires_us>?", since[:2])
    audit.record(
        connection,
        now_us=now.kept_wall_us,
        actor="service",
        action="clock",
        space=None,
        seq=next_seq(connection),
        ahead_us=ahead_us,
        since_us=now.kept_doubt_us,
    )


def _length(us: int) -> str:
    seconds = abs(us) / SECOND_US
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size or unit == "minutes":
            return f"{seconds / size:.0f} {unit}"
    raise AssertionError(us)
