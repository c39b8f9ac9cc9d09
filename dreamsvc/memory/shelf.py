"""Where backups lie: their names, those there are, those that are unfinished, and how old ones go."""

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

from dreamsvc import clock
from dreamsvc.errors import StoreCorrupt, StoreUnavailable
from dreamsvc.memory import manifest
from dreamsvc.memory.manifest import Manifest

ASIDE = ".backup.part"


class Listed(NamedTuple):
    """A backup in a directory; why it cannot be read where it cannot."""

    path: Path
    manifest: Manifest | None
    problem: str


def default_directory(store: Path) -> Path:
    return store.with_name("backups")


def default_target(store: Path, now_us: int) -> Path:
    """E.g. backups/memory.db-20260301T120000Z beside the store."""
    moment = re.sub("[-:]", "", clock.iso(now_us)[:19])
    return default_directory(store) / f"{store.name}-{moment}Z"


def listed(directory: Path) -> list[Listed]:
    """The backups in a directory, the newest first, then what cannot be read; checks no database."""
    found: list[Listed] = []
    for path in _children(directory):
        if not (path / manifest.NAME).exists() or path.name.endswith(ASIDE):
            continue
        try:
            found.append(Listed(path, manifest.read(path), ""))
        except (StoreUnavailable, StoreCorrupt) as error:
            found.append(Listed(path, None, error.message))
    return sorted(
        found, key=lambda one: (one.manifest is None, -(one.manifest.made_us if one.manifest else 0), one.path)
    )


def drop_older(newest: Path, keep: int) -> list[Path]:
    """Removes the oldest backups of the same store beside a verified one, so that `keep` are there; those removed.

    Backups of other stores, of this one where it lay before, and what cannot be read are left alone; `newest` stays
    whatever the clock said.
    """
    made = manifest.read(newest)
    same = [
        (one.manifest.made_us > made.made_us, one.path)
        for one in listed(newest.parent)
        if one.manifest is not None and _store_of(one.manifest) == _store_of(made) and one.path != newest
    ]
    # What says that it was made after the newest, the clock was wrong about: it goes first, or it would stay for ever.
    same.sort(key=lambda one: one[0])
    dropped = [path for _, path in same[max(0, keep - 1) :]]
    try:
        for path in dropped:
            # Half of a backup is none: what is left of a removal that broke off has the name of something unfinished.
            aside = path.with_name(path.name + ASIDE)
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise StoreUnavailable(f"{newest.parent}: an old backup cannot be removed: {error.strerror}") from error
    return dropped


def _store_of(made: Manifest) -> tuple[int, str]:
    # A copy of a store is another one, and so is what took its place.
    return made.content.begun_us, made.source


def _children(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreUnavailable(f"{directory}: {error.strerror}") from error


@contextlib.contextmanager
def unfinished(target: Path) -> Generator[Path]:
    """A directory to make a backup in, nobody else's; afterwards it is not there, under this name or at all."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _drop_unfinished(target.parent)
    aside = target.with_name(target.name + ASIDE)
    try:
        aside.mkdir(mode=0o700)
    except FileExistsError:
        raise StoreUnavailable(
            f"another backup is being written at {aside}, or was and cannot be removed; wait until it is done"
        ) from None
    handle = os.open(aside, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # As long as it is held, nobody takes it for something left over.
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        os.close(handle)


def _drop_unfinished(directory: Path) -> None:
    """Removes what backups left that were killed."""
    for path in _children(directory):
        if not path.name.endswith(ASIDE):
            continue
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # Raises where somebody still writes there.
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(handle)
