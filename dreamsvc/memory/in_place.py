"""Whether a store's files still lie where they were opened, its lock file too.

A system lets a program go on writing into a file that somebody deleted or replaced. All of that is gone when the
program ends, so a change may be acknowledged only while the files are the ones that the next start will open.
"""

import os
from pathlib import Path
from typing import NamedTuple

from dreamsvc.errors import StoreUnavailable


class _Identity(NamedTuple):
    device: int
    inode: int


class InPlace:
    """The database, its log and its lock, as they were when they were opened."""

    def __init__(self, path: Path, lock: Path, held: int) -> None:
        """held: the handle of the lock file."""
        self._path = path
        self._lock = lock
        # A log lies beside the file that a link leads to.
        real = path.resolve()
        self._log = real.with_name(f"{real.name}-wal")
        self.note()
        self.note_lock(held)

    def note_lock(self, held: int) -> None:
        """This is the lock from now on."""
        found = os.fstat(held)
        self._held = _Identity(found.st_dev, found.st_ino)

    def note(self) -> None:
        """From now on the files that are there are the right ones."""
        self._opened = _identity(self._path)
        self._opened_log = _identity(self._log)

    def require_database(self) -> None:
        """Raises StoreUnavailable where the file's name leads elsewhere."""
        if not _is(self._path, self._opened):
            raise StoreUnavailable(
                f"{self._path} was deleted, moved or replaced under the running service: put it back, or export what"
                " this service still holds before it ends"
            )

    def lock_is_there(self) -> bool:
        """False where another service could take the store: a lock that has no name keeps nobody away."""
        return _is(self._lock, self._held)

    def log_is_there(self) -> bool:
        return _is(self._log, self._opened_log)

    def require(self) -> None:
        """Raises StoreUnavailable where one of the two is not what it was."""
        self.require_database()
        if not self.log_is_there():
            raise StoreUnavailable(
                f"{self._log} was removed under the running service, which moves what it held into the database",
                retry_after_s=1,
            )


def _is(path: Path, opened: _Identity | None) -> bool:
    try:
        return _identity(path) == opened
    except PermissionError:
        # What may not be looked at any more may still be the one that is open, and most likely is.
        return True


def _identity(path: Path) -> _Identity | None:
    """None where there is nothing that could be opened."""
    try:
        found = os.stat(path)
    except PermissionError:
        raise
    except OSError:
        return None
    return _Identity(found.st_dev, found.st_ino)
