"""Whether the machine has room for a dream that nobody asked for (REQ-DREAM-016).

It is only measured while a space is due. A reading that fails says nothing, and then nothing is in the way.
"""

import asyncio
import math
from collections.abc import Callable, Sequence

from dreamsvc.config import InForce
from dreamsvc.dream.meters import Machine

# What is measured is the mean over so long at most, so that a moment of rest in a busy hour is none.
LONGEST_S = 10.0
# Without a GPU a space waits so long at most: there a dream is the last to be served anyway.
CPU_WAIT_S = 3600.0
MEASURING = "how busy the machine is, is being measured"


class Room:
    """One for the service."""

    def __init__(self, config: InForce, machine: Machine, ours: Callable[[], tuple[float, Sequence[int]]]) -> None:
        """ours: the share of all cores that our dreamers take now, and their process ids."""
        self._config = config
        self._machine = machine
        self._ours = ours
        self._samples: list[tuple[float, float]] = []
        # Why there is none, as it was measured last; '' where there is.
        self.busy = ""
        self.wait_s = CPU_WAIT_S

    def forget(self) -> None:
        """No space is due."""
        self._samples.clear()
        self.busy = ""

    async def look(self, now_s: float, *, on_gpu: bool) -> None:
        most = self._config.dream.resources.eligible_usage
        if most >= 1:
            self.forget()
        elif on_gpu:
            self.wait_s = math.inf
            self.busy = _why(await self._others_on_gpu(), most, "the GPU")
        else:
            self.wait_s = CPU_WAIT_S
            self._look_at_cores(now_s, most)

    async def _others_on_gpu(self) -> float | None:
        gpu = self._machine.gpu()
        if gpu is None:
            return None
        reading = await asyncio.to_thread(gpu.read, self._ours()[1])
        return reading.others if reading.others is not None else reading.total

    def _look_at_cores(self, now_s: float, most: float) -> None:
        busy_s = self._machine.cpu_busy_s()
        if busy_s is None:
            self.forget()
            return
        self._samples = [sample for sample in self._samples if now_s - sample[0] <= LONGEST_S]
        self._samples.append((now_s, busy_s))
        first_s, first_busy_s = self._samples[0]
        if now_s <= first_s:
            self.busy = MEASURING
            return
        others = (busy_s - first_busy_s) / (now_s - first_s) - self._ours()[0]
        self.busy = _why(others, most, "the CPU")


def _why(others: float | None, most: float, what: str) -> str:
    if others is None or others <= most:
        return ""
    return f"others use {others:.0%} of {what}, above {most:.0%} (dream.resources.eligible_usage)"
