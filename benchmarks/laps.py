"""How long the single steps of a piece of work take, by its parts, and how much memory is in use at most meanwhile."""

import contextlib
import os
import resource
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np

from dreamsvc import clock

LONG_MS = 10.0


class Lap:
    """What one part of the night took."""

    def __init__(self) -> None:
        self.times_ms: list[float] = []
        self.cpu_ms: list[float] = []
        self.peak_mb = 0.0
        self._stages: list[str] = []

    def add(self, took_s: float, used_s: float, stage: str) -> None:
        self.times_ms.append(1000 * took_s)
        self.cpu_ms.append(1000 * used_s)
        self._stages.append(stage)

    def shown(self) -> dict[str, Any]:
        return {
            "seconds": round(sum(self.times_ms) / 1000, 3),
            "cpu_s": round(sum(self.cpu_ms) / 1000, 3),
            "steps": len(self.times_ms),
            "p50_ms": round(float(np.median(self.times_ms)), 3),
            "p99_ms": round(float(np.percentile(self.times_ms, 99)), 3),
            "longest_ms": round(max(self.times_ms), 3),
            "longest_stage": self._stages[int(np.argmax(self.times_ms))],
            # What else ran on the machine does not count here; what several threads did counts several times.
            "longest_cpu_ms": round(max(self.cpu_ms), 3),
            "longest_cpu_stage": self._stages[int(np.argmax(self.cpu_ms))],
            "steps_over_10_ms": sum(took > LONG_MS for took in self.times_ms),
            "peak_mb": round(self.peak_mb, 1),
        }


class Laps:
    """Times and memory of all parts, in order; the peak of memory is begun anew with each."""

    def __init__(self) -> None:
        self._laps: dict[str, Lap] = {}
        self._running = ""

    def add(self, name: str, took_s: float, used_s: float, stage: str) -> None:
        if name != self._running:
            self.end()
            self._running = name
        self._laps.setdefault(name, Lap()).add(took_s, used_s, stage)

    def timed[T](self, name: str, work: Callable[[], T]) -> T:
        began, cpu = clock.precise_s(), cpu_s()
        made = work()
        self.add(name, clock.precise_s() - began, cpu_s() - cpu, name)
        return made

    def end(self) -> None:
        """Takes down the peak of the part that ran."""
        if self._running:
            lap = self._laps[self._running]
            lap.peak_mb = max(lap.peak_mb, peak_mb())
        forget_peak()

    def shown(self) -> dict[str, Any]:
        return {name: lap.shown() for name, lap in self._laps.items()}


@contextlib.contextmanager
def one_core_less() -> Generator[None]:
    """Processes that are started meanwhile have one core less than there are, as the one that dreams has.

    They must have it from their first moment: numpy and JAX count cores when they are imported, and threads that find
    fewer than they were made for wait for each other.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[1:] or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def cpu_s() -> float:
    """Of this process, all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    """Most memory that was resident since `forget_peak`, or ever where the system cannot forget."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1000
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def forget_peak() -> None:
    """Begins the peak anew at what is resident now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
