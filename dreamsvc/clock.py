"""The only importer of `time`: wall-clock time for people, monotonic time for durations."""

import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NewType

from google.protobuf.timestamp_pb2 import Timestamp

Micros = NewType("Micros", int)
"""Wall-clock microseconds since 1970-01-01 UTC."""
# On macOS the monotonic clock of the system counts sleep, and `time.monotonic` reads another one.
_BESIDE_SLEEP: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """Tells the time; tests pass one that jumps."""

    def now_us(self) -> Micros:
        """Wall-clock time; may jump."""
        return Micros(time.time_ns() // 1000)

    def monotonic(self) -> float:
        """Seconds that only grow, while the machine is awake; for durations, never stored."""
        return time.monotonic()

    def asleep(self) -> float:
        """Seconds, from any beginning, in which the machine slept and `monotonic` stood still."""
        return time.clock_gettime(_BESIDE_SLEEP) - time.monotonic()

    def kept_us(self) -> Micros:
        """Time by which is decided what may be let go of; where no store keeps one, that of the wall clock."""
        return self.now_us()


def precise_s() -> float:
    """Seconds of the finest monotonic counter, for measuring latencies."""
    return time.perf_counter()


def sleep_s(seconds: float) -> None:
    time.sleep(seconds)


def to_timestamp(us: int) -> Timestamp:
    return Timestamp(seconds=us // 1_000_000, nanos=us % 1_000_000 * 1000)


def from_timestamp(stamp: Timestamp) -> Micros:
    return Micros(stamp.seconds * 1_000_000 + stamp.nanos // 1000)


def iso(us: int) -> str:
    """RFC 3339 text in UTC with microseconds; `from_iso` reads it back exactly."""
    moment = datetime(1970, 1, 1) + timedelta(microseconds=us)
    return f"{moment.isoformat(timespec='microseconds')}Z"


def from_iso(text: str) -> Micros:
    """Reads RFC 3339 / ISO 8601 (UTC where no zone is given); raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return Micros((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds)


class UnknownZone(ValueError):
    """A name that is no time zone of this machine."""


def zone(name: str) -> tzinfo | None:
    """A time zone by its IANA name, None (that of the machine) for ''; raises UnknownZone."""
    if not name:
        return None
    # Not needed where no zone is configured, and then no part of a start.
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise UnknownZone(name) from error


def utc_offset_s(us: int, where: tzinfo | None) -> int:
    """Seconds that clocks on the wall are ahead of UTC at a time, in a zone or, for None, where this machine is."""
    moment = datetime.fromtimestamp(us // 1_000_000, UTC).astimezone(where)
    offset = moment.utcoffset()
    return 0 if offset is None else offset.days * 86_400 + offset.seconds
