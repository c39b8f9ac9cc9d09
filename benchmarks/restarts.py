"""A service that is ended and started again and again over one store: what each start finds, and what grows.

Between two starts a memory is remembered, and every tenth time a short dream goes by; the next start has to know both.
The start is timed to its first answer. Of memory and open files the first tenth of the starts is held against the last.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from dreamsvc_client import Client, DreamsvcCallError
from rich.console import Console

from benchmarks import harness
from benchmarks.made_memory import MadeMemory
from benchmarks.serving import BY_REQUEST_ONLY, Server, dreamsvc_command
from dreamsvc import clock
from dreamsvc.v1.memory_pb2 import Memory

NODES, EDGES, DIMENSION = 1000, 4000, 32
DREAM_S, CALL_S = 0.2, 60.0
# A dreamer takes seconds to start.
DREAMS_EVERY = 10


class Start(NamedTuple):
    answered_ms: float
    stopped_ms: float
    rss_mb: float
    handles: int
    # Of what was acknowledged before, what this start does not know.
    missing: int


def run(count: int, console: Console) -> harness.Measured:
    starts: list[Start] = []
    with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as name, harness.bar(console) as progress:
        directory = Path(name)
        command, log = dreamsvc_command(directory, config=BY_REQUEST_ONLY), directory / "server.log"
        _fill(command, log)
        task = progress.add_task("restarts", total=count)
        keys: list[str] = []
        dreams: list[str] = []
        for number in range(count):
            starts.append(_once(command, log, f"restart:{number}", keys, dreams))
            progress.advance(task)
    return _measured(starts)


def _fill(command: Sequence[str], log: Path) -> None:
    with Server(command, log) as server, Client(server.target, timeout_s=CALL_S) as client:
        MadeMemory(NODES, EDGES, DIMENSION).import_into(client)
        server.stop()


def _once(command: Sequence[str], log: Path, key: str, keys: list[str], dreams: list[str]) -> Start:
    """Adds to `keys` and `dreams` what this run remembered and dreamed."""
    with Server(command, log) as server, Client(server.target, timeout_s=CALL_S) as client:
        client.status()
        answered_ms = (clock.precise_s() - server.began_s) * 1000
        rss_mb, handles = server.resident_mb(), server.handles()
        missing = sum(not _has(client.get, one) for one in keys[-1:])
        missing += sum(not _has(client.dream, one) for one in dreams[-1:])
        client.remember([Memory(key=key, text=f"what was remembered before {key}")])
        keys.append(key)
        if len(keys) % DREAMS_EVERY == 1:
            dreams.append(client.trigger(budget_s=DREAM_S, blocking=True).dream.id)
        began_s = clock.precise_s()
        server.stop()
        return Start(answered_ms, (clock.precise_s() - began_s) * 1000, rss_mb, handles, missing)


def _has(ask: Callable[[str], object], name: str) -> bool:
    try:
        ask(name)
    except DreamsvcCallError as error:
        if error.reason != "NOT_FOUND":
            raise
        return False
    return True


def _measured(starts: Sequence[Start]) -> harness.Measured:
    tenth = max(1, len(starts) // 10)
    first, last = starts[:tenth], starts[-tenth:]

    def grown(name: str) -> float:
        return float(np.median([getattr(one, name) for one in last]) - np.median([getattr(one, name) for one in first]))

    answered = harness.percentiles([start.answered_ms for start in starts])
    figures = {
        "restarts": len(starts),
        "missing": sum(start.missing for start in starts),
        "p50_ms": answered["p50_ms"],
        "p95_ms": answered["p95_ms"],
        "rss_growth_mb": grown("rss_mb"),
        "handles_growth": grown("handles"),
    }
    stopped = harness.percentiles([start.stopped_ms for start in starts])
    detail = {
        "p50_ms, p95_ms": "from exec to the answer to the first GetStatus",
        "stop_ms": {key: round(value, 1) for key, value in stopped.items()},
        "rss_mb": [round(start.rss_mb, 1) for start in (starts[0], starts[-1])],
    }
    return harness.Measured(figures, detail)


BENCHMARK = harness.Benchmark(
    figures=["restarts", "missing", "p50_ms", "p95_ms", "rss_growth_mb", "handles_growth"],
    targets={
        "restarts": (harness.Target(least=100, must=False),),
        "missing": (harness.Target(0),),
        "p95_ms": (harness.Target(250),),
        "rss_growth_mb": (harness.Target(5),),
        "handles_growth": (harness.Target(1),),
    },
    run=harness.Counted(run, "restarts", full=100, quick=2),
)
