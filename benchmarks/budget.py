"""What a dream takes of the machine, from outside: the processor time of its process, looked at ten times a second.

A memory is filled, and a full cycle goes over it with everything as configured by default, from the start of the
dreamer's process on, with nothing compiled before. Of the second in which it took most, the share has to stay within
dream.resources.max_gpu_usage. The process that serves is looked at as well: what it does before and after the dream,
the snapshot and the folding, is its own work, behind users' writes.
"""

import os
import tempfile
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import psutil
from dreamsvc_client import Client
from rich.console import Console

from benchmarks import harness
from benchmarks.made_memory import MadeMemory
from benchmarks.serving import BY_REQUEST_ONLY, Server, serving
from dreamsvc import clock, gpu
from dreamsvc.cores import core_count
from dreamsvc.v1.dream_pb2 import Dream

EVERY_S, SECOND_S, CALL_S = 0.1, 1.0, 1200.0
# So that some samples show the machine at rest.
BEFORE_S, AFTER_S = 1.0, 1.0


class Size(NamedTuple):
    nodes: int
    edges: int
    dimension: int
    # Seconds of the cycle; 0 as configured.
    budget_s: float


FULL, QUICK = Size(100_000, 800_000, 256, 0.0), Size(300, 1200, 16, 5.0)


class Sample(NamedTuple):
    """One look: processor time that was used since the beginning."""

    at_s: float
    dreamers_s: float
    server_s: float
    # Of the GPU's time, what dreamers used since the last look; None where nothing tells.
    gpu: float | None


class Outside:
    """Looks at a server and its dreamers all the time, from a thread of its own."""

    def __init__(self, server: Server) -> None:
        self._server = psutil.Process(server.pid)
        # By process id; one that has ended stays with what it had used.
        self._dreamers: dict[int, psutil.Process] = {}
        self._used_s: dict[int, float] = {}
        self._gpu = gpu.open_gpu()
        self._over = threading.Event()
        self.samples: list[Sample] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> Sequence[Sample]:
        self._over.set()
        self._thread.join()
        return self.samples

    def _run(self) -> None:
        began_s = clock.precise_s()
        while not self._over.wait(max(0.0, began_s + EVERY_S * len(self.samples) - clock.precise_s())):
            for child in self._server.children(recursive=True):
                self._dreamers.setdefault(child.pid, child)
            for pid, process in self._dreamers.items():
                self._used_s[pid] = max(self._used_s.get(pid, 0.0), _cpu_s(process))
            read = self._gpu.read(list(self._dreamers)).ours if self._gpu is not None else None
            used_s = sum(self._used_s.values())
            self.samples.append(Sample(clock.precise_s() - began_s, used_s, _cpu_s(self._server), read))


def _cpu_s(process: psutil.Process) -> float:
    """Of all its threads; 0 where it has ended."""
    try:
        times = process.cpu_times()
        return times.user + times.system
    except psutil.Error:
        return 0.0


def run(quick: bool, console: Console) -> harness.Measured:
    size = QUICK if quick else FULL
    with (
        tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as directory,
        # What is compiled is compiled in this very night.
        patch.dict(os.environ, {} if quick else {"DREAMSVC_CACHE": directory}),
        serving(config=BY_REQUEST_ONLY) as server,
        Client(server.target, timeout_s=CALL_S) as client,
        console.status("filling"),
    ):
        MadeMemory(size.nodes, size.edges, size.dimension).import_into(client)
        outside = Outside(server)
        clock.sleep_s(BEFORE_S)
        dream = client.trigger(abort_on_query=False, blocking=True, budget_s=size.budget_s or None).dream
        clock.sleep_s(AFTER_S)
        samples = outside.end()
    return _measured(size, dream, samples)


def _measured(size: Size, dream: Dream, samples: Sequence[Sample]) -> harness.Measured:
    cores = core_count()
    at = np.array([sample.at_s for sample in samples])
    dreamers = _seconds(at, np.array([sample.dreamers_s for sample in samples])) / cores
    server = _seconds(at, np.array([sample.server_s for sample in samples])) / cores
    used = samples[-1].dreamers_s / cores / (at[-1] - BEFORE_S - AFTER_S)
    told = dream.report.share
    figures = {
        "share_mean_pct": 100 * float(used),
        "share_p95_1s_pct": 100 * float(np.percentile(dreamers, 95)),
        "share_max_1s_pct": 100 * float(dreamers.max()),
        "limit_pct": 100 * told.limit,
        "told_mean_pct": 100 * told.mean,
        "told_max_1s_pct": 100 * told.max_second,
        "server_mean_pct": 100 * float((samples[-1].server_s - samples[0].server_s) / cores / at[-1]),
        "server_max_1s_pct": 100 * float(server.max()),
        "holds": told.holds,
        "throttles": told.throttles,
    }
    read = [sample.gpu for sample in samples if sample.gpu is not None]
    if told.device == "gpu" and read:
        width = round(SECOND_S / EVERY_S)
        figures["gpu_max_1s_pct"] = 100 * float(np.convolve(read, np.ones(width) / width, "valid").max())
    detail: dict[str, Any] = {
        "nodes": size.nodes,
        "edges": size.edges,
        "cores": cores,
        "device": dream.report.device,
        "state": Dream.State.Name(dream.state),
        "seconds": round(float(at[-1]), 1),
        "samples": len(samples),
        "longest_between_looks_s": round(float(np.diff(at).max()), 3),
        "dream_seconds": round(dream.report.seconds, 1),
        "max_memory_mb": round(told.max_memory_bytes / 1e6),
    }
    return harness.Measured(figures, detail)


def _seconds(at: np.ndarray, used: np.ndarray) -> np.ndarray:
    """What was used in each second that ends with a look, by the time that it really lasted."""
    ends = np.flatnonzero(at >= at[0] + SECOND_S)
    return (used[ends] - np.interp(at[ends] - SECOND_S, at, used)) / SECOND_S


BENCHMARK = harness.Benchmark(
    figures=[
        "share_mean_pct",
        "share_p95_1s_pct",
        "share_max_1s_pct",
        "limit_pct",
        "told_mean_pct",
        "told_max_1s_pct",
        "server_mean_pct",
        "server_max_1s_pct",
        "holds",
        "throttles",
        "gpu_max_1s_pct",
    ],
    targets={
        "share_max_1s_pct": (harness.Target(30),),
        "gpu_max_1s_pct": (harness.Target(30),),
    },
    run=run,
    optional=("gpu_max_1s_pct",),
)
