"""A dreamer over a snapshot of ten million memories: its night, its memory, and how long it takes to stop.

The process that dreams is the real one, spoken to over its seam; a service that holds so much would not fit beside it
into a common machine. It has the default configuration, the share of the device that it has by default, and the time
that dream.scale_durations gives so many memories (REQ-DREAM-027).
"""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import grpc
import numpy as np
from rich.console import Console

from benchmarks import harness
from benchmarks.dream_arrays import SECOND_US
from benchmarks.dreamer_alone import DreamerAlone
from benchmarks.sampled import Sampled
from benchmarks.serving import ServerFailed
from dreamsvc import clock
from dreamsvc import config as configuration
from dreamsvc.dream.meters import MB, ProcessMeter
from dreamsvc.dream.scaling import scaled
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Allowance, Ended, Ready, RunDreamRequest, Start, Stop
from dreamsvc.dreamer.v1.dreamer_service_pb2_grpc import DreamerServiceStub
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import EndReason

SEED = 5
DIMENSION = 64
EDGES_A_NODE = 2


class Size(NamedTuple):
    nodes: int
    # Seconds of the night; 0: as long as it is by default.
    budget_s: float
    # Nights that are stopped, and up to how long after they began.
    stops: int
    within_s: float


FULL, QUICK = Size(10_000_000, 0, 5, 60.0), Size(500, 2, 1, 0.1)


class Night(NamedTuple):
    ready: Ready
    ended: Ended
    prepared_s: float
    # From when it was ready to its last word.
    dreamt_s: float
    # From the word that stops it to its last one; None where it was over before.
    stop_ms: float | None


def run(quick: bool, console: Console) -> harness.Measured:
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as name, harness.bar(console) as progress:
        steps = progress.add_task("a memory", total=2 + size.stops)
        home = Path(name)
        snapshot = _written(home / "snapshot", size)
        progress.update(steps, advance=1, description="a night")
        with DreamerAlone(home / "dreamer.sock") as dreamer:
            meter = ProcessMeter(dreamer.process.pid)
            with Sampled(lambda: _own_mb(meter)) as memory:
                whole = _night(dreamer, _start(snapshot, size, SEED))
            stops_ms: list[float] = []
            draw = np.random.default_rng(SEED)
            for number in range(size.stops):
                progress.update(steps, advance=1, description="nights that are stopped")
                within_s = draw.uniform(0, size.within_s)
                night = _night(dreamer, _start(snapshot, size, SEED + 1 + number), within_s)
                stops_ms += [] if night.stop_ms is None else [night.stop_ms]
        snapshot_bytes = sum(file.stat().st_size for file in snapshot.iterdir())
    exploration, compression = whole.ended.exploration, whole.ended.compression
    figures = {
        "nodes": whole.ready.nodes,
        "prepared_s": whole.prepared_s,
        "night_s": whole.dreamt_s,
        "replayed": whole.ended.tally.nodes_replayed,
        "dreamer_mb": memory.most,
        "stops": len(stops_ms),
        "stop_max_ms": max(stops_ms, default=0.0),
    }
    detail = {
        "edges": whole.ready.edges,
        "dimension": DIMENSION,
        "snapshot_mb": round(snapshot_bytes / MB),
        "ended": EndReason.Name(whole.ended.reason),
        "busy_s": round(whole.ended.tally.busy_seconds, 1),
        "notices": [*compression.notices, *exploration.notices],
        "stops_ms": [round(stop_ms, 1) for stop_ms in stops_ms],
    }
    return harness.Measured(figures, detail)


def _own_mb(meter: ProcessMeter) -> float:
    """Without what it only maps; 0 where nothing is known."""
    usage = meter.read()
    return 0.0 if usage is None else usage.memory_bytes / MB


def _written(directory: Path, size: Size) -> Path:
    numbers = (size.nodes, EDGES_A_NODE * size.nodes, DIMENSION)
    command = [sys.executable, "-m", "benchmarks.huge_memory", str(directory), *map(str, numbers)]
    ended = subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True)
    if ended.returncode:
        raise ServerFailed(f"no memory was made: exit code {ended.returncode}: {ended.stderr[-2000:]}")
    return directory


def _start(snapshot: Path, size: Size, seed: int) -> Start:
    settings = configuration.defaults()
    config = scaled(settings.dream, size.nodes)
    minutes = config.nrem.duration_minutes + config.rem.duration_minutes
    return Start(
        dream_id="01890a5d-ac96-774b-bcce-b302099a8057",
        phase=dream_pb2.DREAM_PHASE_FULL_CYCLE,
        seed=seed,
        budget_seconds=size.budget_s or 60 * minutes,
        snapshot=str(snapshot),
        config=config,
        # The newest memory is of now.
        now_us=size.nodes * SECOND_US,
        recall=settings.recall,
        allowance=Allowance(max_share=config.resources.max_gpu_usage),
    )


def _night(dreamer: DreamerAlone, start: Start, stop_after_s: float | None = None) -> Night:
    """One night; stopped so long after it was ready. Raises ServerFailed where it breaks off or fails."""
    words: SimpleQueue[RunDreamRequest | None] = SimpleQueue()
    words.put(RunDreamRequest(start=start))
    stopped_s: float | None = None

    def stop() -> None:
        nonlocal stopped_s
        stopped_s = clock.precise_s()
        words.put(RunDreamRequest(stop=Stop()))

    def spoken() -> Iterator[RunDreamRequest]:
        while (word := words.get()) is not None:
            yield word

    began_s = ready_s = clock.precise_s()
    ready, timer = Ready(), None
    try:
        for said in DreamerServiceStub(dreamer.channel).RunDream(spoken()):
            match said.WhichOneof("message"):
                case "ready":
                    ready, ready_s = said.ready, clock.precise_s()
                    if stop_after_s is not None:
                        timer = threading.Timer(stop_after_s, stop)
                        timer.start()
                case "ended":
                    over_s = clock.precise_s()
                    if said.ended.reason == dream_pb2.END_REASON_FAILED:
                        raise ServerFailed(f"the night failed: {said.ended.message}")
                    stop_ms = None if stopped_s is None else (over_s - stopped_s) * 1000
                    return Night(ready, said.ended, ready_s - began_s, over_s - ready_s, stop_ms)
                case _:
                    pass
        raise ServerFailed("the dreamer fell silent")
    except grpc.RpcError as error:
        raise ServerFailed(f"the dreamer broke off: {error}") from error
    finally:
        if timer is not None:
            timer.cancel()
        words.put(None)


BENCHMARK = harness.Benchmark(
    figures=["nodes", "prepared_s", "night_s", "replayed", "dreamer_mb", "stops", "stop_max_ms"],
    targets={
        # The minutes of the specification, and some seconds to end in.
        "night_s": (harness.Target(910),),
        "stops": (harness.Target(least=FULL.stops, must=False),),
        "stop_max_ms": (harness.Target(100),),
    },
    run=run,
)
