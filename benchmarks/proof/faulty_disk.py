"""A disk that fails: the file calls of the SQLite that the product runs on, seen and refused one by one.

The functions of the default VFS are replaced in place, so the product opens its store as always. They are replaced
below the driver, by plain C functions: an exception raised in a VFS that is written in Python would come out of the
statement even where SQLite goes on after the error, and what fails silently would look like a clear refusal.

The shared memory of a log (-shm) is mapped and not written by calls; it is made anew whenever a store is opened.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import apsw

OK = 0
# What the system's own calls answer becomes, in the VFS for Unix.
FULL = apsw.SQLITE_FULL
EIO = {
    "open": apsw.SQLITE_CANTOPEN,
    "delete": apsw.SQLITE_IOERR_DELETE,
    "read": apsw.SQLITE_IOERR_READ,
    "write": apsw.SQLITE_IOERR_WRITE,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "sync": apsw.SQLITE_IOERR_FSYNC,
    "size": apsw.SQLITE_IOERR_FSTAT,
}

# A name is passed on as the pointer it is: SQLite keeps the parameters of a URI behind it.
_OPEN = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_DELETE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_CLOSE = ctypes.CFUNCTYPE(c_int, c_void_p)
_MOVE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = ctypes.CFUNCTYPE(c_int, c_void_p, c_int)
_SIZE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p)


class _Vfs(ctypes.Structure):
    """`sqlite3_vfs` of sqlite3.h, as far as it is touched."""

    _fields_ = [
        ("version", c_int),
        ("file_size", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
        ("delete", c_void_p),
    ]


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods` of sqlite3.h, version 3; what lies between is passed on as it is."""

    _fields_ = [
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", c_void_p),
        ("truncate", c_void_p),
        ("sync", c_void_p),
        ("size", c_void_p),
        ("others", c_void_p * 12),
    ]


class Call(NamedTuple):
    """A file call that is about to be made."""

    # open, delete, read, write, truncate, sync or size.
    kind: str
    path: str
    offset: int = 0
    # Bytes to read or write; of a truncation the new size; of a deletion 1 where the directory is synced too.
    size: int = 0
    # Where the bytes of a write lie.
    address: int = 0
    # Of an open: whether the file is a journal or a log, with which the directory is synced.
    is_log: bool = False

    def data(self) -> bytes:
        return ctypes.string_at(self.address, self.size)


class Verdict(NamedTuple):
    """What becomes of a call: OK, or the code it fails with after so many bytes of it were written."""

    code: int = OK
    written: int = 0


PASS = Verdict()


class Watcher(Protocol):
    """Sees every call before it is made, in the thread that makes it; must not touch the store."""

    def before(self, call: Call) -> Verdict: ...


class Fault(NamedTuple):
    """The k-th call of a kind fails, counted from 1."""

    kind: str
    k: int
    # eio, full or short: half of what was to be written is, then the disk is full.
    how: str
    for_ever: bool = False

    def __str__(self) -> str:
        return f"{self.how} at {self.kind} {self.k}{' and all after it' if self.for_ever else ''}"


