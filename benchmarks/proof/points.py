"""Ends this process at the k-th thing that it does to its files: what a crash at any moment leaves behind.

For a forked child that does nothing else. Points are statements of SQLite, its writes, syncs, truncations and deletions
of files, and what Python renames, removes, makes, truncates or opens for writing. The process ends before the point,
without any clean-up; the system keeps what was written, so a sync is a point like others.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import apsw

CRASHED = 9
# A look at the log while nobody writes: when it comes depends on how fast the machine is, and it changes nothing.
IDLE = "PRAGMA wal_checkpoint(NOOP)"
EFFECTS = {
    *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"),
    "shutil.rmtree",
}
_VFS_NAME = "points"


class Points:
    """Counts once armed, by kind; once `install`ed in a process it stays there."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._left = -1
        self._armed = False

    def install(self) -> None:
        sys.addaudithook(self._heard)
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._counted(getattr(os, name)))
        apsw.connection_hooks.append(self._watch)
        # It is registered for as long as somebody has it.
        self._vfs = _Vfs(self)

    def arm(self, last: int) -> None:
        """The process ends at point number `last`, counted from 1 from now on; 0: at none."""
        self._left = last
        self._armed = True

    def disarm(self) -> None:
        self._armed = False

    def step(self, kind: str) -> None:
        if not self._armed:
            return
        self.counts[kind] += 1
        self._left -= 1
        if self._left == 0:
            os._exit(CRASHED)

    def _watch(self, connection: apsw.Connection) -> None:
        def trace(_: Any, sql: str, __: Any) -> bool:
            if sql != IDLE:
                self.step("statement")
            return True

        connection.exec_trace = trace

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        if event == "open":
            flags = arguments[2]
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR):
                self.step("open")
        elif event in EFFECTS:
            self.step(event.partition(".")[2])

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self.step("fsync")
            return call(*arguments)

        return counted


class _Vfs(apsw.VFS):
    """Lies over whatever was the default until now."""

    def __init__(self, points: Points) -> None:
        self._points = points
        self._base = apsw.vfs_names()[0]
        super().__init__(_VFS_NAME, self._base, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _File(self._points, self._base, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self._points.step("delete")
        super().xDelete(filename, syncdir)


class _File(apsw.VFSFile):
    def __init__(self, points: Points, base: str, name: Any, flags: list[int]) -> None:
        self._points = points
        super().__init__(base, name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        self._points.step("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._points.step("sync")
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:
        self._points.step("truncate")
        super().xTruncate(newsize)
