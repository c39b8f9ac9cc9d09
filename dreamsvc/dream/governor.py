"""Holds dreams to their share of the device, by what is measured from outside (REQ-DREAM-016, 024).

How it works, every dream.resources.check_interval_ms while anything dreams
1. What each dreamer used is read: CPU time of its process, its memory, and of a GPU what the driver tells.
2. A dreamer rests between chunks so that it stays below its share by itself. Where a second took more all the same, it
   is told to work at a lower pace, and at a higher one again once there is room.
3. What cannot rest, e.g. compiling, is stopped by the system before a second takes more than the share, and let go on.
4. While others need the GPU a dream pauses; when that lasts, it is woken. The CPU is no such case: there a dream is the
   last to be served, by its niceness.
5. A dreamer that takes more memory than it may is ended.
A reading that fails tells nothing, and nothing follows from it but that it is counted.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Generator
from typing import Protocol

from dreamsvc import clock
from dreamsvc.config import InForce
from dreamsvc.dream.meters import MB, Machine, Meter
from dreamsvc.dream.share_window import WINDOW_S, ShareWindow
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Allowance
from dreamsvc.gpu import UNKNOWN, Reading
from dreamsvc.telemetry.gauges import Account
from dreamsvc.v1.config_pb2 import ResourcesConfig
from dreamsvc.v1.dream_pb2 import Share

logger = logging.getLogger(__name__)
LOWEST_PACE = 0.1
FASTER = 1.25
# Below that part of its share there is room for a higher pace.
ROOM = 0.8
# Others need the device for so long before a dream pauses, and need it no more for so long before it goes on.
NEEDED_S, FREE_S = 0.3, 2.0
# They count as gone below that part of the threshold, so that a dream does not begin and pause all the time.
GONE = 0.9
LONGEST_PAUSE_S = 60.0
# Looks come late, and are not of the very moment: it is held before it has taken all of its share.
HOLD_AT = 0.93
# Until the next look it may take so much more than since the last one.
HASTE = 1.5
# What has used so little of its second goes on in any case, or a small share could never be used at all.
LEAST_USED = 0.1
CPU, GPU = "cpu", "gpu"


class Governed(Protocol):
    """A dream, as the governor sees it."""

    @property
    def share(self) -> Share:
        """Where what is measured is kept."""
        ...

    @property
    def on_gpu(self) -> bool: ...
    def allow(self, allowance: Allowance, why_paused: str) -> None: ...
    def end_pause(self) -> None:
        """It has paused for too long."""
        ...

    def too_large(self, what: str) -> None: ...


class Starting:
    """A dreamer that is not yet lent to anybody."""

    on_gpu = False

    def __init__(self) -> None:
        self.share = Share()

    def allow(self, allowance: Allowance, why_paused: str) -> None:
        pass

    def end_pause(self) -> None:
        pass

    def too_large(self, what: str) -> None:
        pass


class Watch:
    """One dreamer while it dreams."""

    def __init__(self, dream: Governed, meter: Meter, cpu: ShareWindow, now_s: float) -> None:
        self.dream = dream
        self.meter = meter
        # Of all cores, and of the GPU, whose use is added up from readings.
        self.cpu = cpu
        self.gpu = ShareWindow(1.0, now_s, 0.0, None)
        self.gpu_used_s = 0.0
        self.looked_s = now_s
        self.pace = 1.0
        self.paced_s = now_s
        # Cores that it kept busy when it last was free to, and whether it is stopped now.
        self.rate = 0.0
        self.held = False
        self.paused_s: float | None = None
        self.why_paused = ""
        # Since when others have needed the device, or not needed it, other than before.
        self.turned_s: float | None = None
        self.told: Allowance | None = None
        # It is to stop: nothing slows it down any more.
        self.free = False
        # Of earlier pieces of the same dream.
        self._before_s, self._before_mean = dream.share.seconds, dream.share.mean

    def let_go(self) -> None:
        self.free = True
        if self.held:
            self.held = False
            self.meter.go_on()

    def note(self, window: ShareWindow, now_s: float) -> None:
        share, lasted_s = self.dream.share, window.lasted_s(now_s)
        share.seconds = self._before_s + lasted_s
        if share.seconds > 0:
            share.mean = (self._before_s * self._before_mean + lasted_s * window.mean(now_s)) / share.seconds
        share.max_second = max(share.max_second, window.highest)


class Governor:
    """One for the service: dreams that run at the same time share what is allowed."""

    def __init__(self, config: InForce, machine: Machine) -> None:
        self.machine = machine
        self._config = config
        # Of processes that were watched until a moment ago, by process id.
        self._windows: dict[int, ShareWindow] = {}
        self._watches: list[Watch] = []
        self._task: asyncio.Task[None] | None = None
        self._highest = 0.0
        self._throttles = self._holds = self._pauses = self._unknown = 0

    @property
    def account(self) -> Account:
        now_s = clock.precise_s()
        windows = [watch.gpu if watch.dream.on_gpu else watch.cpu for watch in self._watches]
        share = sum(window.last_second(now_s) for window in windows) if windows else None
        counts = (self._throttles, self._holds, self._pauses, self._unknown)
        return Account(share, self._config.dream.resources.max_gpu_usage, self._highest, *counts)

    def within_s(self, seconds: float, meter: Meter | None) -> float:
        """How long what takes so many seconds of a core may take a dreamer: longer where it is held to its share."""
        if meter is None:
            return seconds
        share = self._config.dream.resources.max_gpu_usage * self.machine.cores / max(1, len(self._watches))
        return seconds / min(1.0, share)

    def pids(self) -> list[int]:
        return [watch.meter.pid for watch in self._watches]

    def first_allowance(self) -> Allowance:
        """What one more dream may take."""
        return Allowance(max_share=self._config.dream.resources.max_gpu_usage / (len(self._watches) + 1))

    @contextlib.contextmanager
    def governing(self, dream: Governed, meter: Meter | None, *, was_warm: bool) -> Generator[Callable[[], None]]:
        """Watches a dreamer; gives what lets it go at once. meter: None where nothing can be measured."""
        usage = meter.read() if meter is not None else None
        if meter is None or usage is None:
            yield lambda: None
            return
        now_s, resources = clock.precise_s(), self._config.dream.resources
        age_s = None if was_warm else meter.age_s()
        window = self._window(meter.pid, now_s, usage.cpu_s, age_s)
        watch = Watch(dream, meter, window, now_s)
        self._watches.append(watch)
        if age_s is not None:
            # Its start may have used up the second already.
            watch.rate = usage.cpu_s / max(age_s, WINDOW_S / 10)
            self._hold_or_let_go(watch, now_s, resources.max_gpu_usage / len(self._watches), resources)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            yield watch.let_go
        finally:
            watch.let_go()
            self._watches.remove(watch)
            self._windows[meter.pid] = watch.cpu
            self._rest()

    def _window(self, pid: int, now_s: float, cpu_s: float, age_s: float | None) -> ShareWindow:
        """What the process took in the last second is known where it was watched then."""
        self._windows = {pid: window for pid, window in self._windows.items() if window.is_of(now_s)}
        window = self._windows.pop(pid, None)
        if window is None:
            return ShareWindow(self.machine.cores, now_s, cpu_s, age_s)
        window.begin(now_s, cpu_s)
        return window

    def _rest(self) -> None:
        """Looks no more while nothing dreams."""
        if not self._watches and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._config.dream.resources.check_interval_ms / 1000)
            try:
                reading = await self._gpu_reading()
                self.look(clock.precise_s(), reading)
            except Exception:
                # Dreams rest by themselves; without a look they are only not watched.
                logger.exception("what dreams take could not be looked at")

    async def _gpu_reading(self) -> Reading:
        gpu = self.machine.gpu() if any(watch.dream.on_gpu for watch in self._watches) else None
        return UNKNOWN if gpu is None else await asyncio.to_thread(gpu.read, self.pids())

    def look(self, now_s: float, reading: Reading) -> None:
        """One measurement of all dreamers, and what follows from it."""
        for watch in list(self._watches):
            if not watch.free:
                self._look_at(watch, now_s, reading, self._config.dream.resources)
                watch.looked_s = now_s

    def _look_at(self, watch: Watch, now_s: float, reading: Reading, resources: ResourcesConfig) -> None:
        share, usage = watch.dream.share, watch.meter.read()
        limit = resources.max_gpu_usage / len(self._watches)
        share.readings += 1
        share.limit = limit
        if usage is None:
            self._note_unknown(share)
            return
        watch.cpu.note(now_s, usage.cpu_s)
        share.max_memory_bytes = max(share.max_memory_bytes, usage.memory_bytes)
        self._hold_or_let_go(watch, now_s, limit, resources)
        if watch.dream.on_gpu:
            self._look_at_gpu(watch, now_s, reading, limit, resources)
        else:
            share.device = CPU
            self._follow_share(watch, watch.cpu, now_s, limit, resources)
        allowance = Allowance(max_share=limit * watch.pace, paused=watch.paused_s is not None)
        if allowance != watch.told:
            watch.told = allowance
            watch.dream.allow(allowance, watch.why_paused)
        most = resources.max_memory_mb * MB or (self.machine.memory_bytes() or 0) // 2
        if most and usage.memory_bytes > most:
            took = f"it took {usage.memory_bytes // MB:,} MB of memory, more than the {most // MB:,} MB that it may"
            watch.dream.too_large(f"{took} (dream.resources.max_memory_mb)")

    def _note_unknown(self, share: Share) -> None:
        share.unknown += 1
        self._unknown += 1

    def _follow_share(
        self, watch: Watch, window: ShareWindow, now_s: float, limit: float, resources: ResourcesConfig
    ) -> None:
        """Keeps what was measured, and sets the pace by it."""
        watch.note(window, now_s)
        self._highest = max(self._highest, window.highest)
        taken = window.last_second(now_s)
        if now_s - watch.paced_s < WINDOW_S:
            return
        if taken > limit:
            watch.pace = max(LOWEST_PACE, watch.pace * resources.throttle_factor)
            watch.dream.share.throttles += 1
            self._throttles += 1
            logger.info("a dream took %.0f %% of the device in a second, of %.0f %%", 100 * taken, 100 * limit)
        elif taken < ROOM * limit and watch.pace < 1:
            watch.pace = min(1.0, watch.pace * FASTER)
        else:
            return
        watch.paced_s = now_s

    def _hold_or_let_go(self, watch: Watch, now_s: float, limit: float, resources: ResourcesConfig) -> None:
        """Stops it for a moment where it would otherwise take more of the cores in a second than it may."""
        interval_s, cores = resources.check_interval_ms / 1000, self.machine.cores
        if not watch.held and now_s > watch.looked_s:
            watch.rate = watch.cpu.used_since(watch.looked_s) / (now_s - watch.looked_s)
        allowed_s = HOLD_AT * limit * cores * WINDOW_S
        # Of what is in this second, that which will be in the second that ends with the next look.
        used_s = watch.cpu.used_since(now_s - WINDOW_S + interval_s)
        ahead_s = min(watch.rate * HASTE, cores) * interval_s
        wanted = limit < 1 and used_s + ahead_s > allowed_s and used_s > LEAST_USED * allowed_s
        if wanted and not watch.held and watch.meter.hold():
            watch.held = True
            watch.dream.share.holds += 1
            self._holds += 1
        elif watch.held and not wanted:
            watch.held = False
            watch.meter.go_on()

    # ── of a GPU ────────────────────────────────────────────────────────────────

    def _look_at_gpu(
        self, watch: Watch, now_s: float, reading: Reading, limit: float, resources: ResourcesConfig
    ) -> None:
        share = watch.dream.share
        share.device = GPU
        if watch.paused_s is not None:
            share.paused_seconds += now_s - watch.looked_s
        if reading.ours is None:
            self._note_unknown(share)
        else:
            # One reading is of all our dreamers.
            watch.gpu_used_s += reading.ours / len(self._watches) * (now_s - watch.looked_s)
            watch.gpu.note(now_s, watch.gpu_used_s)
            self._follow_share(watch, watch.gpu, now_s, limit, resources)
        self._pause_or_go_on(watch, now_s, _needed_by_others(reading, watch, limit, resources))

    def _pause_or_go_on(self, watch: Watch, now_s: float, needed: str | None) -> None:
        """needed: why others need the device, '' where they do not; None: nothing is known."""
        paused = watch.paused_s is not None
        if watch.paused_s is not None and now_s - watch.paused_s > LONGEST_PAUSE_S:
            watch.dream.end_pause()
            return
        if needed is None or bool(needed) == paused:
            watch.turned_s = None
            return
        watch.turned_s = watch.turned_s if watch.turned_s is not None else now_s
        if now_s - watch.turned_s < (FREE_S if paused else NEEDED_S):
            return
        watch.turned_s = None
        watch.why_paused = needed
        if paused:
            watch.paused_s = None
        else:
            watch.paused_s = now_s
            watch.dream.share.pauses += 1
            self._pauses += 1


def _needed_by_others(reading: Reading, watch: Watch, limit: float, resources: ResourcesConfig) -> str | None:
    paused = watch.paused_s is not None
    others = reading.others
    if others is None and reading.total is not None:
        # Where the driver does not tell processes apart, ours has at most its share.
        others = reading.total if paused else max(0.0, reading.total - limit)
    if others is None and reading.others_memory is None:
        return None
    # Once they have the device they keep it until they use clearly less.
    part = GONE if paused else 1.0
    if others is not None and others > part * resources.pause_usage:
        return f"others use {others:.0%} of the GPU"
    if reading.others_memory is not None and reading.others_memory > part * resources.pause_gpu_memory:
        return f"others have {reading.others_memory:.0%} of the GPU's memory"
    return ""
