"""What commands do themselves with files on this machine: check, mend, copy and read them.

No service is needed for any of it, and one may serve the same store meanwhile; nothing here loads the service.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dreamsvc.clock import Clock
from dreamsvc.memory import backup, export, manifest, shelf
from dreamsvc.memory import salvage as salvaging
from dreamsvc.memory.backup import Restored
from dreamsvc.memory.doctor import Finding, examine
from dreamsvc.memory.giving_way import Progress
from dreamsvc.memory.graph_file import read_graph
from dreamsvc.memory.manifest import Manifest
from dreamsvc.memory.salvage import Salvaged
from dreamsvc.memory.shelf import Listed
from dreamsvc.v1.memory_service_pb2 import ExportSummary

__all__ = [
    "Manifest",
    "check_backup",
    "describe_backup",
    "doctor",
    "drop_older_backups",
    "export_from",
    "list_backups",
    "make_backup",
    "read_graph",
    "restore_backup",
    "salvage",
    "source_of_backup",
]


def doctor(path: str, progress: Callable[[str, int, int], None] | None = None) -> list[Finding]:
    """Checks a store's invariants, beside a running server or without one."""
    return examine(path, progress=progress)


def salvage(store: Path, target: Path, progress: Progress | None = None) -> Salvaged:
    """A sound store of what a damaged one still holds; raises DreamsvcError."""
    return salvaging.salvage(store, target, progress=progress)


def export_from(path: Path, space: str) -> Iterator[bytes | ExportSummary]:
    """What Export gives, of a store's file or of a backup that nobody serves; raises DreamsvcError."""
    return export.read(path / backup.DATABASE if path.is_dir() else path, space)


def make_backup(store: Path, target: Path | None, progress: Progress | None = None) -> tuple[Path, Manifest]:
    """A backup of a store at a new place, by default beside it with the time in its name; raises DreamsvcError."""
    now_us = Clock().now_us()
    target = target or shelf.default_target(store, now_us)
    return target, backup.make(store, target, now_us=now_us, progress=progress)


def drop_older_backups(newest: Path, keep: int) -> list[Path]:
    return shelf.drop_older(newest, keep)


def check_backup(path: Path, progress: Progress | None = None) -> Manifest:
    return backup.check(path, progress=progress)


def source_of_backup(path: Path) -> Path:
    """The store it was made of."""
    return Path(manifest.read(path).source)


def restore_backup(path: Path, store: Path, progress: Progress | None = None) -> Restored:
    return backup.restore(path, store, now_us=Clock().now_us(), progress=progress)


def list_backups(store: Path, directory: Path | None) -> list[Listed]:
    return shelf.listed(directory or shelf.default_directory(store))


def describe_backup(made: Manifest) -> dict[str, Any]:
    """A manifest as JSON."""
    return manifest.to_dict(made)
