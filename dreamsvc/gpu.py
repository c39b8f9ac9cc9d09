"""What a GPU is used for, by NVIDIA's management library: the only importer of pynvml.

A reading that fails is None, which says that nothing is known; it is never 0.
"""

import logging
import os
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol

from dreamsvc import clock

logger = logging.getLogger(__name__)
VISIBLE = "CUDA_VISIBLE_DEVICES"
# The driver takes a sample each 1/6 s to 1 s, by device, and tells it once: until the next one it holds.
SAMPLED_S = 1.0


class Reading(NamedTuple):
    """Of one moment, each 0 to 1; None: unknown."""

    # Of the device's time, what some processes use, and all of it. The driver tells what the last moments were like.
    ours: float | None
    total: float | None
    # Of its memory, what is in use by others than these processes.
    others_memory: float | None

    @property
    def others(self) -> float | None:
        """What others use; None where the driver does not tell processes apart."""
        return None if self.total is None or self.ours is None else max(0.0, self.total - self.ours)


UNKNOWN = Reading(None, None, None)


class Gpu(Protocol):
    """A device that can be read."""

    @property
    def memory_bytes(self) -> int | None: ...
    def read(self, pids: Collection[int]) -> Reading:
        """pids: our processes. Takes some milliseconds; never raises."""
        ...


class NvidiaGpu:
    """The device that JAX takes by default: the first one that is visible."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        # Of the samples by process, those up to here were seen; microseconds.
        self._seen_us = 0
        # What they said, in percent of each process, and when.
        self._used: dict[int, float] = {}
        self._sampled_s = 0.0

    @property
    def memory_bytes(self) -> int | None:
        try:
            return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total)
        except self._nvml.NVMLError:
            return None

    def read(self, pids: Collection[int]) -> Reading:
        return Reading(self._ours(pids), self._total(), self._others_memory(pids))

    def _total(self) -> float | None:
        try:
            return int(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu) / 100
        except self._nvml.NVMLError:
            return None

    def _ours(self, pids: Collection[int]) -> float | None:
        """The mean of each process over what was sampled last; a process without samples uses none."""
        samples: Sequence[Any] = ()
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(self._handle, self._seen_us)
        except self._nvml.NVMLError_NotFound:
            pass
        except self._nvml.NVMLError:
            return None
        now_s = clock.precise_s()
        if samples:
            self._seen_us = max(int(sample.timeStamp) for sample in samples)
            self._used, self._sampled_s = _means(samples), now_s
        elif now_s - self._sampled_s > SAMPLED_S:
            # Nobody used it since.
            self._used = {}
        return sum(used for pid, used in self._used.items() if pid in pids) / 100

    def _others_memory(self, pids: Collection[int]) -> float | None:
        try:
            info = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return None
        mine = [process.usedGpuMemory for process in processes if process.pid in pids]
        if None in mine or not info.total:
            # Not told here, e.g. in a container.
            return None
        return max(0, int(info.used) - sum(mine)) / int(info.total)


def _means(samples: Sequence[Any]) -> dict[int, float]:
    """Of each process, in percent."""
    by_pid: dict[int, list[int]] = {}
    for sample in samples:
        by_pid.setdefault(int(sample.pid), []).append(int(sample.smUtil))
    return {pid: sum(values) / len(values) for pid, values in by_pid.items()}


def open_gpu() -> Gpu | None:
    """The GPU of this machine; None where there is none, or nothing that tells of it."""
    try:
        import pynvml as nvml  # not installed where nobody wants a GPU
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        first = os.environ.get(VISIBLE, "").split(",")[0].strip()
        if first and not first.isdigit():
            return NvidiaGpu(nvml, nvml.nvmlDeviceGetHandleByUUID(first))
        return NvidiaGpu(nvml, nvml.nvmlDeviceGetHandleByIndex(int(first or 0)))
    except nvml.NVMLError as error:
        logger.debug("no GPU can be read: %s", error)
        return None
