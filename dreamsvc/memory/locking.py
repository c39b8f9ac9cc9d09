"""The lock of a store: a file beside it that one process holds, and that says how the last one left it."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Generator
from pathlib import Path

from dreamsvc.errors import StoreUnavailable
from dreamsvc.memory import replacing

_OPEN = " open"


@contextlib.contextmanager
def held(path: Path) -> Generator[int]:
    """Keeps every server away from a store, and gives the lock's handle; raises StoreUnavailable where one has it."""
    handle = hold(path, create=True)
    try:
        yield handle
    finally:
        os.close(handle)


def require_one_name(path: Path) -> None:
    """Raises StoreUnavailable for a directory, and for a file with a second name: each name would have a log alone."""
    try:
        found = replacing.real(path).stat()
    except OSError:
        # What keeps it from being looked at, the opening tells.
        return
    if stat.S_ISDIR(found.st_mode):
        raise StoreUnavailable(f"{path} is a directory; name the file in it, e.g. {path / 'memory.db'}")
    if found.st_nlink > 1:
        raise StoreUnavailable(
            f"{path} has {found.st_nlink} names (hard links), and by each of them the others' last changes are lost:"
            f" remove the others, which `find DIRECTORY -xdev -samefile {path}` names, or make them copies"
        )


def file_of(path: Path) -> Path:
    # A link is no second store.
    real = replacing.real(path)
    return real.with_name(f"{real.name}.lock")


def hold(path: Path, *, create: bool) -> int:
    """Takes the lock file beside the database; the system frees it however this process ends."""
    lock = file_of(path)
    try:
        if create:
            made = [place for place in (lock.parent, *lock.parent.parents) if not place.exists()]
            lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            for place in made:
                # Or the power takes the directory with all that is synced in it.
                replacing.sync(place.parent)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        process = next(iter(os.read(handle, 32).decode(errors="replace").split()), "unknown")
        os.close(handle)
        raise StoreUnavailable(
            f"{path} is held by process {process}; stop that server, or give this one another --store"
        ) from error
    try:
        note_open(handle, is_open=left_open(path))
    except OSError as error:
        os.close(handle)
        raise StoreUnavailable(f"{lock}: {error.strerror}") from error
    return handle


def note_open(handle: int, *, is_open: bool) -> None:
    """Writes into a lock whose it is, and whether its log may hold what the database does not; raises OSError."""
    said = f"{os.getpid()}{_OPEN if is_open else ''}".encode()
    os.pwrite(handle, said, 0)
    os.ftruncate(handle, len(said))


def left_open(path: Path) -> bool:
    """Whether whoever had the store last did not close it, so that there must be a log beside it."""
    with contextlib.suppress(OSError), file_of(path).open("rb") as lock:
        return lock.read(32).endswith(_OPEN.encode())
    return False


def holder(path: Path) -> int | None:
    """The process that serves a store; None where none does."""
    with contextlib.suppress(OSError, ValueError, IndexError), file_of(path).open("rb") as lock:
        process = int(lock.read(32).split()[0])
        # Nobody is locked out, not even for a moment, where the one that held it last has ended.
        with contextlib.suppress(PermissionError):
            # It lives, and belongs to somebody else.
            os.kill(process, 0)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return process
    return None
