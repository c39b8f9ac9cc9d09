"""Runs fuzzing in processes of its own, so that a case which ends one is a finding, and the others go on."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.proof.fuzz_watch import HANG_S, HUNG, KEPT, MOST_GROWN_MB, ROOT, SWELLED, Failure, noted

# A process that lives longer shows what grows in ours rather than what is wrong with the cases.
MOST_BATCHES = 30
# Deaths of a target's processes after which it is given up.
MOST_DEATHS = 10


class Session(NamedTuple):
    """Targets, and batches of each."""

    targets: Sequence[str]
    first_seed: int
    batches: int
    # Of the cases that a batch has by itself; None: all.
    share: float | None


@dataclass
class Found:
    """What came of a target."""

    cases: int = 0
    seconds: float = 0.0
    largest_mb: float = 0.0
    ends: Counter[str] = field(default_factory=Counter[str])
    failures: list[Failure] = field(default_factory=list[Failure])
    deaths: int = 0


def run(session: Session, found: dict[str, Found], heard: Callable[[int], None]) -> None:
    """Runs a session to its end, however often its process dies; `heard` is told how many cases came to their end."""
    seed, targets = session.first_seed, list(session.targets)
    while targets and seed < session.first_seed + session.batches:
        left = session._replace(targets=targets, first_seed=seed, batches=session.first_seed + session.batches - seed)
        died = _process(left, found, heard)
        if died is None:
            return
        failure, how = died
        of = found.setdefault(failure.target, Found())
        of.failures.append(failure)
        of.deaths += 1
        at = targets.index(failure.target)
        if len(targets) > 1:
            # Several have one batch each: on with those that come after.
            targets = targets[at + 1 :]
        elif of.deaths >= MOST_DEATHS or how == "start":
            return
        else:
            seed = failure.seed + 1


def _process(session: Session, found: dict[str, Found], heard: Callable[[int], None]) -> tuple[Failure, str] | None:
    """The case that ended the process; None where it came to its end by itself."""
    KEPT.mkdir(parents=True, exist_ok=True)
    note = KEPT / "running"
    note.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.proof.fuzz_run", *session.targets, "--note", str(note)]
    command += ["--seed", str(session.first_seed), "--batches", str(session.batches)]
    command += [] if session.share is None else ["--share", str(session.share)]
    log = KEPT / "stderr.txt"
    with log.open("w") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True)
        assert process.stdout is not None
        with process, process.stdout as lines:
            for line in lines:
                _note_batch(json.loads(line), found, heard)
    if process.returncode in (0, 1) and _came_to_its_end(log):
        return None
    return _death(session, process.returncode, note, log)


def _came_to_its_end(log: Path) -> bool:
    """Whether it did not break off by an error outside of all cases, which Python also ends with 1."""
    return "Traceback (most recent call last)" not in log.read_text(errors="replace")


def _death(session: Session, code: int, note: Path, log: Path) -> tuple[Failure, str]:
    how = {HUNG: f"it took more than {HANG_S:g} s", SWELLED: f"the process grew by {MOST_GROWN_MB:g} MB"}
    said = log.read_text(errors="replace")[-4000:]
    ran = noted(note)
    target, seed, case, what = ran or (session.targets[0], session.first_seed, 0, "the start")
    ended = f"signal {-code}" if code < 0 else f"code {code}"
    failure = Failure(target, seed, case, what, f"{said}\n{how.get(code, f'the process ended with {ended}')}")
    return failure, "" if ran else "start"


def _note_batch(told: dict[str, Any], found: dict[str, Found], heard: Callable[[int], None]) -> None:
    of = found.setdefault(told["target"], Found())
    of.cases += told["cases"]
    of.seconds += told["seconds"]
    of.largest_mb = max(of.largest_mb, told["resident_mb"])
    of.ends.update(told["ends"])
    for failure in told["failures"]:
        del failure["replay"]
        of.failures.append(Failure(**failure))
    heard(told["cases"])
