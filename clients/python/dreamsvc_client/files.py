"""Files on their way in and out: gzip is read and written transparently."""

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from dreamsvc.v1 import memory_pb2

CHUNK_BYTES = 256 * 1024
"""Well under every message limit, and large enough that the calls cost nothing beside the bytes."""

SNIFF_LINES = 100

Progress = Callable[[int, int], None]
"""Called with the bytes of the file that were sent (as they lie on the disk), and with its size."""

Confirm = Callable[[str], None]
"""Gets the SHA-256 of all the bytes, in hex; raises where it is not the right one."""


def detect_format(path: Path) -> memory_pb2.ImportFormat.ValueType:
    """Tells the format by the first line that can be read; the own format where none can."""
    with _opened(path) as (lines, _):
        for _number, line in zip(range(SNIFF_LINES), lines, strict=False):
            try:
                kind = json.loads(line)["type"]
            except (ValueError, TypeError, KeyError):
                continue
            if kind in ("entity", "relation"):
                return memory_pb2.IMPORT_FORMAT_MCP_MEMORY
            return memory_pb2.IMPORT_FORMAT_DREAMSVC_JSONL
    return memory_pb2.IMPORT_FORMAT_DREAMSVC_JSONL


def chunks(path: Path, progress: Progress | None = None) -> Iterator[bytes]:
    """The file's bytes, unpacked if it is gzip; raises OSError (also for a torn gzip file)."""
    total = path.stat().st_size
    with _opened(path) as (content, raw):
        while chunk := content.read(CHUNK_BYTES):
            if progress is not None:
                progress(raw.tell(), total)
            yield chunk
    if progress is not None:
        progress(total, total)


def write(path: Path, parts: Iterable[bytes], confirm: Confirm) -> None:
    """Writes a whole, confirmed file or none, as gzip where its name ends in .gz."""
    if path.exists() and not path.is_file():
        # A device or a pipe is written to, never replaced.
        with path.open("wb") as target:
            return copy(target, parts, confirm)
    part_path = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part_path.open("wb") as raw, _packed(path, raw) as content:
            copy(content, parts, confirm)
        os.replace(part_path, path)
    except BaseException:
        part_path.unlink(missing_ok=True)
        raise


def copy(target: IO[bytes], parts: Iterable[bytes], confirm: Confirm) -> None:
    """Writes to an open file, e.g. standard output."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
        target.write(part)
    target.flush()
    confirm(digest.hexdigest())


@contextmanager
def _opened(path: Path) -> Generator[tuple[IO[bytes], IO[bytes]]]:
    """The unpacked content, and the file below it whose position tells how far it was read."""
    with path.open("rb") as raw:
        magic = raw.read(2)
        raw.seek(0)
        if magic != b"\x1f\x8b":
            yield raw, raw
            return
        with gzip.GzipFile(fileobj=raw) as content:
            try:
                yield cast(IO[bytes], content), raw
            except (EOFError, zlib.error) as error:
                raise OSError(f"the gzip file is torn: {error}") from error


@contextmanager
def _packed(path: Path, raw: IO[bytes]) -> Generator[IO[bytes]]:
    if path.suffix == ".gz":
        # No name and no time inside: the same memory gives the same file.
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as content:
            yield cast(IO[bytes], content)
    else:
        yield raw
