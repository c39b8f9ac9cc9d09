"""Whether SQLite's log beside a database is whole, looked at before SQLite reads it.

SQLite takes a log up to the first frame whose checksum is wrong for all of it: what follows a flipped bit would be
dropped without a word, and so would be all of a log whose header is damaged. A commit that was cut off by a power cut
looks alike, but at most one can be: each is synced before the next one begins.

A checksum of a log is linear in the words it is made of (https://sqlite.org/fileformat2.html#walformat), so every frame
is checked by itself from the checksum that the frame before it claims, and a single flipped bit is told from a torn
write.

It is read and never mapped: a service that is running may cut its log short at any moment, and a process that looks at
a mapped page which is no longer there is ended by the system.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

HEADER, FRAME_HEADER = 32, 24
MAGIC = 0x377F0682
# At the end of a page.
CHECKSUM_BYTES = 8
# Of a frame's header, as words: the page, the pages of the database after a commit (else 0), two salts, two checksums.
PAGE, COMMIT, SALTS, SUMS = 0, 1, slice(2, 4), slice(4, 6)
SLICE = 1024

type Words = NDArray[np.uint32]


class LogState(NamedTuple):
    """What a log is worth."""

    frames: int = 0
    # Frames of a commit that was never whole and that SQLite leaves out: a power cut, if it was not damage.
    left_out: int = 0
    # What is wrong with it; '' where nothing is. Opening the database would lose changes that were acknowledged.
    damage: str = ""
    # All that it holds is in the database file too, so it can be deleted.
    spare: bool = False


def look(database: Path) -> LogState:
    """Reads the log of a database that nobody writes to; raises OSError."""
    path = database.with_name(f"{database.name}-wal")
    size = path.stat().st_size if path.exists() else 0
    if size <= HEADER or not database.exists():
        return LogState()
    try:
        with path.open("rb") as file:
            return _looked_at(database, file, size)
    except (_Shorter, FileNotFoundError):
        # Whoever writes to it has moved all of it into the database meanwhile.
        return LogState()


class _Shorter(Exception):
    """There is less of the log than there was."""


class _Frames:
    """The frames of a log, read where they are asked for."""

    def __init__(self, file: BinaryIO, count: int, frame_bytes: int) -> None:
        self._file = file
        self.count = count
        self.frame_bytes = frame_bytes

    def slices(self) -> Iterator[NDArray[np.uint8]]:
        """All of them in order, [up to SLICE, frame_bytes] at a time."""
        for at in range(0, self.count, SLICE):
            yield self.read(at, min(SLICE, self.count - at))

    def read(self, at: int, count: int = 1) -> NDArray[np.uint8]:
        """[count, frame_bytes] from one on; raises _Shorter."""
        self._file.seek(HEADER + at * self.frame_bytes)
        found = np.frombuffer(self._file.read(count * self.frame_bytes), np.uint8)
        if len(found) < count * self.frame_bytes:
            raise _Shorter
        return found.reshape(count, self.frame_bytes)


def _looked_at(database: Path, file: BinaryIO, size: int) -> LogState:
    raw = np.frombuffer(file.read(HEADER), np.uint8)
    if len(raw) < HEADER:
        raise _Shorter
    header = raw.view(">u4").astype(np.uint32)
    order = ">u4" if header[0] & 1 else "<u4"
    whole = header[0] & ~np.uint32(1) == MAGIC and np.array_equal(_sums(raw[None, :24], order)[0], header[6:8])
    page_bytes = int(header[2]) if whole else _page_bytes(database)
    count = (size - HEADER) // (FRAME_HEADER + page_bytes) if page_bytes else 0
    if not count:
        return LogState()
    frames = _Frames(file, count, FRAME_HEADER + page_bytes)
    found: list[Words] = []
    sums: list[Words] = []
    for some in frames.slices():
        found.append(np.ascontiguousarray(some[:, :FRAME_HEADER]).view(">u4").astype(np.uint32))
        if whole:
            sums.append(_frame_sums(some, order))
    heads = np.vstack(found)
    if not whole:
        # As far as its frames belong together.
        ours = int(np.argmin(np.append((heads[:, SALTS] == heads[0, SALTS]).all(axis=1), False)))
        spare = _is_in(database, frames, heads, np.arange(ours))
        return LogState(count, damage="" if spare else f"its header is damaged, {ours} frames follow", spare=spare)
    return _chained(database, frames, heads, header, np.vstack(sums))


def _chained(database: Path, frames: _Frames, heads: Words, header: Words, sums: Words) -> LogState:
    """sums: what each frame adds to a checksum, [frames, 2]."""
    count = frames.count
    salted = heads[:, SALTS] == header[4:6]
    claimed = np.vstack([header[None, 6:8], heads[:-1, SUMS]])
    worked_out = sums + claimed @ _powers(frames.frame_bytes)[-1].T
    right = salted.all(axis=1) & (worked_out == heads[:, SUMS]).all(axis=1) & (heads[:, PAGE] > 0)
    first_wrong = int(np.argmin(np.append(right, False)))
    # Frames of an earlier use of the file have neither of this one's salts.
    after = np.flatnonzero(salted.any(axis=1) & (np.arange(count) >= first_wrong))
    if not len(after):
        return LogState(count)
    at = int(after[0])
    flipped = _one_bit(heads[at, SALTS], header[4:6]) or (
        salted[at].all()
        and (_one_bit(worked_out[at], heads[at, SUMS]) or _by_one_bit(worked_out[at], heads[at], frames.frame_bytes))
    )
    commits = int(np.count_nonzero(heads[after, COMMIT]))
    # Where no commit follows nothing is lost: a sector that did not come to the disk may be one bit off by chance.
    commit_flipped = salted[at].all() and _by_one_bit(
        worked_out[at], heads[at], frames.frame_bytes, slice(COMMIT, COMMIT + 1)
    )
    if commits < 2 and not (flipped if commits else commit_flipped):
        return LogState(count, left_out=len(after))
    damage = f"frame {at + 1} of {count} is damaged, {len(after)} frames with {commits} commits would be lost"
    ours = np.flatnonzero(salted.any(axis=1))
    return LogState(count, len(after), damage, _is_in(database, frames, heads, ours))


def _is_in(database: Path, frames: _Frames, heads: Words, rows: NDArray[np.int64]) -> bool:
    """Whether a database file holds all pages of some frames as the last of them have them."""
    last = {int(heads[row, PAGE]): row for row in rows.tolist()}
    page_bytes = frames.frame_bytes - FRAME_HEADER
    held_pages = database.stat().st_size // page_bytes
    if not all(0 < page <= held_pages for page in last):
        # Not there yet, or a number with a wrong bit.
        return False
    with database.open("rb") as file:
        for page, row in last.items():
            file.seek((page - 1) * page_bytes)
            # Only in the database does a page end in its checksum.
            held = file.read(page_bytes)[:-CHECKSUM_BYTES]
            if held != frames.read(row)[0, FRAME_HEADER:-CHECKSUM_BYTES].tobytes():
                return False
    return True


def _page_bytes(database: Path) -> int:
    """0 where the file does not say."""
    with database.open("rb") as file:
        said = int.from_bytes(file.read(18)[16:], "big")
    return said if said >= 512 and not said & (said - 1) else 0


# ── checksums ───────────────────────────────────────────────────────────────────


def _frame_sums(frames: NDArray[np.uint8], order: str) -> Words:
    """What each frame adds to a checksum that begins at 0, [n, 2]."""
    return _sums(np.hstack([frames[:, :8], frames[:, FRAME_HEADER:]]), order)


def _sums(data: NDArray[np.uint8], order: str) -> Words:
    words = np.ascontiguousarray(data).view(order).astype(np.uint32)
    return words @ _weights(words.shape[1])


@functools.cache
def _weights(words: int) -> Words:
    """How much each word counts for in the checksum over all of them, [words, 2], modulo 2^32."""
    powers = _powers(words * 4 + FRAME_HEADER - 8)
    first = np.array([[1, 0], [1, 1]], np.uint32)
    pairs = words // 2
    return np.vstack([(powers[pairs - 1 - pair] @ first).T for pair in range(pairs)])


@functools.cache
def _powers(frame_bytes: int) -> Words:
    """Powers 0 to P of the step from one pair of words to the next, P the pairs that a frame's checksum is made of."""
    step = np.array([[1, 1], [1, 2]], np.uint32)
    powers = [np.eye(2, dtype=np.uint32)]
    for _ in range((frame_bytes - FRAME_HEADER + 8) // 8):
        powers.append(powers[-1] @ step)
    return np.array(powers)


def _one_bit(left: Words, right: Words) -> bool:
    """Whether two pairs of words differ in one bit and no more."""
    return int(np.bitwise_count(left ^ right).sum()) == 1


def _by_one_bit(worked_out: Words, head: Words, frame_bytes: int, among: slice = slice(None)) -> bool:
    """Whether one flipped bit of a frame, of some of its words, makes up for what its checksum is off by."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    weights = _weights((frame_bytes - FRAME_HEADER + 8) // 4)
    off = head[SUMS] - worked_out
    moved = weights[among, None, :] * bits[None, :, None]
    return bool((moved == off).all(axis=2).any() or (moved == -off).all(axis=2).any())
