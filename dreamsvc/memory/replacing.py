"""Puts another database in the place of a store: all of it or nothing, whatever ends the process.

The new file lies beside the store, whole and synced, before a marker says that it shall take the place. The marker is
the atomic point: without it the restore never happened, with it the next opening of the store does what is left. The
store that was there is kept under another name, with its log. All of it is done by who holds the store's lock.
"""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from dreamsvc.errors import StoreUnavailable

logger = logging.getLogger(__name__)
# What SQLite may leave beside a database, without which its last changes are lost.
LOGS = ("-wal", "-journal")


class Replaced(NamedTuple):
    """What took the place of a store, by the SHA-256 of the backup, and where the store is kept, if there was one."""

    backup: str
    kept: Path | None


def real(store: Path) -> Path:
    """Where SQLite keeps the log of a store, whatever links lead to it."""
    return store.resolve()


def incoming(store: Path) -> Path:
    """Where the new file is made ready."""
    return store.with_name(f"{store.name}.restore.part")


def snapshots_of(store: Path) -> Path:
    """The directory of what is derived from a store; it fits no other one."""
    # A link has none of its own: what replaces the store has to find them whatever name it goes by.
    return real(store).with_name(f"{real(store).name}.snapshots")


def is_under_way(store: Path) -> bool:
    return _marker(store).exists()


def clear(store: Path) -> bool:
    """Removes what a restore left that never came to its marker; whether there was something."""
    left = [path for path in (*_with_logs(incoming(store)), _unsaid(store)) if path.exists()]
    for path in left:
        path.unlink()
    return bool(left)


def begin(store: Path, backup: str) -> None:
    """The atomic point: from here on the incoming file is the store. Raises OSError."""
    sync(incoming(store))
    kept = ""
    if any(path.exists() for path in _with_logs(store)):
        names = (f"{store.name}.before-restore-{number}" for number in range(1, 1_000_000))
        kept = next(name for name in names if not any(path.exists() for path in _with_logs(store.with_name(name))))
    _unsaid(store).write_text(json.dumps({"backup": backup, "kept": kept}))
    sync(_unsaid(store))
    sync(store.parent)
    _unsaid(store).rename(_marker(store))
    sync(store.parent)


def settle(store: Path) -> Replaced | None:
    """Does what is left of a restore, and drops one that never came to its marker; what was replaced, if any was.

    Raises StoreUnavailable.
    """
    try:
        if is_under_way(store):
            return _finish(store)
        if clear(store):
            logger.warning("a restore of %s had broken off before it replaced anything; it was dropped", store)
    except OSError as error:
        raise StoreUnavailable(
            f"{store}: the restore cannot be finished: {error.strerror}; mend that, then start again"
        ) from error
    return None


def _finish(store: Path) -> Replaced:
    marker = _marker(store)
    try:
        told = json.loads(marker.read_text())
        backup, kept = str(told["backup"]), store.with_name(told["kept"]) if told["kept"] else None
    except (ValueError, KeyError, TypeError):
        raise StoreUnavailable(
            f"{marker} is damaged; where {store} is there and {incoming(store)} is not, the restore was done: remove"
            f" {marker}; else remove it and restore again"
        ) from None
    if incoming(store).exists():
        # What has the store's name until the last rename is the one that was there before.
        for suffix in ("", *LOGS):
            old = store.with_name(store.name + suffix)
            if kept is not None and old.exists():
                old.rename(kept.with_name(kept.name + suffix))
        store.with_name(f"{store.name}-shm").unlink(missing_ok=True)
        shutil.rmtree(snapshots_of(store), ignore_errors=True)
        sync(store.parent)
        incoming(store).rename(store)
        sync(store.parent)
    elif not store.exists():
        back = f", or rename {kept} back to {store} and remove {marker}" if kept is not None else ""
        raise StoreUnavailable(f"{store}: a restore broke off and {incoming(store)} is gone; restore again{back}")
    marker.unlink()
    sync(store.parent)
    before = f"what was there before is kept as {kept}" if kept is not None else "nothing was there before"
    logger.warning("%s was replaced by a backup; %s", store, before)
    return Replaced(backup, kept)


def sync(path: Path) -> None:
    """Makes what a file holds durable, or the names in a directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def own_like(path: Path, other: Path) -> None:
    """Gives a file to whom another one belongs: what root restores has to be opened by whoever serves it."""
    if os.geteuid() == 0:
        found = other.stat()
        os.chown(path, found.st_uid, found.st_gid)


def _marker(store: Path) -> Path:
    return store.with_name(f"{store.name}.restoring")


def _unsaid(store: Path) -> Path:
    """The marker before it is one."""
    return store.with_name(f"{store.name}.restoring.part")


def _with_logs(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("", *LOGS)]
