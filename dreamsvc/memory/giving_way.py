"""Long work beside a server: room on the disk, rests, and how far it is."""

import shutil
from collections.abc import Callable
from pathlib import Path

from dreamsvc import clock
from dreamsvc.errors import StoreUnavailable
from dreamsvc.memory import sqlite

# What the log of a store may grow by before the work hurries, and before it is given up.
HURRY_BYTES = 256 << 20
MOST_LOG_BYTES = 4 << 30
# Left free on the disk for those who write, besides a tenth of what is copied.
SPARE_BYTES = 1 << 20

type Progress = Callable[[int, int], None]


def require_room(directory: Path, need: int) -> None:
    """The larger half of what can go wrong, said before anything is written."""
    free = shutil.disk_usage(directory).free
    need += need // 10 + SPARE_BYTES
    if free < need:
        raise StoreUnavailable(
            f"{directory}: {need:,} bytes are needed and {free:,} are free; free space, or name another place"
        )


class Rest:
    """Gives way: as long a rest as the work before it took; and keeps an eye on the log of a store, if one is held."""

    def __init__(self, held: Path | None) -> None:
        self._held = held
        self._log_bytes = sqlite.log_bytes(held) if held else 0
        self._began = clock.precise_s()

    def take(self) -> None:
        worked_s = clock.precise_s() - self._began
        if worked_s < sqlite.STEP_S:
            return
        grown = sqlite.log_bytes(self._held) - self._log_bytes if self._held else 0
        if grown > MOST_LOG_BYTES:
            raise StoreUnavailable(
                f"{grown:,} bytes were written to {self._held} during its backup; make it when less is written"
            )
        if grown < HURRY_BYTES:
            clock.sleep_s(worked_s)
        self._began = clock.precise_s()


class Parts:
    """Tells how much is done of parts, by about how long each takes."""

    def __init__(self, tell: Progress | None, *weights: int) -> None:
        self._tell = tell
        self._weights = weights
        self._part = -1
        self._told = -1

    def next(self) -> Progress:
        self._part += 1
        return self._at

    def _at(self, done: int, total: int) -> None:
        before = 1000 * sum(self._weights[: self._part])
        share = before + self._weights[self._part] * min(1000, done * 1000 // max(1, total))
        if self._tell is not None and share > self._told:
            self._told = share
            self._tell(share, 1000 * sum(self._weights))
