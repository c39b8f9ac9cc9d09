"""What is on a disk after the power went: of what was not synced, any part.

A write that was not synced is there, or not, or some of its sectors are; a file may have grown and hold nothing there;
a file whose directory was not synced may be missing, and one that was deleted may be back. What was synced stays.
"""

import contextlib
import copy
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple
from unittest import mock

from benchmarks.proof.faulty_disk import PASS, Call, Verdict
from benchmarks.proof.ledger import Ledger

SECTOR = 512


class Change(NamedTuple):
    """A write, or with no data a truncation to `offset`."""

    offset: int
    data: bytes | None


class File(NamedTuple):
    """A file since its last sync."""

    synced: bytes
    changes: tuple[Change, ...] = ()
    # Whether the directory is known to hold it, and whether it was deleted since that was so.
    entered: bool = True
    deleted: bool = False
    # Its first sync syncs the directory too.
    enters: bool = False

    def content(self) -> bytes:
        content = bytearray(self.synced)
        for change in self.changes:
            apply(content, change)
        return bytes(content)


class Moment(NamedTuple):
    """When the power went: the files that SQLite writes, all others as they were, and what was acknowledged."""

    files: dict[str, File]
    others: dict[str, bytes]
    # Of the others, those that may come to the disk in part or not at all.
    unsynced: frozenset[str]
    ledger: Ledger


class Recorder:
    """Sees all that SQLite does to the files of a store, and keeps some moments of it."""

    def __init__(self, store: Path, ledger: Callable[[], Ledger], random: Random, often: float) -> None:
        """often: of the calls that change something, how many are moments. The store must not be open yet."""
        self._root = store.parent
        self._ledger = ledger
        self._random = random
        self._often = often
        # A disk that lies says that it synced, and did not.
        self.lies = False
        # The writer's thread adds what somebody else looks at.
        self._lock = threading.Lock()
        self._moments: list[Moment] = []
        # What others than SQLite synced, as it was then.
        self._synced: set[tuple[int, int, int]] = set()
        self.files: dict[str, File] = {}
        for path in (store, store.with_name(f"{store.name}-wal")):
            if path.exists():
                self.files[str(path)] = File(path.read_bytes())

    def before(self, call: Call) -> Verdict:
        with self._lock:
            return self._before(call)

    def take(self) -> list[Moment]:
        """The moments since the last time, and this one."""
        with self._lock:
            found, self._moments = [*self._moments, self._now()], []
            return found

    def require_faithful(self) -> None:
        """Raises AssertionError where the files are not what was seen being written; nobody may have them open."""
        for path, file in self.files.items():
            there = Path(path).read_bytes() if Path(path).exists() else None
            assert there == (None if file.deleted else file.content()), f"{path} is not what was recorded"

    def _before(self, call: Call) -> Verdict:
        # What SQLite writes of a backup is synced by whoever makes it.
        if str(Path(call.path).parent) != str(self._root) or call.kind in ("read", "size"):
            return PASS
        file = self.files.get(call.path)
        match call.kind:
            case "open":
                if not Path(call.path).exists():
                    self.files[call.path] = File(b"", entered=False, enters=call.is_log)
            case "write" if file:
                self.files[call.path] = file._replace(changes=(*file.changes, Change(call.offset, call.data())))
            case "truncate" if file:
                self.files[call.path] = file._replace(changes=(*file.changes, Change(call.size, None)))
            case "delete" if file:
                self.files[call.path] = file._replace(deleted=True)
            case _:
                pass
        if self._random.random() < self._often:
            self._moments.append(self._now())
        if call.kind == "sync" and file and not self.lies:
            self.files[call.path] = File(file.content(), enters=False, entered=file.entered)
            if file.enters:
                self._directory_is_synced()
        elif call.kind == "delete" and call.size and not self.lies:
            self._directory_is_synced()
        return PASS

    @contextlib.contextmanager
    def seeing_syncs(self) -> Iterator[None]:
        """Sees what is synced by Python's own call, too."""
        real = os.fsync

        def sync(handle: int) -> None:
            real(handle)
            self._synced.add(_state(os.fstat(handle)))

        with mock.patch.object(os, "fsync", sync):
            yield

    def _now(self) -> Moment:
        others: dict[str, bytes] = {}
        unsynced: set[str] = set()
        for path in self._root.rglob("*"):
            name = str(path.relative_to(self._root))
            passing = ".twin/" in name or name.endswith(("-shm", ".lock"))
            if passing or str(path) in self.files or not path.is_file():
                continue
            others[name] = path.read_bytes()
            if _state(path.stat()) not in self._synced:
                unsynced.add(name)
        files = {str(Path(path).relative_to(self._root)): file for path, file in self.files.items()}
        return Moment(files, others, frozenset(unsynced), copy.deepcopy(self._ledger()))

    def _directory_is_synced(self) -> None:
        self.files = {path: file._replace(entered=True) for path, file in self.files.items() if not file.deleted}


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def apply(content: bytearray, change: Change) -> None:
    if change.data is None:
        del content[change.offset :]
        content.extend(bytes(change.offset - len(content)))
        return
    end = change.offset + len(change.data)
    content.extend(bytes(max(0, end - len(content))))
    content[change.offset : end] = change.data


def write_image(moment: Moment, to: Path, random: Random) -> None:
    """One of the states in which the disk may be after this moment."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    # What is kept of the unsynced: nothing, all, some, or all up to somewhere.
    kept = random.choice((0.0, 1.0, random.random(), random.random()))
    in_order = random.random() < 0.25
    for name, file in moment.files.items():
        if (not file.entered and random.random() < 0.3) or (file.deleted and random.random() < 0.5):
            continue
        (to / name).write_bytes(_survives(file, random, kept, in_order=in_order))
    torn = random.random() < 0.3
    for name, data in moment.others.items():
        path = to / name
        path.parent.mkdir(parents=True, exist_ok=True)
        damaged = torn and name in moment.unsynced
        if damaged and random.random() < 0.2:
            continue
        path.write_bytes(tear(data, random) if damaged and random.random() < 0.5 else data)


def _survives(file: File, random: Random, kept: float, *, in_order: bool) -> bytes:
    content = bytearray(file.synced)
    last = int(len(file.changes) * kept)
    for i, change in enumerate(file.changes):
        if i < last if in_order else random.random() < kept:
            apply(content, change)
        elif change.data is not None and random.random() < 0.3:
            for piece in _sectors(change, random):
                apply(content, piece)
        elif change.data is not None and random.random() < 0.1:
            # The file grew, and what it grew by was not written.
            content.extend(bytes(max(0, change.offset + len(change.data) - len(content))))
    return bytes(content)


def _sectors(change: Change, random: Random) -> list[Change]:
    """Some of a write, by the borders of sectors."""
    assert change.data is not None
    found: list[Change] = []
    at = 0
    while at < len(change.data):
        step = SECTOR - (change.offset + at) % SECTOR
        if random.random() < 0.5:
            found.append(Change(change.offset + at, change.data[at : at + step]))
        at += step
    return found


def tear(data: bytes, random: Random) -> bytes:
    """A file of which not all came to the disk: cut off, or with sectors that hold nothing."""
    if random.random() < 0.5:
        return data[: random.randrange(len(data) + 1) // SECTOR * SECTOR]
    content = bytearray(data)
    for at in range(0, len(content), SECTOR):
        if random.random() < 0.3:
            content[at : at + SECTOR] = bytes(len(content[at : at + SECTOR]))
    return bytes(content)
