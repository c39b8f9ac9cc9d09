"""The same for files that SQLite does not write: snapshots, backups, markers.

What Python's own functions for files are asked is counted, and the k-th call of a kind fails as the system would let it
fail. Reads are left alone: what a damaged file is taken for is another question.
"""

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from unittest import mock

from benchmarks.proof.faulty_disk import Fault

HOW = {
    "open": ("eio", "full"),
    "write": ("eio", "full", "short"),
    "sync": ("eio",),
    "rename": ("eio",),
    "mkdir": ("full",),
}
_RENAMES = ("rename", "replace")


class PlainFaulty:
    """Counts what is done to files below a directory, and fails the call of a fault."""

    def __init__(self, root: Path, fault: Fault | None = None) -> None:
        self._root = str(root)
        self.fault = fault
        self.counts = dict.fromkeys(HOW, 0)
        self.injected = 0

    def is_below(self, path: Any) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self._root)

    def ask(self, kind: str) -> str:
        """'' or how this call fails."""
        self.counts[kind] += 1
        fault, count = self.fault, self.counts[kind]
        if fault is None or kind != fault.kind or count < fault.k or (count > fault.k and not fault.for_ever):
            return ""
        self.injected += 1
        return fault.how

    def require(self, kind: str, path: Any) -> None:
        """Raises OSError where this call fails."""
        if how := self.ask(kind):
            number = errno.EIO if how == "eio" else errno.ENOSPC
            raise OSError(number, os.strerror(number), os.fspath(path))


class _File:
    """A file that is written by Python's own calls, and so by ones that can fail."""

    def __init__(self, file: Any, watcher: PlainFaulty) -> None:
        self._file = file
        self._watcher = watcher

    def write(self, data: Any) -> int:
        how = self._watcher.ask("write")
        if how == "short":
            self._file.write(data[: len(data) // 2])
        if how:
            number = errno.EIO if how == "eio" else errno.ENOSPC
            raise OSError(number, os.strerror(number))
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@contextlib.contextmanager
def installed(watcher: PlainFaulty) -> Iterator[None]:
    """Between all that opens, writes and renames files, and the system."""
    real_open = io.open

    def opening(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        if not watcher.is_below(file) or not set(mode) & set("wax+"):
            return real_open(file, mode, *args, **more)
        watcher.require("open", file)
        return _File(real_open(file, mode, *args, **more), watcher)

    def syncing(handle: int) -> None:
        if watcher.is_below(os.readlink(f"/proc/self/fd/{handle}")):
            watcher.require("sync", f"file {handle}")
        real_sync(handle)

    real_sync = os.fsync
    with contextlib.ExitStack() as stack:
        for owner in (io, builtins):
            stack.enter_context(mock.patch.object(owner, "open", opening))
        stack.enter_context(mock.patch.object(os, "fsync", syncing))
        for kind, name in (*(("rename", name) for name in _RENAMES), ("mkdir", "mkdir")):
            stack.enter_context(mock.patch.object(os, name, _asking(watcher, kind, getattr(os, name))))
        yield


def _asking(watcher: PlainFaulty, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(path: Any, *args: Any, **more: Any) -> Any:
        if watcher.is_below(path):
            watcher.require(kind, path)
        return real(path, *args, **more)

    return call
