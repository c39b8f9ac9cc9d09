"""What the driver of a GPU tells, played: what it does not tell is unknown, never 0."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from dreamsvc import clock, gpu
from dreamsvc.gpu import Reading, open_gpu


class NVMLError(Exception):
    pass


class NotFoundError(NVMLError):
    pass


class Driver:
    """As much of pynvml as is used; whatever is named in `broken` raises."""

    NVMLError = NVMLError
    NVMLError_NotFound = NotFoundError

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.samples: list[Any] = []
        self.processes: list[Any] = []
        self.opened: Any = None
        self.since: list[int] = []

    def _tell(self, name: str, value: Any) -> Any:
        if name in self.broken:
            raise NVMLError(name)
        return value

    def nvmlInit(self) -> None:
        self._tell("init", None)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        self.opened = index
        return self._tell("handle", "handle")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        self.opened = uuid
        return self._tell("handle", "handle")

    def nvmlDeviceGetUtilizationRates(self, _: Any) -> Any:
        return self._tell("utilisation", SimpleNamespace(gpu=62))

    def nvmlDeviceGetMemoryInfo(self, _: Any) -> Any:
        return self._tell("memory", SimpleNamespace(used=6000, total=10_000))

    def nvmlDeviceGetProcessUtilization(self, _: Any, since: int) -> Any:
        self.since.append(since)
        if not self.samples:
            raise NotFoundError
        return self._tell("processes", self.samples)

    def nvmlDeviceGetComputeRunningProcesses(self, _: Any) -> Any:
        return self._tell("running", self.processes)


def sample(pid: int, used: int, at: int) -> Any:
    return SimpleNamespace(pid=pid, smUtil=used, timeStamp=at)


def opened(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> gpu.Gpu:
    monkeypatch.setitem(sys.modules, "pynvml", driver)  # type: ignore[arg-type]
    device = open_gpu()
    assert device is not None
    return device


def test_processes_are_told_apart_where_the_driver_does(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    device = opened(driver, monkeypatch)
    driver.samples = [sample(7, 20, 1000), sample(7, 40, 2000), sample(9, 30, 1500)]
    driver.processes = [
        SimpleNamespace(pid=7, usedGpuMemory=1000),
        SimpleNamespace(pid=9, usedGpuMemory=4000),
    ]
    found = device.read([7])
    assert found == Reading(ours=0.3, total=0.62, others_memory=0.5)
    assert found.others == pytest.approx(0.32)
    device.read([7])
    assert driver.since == [0, 2000], "a sample counts once"


def test_a_process_that_nobody_saw_uses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    device = opened(driver, monkeypatch)
    assert device.read([7]).ours == 0.0
    driver.samples = [sample(9, 30, 1500)]
    assert device.read([7]).ours == 0.0


def test_a_sample_holds_until_the_driver_takes_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 50.0
    monkeypatch.setattr(clock, "precise_s", lambda: now_s)
    driver = Driver()
    device = opened(driver, monkeypatch)
    driver.samples = [sample(7, 80, 1000), sample(9, 10, 1000)]
    assert device.read([7]).ours == 0.8
    driver.samples = []
    # Looked at each tenth of a second; the driver samples once a second.
    for _ in range(9):
        now_s += 0.1
        assert device.read([7]).ours == 0.8
    now_s += gpu.SAMPLED_S
    assert device.read([7]).ours == 0.0
    driver.samples = [sample(9, 30, 2000)]
    assert device.read([7]).ours == 0.0


@pytest.mark.parametrize(
    ("broken", "wanted"),
    [
        ("processes", Reading(None, 0.62, 0.6)),
        ("utilisation", Reading(0.5, None, 0.6)),
        ("memory", Reading(0.5, 0.62, None)),
        ("running", Reading(0.5, 0.62, None)),
    ],
)
def test_what_the_driver_does_not_tell_is_unknown(
    broken: str, wanted: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(broken)
    device = opened(driver, monkeypatch)
    driver.samples = [sample(7, 50, 1000)]
    assert device.read([7]) == wanted


def test_memory_of_our_own_that_is_not_told_makes_that_of_others_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    device = opened(driver, monkeypatch)
    driver.processes = [SimpleNamespace(pid=7, usedGpuMemory=None)]
    assert device.read([7]).others_memory is None


@pytest.mark.parametrize("broken", ["init", "handle"])
def test_where_there_is_none_there_is_none(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Driver(broken))  # type: ignore[arg-type]
    assert open_gpu() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_gpu() is None


def test_it_is_the_first_one_that_may_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible, wanted in (("", 0), ("2,1", 2), ("GPU-abc,GPU-def", "GPU-abc")):
        monkeypatch.setenv(gpu.VISIBLE, visible)
        driver = Driver()
        opened(driver, monkeypatch)
        assert driver.opened == wanted
