"""Watches one batch of fuzzed cases: which one runs, what it broke, and that none of them hangs or eats the memory.

The case that runs stands in a file, so that one which ends the process is known afterwards.
"""

import contextlib
import faulthandler
import json
import mmap
import os
import re
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

ROOT = Path(__file__).resolve().parent.parent.parent
# What failed is kept here, out of git.
KEPT = ROOT / "build" / "fuzz"
HANG_S = 60.0
MOST_GROWN_MB = 1_500.0
HUNG, SWELLED = 41, 42
_NOTE_BYTES = 512
_LINES = 14


class Failure(NamedTuple):
    """A case that broke something."""

    target: str
    seed: int
    case: int
    # The part of the target, e.g. the method that was called.
    what: str
    error: str
    # Where the bytes lie that did it, from the project's root; '' where they follow from the seed alone.
    data: str = ""

    @property
    def replay(self) -> str:
        return f"python -m benchmarks.proof.fuzz_run {self.target} --seed {self.seed}"


class Broken(Exception):
    """What must hold does not."""


class Watch:
    """Notes what runs and what failed, in one batch."""

    def __init__(self, target: str, seed: int, note: mmap.mmap | None = None) -> None:
        self.target = target
        self.seed = seed
        self.cases = 0
        self.failures: list[Failure] = []
        # How the cases ended, e.g. "refused": that not all of them stop at the first check.
        self.ends: Counter[str] = Counter()
        self._note = note
        self.since = time.monotonic()

    @contextlib.contextmanager
    def case(self, what: str, data: bytes = b"") -> Generator[None]:
        """One case; an exception in it is a failure, and the batch goes on."""
        self.since = time.monotonic()
        if self._note is not None:
            said = json.dumps([self.target, self.seed, self.cases, what[:200]]).encode()
            self._note[:_NOTE_BYTES] = said[:_NOTE_BYTES].ljust(_NOTE_BYTES)
        try:
            yield
        except Exception as error:
            self._fail(what, error, data)
        self.cases += 1

    def ended(self, how: str) -> None:
        self.ends[how] += 1

    def _fail(self, what: str, error: BaseException, data: bytes) -> None:
        lines = traceback.format_exception(error)
        text = "".join(lines) if len(lines) <= _LINES else "".join([*lines[:2], "  ...\n", *lines[-_LINES:]])
        self.failures.append(Failure(self.target, self.seed, self.cases, what, text[-4000:], _kept(self, data)))


class Target(Protocol):
    """Something that is fuzzed, in batches that begin from the same state and follow from their seed."""

    name: str
    # Cases of a batch, about.
    size: int

    def batch(self, watch: Watch, cases: int) -> None: ...
    def close(self) -> None: ...


def _kept(watch: Watch, data: bytes) -> str:
    if not data:
        return ""
    KEPT.mkdir(parents=True, exist_ok=True)
    place = KEPT / f"{watch.target}-{watch.seed}-{watch.cases}.bin"
    place.write_bytes(data)
    return str(place.relative_to(ROOT))


# ── the process ─────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def note_in(path: Path) -> Generator[mmap.mmap]:
    """The file in which the running case stands."""
    path.write_bytes(b" " * _NOTE_BYTES)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), _NOTE_BYTES) as note:
        yield note


def noted(path: Path) -> tuple[str, int, int, str] | None:
    """What ran last: target, seed, case and what was done."""
    try:
        target, seed, case, what = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return target, seed, case, what


def guard(running: Callable[[], Watch | None]) -> None:
    """Ends this process where a case takes a minute or the memory grows by more than a gigabyte."""
    base = resident_mb()

    def look() -> None:
        while True:
            time.sleep(0.25)
            watch = running()
            if watch is None:
                continue
            if time.monotonic() - watch.since > HANG_S:
                faulthandler.dump_traceback(sys.stderr)
                os._exit(HUNG)
            if resident_mb() - base > MOST_GROWN_MB:
                faulthandler.dump_traceback(sys.stderr)
                os._exit(SWELLED)

    threading.Thread(target=look, daemon=True).start()


def resident_mb(pid: int | None = None) -> float:
    """0 where the system does not say."""
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def as_json(failure: Failure) -> dict[str, Any]:
    return {**failure._asdict(), "replay": failure.replay}
