"""What processes and the machine use, as the system tells: the only importer of psutil in the dream's room.

A reading that fails is None, which says that nothing is known; it is never 0.
"""

import contextlib
import sys
from typing import Any, NamedTuple, Protocol

from dreamsvc import gpu
from dreamsvc.clock import Clock
from dreamsvc.cores import core_count

MB = 1_000_000


class Usage(NamedTuple):
    """Of a process, since it began."""

    cpu_s: float
    memory_bytes: int


class Meter(Protocol):
    """One process that dreams."""

    @property
    def pid(self) -> int: ...
    def read(self) -> Usage | None: ...
    def age_s(self) -> float | None: ...
    def hold(self) -> bool:
        """Stops it where it is, also in the middle of native code; whether it could."""
        ...

    def go_on(self) -> None: ...


class Machine(Protocol):
    """The machine that all of it runs on."""

    @property
    def cores(self) -> float:
        """That it, or the container, lets us have."""
        ...

    def cpu_busy_s(self) -> float | None:
        """Time that was used for anything, since it began, of one core on average over all that there are."""
        ...

    def memory_bytes(self) -> int | None: ...
    def gpu(self) -> gpu.Gpu | None: ...


class ProcessMeter:
    """A process of this machine."""

    def __init__(self, pid: int) -> None:
        import psutil  # of no use before the first dream, and then no part of a start

        self.pid = pid
        self._psutil: Any = psutil
        try:
            self._process: Any = psutil.Process(pid)
        except psutil.Error:
            self._process = None

    def read(self) -> Usage | None:
        if self._process is None:
            return None
        try:
            with self._process.oneshot():
                times, memory = self._process.cpu_times(), self._process.memory_info()
            # What is only mapped, as a snapshot is, the system takes back when it needs it.
            return Usage(times.user + times.system, memory.rss - getattr(memory, "shared", 0))
        except self._psutil.Error:
            return None

    def age_s(self) -> float | None:
        if self._process is None:
            return None
        return max(0.0, Clock().now_us() / 1e6 - self._process.create_time())

    def hold(self) -> bool:
        # Elsewhere nothing ends a process that stands still when the one that started it is gone.
        if not sys.platform.startswith("linux") or self._process is None:
            return False
        try:
            # Never another process that has got the same number meanwhile.
            self._process.suspend()
            return True
        except self._psutil.Error:
            return False

    def go_on(self) -> None:
        if self._process is not None:
            with contextlib.suppress(self._psutil.Error):
                self._process.resume()


class ThisMachine:
    """What this process runs on; nothing is looked up before it is asked for."""

    def __init__(self) -> None:
        self.cores = core_count()
        self._gpu: gpu.Gpu | None = None
        self._gpu_opened = False

    def cpu_busy_s(self) -> float | None:
        import psutil

        try:
            times = psutil.cpu_times()
        except (psutil.Error, OSError):
            return None
        # Time of guests is in that of users already.
        spare = ("idle", "iowait", "guest", "guest_nice")
        return (sum(times) - sum(getattr(times, name, 0.0) for name in spare)) / (psutil.cpu_count() or 1)

    def memory_bytes(self) -> int | None:
        import psutil

        try:
            total = psutil.virtual_memory().total
        except (psutil.Error, OSError):
            return None
        return min(total, _container_bytes() or total)

    def gpu(self) -> gpu.Gpu | None:
        if not self._gpu_opened:
            self._gpu_opened = True
            self._gpu = gpu.open_gpu()
        return self._gpu


def _container_bytes() -> int | None:
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/memory.max", encoding="ascii") as limit:
        return int(limit.read())
    return None
