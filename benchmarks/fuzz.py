"""Everything that comes from outside, by the million: bytes into every RPC, import files, what is read back from disk,
configuration files, both directions of the seam to the dreamer, answers of an embedding endpoint.

A crash is any case that is neither answered nor refused with a reason, that changes what it should not, hangs, or makes
memory grow without bound. What failed lies in build/fuzz with the seed that replays it.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks import harness
from benchmarks.harness import Benchmark, Counted, Measured, Target
from benchmarks.proof.fuzz_run import size_of
from benchmarks.proof.fuzz_sessions import MOST_BATCHES, Found, Session, run
from benchmarks.proof.fuzz_watch import KEPT, Failure

# Of a million cases; what is dear has few, and many things in each.
SHARES: Mapping[str, float] = {
    "calls": 0.5597,
    "toml": 0.22,
    "lines": 0.11,
    "channel": 0.04,
    "snapshots": 0.025,
    "parts": 0.02,
    "blobs": 0.01,
    "endpoint": 0.007,
    "imports": 0.006,
    "night": 0.002,
    "dreamer": 0.0003,
}
# A real dreamer takes seconds to start, and what it compiles is not quick either.
NOT_QUICK = ("dreamer",)
# Below this every target has one small batch, in one process.
FEW = 20_000
MOST_SHOWN = 20


def run_fuzz(count: int, console: Console) -> Measured:
    found: dict[str, Found] = {}
    sessions = _few(count) if count < FEW else _many(count)
    with harness.bar(console) as progress:
        task = progress.add_task("fuzzing", total=count)
        for session in sessions:
            progress.update(task, description=f"fuzzing {', '.join(session.targets)[:40]}")
            run(session, found, lambda cases: progress.advance(task, cases))
            _show(progress, found)
    failures = [failure for of in found.values() for failure in of.failures]
    _keep(failures)
    figures = {"cases": float(sum(of.cases for of in found.values())), "crashes": float(len(failures))}
    return Measured(figures, {"targets": {name: _told(of) for name, of in found.items()}, "found": _shown(failures)})


def _few(count: int) -> list[Session]:
    names = [name for name in SHARES if name not in NOT_QUICK]
    return [Session(names, 0, 1, count / sum(map(size_of, names)))]


def _many(count: int) -> list[Session]:
    sessions: list[Session] = []
    for name, share in SHARES.items():
        batches = math.ceil(share * count / size_of(name))
        for first in range(0, batches, MOST_BATCHES):
            sessions.append(Session([name], first, min(MOST_BATCHES, batches - first), None))
    return sessions


def _show(progress: Progress, found: Mapping[str, Found]) -> None:
    crashes = sum(len(of.failures) for of in found.values())
    if crashes:
        progress.console.print(f"{crashes} crashes so far; they lie in build/fuzz", markup=False)


def _told(of: Found) -> dict[str, Any]:
    return {
        "cases": of.cases,
        "seconds": round(of.seconds, 1),
        "crashes": len(of.failures),
        "largest_mb": of.largest_mb,
        "ends": dict(of.ends.most_common()),
    }


def _shown(failures: list[Failure]) -> list[dict[str, Any]]:
    return [
        {
            "target": failure.target,
            "what": failure.what,
            "case": failure.case,
            "error": failure.error.strip().rpartition("\n")[2][:300],
            "replay": failure.replay,
        }
        for failure in failures[:MOST_SHOWN]
    ]


def _keep(failures: list[Failure]) -> None:
    if failures:
        KEPT.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(failure._asdict() | {"replay": failure.replay}) for failure in failures]
        (KEPT / "failures.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


BENCHMARK = Benchmark(
    figures=("cases", "crashes"),
    targets={"crashes": (Target(0),)},
    run=Counted(run_fuzz, "cases", full=1_000_000, quick=1_000),
)
