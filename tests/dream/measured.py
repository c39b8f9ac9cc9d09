"""Meters that a test sets: of the machine, of processes, of a GPU."""

from collections.abc import Collection

from dreamsvc import gpu
from dreamsvc.dream.meters import MB, Usage


class FakeGpu:
    """A GPU whose driver says what the test says."""

    def __init__(self) -> None:
        self.memory_bytes: int | None = 16_000 * MB
        self.reading = gpu.Reading(0.0, 0.0, 0.0)
        self.asked_for: list[int] = []

    def read(self, pids: Collection[int]) -> gpu.Reading:
        self.asked_for = list(pids)
        return self.reading


class FakeMachine:
    """Two cores, of which others use what the test says."""

    def __init__(self) -> None:
        self.cores = 2.0
        self.busy_s: float | None = 0.0
        self.memory: int | None = 8000 * MB
        self.device: FakeGpu | None = None

    def cpu_busy_s(self) -> float | None:
        return self.busy_s

    def memory_bytes(self) -> int | None:
        return self.memory

    def gpu(self) -> FakeGpu | None:
        return self.device


class FakeMeter:
    """A process that uses what the test says, and stands still while it is held."""

    def __init__(self, pid: int = 7) -> None:
        self.pid = pid
        self.cpu_s: float | None = 0.0
        self.memory = 100 * MB
        self.age: float | None = None
        self.held = False
        self.holds = 0

    def read(self) -> Usage | None:
        return None if self.cpu_s is None else Usage(self.cpu_s, self.memory)

    def age_s(self) -> float | None:
        return self.age

    def hold(self) -> bool:
        self.held = True
        self.holds += 1
        return True

    def go_on(self) -> None:
        self.held = False