class Faulty:
    """Counts the calls on a store's files by kind and fails those of a fault; without one it only counts."""

    def __init__(self, root: Path, fault: Fault | None = None) -> None:
        """root: the directory of the store; a twin of it is left alone."""
        self._root = f"{root}/"
        self.fault = fault
        self.counts = dict.fromkeys(EIO, 0)
        self.injected = 0

    def before(self, call: Call) -> Verdict:
        if not call.path.startswith(self._root) or ".twin/" in call.path:
            return PASS
        self.counts[call.kind] += 1
        fault = self.fault
        if fault is None or call.kind != fault.kind:
            return PASS
        count = self.counts[call.kind]
        if count < fault.k or (count > fault.k and not fault.for_ever):
            return PASS
        self.injected += 1
        match fault.how:
            case "full":
                return Verdict(FULL if call.kind == "write" else EIO[call.kind])
            case "short":
                return Verdict(FULL, call.size // 2)
            case _:
                return Verdict(EIO[call.kind])


class Disk:
    """All files that SQLite opens in this process while it is `installed`."""

    def __init__(self) -> None:
        self.watcher: Watcher | None = None
        # What went wrong in a watcher, which cannot raise through SQLite.
        self.broken: list[BaseException] = []
        self._paths: dict[int, str] = {}
        self._replaced: dict[int, tuple[_Methods, _Methods]] = {}
        self._kept: list[Any] = []
        pointer = c_void_p()
        connection = apsw.Connection(":memory:", vfs="unix")
        connection.file_control("main", apsw.SQLITE_FCNTL_VFS_POINTER, ctypes.addressof(pointer))
        connection.close()
        assert pointer.value is not None
        self._vfs = _Vfs.from_address(pointer.value)

    def install(self) -> Callable[[], None]:
        """From now on files are opened here; gives what ends that. Files that are open then stay so."""
        real_open, real_delete = self._vfs.open, self._vfs.delete
        self._open, self._delete = _OPEN(real_open), _DELETE(real_delete)
        mine = self._keep(_OPEN(self._on_open)), self._keep(_DELETE(self._on_delete))
        self._vfs.open, self._vfs.delete = (ctypes.cast(one, c_void_p).value for one in mine)

        def uninstall() -> None:
            self._vfs.open, self._vfs.delete = real_open, real_delete
            self.watcher = None
            _KEPT.append(self)

        return uninstall

    def _keep(self, function: Any) -> Any:
        self._kept.append(function)
        return function

    def _judge(self, call: Call) -> Verdict:
        if self.watcher is None:
            return PASS
        try:
            return self.watcher.before(call)
        except BaseException as error:
            self.broken.append(error)
            return Verdict(EIO[call.kind])

    # ── of the VFS ──────────────────────────────────────────────────────────────

    def _on_open(self, vfs: int, name: int | None, file: int, flags: int, out: int) -> int:
        path = _text(name)
        is_log = bool(flags & (apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL))
        verdict = self._judge(Call("open", path, is_log=is_log))
        # A file that was not opened has no methods: SQLite must not close it.
        place = c_void_p.from_address(file)
        place.value = None
        if verdict.code:
            return verdict.code
        code = self._open(vfs, name, file, flags, out)
        if place.value is not None:
            self._paths[file] = path
            place.value = ctypes.addressof(self._methods_for(place.value))
        return code

    def _on_delete(self, vfs: int, name: int, sync_directory: int) -> int:
        verdict = self._judge(Call("delete", _text(name), size=sync_directory))
        return verdict.code or self._delete(vfs, name, sync_directory)

    # ── of a file ───────────────────────────────────────────────────────────────

    def _methods_for(self, address: int) -> _Methods:
        """The file's own functions with ours before them."""
        if address not in self._replaced:
            real = _Methods.from_address(address)
            ours = _Methods.from_buffer_copy(real)
            for name, function in self._functions(real).items():
                setattr(ours, name, ctypes.cast(self._keep(function), c_void_p).value)
            self._replaced[address] = real, ours
        return self._replaced[address][1]

    def _functions(self, real: _Methods) -> dict[str, Any]:
        close, read, write = _CLOSE(real.close), _MOVE(real.read), _MOVE(real.write)
        truncate, sync, size = _TRUNCATE(real.truncate), _SYNC(real.sync), _SIZE(real.size)

        def on_close(file: int) -> int:
            self._paths.pop(file, None)
            return close(file)

        def on_read(file: int, into: int, amount: int, offset: int) -> int:
            verdict = self._judge(Call("read", self._paths[file], offset, amount))
            return verdict.code or read(file, into, amount, offset)

        def on_write(file: int, data: int, amount: int, offset: int) -> int:
            verdict = self._judge(Call("write", self._paths[file], offset, amount, data))
            if verdict.code and verdict.written:
                write(file, data, verdict.written, offset)
            return verdict.code or write(file, data, amount, offset)

        def on_truncate(file: int, to: int) -> int:
            return self._judge(Call("truncate", self._paths[file], size=to)).code or truncate(file, to)

        def on_sync(file: int, flags: int) -> int:
            return self._judge(Call("sync", self._paths[file])).code or sync(file, flags)

        def on_size(file: int, out: int) -> int:
            return self._judge(Call("size", self._paths[file])).code or size(file, out)

        return {
            "close": _CLOSE(on_close),
            "read": _MOVE(on_read),
            "write": _MOVE(on_write),
            "truncate": _TRUNCATE(on_truncate),
            "sync": _SYNC(on_sync),
            "size": _SIZE(on_size),
        }


def _text(name: int | None) -> str:
    return os.fsdecode(ctypes.string_at(name)) if name else ""


# A file that outlives its disk goes on calling these functions.
_KEPT: list[Disk] = []


@contextmanager
def installed() -> Iterator[Disk]:
    """A disk below every SQLite file that is opened meanwhile."""
    disk = Disk()
    uninstall = disk.install()
    try:
        yield disk
    finally:
        uninstall()
